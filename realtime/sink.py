"""Frames go out here: the `Sink` Protocol, and the two sinks that need no device."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Protocol

from cagface_core import Frame


class EndOfDelivery(Exception):  # noqa: N818  a signal, no error
    """Raised by ``write``: the user has closed the sink (a window), which ends the run."""


class Sink(Protocol):
    """Takes the enhanced frames, all of one size. Opened by its constructor."""

    @property
    def description(self) -> str:
        """What it is, for people: the virtual camera's name, the file."""
        ...

    def write(self, frame: Frame) -> None:
        """Deliver one frame, in order.

        Raises `EndOfDelivery`, `OutputError`, `DeviceError`; ValueError for another size than
        the first.
        """
        ...

    def finish(self) -> None:
        """All frames are written: make it permanent. Raises `OutputError`."""
        ...

    def close(self) -> None:
        """Release everything; what was not finished is discarded. May be called twice."""
        ...


class NullSink:
    """Takes every frame and keeps none: for measuring, and where there is no virtual camera."""

    @property
    def description(self) -> str:
        """What it is, for people."""
        return "nowhere (frames are enhanced and dropped)"

    def write(self, frame: Frame) -> None:
        """Deliver one frame to nobody."""

    def finish(self) -> None:
        """Nothing to make permanent."""

    def close(self) -> None:
        """Nothing to release."""


class FanOut:
    """Several sinks as one: each frame goes to all, in the order given."""

    def __init__(self, sinks: Sequence[Sink]) -> None:
        if not sinks:
            raise ValueError("a fan-out needs at least one sink")
        self._sinks = tuple(sinks)

    @property
    def description(self) -> str:
        """What they are, for people."""
        return ", ".join(sink.description for sink in self._sinks if sink.description)

    def write(self, frame: Frame) -> None:
        """Deliver one frame to all."""
        for sink in self._sinks:
            sink.write(frame)

    def finish(self) -> None:
        """Finish all, in order."""
        for sink in self._sinks:
            sink.finish()

    def close(self) -> None:
        """Close all, also when one of them raises."""
        with ExitStack() as stack:
            for sink in self._sinks:
                stack.callback(sink.close)
