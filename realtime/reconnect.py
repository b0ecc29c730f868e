"""A way to open a live source in; frames that go on when the source does not, out.

::

    reader thread: open, frames(), lost: close, wait, open, ...  ──slot──▶  frames()

A read that hangs holds up the reader only: whoever takes the frames gets the last picture, dimmed,
with the words "waiting for ...", until there are new ones.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from fractions import Fraction

import cv2
import numpy as np

from cagface_core import CagfaceError, Frame, Image
from realtime.reopening import BackOff
from realtime.source import Source

_log = logging.getLogger(__name__)

_TIME_BASE = Fraction(1, 1_000_000)
_FRAMES_MISSED = 3
"""This many intervals without a frame, and at least `Patience.quiet_s`, are a loss."""
_GAPS, _LONGEST_GAP_S = 4, 3.0
"""Of the newest intervals the longest counts, up to this: a shared screen that rests gives a frame
now and then, whatever rate it names."""


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds, of the things that are waited for.

    Attributes:
        quiet_s: a source that gives no frame for so long counts as lost.
        waiting_s: how often the waiting picture is given then.
        first_s: before a source is opened again; doubles with every failure.
        most_s: what it doubles up to.
        end_s: a reader that hangs when all is closed is left to itself after this.
    """

    quiet_s: float = 1.0
    waiting_s: float = 0.2
    first_s: float = 0.5
    most_s: float = 5.0
    end_s: float = 1.0


class Reconnecting:
    """A live source that is opened again, with back-off, whenever it breaks off, ends or hangs.

    The pictures of its `frames` may change size. Times are microseconds of the monotonic clock,
    whatever the source's own are: when a frame was captured, or else when it arrived.

    Args:
        open_source: opens the source; called in this thread at once, later in a thread of its own.
        name: what is waited for, for people: "camera 0".
        patience: how long it waits for what.

    Raises:
        InputError, DeviceError: it cannot be opened the first time.
    """

    def __init__(
        self, open_source: Callable[[], Source], name: str, patience: Patience | None = None
    ) -> None:
        self._open = open_source
        self._name = name
        self._patience = patience or Patience()
        first = open_source()
        self.info = replace(
            first.info, name=name, time_base=_TIME_BASE, frame_count=None, end_pts=None, live=True
        )
        self._first: Source | None = first
        self._changed = threading.Condition()
        self._frame: Frame | None = None
        self._trouble: str | None = None
        self._error: BaseException | None = None
        self._closed = threading.Event()
        # A daemon, as the driver's read may never return; see `close`.
        self._reader = threading.Thread(target=self._read, name="reader", daemon=True)

    def frames(self) -> Iterator[Frame]:
        """Frames until `close`; waiting pictures while there are none. Once only.

        A waiting picture has no ``captured_s``.
        """
        self._reader.start()
        patience = self._patience
        quiet_s = patience.quiet_s
        if self.info.rate:
            quiet_s = max(quiet_s, float(_FRAMES_MISSED / self.info.rate))
        gaps_s: deque[float] = deque([0.0], maxlen=_GAPS)
        taken_s = time.monotonic()
        last = np.zeros((self.info.height, self.info.width, 3), np.uint8)
        waiting: Image | None = None
        last_pts = -1
        while not self._closed.is_set():
            slow_s = _FRAMES_MISSED * max(gaps_s)
            frame, trouble = self._take(
                max(quiet_s, slow_s) if waiting is None else patience.waiting_s
            )
            if frame is not None:
                now_s = time.monotonic()
                gaps_s.append(min(now_s - taken_s, _LONGEST_GAP_S))
                taken_s = now_s
                if waiting is not None:
                    _log.warning("%s is back", self._name)
                waiting, last = None, frame.rgb
            elif waiting is None:
                if self._closed.is_set():
                    return
                _log.warning(
                    "%s is lost (%s); the last picture stays until it is back",
                    self._name,
                    trouble or f"no picture for {max(quiet_s, slow_s):.1f} s",
                )
                waiting = waiting_picture(last, f"waiting for {self._name}")
            captured_s = frame.captured_s if frame is not None else None
            last_pts = max(_microseconds(captured_s), last_pts + 1)
            rgb = frame.rgb if frame is not None else waiting
            assert rgb is not None  # one of the two branches has made it
            yield Frame(rgb, last_pts, _TIME_BASE, captured_s)

    def close(self) -> None:
        """End `frames` and release the source; from any thread, may be called twice.

        A reader that hangs in the driver is left behind: it releases the source when the driver
        lets it go, or dies with the program.
        """
        self._closed.set()
        with self._changed:
            self._changed.notify_all()
        if self._reader.ident is None:
            self._close_first()
        elif self._reader.is_alive():
            self._reader.join(self._patience.end_s)
            if self._reader.is_alive():
                _log.info("%s hangs in a read and is left behind", self._name)

    def _close_first(self) -> None:
        first, self._first = self._first, None
        if first is not None:
            first.close()

    def _take(self, timeout_s: float) -> tuple[Frame | None, str | None]:
        """The newest frame that was not taken yet, or None and what the trouble is, if known."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._frame or self._trouble or self._error or self._closed.is_set(),
                timeout_s,
            )
            if self._error is not None:
                raise self._error
            frame, self._frame = self._frame, None
            trouble = None
            if frame is None:  # first what was captured before the trouble
                trouble, self._trouble = self._trouble, None
            return frame, trouble

    def _read(self) -> None:
        """The reader thread."""
        source, self._first = self._first, None
        patience = self._patience
        back_off = BackOff(patience.first_s, patience.most_s)
        try:
            while not self._closed.is_set():
                if source is None:
                    with suppress(CagfaceError):
                        source = self._open()
                if source is not None:
                    frames, trouble = self._drain(source)
                    source = None
                    if frames:
                        back_off = BackOff(patience.first_s, patience.most_s)
                    with self._changed:
                        self._trouble = trouble
                        self._changed.notify_all()
                self._closed.wait(back_off.next_wait_s())
        except BaseException as error:  # noqa: BLE001  handed to whoever takes the frames
            with self._changed:
                self._error = error
                self._changed.notify_all()

    def _drain(self, source: Source) -> tuple[int, str]:
        """Put a source's frames into the slot until it ends; how many, and why it ended."""
        count = 0
        try:
            for frame in source.frames():
                if self._closed.is_set():
                    break
                if frame.captured_s is None:
                    frame = replace(frame, captured_s=time.perf_counter())
                count += 1
                with self._changed:
                    self._frame, self._trouble = frame, None
                    self._changed.notify_all()
        except CagfaceError as error:
            told = str(error).removeprefix(self._name).lstrip(": ")  # the log names it already
            return count, told
        finally:
            source.close()
        return count, "has ended"


def _microseconds(captured_s: float | None) -> int:
    """A moment of `time.perf_counter` as a live source counts time; None is now."""
    return round(1e6 * (time.perf_counter() if captured_s is None else captured_s))


def waiting_picture(last: Image, words: str) -> Image:
    """Draw words on a dimmed copy of the last picture, (H, W, 3) uint8 RGB."""
    dimmed = np.asarray(last // 3, dtype=np.uint8)
    height, width = last.shape[:2]
    font, thickness = cv2.FONT_HERSHEY_SIMPLEX, max(1, round(height / 240))
    (unit_px, _), _ = cv2.getTextSize(words, font, 1.0, thickness)
    scale = min(0.9 * width / unit_px, height / 480)
    (w, h), _ = cv2.getTextSize(words, font, scale, thickness)
    place = ((width - w) // 2, height - 2 * h)
    cv2.putText(dimmed, words, place, font, scale, (235, 235, 235), thickness, cv2.LINE_AA)
    return dimmed
