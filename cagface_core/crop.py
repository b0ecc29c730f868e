"""A tracked face in, a square of the frame out: native resolution, integer position, bucketed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeVar, cast

import cv2
import numpy as np

from cagface_core.types import Crop, Face, Floats, Image

PictureT = TypeVar("PictureT", bound=Image | Floats)

BUCKETS_PX = (64, 96, 128, 192, 256)
"""The sides a crop may have: few shapes, so that each can have its own ready-made engine."""

WHOLE_PX = 384
"""The largest side of a crop that the network takes in one pass; of larger ones it gets tiles."""

FACE_TO_CROP = 1.6
"""Side of the crop over the longer side of the face's box: hair, ears and chin belong to it."""

UPWARD_SHIFT = 0.12
"""Such a crop's centre lies this far above the box's, in box heights, which leaves out the hair."""

_FACE_ALONE = 1.1
"""The same of the smallest crop: what has no room in it is hair, ears and neck."""

_SHRUNK = 1.5
"""A head may be larger by this than the network sees it; of larger ones less is enhanced."""

_MARGIN_PX = 3.0
"""A crop that only just holds a face is shown up to here before its edge: the network's padding
reaches two pixels in, and positions are rounded to one."""

_COARSE = (4, 2, 1)
"""By what crops may be shrunk. Those larger than any bucket move by the largest of these, so that
they move by whole pixels then too."""

_SHRINK_BELOW = 0.72  # a crop keeps its bucket until the face needs clearly less: no flicker


def reach(face: Face, limit_px: int) -> tuple[float, float, float]:
    """What of the frame belongs to a face: left, top and side of a square, in pixels.

    It moves and grows with the face's box, by less than a pixel where the box does, while crops
    jump from bucket to bucket: what is shown of an enhanced face ends here and not at the crop.

    Args:
        face: the smoothed box, in pixels.
        limit_px: as for :func:`enhanced_side`.
    """
    side = enhanced_side(max(face.w, face.h), limit_px)
    return _around(face, side, side - 2 * _MARGIN_PX)


def enhanced_side(face_px: float, limit_px: int) -> float:
    """The side of the square that is enhanced of a face of ``face_px`` pixels.

    All of the head where the network sees that at two thirds of its own size or more. Shrunk to
    half it gains a quarter of what it would, so of larger faces the square holds less of what is
    around them; only where it holds the face alone it grows with it again.

    Args:
        face_px: the longer side of the face's box.
        limit_px: at which side the network sees larger crops, about; 0 is none.
    """
    head = FACE_TO_CROP * face_px
    return min(head, max(_FACE_ALONE * face_px, _SHRUNK * _most_seen(limit_px)))


def choose_crop(
    face: Face, frame_height: int, frame_width: int, limit_px: int, last_size: int = 0
) -> Crop:
    """Place the square in which a face is enhanced.

    Args:
        face: the smoothed box, in pixels.
        frame_height: rows of the frame.
        frame_width: columns of the frame.
        limit_px: as for :func:`enhanced_side`.
        last_size: the side the same face had in the frame before, 0 if it is new.

    Returns:
        A crop whose side is as :func:`crop_side` has it. It lies inside the frame wherever the
        frame is large enough.
    """
    face_px = max(face.w, face.h)
    wanted, size = enhanced_side(face_px, limit_px), crop_side(face_px, limit_px)
    needed = wanted if wanted == FACE_TO_CROP * face_px else _FACE_ALONE * face_px
    if size < last_size and needed > _SHRINK_BELOW * last_size:
        size = last_size
    left, top, _ = _around(face, wanted, size)
    step = 1 if size <= BUCKETS_PX[-1] else _COARSE[0]
    x, y = (step * round(start / step) for start in (left, top))
    return Crop(_inside(x, size, frame_width), _inside(y, size, frame_height), size)


def crop_side(face_px: float, limit_px: int) -> int:
    """The side of the crop that holds what is enhanced of a face of so many pixels.

    One of ``BUCKETS_PX``, or beyond them a multiple of 64. Where it is to be shrunk there are more
    of them: the less it is, the better is the face.
    """
    side = enhanced_side(face_px, limit_px)
    if _most_seen(limit_px) < side <= BUCKETS_PX[-1]:
        return math.ceil(side / 32) * 32
    return bucket_of(side)


def bucket_of(side_px: float) -> int:
    """The smallest bucket that holds ``side_px``; beyond the largest, the next multiple of 64."""
    for bucket in BUCKETS_PX:
        if side_px <= bucket:
            return bucket
    return math.ceil(side_px / 64) * 64


def seen_side(side: int, limit_px: int) -> int:
    """The side at which the network sees a crop of ``side`` pixels.

    Beyond ``limit_px``, that limit; 0 is none. But up to a third more, where a bucket allows it,
    so that a face that comes nearer does not turn soft at once. Crops of four times the limit are
    so only where that is a half or a quarter of theirs: any other has to be resampled, there and
    back, by odd steps, and one of a quarter is made in less, see :func:`work_grid`.
    """
    if limit_px == 0 or side <= limit_px:
        return side
    most_px = _most_seen(limit_px)
    if side < 4 * limit_px or side in (2 * most_px, 4 * most_px):
        return min(side, int(most_px))
    return limit_px


def _most_seen(limit_px: int) -> float:
    """What the network sees at most: the limit, 0 is none, or a bucket up to a third larger."""
    if limit_px == 0:
        return math.inf
    near = (bucket for bucket in BUCKETS_PX if limit_px <= bucket <= limit_px * 4 // 3)
    return max(near, default=limit_px)


def seen_face(face_px: float, limit_px: int) -> int:
    """The side at which the network sees the crop of a face of this many pixels; see above."""
    return seen_side(crop_side(face_px, limit_px), limit_px)


def work_grid(side: int, limit_px: int, scale: int, *, coarse: bool = False) -> tuple[int, int]:
    """The pixels in which a crop is enhanced; its enhancement is enlarged to the frame's.

    There are no more than the network makes, which is four times what it sees. Where the crop
    itself has as many, its enhancement is no finer than what the network saw, see
    :func:`cagface_core.consistency.hold_coarse`. Twice as many would do, a quarter of the time,
    but noise that is finer would not be steadied.

    Args:
        side: of the crop, in pixels.
        limit_px: as for :func:`seen_side`.
        scale: output scale.
        coarse: whether these will do.

    Returns:
        By how much the crop is shrunk, 1, 2 or 4, and the scale at which it is enhanced then, 1,
        2 or 4 and at most ``scale``.
    """
    seen = seen_side(side, limit_px)
    if coarse and side >= 4 * seen:
        return next(g for g in _COARSE if side >= 2 * g * seen and side % g == 0), 1
    return 1, next(s for s in (1, 2, 4) if s >= scale or s * side >= 4 * seen)


def cut(rgb: Image, crop: Crop) -> Image:
    """Copy the crop's pixels, (size, size, 3) uint8; beyond the frame its border is replicated."""
    # A crop that is all beyond the frame shows the frame's first or last row or column.
    (y0, y1, above, below), (x0, x1, before, after) = (
        _span(start, crop.size, length)
        for start, length in ((crop.y, rgb.shape[0]), (crop.x, rgb.shape[1]))
    )
    inner = rgb[y0:y1, x0:x1]
    whole = cv2.copyMakeBorder(inner, above, below, before, after, cv2.BORDER_REPLICATE)
    return np.asarray(whole, np.uint8)


def shrunk(picture: PictureT, coarse: int) -> PictureT:
    """A crop's pixels (S, S, 3), shrunk by averaging to (S // coarse, S // coarse, 3)."""
    if coarse == 1:
        return picture
    size = (picture.shape[1] // coarse, picture.shape[0] // coarse)
    averaged = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    return cast("PictureT", averaged)


def _span(start: int, size: int, length: int) -> tuple[int, int, int, int]:
    """What of a span lies in [0, length), at least one: begin and end; what lies before, behind."""
    first = min(max(start, 0), length - 1)
    last = max(min(start + size, length), first + 1)
    before = min(max(first - start, 0), size - (last - first))
    return first, last, before, size - (last - first) - before


def batches(kinds: Sequence[tuple[int, ...]], most: int = 8) -> list[list[int]]:
    """Group the indices of crops by kind, at most ``most`` together."""
    groups = [[i for i, kind in enumerate(kinds) if kind == k] for k in sorted(set(kinds))]
    return [group[k : k + most] for group in groups for k in range(0, len(group), most)]


def _around(face: Face, enhanced: float, side: float) -> tuple[float, float, float]:
    """Left, top and side of a square about the middle of what is enhanced, by its side."""
    face_px = max(face.w, face.h)
    # All of the head, 1, or less of it.
    of_head = (enhanced / face_px - 1) / (FACE_TO_CROP - 1) if face_px > 0 else 1.0
    centre_x = face.x + face.w / 2
    centre_y = face.y + face.h * (0.5 - UPWARD_SHIFT * of_head)
    return centre_x - side / 2, centre_y - side / 2, side


def _inside(start: int, size: int, length: int) -> int:
    """Move a span into [0, length), or centre it over a shorter one."""
    if size >= length:
        return (length - size) // 2
    return min(max(start, 0), length - size)
