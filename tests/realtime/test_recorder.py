"""Recordings, streams and snapshots: what is delivered, kept and sent while a run goes on."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import closing, suppress
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from cagface_core import ConfigError, Enhanced, Frame, OutputError
from realtime.monitor import Shown
from realtime.recorder import Recorder
from realtime.snapshot import default_folder, save
from realtime.stream import StreamSink
from tests.realtime.helpers import picture, video_times

TIMES_MS = (0, 40, 75, 300, 310, 900)


def frame(index, time_ms):
    return Frame(picture(index, 96, 64), 7_000_000 + 1000 * time_ms)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_recording_has_the_real_times(tmp_path, suffix):
    recorder = Recorder(96, 64, Fraction(25))
    path = tmp_path / f"a{suffix}"
    recorder.write(frame(0, -40))  # before it begins
    assert recorder.recording is None
    recorder.start(path)
    assert recorder.recording == path
    assert str(path) in recorder.description
    for index, time_ms in enumerate(TIMES_MS):
        recorder.write(frame(index, time_ms))
    assert recorder.stop() == path
    assert recorder.recording is None
    recorder.write(frame(9, 1000))  # after its end
    recorder.close()
    recorder.close()
    assert recorder.dropped == 0
    times = [round(1000 * float(time_s)) for time_s in video_times(path)]
    assert times == list(TIMES_MS)


def test_colours_and_odd_sizes(tmp_path):
    recorder = Recorder(97, 65, None)
    recorder.start(tmp_path / "a.mp4")
    rgb = cv2.resize(picture(3, 96, 64), (97, 65))
    recorder.write(Frame(rgb))
    recorder.close()
    with av.open(str(tmp_path / "a.mp4")) as container:
        (decoded,) = container.decode(video=0)
        assert (decoded.width, decoded.height) == (96, 64)
        got = decoded.to_ndarray(format="rgb24", src_colorspace="ITU601").astype(int)
    assert np.abs(got - rgb[:64, :96]).mean() < 3


def test_one_after_another(tmp_path):
    recorder = Recorder(96, 64, None)
    for name in ("a.mp4", "b.mkv", "c.mp4"):
        recorder.start(tmp_path / name)
        recorder.write(frame(0, 0))
        recorder.write(frame(1, 40))
    recorder.close()
    assert [len(video_times(path)) for path in sorted(tmp_path.iterdir())] == [2, 2, 2]


@pytest.mark.parametrize(
    ("name", "message"),
    [("a.avi", "ends in .mp4 or .mkv"), ("none/a.mp4", "does not exist"), ("b.mp4", "exists")],
)
def test_places_that_do_not_work(tmp_path, name, message):
    (tmp_path / "b.mp4").touch()
    with closing(Recorder(96, 64, None)) as recorder:
        with pytest.raises(OutputError, match=message):
            recorder.start(tmp_path / name)
        assert recorder.recording is None


def test_a_recording_without_a_frame_leaves_no_file(tmp_path):
    recorder = Recorder(96, 64, None)
    recorder.start(tmp_path / "a.mp4")
    recorder.close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(sys.platform == "win32", reason="limits the size of files")
def test_a_full_disk_ends_the_recording_and_not_the_run(tmp_path, caplog):
    import resource

    noise = np.random.default_rng(0).integers(0, 256, (30, 64, 96, 3), np.uint8)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    recorder = Recorder(96, 64, None)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
        recorder.start(tmp_path / "a.mp4")
        for index, rgb in enumerate(noise):
            recorder.write(Frame(rgb, 100_000 * index))
            threading.Event().wait(0.005)  # what comes too fast is dropped
        recorder.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert recorder.recording is None
    assert recorder.broken
    (line,) = caplog.messages
    assert "the recording has ended" in line
    assert "a.mp4: writing failed" in line


def test_what_comes_too_fast_is_dropped_and_told(tmp_path, caplog):
    recorder = Recorder(1920, 1080, None)
    recorder.start(tmp_path / "a.mp4")
    rgb = picture(0, 1920, 1080)
    begin_s = time.perf_counter()
    for index in range(60):
        recorder.write(Frame(rgb, index))
    assert time.perf_counter() - begin_s < 0.2, "it never waits for the encoder"
    recorder.close()
    written = len(video_times(tmp_path / "a.mp4"))
    assert written + recorder.dropped == 60
    assert recorder.dropped > 20
    assert f"{recorder.dropped} more came faster" in caplog.text


KILLED = """
import sys, threading
sys.path.insert(0, {root!r})
from pathlib import Path
from fractions import Fraction
from cagface_core import Frame
from realtime.recorder import Recorder
from tests.realtime.helpers import picture
recorder = Recorder(96, 64, Fraction(25))
recorder.start(Path({path!r}))
for index in range(10_000):
    recorder.write(Frame(picture(index % 20, 96, 64), 40_000 * index))
    threading.Event().wait(0.004)
    if index == 150:
        print("now", flush=True)
"""


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_a_killed_process_leaves_a_playable_file(tmp_path, repository, name):
    path = tmp_path / name
    code = KILLED.format(root=str(repository), path=str(path))
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == b"now"
        process.send_signal(getattr(signal, "SIGKILL", signal.SIGTERM))
    assert len(video_times(path)) >= 100


def test_snapshots(tmp_path):
    before, after = picture(0, 96, 64), picture(5, 192, 128)
    shown = Shown(Frame(before), Enhanced(after), Frame(after), 1)
    folder = tmp_path / "made" / "anew"
    first = save(shown, folder)
    second = save(shown, folder)
    assert first.name.endswith("-after.png")
    assert len({first, second}) == 2
    assert np.array_equal(cv2.imread(str(first))[..., ::-1], after)
    other = str(first).replace("-after", "-before")
    assert np.array_equal(cv2.imread(other)[..., ::-1], before)
    assert len(list(folder.iterdir())) == 4
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="--snapshots"):
        save(shown, tmp_path / "file" / "x")
    assert default_folder().is_relative_to(Path.home())


def test_snapshots_faster_than_their_names_change(tmp_path):
    tiny = picture(0, 32, 32)
    shown = Shown(Frame(tiny), Enhanced(tiny), Frame(tiny), 1)
    assert len({save(shown, tmp_path) for _ in range(30)}) == 30


def test_only_known_kinds_of_streams():
    with pytest.raises(ConfigError, match="udp://"):
        StreamSink("http://example.org/x", 96, 64, None)


def test_a_stream_does_not_tell_its_key():
    sink = StreamSink("rtmp://user:secret@127.0.0.1:9/live/key", 96, 64, None)
    sink.close()
    assert sink.description == "stream to rtmp://127.0.0.1:9"


class Receiver:
    """Takes a TCP stream whole, in a thread, connection after connection."""

    def __init__(self, connections):
        self.server = socket.create_server(("127.0.0.1", 0))
        self.url = f"tcp://127.0.0.1:{self.server.getsockname()[1]}"
        self.got = [bytearray() for _ in range(connections)]
        self.enough = [threading.Event() for _ in range(connections)]
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self):
        with self.server:
            for got, enough in zip(self.got, self.enough, strict=True):
                connection, _ = self.server.accept()
                with connection:
                    while len(got) < 30_000 and (data := connection.recv(4096)):
                        got += data
                enough.set()


def test_a_stream_is_decodable_and_comes_back_after_a_break(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr("realtime.stream._PROVEN_S", 0.02)
    receiver = Receiver(2)
    rng = np.random.default_rng(0)
    sink = StreamSink(receiver.url, 96, 64, Fraction(25))
    for index in range(2000):
        sink.write(Frame(rng.integers(0, 256, (64, 96, 3), np.uint8), 40_000 * index))
        if receiver.enough[1].wait(0.005):
            break
    sink.finish()
    sink.close()
    receiver.thread.join()
    for number, got in enumerate(receiver.got):
        path = tmp_path / f"{number}.ts"
        path.write_bytes(got)
        with av.open(str(path)) as container:
            times = [packet.pts for packet in container.demux(video=0) if packet.pts is not None]
        assert len(times) > 1
        assert all(a < b for a, b in pairwise(times))
    lost, back = caplog.messages[:2]
    assert "writing failed" in lost
    assert "is back" in back


def test_a_receiver_that_hangs_up_at_once_is_told_once_and_asked_less_and_less(caplog):
    stop, calls = threading.Event(), []

    def hang_up(server):
        while not stop.is_set():
            with suppress(TimeoutError):
                connection, _ = server.accept()
                connection.close()
                calls.append(time.monotonic())

    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.1)
        thread = threading.Thread(target=hang_up, args=(server,))
        thread.start()
        sink = StreamSink(f"tcp://127.0.0.1:{server.getsockname()[1]}", 96, 64, Fraction(25))
        rng = np.random.default_rng(0)
        for index in range(350):
            sink.write(Frame(rng.integers(0, 256, (64, 96, 3), np.uint8), 40_000 * index))
            time.sleep(0.01)
        sink.close()
        stop.set()
        thread.join()
    assert 2 <= len(calls) <= 4
    assert len(caplog.messages) == 1


def test_a_receiver_that_reads_nothing_holds_nothing_up():
    with socket.create_server(("127.0.0.1", 0)) as server:
        sink = StreamSink(f"tcp://127.0.0.1:{server.getsockname()[1]}", 640, 480, None)
        rng = np.random.default_rng(0)
        worst_s = 0.0
        rgb = rng.integers(0, 256, (480, 640, 3), np.uint8)
        for index in range(120):
            begin_s = time.perf_counter()
            sink.write(Frame(rgb, 40_000 * index))
            worst_s = max(worst_s, time.perf_counter() - begin_s)
        assert worst_s < 0.1
        assert sink.dropped > 60
    # The server's end resets the connection, so that closing does not wait for a timeout.
    sink.close()


def test_no_thread_is_left(tmp_path):
    before = set(threading.enumerate())
    recorder = Recorder(96, 64, None)
    recorder.start(tmp_path / "a.mp4")
    recorder.write(frame(0, 0))
    sink = StreamSink("udp://127.0.0.1:9", 96, 64, None)
    sink.write(frame(0, 0))
    recorder.close()
    sink.close()
    assert set(threading.enumerate()) <= before
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]


def test_stopped_before_a_frame_or_after_the_end(tmp_path):
    recorder = Recorder(96, 64, None)
    recorder.start(tmp_path / "a.mp4")
    assert recorder.stop() is None
    recorder.close()
    with pytest.raises(OutputError, match="the run has ended"):
        recorder.start(tmp_path / "b.mp4")
    assert list(tmp_path.iterdir()) == []


def test_a_recording_that_cannot_begin_leaves_no_file(tmp_path, monkeypatch, caplog):
    recorder = Recorder(96, 64, None)

    def fail(_path):
        raise OutputError("no space left")

    monkeypatch.setattr(recorder, "_encoder", fail)
    recorder.start(tmp_path / "a.mp4")
    recorder.write(frame(0, 0))
    recorder.close()
    assert "no space left" in caplog.text
    assert list(tmp_path.iterdir()) == []
