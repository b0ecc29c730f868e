"""A batch too large for the device's memory in; the same picture, in smaller pieces, out."""

from __future__ import annotations

import logging
import threading
from collections import Counter

import torch
from torch import Tensor

from cagface_core.paths import Runner
from cagface_core.tiles import OVERLAP_PX, tiled

log = logging.getLogger(__name__)

_LEAST_TILE_PX = 2 * OVERLAP_PX  # smaller, a tile would be all overlap

_WANT = (
    "out of memory", "unable to find an engine", "ALLOC_FAILED", "can't allocate memory",
)  # fmt: skip
"""What torch, cuDNN, cuBLAS and the processor's allocator say of it; cuDNN of its workspace."""


def lacks_memory(error: RuntimeError) -> bool:
    """Whether something failed for want of memory, as far as its words tell."""
    return any(words in str(error) for words in _WANT)


class Sparing:
    """A runner that halves a batch, then a picture, where the memory does not hold it.

    What did not fit once is not tried again, until nothing at all fits: then it has nothing to do
    with the sizes, and all of them are tried anew.
    """

    def __init__(self, inner: Runner, counts: Counter[str] | None = None) -> None:
        """Wrap a runner; ``counts`` are those of another one, to be counted together with."""
        self.inner = inner
        self.path, self.precision, self.device = inner.path, inner.precision, inner.device
        self.counts: Counter[str] = Counter() if counts is None else counts
        """``memory_batches`` split and ``memory_tiles`` cut for want of memory, so far."""
        self._counting = threading.Lock()
        self._too_many_px: int | None = None

    def __call__(self, block: Tensor, factor: int) -> Tensor:
        """Super-resolve a batch; see :class:`cagface_core.paths.Runner`.

        Raises:
            torch.OutOfMemoryError: not even one small tile fits.
        """
        count, _, height, width = block.shape
        pixels = count * height * width
        if self._too_many_px is None or pixels < self._too_many_px:
            try:
                return self.inner(block, factor)
            except RuntimeError as error:
                if not lacks_memory(error):
                    raise
            self._too_many_px = pixels
            if self.device.type == "cuda":
                torch.cuda.empty_cache()  # here, where the error no longer holds what failed
        if count > 1:
            self._note("memory_batches", f"a batch of {count} faces is split")
            return torch.cat([self(half, factor) for half in block.chunk(2)])
        if max(height, width) <= _LEAST_TILE_PX:
            self._too_many_px = None
            raise torch.OutOfMemoryError(
                f"{self.device} has no memory for {width}x{height} px; "
                "close other programs that use it, or choose --device cpu"
            )
        tile = max(_LEAST_TILE_PX, 5 * max(height, width) // 8)
        self._note("memory_tiles", f"a face of {width}x{height} px is cut into tiles")
        return tiled(lambda part: self(part, factor), block, tile, factor=factor)

    def _note(self, kind: str, what: str) -> None:
        with self._counting:
            self.counts[kind] += 1
            first = self.counts[kind] == 1
        if first:
            log.warning("%s for want of memory on %s; so are all others", what, self.device)
