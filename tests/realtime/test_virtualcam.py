"""The virtual camera's negotiation and its fixes, on pyvirtualcam's own code."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import pyvirtualcam

from cagface_core import DeviceError, Frame
from realtime.reopening import ReopeningSink
from realtime.virtualcam import VirtualCameraSink, sizes_to_try
from realtime.virtualcam_fix import Device, Facts, collect_facts, fix_for
from tests.realtime.helpers import picture
from tests.realtime.recording import RecordingBackend

LOADED = Facts("linux", loaded=True, installed=True)


@pytest.mark.parametrize(
    ("facts", "expected", "unexpected"),
    [
        (Facts("linux", installed=False), "apt install v4l2loopback-dkms", "Secure Boot"),
        (Facts("linux", installed=True), "not loaded: run: sudo modprobe v4l2loopback", "apt"),
        (Facts("linux", installed=True, secure_boot=True), "mokutil --import", "apt"),
        (Facts("linux", installed=None), "or first install it", "Secure Boot"),
        (LOADED, "without a device: run: sudo modprobe -r", "apt"),
        (
            Facts("linux", loaded=True, devices=(Device("/dev/video9", writable=False),)),
            "no permission to write to /dev/video9: run: sudo usermod -aG video",
            "modprobe",
        ),
        (
            Facts("linux", loaded=True, devices=(Device("/dev/video9", writable=True),)),
            "/dev/video9 is held by another program",
            "usermod",
        ),
        (
            Facts("linux", "/dev/video3", loaded=True, devices=(Device("/dev/video9", True),)),
            "/dev/video3 is not one; there is /dev/video9",
            "modprobe",
        ),
        (Facts("win32", obs_installed=False), "winget install", "virtualcam-install"),
        (Facts("win32", obs_installed=True), "virtualcam-install.bat", "winget"),
        (Facts("win32", obs_installed=True, obs_registered=True), "in use: stop it", "winget"),
        (Facts("darwin", obs_installed=False), "brew install", "Start OBS"),
        (Facts("darwin", obs_installed=True), "allow its system extension", "brew"),
        (Facts("freebsd13"), "no known virtual camera", "modprobe"),
    ],
)
def test_each_cause_has_its_own_fix(facts, expected, unexpected):
    fix = fix_for(facts)
    assert expected in fix
    assert unexpected not in fix
    assert "\n" not in fix


def test_this_system_can_be_asked():
    facts = collect_facts("/dev/video97")
    assert (facts.system, facts.wanted) == (sys.platform, "/dev/video97")
    assert fix_for(facts)


def test_smaller_sizes_are_tried_largest_first():
    assert sizes_to_try(2560, 1920) == [(2560, 1920), (1920, 1080), (1280, 720), (640, 480)]
    assert sizes_to_try(1280, 720) == [(1280, 720), (640, 480)]
    assert sizes_to_try(320, 240) == [(320, 240)]


class PickyBackend(RecordingBackend):
    """Takes 640x480 only; `broken` makes it lose its device."""

    broken = False

    def __init__(self, *, width, height, **more):
        if (width, height) != (640, 480):
            raise RuntimeError(f"cannot do {width}x{height}")
        if type(self).broken:
            raise RuntimeError("no such device")
        super().__init__(width=width, height=height, **more)

    def send(self, frame):
        if type(self).broken:
            raise RuntimeError("device is gone")
        super().send(frame)


@pytest.fixture
def picky(monkeypatch):
    monkeypatch.setattr(PickyBackend, "broken", False)
    pyvirtualcam.register_backend("picky", PickyBackend)
    RecordingBackend.cameras.clear()
    yield PickyBackend
    del pyvirtualcam.camera.BACKENDS["picky"]


def test_a_refused_size_is_replaced_by_one_that_is_taken(picky, caplog):
    sink = VirtualCameraSink(1280, 720, Fraction(25))
    sink.write(Frame(np.full((720, 1280, 3), 200, np.uint8)))
    sink.close()
    (camera,) = picky.cameras
    assert (camera.width, camera.height) == (640, 480)
    sent = camera.frames[0]
    assert (sent[60:420] == 200).all(), "whole and in proportion"
    assert (sent[:60] == 0).all()
    assert (sent[420:] == 0).all()
    (line,) = caplog.messages
    assert "does not take 1280x720 and gets 640x480" in line
    assert "cannot do 1280x720" in line


def test_all_refusals_are_told(picky):
    picky.broken = True
    with pytest.raises(DeviceError) as caught:
        VirtualCameraSink(1920, 1080, None)
    for part in ("cannot do 1920x1080", "cannot do 1280x720", "no such device"):
        assert part in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_camera_that_is_lost_comes_back_while_the_run_goes_on(picky, caplog):
    now = [0.0]
    sink = ReopeningSink(
        lambda: VirtualCameraSink(640, 480, None), patience_s=30, clock=lambda: now[0]
    )
    frame = Frame(picture(0, 640, 480))
    sink.write(frame)
    picky.broken = True
    for now[0] in (0.0, 0.1, 0.6, 1.0, 2.0):
        sink.write(frame)
    picky.broken = False
    for now[0] in (2.1, 4.0, 4.1):
        sink.write(frame)
    sink.close()
    first, second = picky.cameras
    assert (len(first.frames), len(second.frames)) == (1, 2)
    assert first.closed
    assert second.closed
    lost, back = caplog.messages
    assert "device is gone" in lost
    assert "back after 4.0 s" in back


def test_patience_ends_where_nothing_else_is_delivered_to(picky):
    now_s = 0.0
    sink = ReopeningSink(
        lambda: VirtualCameraSink(640, 480, None), patience_s=30, clock=lambda: now_s
    )
    picky.broken = True
    sink.write(Frame(picture(0, 640, 480)))
    now_s = 29.0
    sink.write(Frame(picture(0, 640, 480)))
    now_s = 36.0
    with pytest.raises(DeviceError, match=r"gone for 36 s.*no such device"):
        sink.write(Frame(picture(0, 640, 480)))
    sink.close()


def test_a_device_file_that_goes_away_is_noticed(picky, tmp_path, monkeypatch):
    now_s = 0.0
    device = tmp_path / "dev" / "video0"
    device.parent.mkdir()
    device.touch()
    sink = VirtualCameraSink(640, 480, None, str(device), clock=lambda: now_s)
    sink.write(Frame(picture(0, 640, 480)))
    device.unlink()
    sink.write(Frame(picture(0, 640, 480)))  # looked at once a second only
    now_s = 1.0
    with pytest.raises(DeviceError, match="takes no more frames"):
        sink.write(Frame(picture(0, 640, 480)))
    sink.close()


ON_THE_DRIVER = """
import logging, os, sys
logging.basicConfig(format="%(message)s")
import numpy as np
from cagface_core import I420, NO_RGB, CagfaceError, Frame, Planes
from realtime.virtualcam import VirtualCameraSink
sizes = (960, 1280), (480, 640), (480, 640)
planes = Planes(tuple(np.full(size, 90, np.uint8) for size in sizes), I420)
try:
    sink = VirtualCameraSink(1280, 960, None, planes="PLANES" in os.environ)
    if "PLANES" in os.environ:
        sink.write(Frame(NO_RGB, planes=planes))
    sink.write(Frame(np.zeros((960, 1280, 3), np.uint8)))
    print(*sink.size, sink._camera.fmt)
    sink.close()
except CagfaceError as error:
    print("error:", error)
"""


@pytest.fixture(scope="session")
def loopback(tmp_path_factory):
    """A library that stands for v4l2loopback under /dev/video0, for pyvirtualcam's native code."""
    compiler = shutil.which("cc")
    if not sys.platform.startswith("linux") or compiler is None:
        pytest.skip("needs Linux and a C compiler")
    if Path("/dev/video0").exists():
        pytest.skip("there is a real /dev/video0")
    library = tmp_path_factory.mktemp("loopback") / "loopback.so"
    source = Path(__file__).with_name("loopback.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)

    def run(**settings):
        done = subprocess.run(
            [sys.executable, "-c", ON_THE_DRIVER],
            env={**os.environ, "LD_PRELOAD": str(library), **settings},
            cwd=source.parents[2],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        return done.stdout.strip(), done.stderr

    return run


@pytest.mark.parametrize(
    ("settings", "taken"),
    [
        ({}, "1280 960 RGB"),
        ({"HELD_TO": "800x600:YU12"}, "800 600 RGB"),
        ({"HELD_TO": "800x600:YUYV"}, "800 600 YUYV"),
        ({"HELD_TO": "1280x960:UYVY"}, "1280 960 UYVY"),
        ({"HELD_TO": "800x600:YU12", "REFUSES": "1"}, "800 600 RGB"),
        ({"PLANES": "1"}, "1280 960 I420"),
        ({"PLANES": "1", "HELD_TO": "800x600:YU12"}, "800 600 I420"),
        ({"PLANES": "1", "HELD_TO": "1280x960:UYVY"}, "1280 960 UYVY"),
    ],
)
def test_a_device_that_is_held_to_a_format_gets_that_format(loopback, settings, taken):
    out, err = loopback(**settings)
    assert out == taken
    assert ("800x600, the picture fitted into it" in err) == ("800" in taken)


@pytest.mark.parametrize(
    ("settings", "reason"),
    [({"HELD_TO": "800x600:MJPG"}, "keeps to 800x600 MJPG"), ({"LOCKED": "1"}, "permissions")],
)
def test_a_device_that_cannot_be_used_is_one_line(loopback, settings, reason):
    out, _ = loopback(**settings)
    assert out.startswith("error: no virtual camera")
    assert reason in out
    assert "\n" not in out
