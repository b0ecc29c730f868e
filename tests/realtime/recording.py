"""A virtual camera that keeps what it is sent, for pyvirtualcam's ``register_backend``."""

from __future__ import annotations

import time
from typing import ClassVar

import numpy as np


class RecordingBackend:
    """Follows `pyvirtualcam.Backend`; every camera opened is in ``cameras``."""

    cameras: ClassVar[list[RecordingBackend]] = []

    def __init__(self, *, width, height, fps, fourcc, device, **_more):
        self.width, self.height, self.fps = width, height, fps
        self.fourcc = fourcc
        self.name = device or "recording camera"
        self.frames = []
        self.times_s = []
        self.closed = False
        self.cameras.append(self)

    def close(self):
        self.closed = True

    def send(self, frame):
        assert not self.closed
        self.times_s.append(time.perf_counter())
        self.frames.append(np.array(frame).reshape(self.height, self.width, 3))

    def device(self):
        return self.name

    def native_fourcc(self):
        return self.fourcc
