"""A socket in, whole messages of `realtime.wire` out and in, each within its time."""

from __future__ import annotations

import hmac
import socket
import time
from contextlib import closing, suppress

from cagface_core import DeviceError
from realtime.wire import (
    HEADER_BYTES,
    MAX_TEXT_BYTES,
    TOKEN_BYTES,
    Header,
    Kind,
    WireError,
)

Address = tuple[str, int]
"""Of this machine: an IPv4 or IPv6 address, and a port."""

_REFUSAL_S = 0.5
"""How long a refusal may take, and how long is waited until the other side has read it."""


class Gone(Exception):  # noqa: N818  the usual end, no error
    """The other side has closed the connection between two messages."""


class Peer:
    """The other end of a connection. Used by one thread; `hang_up` may be called by any."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        with suppress(OSError):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._header = bytearray(HEADER_BYTES)

    def header(self, within_s: float, *, patient: bool = False) -> Header:
        """Wait for a message and give its checked header.

        Args:
            within_s: until all of the header is there, in seconds.
            patient: that time counts only from the first byte, which may take as long as it likes.

        Raises:
            Gone: the connection was closed instead.
            WireError: the header is wrong, or late.
            OSError: the connection broke.
        """
        view = memoryview(self._header)
        begin_s = time.monotonic()
        self._socket.settimeout(None if patient else within_s)
        try:
            got = self._socket.recv_into(view)
        except TimeoutError as error:
            raise WireError(f"no message within {within_s:g} s") from error
        if not got:
            raise Gone
        waited_s = 0.0 if patient else time.monotonic() - begin_s
        self.fill(view[got:], within_s - waited_s)
        return Header.unpack(bytes(self._header))

    def fill(self, view: memoryview, within_s: float) -> None:
        """Fill ``view``, of bytes, with what comes next.

        Raises:
            WireError: not all of it came in time, or the connection was closed in the middle.
            OSError: the connection broke.
        """
        deadline_s = time.monotonic() + within_s
        while len(view):
            left_s = deadline_s - time.monotonic()
            try:
                self._socket.settimeout(max(left_s, 1e-3))
                got = self._socket.recv_into(view) if left_s > 0 else 0
            except TimeoutError:
                continue
            if left_s <= 0:
                raise WireError("half a message, and the rest of it was too late")
            if not got:
                raise WireError("half a message, then the connection was closed")
            view = view[got:]

    def send(self, header: Header, body: memoryview | bytes = b"", within_s: float = 2.0) -> None:
        """Send one message.

        Raises:
            WireError: it was not taken in time.
            OSError: the connection broke.
        """
        self._socket.settimeout(within_s)
        try:
            self._socket.sendall(header.pack())
            if len(body):
                self._socket.sendall(body)
        except TimeoutError as error:
            raise WireError(f"a {header.kind.name} was not taken within {within_s:g} s") from error

    def refuse(self, reason: str) -> None:
        """Send a refusal, as far as the other side takes it; the caller closes the connection."""
        body = reason.encode()[:MAX_TEXT_BYTES].decode(errors="ignore").encode()
        with suppress(OSError, WireError):
            self.send(Header(Kind.REFUSAL, len(body)), body, _REFUSAL_S)
            self._socket.shutdown(socket.SHUT_WR)
            # Closing with unread bytes resets the connection, and the refusal may be lost.
            deadline_s = time.monotonic() + _REFUSAL_S
            while (left_s := deadline_s - time.monotonic()) > 0:
                self._socket.settimeout(left_s)
                if not self._socket.recv(1 << 16):
                    return

    def hang_up(self) -> None:
        """End the connection; whoever waits on it is woken."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)


def expect_token(peer: Peer, token: str, within_s: float) -> None:
    """Wait for the HELLO of a filter that knows the token. Raises as `Peer.header` does."""
    begin_s = time.monotonic()
    hello = peer.header(within_s)
    if hello.kind is not Kind.HELLO:
        raise WireError(f"a {hello.kind.name}, expected a HELLO first")
    given = bytearray(TOKEN_BYTES)
    peer.fill(memoryview(given), within_s - (time.monotonic() - begin_s))
    if not hmac.compare_digest(bytes(given), token.encode("ascii")):
        raise WireError(
            "wrong token: filter and engine have to run as one user, and with the same data folder"
        )


def ask_engine(address: Address, token: str, within_s: float = 2.0) -> str:
    """Greet the engine as a filter does, and hang up; what it computes on.

    Raises:
        DeviceError: there is none, or it is no engine of ours, or it refuses.
    """
    where = f"{address[0]}:{address[1]}"
    try:
        connection = socket.create_connection(address, within_s)
    except OSError as error:  # Windows asks again for 2 s where nobody listens: it may be late
        raise DeviceError(f"no engine runs at {where}; the filter starts it") from error
    try:
        with closing(connection):
            peer = Peer(connection)
            peer.send(Header(Kind.HELLO, TOKEN_BYTES), token.encode("ascii"), within_s)
            answer = peer.header(within_s)
            if answer.kind is Kind.REFUSAL:
                reason = bytearray(answer.body_bytes)
                peer.fill(memoryview(reason), within_s)
                raise DeviceError(
                    f"the engine at {where} refuses: {reason.decode(errors='replace')}"
                )
    except (OSError, WireError, Gone) as error:
        raise DeviceError(f"what listens at {where} is no engine of this version") from error
    if answer.kind is not Kind.WELCOME:
        raise DeviceError(f"what listens at {where} is no engine of this version")
    return answer.device
