"""This machine's cameras and virtual cameras, with what they can do and what keeps them from it.

Linux tells everything through V4L2. Windows and macOS tell names through FFmpeg and, of each
camera, the mode it opens with through OpenCV.
"""

from __future__ import annotations

import errno
import os
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

from realtime.v4l2 import Ioctl, Mode, modes, query

LOOPBACK_DRIVER = "v4l2 loopback"
_VIRTUAL_NAMES = ("obs virtual camera", "obs-camera", "unity video capture", "cagface")
"""How the virtual cameras of Windows and macOS call themselves among the cameras."""

_MOST_INDICES = 10
_AUDIO = "{33D9A762-90C8-11D0-BD43-00A0C911CE86}"
"""In the names of DirectShow's sound devices."""


@dataclass(frozen=True, slots=True)
class Device:
    """A camera or virtual camera.

    Attributes:
        id: what ``--webcam`` or ``--virtual-camera`` takes: "0", "/dev/video2".
        name: as its maker or user calls it.
        virtual: frames given to it show up as a camera in other programs.
        captures: frames can be taken from it now.
        takes_output: frames can be given to it now.
        driver: the kernel's or the system's.
        modes: in which it captures; empty where the system does not tell.
        problem: what keeps it from being used, and what to do; empty where nothing does.
        used_by: the programs of this user that have it open.
    """

    id: str
    name: str
    virtual: bool = False
    captures: bool = True
    takes_output: bool = False
    driver: str = ""
    modes: tuple[Mode, ...] = ()
    problem: str = ""
    used_by: tuple[str, ...] = ()


def find_devices() -> list[Device]:
    """All of them, in the system's order; never raises for a device that does not work."""
    if sys.platform.startswith("linux"):
        return linux_devices(_fcntl_ioctl())
    return other_devices(_enumerated(), _open_with_opencv)


def linux_devices(
    ioctl: Ioctl, dev: Path = Path("/dev"), sys_root: Path = Path("/sys"),
    proc: Path = Path("/proc"),
) -> list[Device]:  # fmt: skip
    """The video devices of a Linux machine, without nodes that only carry metadata.

    Args:
        ioctl: asks a device.
        dev: where the devices' files are.
        sys_root: where the kernel tells their names.
        proc: where the kernel tells which programs have them open.
    """
    found: list[Device] = []
    paths = [path for path in dev.glob("video*") if re.fullmatch(r"video\d+", path.name)]
    for path in sorted(paths, key=lambda path: int(path.name.removeprefix("video"))):
        names = sys_root / "class" / "video4linux" / path.name / "name"
        name = names.read_text(encoding="utf-8").strip() if names.is_file() else path.name
        try:
            fd = os.open(path, os.O_RDWR | os.O_NONBLOCK)
        except OSError as error:
            found.append(Device(str(path), name, problem=_refusal(path, error)))
            continue
        try:
            device = _ask_device(path, name, fd, ioctl)
        finally:
            os.close(fd)
        if device is not None:
            found.append(device)
    return [_with_users(device, proc) for device in found]


def _ask_device(path: Path, name: str, fd: int, ioctl: Ioctl) -> Device | None:
    try:
        capability = query(fd, ioctl)
    except OSError as error:
        problem = f"it does not answer as a video device ({error.strerror}); plug it in again"
        return Device(str(path), name, captures=False, problem=problem)
    virtual = capability.driver == LOOPBACK_DRIVER
    if not virtual and not capability.captures:
        return None
    found = tuple(modes(fd, capability, ioctl)) if capability.captures else ()
    return Device(
        str(path), name, virtual, capability.captures, virtual and capability.takes_output,
        capability.driver, found,
        "" if found or virtual else "it tells no modes: plug it in again",
    )  # fmt: skip


def _refusal(path: Path, error: OSError) -> str:
    """Why a device cannot be opened, and what to do."""
    if error.errno in (errno.EACCES, errno.EPERM):
        return "no permission: run `sudo usermod -aG video $USER`, then log in again"
    if error.errno == errno.EBUSY:
        return "another program has it: close that one"
    if error.errno in (errno.ENODEV, errno.ENXIO, errno.ENOENT):
        return "it was unplugged: plug it in again"
    return f"{path} cannot be opened ({error.strerror})"


def _with_users(device: Device, proc: Path) -> Device:
    return replace(device, used_by=users_of(Path(device.id), proc))


def users_of(device: Path, proc: Path = Path("/proc")) -> tuple[str, ...]:
    """The programs that have a device open, without this one, as far as they may be looked at."""
    found: set[str] = set()
    for folder in proc.glob("[0-9]*"):
        if folder.name == str(os.getpid()):
            continue
        try:
            if any(_leads_to(link, device) for link in (folder / "fd").iterdir()):
                name = (folder / "comm").read_text(encoding="utf-8").strip()
                found.add(f"{name} (process {folder.name})")
        except OSError:
            continue  # it has ended, or belongs to somebody else
    return tuple(sorted(found))


def _leads_to(link: Path, target: Path) -> bool:
    try:
        return os.readlink(link) == str(target)  # noqa: PTH115
    except OSError:
        return False  # closed since it was listed


def other_devices(names: Sequence[str], open_index: Callable[[int], Mode | None]) -> list[Device]:
    """The cameras of a system without V4L2.

    Args:
        names: as the system lists them, in the order of OpenCV's numbers.
        open_index: opens a camera by its number; the mode that it starts with, None where it does
            not open.
    """
    found: list[Device] = []
    for index in range(max(len(names), _MOST_INDICES)):
        name = names[index] if index < len(names) else ""
        virtual = any(word in name.lower() for word in _VIRTUAL_NAMES)
        # A virtual camera that nobody feeds gives no picture, and that is as it should be.
        mode = None if virtual else open_index(index)
        if mode is None and not name:
            break  # behind the last one
        problem = (
            ""
            if mode or virtual
            else (
                "it does not open: close other programs that use it, and allow this one the camera "
                "in the system's privacy settings"
            )
        )
        known = (mode,) if mode else ()
        found.append(Device(str(index), name or f"camera {index}", virtual, not virtual, virtual,
                            modes=known, problem=problem))  # fmt: skip
    return found


def _enumerated() -> list[str]:
    """The names of the cameras, from FFmpeg; none where it cannot tell."""
    import av

    system = {"win32": "dshow", "darwin": "avfoundation"}.get(sys.platform)
    if system is None:
        return []
    try:
        listed = av.enumerate_input_devices(system)
    except (ValueError, OSError):  # av.FFmpegError is an OSError
        return []
    return [
        device.description or device.name
        for device in listed
        # DirectShow's that tell no type are cameras too, OBS's among them, but for sound devices.
        if ("video" in device.media_types or not (device.media_types or _AUDIO in device.name))
        and "capture screen" not in device.description.lower()
    ]


def _open_with_opencv(index: int) -> Mode | None:
    """Open a camera for a moment; the mode that it starts with."""
    import cv2

    backend = {"win32": cv2.CAP_DSHOW, "darwin": cv2.CAP_AVFOUNDATION}.get(
        sys.platform, cv2.CAP_ANY
    )
    level = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    capture = cv2.VideoCapture(index, backend)
    try:
        if not capture.isOpened():
            return None
        width, height = (
            round(capture.get(what))
            for what in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT)
        )
        rate_hz = capture.get(cv2.CAP_PROP_FPS)
        rates = (Fraction(rate_hz).limit_denominator(1001),) if 1 <= rate_hz <= 1000 else ()
        return Mode("", width, height, rates)
    finally:
        capture.release()
        cv2.utils.logging.setLogLevel(level)


def _fcntl_ioctl() -> Ioctl:
    import fcntl  # not on Windows

    return lambda fd, number, buffer: fcntl.ioctl(fd, number, buffer, True)
