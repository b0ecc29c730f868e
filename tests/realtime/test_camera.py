"""A camera on a bad day: cold, slow, damaged, resized, unplugged, hanging, back again."""

from __future__ import annotations

import itertools
import logging
import threading
import time
from contextlib import closing
from dataclasses import replace
from fractions import Fraction
from itertools import islice, pairwise

import numpy as np
import pytest

from cagface_core import DeviceError, EnhancerConfig, FaceEnhancer, Frame
from realtime import camera
from realtime.camera import CameraSource
from realtime.loop import LoopOptions, run_loop
from realtime.reconnect import Patience, Reconnecting, waiting_picture
from realtime.run import LiveJob, run_live
from realtime.source import CameraRequest, SourceInfo, open_source
from realtime.stats import Stats
from tests.realtime.fake_camera import BROKEN, EMPTY, HANG, FakeCamera
from tests.realtime.helpers import ListSink, PlainEnhancer, picture

VGA, SMALL = (64, 48), (32, 24)
QUICK = Patience(quiet_s=0.1, waiting_s=0.01, first_s=0.005, most_s=0.01)


@pytest.fixture(autouse=True)
def _all_threads_end():
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) == before


@pytest.fixture
def plug(monkeypatch):
    def plug(*openings, **facts):
        fake = FakeCamera(list(openings), **facts)
        monkeypatch.setattr("cv2.VideoCapture", fake)
        return fake

    return plug


def reopening(patience=QUICK):
    return Reconnecting(lambda: CameraSource("0", CameraRequest()), "camera 0", patience)


def until(event, step):
    """A camera that gives one thing until it is unplugged."""
    while not event.is_set():
        yield step


def size(frame):
    return frame.rgb.shape[1], frame.rgb.shape[0]


def test_a_camera_is_asked_and_gives_what_it_has(plug, caplog):
    # The first read of a cold camera is often empty, and so is a damaged picture.
    fake = plug([EMPTY, VGA, VGA, EMPTY, VGA, SMALL])
    source = CameraSource("0", CameraRequest(1280, 720, 30))
    assert "gives 64x48 instead of 1280x720" in caplog.text
    assert source.info.live
    assert source.info.rate == camera.Fraction(2997, 100).limit_denominator(1001)
    frames = []
    with pytest.raises(DeviceError, match="plugged in"):
        frames.extend(source.frames())
    source.close()
    assert [size(frame) for frame in frames] == [VGA, VGA, SMALL]
    assert tuple(frames[0].rgb[0, 0]) == (0, 0, 200)
    assert all(a.pts < b.pts for a, b in pairwise(frames))
    assert fake.in_use == 0


@pytest.mark.parametrize(
    ("age_s", "expected_s"), [(0.02, 0.02), (5.0, 0.0), (-3.0, 0.0), (None, 0.0)]
)
def test_the_drivers_time_stamp_is_used_where_it_can_be_one(plug, monkeypatch, age_s, expected_s):
    monkeypatch.setattr(camera.sys, "platform", "linux")
    stamps = None if age_s is None else (time.monotonic() - age_s for _ in itertools.count())
    plug([VGA] * 3, clock_s=stamps)
    monkeypatch.setattr(camera, "_BACKENDS", {"linux": (("V4L2", 0),)})
    source = CameraSource("0", CameraRequest())
    before_s = time.perf_counter()
    frame = next(source.frames())
    source.close()
    assert frame.captured_s is not None
    assert frame.captured_s == pytest.approx(before_s - expected_s, abs=0.015)


@pytest.mark.parametrize(("true_hz", "warned"), [(15.0, True), (28.5, False), (60.0, True)])
def test_a_rate_that_is_not_what_it_claims_is_told_once(plug, caplog, true_hz, warned):
    plug([VGA])
    source = CameraSource("0", CameraRequest())
    source.close()
    rate = camera._TrueRate(source.info)
    for burst in range(5):
        rate.add(0.001 * burst)
    for index in range(200):
        rate.add(0.004 + (index + 1) / true_hz)
    assert [f"gives {true_hz:.1f} pictures a second, not the 30.0" in m for m in caplog.messages] \
        == [True] * warned  # fmt: skip


def test_an_unplugged_camera_comes_back(plug, caplog):
    unplugged = [threading.Event(), threading.Event()]
    fake = plug(until(unplugged[0], VGA))
    source = reopening()
    frames = source.frames()
    seen = [next(frames)]
    unplugged[0].set()
    seen.append(next(frame for frame in frames if frame.captured_s is None))
    fake.openings += [None, None, until(unplugged[1], SMALL)]
    seen.append(next(frame for frame in frames if frame.captured_s is not None))
    unplugged[1].set()
    seen.append(next(frame for frame in frames if frame.captured_s is None))
    source.close()
    assert fake.in_use == 0
    assert all(a.pts < b.pts for a, b in pairwise(seen))
    assert [size(frame) for frame in seen] == [VGA, VGA, SMALL, SMALL]
    waiting = seen[1].rgb
    assert waiting.max() > 150, "the words are bright"
    assert np.median(waiting[..., 2]) == 200 // 3, "the last picture is dimmed"
    lost = (
        "camera 0 is lost (gives no more pictures; is it plugged in?); "
        "the last picture stays until it is back"
    )
    assert [record.message for record in caplog.records] == [lost, "camera 0 is back", lost]


def test_a_read_that_hangs_does_not_freeze_the_picture(plug, caplog):
    fake = plug([VGA, VGA, HANG], [SMALL] * 500)
    source = reopening()
    frames = source.frames()
    waiting = next(frame for frame in frames if frame.captured_s is None)
    assert "no picture for 0.1 s" in caplog.text
    more = [next(frames) for _ in range(3)]
    assert all(size(frame) == VGA and frame.captured_s is None for frame in more)
    assert more[0].pts > waiting.pts
    fake.let_go.set()
    assert size(next(frame for frame in frames if frame.captured_s is not None)) == SMALL
    source.close()
    assert fake.in_use == 0


def test_closing_ends_the_longest_back_off_at_once(plug):
    plug([VGA] * 2)
    source = reopening(Patience(0.1, 0.01, first_s=3600, most_s=3600))
    frames = source.frames()
    next(frame for frame in frames if frame.captured_s is None)
    began_s = time.perf_counter()
    source.close()
    assert time.perf_counter() - began_s < 0.5
    assert list(frames) == []
    source.close()


def test_a_reader_that_hangs_does_not_hold_up_the_end(plug, caplog):
    fake = plug([VGA, VGA, HANG])
    source = reopening(Patience(0.05, 0.01, end_s=0.02))
    next(frame for frame in source.frames() if frame.captured_s is None)
    with caplog.at_level(logging.INFO, "realtime.reconnect"):
        source.close()
    assert "is left behind" in caplog.text
    fake.let_go.set()
    source._reader.join(10)
    assert fake.in_use == 0, "it releases the camera when the driver lets it go"


def test_back_off_doubles_up_to_its_limit(plug):
    plug([VGA])
    source = reopening(Patience(first_s=0.5, most_s=5.0))
    pauses_s = []

    class Closed(threading.Event):
        def wait(self, timeout=None):
            pauses_s.append(timeout)
            if len(pauses_s) == 6:
                self.set()
            return self.is_set()

    source._closed = Closed()
    list(source.frames())
    source.close()
    assert pauses_s == [0.5, 1.0, 2.0, 4.0, 5.0, 5.0]


def test_what_is_no_failure_of_the_camera_is_raised():
    class Broken(CameraSource):
        def __init__(self):
            self.info = camera.SourceInfo("x", 8, 8, camera.Fraction(1, 1000))

        def frames(self):
            raise ZeroDivisionError

        def close(self):
            pass

    source = Reconnecting(Broken, "x", QUICK)
    with pytest.raises(ZeroDivisionError):
        next(source.frames())
    source.close()


def test_a_camera_that_is_not_there_at_the_start_is_an_error_at_once(plug):
    fake = plug(None)
    with pytest.raises(DeviceError, match="no camera 0"):
        open_source("0")
    assert len(fake.opened) == 1


def test_never_asked_for_frames_it_is_released_too(plug):
    fake = plug([VGA])
    open_source("0").close()
    assert fake.in_use == 0


def test_a_live_run_goes_on_at_one_size_while_the_camera_comes_and_goes(plug):
    plug([VGA] * 20, None, [SMALL] * 20)
    source = reopening()
    stats = Stats()
    summary = run_live(
        LiveJob(source, 2, virtual_camera=False, seconds=0.5), lambda: PlainEnhancer(2), stats=stats
    )
    assert summary.frames > 5
    assert stats.latency is not None
    assert stats.latency.n < summary.frames, "waiting pictures have no latency"
    assert summary.passthrough == 0


def test_the_core_takes_another_size_as_another_shot(repository):
    demo = open_source(str(repository / "assets" / "demo.mp4"))
    frames = list(islice(demo.frames(), 6))
    demo.close()
    small = [frame.rgb[:200, 40:280] for frame in frames[:3]]

    class Resized:
        info = demo.info

        def frames(self):
            for index, rgb in enumerate([*(f.rgb for f in frames[:3]), *small]):
                yield camera.Frame(np.ascontiguousarray(rgb), 40_000 * index)

        def close(self):
            pass

    enhancer, sink, stats = FaceEnhancer(EnhancerConfig(mode="live", scale=2)), ListSink(), Stats()
    run_loop(Resized(), enhancer, sink, LoopOptions(2), stats)
    enhancer.close()
    assert [frame.rgb.shape[:2] for frame in sink.frames] == [(480, 640)] * 3 + [(400, 480)] * 3
    assert stats.summary().passthrough == 0
    assert stats.summary().faces == 6, "found again at once"


def test_a_camera_may_wake_up_with_broken_pictures(plug):
    plug([BROKEN, BROKEN, VGA, VGA])
    with closing(CameraSource("0", CameraRequest())) as source:
        assert (source.info.width, source.info.height) == VGA


class Seldom:
    """A shared screen that rests: it gives a frame now and then, whatever rate it names."""

    def __init__(self, gap_s, count):
        self.info = SourceInfo("screen", *VGA, Fraction(1, 1000), Fraction(90_000), None)
        self._gap_s, self._count = gap_s, count

    def frames(self):
        for index in range(self._count):
            time.sleep(self._gap_s)
            yield Frame(picture(index, *VGA), index, Fraction(1, 1000))
        time.sleep(5 * self._gap_s)

    def close(self):
        pass


def test_a_source_that_is_slow_is_not_lost_again_and_again(caplog):
    patience = replace(QUICK, quiet_s=0.05, waiting_s=0.02, first_s=10.0)
    with closing(Reconnecting(lambda: Seldom(0.15, 12), "screen", patience)) as source:
        seen = 0
        for frame in source.frames():
            seen += frame.captured_s is not None
            if seen == 12:
                break
    assert caplog.text.count("is lost") <= 1, "until it is known how slow it is"


def test_the_waiting_picture_fits_any_size(tmp_path):
    for width, height in ((16, 16), (64, 48), (1920, 1080), (480, 640)):
        rgb = waiting_picture(picture(3, width, height), "waiting for camera 0")
        assert rgb.shape == (height, width, 3)
        assert rgb.dtype == np.uint8
