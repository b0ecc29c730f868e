"""Several looks at a time."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from cagface_core.blazeface import BlazeFaceDetector


def test_mediapipes_images_are_made_one_after_the_other(monkeypatch: pytest.MonkeyPatch):
    """Made at a time they undo each other's declarations of C functions."""
    at_once, most = 0, 0
    counting = threading.Lock()

    def make(**options: Any) -> object:
        nonlocal at_once, most
        with counting:
            at_once += 1
            most = max(most, at_once)
        time.sleep(0.02)
        image = mediapipe.Image(**options)
        with counting:
            at_once -= 1
        return image

    picture = np.zeros((64, 64, 3), np.uint8)
    with BlazeFaceDetector("short") as one, BlazeFaceDetector("short") as other:
        mediapipe = one._mediapipe
        for detector in (one, other):
            stand_in = SimpleNamespace(Image=make, ImageFormat=mediapipe.ImageFormat)
            monkeypatch.setattr(detector, "_mediapipe", stand_in)
        with ThreadPoolExecutor(2) as threads:
            looks = [threads.submit(d.detect, picture) for d in (one, other) * 4]
            assert [look.result() for look in looks] == [[]] * 8
    assert most == 1
