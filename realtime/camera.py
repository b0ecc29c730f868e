"""A camera's pictures come in through OpenCV."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from fractions import Fraction

import cv2
import numpy as np

from cagface_core import DeviceError, Frame, Image
from realtime.source import CameraRequest, SourceInfo

_log = logging.getLogger(__name__)

_FIRST_FRAME_TRIES = 10
"""Some cameras give a few empty reads while they wake up."""

_BACKENDS = {
    "linux": (("V4L2", cv2.CAP_V4L2),),
    # DirectShow opens in a fraction of the time Media Foundation takes with MJPG cameras.
    "win32": (("DirectShow", cv2.CAP_DSHOW), ("Media Foundation", cv2.CAP_MSMF)),
    "darwin": (("AVFoundation", cv2.CAP_AVFOUNDATION),),
}

_FIXES = {
    "linux": "plug it in, see which exist with `ls /dev/video*`, close other programs that use "
    "it, and check that you are in the group `video`",
    "win32": "plug it in, close other programs that use it, and allow desktop apps under "
    "Settings > Privacy & security > Camera",
    "darwin": "plug it in, close other programs that use it, and allow your terminal under "
    "System Settings > Privacy & Security > Camera",
}


class CameraSource:
    """A camera, asked for MJPG, in RGB, with times in microseconds of the monotonic clock.

    Args:
        device: a number ("0") or a device file ("/dev/video0").
        request: the size and rate asked for; what is given instead is logged.

    Raises:
        DeviceError: not there, in use, or without a picture; says what to do on this system.
    """

    def __init__(self, device: str, request: CameraRequest) -> None:
        self._device = device
        self._capture, first = _open(device, request)
        height, width = first.shape[:2]
        asked = (request.width or width, request.height or height)
        if (width, height) != asked:
            _log.warning("camera %s gives %dx%d instead of %dx%d", device, width, height, *asked)
        rate_hz = self._capture.get(cv2.CAP_PROP_FPS)
        self.info = SourceInfo(
            name=f"camera {device}",
            width=width,
            height=height,
            time_base=Fraction(1, 1_000_000),
            rate=Fraction(rate_hz).limit_denominator(1001) if 1 <= rate_hz <= 1000 else None,
            live=True,
        )

    def frames(self) -> Iterator[Frame]:
        """Frames until the camera is unplugged, which raises `DeviceError`."""
        last_pts = -1
        while True:
            ok, bgr = self._capture.read()
            pts = max(time.monotonic_ns() // 1000, last_pts + 1)
            if not ok:
                raise DeviceError(
                    f"camera {self._device} gives no more pictures; is it plugged in?"
                )
            if bgr.shape[:2] != (self.info.height, self.info.width):
                raise DeviceError(f"camera {self._device} changed its picture size; start again")
            last_pts = pts
            yield Frame(_rgb(bgr), pts, self.info.time_base)

    def close(self) -> None:
        """Release the camera."""
        self._capture.release()


def _open(device: str, request: CameraRequest) -> tuple[cv2.VideoCapture, Image]:
    """Try each of the system's backends; the error names every attempt."""
    attempts: list[str] = []
    with _quiet_opencv():
        for name, backend in _BACKENDS.get(sys.platform, (("any", cv2.CAP_ANY),)):
            capture = cv2.VideoCapture(int(device) if device.isdecimal() else device, backend)
            if not capture.isOpened():
                attempts.append(f"{name}: does not open")
                continue
            # The pixel format comes first: uncompressed video limits size and rate on USB 2.
            capture.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*"MJPG"))
            if request.width and request.height:
                capture.set(cv2.CAP_PROP_FRAME_WIDTH, request.width)
                capture.set(cv2.CAP_PROP_FRAME_HEIGHT, request.height)
            if request.rate_hz:
                capture.set(cv2.CAP_PROP_FPS, request.rate_hz)
            for _ in range(_FIRST_FRAME_TRIES):
                ok, bgr = capture.read()
                if ok:
                    return capture, _rgb(bgr)
            capture.release()
            attempts.append(f"{name}: opens but gives no picture")
    fix = _FIXES.get(sys.platform, "plug it in and close other programs that use it")
    raise DeviceError(
        f"no camera {device} ({'; '.join(attempts)}): {fix}; or try another, such as --webcam 1, "
        "or a file"
    )


def _rgb(bgr: cv2.typing.MatLike) -> Image:
    return np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), dtype=np.uint8)


@contextmanager
def _quiet_opencv() -> Generator[None]:
    """Opening prints one warning per attempt; the attempts are in our own message."""
    level = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        yield
    finally:
        cv2.utils.logging.setLogLevel(level)
