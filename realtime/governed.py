"""An enhancer, its user's settings and the governor in; an enhancer that minds both, out."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Generic, Protocol, TypeVar

from cagface_core import Enhanced, Frame, Tuning
from realtime.controls import Controls
from realtime.governor import Governor
from realtime.heaps import give_back
from realtime.loop import Resettable
from realtime.plain import upscale

_log = logging.getLogger(__name__)

StateT = TypeVar("StateT", bound=Resettable)

_Wanted = tuple[str, int | None]
"""A preset, and up to which size of crop it is to be ready; None: those that are asked for."""


class Governable(Protocol[StateT]):
    """What is governed: an enhancer that takes a tuning with each frame."""

    @property
    def tuning(self) -> Tuning:
        """What it does with a frame that comes without a tuning of its own."""
        ...

    def load(self, preset: str, max_crop_px: int | None = None) -> object:
        """Load a preset ahead of its first frame, for crops up to this. Raises `CagfaceError`."""
        ...

    def new_state(self) -> StateT:
        """A fresh state for one stream."""
        ...

    def enhance(self, frame: Frame, state: StateT, tuning: Tuning | None = None) -> Enhanced:
        """One frame, enhanced as the tuning says."""
        ...


class Governed(Generic[StateT]):
    """Does with each frame what its user has set, as far as the governor lets it, or beyond.

    Another preset is loaded, and larger crops are made ready for, in a thread of its own; until
    that is done, what was there before goes on.
    """

    def __init__(
        self, enhancer: Governable[StateT], controls: Controls, governor: Governor
    ) -> None:
        self._enhancer, self._controls, self._governor = enhancer, controls, governor
        self.frames_ahead = 0
        self._preset = enhancer.tuning.preset
        self._loaded: set[_Wanted] = {(self._preset, None)}
        self._refused: set[_Wanted] = set()
        self._loading: threading.Thread | None = None

    def new_state(self) -> StateT:
        """A fresh state for one stream."""
        return self._enhancer.new_state()

    def enhance(self, frame: Frame, state: StateT) -> Enhanced:
        """One frame, enhanced as far as settings and time allow."""
        settings = self._controls.settings
        tuning: Tuning | None = settings.tuning
        if settings.governor:
            tuning = self._governor.limit(settings.tuning)
        if tuning is None or not settings.enhance:
            return Enhanced(upscale(frame.rgb, settings.tuning.scale))
        wanted = tuning
        tuning = self._at_hand(wanted, settings.tuning.max_crop_px)
        begin_s = time.perf_counter()
        enhanced = self._enhancer.enhance(frame, state, tuning)
        # What one network takes while another is loaded says nothing of the other.
        refused = _wanted(wanted, settings.tuning.max_crop_px) in self._refused
        if settings.governor and (tuning == wanted or refused):
            self._governor.took((time.perf_counter() - begin_s) * 1e3, enhanced)
        return enhanced

    def begin(self, frame: Frame, state: StateT) -> Callable[[], Enhanced]:
        """One frame, which is done at once; see `realtime.loop.Enhancer`."""
        enhanced = self.enhance(frame, state)
        return lambda: enhanced

    def close(self) -> None:
        """Wait for what is still being loaded."""
        if self._loading is not None:
            self._loading.join()

    def _at_hand(self, wanted: Tuning, asked_px: int) -> Tuning:
        """What is wanted if all of it is ready, else with what is, while the rest is being loaded.

        Crops of up to ``asked_px`` are ready with each preset.
        """
        if self._ready(_wanted(wanted, asked_px)):
            self._preset = wanted.preset
            return wanted
        there = replace(wanted, preset=self._preset)
        if _wanted(there, asked_px) in self._loaded:
            return there
        # Of what is ready with the network in use the largest, which is what was shown until now.
        sizes_px = [px for preset, px in self._loaded if preset == self._preset and px]
        most_px = max((px for px in sizes_px if px <= wanted.max_crop_px), default=asked_px)
        return replace(there, max_crop_px=most_px)

    def _ready(self, wanted: _Wanted) -> bool:
        """Whether something is loaded; if not, it will be, unless it has been refused."""
        idle = self._loading is None or not self._loading.is_alive()
        if wanted not in self._loaded | self._refused and idle:
            self._loading = threading.Thread(target=self._load, args=(wanted,), name="load")
            self._loading.start()
        return wanted in self._loaded

    def _load(self, wanted: _Wanted) -> None:
        try:
            self._enhancer.load(*wanted)
        except Exception as error:  # noqa: BLE001  whatever it is, once is enough
            preset, max_crop_px = wanted
            larger = "" if max_crop_px is None else f" for crops of up to {max_crop_px} px"
            _log.warning("preset %s cannot be used%s: %s", preset, larger, error)
            self._refused.add(wanted)
            return
        give_back()
        self._loaded |= {wanted, (wanted[0], None)}


def _wanted(tuning: Tuning, asked_px: int) -> _Wanted:
    """What has to be ready for a tuning where crops of up to ``asked_px`` are with each preset."""
    larger = 0 < asked_px < tuning.max_crop_px
    return tuning.preset, tuning.max_crop_px if larger else None
