"""A frame's time in its stream in; when it is due on the clock, out."""

from __future__ import annotations

import time
from collections.abc import Callable

_MOST_LATE_S = 0.5
"""A stream that fell back further (the machine slept, the disk stalled) goes on from now."""

_MOST_EARLY_S = 10.0
"""A gap longer than this is taken for times that have jumped and is not waited for."""


class Pacer:
    """Holds a stream to its own times: a frame is due as long after the first as its time says.

    Late frames are due in the past, so that the stream catches up what little it lost. Where
    stream and clock have drifted too far apart (times that jump, forwards or back, a machine that
    was suspended), the frame is due at once and those after it follow from there: the stream
    neither rushes nor stalls.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        """Start before the first frame; ``clock`` counts seconds."""
        self._clock = clock
        self._origin_s: float | None = None

    def due_s(self, time_s: float) -> float:
        """When the frame shown at ``time_s`` seconds of the stream is due, in the clock's."""
        now_s = self._clock()
        if self._origin_s is not None:
            due_s = self._origin_s + time_s
            if now_s - _MOST_LATE_S <= due_s <= now_s + _MOST_EARLY_S:
                return due_s
        self._origin_s = now_s - time_s
        return now_s
