"""Plain bicubic enlargement: the passthrough of the loop and the "before" of a comparison."""

from __future__ import annotations

import cv2
import numpy as np

from cagface_core import Image


def upscale(rgb: Image, scale: int) -> Image:
    """Enlarge by bicubic interpolation.

    Args:
        rgb: (H, W, 3) uint8 RGB.
        scale: whole factor, at least 1.

    Returns:
        (scale*H, scale*W, 3) uint8 RGB; ``rgb`` itself for scale 1.
    """
    if scale == 1:
        return rgb
    size = (rgb.shape[1] * scale, rgb.shape[0] * scale)
    return np.asarray(cv2.resize(rgb, size, interpolation=cv2.INTER_CUBIC), dtype=np.uint8)


def side_by_side(before: Image, after: Image) -> Image:
    """Two pictures of one size (H, W, 3) become one of (H, 2*W, 3), ``before`` on the left."""
    return np.concatenate([before, after], axis=1)
