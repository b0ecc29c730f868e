"""A virtual camera that keeps what it is sent, for pyvirtualcam's ``register_backend``."""

from __future__ import annotations

import time
from typing import ClassVar

import cv2
import numpy as np
from pyvirtualcam import PixelFormat


class RecordingBackend:
    """Follows `pyvirtualcam.Backend`; every camera opened is in ``cameras``.

    ``frames`` are what a receiver sees, (H, W, 3) uint8 RGB, ``sent`` what it was made of.
    """

    cameras: ClassVar[list[RecordingBackend]] = []

    def __init__(self, *, width, height, fps, fourcc, device, **_more):
        self.width, self.height, self.fps = width, height, fps
        self.fourcc = fourcc
        self.fmt = PixelFormat(fourcc.to_bytes(4, "little").decode())
        self.name = device or "recording camera"
        self.frames, self.sent = [], []
        self.times_s = []
        self.closed = False
        self.cameras.append(self)

    def close(self):
        self.closed = True

    def send(self, frame):
        assert not self.closed
        self.times_s.append(time.perf_counter())
        self.sent.append(np.array(frame))
        if self.fmt is PixelFormat.I420:
            rows = self.sent[-1].reshape(3 * self.height // 2, self.width)
            self.frames.append(cv2.cvtColor(rows, cv2.COLOR_YUV2RGB_I420))
        else:
            self.frames.append(self.sent[-1].reshape(self.height, self.width, 3))

    def device(self):
        return self.name

    def native_fourcc(self):
        return self.fourcc
