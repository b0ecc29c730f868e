"""What the engine's tests share: a filter in Python, an engine in this process, frames for it."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np

from cagface_core import EnhancerConfig, FaceEnhancer
from realtime.filter_stream import SharedEnhancer
from realtime.peer import Address, Gone, Peer
from realtime.process import in_own_thread
from realtime.serve import ServeOptions, bind, serve
from realtime.wire import TOKEN_BYTES, Header, Kind

TOKEN = "0123456789abcdef" * 4
CONFIG = EnhancerConfig(mode="live", preset="pico", device="cpu-float32")
LONG_S = 60.0
"""Nothing takes as long; a test that waits so long has found something."""


@dataclass(frozen=True)
class Engine:
    """An engine that serves in this process."""

    address: Address
    shared: SharedEnhancer

    def connect(self) -> socket.socket:
        return socket.create_connection(self.address, LONG_S)


@contextmanager
def engine(**options: object) -> Iterator[Engine]:
    """The real one, with the smallest network, at any free port."""
    listener = bind(("127.0.0.1", 0))
    stop, ready = threading.Event(), threading.Event()
    found: list[Address] = []

    def on_ready(address: Address) -> None:
        found.append(address)
        ready.set()

    def load() -> FaceEnhancer:
        enhancer = FaceEnhancer(CONFIG)
        enhancer.warm_up(240, 320)
        return enhancer

    with closing(in_own_thread(load)) as enhancer, closing(SharedEnhancer(enhancer)) as shared:
        served = ServeOptions(**({"token": TOKEN, "governor": False} | options))
        thread = threading.Thread(target=serve, args=(listener, shared, served, on_ready, stop))
        thread.start()
        try:
            assert ready.wait(LONG_S)
            yield Engine(found[0], shared)
        finally:
            stop.set()
            thread.join(LONG_S)
            assert not thread.is_alive()


class Filter:
    """Speaks with an engine as the filter in OBS does."""

    def __init__(self, connection: socket.socket, token: str = TOKEN) -> None:
        self.socket = connection
        self.peer = Peer(connection)
        self.peer.send(Header(Kind.HELLO, TOKEN_BYTES), token.encode())
        self.welcome = self.peer.header(LONG_S)
        self._sequence = 0

    def result(self, bgra: np.ndarray, time_s: float = 0.0, **wishes: object):
        """Send a frame and wait for its result: header and picture."""
        self._sequence += 1
        self.send(bgra, time_s, **wishes)
        header = self.peer.header(LONG_S)
        assert header.kind is Kind.RESULT, refusal(self.peer, header)
        assert header.sequence == self._sequence
        assert header.captured_ns == round(time_s * 1e9)
        picture = np.empty((header.height_px, header.width_px, 4), np.uint8)
        self.peer.fill(picture.data.cast("B"), LONG_S)
        return header, picture

    def send(self, bgra: np.ndarray, time_s: float = 0.0, **wishes: object) -> None:
        height, width = bgra.shape[:2]
        header = Header(
            Kind.FRAME, bgra.nbytes, self._sequence, round(time_s * 1e9), width, height, **wishes
        )
        self.peer.send(header, bgra.data.cast("B"), LONG_S)

    def close(self) -> None:
        self.socket.close()


def refusal(peer: Peer, header: Header | None = None) -> str:
    """The line that an engine sends before it closes."""
    header = header or peer.header(LONG_S)
    assert header.kind is Kind.REFUSAL
    text = bytearray(header.body_bytes)
    peer.fill(memoryview(text), LONG_S)
    return text.decode()


def closed(connection: socket.socket) -> bool:
    """Whether the other side closes within the time there is; what it sends is read."""
    connection.settimeout(LONG_S)
    with suppress(ConnectionError, Gone):
        while connection.recv(1 << 20):
            pass
    return True


def until(condition: Callable[[], bool]) -> bool:
    """Wait for a condition; whether it came."""
    deadline_s = time.monotonic() + LONG_S
    while not condition():
        if time.monotonic() > deadline_s:
            return False
        time.sleep(0.02)
    return True


def filter_threads() -> int:
    """Connections that an engine in this process serves."""
    return sum(thread.name == "filter" for thread in threading.enumerate())


def bgra_frames(clip: Path, count: int) -> list[np.ndarray]:
    """The first frames of a clip, opaque."""
    with av.open(str(clip)) as container:
        frames = zip(range(count), container.decode(video=0), strict=False)
        return [frame.to_ndarray(format="bgra") for _, frame in frames]
