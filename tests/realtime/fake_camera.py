"""A stand-in for OpenCV's capture: no machine that tests has a camera that can be unplugged."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np

BLUE = (200, 0, 0)
EMPTY = "empty"
BROKEN = "broken"
HANG = "hang"


@dataclass
class FakeCamera:
    """What a camera does, opening after opening; put it in place of ``cv2.VideoCapture``.

    Attributes:
        openings: for each opening what its reads give in turn: a size (width, height), `EMPTY`,
            `BROKEN`, or `HANG` until ``let_go`` is set; None does not open. After the last nothing
            opens.
        claims_hz: what it says its rate is.
        clock_s: gives the driver's time stamp in seconds; None gives none.
    """

    openings: list[Iterable[Any] | None]
    claims_hz: float = 29.97
    clock_s: Iterator[float] | None = None
    let_go: threading.Event = field(default_factory=threading.Event)
    opened: list[FakeCapture] = field(default_factory=list)

    def __call__(self, *_arguments: Any) -> FakeCapture:
        script = self.openings.pop(0) if self.openings else None
        self.opened.append(FakeCapture(self, script))
        return self.opened[-1]

    @property
    def in_use(self) -> int:
        """How many openings were not released."""
        return sum(capture.isOpened() for capture in self.opened)


class FakeCapture:
    """One opening of a `FakeCamera`. Its pictures are blue, brighter with every read."""

    def __init__(self, camera: FakeCamera, script: Iterable[Any] | None) -> None:
        self.settings: list[tuple[int, float]] = []
        self._camera = camera
        self._script = None if script is None else iter(script)

    def isOpened(self):
        return self._script is not None

    def set(self, key, value):
        self.settings.append((key, value))
        return True

    def get(self, key):
        if key == cv2.CAP_PROP_POS_MSEC:
            stamps = self._camera.clock_s
            return 0.0 if stamps is None else 1000 * next(stamps)
        return self._camera.claims_hz

    def read(self):
        step = EMPTY if self._script is None else next(self._script, EMPTY)
        if step == HANG:
            self._camera.let_go.wait(20)
            step = EMPTY
        if step == BROKEN:
            raise cv2.error("a picture that cannot be decoded")
        if step == EMPTY:
            return False, None
        time.sleep(0.001)  # no camera is faster
        return True, np.full((step[1], step[0], 3), BLUE, np.uint8)

    def release(self):
        self._script = None
