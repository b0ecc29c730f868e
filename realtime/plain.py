"""Plain enlargement: the passthrough of the loop, the "before" of a comparison, other sizes."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from cagface_core import NO_RGB, Enhanced, Frame, Image, Plane, Planes, upscale_planes


def upscale(rgb: Image, scale: int) -> Image:
    """Enlarge by bicubic interpolation.

    Args:
        rgb: (H, W, 3) uint8 RGB, or one channel, (H, W).
        scale: whole factor, at least 1.

    Returns:
        (scale*H, scale*W, 3) uint8 RGB, or (scale*H, scale*W); ``rgb`` itself for scale 1.
    """
    if scale == 1:
        return rgb
    size = (rgb.shape[1] * scale, rgb.shape[0] * scale)
    return np.asarray(cv2.resize(rgb, size, interpolation=cv2.INTER_CUBIC), dtype=np.uint8)


def untouched(frame: Frame, scale: int) -> Enhanced:
    """A frame that passes through: enlarged, not enhanced, in planes if it came in planes."""
    if frame.planes is None:
        return Enhanced(upscale(frame.rgb, scale))
    return Enhanced(NO_RGB, planes=upscale_planes(frame.planes, scale))


def rgb_of(picture: Frame | Enhanced) -> Image:
    """A picture in RGB or `I420` as (H, W, 3) uint8 RGB; its own pixels if it is in RGB."""
    if picture.planes is None:
        return picture.rgb
    rows = _joined(picture.planes)
    return np.asarray(cv2.cvtColor(rows, cv2.COLOR_YUV2RGB_I420), np.uint8)


def i420_rows(frame: Frame) -> NDArray[np.uint8]:
    """A frame, in RGB or `I420`, as encoders and virtual cameras take it.

    Returns:
        (3*H/2, W) uint8, `I420` with its planes joined; without an odd last row or column.
    """
    if frame.planes is not None:
        return _joined(frame.planes)
    height, width = (side & ~1 for side in frame.rgb.shape[:2])
    rows = cv2.cvtColor(frame.rgb[:height, :width], cv2.COLOR_RGB2YUV_I420)
    return np.asarray(rows, np.uint8)


def _joined(picture: Planes) -> NDArray[np.uint8]:
    flat = np.concatenate([plane.reshape(-1) for plane in picture.planes])
    return np.asarray(flat, np.uint8).reshape(3 * picture.height // 2, picture.width)


def side_by_side(before: Image, after: Image) -> Image:
    """Two pictures of one size (H, W, 3) become one of (H, 2*W, 3), ``before`` on the left."""
    return np.concatenate([before, after], axis=1)


def planes_side_by_side(before: Planes, after: Planes) -> Planes:
    """Two pictures of one size become one of twice the width, ``before`` on the left."""
    width = 2 * before.width
    joined: list[Plane] = []
    for index, pair in enumerate(zip(before.planes, after.planes, strict=True)):
        across = before.layout.chroma_px[0] if index in (1, 2) else 1
        # Odd widths: the two last columns of chroma share a pixel.
        joined.append(np.concatenate(pair, axis=1)[:, : -(-width // across)])
    return Planes(tuple(joined), before.layout)


def fit(rgb: Image, width: int, height: int) -> Image:
    """Bring a picture of any size to one of ``width`` x ``height``, whole and in proportion.

    Args:
        rgb: (H, W, 3) uint8 RGB.
        width: wanted, in pixels.
        height: wanted, in pixels.

    Returns:
        (height, width, 3) uint8 RGB, black where the proportions differ; ``rgb`` itself if it
        has this size already.
    """
    if rgb.shape[:2] == (height, width):
        return rgb
    factor = min(width / rgb.shape[1], height / rgb.shape[0])
    w, h = (max(1, min(most, round(factor * side))) for most, side in (
        (width, rgb.shape[1]), (height, rgb.shape[0])
    ))  # fmt: skip
    kernel = cv2.INTER_CUBIC if factor > 1 else cv2.INTER_AREA
    fitted = np.asarray(cv2.resize(rgb, (w, h), interpolation=kernel), dtype=np.uint8)
    if (h, w) == (height, width):
        return fitted
    canvas = np.zeros((height, width, 3), np.uint8)
    top, left = (height - h) // 2, (width - w) // 2
    canvas[top : top + h, left : left + w] = fitted
    return canvas
