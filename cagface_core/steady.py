"""An enhanced face and the one before in; the face out, steadied where its input stands still.

A network that sharpens also sharpens noise, anew in every frame, which shows as shimmer on a
still face. Where the input hardly changes, the enhanced picture is averaged over time, as
temporal denoising does; where it moves, nothing is mixed in, so nothing can trail behind.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from cagface_core.types import Crop, Image

SHARE = 0.5
"""How much of a still pixel comes from the frames before: noise falls by a factor of 1.7."""

STILL_LEVELS = 2.5
"""A pixel moves when its blurred luminance changes by this many levels; in between, in part."""

BLUR_PX = 1.5
"""Of the input, before its luminance is compared: noise is not motion."""

Floats = NDArray[np.float32]
SeenT = TypeVar("SeenT")


@dataclass(slots=True)
class _Seen:
    """A face as it was last shown: its crop, luminance (S, S) blurred, picture in 0..255."""

    crop: Crop
    luminance: Floats
    enhanced: Floats


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


class Steadier(Memory[_Seen]):
    """Steadies faces with OpenCV."""

    def steady(
        self, id: int, crop: Crop, picture: Image, plain: Image, residual: Floats
    ) -> Floats:  # fmt: skip
        """Steady one face.

        Args:
            id: the track's.
            crop: where it lies in the frame; positions are whole pixels, so that the face before
                is found again without resampling.
            picture: (S, S, 3) uint8 RGB, the crop's pixels.
            plain: (scale*S, scale*S, 3) uint8, its plain upscale; a change of scale forgets the
                face.
            residual: (scale*S, scale*S, 3), what the network adds to that, in levels.

        Returns:
            The residual, (scale*S, scale*S, 3) float32, of the steadied picture.
        """
        scale = plain.shape[0] // crop.size
        enhanced = np.asarray(cv2.add(plain, residual, dtype=cv2.CV_32F), np.float32)
        grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).astype(np.float32)
        luminance = np.asarray(cv2.GaussianBlur(grey, (0, 0), BLUR_PX), np.float32)
        last = self._seen.get(id)
        if last is not None and last.enhanced.shape[0] == scale * last.crop.size:
            _mix(enhanced, luminance, crop, last, scale)
        self._seen[id] = _Seen(crop, luminance, enhanced)
        return np.asarray(cv2.subtract(enhanced, plain, dtype=cv2.CV_32F), np.float32)


def _mix(enhanced: Floats, luminance: Floats, crop: Crop, last: _Seen, scale: int) -> None:
    """Blend the last picture into ``enhanced``, in place, where both crops show a still pixel."""
    left, top = max(crop.x, last.crop.x), max(crop.y, last.crop.y)
    right = min(crop.x + crop.size, last.crop.x + last.crop.size)
    bottom = min(crop.y + crop.size, last.crop.y + last.crop.size)
    if right - left < 2 or bottom - top < 2:
        return

    def shared(picture: Floats, origin: Crop, factor: int) -> Floats:
        rows = slice((top - origin.y) * factor, (bottom - origin.y) * factor)
        columns = slice((left - origin.x) * factor, (right - origin.x) * factor)
        return picture[rows, columns]

    change = np.abs(shared(luminance, crop, 1) - shared(last.luminance, last.crop, 1))
    change = cv2.dilate(change, np.ones((3, 3), np.uint8))
    weight = np.asarray(SHARE * np.clip(1 - change / STILL_LEVELS, 0, 1), np.float32)
    size = ((right - left) * scale, (bottom - top) * scale)
    weight = np.asarray(cv2.resize(weight, size, interpolation=cv2.INTER_LINEAR), np.float32)
    now = shared(enhanced, crop, scale)
    now[:] = cv2.blendLinear(shared(last.enhanced, last.crop, scale), now, weight, 1 - weight)
