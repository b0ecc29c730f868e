"""Frames and an enhancer in; how fast a live call would run on this machine, out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cagface_core import CagfaceError, Image
from realtime.live_bench import run_frames_live
from realtime.run import RunEnhancer, StateT

RATE_HZ = 30
SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class SelfTest:
    """A short live run without camera and call: sizes in pixels, times in milliseconds.

    ``latency_*`` is from a frame's arrival in the loop to its delivery.
    """

    width: int
    height: int
    scale: int
    fps: float
    asked_hz: int
    dropped: int
    faces_per_frame: float
    latency_p50_ms: float
    latency_p95_ms: float


def run_self_test(
    frames: Sequence[Image], make_enhancer: Callable[[], RunEnhancer[StateT]], scale: int,
    seconds: float = SECONDS,
) -> SelfTest:  # fmt: skip
    """Enhance ``frames``, (H, W, 3) uint8 RGB, round and round at 30 Hz.

    Raises:
        CagfaceError: the network cannot be loaded, frames fail, or no face is enhanced.
    """
    summary = run_frames_live(frames, make_enhancer, scale, RATE_HZ, seconds)
    if not summary.frames or summary.passthrough:
        raise CagfaceError(
            f"{summary.passthrough} of {summary.frames} frames could not be enhanced; run "
            "`cagface bench --quick --only live --debug` and report what it prints"
        )
    if not summary.faces:
        raise CagfaceError("the face in the test's frames was not found; install the package again")
    height, width = frames[0].shape[:2]
    latency = summary.stages["latency"]
    return SelfTest(
        width, height, scale, summary.fps, RATE_HZ, summary.dropped, summary.faces_per_frame,
        latency.p50_ms, latency.p95_ms,
    )  # fmt: skip
