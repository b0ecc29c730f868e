"""Frames of a stream in, whether each begins a new shot out."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from cagface_core.types import Image


class CutDetector:
    """Tells hard cuts (and changes of frame size) from motion. Plain state, no threads.

    Compares 32x18 thumbnails' brightness. A cut differs much from the frame before *and* much
    more than the frames before differed from each other, so fast motion and flashes of a
    shaking camera do not count as a row of cuts.
    """

    MIN_CHANGE = 0.10
    """Mean absolute change of a cut at least, of the full range."""
    MIN_RATIO = 2.0, 4.0
    """How many times the recent change a cut is at least: the first where it is a sure change, else
    the second."""
    SURE_CHANGE = 0.20
    """More than few motions change: a cut right after a fast pan is one too."""

    def __init__(self) -> None:
        """Start before the first frame."""
        self._size: tuple[int, ...] = ()
        self._thumbnail: NDArray[np.float32] | None = None
        self._usual_change = 0.0

    def is_cut(self, rgb: Image) -> bool:
        """Take the next frame, (H, W, 3) uint8 RGB; the first frame of a stream is a cut too."""
        # Averaging every pixel of a large frame would take ten times as long and tell no more.
        samples = cv2.resize(rgb, (160, 90), interpolation=cv2.INTER_NEAREST)
        gray = cv2.cvtColor(
            cv2.resize(samples, (32, 18), interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY
        )
        thumbnail = np.asarray(gray, np.float32) / 255.0
        before, size_before = self._thumbnail, self._size
        self._thumbnail, self._size = thumbnail, rgb.shape
        if before is None or size_before != rgb.shape:
            self._usual_change = 0.0
            return True
        change = float(np.abs(thumbnail - before).mean())
        least, most = self.MIN_RATIO
        usual = self._usual_change
        more = max(least * usual, min(self.SURE_CHANGE, most * usual))
        is_cut = change > max(self.MIN_CHANGE, more)
        if is_cut:
            self._usual_change = 0.0
        else:
            self._usual_change += 0.3 * (change - self._usual_change)
        return is_cut

    def reset(self) -> None:
        """Forget the stream: the next frame is a first one."""
        self.__init__()
