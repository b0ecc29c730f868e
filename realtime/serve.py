"""The engine of the OBS filters: connections in, enhanced pictures out, on this machine only.

The main thread takes connections; each has a thread that reads and writes, and a stream of its
own (`realtime.filter_stream`); one more thread enhances for all. Nothing that a connection does
or does not do holds up another: its messages have limits and deadlines, and what breaks them is
refused in one line and closed.
"""

from __future__ import annotations

import logging
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field

import numpy as np

from cagface_core import DeviceError
from realtime.filter_stream import FilterStream, SharedEnhancer
from realtime.interrupts import signals_wait
from realtime.options import one_line
from realtime.peer import Address, Gone, Peer, expect_token
from realtime.wire import Header, Kind, WireError

_log = logging.getLogger(__name__)

_HELLO_S = 2.0
_MESSAGE_S = 5.0
"""From the first byte of a message to its last, and until a result is taken."""

MOST_FILTERS = 32
_MOST_STRANGERS = 32
"""Connections that did not show the token yet; of more, the oldest has to go."""

_BACKLOG = 128
"""Connections that wait to be taken; a stranger that opens many costs others little time."""

_TICK_S = 0.25
_QUIET_S = 10.0
"""At most one line about broken connections in this time."""


@dataclass(frozen=True, slots=True)
class ServeOptions:
    """How an engine serves.

    Attributes:
        token: what a filter has to know, 64 hexadecimal digits.
        idle_s: end after so many seconds without a filter; None goes on.
        governor: False keeps to what the filters ask for, whatever it costs.
        hello_s: how long a HELLO is waited for, in seconds.
        message_s: how long any message may take, in seconds.
    """

    token: str
    idle_s: float | None = None
    governor: bool = True
    hello_s: float = _HELLO_S
    message_s: float = _MESSAGE_S


@dataclass(slots=True, eq=False)
class _Connection:
    peer: Peer
    began_s: float = field(default_factory=time.monotonic)
    thread: threading.Thread | None = None


def bind(address: Address) -> socket.socket:
    """Take an address without listening yet. Raises `DeviceError` where it is taken."""
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        if sys.platform == "win32":  # which would let two programs have it
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
        else:  # connections of an engine that has ended may linger for a minute
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        listener.close()
        raise _taken(address, error) from error
    return listener


def _taken(address: Address, error: OSError) -> DeviceError:
    return DeviceError(
        f"{address[0]}:{address[1]} cannot be used ({error.strerror or error}): another program "
        "has it; end that one, or choose another port here and in the filter"
    )


def serve(
    listener: socket.socket,
    shared: SharedEnhancer,
    options: ServeOptions,
    on_ready: Callable[[Address], None] = lambda _address: None,
    stop: threading.Event | None = None,
) -> None:
    """Serve filters until ``stop``, Ctrl-C or the end of ``options.idle_s``.

    Every connection is closed and every thread has ended when this returns or raises.

    Args:
        listener: bound by `bind`; closed here.
        shared: loaded and warm.
        options: see `ServeOptions`.
        on_ready: told the address as soon as filters can connect.
        stop: ends it within a quarter of a second.

    Raises:
        DeviceError: the address was taken in the meantime.
    """
    _Engine(listener, shared, options).run(on_ready, stop or threading.Event())


class _Engine:
    def __init__(
        self, listener: socket.socket, shared: SharedEnhancer, options: ServeOptions
    ) -> None:
        self._listener, self._shared, self._options = listener, shared, options
        self._lock = threading.Lock()
        self._strangers: set[_Connection] = set()
        self._filters: set[_Connection] = set()
        self._left_s = time.monotonic()
        self._complaints = _Complaints()

    def run(self, on_ready: Callable[[Address], None], stop: threading.Event) -> None:
        try:
            with closing(self._listener), signals_wait() as let_signals_in:
                address: Address = self._listener.getsockname()[:2]
                try:
                    self._listener.listen(_BACKLOG)
                except OSError as error:
                    raise _taken(address, error) from error
                self._listener.settimeout(_TICK_S)
                self._left_s = time.monotonic()
                on_ready(address)
                while not (stop.is_set() or self._idle()):
                    self._accept()
                    let_signals_in()
        finally:
            self._hang_up()

    def _idle(self) -> bool:
        with self._lock:
            return (
                self._options.idle_s is not None
                and not self._filters
                and time.monotonic() - self._left_s >= self._options.idle_s
            )

    def _accept(self) -> None:
        try:
            accepted, _ = self._listener.accept()
        except TimeoutError:
            return
        except OSError as error:  # no file handle is free, or it went while it was accepted
            self._complaints.say(f"a connection could not be taken: {error}")
            time.sleep(_TICK_S)
            return
        connection = _Connection(Peer(accepted))
        connection.thread = threading.Thread(
            target=self._run, args=(accepted, connection), name="filter", daemon=True
        )
        with self._lock:
            oldest = min(self._strangers, key=lambda c: c.began_s, default=None)
            if oldest is not None and len(self._strangers) >= _MOST_STRANGERS:
                self._strangers.remove(oldest)
                oldest.peer.hang_up()
            self._strangers.add(connection)
        try:
            connection.thread.start()
        except RuntimeError as error:
            self._forget(connection)
            accepted.close()
            self._complaints.say(f"a connection could not be taken: {error}")

    def _run(self, accepted: socket.socket, connection: _Connection) -> None:
        """The thread of one connection."""
        try:
            with closing(accepted):
                try:
                    self._converse(connection)
                except WireError as error:
                    connection.peer.refuse(one_line(error))
                    self._complaints.say(f"a connection was closed: {one_line(error)}")
        except (Gone, OSError) as error:
            _log.debug("a filter has gone: %r", error)
        except Exception as error:  # noqa: BLE001  one connection's trouble is no other's
            self._complaints.say(f"a connection failed: {type(error).__name__}: {one_line(error)}")
        finally:
            self._forget(connection)

    def _converse(self, connection: _Connection) -> None:
        peer, options = connection.peer, self._options
        expect_token(peer, options.token, options.hello_s)
        with self._lock:
            if len(self._filters) >= MOST_FILTERS:
                raise WireError(f"{MOST_FILTERS} filters are connected already; remove some")
            self._strangers.discard(connection)
            self._filters.add(connection)
        peer.send(Header(Kind.WELCOME, device=self._shared.path))
        body = np.empty((0, 0, 4), np.uint8)
        with closing(FilterStream(self._shared, governor=options.governor)) as stream:
            while True:
                wish = peer.header(options.message_s, patient=True)
                if wish.kind is not Kind.FRAME:
                    raise WireError(f"a {wish.kind.name}, expected a FRAME")
                if body.shape[:2] != (wish.height_px, wish.width_px):
                    body = np.empty((wish.height_px, wish.width_px, 4), np.uint8)
                peer.fill(body.data.cast("B"), options.message_s)
                result = stream.result(wish, body)
                picture = result.bgra.data.cast("B")
                peer.send(result.header, picture, options.message_s)

    def _forget(self, connection: _Connection) -> None:
        with self._lock:
            self._strangers.discard(connection)
            if connection in self._filters:
                self._filters.remove(connection)
                self._left_s = time.monotonic()

    def _hang_up(self) -> None:
        """End every connection and its thread."""
        with self._lock:
            connections = [*self._strangers, *self._filters]
        for connection in connections:
            connection.peer.hang_up()
        for connection in connections:
            if connection.thread is not None and connection.thread.ident is not None:
                connection.thread.join()


class _Complaints:
    """Says what is wrong with connections, and not more often than a log can bear."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._next_s = 0.0
        self._kept = 0

    def say(self, line: str) -> None:
        with self._lock:
            if time.monotonic() < self._next_s:
                self._kept += 1
                return
            more, self._kept = self._kept, 0
            self._next_s = time.monotonic() + _QUIET_S
        _log.warning("%s%s", line, f" ({more} more such lines were left out)" if more else "")
