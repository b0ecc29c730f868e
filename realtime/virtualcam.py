"""Enhanced frames go out to a virtual camera here, for other programs to pick up."""

from __future__ import annotations

import sys
from fractions import Fraction

import numpy as np
import pyvirtualcam

from cagface_core import DeviceError, Frame

_DEFAULT_RATE_HZ = 30.0

_FIXES = {
    "linux": "install v4l2loopback (package v4l2loopback-dkms) and run: sudo modprobe "
    'v4l2loopback devices=1 exclusive_caps=1 card_label="CAGFace Live"',
    "win32": "install OBS Studio 26 or newer, start its virtual camera once and close OBS",
    "darwin": "install OBS Studio 30 or newer, start its virtual camera once, allow its system "
    "extension and close OBS",
}


class VirtualCameraSink:
    """The first virtual camera that takes the size, or the one named.

    Virtual cameras carry 4:2:0 pictures, so an odd last row or column is cut off.

    Args:
        width: of the frames to come, in pixels.
        height: of the frames to come, in pixels.
        rate: the nominal rate in Hz; None means 30.
        device: the camera's name or device file; None takes the first.

    Raises:
        DeviceError: there is none; says what to install on this system.
    """

    def __init__(
        self, width: int, height: int, rate: Fraction | None, device: str | None = None
    ) -> None:
        self._size = (width & ~1, height & ~1)
        self.rate_hz = float(rate) if rate else _DEFAULT_RATE_HZ
        try:
            self._camera = pyvirtualcam.Camera(
                *self._size, self.rate_hz, fmt=pyvirtualcam.PixelFormat.RGB, device=device
            )
        except RuntimeError as error:
            attempts = "; ".join(str(error).split("\n"))
            fix = _FIXES.get(sys.platform, "this system has no known virtual camera")
            raise DeviceError(
                f"no virtual camera of {self._size[0]}x{self._size[1]} ({attempts}): {fix}; "
                "or pass --no-virtual-camera"
            ) from error
        self.description = f"virtual camera {self._camera.device}"

    def write(self, frame: Frame) -> None:
        """Send one frame, (H, W, 3) RGB, of the size given at the start."""
        width, height = self._size
        rgb = frame.rgb
        if (rgb.shape[1] & ~1, rgb.shape[0] & ~1) != self._size:
            raise ValueError(f"a frame of {rgb.shape} came to a virtual camera of {self._size}")
        try:
            self._camera.send(np.ascontiguousarray(rgb[:height, :width]))
        except RuntimeError as error:
            raise DeviceError(f"{self.description} takes no more frames ({error})") from error

    def finish(self) -> None:
        """Nothing to make permanent."""

    def close(self) -> None:
        """Give the camera back."""
        self._camera.close()
