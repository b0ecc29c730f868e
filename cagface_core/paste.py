"""What the network added to a crop in; a seamless addition to the upscaled frame out.

The enhancement is pasted as a residual: the network's picture, held to its input, minus the
plain bicubic upscale of the same crop. Where the residual is zero the frame is exactly its plain
upscale, at every output scale, so a seam has nothing to show.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from cagface_core.types import Crop, Image

_FEATHER = 0.14  # of the crop's side
_DEAD_PX = 2  # frame pixels at a cut edge that never show: the network's padding reaches there


def upscale_frame(rgb: Image, scale: int) -> Image:
    """The plain upscale of a whole frame, (H, W, 3) to (scale*H, scale*W, 3) uint8, bicubic."""
    if scale == 1:
        return rgb.copy()
    size = (rgb.shape[1] * scale, rgb.shape[0] * scale)
    return np.asarray(cv2.resize(rgb, size, interpolation=cv2.INTER_CUBIC), np.uint8)


def ramps(
    crop: Crop, reach: tuple[float, float, float], frame_height: int, frame_width: int, scale: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The two sides of the paste mask of a crop, which is their product.

    Args:
        crop: where the enhanced face lies in the frame.
        reach: left, top and side of the square where it is shown, in pixels of the frame.
        frame_height: rows of the frame.
        frame_width: columns of the frame.
        scale: the output scale.

    Returns:
        Rows and columns, (scale*size,) in [0, 1] each: they fall smoothly to 0 before the edges of
        the reach and of the crop, but not at the frame's own borders.
    """
    left, top, side = reach
    return (
        _ramp(crop.y, crop.size, frame_height, scale, top, side),
        _ramp(crop.x, crop.size, frame_width, scale, left, side),
    )


def feather(
    crop: Crop, reach: tuple[float, float, float], frame_height: int, frame_width: int, scale: int
) -> NDArray[np.float32]:
    """The paste mask of a crop, (scale*size, scale*size, 3), equal in all colours; see `ramps`."""
    rows, columns = ramps(crop, reach, frame_height, frame_width, scale)
    # A mask of one channel would make numpy go through a picture three values at a time.
    return (rows[:, None] * columns.repeat(3)[None, :]).reshape(*2 * rows.shape, 3)


def paste(
    canvas: Image, base: Image, residual: NDArray[np.float32], mask: NDArray[np.float32],
    crop: Crop, scale: int,
) -> None:  # fmt: skip
    """Blend one face into the canvas, in place.

    Args:
        canvas: (scale*H, scale*W, 3) uint8, the frame being composed.
        base: the plain upscale; may be ``canvas`` itself when no two crops overlap.
        residual: (scale*size, scale*size, 3) in levels of 0..255.
        mask: (scale*size, scale*size, 3), 0 shows what is there, 1 the enhanced face.
        crop: where the face lies in the frame before upscaling.
        scale: the output scale.
    """
    height, width = canvas.shape[:2]
    top, left, side = crop.y * scale, crop.x * scale, crop.size * scale
    y0, x0, y1, x1 = max(top, 0), max(left, 0), min(top + side, height), min(left + side, width)
    inner = np.s_[y0 - top : y1 - top, x0 - left : x1 - left]
    outer = np.s_[y0:y1, x0:x1]
    there = canvas[outer]
    change = residual[inner]
    if base is not canvas:
        change = change + base[outer] - there
    canvas[outer] = cv2.add(there, mask[inner] * change, dtype=cv2.CV_8U)


def overlap(crops: list[Crop]) -> bool:
    """Whether any two crops share pixels."""
    return any(
        a.x < b.x + b.size and b.x < a.x + a.size and a.y < b.y + b.size and b.y < a.y + a.size
        for i, a in enumerate(crops)
        for b in crops[:i]
    )


def _ramp(
    start: int, size: int, length: int, scale: int, near: float, reach: float
) -> NDArray[np.float32]:
    """One side of the mask: smoothstep at the edges of what is shown, 1 at the frame's borders."""
    position = start + (np.arange(size * scale, dtype=np.float32) + 0.5) / scale
    width = reach * _FEATHER
    ramp = np.ones(size * scale, np.float32)
    if start > 0 or near > 0:
        first = max(near, start + _DEAD_PX) if start > 0 else near
        ramp = np.minimum(ramp, (position - first) / width)
    far, end = near + reach, start + size
    if end < length or far < length:
        last = min(far, end - _DEAD_PX) if end < length else far
        ramp = np.minimum(ramp, (last - position) / width)
    ramp = np.clip(ramp, 0, 1)
    return (ramp * ramp * (3 - 2 * ramp)).astype(np.float32)
