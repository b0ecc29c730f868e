"""Presets and scales in; whether the live loop holds 30 frames a second, out.

The loop itself belongs to the runtime, which the core does not know: it is handed in.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from cagface_core.bench.results import LiveRow, Results
from cagface_core.bench.scene import LOOP_FRAMES, make_scene
from cagface_core.config import EnhancerConfig
from cagface_core.types import Image

RATE_HZ = 30
_WIDTH, _HEIGHT, _FACE_PX = 640, 480, 100
_HELD = 0.98


class LiveSummary(Protocol):
    """What the loop tells of a run; ``stages`` have ``p50_ms``, ``p95_ms``, ``p99_ms``."""

    @property
    def frames(self) -> int:
        """Frames delivered."""
        ...

    @property
    def seconds(self) -> float:
        """From the first frame's capture to the last one's delivery."""
        ...

    @property
    def dropped(self) -> int:
        """Frames that came faster than they were enhanced."""
        ...

    @property
    def passthrough(self) -> int:
        """Frames whose enhancement failed."""
        ...

    @property
    def faces_per_frame(self) -> float:
        """Faces found, on average."""
        ...

    @property
    def stages(self) -> Mapping[str, Any]:
        """Times by stage, ``latency`` among them: from capture to delivery."""
        ...


RunLive = Callable[[Sequence[Image], EnhancerConfig, int, float], LiveSummary]
"""Run frames, round and round, at so many a second, for so many seconds."""


@dataclass(frozen=True, slots=True)
class LivePlan:
    """Which runs, ``seconds`` each."""

    presets: Sequence[str] = ("pico", "nano")
    scales: Sequence[int] = (1, 2)
    seconds: float = 10.0


def measure_live(
    plan: LivePlan, run: RunLive, device: str, results: Results, say: Callable[[str], None]
) -> None:
    """Run the loop on 640x480 with a face of 100 px; adds ``live`` rows."""
    scene = make_scene(_WIDTH, _HEIGHT, 1, _FACE_PX, LOOP_FRAMES)
    for preset in plan.presets:
        for scale in plan.scales:
            say(f"live loop, {preset}, scale {scale}")
            config = EnhancerConfig(preset=preset, scale=scale, mode="live", device=device)
            summary = run(scene.frames, config, RATE_HZ, plan.seconds)
            results.live.append(_row(preset, scale, summary))


def _row(preset: str, scale: int, summary: LiveSummary) -> LiveRow:
    arrived = summary.frames - summary.passthrough
    latency = summary.stages["latency"]
    return LiveRow(
        preset=preset, scale=scale, width=_WIDTH, height=_HEIGHT, face_px=_FACE_PX,
        rate_hz=RATE_HZ, fps=summary.frames / summary.seconds,
        held=arrived >= _HELD * (summary.frames + summary.dropped),
        frames=summary.frames, dropped=summary.dropped, passthrough=summary.passthrough,
        faces_per_frame=summary.faces_per_frame, seconds=summary.seconds,
        p50_ms=latency.p50_ms, p95_ms=latency.p95_ms, p99_ms=latency.p99_ms,
        stages_ms={
            name.removeprefix("enhance."): stage.p50_ms
            for name, stage in summary.stages.items()
            if name.startswith("enhance.")
        },
    )  # fmt: skip
