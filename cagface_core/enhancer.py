"""Frame in, enhanced frame out: the whole algorithm, one line per step.

detect and track, crop, attention (cached), CAGFace, paste. One thread, but for what can be done
beside; no I/O; everything that lasts from frame to frame is in :class:`State`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Self

import cv2
import numpy as np
from torch import Tensor

from cagface_core import checkpoint
from cagface_core.clock import Clock
from cagface_core.config import EnhancerConfig, Rung, Tuning, narrowed, usual
from cagface_core.cpu_frame import CpuFrame
from cagface_core.crop import BUCKETS_PX, batches, choose_crop, cut, reach, shrunk, work_grid
from cagface_core.detect import Detector, open_detector
from cagface_core.device_frame import Begun, DeviceFrame
from cagface_core.device_steady import DeviceSteadier, Moved
from cagface_core.engine import Engine
from cagface_core.heatmaps import Heatmaps
from cagface_core.looks import Looks
from cagface_core.paths import find_device
from cagface_core.planes import rgb_levels
from cagface_core.state import State
from cagface_core.steady import Steadier
from cagface_core.track import UNSMOOTHED, Tracker
from cagface_core.transfer import fetch
from cagface_core.types import (
    NO_RGB,
    Crop,
    Enhanced,
    Face,
    Floats,
    Frame,
    Image,
    Outcome,
    Picture,
    Planes,
)
from cagface_core.watch import Watcher
from cagface_core.workers import later, networks_at_once, single_threaded

log = logging.getLogger(__name__)

_LOOK_EVERY_S = {"live": (0.25, 0.5), "file": (0.0, 0.1), "image": (0.0, 0.0)}
"""How often the detector looks at faces that rest; between, they are followed by their motion. And
how often at a part of the frame for new ones, which in files is the whole of it."""

_NOT_THERE = "the frame cannot be composed on the device"
_GUARD_MEAN_LEVELS = 40.0  # a residual this strong on average is no face any more


class FaceEnhancer:
    """Finds the faces of a frame and super-resolves them into its upscale."""

    def __init__(
        self, config: EnhancerConfig | None = None, detector: Detector | None = None
    ) -> None:
        """Load the networks and the detector.

        Args:
            config: what it is to do; None is all defaults.
            detector: finds the faces and is closed with the enhancer; None is MediaPipe's, as the
                mode asks.

        Raises:
            ConfigError: preset and weights do not go together.
            WeightsError: a weights file is missing or damaged.
            DeviceError: the device is not there, or has no memory left.
        """
        self.config = config or EnhancerConfig()
        kind = find_device(self.config.device).type
        rungs = usual(self.config.mode, kind)
        preset = self.config.preset or checkpoint.largest(self.config.weights, rungs[0].preset)
        rungs = narrowed(rungs, self.config.preset, self.config.max_crop_px)
        self.tuning = Tuning(
            preset=preset,
            scale=self.config.scale,
            strength=self.config.strength,
            max_faces=self.config.max_faces,
            max_crop_px=rungs[0].max_crop_px,
        )
        """What frames are enhanced with that come without a tuning of their own."""
        self.presets = tuple(checkpoint.presets_with(self.config.weights)) or (preset,)
        """Those that these weights come in, smallest first; one for a file of one's own."""
        there = (rung for rung in rungs if rung.preset in self.presets)
        self.rungs = tuple(dict.fromkeys([Rung(preset, rungs[0].max_crop_px), *there]))
        """Its preset and crop, then what they may be raised to, live, where there is time."""
        self._engines: dict[str, Engine] = {}
        self._warm = False
        self._told: set[str] = set()
        self.engine = self.load(self.tuning.preset)
        self.path: str = self.engine.path
        """By which path they compute (``cpu-bfloat16``): ``EnhancerConfig.device`` takes it."""
        self.on_device = self.engine.device.type == "cuda"
        """Whether frames are composed on the engine's device instead of with OpenCV."""
        self._device_frames: dict[tuple[str, int, int], DeviceFrame] = {}
        self._beside = ThreadPoolExecutor(4 if self.on_device else 1, "compose")
        self._capturing = ThreadPoolExecutor(1, "capture")
        live = self.config.mode == "live"
        self._watcher = Watcher(waits=not live)
        self._heatmaps = Heatmaps(self._tell, waits=not live)
        self.frames_ahead = networks_at_once(kind) if self.config.mode == "file" else 0
        """How many frames may be begun before the first of them is finished."""
        beside = self.frames_ahead and not self.on_device  # which computes beside by itself
        self._networks = single_threaded("network", self.frames_ahead) if beside else None
        self.detector: Detector = detector or open_detector("live" if live else "file")

    def load(self, preset: str, max_crop_px: int | None = None) -> Engine:
        """Load the networks of a preset, or give those loaded before.

        Args:
            preset: its name.
            max_crop_px: make ready for crops up to this limit, so that the first is not slow.

        Raises:
            ConfigError: preset and weights do not go together.
            WeightsError: a weights file is missing or damaged.
        """
        if preset not in self._engines:
            weights, finer = checkpoint.find_pair(preset, self.config.weights)
            detail = self.config.detail
            softer = (checkpoint.find_sr(preset, "webcam"), 1 - detail) if detail < 1 else None
            engine = Engine(weights, self.config.device, self.config.parser, softer, finer)
            checkpoint.tell_of_size(self.config.preset and preset, engine.facts, weights)
            self._engines[preset] = engine
            if self._warm:
                self._prepare(engine, replace(self.tuning, preset=preset))
        if max_crop_px is not None:
            tuning = replace(self.tuning, preset=preset, max_crop_px=max_crop_px)
            self._prepare(self._engines[preset], tuning, BUCKETS_PX[-1])
        return self._engines[preset]

    def _prepare(self, engine: Engine, tuning: Tuning, *most_px: int) -> None:
        """Make ready for frames, so that none of them is slow."""
        engine.prepare(tuning.scale, tuning.max_crop_px, *most_px)
        if self.on_device:
            self.device_frame(tuning).capture(self.config.max_faces)

    def device_frame(self, tuning: Tuning) -> DeviceFrame:
        """What composes frames on the device with this tuning."""
        key = tuning.preset, tuning.scale, tuning.max_crop_px
        if key not in self._device_frames:
            self._device_frames[key] = DeviceFrame(
                self.load(tuning.preset), tuning.scale, tuning.max_crop_px, _GUARD_MEAN_LEVELS,
                captures=self.config.mode != "image",
                beside=self._capturing if self.config.mode == "live" else None,
            )  # fmt: skip
        return self._device_frames[key]

    @property
    def description(self) -> str:
        """One line: network, weights, device."""
        return self.engine.description

    def new_state(self, *, ahead: bool = False) -> State:
        """Start the memory of a new stream; ``ahead`` for :meth:`look`, whose boxes are raw."""
        looks = Looks(*_LOOK_EVERY_S[self.config.mode])
        return State(looks, Tracker(UNSMOOTHED)) if ahead else State(looks)

    def look(self, frame: Frame, state: State) -> tuple[Face, ...]:
        """Only find and track the faces of the next frame, to foresee it for :meth:`enhance`."""
        return self._watcher.look(frame, state, self.detector)

    def enhance(self, frame: Frame, state: State, tuning: Tuning | None = None) -> Enhanced:
        """Enhance the faces of one frame.

        Args:
            frame: (H, W, 3) uint8 RGB, at least 2x2; one with planes is made in their layout.
            state: the stream's memory, changed in place.
            tuning: what to do with this frame; None is :attr:`tuning`.

        Returns:
            The frame at (scale*H, scale*W, 3), or in planes, and what was done. A face whose
            network fails is shown plainly upscaled and counted; only detection, tracking and a
            preset that cannot be loaded can raise.
        """
        return self._start(frame, state, tuning or self.tuning, None)()

    def begin(self, frame: Frame, state: State) -> Callable[[], Enhanced]:
        """Begin what :meth:`enhance` does; the network goes on in a thread of its own.

        Up to :attr:`frames_ahead` frames may be begun before the first of them is finished. That is
        how files use all cores: a network by itself waits for each of its threads at every layer.

        Args:
            frame: the next of the stream.
            state: its memory, changed in place.

        Returns:
            What finishes it and gives what :meth:`enhance` does; frames are finished in order.
        """
        return self._start(frame, state, self.tuning, self._networks)

    def _start(
        self, frame: Frame, state: State, tuning: Tuning, beside: ThreadPoolExecutor | None
    ) -> Callable[[], Enhanced]:  # fmt: skip
        """Do what comes before the network, begin that, ``beside`` or later; give what is left."""
        clock, engine = Clock(), self.load(tuning.preset)
        begun = self._begin(frame, tuning)
        here = None if begun else CpuFrame(frame, tuning, self._beside, clock)
        with clock("detect"):
            found = self.look(frame, state)
            shown, strengths = state.fader.choose(found, tuning, frame.time_s)
        with clock("crop"):
            crops = self._crop(shown, frame.rgb, tuning.max_crop_px, state)
            limits, hurry = (tuning.max_crop_px, tuning.scale), tuning.patience > 1
            grids = [
                (1, tuning.scale) if begun else work_grid(c.size, *limits, coarse=hurry)
                for c in crops
            ]
            cuts = [(crop, coarse) for crop, (coarse, _) in zip(crops, grids, strict=True)]
            pictures = [shrunk(cut(frame.rgb, crop), coarse) for crop, coarse in cuts]
            seen: Sequence[Picture] = pictures
            if frame.planes is not None and frame.planes.layout.bits > 8:
                seen = [shrunk(rgb_levels(frame.planes, crop), coarse) for crop, coarse in cuts]
        memories = state.steadier, state.device_steadier  # others, where a shot begins
        ids = [face.id for face in shown if begun]
        moved = memories[1].look_back(ids, crops, pictures, self._beside)
        work = _Work(engine, tuning, shown, strengths, crops, grids, seen, *memories, moved)
        with clock("attention"):
            maps, hits = self._heatmaps.attend(
                engine, shown, crops, pictures, frame.time_s, tuning.patience, state
            )

        def network() -> _Faces:
            with clock("network"):
                return self._enhance(work, maps)

        on_device = begun and self._compose(begun, work, maps, clock)
        faces = network if begun else later(network, beside)

        def finish() -> Enhanced:
            composed = on_device and on_device()
            if composed is None:  # or what was begun on the device failed
                frame_here = here or CpuFrame(frame, tuning, self._beside, clock)
                frame_here.recall(
                    shown, crops, pictures, strengths, grids, work.steadier,
                    limit_px=tuning.max_crop_px, moving=tuning.patience == 1,  # or only the rest
                )  # fmt: skip
                residuals, outcomes = faces()
                composed = frame_here.finish(residuals, work.steadier), outcomes
            canvas, outcomes = composed
            counts = {"attention_hits": hits, "attention_misses": len(shown) - hits}
            counts |= engine.newly_counted()
            if len(self.presets) > 1:
                counts[f"faces_by_{tuning.preset}"] = outcomes.count(Outcome.ENHANCED)
            became = dict(zip((face.id for face in shown), outcomes, strict=True))
            all_outcomes = tuple(became.get(face.id, Outcome.LEFT) for face in found)
            if isinstance(canvas, Planes):
                return Enhanced(NO_RGB, found, all_outcomes, clock.times_ms, counts, canvas)
            return Enhanced(canvas, found, all_outcomes, clock.times_ms, counts)

        return finish

    def _begin(self, frame: Frame, tuning: Tuning) -> Begun | None:
        """Start what needs no faces yet, where the frame is composed on the device."""
        try:
            return self.device_frame(tuning).begin(frame, tuning.planes) if self.on_device else None
        except RuntimeError as error:
            return self._tell(_NOT_THERE, error)

    def _compose(
        self, begun: Begun, work: _Work, maps: list[Tensor], clock: Clock
    ) -> Callable[[], _Composed | None] | None:
        """Compose the frame on the device; gives what waits for it, None where that failed."""
        try:
            with clock("device"):
                passed = self.device_frame(work.tuning).finish(
                    begun, [face.id for face in work.faces], work.crops, work.moved(), work.seen,
                    [reach(f, work.tuning.max_crop_px) for f in work.faces], maps, work.strengths,
                    work.device_steadier,
                )  # fmt: skip
                picture, sane = begun.canvas.fetch(), fetch(passed)
        except RuntimeError as error:
            return self._tell(_NOT_THERE, error)

        def wait() -> _Composed | None:
            try:
                with clock("download"):
                    made, ok = picture(), sane()
            except RuntimeError as error:
                return self._tell(_NOT_THERE, error)
            return made, [Outcome.ENHANCED if one else Outcome.GUARDED for one in ok]

        return wait

    def enhance_picture(self, rgb: Image) -> Image:
        """Enhance the faces of one picture: (H, W, 3) to (scale*H, scale*W, 3) uint8 RGB.

        For a picture on its own; frames of a stream go to :meth:`enhance` with a state.
        """
        return self.enhance(Frame(rgb), self.new_state(), replace(self.tuning, planes=False)).rgb

    def enhance_aligned(self, rgb: Image) -> Image:
        """Super-resolve a picture that is a face crop already: no detection, no mask.

        Args:
            rgb: (H, W, 3) uint8 RGB, any size from 8x8.

        Returns:
            (4H, 4W, 3) uint8 RGB.
        """
        return self.engine.upscale(rgb, self.config.strength)

    def warm_up(self, height: int, width: int) -> None:
        """Run once on a blank frame: no early one is slow, nor the first of another preset."""
        rgb = np.full((height, width, 3), 128, np.uint8)
        self.detector.detect(rgb)
        # Its memory first, graphs take what is left.
        begun = self._begin(Frame(rgb), replace(self.tuning, planes=True))
        self._prepare(self.engine, self.tuning)
        if begun:
            begun.canvas.fetch()()
        self._warm = True

    def close(self) -> None:
        """Release the detector, and end what is still computed beside."""
        for threads in filter(None, (self._networks, self._beside, self._capturing)):
            threads.shutdown(cancel_futures=True)
        self._watcher.close()
        self.detector.close()
        for engine in self._engines.values():
            engine.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _crop(self, faces: list[Face], rgb: Image, limit_px: int, state: State) -> list[Crop]:
        """Place each face's crop; its bucket is kept while it still fits."""
        (height, width, _), sizes = rgb.shape, state.crop_sizes
        crops = [choose_crop(f, height, width, limit_px, sizes.get(f.id, 0)) for f in faces]
        state.crop_sizes = {f.id: crop.size for f, crop in zip(faces, crops, strict=True)}
        return crops

    def _enhance(self, work: _Work, maps: list[Tensor]) -> _Faces:
        """Run the network on all faces, those of one size in one batch, and guard its output."""
        pictures = work.seen
        residuals: list[Floats | None] = [None] * len(pictures)
        outcomes = [Outcome.FAILED] * len(pictures)
        for chosen in batches(
            [(p.shape[0], *g) for p, g in zip(pictures, work.grids, strict=True)]
        ):
            some = [pictures[i] for i in chosen], [maps[i] for i in chosen]
            coarse, scale = work.grids[chosen[0]]
            try:
                batch = work.engine.residual(*some, scale, work.tuning.max_crop_px, coarse)
            except RuntimeError as error:
                side = pictures[chosen[0]].shape[0]
                self._tell(f"the network failed on {len(chosen)} crops of {side} px", error)
                continue
            for i, residual in zip(chosen, batch, strict=True):
                size = cv2.norm(residual, cv2.NORM_L1) / residual.size  # NaN and infinity go on
                if size < _GUARD_MEAN_LEVELS:
                    residuals[i], outcomes[i] = residual, Outcome.ENHANCED
                else:
                    outcomes[i] = Outcome.GUARDED
        return residuals, outcomes

    def _tell(self, what: str, error: RuntimeError) -> None:
        """Log a failure once: what fails in every frame is only counted."""
        kind = f"{what.partition(' on ')[0]}: {type(error).__name__}"
        if kind not in self._told:
            self._told.add(kind)
            log.warning("%s: %s; further failures of this kind are only counted", what, error)


@dataclass(frozen=True, slots=True)
class _Work:
    """The faces of one frame that are enhanced, largest first, and with what."""

    engine: Engine
    tuning: Tuning
    faces: list[Face]
    strengths: list[float]
    crops: list[Crop]
    grids: list[tuple[int, int]]
    seen: Sequence[Picture]
    """What the network sees, as deep as the source is."""
    steadier: Steadier
    """What is remembered of the shot."""
    device_steadier: DeviceSteadier
    moved: Callable[[], list[Moved]]


_Composed = tuple[Image | Planes, list[Outcome]]
_Faces = tuple[list[Floats | None], list[Outcome]]
"""What the network adds to each face, None where nothing, and what became of it."""
