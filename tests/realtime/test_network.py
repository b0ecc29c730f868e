"""Streams over the network, for real: a sender that stops, starts again, and comes back larger."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import closing, contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice, pairwise
from pathlib import Path

import av
import cv2
import pytest

from cagface_core import InputError
from realtime.reconnect import Patience, Reconnecting
from realtime.source import open_source, shown_as
from realtime.video_in import VideoSource
from tests.realtime.helpers import Clip, picture

# In a process of its own: PyAV holds the interpreter's lock while it listens.
SEND = """
import sys, time
from fractions import Fraction
import av
from tests.realtime.helpers import picture

url, width, height = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
options = {"preset": "ultrafast", "tune": "zerolatency", "g": "5"}
with av.open(url, "w", format="mpegts") as container:
    stream = container.add_stream("libx264", rate=50, options=options)
    stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
    for index in range(3000):
        frame = av.VideoFrame.from_ndarray(picture(index, width, height), format="rgb24")
        frame.pts, frame.time_base = index, Fraction(1, 50)
        container.mux(stream.encode(frame.reformat(format="yuv420p")))
        time.sleep(0.02)
"""


@contextmanager
def sender(port, width, height):
    """Serve an MPEG-TS stream of 50 pictures a second to whoever connects, and break it off."""
    url = f"tcp://127.0.0.1:{port}?listen=1"
    process = subprocess.Popen([sys.executable, "-c", SEND, url, str(width), str(height)])
    try:
        yield
    finally:
        process.kill()
        process.wait(20)


@pytest.fixture
def port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def connect(port):
    """The sender listens a moment after it was started."""
    url = f"tcp://127.0.0.1:{port}"
    until_s = time.monotonic() + 20
    while True:
        try:
            return Reconnecting(
                lambda: VideoSource(url, url=True, live=True),
                shown_as(url),
                Patience(waiting_s=0.02, first_s=0.02, most_s=0.05),
            )
        except InputError:
            assert time.monotonic() < until_s


def test_a_stream_that_stops_and_starts_again_larger(port, caplog):
    before = set(threading.enumerate())
    with sender(port, 96, 64):
        source = connect(port)
        assert (source.info.live, source.info.width, source.info.rate) == (True, 96, 50)
        frames = source.frames()
        seen = [next(frames) for _ in range(10)]
        assert all(frame.captured_s is not None for frame in seen)
    seen.append(next(frame for frame in frames if frame.captured_s is None))
    with sender(port, 128, 96):
        seen.append(next(frame for frame in frames if frame.captured_s is not None))
        source.close()
    assert seen[-1].rgb.shape == (96, 128, 3)
    assert all(a.pts < b.pts for a, b in pairwise(seen))
    name = f"tcp://127.0.0.1:{port}"
    lost, back = (record.message for record in caplog.records)
    assert lost.startswith(f"{name} is lost (")
    assert back == f"{name} is back"
    assert set(threading.enumerate()) == before


class Http(BaseHTTPRequestHandler):
    """An IP camera, which never ends and says no length, and a film."""

    film = b""
    playlist: Path
    asked = 0

    def do_GET(self):
        Http.asked += 1
        self.send_response(200)
        if self.path.startswith("/list"):
            data = (self.playlist.parent / Path(self.path).name).read_bytes()
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)
            return
        if self.path.startswith("/film"):
            self.send_header("Content-Length", str(len(self.film)))
            self.end_headers()
            self.wfile.write(self.film)
            return
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=next")
        self.end_headers()
        for index in range(2 if self.path.startswith("/short") else 40):
            jpeg = cv2.imencode(".jpg", picture(index, 96, 64))[1].tobytes()
            head = f"--next\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
            with suppress(OSError):
                self.wfile.write(head.encode() + jpeg + b"\r\n")
            time.sleep(0.05)

    def log_message(self, *_):
        pass


@pytest.fixture
def http(tmp_path):
    Http.film = Clip().write(tmp_path / "film.mp4").read_bytes()
    with ThreadingHTTPServer(("127.0.0.1", 0), Http) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://me:secret@127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def test_a_camera_that_speaks_http_is_live_and_comes_back(http):
    source = open_source(f"{http}/video?token=hidden")
    assert source.info.live
    assert "secret" not in source.info.name
    assert "hidden" not in source.info.name
    with closing(source):
        frames = list(islice(source.frames(), 60))
    assert any(frame.captured_s is None for frame in frames), "a camera that ends is waited for"
    assert frames[0].captured_s is not None


class Pipe:
    """What cannot be gone back in, so that a film's head tells no duration."""

    def __init__(self):
        self.written = b""

    def write(self, data):
        self.written += bytes(data)
        return len(data)


def test_a_film_by_http_that_tells_no_duration_ends_all_the_same(http, tmp_path):
    pipe = Pipe()
    with (
        av.open(str(tmp_path / "film.mp4")) as film,
        av.open(pipe, "w", format="matroska") as container,
    ):
        stream = container.add_stream_from_template(film.streams.video[0])
        for packet in film.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                container.mux(packet)
    Http.film = pipe.written
    with closing(open_source(f"{http}/film.mkv")) as film:
        assert not film.info.live
        assert len(list(film.frames())) == 12


def test_who_ends_at_once_is_not_asked_again_and_again(http):
    Http.asked = 0
    with closing(open_source(f"{http}/short", loop=True)) as source:
        end_s = time.monotonic() + 2
        for _ in source.frames():
            if time.monotonic() > end_s:
                break
    assert 2 <= Http.asked <= 6


def test_a_playlist_without_an_end_is_held_to_its_times(http, tmp_path):
    """Its pieces come at once: taken as a camera's they would be shown in bursts."""
    Http.playlist = tmp_path / "list.m3u8"
    options = {"hls_flags": "omit_endlist", "hls_time": "1"}
    with (
        av.open(str(tmp_path / "film.mp4")) as film,
        av.open(str(Http.playlist), "w", format="hls", options=options) as container,
    ):
        stream = container.add_stream_from_template(film.streams.video[0])
        for packet in film.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                container.mux(packet)
    assert "ENDLIST" not in Http.playlist.read_text()
    with closing(open_source(f"{http}/list.m3u8")) as source:
        assert not source.info.live


def test_a_film_by_http_is_a_film(http):
    with closing(open_source(f"{http.upper().replace('ME:SECRET', 'me:secret')}/film.mp4")) as film:
        assert not film.info.live
        assert len(list(film.frames())) == 12
        assert "secret" not in film.info.name
    with pytest.raises(InputError, match="cannot be opened") as told:
        open_source("http://me:secret@127.0.0.1:9/x?token=hidden")
    assert "secret" not in str(told.value)
    assert "hidden" not in str(told.value)


def test_a_stream_that_is_not_there_is_an_error_at_once(port):
    with pytest.raises(InputError, match="cannot be opened"):
        open_source(f"tcp://127.0.0.1:{port}")


@pytest.mark.skipif(os.name != "posix", reason="signals are sent the POSIX way")
def test_ctrl_c_does_not_wait_for_a_stream_that_sends_nothing():
    program = subprocess.Popen(
        [
            sys.executable, "-c", "from realtime.cli import live; import sys; sys.exit(live())",
            "--webcam", "udp://127.0.0.1:0", "--no-virtual-camera",
        ],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    assert program.stdout is not None
    assert program.stderr is not None
    assert "opening udp" in program.stderr.readline()
    time.sleep(0.3)
    program.send_signal(signal.SIGINT)
    asked_s = time.monotonic()
    assert "0 frames" in program.stdout.readline()
    assert time.monotonic() - asked_s < 3, "the stream is waited for twice as long"
    _, errors = program.communicate(timeout=60)
    assert time.monotonic() - asked_s < 5, "what is loaded meanwhile is waited for"
    assert program.returncode in (0, 130, -signal.SIGINT)
    assert "cannot be opened" not in errors


@pytest.mark.parametrize(
    ("spec", "shown"),
    [
        ("0", "camera 0"),
        ("/dev/video2", "camera /dev/video2"),
        ("my clip.mp4", "my clip.mp4"),
        ("lavfi:testsrc=size=64x48", "lavfi:testsrc=size=64x48"),
        ("rtsp://cam.local/live", "rtsp://cam.local/live"),
        ("rtsp://me:secret@cam:554/a@b?token=1", "rtsp://cam:554/a@b"),
        ("udp://127.0.0.1:1234?timeout=1", "udp://127.0.0.1:1234"),
        ("rtsp://me:s3c/ret@cam:554/x?y=z@w", "rtsp://cam:554/x"),
        ("rtsp://[::1]:554/a@b", "rtsp://[::1]:554/a@b"),
        ("http://cam/a@b", "http://cam/a@b"),
    ],
)
def test_a_source_is_named_without_its_secrets(spec, shown):
    assert shown_as(spec) == shown


def test_a_sender_that_never_comes_is_told_as_such(monkeypatch):
    """FFmpeg speaks of an immediate exit then."""
    monkeypatch.setattr("realtime.video_in._NETWORK_TIMEOUT_S", (0.5, 0.5))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    with pytest.raises(InputError, match=r"cannot be opened \(nothing came for too long\)"):
        VideoSource(f"udp://127.0.0.1:{port}", url=True)
