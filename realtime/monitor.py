"""The newest delivered picture and what it was made of, for whoever watches a run."""

from __future__ import annotations

import threading
from dataclasses import dataclass

from cagface_core import Enhanced, Frame, Image
from realtime.plain import rgb_of


@dataclass(frozen=True, slots=True)
class Shown:
    """One delivered picture. The arrays are shared: read them, never write into them.

    Attributes:
        frame: as it was captured, (H, W, 3).
        enhanced: what the enhancer made of it; its faces' boxes are in the pixels of ``frame``.
        delivered: as it was delivered.
        number: counts delivered pictures from 1.
    """

    frame: Frame
    enhanced: Enhanced
    delivered: Frame
    number: int

    @property
    def after(self) -> Image:
        """The enhanced frame, (S*H, S*W, 3) uint8 RGB; made anew each time if it is in planes."""
        return rgb_of(self.enhanced)

    @property
    def rgb(self) -> Image:
        """What was delivered, (H', W', 3) uint8 RGB; made anew each time if it is in planes."""
        return rgb_of(self.delivered)


class Monitor:
    """A slot that always holds the newest picture. Any thread may read; one writes."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._shown: Shown | None = None

    @property
    def newest(self) -> Shown | None:
        """The newest picture, None before the first."""
        return self._shown

    def wait_for_newer(self, number: int, timeout_s: float) -> Shown | None:
        """Wait until a picture after ``number`` is there; None if none came in time."""
        with self._condition:
            self._condition.wait_for(
                lambda: self._shown is not None and self._shown.number > number, timeout_s
            )
            shown = self._shown
        return shown if shown is not None and shown.number > number else None

    def show(self, frame: Frame, enhanced: Enhanced, delivered: Frame) -> None:
        """Put a picture in; called by the thread that delivers."""
        with self._condition:
            number = self._shown.number + 1 if self._shown else 1
            self._shown = Shown(frame, enhanced, delivered, number)
            self._condition.notify_all()
