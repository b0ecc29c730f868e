"""An enhancer, its user's settings and the governor in; an enhancer that minds both, out."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import replace
from typing import Generic, Protocol, TypeVar

from cagface_core import Enhanced, Frame, Tuning
from realtime.controls import Controls
from realtime.governor import Governor
from realtime.loop import Resettable
from realtime.plain import upscale

_log = logging.getLogger(__name__)

StateT = TypeVar("StateT", bound=Resettable)


class Governable(Protocol[StateT]):
    """What is governed: an enhancer that takes a tuning with each frame."""

    @property
    def tuning(self) -> Tuning:
        """What it does with a frame that comes without a tuning of its own."""
        ...

    def load(self, preset: str) -> object:
        """Load a preset ahead of its first frame. Raises `CagfaceError`."""
        ...

    def new_state(self) -> StateT:
        """A fresh state for one stream."""
        ...

    def enhance(self, frame: Frame, state: StateT, tuning: Tuning | None = None) -> Enhanced:
        """One frame, enhanced as the tuning says."""
        ...


class Governed(Generic[StateT]):
    """Does with each frame what its user has set, as far as the governor lets it.

    Another preset is loaded in a thread of its own; until it is there, the one before goes on.
    """

    def __init__(
        self, enhancer: Governable[StateT], controls: Controls, governor: Governor
    ) -> None:
        self._enhancer, self._controls, self._governor = enhancer, controls, governor
        self._preset = enhancer.tuning.preset
        self._loaded = {self._preset}
        self._refused: set[str] = set()
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
        asked = tuning.preset
        tuning = replace(tuning, preset=self._at_hand(asked))
        begin_s = time.perf_counter()
        enhanced = self._enhancer.enhance(frame, state, tuning)
        # What a larger network takes while a smaller one is loaded says nothing of the smaller.
        if settings.governor and (tuning.preset == asked or asked in self._refused):
            self._governor.took((time.perf_counter() - begin_s) * 1e3, enhanced)
        return enhanced

    def close(self) -> None:
        """Wait for what is still being loaded."""
        if self._loading is not None:
            self._loading.join()

    def _at_hand(self, preset: str) -> str:
        """The preset if it is loaded, else the one used last, while it is being loaded."""
        if preset in self._loaded:
            self._preset = preset
        elif preset not in self._refused and not (self._loading and self._loading.is_alive()):
            self._loading = threading.Thread(target=self._load, args=(preset,), name="load")
            self._loading.start()
        return self._preset

    def _load(self, preset: str) -> None:
        try:
            self._enhancer.load(preset)
        except Exception as error:  # noqa: BLE001  whatever it is, once is enough
            _log.warning("preset %s cannot be used: %s", preset, error)
            self._refused.add(preset)
            return
        self._loaded.add(preset)
