"""A filter's pictures and wishes in, its results out; one of the streams that share an enhancer.

::

    filter's own thread                     the one thread that enhances
    BGRA -> RGB ──────────── FIFO ────────▶ governed.enhance(frame, state)
    BGRA, alpha <- RGB ◀───────────────────

A filter has one frame on its way, so first come, first served is fair between filters. All
networks run in one thread: torch keeps a pool of threads for each thread that computes.
"""

from __future__ import annotations

import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import cv2
import numpy as np

from cagface_core import Enhanced, Frame, Image, Outcome, Tuning
from realtime.controls import Controls, Settings
from realtime.governed import Governed
from realtime.governor import Governor
from realtime.plain import fit, untouched, upscale
from realtime.run import RunEnhancer
from realtime.stats import Stats
from realtime.wire import MAX_SIDE_PX, Header, Kind, WireError

_log = logging.getLogger(__name__)

_NANOSECOND = Fraction(1, 1_000_000_000)

_RATE_HZ = 30.0
"""Held for a filter that is alone; several have to share the time."""

_ACTIVE_S = 1.0
"""A filter whose last frame is older takes no part of the time."""

AUTO = ("", "auto")
"""Names in place of a preset: the engine's own choice."""


class SharedEnhancer:
    """One enhancer for all streams: enhances in one thread, loads each preset once."""

    def __init__(self, enhancer: RunEnhancer[Any]) -> None:
        self._enhancer = enhancer
        self._loading = threading.Lock()
        self._worker = ThreadPoolExecutor(1, "enhance")
        self._last_s: dict[int, float] = {}
        self.tuning = enhancer.tuning
        self.presets, self.rungs = enhancer.presets, enhancer.rungs
        self.path = enhancer.path

    def load(self, preset: str, max_crop_px: int | None = None) -> object:
        """Load a preset ahead of its first frame, for crops up to this. Raises `CagfaceError`."""
        with self._loading:
            return self._enhancer.load(preset, max_crop_px)

    def new_state(self) -> Any:
        """A fresh state for one stream."""
        return self._enhancer.new_state()

    def enhance(self, frame: Frame, state: Any, tuning: Tuning | None = None) -> Enhanced:
        """One frame, enhanced as the tuning says; only within `run`."""
        return self._enhancer.enhance(frame, state, tuning)

    def run(self, stream: FilterStream, frame: Frame) -> Enhanced:
        """Wait for the turn of a stream's frame, and give what became of it."""
        return self._worker.submit(self._turn, stream, frame).result()

    def close(self) -> None:
        """Wait for the frame that is being enhanced; the enhancer is its owner's to close."""
        self._worker.shutdown(cancel_futures=True)

    def _turn(self, stream: FilterStream, frame: Frame) -> Enhanced:
        now_s = time.monotonic()
        self._last_s = {key: s for key, s in self._last_s.items() if now_s - s < _ACTIVE_S}
        self._last_s[id(stream)] = now_s
        return stream.enhance(frame, len(self._last_s))


@dataclass(frozen=True, slots=True)
class Result:
    """One RESULT: its header, and its picture, (H, W, 4) uint8 BGRA, good until the next one."""

    header: Header
    bgra: Image


class FilterStream:
    """What is kept of one filter from frame to frame; used by its connection's thread."""

    def __init__(self, shared: SharedEnhancer, *, governor: bool) -> None:
        self._shared = shared
        self._controls = Controls(Settings(shared.tuning, governor=governor), shared.presets)
        self._governor = Governor(None, shared.presets, shared.rungs)
        self._governed = Governed(shared, self._controls, self._governor)
        self._state = self._governed.new_state()
        self._stats = Stats()
        self._told: set[str] = set()
        self._out: Image = np.empty((0, 0, 4), np.uint8)

    def result(self, wish: Header, bgra: Image) -> Result:
        """Make the result of one frame.

        Args:
            wish: the FRAME's header.
            bgra: (H, W, 4) uint8 BGRA, its picture.

        Raises:
            WireError: the result would be larger than the wire takes.
        """
        begin_s = time.perf_counter()
        width, height = wish.width_px * wish.scale, wish.height_px * wish.scale
        if max(width, height) > MAX_SIDE_PX:
            raise WireError(
                f"{wish.width_px}x{wish.height_px} at scale {wish.scale} is larger than "
                f"{MAX_SIDE_PX} px; choose a smaller scale"
            )
        self._controls.change(
            preset=self._preset(wish.preset),
            scale=wish.scale,
            strength=wish.strength,
            max_faces=1 if wish.largest_face_only else self._shared.tuning.max_faces,
        )
        rgb = np.asarray(cv2.cvtColor(bgra, cv2.COLOR_BGRA2RGB), np.uint8)
        enhanced = self._shared.run(self, Frame(rgb, wish.captured_ns, _NANOSECOND))
        if self._out.shape != (height, width, 4):
            self._out = np.empty((height, width, 4), np.uint8)
        cv2.cvtColor(fit(enhanced.rgb, width, height), cv2.COLOR_RGB2BGRA, dst=self._out)
        if not _opaque(bgra):
            alpha = np.asarray(cv2.extractChannel(bgra, 3), np.uint8)
            cv2.insertChannel(upscale(alpha, wish.scale), self._out, 3)
        self._stats.delivered()
        header = Header(
            Kind.RESULT,
            self._out.nbytes,
            wish.sequence,
            wish.captured_ns,
            width,
            height,
            wish.scale,
            fps=self._stats.current_fps,
            frame_ms=(time.perf_counter() - begin_s) * 1e3,
            face_count=sum(outcome is Outcome.ENHANCED for outcome in enhanced.outcomes),
            device=self._shared.path,
        )
        return Result(header, self._out)

    def enhance(self, frame: Frame, streams: int) -> Enhanced:
        """Enhance a frame, in the thread that enhances; one that fails passes through.

        Args:
            frame: the next of this stream.
            streams: how many share the time, this one included.
        """
        self._governor.rate_hz = _RATE_HZ * streams
        try:
            return self._governed.enhance(frame, self._state)
        except Exception as error:  # noqa: BLE001  a picture without enhancement is better than none
            self._stats.count("passthrough")
            self._tell(
                type(error).__name__,
                f"a frame could not be enhanced and passes through ({type(error).__name__}: "
                f"{error}); further errors of this kind are only counted",
            )
            # What failed may have left tracks and caches half changed.
            self._state.reset()
            return untouched(frame, self._controls.settings.tuning.scale)

    def close(self) -> None:
        """Wait for what is still being loaded."""
        self._governed.close()
        counts = self._stats.counts()
        if counts["passthrough"]:
            _log.warning(
                "a filter has gone; of its %d frames %d could not be enhanced",
                counts["frames"], counts["passthrough"],
            )  # fmt: skip

    def _preset(self, name: str) -> str:
        """The preset that a name means; the one before, if it means none here."""
        if name in AUTO:
            return self._shared.tuning.preset
        if name in self._controls.presets:
            return name
        before = self._controls.settings.tuning.preset
        there = ", ".join(self._controls.presets)
        self._tell(name, f"a filter asks for preset {name!r}, expected one of {there}; "
                   f"{before} goes on")  # fmt: skip
        return before

    def _tell(self, kind: str, line: str) -> None:
        if kind not in self._told and len(self._told) < _MOST_TOLD:
            self._told.add(kind)
            _log.warning("%s", line)


_MOST_TOLD = 20
"""Different things that one stream says; a filter could ask for new presets without end."""


def _opaque(bgra: Image) -> bool:
    """Whether alpha is 255 everywhere: four bytes at once, ten times as fast as alpha by itself."""
    pixels = bgra.reshape(-1).view(np.uint32)
    alone = np.array([0, 0, 0, 255], np.uint8).view(np.uint32)[0]
    return bool(np.bitwise_and.reduce(pixels) & alone == alone)
