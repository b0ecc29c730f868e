"""Frames cross from one thread to the next here, and with them the end and the errors.

Both mailboxes have one producer and one consumer and share one way of ending:

- the producer calls ``finish()`` when nothing more comes, or ``finish(error)`` when it failed;
  the consumer's ``get`` then raises `Finished` once all is drained, or ``error`` at once;
- the consumer calls ``cancel()`` when it wants nothing more; a producer blocked in ``put`` and
  every later ``put`` raise `Cancelled`.

So a thread that dies on either side always wakes the other, and nobody waits for ever.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

T = TypeVar("T")

_POLL_S = 0.2
"""Waits are cut into pieces because on Windows Ctrl-C cannot interrupt a wait on a lock."""


class Finished(Exception):  # noqa: N818  a signal like StopIteration, no error
    """Raised by ``get``: the producer has finished and everything was taken."""


class Cancelled(Exception):  # noqa: N818  a signal, no error
    """Raised by ``put``: the consumer wants nothing more."""


class Mailbox(Protocol[T]):
    """What both mailboxes offer; see the module's docstring for how they end."""

    @property
    def dropped(self) -> int:
        """How many items were replaced before the consumer took them."""
        ...

    def put(self, item: T) -> None:
        """Hand ``item`` over. Raises `Cancelled` when the consumer has left."""
        ...

    def get(self, check: Callable[[], None] = lambda: None) -> T:
        """Wait for the next item. Raises `Finished`, or what the producer failed with.

        ``check`` is called before and a few times a second while waiting; what it raises ends that.
        """
        ...

    def finish(self, error: BaseException | None = None) -> None:
        """Producer: nothing more comes, because all is done or because of ``error``."""
        ...

    def cancel(self) -> None:
        """Consumer: nothing more is wanted; what lies here is thrown away."""
        ...

    def wait_cancelled(self, timeout_s: float) -> bool:
        """Producer: sleep at most ``timeout_s`` seconds; True at once when cancelled."""
        ...


class FrameQueue(Generic[T]):
    """Bounded and lossless, for files: ``put`` waits while ``capacity`` items lie unread."""

    def __init__(self, capacity: int) -> None:
        if capacity < 1:
            raise ValueError(f"a queue's capacity is at least 1, got {capacity}")
        self._capacity = capacity
        self._items: deque[T] = deque()
        self._changed = threading.Condition()
        self._finished = False
        self._cancelled = False
        self._error: BaseException | None = None
        self._dropped = 0

    @property
    def dropped(self) -> int:
        """How many items were replaced before the consumer took them."""
        return self._dropped

    def put(self, item: T) -> None:
        """Hand ``item`` over. Raises `Cancelled` when the consumer has left."""
        with self._changed:
            self._make_room()
            if self._cancelled:
                raise Cancelled
            self._items.append(item)
            self._changed.notify_all()

    def _make_room(self) -> None:
        while len(self._items) >= self._capacity and not self._cancelled:
            self._changed.wait(_POLL_S)

    def get(self, check: Callable[[], None] = lambda: None) -> T:
        """Wait for the next item. Raises `Finished`, or what the producer failed with.

        ``check`` is called before and a few times a second while waiting; what it raises ends that.
        """
        with self._changed:
            check()
            while not (self._items or self._finished or self._cancelled):
                self._changed.wait(_POLL_S)
                check()
            if self._error is not None:
                raise self._error
            if not self._items:
                raise Finished
            item = self._items.popleft()
            self._changed.notify_all()
            return item

    def finish(self, error: BaseException | None = None) -> None:
        """Producer: nothing more comes, because all is done or because of ``error``."""
        with self._changed:
            self._finished = True
            self._error = error
            self._changed.notify_all()

    def cancel(self) -> None:
        """Consumer: nothing more is wanted; what lies here is thrown away."""
        with self._changed:
            self._cancelled = True
            self._items.clear()
            self._changed.notify_all()

    def wait_cancelled(self, timeout_s: float) -> bool:
        """Producer: sleep at most ``timeout_s`` seconds; True at once when cancelled."""
        with self._changed:
            return self._changed.wait_for(lambda: self._cancelled, timeout_s)


class LatestFrame(FrameQueue[T]):
    """One slot or few, the newest win, for live: ``put`` never waits, what falls out is counted."""

    def __init__(self, capacity: int = 1) -> None:
        super().__init__(capacity)

    def _make_room(self) -> None:
        while len(self._items) >= self._capacity:
            self._items.popleft()
            self._dropped += 1
