"""What to look at in; what both BlazeFace models see there, in several looks at a time, out."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeAlias, TypeVar

from cagface_core.blazeface import MODEL_FILES, BlazeFaceDetector, Closing, Range
from cagface_core.cores import usable_cores

T = TypeVar("T")
R = TypeVar("R")

_MOST_AT_ONCE = 4
"""More gain little, and each takes 25 ms and 20 MB for models of its own."""

Models: TypeAlias = Mapping[Range, BlazeFaceDetector]
"""Both models; for one look at a time."""


class LookTeam(Closing):
    """Looks with both models; thoroughly, in threads that each have their own. Not thread-safe."""

    def __init__(self, min_score: float, *, thorough: bool) -> None:
        """Load the models once; again for each look that is made beside another, when it comes.

        Args:
            min_score: detections below are dropped, in [0, 1].
            thorough: looks are many; else one follows the other.

        Raises:
            ConfigError, DeviceError, WeightsError: as :class:`BlazeFaceDetector` does.
        """
        self._min_score = min_score
        self._idle = deque([self._load()])
        at_once = min(usable_cores(), _MOST_AT_ONCE) if thorough else 1
        self._threads = ThreadPoolExecutor(at_once, "look") if at_once > 1 else None

    def each(self, look: Callable[[Models, T], R], places: Iterable[T]) -> list[R]:
        """Look at some places.

        Args:
            look: what to do with the models at one place.
            places: of one picture.

        Returns:
            What came of it, in their order.

        Raises:
            ValueError: the team was closed.
        """
        one = partial(self._with_models, look)
        return list(self._threads.map(one, places) if self._threads else map(one, places))

    def close(self) -> None:
        """Free all models, once the looks that were begun are done; closing twice is fine."""
        if self._threads is not None:
            self._threads.shutdown(cancel_futures=True)
            self._threads = None
        for models in self._idle:
            for model in models.values():
                model.close()

    def _with_models(self, look: Callable[[Models, T], R], place: T) -> R:
        try:
            models = self._idle.pop()
        except IndexError:
            models = self._load()
        try:
            return look(models, place)
        finally:
            self._idle.append(models)

    def _load(self) -> Models:
        return {kind: BlazeFaceDetector(kind, self._min_score) for kind in MODEL_FILES}
