"""Engines for tests, on ``realtime/wire.py``: they invert, take their time, or lie.

``python -m tests.obs.engines --address 127.0.0.1:7461`` as a process of its own, which a test can
stop and kill; the token is the file's that the filter reads too.
"""

from __future__ import annotations

import argparse
import os
import secrets
import socket
import struct
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from realtime.wire import HEADER_BYTES, TOKEN_BYTES, Header, Kind

LIES = (
    "magic", "version", "kind", "sequence", "captured", "scale", "size", "bytes", "huge",
    "unasked", "http", "short", "greeting", "device", "refuse", "refuse-frame",
)  # fmt: skip


def token_folder() -> Path:
    """Where the filter looks for the token, on Linux."""
    return Path(os.environ["XDG_DATA_HOME"]) / "cagface-live"


def write_token(data_home: Path) -> str:
    """A fresh token where the filter looks for it."""
    folder = data_home / "cagface-live"
    folder.mkdir(parents=True, exist_ok=True)
    token = secrets.token_hex(TOKEN_BYTES // 2)
    (folder / "obs-token").write_text(token + "\n")
    return token


def made_of(bgra: np.ndarray, scale: int, *, invert: bool) -> np.ndarray:
    """``(h, w, 4)`` uint8, its colours inverted or not, every pixel ``scale`` times as large."""
    pixels = bgra.view(np.uint32)[..., 0]
    if invert:
        pixels = pixels ^ np.uint32(0xFFFFFF)
    if scale > 1:
        pixels = pixels.repeat(scale, 0).repeat(scale, 1)
    return np.ascontiguousarray(pixels)[..., None].view(np.uint8)


@dataclass(frozen=True)
class Behaviour:
    """How an engine answers."""

    delay_s: float = 0.0
    lie: str = ""
    plain: bool = False


class Engine:
    """Serves every connection on a thread of its own, until it is closed or its process ends."""

    def __init__(self, address: tuple[str, int], token: str, behaviour: Behaviour) -> None:
        self._token = token
        self._behaviour = behaviour
        self._listener = socket.create_server(address, backlog=8)

    @property
    def address(self) -> str:
        host, port = self._listener.getsockname()
        return f"{host}:{port}"

    def close(self) -> None:
        """Take no more connections; ``serve`` returns."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self._converse, args=(connection,), daemon=True).start()

    def _converse(self, connection: socket.socket) -> None:
        with connection:
            try:
                self._greet(connection)
                while header := self._receive_header(connection):
                    self._answer(connection, header)
            except (ConnectionError, EOFError):
                pass  # the filter has gone

    def _receive_header(self, connection: socket.socket) -> Header:
        return Header.unpack(bytes(receive(connection, HEADER_BYTES)))

    def _greet(self, connection: socket.socket) -> None:
        lie = self._behaviour.lie
        hello = self._receive_header(connection)
        assert hello.kind == Kind.HELLO
        assert receive(connection, hello.body_bytes).decode() == self._token
        if lie == "http":
            connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n" + b" " * 128)
        elif lie == "refuse":
            refuse(connection, "this engine is\nfull: close another filter")
        elif lie == "greeting":
            connection.sendall(Header(Kind.RESULT, 4, 1, 0, 1, 1).pack() + b"\0" * 4)
        else:
            connection.sendall(Header(Kind.WELCOME, device="test").pack())
        if lie == "unasked":
            connection.sendall(Header(Kind.RESULT, 4, 1, 0, 1, 1).pack() + b"\0" * 4)

    def _answer(self, connection: socket.socket, header: Header) -> None:
        body = receive(connection, header.body_bytes)
        if self._behaviour.delay_s:
            time.sleep(self._behaviour.delay_s)
        bgra = np.frombuffer(body, np.uint8).reshape(header.height_px, header.width_px, 4)
        picture = made_of(bgra, header.scale, invert=not self._behaviour.plain)
        answer = replace(
            header, kind=Kind.RESULT, width_px=picture.shape[1], height_px=picture.shape[0],
            body_bytes=picture.nbytes, fps=29.7, frame_ms=12.3, face_count=2,
            device="test, inverts",
        )  # fmt: skip
        lie = self._behaviour.lie
        if lie == "refuse-frame":
            refuse(connection, f"no network named {header.preset}: pico, nano or small")
            return
        packed = bytearray(lying(answer, lie))
        connection.sendall(packed)
        connection.sendall(memoryview(picture).cast("B")[: 64 if lie == "short" else None])
        if lie == "short":
            connection.shutdown(socket.SHUT_RDWR)


def lying(answer: Header, lie: str) -> bytes:
    """The header's bytes, with one of LIES in them."""
    changed = {
        "sequence": {"sequence": answer.sequence + 1},
        "captured": {"captured_ns": answer.captured_ns + 1},
        "scale": {"scale": 2 if answer.scale != 2 else 4},
        "size": {"width_px": answer.height_px, "height_px": answer.width_px},
        "bytes": {"body_bytes": answer.body_bytes - 4},
        "huge": {"width_px": 2**31, "height_px": 2**31, "body_bytes": 2**32 - 4},
    }
    packed = bytearray(replace(answer, **changed.get(lie, {})).pack())
    raw = {"magic": (0, b"HTTP"), "version": (4, b"\x02\0"), "kind": (6, struct.pack("<H", 99))}
    if lie in raw:
        offset, data = raw[lie]
        packed[offset : offset + len(data)] = data
    if lie == "device":
        packed[76:116] = b"x" * 40
    return bytes(packed)


def refuse(connection: socket.socket, text: str) -> None:
    """Say why, and close."""
    body = text.encode()
    connection.sendall(Header(Kind.REFUSAL, len(body)).pack() + body)
    connection.shutdown(socket.SHUT_WR)


def receive(connection: socket.socket, size: int) -> bytearray:
    """Exactly ``size`` bytes; EOFError at the end of the connection."""
    data = bytearray(size)
    view = memoryview(data)
    while view:
        got = connection.recv_into(view)
        if not got:
            raise EOFError
        view = view[got:]
    return data


@contextmanager
def serving(token: str, behaviour: Behaviour) -> Iterator[str]:
    """An engine on a thread of this process; its address."""
    engine = Engine(("127.0.0.1", 0), token, behaviour)
    thread = threading.Thread(target=engine.serve)
    thread.start()
    try:
        yield engine.address
    finally:
        engine.close()
        thread.join()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("command", nargs="?", choices=["serve"])
    parser.add_argument("--address", required=True)
    parser.add_argument("--idle-seconds", type=float)
    parser.add_argument("--delay-ms", type=float, default=0.0)
    parser.add_argument("--lie", choices=LIES, default="")
    parser.add_argument("--plain", action="store_true")
    parser.add_argument("--announce", action="store_true", help="say so when ready")
    words = parser.parse_args()
    host, port = words.address.split(":")
    token = (token_folder() / "obs-token").read_text().strip()
    behaviour = Behaviour(words.delay_ms / 1000, words.lie, words.plain)
    engine = Engine((host, int(port)), token, behaviour)
    if words.announce:
        sys.stdout.write("ready\n")
        sys.stdout.flush()
    engine.serve()


if __name__ == "__main__":
    main()
