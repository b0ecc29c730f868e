"""Heatmaps kept per track: a face is parsed again only when it is old, has moved or has changed.

Heatmaps are remembered with the face's box and travel with it, so a crop that moves, or changes
its bucket, still finds the eyes where they are.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache

import cv2
import numpy as np
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from cagface_core.transfer import send
from cagface_core.types import Crop, Face, Image

_THUMB_PX = 16


@dataclass(frozen=True, slots=True)
class CacheRules:
    """When heatmaps are too old to be used again.

    Attributes:
        max_age_s: seconds of stream time since the face was parsed.
        max_motion: drift of the box's centre since then against the frame, in box sizes.
        max_scale: relative change of the box's size.
        max_change: mean absolute difference of the face's 16x16 luminance, contrast-normalised.
    """

    max_age_s: float = 0.5
    max_motion: float = 0.25
    max_scale: float = 0.12
    max_change: float = 0.25


@dataclass(frozen=True, slots=True)
class _Entry:
    maps: Tensor
    face: Face
    crop: Crop
    time_s: float
    thumb: NDArray[np.float32]


@dataclass(slots=True)
class AttentionCache:
    """The heatmaps of the faces of one stream; part of its state."""

    rules: CacheRules = field(default_factory=CacheRules)
    _entries: dict[int, _Entry] = field(default_factory=dict[int, _Entry])

    def find(
        self, face: Face, crop: Crop, picture: Image, time_s: float, patience: float = 1.0
    ) -> Tensor | None:
        """Heatmaps for a face's new crop, moved along with its box, or None if too old.

        Args:
            face: the tracked face.
            crop: its crop in this frame.
            picture: the crop's pixels, (S, S, 3) uint8; S is less than its side if it was shrunk.
            time_s: presentation time of the frame.
            patience: heatmaps may be this many times as old as the rules say; above 1 where
                time is short.

        Returns:
            (1, 3, MAP_PX, MAP_PX) heatmaps, or None.
        """
        entry = self._entries.get(face.id)
        if entry is None:
            return None
        old, rules = entry.face, self.rules
        reach = max(old.w, old.h)
        moved = max(
            abs(_centre(face)[0] - _centre(old)[0]), abs(_centre(face)[1] - _centre(old)[1])
        )
        if (
            not 0 <= time_s - entry.time_s <= patience * rules.max_age_s
            or moved > rules.max_motion * reach
            or abs(max(face.w, face.h) / reach - 1) > rules.max_scale
            or float(np.abs(_thumb(face, crop, picture) - entry.thumb).mean()) > rules.max_change
        ):
            return None
        return _move(entry, face, crop)

    def newest(self, face: Face, crop: Crop) -> Tensor | None:
        """The heatmaps last kept of a face, too old or not, moved along; None if there are none."""
        entry = self._entries.get(face.id)
        return None if entry is None else _move(entry, face, crop)

    def keep(self, face: Face, crop: Crop, picture: Image, time_s: float, maps: Tensor) -> None:
        """Remember the heatmaps (1, 3, MAP_PX, MAP_PX) just parsed from a face's crop."""
        self._entries[face.id] = _Entry(maps, face, crop, time_s, _thumb(face, crop, picture))

    def forget_others(self, ids: set[int]) -> None:
        """Drop every track that is not among ``ids``."""
        for gone in self._entries.keys() - ids:
            del self._entries[gone]

    def clear(self) -> None:
        """Forget everything, as after a cut."""
        self._entries.clear()


def _centre(face: Face) -> tuple[float, float]:
    """Centre of the box in pixels."""
    return face.x + face.w / 2, face.y + face.h / 2


def _move(entry: _Entry, face: Face, crop: Crop) -> Tensor:
    """Sample the kept heatmaps on the new crop so that they stay on the face."""
    zoom = max(face.w, face.h) / max(entry.face.w, entry.face.h)
    ratio = crop.size / zoom / entry.crop.size
    shift = np.zeros(2, np.float32)
    for axis in (0, 1):
        new_start, old_start = ((crop.x, entry.crop.x), (crop.y, entry.crop.y))[axis]
        new_middle = new_start + crop.size / 2 - _centre(face)[axis]
        old_middle = old_start + entry.crop.size / 2 - _centre(entry.face)[axis]
        shift[axis] = (new_middle / zoom - old_middle) / (entry.crop.size / 2)
    if abs(ratio - 1) < 1e-3 and np.abs(shift).max() < 1e-3:
        return entry.maps
    # On the host: two steps less for a GPU to be told, each longer than this takes.
    grid = shift + np.float32(ratio) * _middles(*entry.maps.shape[-2:])
    return F.grid_sample(
        entry.maps, send(grid, entry.maps.device), mode="bilinear", padding_mode="border",
        align_corners=False,
    )  # fmt: skip


@cache
def _middles(height: int, width: int) -> NDArray[np.float32]:
    """The middles of pixels, x and y from -1 to 1 as ``grid_sample`` has them: (1, H, W, 2)."""
    y, x = ((2 * np.arange(n, dtype=np.float32) + 1) / n - 1 for n in (height, width))
    return np.asarray(np.stack(np.meshgrid(x, y), -1)[None], np.float32)


def _thumb(face: Face, crop: Crop, picture: Image) -> NDArray[np.float32]:
    """The face's luminance at 16x16, zero mean and unit contrast: light may change, a face not."""
    zoom = picture.shape[0] / crop.size  # not 1 where a large crop was shrunk
    x0, y0 = (max(0, round((a - b) * zoom)) for a, b in ((face.x, crop.x), (face.y, crop.y)))
    x1, y1 = x0 + max(1, round(face.w * zoom)), y0 + max(1, round(face.h * zoom))
    box = picture[y0:y1, x0:x1]
    if box.size == 0:
        box = picture
    skip = max(1, min(box.shape[:2]) // (8 * _THUMB_PX))  # to average all would take longest
    small = cv2.resize(
        np.ascontiguousarray(box[::skip, ::skip]), (_THUMB_PX, _THUMB_PX),
        interpolation=cv2.INTER_AREA,
    )  # fmt: skip
    grey = np.asarray(small, np.float32).mean(axis=2)
    return np.asarray((grey - grey.mean()) / (grey.std() + 4.0), np.float32)
