"""``cagface-live`` end to end, into a recording virtual camera: order, size, pacing, ends."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from realtime.cli import live
from realtime.run import LiveJob, Watcher, run_live
from realtime.stats import Stats
from tests.realtime.helpers import Clip, PlainEnhancer


def bar_position(rgb, scale):
    """Where the bright bar of `helpers.picture` stands: it tells the frame number."""
    row = rgb[rgb.shape[0] * 5 // 12].min(axis=1).astype(int)
    return round(float(np.flatnonzero(row > 180).min()) / (4 * scale))


def test_frames_arrive_in_order_at_the_right_size_and_pace(cameras, tmp_path):
    clip = Clip(width=128, pts=range(0, 20 * 512, 512)).write(tmp_path / "in.mp4")
    enhancer, stats = PlainEnhancer(2), Stats()
    summary = run_live(LiveJob(str(clip), 2), lambda: enhancer, stats=stats)
    (camera,) = cameras
    assert (camera.width, camera.height, camera.fps) == (256, 128, 25.0)
    numbers = [bar_position(rgb, 2) for rgb in camera.frames]
    assert numbers == sorted(set(numbers)), "in order, none twice"
    assert numbers[-1] == 19, "the newest frame always arrives"
    assert summary.frames == len(camera.frames) >= 2
    assert summary.frames + summary.dropped == 20
    # 25 Hz: a frame is never early against the first one, however slow the machine is.
    lead_s = camera.times_s[0] - numbers[0] * 0.04
    late_s = [t - lead_s - n * 0.04 for n, t in zip(numbers, camera.times_s, strict=True)]
    assert min(late_s) > -0.04
    assert enhancer.warmed == (64, 128)
    assert camera.closed
    assert enhancer.closed


def test_a_generated_picture_plays_without_a_camera(cameras, capsys):
    code = live(
        ["--webcam", "lavfi:testsrc=size=64x48:rate=30", "--seconds", "0.5"],
        make_enhancer=lambda options: PlainEnhancer(options.scale),
    )
    captured = capsys.readouterr()
    assert code == 0
    assert "virtual camera recording camera: 128x96" in captured.err
    assert "64x48 at 30.00 fps" in captured.err
    assert " fps; " in captured.out
    steps = ("opening lavfi:testsrc", "loading the network", "warming up", "from testsrc=")
    places = [captured.err.index(step) for step in steps]
    assert places == sorted(places), "what it is doing is told from the start"
    assert "to keep lips in sync delay the audio by" in captured.out
    (camera,) = cameras
    assert len(camera.frames) > 3
    assert all(a < b for a, b in pairwise(camera.times_s))


def test_the_camera_that_is_named_is_used(cameras, tmp_path):
    clip = Clip().write(tmp_path / "in.mp4")
    run_live(LiveJob(str(clip), 1, device="studio"), lambda: PlainEnhancer(1))
    assert [camera.name for camera in cameras] == ["studio"]


def test_none_and_null(cameras, tmp_path, capsys):
    clip = Clip().write(tmp_path / "in.mp4")
    code = live(
        ["--webcam", str(clip), "--no-virtual-camera", "--scale", "1"],
        make_enhancer=lambda options: PlainEnhancer(options.scale),
    )
    assert code == 0
    assert cameras == []
    assert "nowhere" in capsys.readouterr().err


def test_ctrl_c_ends_live_cleanly(cameras, tmp_path):
    def interrupt(stats):
        if stats.frames == 3:
            raise KeyboardInterrupt

    enhancer = PlainEnhancer(2)
    with pytest.raises(KeyboardInterrupt):
        run_live(
            LiveJob(str(Clip().write(tmp_path / "in.mp4")), 2, loop=True),
            lambda: enhancer,
            Watcher(on_delivered=interrupt),
        )
    assert cameras[0].closed
    assert enhancer.closed


def test_a_window_that_fails_opens_no_camera(cameras, tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("DISPLAY", raising=False)
    code = live(
        ["--webcam", str(Clip().write(tmp_path / "in.mp4")), "--preview"],
        make_enhancer=lambda options: PlainEnhancer(options.scale),
    )
    assert code == 2
    assert "no screen" in capsys.readouterr().err
    assert cameras == [], "without its window nothing else is opened"


def test_contradicting_options(capsys):
    assert live(["--virtual-camera", "x", "--no-virtual-camera"], make_enhancer=PlainEnhancer) == 2
    assert "contradict" in capsys.readouterr().err


@pytest.mark.parametrize("words", ["--seconds -5", "--seconds nan", "--fps 0", "--fps inf"])
def test_numbers_that_are_none(words, capsys):
    assert live([*words.split(), "--no-virtual-camera"], make_enhancer=PlainEnhancer) == 2
    assert "expected a number above 0" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--output-size 1x480", "2 to 8192 pixels a side"),
        ("--output-size 99999x99999", "2 to 8192 pixels a side"),
        ("--size 1000000000000000000000x2", "2 to 8192 pixels a side"),
        ("--webcam 99999999999", "no camera 99999999999"),
        ("--webcam lavfi:testsrc --stream udp://", "names no host"),
        ("--webcam lavfi:testsrc --stream udp://127.0.0.1", "names no port"),
        ("--webcam lavfi:testsrc --stream tcp://127.0.0.1:99999", "port is not possible"),
        ("--webcam lavfi:testsrc --stream rtmp://me:s3cr3t#x@host/app", "port is not possible"),
        ("--webcam lavfi:testsrc --snapshots pyproject.toml", "is a file, expected a folder"),
    ],
)
def test_what_can_never_work_is_refused_before_anything_is_loaded(words, said, capsys):
    made = []
    try:
        code = live([*words.split(), "--no-virtual-camera"], make_enhancer=made.append)
    except SystemExit as left:
        code = left.code
    assert (code, made) == (2, [])
    told = capsys.readouterr().err
    assert said in told
    assert "s3cr3t" not in told


def test_a_mistake_in_the_source_loads_nothing(capsys):
    made = []
    assert live(["--webcam", "missing.mp4"], make_enhancer=made.append) == 2
    assert made == []
    assert "no such file" in capsys.readouterr().err
