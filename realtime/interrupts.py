"""Ctrl-C, SIGTERM and SIGHUP come at any moment; here they wait until they do no harm."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from types import FrameType

ASKED_TO_END = tuple(
    getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)
)
"""By the system, or because the terminal was closed; Windows has the first only."""


def minded() -> list[int]:
    """Those of :data:`ASKED_TO_END` that are not ignored, as nohup does: these stay so."""
    return [n for n in ASKED_TO_END if signal.getsignal(n) is not signal.SIG_IGN]


@contextmanager
def signals_wait() -> Generator[Callable[[], None]]:
    """Let Ctrl-C and the like wait in this block for calls of what it gives, or for its end.

    A signal's handler runs between any two steps of the main thread, and what it raises comes out
    there: after a `threading.Condition` is locked, say, and before the ``with`` knows. Then it is
    locked for ever, and the thread that wants it next never ends: so it was with 2 Ctrl-C of 3,200.

    The second signal does not wait, in case that what the first one waits for never comes. Other
    threads than the main one see no signals; there nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: None
        return
    waiting: list[int] = []
    handlers: dict[int, Callable[[int, FrameType | None], object]] = {}
    came = False

    def wait(number: int, frame: FrameType | None) -> None:
        nonlocal came
        if came:
            handlers[number](number, frame)
        else:
            came = True
            waiting.append(number)

    def let_in() -> None:
        if waiting:
            number = waiting.pop()
            handlers[number](number, None)

    for number in (signal.SIGINT, *ASKED_TO_END):
        handler = signal.getsignal(number)
        if callable(handler):  # ignored ones stay so
            handlers[number] = handler
            signal.signal(number, wait)
    try:
        yield let_in
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    let_in()
