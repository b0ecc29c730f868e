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

_EMPTY_READS = 5
_EMPTY_S = 0.5
"""A damaged picture is an empty read too. So many, or any after so long, are the end."""

_STAMP_AGE_S = 1.0
"""A time stamp older than this, or in the future, is of another clock."""

_SKIPPED = 5
"""The first pictures come out of the driver's buffers, all at once."""

_RATE_S = 1.0
_RATE_TOLERANCE = 0.1

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
    "darwin": "if macOS has just asked whether your terminal may use the camera, allow it and run "
    "this again; else plug it in, close other programs that use it, and look under "
    "System Settings > Privacy & Security > Camera",
}


class CameraSource:
    """A camera, asked for MJPG, in RGB, with times in microseconds of the monotonic clock.

    `Frame.captured_s` is the driver's own time stamp of the picture on Linux, where it gives one
    (the start of its readout, or the end of its transfer); elsewhere when it was read, decoded.

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
        """Frames until the camera is unplugged, which raises `DeviceError`; sizes may change."""
        last_pts = -1
        empty = 0
        good_s = time.perf_counter()
        rate = _TrueRate(self.info)
        while True:
            ok, bgr = self._read()
            read_s = time.perf_counter()
            if not ok:
                empty += 1
                if empty >= _EMPTY_READS or read_s - good_s > _EMPTY_S:
                    raise DeviceError(
                        f"camera {self._device} gives no more pictures; is it plugged in?"
                    )
                continue
            empty, good_s = 0, read_s
            captured_s = read_s - self._age_s()
            last_pts = max(round(1e6 * captured_s), last_pts + 1)
            rate.add(captured_s)
            yield Frame(_rgb(bgr), last_pts, self.info.time_base, captured_s)

    def _read(self) -> tuple[bool, cv2.typing.MatLike]:
        try:
            return self._capture.read()
        except cv2.error as error:
            raise DeviceError(f"camera {self._device} cannot be read ({error.err})") from error

    def _age_s(self) -> float:
        """How long ago the driver stamped the newest picture; 0 where it gives no stamp."""
        if not sys.platform.startswith("linux"):
            return 0.0
        age_s = time.monotonic() - self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
        return age_s if 0.0 <= age_s <= _STAMP_AGE_S else 0.0

    def close(self) -> None:
        """Release the camera."""
        self._capture.release()


class _TrueRate:
    """Compares the rate at which pictures come with the rate that the camera claims."""

    def __init__(self, info: SourceInfo) -> None:
        self._info = info
        self._count = 0
        self._first_s = 0.0
        self._told = info.rate is None

    def add(self, at_s: float) -> None:
        """Take the next picture's time; after the first second or so it is logged if need be."""
        self._count += 1
        if self._count <= _SKIPPED:
            self._first_s = at_s
            return
        passed_s = at_s - self._first_s
        if self._told or self._info.rate is None or passed_s < _RATE_S:
            return
        self._told = True
        true_hz, claimed_hz = (self._count - _SKIPPED) / passed_s, float(self._info.rate)
        if abs(true_hz - claimed_hz) > _RATE_TOLERANCE * claimed_hz:
            _log.warning(
                "%s gives %.1f pictures a second, not the %.1f it claims%s",
                self._info.name,
                true_hz,
                claimed_hz,
                "; many do so in poor light: try more of it, or a smaller --size"
                if true_hz < claimed_hz
                else "",
            )


def _open(device: str, request: CameraRequest) -> tuple[cv2.VideoCapture, Image]:
    """Try each of the system's backends; the error names every attempt."""
    attempts: list[str] = []
    with _quiet_opencv():
        for name, backend in _BACKENDS.get(sys.platform, (("any", cv2.CAP_ANY),)):
            capture = cv2.VideoCapture(int(device) if device.isdecimal() else device, backend)
            if not capture.isOpened():
                attempts.append(f"{name}: does not open")
                continue
            for wish in _wishes(request, backend):
                capture.set(*wish)
            for _ in range(_FIRST_FRAME_TRIES):
                try:
                    ok, bgr = capture.read()
                except cv2.error:  # the first pictures of a camera that wakes up may be broken
                    continue
                if ok:
                    return capture, _rgb(bgr)
            capture.release()
            attempts.append(f"{name}: opens but gives no picture")
    fix = _FIXES.get(sys.platform, "plug it in and close other programs that use it")
    raise DeviceError(
        f"no camera {device} ({'; '.join(attempts)}): {fix}; or try another, such as --webcam 1, "
        "or a file"
    )


def _wishes(request: CameraRequest, backend: int) -> list[tuple[int, float]]:
    """What a camera is asked for, in the order in which it is: property and value."""
    # Uncompressed video limits size and rate on USB 2. The format comes first, but for DirectShow:
    # there OpenCV forgets it with each size and rate that is set after it.
    wishes = [(cv2.CAP_PROP_FOURCC, float(cv2.VideoWriter.fourcc(*"MJPG")))]
    if request.width and request.height:
        wishes.append((cv2.CAP_PROP_FRAME_WIDTH, request.width))
        wishes.append((cv2.CAP_PROP_FRAME_HEIGHT, request.height))
    if request.rate_hz:
        wishes.append((cv2.CAP_PROP_FPS, request.rate_hz))
    if backend == cv2.CAP_DSHOW:
        wishes.append(wishes.pop(0))
    return wishes


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
