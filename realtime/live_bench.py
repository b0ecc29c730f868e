"""Frames and a rate in; how `cagface-live` does on them, without camera and sink, out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from itertools import cycle, islice

from cagface_core import Frame, Image
from realtime.run import LiveJob, RunEnhancer, StateT, run_live
from realtime.source import SourceInfo
from realtime.stats import Summary


class LoopedFrames:
    """A source of the same frames, round and round, ``count`` in all; the loop paces it."""

    def __init__(self, frames: Sequence[Image], rate_hz: int, count: int) -> None:
        height, width = frames[0].shape[:2]
        self.info = SourceInfo(
            "made up", width, height, Fraction(1, 1_000_000), Fraction(rate_hz), count
        )
        self._frames = frames
        self._rate_hz = rate_hz
        self._count = count

    def frames(self) -> Iterator[Frame]:
        """All of them, a copy each, as a camera gives them."""
        for index, rgb in enumerate(islice(cycle(self._frames), self._count)):
            yield Frame(rgb.copy(), index * 1_000_000 // self._rate_hz)

    def close(self) -> None:
        """Nothing to release."""


def run_frames_live(
    frames: Sequence[Image],
    make_enhancer: Callable[[], RunEnhancer[StateT]],
    scale: int,
    rate_hz: int,
    seconds: float,
) -> Summary:
    """Run `run_live` on frames that come at a fixed rate, into nothing.

    Args:
        frames: (H, W, 3) uint8 RGB, all of one size; used again and again.
        make_enhancer: loads the network; its scale is ``scale``.
        scale: output size over input size.
        rate_hz: frames a second.
        seconds: how long frames come.

    Raises:
        CagfaceError: the network cannot be loaded.
    """
    source = LoopedFrames(frames, rate_hz, max(1, round(rate_hz * seconds)))
    return run_live(LiveJob(source, scale, virtual_camera=False, governor=False), make_enhancer)
