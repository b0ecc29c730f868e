"""Enhanced frames go out to a virtual camera here, for other programs to pick up."""

from __future__ import annotations

import logging
import re
import time
from collections import deque
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pyvirtualcam
from numpy.typing import NDArray
from pyvirtualcam import PixelFormat

from cagface_core import DeviceError, Frame
from realtime.plain import fit, i420_rows, rgb_of
from realtime.v4l2_format import output_format
from realtime.virtualcam_fix import collect_facts, fix_for, hidden_from_browsers

_log = logging.getLogger(__name__)

_DEFAULT_RATE_HZ = 30.0
_SMALLER_SIZES = ((1920, 1080), (1280, 720), (640, 480))
"""What is tried when a virtual camera refuses the size: all of them, and all calls, know these."""
_LOOK_S = 1.0

# RGB is what every backend of pyvirtualcam takes, and its own conversion is the fastest there is:
# 0.21 ms for 1280x960 into v4l2loopback's I420, where OpenCV's takes 0.42 (0.37 against 0.70 at
# 1920x1080). On Windows and macOS it goes straight to the backend's NV12, BGRA or UYVY, as it does
# from I420. Only a v4l2loopback device that a reader or its settings hold to a packed format needs
# a conversion of ours, and single frames in RGB among others in I420.
_USUAL_FOURCC = "YU12"
_PACKED = {
    "YUYV": (PixelFormat.YUYV, cv2.COLOR_RGB2YUV_YUYV),
    "UYVY": (PixelFormat.UYVY, cv2.COLOR_RGB2YUV_UYVY),
}


class VirtualCameraSink:
    """The first virtual camera that takes the size, or the one named.

    Virtual cameras carry 4:2:0 pictures, so an odd last row or column is cut off. One that
    refuses the size gets the picture fitted into the next smaller usual size that it takes.

    Args:
        width: of the frames to come, in pixels.
        height: of the frames to come, in pixels.
        rate: the rate to announce in Hz; None means 30.
        device: the camera's name or device file; None takes the first.
        planes: frames come as `I420`, but for single ones.
        clock: seconds; when to look whether the device is still there.

    Raises:
        DeviceError: there is none; says what was tried, and what to do on this system.
    """

    def __init__(
        self,
        width: int,
        height: int,
        rate: Fraction | None,
        device: str | None = None,
        *,
        planes: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._asked = (width & ~1, height & ~1)
        self.rate_hz = float(rate) if rate else _DEFAULT_RATE_HZ
        usual = PixelFormat.I420 if planes else PixelFormat.RGB
        self._camera, self.size = self._open(device, usual)
        self.description = f"virtual camera {self._camera.device}"
        if self.size != self._asked:
            self.description += f" ({self.size[0]}x{self.size[1]})"
        self._file = Path(self._camera.device) if "/dev/" in self._camera.device else None
        self._clock, self._next_look_s = clock, clock() + _LOOK_S
        if hidden_from_browsers():
            _log.warning(
                "v4l2loopback was loaded without exclusive_caps=1: browsers will not list %s; "
                "run: sudo modprobe -r v4l2loopback && sudo modprobe v4l2loopback exclusive_caps=1",
                self.description,
            )

    def write(self, frame: Frame) -> None:
        """Send one frame, RGB or `I420`, of the size given at the start. Raises `DeviceError`."""
        size = _size(frame)
        if size != self._asked:
            raise ValueError(f"a frame of {size} came to a virtual camera of {self._asked}")
        sent = self._converted(frame)
        try:
            self._look()
            self._camera.send(sent)
        except (RuntimeError, OSError) as error:
            raise DeviceError(f"{self.description} takes no more frames ({error})") from error

    def finish(self) -> None:
        """Nothing to make permanent."""

    def close(self) -> None:
        """Give the camera back."""
        self._camera.close()

    def _converted(self, frame: Frame) -> NDArray[np.uint8]:
        """What the camera is sent of a frame."""
        fmt, (width, height) = self._camera.fmt, self._asked
        if fmt is PixelFormat.I420 and frame.planes is not None and self.size == self._asked:
            return i420_rows(frame)
        rgb = fit(rgb_of(frame)[:height, :width], *self.size)
        if fmt is PixelFormat.I420:
            return i420_rows(Frame(rgb))
        for packed, conversion in _PACKED.values():
            if fmt is packed:
                return np.asarray(cv2.cvtColor(rgb, conversion), np.uint8)
        return np.ascontiguousarray(rgb)

    def _look(self) -> None:
        """Once a second: a v4l2loopback device that is gone takes frames without an error."""
        if self._file is not None and self._clock() >= self._next_look_s:
            self._next_look_s = self._clock() + _LOOK_S
            self._file.stat()

    def _open(
        self, device: str | None, usual: PixelFormat
    ) -> tuple[pyvirtualcam.Camera, tuple[int, int]]:
        """The camera, and its size; sent in the usual format unless it is held to a packed one."""
        waiting = deque((*size, _USUAL_FOURCC) for size in sizes_to_try(*self._asked))
        tried: dict[tuple[int, int, str], str] = {}
        while waiting:
            attempt = waiting.popleft()
            if attempt in tried:
                continue
            width, height, fourcc = attempt
            fmt = _PACKED[fourcc][0] if fourcc in _PACKED else usual
            camera = None
            try:
                camera = pyvirtualcam.Camera(width, height, self.rate_hz, fmt=fmt, device=device)
                tried[attempt] = ""
                name = camera.device
            except RuntimeError as error:
                tried[attempt] = "; ".join(str(error).split("\n"))
                named = re.search(r"/dev/video\d+", tried[attempt])
                name = device or (named[0] if named else "")
            # v4l2loopback says yes to a size that it does not take while it is held to another,
            # and pyvirtualcam does not look; the receiver would see noise.
            held = output_format(name)
            if camera is not None:
                if held is None or (held.width, held.height, held.fourcc) == attempt:
                    self._tell(attempt, tried)
                    return camera, (width, height)
                camera.close()
                tried[attempt] = f"{name} keeps to {held}"
            if held is not None and held.fourcc in (_USUAL_FOURCC, *_PACKED):
                waiting.appendleft((held.width, held.height, held.fourcc))
        reasons = _told(tried)
        fix = fix_for(collect_facts(device))
        raise DeviceError(f"no virtual camera ({reasons}): {fix}; or pass --no-virtual-camera")

    def _tell(self, chosen: tuple[int, int, str], tried: dict[tuple[int, int, str], str]) -> None:
        if chosen[:2] != self._asked:
            _log.warning(
                "the virtual camera does not take %dx%d and gets %dx%d, the picture fitted into "
                "it (%s)",
                *self._asked,
                *chosen[:2],
                _told({attempt: why for attempt, why in tried.items() if why}),
            )


def _size(frame: Frame) -> tuple[int, int]:
    """Width and height, without an odd last column or row."""
    picture = frame.planes
    height, width = (picture.height, picture.width) if picture else frame.rgb.shape[:2]
    return width & ~1, height & ~1


def sizes_to_try(width: int, height: int) -> list[tuple[int, int]]:
    """The size asked for, then the usual ones that have fewer pixels, largest first."""
    smaller = [size for size in _SMALLER_SIZES if size[0] * size[1] < width * height]
    return [(width, height), *smaller]


def _told(tried: dict[tuple[int, int, str], str]) -> str:
    """Each reason once, with the sizes that met it."""
    sizes: dict[str, list[str]] = {}
    for (width, height, _), reason in tried.items():
        sizes.setdefault(reason, []).append(f"{width}x{height}")
    return "; ".join(f"{', '.join(met)}: {reason}" for reason, met in sizes.items())
