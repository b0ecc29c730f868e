"""What the filter costs in a real OBS, as JSON: ``python -m tests.obs.measure --help``.

``--engine echo`` answers at once and so shows the filter's own part; ``pico``, ``nano`` and
``small`` are ``cagface serve`` with this preset.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

from realtime.wire import HEADER_BYTES, Header, Kind
from tests.obs.engines import receive, write_token
from tests.obs.processes import ROOT, EngineProcess, build_plugin
from tests.obs.studio import Screen, Studio, until

DEMO = ROOT / "assets" / "demo.mp4"
BITS = 12
FPS = 30
SIZES = ((640, 480), (1280, 720))


@contextmanager
def engine_of(kind: str, data: Path) -> Iterator[EngineProcess]:
    """An engine that serves already, with its token below ``data``."""
    engine = EngineProcess(data)
    try:
        if kind == "echo":
            write_token(data)
            yield engine.start("--plain")
        else:
            yield engine.serve(kind)
    finally:
        engine.end()


@contextmanager
def studio_of(folder: Path) -> Iterator[Studio]:
    """OBS with the filter, freshly built, and its preview, as its users have it."""
    screen = Screen()
    try:
        studio = Studio(folder / "obs", screen, build_plugin(folder), preview=True)
        try:
            yield studio
        finally:
            studio.close()
    finally:
        screen.close()


def play(studio: Studio, path: Path, name: str = "clip") -> int:
    """A looping clip in the scene; its scene item's number, once it plays."""
    item = studio.add_input(
        name, "ffmpeg_source", local_file=str(path), is_local_file=True, looping=True
    )
    until(lambda: studio.size(item)[0] > 0, "the clip to play")
    return item


def numbered_clip(path: Path, frames: int = 600) -> Path:
    """A clip that flashes: each frame's number in bits, squares of 40 px, in both its halves."""
    with av.open(str(path), "w") as clip:
        stream = clip.add_stream("ffv1", rate=FPS)
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        for number in range(frames):
            rgb = np.zeros((240, 320, 3), np.uint8)
            for bit in range(BITS):
                y, x = divmod(bit, 4)
                rgb[40 * y : 40 * y + 40, 40 * x : 40 * x + 40] = 255 * (number >> bit & 1)
            rgb[:, 160:] = rgb[:, :160]
            clip.mux(stream.encode(av.VideoFrame.from_ndarray(rgb, format="rgb24")))
        clip.mux(stream.encode(None))
    return path


def number_in(picture: np.ndarray, left: int) -> int:
    """The number that a frame of `numbered_clip` shows, from ``left`` px on."""
    squares = [divmod(bit, 4) for bit in range(BITS)]
    bright = [picture[40 * y + 20, left + 40 * x + 20].mean() > 128 for y, x in squares]
    return sum(1 << bit for bit, on in enumerate(bright) if on)


def measure_delay(studio: Studio, engine: EngineProcess, seconds: float) -> dict[str, Any]:
    """One clip twice in one frame of OBS: as it is, and in a scene with the filter on it."""
    clip = numbered_clip(studio.folder / "numbered.mkv")
    play(studio, clip)
    studio.place(studio.nest("clip"), positionX=320.0, positionY=0.0)
    studio.add_filter("Inner", address=engine.address, start_engine=False, hold_ms=2000)
    until(lambda: f"connected to the engine at {engine.address}" in studio.log(), "the engine")
    studio.frames(FPS)
    delays: list[int] = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        picture = studio.picture()
        now, then = number_in(picture, 0), number_in(picture, 320)
        if now >= then:  # not where the clip starts anew
            delays.append(now - then)
    studio.remove_filter("Inner")
    studio.ask("RemoveScene", sceneName="Inner")
    return {
        "frames": _spread(delays),
        "ms": _spread([delay * 1000 / FPS for delay in delays]),
        "samples": len(delays),
    }


def measure_frame_time(studio: Studio, engine: EngineProcess, seconds: float) -> dict[str, Any]:
    """OBS's own mean time to render a frame, without the filter and with it."""
    play(studio, DEMO)

    def look() -> dict[str, float]:
        before, times = studio.stats(), list[float]()
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            time.sleep(0.25)
            times.append(studio.stats()["averageFrameRenderTime"])
        after = studio.stats()
        return {"render_ms": float(np.mean(times)), **_rendered(before, after)}

    without = look()
    found = {"without": without}
    for scale in (1, 2, 4):
        studio.add_filter("clip", address=engine.address, scale=scale, start_engine=False)
        studio.frames(FPS)
        found[f"scale {scale}"] = look()
        studio.remove_filter("clip")
    return found


def _rendered(before: dict[str, Any], after: dict[str, Any]) -> dict[str, int]:
    """How many frames OBS had to render between two looks at its statistics, and skipped."""
    names = {"frames": "renderTotalFrames", "skipped": "renderSkippedFrames"}
    return {name: after[theirs] - before[theirs] for name, theirs in names.items()}


def measure_troubles(studio: Studio, engine: EngineProcess, seconds: float) -> dict[str, Any]:
    """Frames that OBS skips while its engine is well, stopped, gone, slow, or lies."""
    play(studio, DEMO)

    def look() -> dict[str, int]:
        before = studio.stats()
        time.sleep(seconds)
        after = studio.stats()
        return _rendered(before, after)

    found = {"without the filter": look()}
    studio.add_filter("clip", address=engine.address, start_engine=False)
    found["well"] = look()
    engine.signal(signal.SIGSTOP)
    found["stopped"] = look()
    engine.end()
    found["gone"] = look()
    engine.start("--plain", "--delay-ms", "200")
    found["slow"] = look()
    engine.end()
    engine.start("--lie", "magic")
    found["lies"] = look()
    return found


def measure_memory(studio: Studio, engine: EngineProcess | None, seconds: float) -> dict[str, Any]:
    """Resident memory of OBS and engine while a clip plays; the first fifth is warm-up.

    The clip has the filter on it, unless there is no engine: OBS alone.
    """
    play(studio, DEMO)
    pids = {"obs": studio.process.pid}
    if engine is not None:
        address = engine.address
        studio.add_filter("clip", address=address, scale=2, start_engine=False)
        until(lambda: f"connected to the engine at {address}" in studio.log(), "the engine")
        pids["engine"] = engine.pid
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in pids}
    begin = time.monotonic()
    while (now := time.monotonic() - begin) < seconds:
        for name, pid in pids.items():
            found[name].append((now, _resident_mib(pid)))
        time.sleep(min(1.0, seconds / 20))
    return {name: _growth(each, seconds) for name, each in found.items()} | {"seconds": seconds}


def _resident_mib(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


def _growth(found: list[tuple[float, float]], seconds: float) -> dict[str, float]:
    warm = [(at, mib) for at, mib in found if at > seconds / 5]
    slope = float(np.polyfit(*zip(*warm, strict=True), 1)[0]) * 60
    return {
        "start_mib": warm[0][1], "end_mib": warm[-1][1], "most_mib": max(m for _, m in warm),
        "growth_mib": warm[-1][1] - warm[0][1], "mib_a_minute": slope,
    }  # fmt: skip


def measure_round_trip(engine: EngineProcess, seconds: float) -> dict[str, Any]:
    """From a frame's first byte sent to its result's last received, by a client in Python."""
    with av.open(str(DEMO)) as clip:
        bgra = next(clip.decode(video=0)).to_ndarray(format="bgra")
    host, port = engine.address.split(":")
    token = (engine.data / "cagface-live" / "obs-token").read_text().strip().encode()
    found: dict[str, Any] = {}
    for width, height in SIZES:
        with socket.create_connection((host, int(port)), 10) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.sendall(Header(Kind.HELLO, len(token)).pack() + token)
            assert Header.unpack(bytes(receive(connection, HEADER_BYTES))).kind == Kind.WELCOME
            picture = cv2.resize(bgra, (width, height)).tobytes()
            found[f"{width}x{height}"] = _spread(_round_trips(connection, picture, width, seconds))
    return found


def _round_trips(
    connection: socket.socket, picture: bytes, width: int, seconds: float
) -> list[float]:
    times: list[float] = []
    end = time.monotonic() + seconds
    while time.monotonic() < end or len(times) < 20:
        begin = time.monotonic()
        header = Header(
            Kind.FRAME, len(picture), len(times) + 1, secrets.randbits(32), width,
            len(picture) // 4 // width, preset="auto",
        )  # fmt: skip
        connection.sendall(header.pack())
        connection.sendall(picture)
        answer = Header.unpack(bytes(receive(connection, HEADER_BYTES)))
        assert answer.kind == Kind.RESULT
        receive(connection, answer.body_bytes)
        times.append((time.monotonic() - begin) * 1000)
    return times[5:]


def _spread(values: list[Any]) -> dict[str, float]:
    p50, p95 = np.percentile(values, (50, 95))
    return {"mean": float(np.mean(values)), "p50": float(p50), "p95": float(p95)}


IN_OBS: dict[str, Callable[[Studio, EngineProcess, float], dict[str, Any]]] = {
    "delay": measure_delay,
    "frame-time": measure_frame_time,
    "memory": measure_memory,
    "troubles": measure_troubles,
}


def measure(what: str, kind: str, seconds: float) -> dict[str, Any]:
    """One of the measurements, in folders and on a screen of its own."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        about = {"what": what, "engine": kind, "cpus": os.cpu_count()}
        if what == "round-trip":
            with engine_of(kind, folder) as engine:
                return about | {"ms": measure_round_trip(engine, seconds)}
        with studio_of(folder) as studio:
            if kind == "none":
                return about | measure_memory(studio, None, seconds)
            with engine_of(kind, studio.data) as engine:
                return about | IN_OBS[what](studio, engine, seconds)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.obs.measure", description=__doc__)
    parser.add_argument("what", choices=[*IN_OBS, "round-trip"])
    parser.add_argument(
        "--engine", choices=["echo", "pico", "nano", "small", "none"], default="echo",
        help="(default: echo); none for the memory of OBS without the filter",
    )  # fmt: skip
    parser.add_argument("--minutes", type=float, default=0.25, help="of each part (default 0.25)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write there, too")
    words = parser.parse_args()
    if not 0 < words.minutes < 24 * 60:
        parser.error(f"--minutes {words.minutes:g} is not possible; expected a number above 0")
    if words.engine == "none" and words.what != "memory":
        parser.error("--engine none measures memory only")
    text = json.dumps(measure(words.what, words.engine, words.minutes * 60), indent=1)
    sys.stdout.write(text + "\n")
    if words.json is not None:
        words.json.write_text(text + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
