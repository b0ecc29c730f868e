"""A function of tensors in; the same, computed on a processor as one oneDNN graph per shape, out.

Run operation by operation, each convolution is asked of oneDNN anew, and additions and ReLUs are
passes of their own over memory: for 32 channels at 64 px half the time. A graph is prepared once.
"""

from __future__ import annotations

import logging
import threading
import warnings
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn

log = logging.getLogger(__name__)

Key = tuple[object, ...]

_MOST_ERROR = {torch.bfloat16: 0.03, torch.float32: 1e-3}
"""Of the largest value: a few times what rounding does in each precision, and far below what wrong
operators would do."""


_MAKING = threading.Lock()
"""One graph is made at a time: what lets torch make it is a setting of the whole process."""


class CpuGraphed:
    """A function that runs as a oneDNN graph, one per input shape, where that computes the same."""

    def __init__(self, function: Callable[..., Tensor]) -> None:
        """Wrap a function; nothing is prepared yet.

        Args:
            function: of tensors on the processor to one tensor, without branches on their content.
                What else it uses is taken as it is at the first call of a shape, and wants no
                gradients. What is added to and needed again later, as the picture that a long skip
                brings to its end, must come in as an input: oneDNN adds in place to what the same
                graph has made.
        """
        self.function = function
        self._graphs: dict[Key, Callable[..., Tensor] | None] = {}

    @torch.inference_mode()
    def __call__(self, *inputs: Tensor) -> Tensor:
        """Compute the function; the first call of a shape, and of a number of threads, prepares."""
        key = _key(inputs)
        if key not in self._graphs:
            with _MAKING:
                if key not in self._graphs:
                    self._graphs[key] = _graph_of(self.function, inputs)
        graph = self._graphs[key]
        return self.function(*inputs) if graph is None else graph(*inputs)

    def by_graph(self, *inputs: Tensor) -> bool:
        """Whether inputs like these are computed by a graph; False before the first call too."""
        return self._graphs.get(_key(inputs)) is not None


def _key(inputs: Sequence[Tensor]) -> Key:
    """What a graph is made for; oneDNN divides the work among threads when it prepares it."""
    facts = [(tuple(x.shape), x.stride(), x.dtype) for x in inputs]
    return torch.get_num_threads(), *facts


def _graph_of(
    function: Callable[..., Tensor], like: Sequence[Tensor]
) -> Callable[..., Tensor] | None:
    """Make the graph for inputs like these, and try it on noise; None where it would not do."""
    generator = torch.Generator().manual_seed(0)
    noise = [torch.empty_like(x).copy_(torch.rand(x.shape, generator=generator)) for x in like]
    for x in noise:
        x -= 0.5
    expected = function(*noise)
    given = [n.clone() for n in noise]
    try:
        with _fusing():
            trace, freeze = cast("Any", torch.jit.trace), cast("Any", torch.jit.freeze)
            graph: Any = freeze(trace(_Whole(function).eval(), tuple(noise), check_trace=False))
            graph(*noise)  # torch looks at the shapes in the first run and prepares in the second
            ways = str(graph.graph_for(*noise))
        if "oneDNNFusionGroup" not in ways:
            raise RuntimeError("this torch makes no oneDNN graph of it")
        error = (graph(*noise) - expected).abs().max() / expected.abs().max()
        if not error < _MOST_ERROR.get(expected.dtype, 0):
            raise RuntimeError(f"it differs from the function by {float(error):.2g}")
        if not all(map(torch.equal, noise, given)):
            raise RuntimeError("it writes over its inputs")
    except (AttributeError, RuntimeError, TypeError) as error:  # deprecated: it may be gone one day
        reason = str(error).strip().splitlines()[-1]
        log.debug("no oneDNN graph for %s: %s", [tuple(x.shape) for x in like], reason)
        return None
    return graph


@contextmanager
def _fusing() -> Generator[None]:
    """Let torch make oneDNN graphs for this long; only with :data:`_MAKING` held."""
    before = torch.jit.onednn_fusion_enabled()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what is deprecated is all there is without a C++ compiler
        torch.jit.enable_onednn_fusion(True)
        try:
            yield
        finally:
            torch.jit.enable_onednn_fusion(before)


class _Whole(nn.Module):
    """A function as the module that torch traces."""

    def __init__(self, function: Callable[..., Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.function(*inputs)
