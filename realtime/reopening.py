"""A sink that goes away while a run goes on is opened anew here, and the run does not notice."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from cagface_core import DeviceError, Frame, OutputError
from realtime.sink import Sink

_log = logging.getLogger(__name__)

_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.5, 5.0


class BackOff:
    """When to try again: after ``first_s`` seconds, then each time twice as long, up to a limit."""

    def __init__(self, first_s: float = _FIRST_WAIT_S, longest_s: float = _LONGEST_WAIT_S) -> None:
        self._wait_s, self._longest_s = first_s, longest_s

    def next_wait_s(self) -> float:
        """How long to wait before the next try, in seconds."""
        wait_s = self._wait_s
        self._wait_s = min(2 * wait_s, self._longest_s)
        return wait_s


class ReopeningSink:
    """Drops frames while its sink is gone and opens it again, with longer and longer waits.

    One line is logged when the sink is lost and one when it is back.

    Args:
        open_sink: opens the sink; called at once, and later from `write`, so it must be quick.
        patience_s: end with the sink's error when it is gone for longer; None waits for ever.
        clock: seconds, for the waits.

    Raises:
        CagfaceError: the sink cannot be opened the first time.
    """

    def __init__(
        self,
        open_sink: Callable[[], Sink],
        patience_s: float | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._open, self._patience_s, self._clock = open_sink, patience_s, clock
        self._sink: Sink | None = open_sink()
        self.description = self._sink.description
        self._lost_s = self._next_try_s = 0.0
        self._back_off = BackOff()

    def write(self, frame: Frame) -> None:
        """Deliver one frame, or drop it while the sink is gone.

        Raises `EndOfDelivery`; `DeviceError` or `OutputError` when patience is at its end.
        """
        if self._sink is None:
            self._try_again()
        if self._sink is None:
            return
        try:
            self._sink.write(frame)
        except (DeviceError, OutputError) as error:
            _log.warning("%s; the run goes on and tries to open it again", error)
            self._sink.close()
            self._sink = None
            self._back_off = BackOff()
            self._lost_s = self._clock()
            self._next_try_s = self._lost_s + self._back_off.next_wait_s()

    def finish(self) -> None:
        """Finish the sink, if it is there. Raises `OutputError`."""
        if self._sink is not None:
            self._sink.finish()

    def close(self) -> None:
        """Close the sink, if it is there."""
        if self._sink is not None:
            self._sink.close()

    def _try_again(self) -> None:
        now_s = self._clock()
        if now_s < self._next_try_s:
            return
        try:
            self._sink = self._open()
        except (DeviceError, OutputError) as error:
            gone_s = now_s - self._lost_s
            if self._patience_s is not None and gone_s >= self._patience_s:
                raise type(error)(
                    f"{self.description} is gone for {gone_s:.0f} s and nothing else is delivered "
                    f"to: {error}"
                ) from error
            self._next_try_s = now_s + self._back_off.next_wait_s()
        else:
            _log.warning("%s is back after %.1f s", self.description, now_s - self._lost_s)
