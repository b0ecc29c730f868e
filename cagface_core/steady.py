"""An enhanced face and the one before in; the face out, steadied where its input stands still.

A network that sharpens also sharpens noise, anew in every frame, which shows as shimmer. Where the
input hardly changes, the enhanced picture is averaged over time, as temporal denoising does. Where
it moves, what was shown before is moved along by the optical flow, and averaged in where the input,
moved likewise, is what is there now; where it is not, nothing is mixed in, so nothing can trail
behind.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from cagface_core.crop import shrunk
from cagface_core.types import Crop, Image

SHARE = 0.5
"""How much of a still pixel comes from the frames before: noise falls by a factor of 1.7."""

STILL_LEVELS = 2.5
"""A pixel moves when its luminance, blurred, changes by this many levels; in between, in part."""

SAME_LEVELS = 4.0
"""What moved is another when, blurred, one of its colours differs by this many levels."""

BLUR_PX = 1.5
"""Of the input, before it is compared: noise is not motion."""

FLOW_PX = 64
"""Side of the picture in which motion is found: a finer field follows noise and steadies less."""

_HALVED_PX = 256
"""Larger pictures are compared at half their size, which blurred ones lose nothing by."""

_NOTHING = (-1e3, -1e3, -1e3)  # is like no colour
_REST_LEVELS = 0.5  # a picture that changed by less on average, so small, has not moved

Floats = NDArray[np.float32]
SeenT = TypeVar("SeenT")


@dataclass(slots=True)
class _Seen:
    """A face as it was last shown: its crop, thumb, input blurred, picture in 0..255."""

    crop: Crop
    coarse: int
    thumb: Image
    blurred: Floats
    enhanced: Floats

    @property
    def scale(self) -> int:
        return self.enhanced.shape[0] // self.crop.size


class Memory(Generic[SeenT]):
    """Remembers each face as it was last shown, by the track's id; frames must come in order."""

    def __init__(self) -> None:
        self._seen: dict[int, SeenT] = {}

    def clear(self) -> None:
        """Forget all faces, as after a cut."""
        self._seen.clear()

    def forget_others(self, ids: set[int]) -> None:
        """Forget the faces that are not among ``ids``."""
        self._seen = {key: seen for key, seen in self._seen.items() if key in ids}


def make_thumb(picture: Image) -> Image:
    """What motion is found in of a crop (S, S, 3) uint8 RGB: (FLOW_PX, FLOW_PX) uint8 grey."""
    small = cv2.resize(picture, (FLOW_PX, FLOW_PX), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY), np.uint8)


def find_flow(crop: Crop, thumb: Image, last_crop: Crop, last_thumb: Image) -> Floats | None:
    """Tell where each part of a face was in the frame before.

    Args:
        crop: where the face lies.
        thumb: its :func:`make_thumb`.
        last_crop: where it lay.
        last_thumb: what it looked like there.

    Returns:
        (FLOW_PX, FLOW_PX, 2) float32: how far to the right and down it was, in pixels of the
        frame; None where nothing has moved.
    """
    zoom = crop.size / last_crop.size
    there = np.array([[zoom, 0, 0], [0, zoom, 0]])
    for axis, (now, before) in enumerate(((crop.x, last_crop.x), (crop.y, last_crop.y))):
        there[axis, 2] = (now - before) * FLOW_PX / last_crop.size + (zoom - 1) / 2
    before = cv2.warpAffine(
        last_thumb, there, (FLOW_PX, FLOW_PX), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )  # fmt: skip
    if cv2.norm(thumb, before, cv2.NORM_L1) < _REST_LEVELS * thumb.size:
        return None
    finder = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)
    new: Any = None
    flow = np.asarray(finder.calc(thumb, np.asarray(before, np.uint8), new), np.float32)
    return flow * np.float32(crop.size / FLOW_PX)


@dataclass(frozen=True, slots=True)
class Recalled:
    """What is known of a face before it is enhanced.

    Attributes:
        id: the track's.
        crop: where it lies in the frame, in the picture's pixels; positions are whole ones, so
            that the face before is found again without resampling.
        coarse: how many of the frame's pixels are one of these.
        thumb: its :func:`make_thumb`.
        blurred: (S, S, 3) float32, the crop's pixels in levels, blurred, or half that size.
        plain: (scale*S, scale*S, 3) uint8, its plain upscale.
        before: (scale*S, scale*S, 3) float32, what the frames before showed, where it is now, in
            levels; and
        share: (scale*S, scale*S) float32 in [0, 1], how much of that is to be shown. None where
            nothing is known.
    """

    id: int
    crop: Crop
    coarse: int
    thumb: Image
    blurred: Floats
    plain: Image
    before: Floats | None = None
    share: Floats | None = None


class Steadier(Memory[_Seen]):
    """Steadies faces with OpenCV."""

    def recall(
        self, id: int, crop: Crop, picture: Image, plain: Image, *, coarse: int = 1,
        moving: bool = True,
    ) -> Recalled:  # fmt: skip
        """Find what is known of a face, which takes most of the time and no network; see above.

        Args:
            id: the track's.
            crop: where it lies in the frame.
            picture: (S, S, 3) uint8 RGB, the crop's pixels, shrunk by ``coarse``.
            plain: (scale*S, scale*S, 3) uint8, its plain upscale; a change of scale forgets the
                face, and so does one of ``coarse``.
            coarse: the crop's side over the picture's.
            moving: whether what moves is steadied too, which costs most.
        """
        crop = Crop(crop.x // coarse, crop.y // coarse, crop.size // coarse)
        scale = plain.shape[0] // crop.size
        # Those shrunk by four move by single pixels, others by even ones.
        less = 2 if coarse < 4 and crop.size > _HALVED_PX and crop.size % FLOW_PX == 0 else 1
        small = shrunk(picture, less)
        now = Recalled(id, crop, coarse, make_thumb(small), _blurred(small, less), plain)
        last = self._seen.get(id)
        if last is None or (coarse, scale) != (last.coarse, last.scale):
            return now
        last = _alike(last, now)
        still, before, share = _recall_still(now, last, scale)
        if moving and (flow := find_flow(crop, now.thumb, last.crop, last.thumb)) is not None:
            moved, moved_share = _recall_moved(now, last, scale, flow, still)
            share *= 1 - moved_share
            before = np.asarray(cv2.blendLinear(before, moved, share, moved_share), np.float32)
            share += moved_share
        return replace(now, before=before, share=share)

    def steady(self, face: Recalled, residual: Floats) -> Floats:
        """Steady one face, and remember it.

        Args:
            face: what is known of it, of the frames before this one.
            residual: (scale*S, scale*S, 3), what the network adds to its plain upscale, in levels.

        Returns:
            The residual, (scale*S, scale*S, 3) float32, of the steadied picture.
        """
        enhanced = cv2.add(face.plain, residual, dtype=cv2.CV_32F)
        if face.before is not None and face.share is not None:
            enhanced = cv2.blendLinear(face.before, enhanced, face.share, 1 - face.share)
        enhanced = np.asarray(enhanced, np.float32)
        self._seen[face.id] = _Seen(face.crop, face.coarse, face.thumb, face.blurred, enhanced)
        return np.asarray(cv2.subtract(enhanced, face.plain, dtype=cv2.CV_32F), np.float32)


def _recall_still(now: Recalled, last: _Seen, scale: int) -> tuple[Floats, Floats, Floats]:
    """What the last picture shows at a crop's pixels, and how much of it to take where they rest.

    Returns:
        As large as ``blurred``, 1 where nothing has changed, 0 where something has; then ``before``
        and ``share`` as in :class:`Recalled`.
    """
    crop, less = now.crop, now.crop.size // len(now.blurred)
    if crop == last.crop:
        weights = _still(now.blurred, last.blurred, less)
        return weights, last.enhanced, _enlarged(SHARE * weights, less * scale)
    weights = np.zeros(now.blurred.shape[:2], np.float32)
    before, share = np.zeros(now.plain.shape, np.float32), np.zeros(now.plain.shape[:2], np.float32)
    left, top = max(crop.x, last.crop.x), max(crop.y, last.crop.y)
    right = min(crop.x + crop.size, last.crop.x + last.crop.size)
    bottom = min(crop.y + crop.size, last.crop.y + last.crop.size)
    if right - left < 2 * less or bottom - top < 2 * less:
        return weights, before, share
    if (crop.x - last.crop.x) % less or (crop.y - last.crop.y) % less:  # as seldom at the border
        return weights, before, share

    def shared(picture: Floats, origin: Crop, factor: int, less: int = 1) -> Floats:
        rows, columns = (
            slice((begin - start) * factor // less, (end - start) * factor // less)
            for begin, end, start in ((top, bottom, origin.y), (left, right, origin.x))
        )
        return picture[rows, columns]

    both = shared(now.blurred, crop, 1, less), shared(last.blurred, last.crop, 1, less)
    weight = _still(*both, less)
    shared(weights, crop, 1, less)[:] = weight
    shared(share, crop, scale)[:] = _enlarged(SHARE * weight, less * scale)
    shared(before, crop, scale)[:] = shared(last.enhanced, last.crop, scale)
    return weights, before, share


def _blurred(picture: Image, less: int) -> Floats:
    """What is compared of a picture, uint8, shrunk by ``less``: as large, float32, in levels."""
    # The average of two pixels is blurred by a half already.
    blur_px = math.sqrt(BLUR_PX**2 - (less**2 - 1) / 12) / less
    return np.asarray(cv2.GaussianBlur(picture.astype(np.float32), (0, 0), blur_px), np.float32)


def _alike(last: _Seen, now: Recalled) -> _Seen:
    """A face as last shown, its input in the size in which it is compared now."""
    side = len(now.blurred) * last.crop.size // now.crop.size
    if side == len(last.blurred):
        return last
    kernel = cv2.INTER_AREA if side < len(last.blurred) else cv2.INTER_LINEAR
    blurred = cv2.resize(last.blurred, (side, side), interpolation=kernel)
    return replace(last, blurred=np.asarray(blurred, np.float32))


def _still(now: Floats, last: Floats, less: int) -> Floats:
    """Where two blurred pictures show the same, 0 to 1; ``less`` as in :func:`_weigh`."""
    change = cv2.cvtColor(cv2.subtract(now, last), cv2.COLOR_RGB2GRAY)
    return _weigh(np.abs(change), STILL_LEVELS, less)


def _recall_moved(
    now: Recalled, last: _Seen, scale: int, flow: Floats, still: Floats
) -> tuple[Floats, Floats]:
    """What the last picture shows where a crop's pixels were then, and how much of it to take.

    Args:
        now: the face.
        last: as it was shown.
        scale: output scale.
        flow: of :func:`find_flow`.
        still: as large as ``blurred``, 1 where nothing has changed: there it has been found.
    """
    less = now.crop.size // len(now.blurred)
    there = _places(flow, now.crop, last.crop, 1 / less)
    red, green, blue = cv2.split(cv2.absdiff(now.blurred, _sample(last.blurred, there)))
    # In all colours: there is more that may look alike where one looks for it.
    most = np.asarray(cv2.max(cv2.max(red, green), blue), np.float32)
    weight = SHARE * _weigh(most, SAME_LEVELS, less) * (1 - still)
    if less * scale > 1:
        there = _places(flow, now.crop, last.crop, scale)
    return _sample(last.enhanced, there), _enlarged(weight, less * scale)


def _sample(picture: Floats, there: Floats) -> Floats:
    """Take a picture's pixels at (x, y); beyond its border is what is like no colour."""
    second: Any = None  # OpenCV's stub knows no maps of two channels
    sampled = cv2.remap(
        picture, there, second, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT,
        borderValue=_NOTHING,
    )  # fmt: skip
    return np.asarray(sampled, np.float32)


def _places(flow: Floats, crop: Crop, last: Crop, scale: float) -> Floats:
    """Where the pixels of a crop, ``scale`` times as large, were in that before: (..., 2), x, y."""
    over = 2  # beyond the border the flow goes on as it is there
    wide = cv2.copyMakeBorder(flow, over, over, over, over, cv2.BORDER_REPLICATE)
    step = crop.size / FLOW_PX
    at = (np.arange(-over, FLOW_PX + over, dtype=np.float32) + 0.5) * np.float32(step)
    wide[..., 0] += at + (crop.x - last.x)
    wide[..., 1] += at[:, None] + (crop.y - last.y)
    wide = wide * np.float32(scale) - np.float32(0.5)
    side, edge = round((FLOW_PX + 2 * over) * step * scale), round(over * step * scale)
    large = cv2.resize(wide, (side, side), interpolation=cv2.INTER_LINEAR)
    return np.asarray(large[edge:-edge, edge:-edge], np.float32)


def _weigh(change: Floats, limit_levels: float, less: int) -> Floats:
    """How surely pixels show the same, 0 to 1, by how much they and those beside them differ.

    All around them; where ``less`` of the crop's pixels are one, above, below and at the sides.
    """
    near = cv2.getStructuringElement(cv2.MORPH_RECT if less == 1 else cv2.MORPH_CROSS, (3, 3))
    worst = np.asarray(cv2.dilate(change, near), np.float32)
    return np.clip(1 - worst / np.float32(limit_levels), 0, 1)


def _enlarged(weight: Floats, scale: int) -> Floats:
    size = scale * weight.shape[1], scale * weight.shape[0]
    return np.asarray(cv2.resize(weight, size, interpolation=cv2.INTER_LINEAR), np.float32)
