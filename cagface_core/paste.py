"""What the network added to a crop in; a seamless addition to the upscaled frame out.

The enhancement is pasted as a residual: the network's picture, held to its input, minus the
plain bicubic upscale of the same crop. Where the residual is zero the frame is exactly its plain
upscale, at every output scale, so a seam has nothing to show.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from cagface_core.types import Change, Crop, Floats, Image

_FEATHER = 0.14  # of the crop's side
_DEAD_PX = 2  # frame pixels at a cut edge that never show: the network's padding reaches there


def upscale_frame(rgb: Image, scale: int) -> Image:
    """The plain upscale of a whole frame, (H, W, 3) to (scale*H, scale*W, 3) uint8, bicubic."""
    if scale == 1:
        return rgb.copy()
    size = (rgb.shape[1] * scale, rgb.shape[0] * scale)
    return np.asarray(cv2.resize(rgb, size, interpolation=cv2.INTER_CUBIC), np.uint8)


def ramps(
    crop: Crop, reach: tuple[float, float, float], frame_height: int, frame_width: int, scale: float
) -> tuple[Floats, Floats]:
    """The two sides of the paste mask of a crop, which is their product.

    Args:
        crop: where the enhanced face lies in the frame.
        reach: left, top and side of the square where it is shown, in pixels of the frame.
        frame_height: rows of the frame.
        frame_width: columns of the frame.
        scale: the output scale, or what the pixels of a coarser mask are to those of the frame.

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
    crop: Crop, reach: tuple[float, float, float], frame_height: int, frame_width: int,
    scale: float, strength: float = 1.0,
) -> Floats:  # fmt: skip
    """The paste mask of a crop, (scale*size, scale*size, 3), equal in all colours; see `ramps`.

    It is ``strength`` where they are 1.
    """
    rows, columns = ramps(crop, reach, frame_height, frame_width, scale)
    if strength < 1:
        rows = rows * np.float32(strength)
    # A mask of one channel would make numpy go through a picture three values at a time.
    return (rows[:, None] * columns.repeat(3)[None, :]).reshape(*2 * rows.shape, 3)


def find_changes(
    crops: Sequence[Crop], residuals: Sequence[Floats], masks: Sequence[Floats],
    frame_height: int, frame_width: int, scale: int,
) -> list[Change]:  # fmt: skip
    """Tell what the faces of a frame add to its upscale; where two overlap, the later one covers.

    Args:
        crops: where the faces lie in the frame before upscaling.
        residuals: (scale*size, scale*size, 3) each, in levels of 0..255, or smaller ones.
        masks: as large, 0 shows what is there, 1 the enhanced face.
        frame_height: rows of the frame before upscaling.
        frame_width: columns of it.
        scale: output scale.

    Returns:
        One change each, cut to the frame; they add up, in any order.
    """
    frame = (0, 0, frame_width, frame_height)
    shown = [shared(square(crop), frame) for crop in crops]

    def part(picture: Floats, i: int, box: Box) -> Floats:
        left, top, right, bottom = (
            scale * (at - start)
            for at, start in zip(box, 2 * (crops[i].x, crops[i].y), strict=True)
        )
        return picture[top:bottom, left:right]

    changes: list[Change] = []
    for i, box in enumerate(shown):
        whole, zoom = masks[i] * residuals[i], scale * crops[i].size // len(residuals[i])
        left, top = scale * box[0], scale * box[1]
        if box == square(crops[i]) and not any(_meet(box, other) for other in shown[i + 1 :]):
            changes.append(Change(left, top, whole, zoom))
            continue
        levels = part(_enlarged(whole, zoom, cv2.INTER_CUBIC), i, box)
        for k in range(i + 1, len(crops)):
            if _meet(box, shown[k]):
                x0, y0, x1, y1 = shared(box, shown[k])
                covered = np.s_[
                    scale * y0 - top : scale * y1 - top, scale * x0 - left : scale * x1 - left
                ]
                finer = scale * crops[k].size // len(masks[k])
                mask = _enlarged(masks[k], finer, cv2.INTER_LINEAR)
                levels[covered] *= 1 - part(mask, k, (x0, y0, x1, y1))
        changes.append(Change(left, top, levels))
    return changes


Box = tuple[int, int, int, int]
"""Left, top, right and bottom in pixels of the frame."""


def square(crop: Crop) -> Box:
    """The box of a crop."""
    return crop.x, crop.y, crop.x + crop.size, crop.y + crop.size


def shared(one: Box, other: Box) -> Box:
    """What two boxes share; where that is nothing, it ends before it begins, or there."""
    return (
        max(one[0], other[0]), max(one[1], other[1]), min(one[2], other[2]), min(one[3], other[3]),
    )  # fmt: skip


def add_to_rgb(canvas: Image, change: Change) -> None:
    """Add a change to (H, W, 3) uint8 RGB, in place."""
    levels = _enlarged(change.levels, change.zoom, cv2.INTER_CUBIC)
    height, width = levels.shape[:2]
    part = canvas[change.y : change.y + height, change.x : change.x + width]
    cv2.add(part, levels, dst=part, dtype=cv2.CV_8U)


def _meet(one: Box, other: Box) -> bool:
    left, top, right, bottom = shared(one, other)
    return left < right and top < bottom


def _enlarged(picture: Floats, zoom: int, kernel: int) -> Floats:
    if zoom == 1:
        return picture
    size = zoom * picture.shape[1], zoom * picture.shape[0]
    return np.asarray(cv2.resize(picture, size, interpolation=kernel), np.float32)


def _ramp(start: int, size: int, length: int, scale: float, near: float, reach: float) -> Floats:
    """One side of the mask: smoothstep at the edges of what is shown, 1 at the frame's borders."""
    position = start + (np.arange(round(size * scale), dtype=np.float32) + 0.5) / scale
    width = reach * _FEATHER
    ramp = np.ones(len(position), np.float32)
    if start > 0 or near > 0:
        first = max(near, start + _DEAD_PX) if start > 0 else near
        ramp = np.minimum(ramp, (position - first) / width)
    far, end = near + reach, start + size
    if end < length or far < length:
        last = min(far, end - _DEAD_PX) if end < length else far
        ramp = np.minimum(ramp, (last - position) / width)
    ramp = np.clip(ramp, 0, 1)
    return (ramp * ramp * (3 - 2 * ramp)).astype(np.float32)
