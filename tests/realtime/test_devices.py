"""Cameras and their modes: the kernel's numbers and layouts, and drivers of every kind, made up."""

from __future__ import annotations

import errno
import json
import os
import struct
import sys
from fractions import Fraction
from pathlib import Path

import pytest

from realtime import v4l2
from realtime.cli import main
from realtime.devices import Device, find_devices, linux_devices, other_devices, users_of
from realtime.devices_report import camera_advice, devices_json, devices_table, mode_line
from realtime.v4l2 import Mode

MJPG, YUYV = (int.from_bytes(name, "little") for name in (b"MJPG", b"YUYV"))
UVC = {
    MJPG: {(1280, 720): [(1, 30), (1, 15)], (640, 480): [(1001, 30000)]},
    YUYV: {(640, 480): [(1, 30)]},
}


def test_the_numbers_are_the_kernels():
    assert v4l2.QUERYCAP == 0x80685600
    assert v4l2.ENUM_FMT == 0xC0405602
    assert v4l2.ENUM_FRAMESIZES == 0xC02C564A
    assert v4l2.ENUM_FRAMEINTERVALS == 0xC034564B


class Driver:
    """A kernel driver, in the layouts of linux/videodev2.h, written field by field."""

    def __init__(self, driver="uvcvideo", flags=v4l2.CAPTURE, sizes=None, stepwise=False):
        self.driver, self.flags, self.stepwise = driver, flags, stepwise
        self.sizes = UVC if sizes is None else sizes

    def __call__(self, _fd, number, buffer):
        answers = {
            v4l2.QUERYCAP: self.capability,
            v4l2.ENUM_FMT: self.format,
            v4l2.ENUM_FRAMESIZES: self.size,
            v4l2.ENUM_FRAMEINTERVALS: self.interval,
        }
        try:
            answers[number](buffer)
        except IndexError as error:
            raise OSError(errno.EINVAL, "Invalid argument") from error
        return 0

    def capability(self, buffer):
        struct.pack_into("=16s", buffer, 0, self.driver.encode())
        struct.pack_into("=32s", buffer, 16, b"A camera")
        # The whole device also outputs; what counts is what this node does.
        struct.pack_into("=II", buffer, 84, 0x8000_0000 | v4l2.OUTPUT | self.flags, self.flags)

    def format(self, buffer):
        index, kind = struct.unpack_from("=II", buffer)
        assert kind == 1 + 8 * (self.flags == v4l2.CAPTURE_PLANES)
        struct.pack_into("=I", buffer, 44, list(self.sizes)[index])

    def size(self, buffer):
        index, fourcc = struct.unpack_from("=II", buffer)
        if self.stepwise:
            struct.pack_into("=7I", buffer, 8, 3, 48, 1920, 1, 32, 1080, 1)  # for every index
        else:
            struct.pack_into("=3I", buffer, 8, 1, *list(self.sizes[fourcc])[index])

    def interval(self, buffer):
        index, fourcc, width, height = struct.unpack_from("=4I", buffer)
        if self.stepwise:
            struct.pack_into("=7I", buffer, 16, 3, 1, 60, 1, 1, 0, 0)
        else:
            pair = self.sizes[fourcc][width, height][index]
            struct.pack_into("=3I", buffer, 16, 1, *pair)


def machine(folder: Path, *names: str) -> dict[str, Path]:
    """A /dev, /sys and /proc with these video devices."""
    roots = {"dev": folder / "dev", "sys_root": folder / "sys", "proc": folder / "proc"}
    for root in roots.values():
        root.mkdir()
    for number, name in enumerate(names):
        (roots["dev"] / f"video{number}").touch()
        told = roots["sys_root"] / f"class/video4linux/video{number}"
        told.mkdir(parents=True)
        (told / "name").write_text(f"{name}\n")
    return roots


linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="V4L2 is Linux's own")


@linux
def test_a_usb_camera(tmp_path):
    (camera,) = linux_devices(Driver(), **machine(tmp_path, "HD Webcam"))
    assert (camera.id, camera.name) == (str(tmp_path / "dev/video0"), "HD Webcam")
    assert (camera.virtual, camera.captures, camera.problem) == (False, True, "")
    assert camera.modes == (
        Mode("MJPG", 1280, 720, (Fraction(30), Fraction(15))),
        Mode("MJPG", 640, 480, (Fraction(30000, 1001),)),
        Mode("YUYV", 640, 480, (Fraction(30),)),
    )
    assert [mode_line(mode) for mode in camera.modes[:2]] == [
        "MJPG 1280x720 at 30, 15 Hz",
        "MJPG 640x480 at 29.97 Hz",
    ]


@linux
def test_a_range_of_sizes_and_planes_ends(tmp_path):
    driver = Driver(flags=v4l2.CAPTURE_PLANES, stepwise=True)
    (camera,) = linux_devices(driver, **machine(tmp_path, "CSI"))
    assert camera.modes[0] == Mode("MJPG", 1920, 1080, (Fraction(60), Fraction(1)), (48, 32))
    assert mode_line(camera.modes[0]) == "MJPG 48x32 to 1920x1080 at 60, 1 Hz"
    assert len(camera.modes) == 2


@linux
def test_a_loopback_waits_for_frames_or_is_fed(tmp_path):
    roots = machine(tmp_path, "CAGFace Live")
    idle, fed = (
        linux_devices(Driver("v4l2 loopback", flags), **roots)[0]
        for flags in (v4l2.OUTPUT, v4l2.CAPTURE)
    )
    assert (idle.virtual, idle.takes_output, idle.captures, idle.modes) == (True, True, False, ())
    assert (fed.virtual, fed.takes_output, fed.captures) == (True, False, True)


@linux
def test_metadata_nodes_are_left_out_and_numbers_are_in_order(tmp_path):
    assert linux_devices(Driver(flags=0x0080_0000), **machine(tmp_path, "Metadata")) == []
    (tmp_path / "more").mkdir()
    found = linux_devices(Driver(), **machine(tmp_path / "more", *"abcdefghijkl"))
    assert [device.name for device in found] == list("abcdefghijkl")


@linux
@pytest.mark.parametrize(
    ("number", "message"),
    [(errno.EACCES, "usermod -aG video"), (errno.EBUSY, "close that one"),
     (errno.ENODEV, "plug it in"), (errno.EIO, "cannot be opened")],
)  # fmt: skip
def test_a_device_that_does_not_open_is_told(tmp_path, monkeypatch, number, message):
    roots = machine(tmp_path, "Shy", "Open")
    real = os.open

    def fails(path, flags):
        if str(path).endswith("video0"):
            raise OSError(number, os.strerror(number))
        return real(path, flags)

    monkeypatch.setattr("realtime.devices.os.open", fails)
    shy, other = linux_devices(Driver(), **roots)
    assert message in shy.problem
    assert (other.problem, len(other.modes)) == ("", 3)


@linux
def test_a_file_that_is_no_device_is_told(tmp_path):
    import fcntl

    (found,) = linux_devices(
        lambda fd, number, buffer: fcntl.ioctl(fd, number, buffer, True),
        **machine(tmp_path, "A mere file"),
    )
    assert "does not answer" in found.problem
    assert not found.captures


@linux
def test_who_has_it_open(tmp_path):
    roots = machine(tmp_path, "HD Webcam")
    for pid, target in ((41, "video0"), (42, "video7"), (os.getpid(), "video0")):
        folder = roots["proc"] / str(pid)
        (folder / "fd").mkdir(parents=True)
        (folder / "comm").write_text("zoom\n")
        (folder / "fd/3").symlink_to(roots["dev"] / target)
        (folder / "fd/4").touch()  # no link, as if closed while it was looked at
    (roots["proc"] / "43").mkdir()  # ended meanwhile
    (camera,) = linux_devices(Driver(), **roots)
    assert camera.used_by == ("zoom (process 41)",)
    assert camera.problem == ""


@linux
def test_the_real_proc_knows_a_real_program(tmp_path):
    import subprocess

    file = tmp_path / "video0"
    file.touch()
    with (
        file.open() as held,
        subprocess.Popen(["sleep", "20"], stdin=held) as program,
    ):
        try:
            users = users_of(file)
            (user,) = users
            assert str(program.pid) in user
        finally:
            program.kill()


def test_other_systems_tell_names_and_the_first_mode():
    opened = {0: Mode("", 1280, 720, (Fraction(30),)), 3: Mode("", 64, 48)}
    asked = []

    def open_index(index):
        asked.append(index)
        return opened.get(index)

    found = other_devices(["FaceTime", "OBS Virtual Camera", "Locked"], open_index)
    assert [(device.name, device.virtual) for device in found] == [
        ("FaceTime", False), ("OBS Virtual Camera", True), ("Locked", False), ("camera 3", False),
    ]  # fmt: skip
    assert found[0].modes == (opened[0],)
    assert (found[1].problem, found[1].takes_output) == ("", True)
    assert "privacy" in found[2].problem
    assert asked == [0, 2, 3, 4]


def test_a_machine_without_cameras(capfd, monkeypatch):
    monkeypatch.setattr("realtime.devices.find_devices", list)
    assert main(["devices"]) == 0
    captured = capfd.readouterr()
    assert captured.out == ""
    assert captured.err == f"no camera: {camera_advice()}\n"
    assert main(["devices", "--json"]) == 0
    assert json.loads(capfd.readouterr().out) == []


def test_the_real_machine_does_not_raise():
    assert all(isinstance(device, Device) for device in find_devices())


def test_table_and_json(capsys):
    from rich.console import Console

    devices = [
        Device("/dev/video0", "[HD] Webcam", modes=(Mode("MJPG", 640, 480, (Fraction(30),)),) * 2,
               used_by=("zoom (process 41)",)),
        Device("/dev/video2", "CAGFace Live", virtual=True, captures=False, takes_output=True),
        Device("/dev/video3", "DroidCam", virtual=True),
        Device("/dev/video4", "Shy", problem="no permission: x"),
    ]  # fmt: skip
    Console(width=160).print(devices_table(devices))
    shown = capsys.readouterr().out
    assert shown.count("MJPG 640x480 at 30 Hz") == 1
    for words in ("--webcam 0", "[HD] Webcam", "in use by zoom", "--virtual-camera /dev/video2",
                  "--webcam 3", "fed by another program", "no permission: x"):  # fmt: skip
        assert words in shown
    told = json.loads(json.dumps(devices_json(devices)))
    assert told[0]["modes"][0]["rates_hz"] == [30.0]
    assert [item["kind"] for item in told] == ["camera", *["virtual camera"] * 2, "camera"]
