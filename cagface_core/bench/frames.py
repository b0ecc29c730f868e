"""Frame sizes, numbers and sizes of faces in; what a whole frame and each of its stages take, out.

A frame goes through `FaceEnhancer.enhance` as in a call into a virtual camera: uint8 RGB in; RGB
or, where that is faster, I420 out.
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace

import numpy as np

from cagface_core.bench.results import FrameRow, Results
from cagface_core.bench.scene import (
    LOOP_FRAMES,
    IntroducedDetector,
    KnownDetector,
    Scene,
    make_scene,
)
from cagface_core.bench.timing import Timing, percentile, summarise, undisturbed, wait_for
from cagface_core.config import EnhancerConfig
from cagface_core.crop import BUCKETS_PX, FACE_TO_CROP, crop_side, seen_side
from cagface_core.detect import Detector, open_detector
from cagface_core.enhancer import FaceEnhancer
from cagface_core.types import Enhanced, Frame, Outcome
from cagface_core.workers import limit_opencv

Size = tuple[int, int]
SIZES: Sequence[Size] = ((320, 240), (640, 480), (1280, 720), (1920, 1080))

_FITS = 0.94  # of a bucket: the detector's boxes vary, and must not cross into the next one
_COMMON_CROP_PX = 96
_AREA_SIZE: Size = (1280, 720)
_RATE_HZ = 30


@dataclass(frozen=True, slots=True)
class FramePlan:
    """Which frames are timed; ``n`` frames each, after ``warm_ups``."""

    sizes: Sequence[Size] = SIZES
    faces: Sequence[int] = (0, 1, 2, 4)
    scales: Sequence[int] = (1, 2, 4)
    crops_px: Sequence[int] = BUCKETS_PX
    n: int = 30
    warm_ups: int = 4


@dataclass(frozen=True, slots=True)
class _Case:
    series: str
    size: Size
    faces: int
    crop_px: int

    def scene(self, plan: FramePlan) -> Scene:
        """The frames, with faces just small enough for their crops."""
        face_px = round(_FITS * self.crop_px / FACE_TO_CROP)
        length = min(plan.warm_ups + plan.n, LOOP_FRAMES)
        return make_scene(*self.size, self.faces, face_px, length)


def measure_frames(
    plan: FramePlan, device: str, results: Results, say: Callable[[str], None]
) -> None:
    """Time whole frames; adds ``frames`` rows and notes.

    First by number of faces, all in crops of 96 px, for every frame size and scale; then by the
    area of one face in a frame of 1280x720, without the limit that spares a processor large crops.
    """
    limit_opencv()  # as in every run
    real = importlib.util.find_spec("mediapipe") is not None
    if not real:
        results.notes.append(
            "frames: MediaPipe is not installed, so the faces' places were given and the stage "
            "'detect' is tracking alone"
        )
    with ExitStack() as stack:

        def bench(config: EnhancerConfig) -> _Bench:
            return stack.enter_context(closing(_Bench(config, real)))

        benches = [bench(EnhancerConfig(scale=s, device=device)) for s in plan.scales]
        found: list[FrameRow] = []
        for size in plan.sizes:
            say(f"whole frames of {size[0]}x{size[1]}")
            for faces in plan.faces:
                case = _Case("number", size, faces, _COMMON_CROP_PX)
                scene = case.scene(plan)
                found += [bench.row(case, scene, plan) for bench in benches]
        results.frames += sorted(found, key=lambda row: row.scale)
        say("whole frames by area of the face")
        scale = plan.scales[len(plan.scales) // 2]
        unlimited = bench(EnhancerConfig(scale=scale, device=device, max_crop_px=max(BUCKETS_PX)))
        for crop_px in plan.crops_px:
            case = _Case("area", _AREA_SIZE, 1, crop_px)
            results.frames.append(unlimited.row(case, case.scene(plan), plan))


class _Bench:
    """One enhancer, given scene after scene."""

    def __init__(self, config: EnhancerConfig, real: bool) -> None:
        self._detector: Detector | None = open_detector("live") if real else None
        blank = make_scene(64, 64, 0, 1, 1)
        self._enhancer = FaceEnhancer(config, self._detector or KnownDetector(blank))
        self._enhancer.tuning = replace(self._enhancer.tuning, planes=True)

    def row(self, case: _Case, scene: Scene, plan: FramePlan) -> FrameRow:
        """Enhance a scene's frames at 30 Hz and time them, again where that was disturbed."""
        return undisturbed(lambda: self._measure(case, scene, plan))

    def _measure(self, case: _Case, scene: Scene, plan: FramePlan) -> tuple[FrameRow, Timing]:
        (width, height), enhancer = case.size, self._enhancer
        if self._detector is None:
            enhancer.detector = KnownDetector(scene)
        else:
            enhancer.detector = IntroducedDetector(self._detector, scene)
        enhancer.warm_up(height, width)
        state = enhancer.new_state()
        times_ms: list[float] = []
        stages_ms: dict[str, list[float]] = {}
        found, output, crops_px, limit = 0, "rgb", [0], enhancer.tuning.max_crop_px
        for index in range(plan.warm_ups + plan.n):
            rgb = scene.frames[index % len(scene.frames)]
            frame = Frame(rgb, round(index * 1_000_000 / _RATE_HZ))
            wait_for(enhancer.engine.device)
            enhanced, taken_ms = _timed(lambda frame=frame: enhancer.enhance(frame, state))
            if index < plan.warm_ups:
                continue
            times_ms.append(taken_ms)
            output = "rgb" if enhanced.planes is None else "i420"
            found += sum(outcome is Outcome.ENHANCED for outcome in enhanced.outcomes)
            crops_px += [crop_side(max(f.w, f.h), limit) for f in enhanced.faces]
            for stage, value_ms in enhanced.timings_ms.items():
                stages_ms.setdefault(stage, []).append(value_ms)
        timing = summarise(times_ms)
        crop_px = int(np.median(crops_px[1:])) if case.faces and crops_px[1:] else 0
        row = FrameRow(
            series=case.series, width=width, height=height, faces=case.faces,
            found=found / plan.n, crop_px=crop_px,
            seen_px=seen_side(crop_px, limit), scale=enhancer.config.scale,
            network=enhancer.description, detector="real" if self._detector else "known",
            output=output, n=timing.n,
            p50_ms=timing.p50_ms, p95_ms=timing.p95_ms, p99_ms=timing.p99_ms,
            stages_ms={stage: percentile(v, 0.5) for stage, v in stages_ms.items()},
        )  # fmt: skip
        return row, timing

    def close(self) -> None:
        """Release the detector and the networks."""
        self._enhancer.close()
        if self._detector is not None:
            self._detector.close()


def _timed(work: Callable[[], Enhanced]) -> tuple[Enhanced, float]:
    """Call, and tell the milliseconds; what comes back lies in the host's memory: it is done."""
    begin = time.perf_counter()
    enhanced = work()
    return enhanced, (time.perf_counter() - begin) * 1000
