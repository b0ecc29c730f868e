"""A tracked face in, a square of the frame out: native resolution, integer position, bucketed."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from cagface_core.types import Crop, Face, Image

BUCKETS_PX = (64, 96, 128, 192, 256)
"""The sides a crop may have: few shapes, so that each can have its own ready-made engine."""

FACE_TO_CROP = 1.6
"""Side of the crop over the longer side of the face's box: hair, ears and chin belong to it."""

UPWARD_SHIFT = 0.12
"""The crop's centre lies this far above the box's, in box heights: the box leaves out the hair."""

_MARGIN_PX = 3.0
"""A crop that only just holds a face is shown up to here before its edge: the network's padding
reaches two pixels in, and positions are rounded to one."""

_SHRINK_BELOW = 0.72  # a crop keeps its bucket until the face needs clearly less: no flicker


def reach(face: Face) -> tuple[float, float, float]:
    """What of the frame belongs to a face: left, top and side of a square, in pixels.

    It moves and grows with the face's box, by less than a pixel where the box does, while crops
    jump from bucket to bucket: what is shown of an enhanced face ends here and not at the crop.
    """
    return _around(face, FACE_TO_CROP * max(face.w, face.h) - 2 * _MARGIN_PX)


def choose_crop(face: Face, frame_height: int, frame_width: int, last_size: int = 0) -> Crop:
    """Place the square in which a face is enhanced.

    Args:
        face: the smoothed box, in pixels.
        frame_height: rows of the frame.
        frame_width: columns of the frame.
        last_size: the side the same face had in the frame before, 0 if it is new.

    Returns:
        A crop whose side is one of ``BUCKETS_PX``, or beyond them a multiple of 64. It lies
        inside the frame wherever the frame is large enough.
    """
    wanted = FACE_TO_CROP * max(face.w, face.h)
    size = bucket_of(wanted)
    if size < last_size and wanted > _SHRINK_BELOW * last_size:
        size = last_size
    left, top, _ = _around(face, size)
    x, y = round(left), round(top)
    return Crop(_inside(x, size, frame_width), _inside(y, size, frame_height), size)


def bucket_of(side_px: float) -> int:
    """The smallest bucket that holds ``side_px``; beyond the largest, the next multiple of 64."""
    for bucket in BUCKETS_PX:
        if side_px <= bucket:
            return bucket
    return math.ceil(side_px / 64) * 64


def seen_side(side: int, limit_px: int) -> int:
    """The side at which the network sees a crop of ``side`` pixels.

    Beyond ``limit_px``, that limit; 0 is none. But up to a third more where that is the crop's own
    size or the half of it: any other has to be resampled, there and back, by odd steps, which
    takes longer than it saves.
    """
    if limit_px == 0 or side <= limit_px:
        return side
    whole = (seen for seen in (side, side // 2) if seen in BUCKETS_PX)
    return next((seen for seen in whole if limit_px <= seen <= limit_px * 4 // 3), limit_px)


def work_scale(side: int, limit_px: int, scale: int) -> int:
    """The output scale at which a crop of ``side`` pixels is enhanced.

    It is ``scale``, or less where the network, which makes four times what it sees, makes no more
    pixels than that: the enhancement is enlarged then, which is all that could be done with it.
    """
    made = 4 * seen_side(side, limit_px)
    return next(s for s in (1, 2, 4) if s >= scale or s * side >= made)


def cut(rgb: Image, crop: Crop) -> Image:
    """Copy the crop's pixels, (size, size, 3) uint8; beyond the frame its border is replicated."""
    height, width = rgb.shape[:2]
    rows = np.clip(np.arange(crop.y, crop.y + crop.size), 0, height - 1)
    columns = np.clip(np.arange(crop.x, crop.x + crop.size), 0, width - 1)
    if rows[-1] - rows[0] == crop.size - 1 and columns[-1] - columns[0] == crop.size - 1:
        return rgb[crop.y : crop.y + crop.size, crop.x : crop.x + crop.size].copy()
    return rgb[rows[:, None], columns[None, :]]


def batches(sides: Sequence[int], most: int = 8) -> list[list[int]]:
    """Group the indices of crops by side, at most ``most`` together."""
    groups = [[i for i, side in enumerate(sides) if side == s] for s in sorted(set(sides))]
    return [group[k : k + most] for group in groups for k in range(0, len(group), most)]


def _around(face: Face, side: float) -> tuple[float, float, float]:
    """Left, top and side of a square whose centre is that of the head."""
    centre_x = face.x + face.w / 2
    centre_y = face.y + face.h * (0.5 - UPWARD_SHIFT)
    return centre_x - side / 2, centre_y - side / 2, side


def _inside(start: int, size: int, length: int) -> int:
    """Move a span into [0, length), or centre it over a shorter one."""
    if size >= length:
        return (length - size) // 2
    return min(max(start, 0), length - size)
