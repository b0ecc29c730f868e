"""A picture in planes in; its plain upscale, a crop of it in RGB, or faces added to it, out.

Video files hold luma and chroma, often in more than 8 bits. Through 8-bit RGB and back a pixel
comes out up to two code values off, and more where colours meet. So the planes themselves are
upscaled, and only what the faces gain is converted, which is linear. A frame without a face at
scale 1 comes out as it went in.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, TypeVar, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from cagface_core.types import I420, Change, Crop, Floats, Image, Plane, PlaneLayout, Planes

ArrayT = TypeVar("ArrayT", bound=NDArray[Any])

_LEFT = (0.0, 0.5)
"""Where chroma lies in the pictures made here, where it is halved: MPEG-2, H.264 and on."""

_CUBIC = -0.75
"""The slope in OpenCV's bicubic filter."""


def standard(layout: PlaneLayout) -> PlaneLayout:
    """The layout in which a picture is made of one in ``layout``.

    A picture that was turned has its chroma where no codec expects it, or halved down alone.
    """
    across, down = layout.chroma_px
    if across == 1 < down and layout.chroma_at[1] != _siting(across, down)[1]:
        across, down = down, 1
    return replace(layout, chroma_px=(across, down), chroma_at=_siting(across, down))


def _siting(across: int, down: int) -> tuple[float, float]:
    return _LEFT[0], _LEFT[1] * (down - 1)


def upscale_planes(picture: Planes, scale: int) -> Planes:
    """The plain upscale of a picture, bicubic, plane by plane; copies at scale 1.

    Args:
        picture: planes of H x W luma samples.
        scale: 1, 2 or 4.

    Returns:
        Planes of scale*H x scale*W luma samples, in the `standard` layout.
    """
    places = find_places(picture, scale)
    planes = tuple(
        _limit(_resample(plane, scale, place), picture.layout.bits)
        for plane, place in zip(picture.planes, places, strict=True)
    )
    return Planes(planes, standard(picture.layout))


def upscale_to_i420(rgb: Image, scale: int) -> Planes:
    """The plain upscale of a picture in RGB, bicubic, as `I420`.

    It takes half the time of one in RGB, which would have to be converted after; at scale 2 the
    chroma of a pixel is that of four.

    Args:
        rgb: (H, W, 3) uint8 RGB.
        scale: 2 or 4.

    Returns:
        Planes of scale*H x scale*W luma samples.
    """
    matrix = np.column_stack([rgb_gains(I420), (_scales(I420)[2], 128, 128)])
    luma, *chroma = (np.asarray(p, np.uint8) for p in cv2.split(cv2.transform(rgb, matrix)))
    return Planes((_cubic(luma, scale), *(_cubic(plane, scale // 2) for plane in chroma)), I420)


@dataclass(frozen=True, slots=True)
class Places:
    """Where in a plane the samples of its upscale lie, in samples of the plane.

    ``size`` is how many there are, across and down; ``starts`` where the first lies, right of and
    below the plane's first, and ``steps`` how far they are apart.
    """

    size: tuple[int, int]
    starts: tuple[float, float]
    steps: tuple[float, float]

    @property
    def centred(self) -> bool:
        """Whether the first lies where that of a picture enlarged around its middle does."""
        return all(
            start == step / 2 - 0.5 for start, step in zip(self.starts, self.steps, strict=True)
        )


def find_places(picture: Planes, scale: int) -> list[Places]:
    """Tell for each plane of a picture where the samples of :func:`upscale_planes` lie in it."""
    old, new = picture.layout, standard(picture.layout)
    size = scale * picture.width, scale * picture.height
    first = _first(scale, 0, 0, 1)
    luma = Places(size, (first, first), (1 / scale, 1 / scale))
    places = [luma] * len(picture.planes)
    if new.kind == "yuv":
        starts = [
            _first(scale, new.chroma_at[k], old.chroma_at[k], old.chroma_px[k]) for k in (0, 1)
        ]
        steps = [new.chroma_px[k] / scale / old.chroma_px[k] for k in (0, 1)]
        across, down = (-(-size[k] // new.chroma_px[k]) for k in (0, 1))
        places[1:3] = [Places((across, down), (starts[0], starts[1]), (steps[0], steps[1]))] * 2
    return places


def _first(scale: int, new_at: float, old_at: float, old_px: int) -> float:
    """Where the first sample of an upscale lies in the old ones."""
    return ((new_at + 0.5) / scale - 0.5 - old_at) / old_px


def _resample(plane: Plane, scale: int, place: Places) -> Plane:
    """Take bicubic samples of a plane at its places."""
    width, height = place.size
    if place.steps != (1 / scale, 1 / scale):
        (step_x, step_y), (start_x, start_y) = place.steps, place.starts
        matrix = np.array([[step_x, 0, start_x], [0, step_y, start_y]])
        return _sample(plane, matrix, place.size)
    if not place.centred:
        large = _enlarge(plane, scale, *place.starts)
    elif scale > 1:
        large = _cubic(plane, scale)
    else:
        large = plane.copy()
    return np.ascontiguousarray(large[:height, :width])


def _cubic(plane: ArrayT, scale: int) -> ArrayT:
    """Enlarge (h, w) or (h, w, 3) of any kind, bicubic; itself at scale 1."""
    if scale == 1:
        return plane
    size = scale * plane.shape[1], scale * plane.shape[0]
    large = cv2.resize(plane, size, interpolation=cv2.INTER_CUBIC)
    return cast("ArrayT", np.asarray(large, plane.dtype))


def _enlarge(plane: Plane, scale: int, start_x: float, start_y: float) -> Plane:
    """Take bicubic samples at every ``1 / scale``, the first at (start_x, start_y).

    As `_sample` does, in half its time: the samples repeat in ``scale`` places between pixels,
    each a filter of its own.
    """
    across, down = _phases(scale, start_x), _phases(scale, start_y)
    rows = [
        cv2.merge(
            [
                cv2.sepFilter2D(
                    plane, -1, taps_x, taps_y, anchor=(at_x, at_y), borderType=cv2.BORDER_REPLICATE
                )
                for taps_x, at_x in across
            ]
        )
        for taps_y, at_y in down
    ]
    height, width = plane.shape
    enlarged = np.stack(rows, axis=1).reshape(scale * height, scale * width)
    return np.asarray(enlarged, plane.dtype)


def _phases(scale: int, start: float) -> list[tuple[NDArray[np.float64], int]]:
    """OpenCV's bicubic filter at each of ``scale`` places: its four taps, and which is pixel 0."""
    phases: list[tuple[NDArray[np.float64], int]] = []
    for place in range(scale):
        at = place / scale + start
        before = math.floor(at)
        far = np.abs(at - before - np.arange(-1, 3))
        near_taps = ((_CUBIC + 2) * far - (_CUBIC + 3)) * far**2 + 1
        far_taps = _CUBIC * (((far - 5) * far + 8) * far - 4)
        phases.append((np.where(far <= 1, near_taps, far_taps), 1 - before))
    return phases


def _sample(plane: Plane, matrix: NDArray[np.float64], size: tuple[int, int]) -> Plane:
    """Take bicubic samples of a plane at ``matrix`` times each pixel of ``size``."""
    sampled = cv2.warpAffine(
        plane, matrix, size, flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )  # fmt: skip
    return np.asarray(sampled, plane.dtype)


def _limit(plane: Plane, bits: int) -> Plane:
    """Bring what bicubic overshot in planes of 9 to 15 bits back; 8 and 16 saturate anyway."""
    if plane.dtype == np.uint16 and bits < 16:
        np.minimum(plane, (1 << bits) - 1, out=plane)
    return plane


def _scales(layout: PlaneLayout) -> tuple[float, float, float]:
    """Code values per level of 0..255, of luma and of chroma, and the code value of black."""
    if layout.full_range or layout.kind == "gbr":
        unit = ((1 << layout.bits) - 1) / 255
        return unit, unit, 0.0
    step = 2.0 ** (layout.bits - 8)
    return 219 / 255 * step, 224 / 255 * step, 16 * step


def rgb_levels(picture: Planes, crop: Crop) -> Floats:
    """A crop of a picture at its full depth.

    Returns:
        (size, size, 3) float32 RGB in levels of 0..255; beyond the frame its border is replicated.
    """
    layout, side = picture.layout, crop.size
    luma_unit, chroma_unit, black = _scales(layout)
    matrix = np.array([[1.0, 0, crop.x], [0, 1, crop.y]])
    luma = _sample(picture.planes[0], matrix, (side, side)).astype(np.float32)
    luma = (luma - np.float32(black)) / np.float32(luma_unit)
    if layout.kind == "grey":
        return np.repeat(luma[..., None], 3, axis=2).clip(0, 255)
    if layout.kind == "gbr":
        blue, red = (
            _sample(plane, matrix, (side, side)).astype(np.float32) / np.float32(luma_unit)
            for plane in picture.planes[1:3]
        )
        return np.stack([red, luma, blue], axis=2)
    (across, down), (right, below) = layout.chroma_px, layout.chroma_at
    matrix = np.array(
        [[1 / across, 0, (crop.x - right) / across], [0, 1 / down, (crop.y - below) / down]]
    )
    middle = np.float32(1 << (layout.bits - 1))
    cb, cr = (
        (_sample(plane, matrix, (side, side)).astype(np.float32) - middle) / np.float32(chroma_unit)
        for plane in picture.planes[1:3]
    )
    k_r, k_b = layout.weights
    red, blue = luma + 2 * (1 - k_r) * cr, luma + 2 * (1 - k_b) * cb
    green = (luma - k_r * red - k_b * blue) / (1 - k_r - k_b)
    return np.stack([red, green, blue], axis=2).clip(0, 255).astype(np.float32)


def add_to_planes(picture: Planes, change: Change) -> None:
    """Add a change to a picture, in place.

    Args:
        picture: in a `standard` layout, or `I420`.
        change: RGB levels at a place within the picture.
    """
    layout = picture.layout
    # Patches begin on a chroma sample; what they gain by that is nought, as their edges are.
    across, down = layout.chroma_px if layout.kind == "yuv" else (1, 1)
    left, top = change.x % across, change.y % down
    levels, zoom = change.levels, change.zoom
    if layout != I420:
        levels, zoom = _cubic(levels, zoom), 1
    if left or top:  # in `I420` never: it has been enlarged by two or four
        levels = cv2.copyMakeBorder(levels, top, 0, left, 0, cv2.BORDER_REPLICATE)
    # One by one: to split a picture takes longer than to go through it three times.
    gains = [np.asarray(cv2.transform(levels, row[None]), np.float32) for row in rgb_gains(layout)]
    luma = _cubic(gains[0], zoom)[top:, left:]
    _add(picture.planes[0], luma, change.x, change.y, layout.bits)
    if layout.kind != "grey":
        x, y = (change.x - left) // across, (change.y - top) // down
        for plane, gain in zip(picture.planes[1:3], gains[1:], strict=True):
            fitted = _halve(gain, layout) if zoom == 1 else _cubic(gain, zoom // 2)
            _add(plane, fitted, x, y, layout.bits)


def rgb_gains(layout: PlaneLayout) -> NDArray[np.float64]:
    """What each of the first three planes gains by a level of red, green and blue: (3, 3)."""
    luma_unit, chroma_unit, _ = _scales(layout)
    if layout.kind == "gbr":
        return luma_unit * np.eye(3)[[1, 2, 0]]
    k_r, k_b = layout.weights
    luma = np.array([k_r, 1 - k_r - k_b, k_b])
    cb = (np.array([0, 0, 1]) - luma) / (2 * (1 - k_b))
    cr = (np.array([1, 0, 0]) - luma) / (2 * (1 - k_r))
    return np.stack([luma * luma_unit, cb * chroma_unit, cr * chroma_unit])


def _halve(chroma: Floats, layout: PlaneLayout) -> Floats:
    """Average (h, w) to one sample for ``chroma_px`` pixels, where the layout has it."""
    across, down = layout.chroma_px
    wide = across if layout.chroma_at[0] > 0 else 1  # centred, as in `I420`
    if wide * down > 1:
        over = -chroma.shape[0] % down, -chroma.shape[1] % wide
        chroma = np.pad(chroma, ((0, over[0]), (0, over[1])), "edge") if any(over) else chroma
        size = chroma.shape[1] // wide, chroma.shape[0] // down
        chroma = np.asarray(cv2.resize(chroma, size, interpolation=cv2.INTER_AREA), np.float32)
    if across > wide:
        triangle = np.arange(1.0, across + 1)
        weights = np.concatenate([triangle, triangle[-2::-1]])[None] / across**2
        averaged = cv2.filter2D(
            chroma, -1, weights, anchor=(across - 1, 0), borderType=cv2.BORDER_REPLICATE
        )
        chroma = np.asarray(averaged, np.float32)[:, ::across]
    return chroma


def _add(plane: Plane, levels: Floats, x: int, y: int, bits: int) -> None:
    where = np.s_[y : y + levels.shape[0], x : x + levels.shape[1]]
    depth = cv2.CV_8U if plane.dtype == np.uint8 else cv2.CV_16U
    plane[where] = cv2.add(plane[where], np.ascontiguousarray(levels, np.float32), dtype=depth)
    _limit(plane[where], bits)
