"""The size and pixel format that a V4L2 output device has settled on, read from its driver."""

from __future__ import annotations

import os
import struct
import sys
from dataclasses import dataclass

_VIDEO_OUTPUT = 2
_FORMAT = struct.Struct("=I4xII4s188x")
"""struct v4l2_format on 64-bit systems: type; then of its union width, height, pixelformat."""
_VIDIOC_G_FMT = 0xC0D05604


@dataclass(frozen=True, slots=True)
class OutputFormat:
    """Pixels across and down, and the pixel format's four letters (YU12, YUYV)."""

    width: int
    height: int
    fourcc: str

    def __str__(self) -> str:
        return f"{self.width}x{self.height} {self.fourcc}"


def output_format(device: str) -> OutputFormat | None:
    """What ``device`` takes now; None where that cannot be asked (no V4L2, no permission)."""
    if not sys.platform.startswith("linux"):
        return None
    from fcntl import ioctl

    try:
        descriptor = os.open(device, os.O_WRONLY | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        answer = ioctl(descriptor, _VIDIOC_G_FMT, _FORMAT.pack(_VIDEO_OUTPUT, 0, 0, b""))
    except OSError:
        return None
    finally:
        os.close(descriptor)
    _, width, height, fourcc = _FORMAT.unpack(answer)
    return OutputFormat(width, height, fourcc.decode("ascii", "replace")) if width else None
