"""Frames of a stream and the faces in them in; how each face's pixels moved since, out.

Median flow: optical flow (pyramidal Lucas-Kanade) of a grid of points on the face, forth and
back; points that do not come back are dropped, the median of the others is the motion. It costs
a tenth of a detection, and moves by fractions of a pixel where boxes jitter by whole ones.

Kalal, Mikolajczyk, Matas: "Forward-Backward Error: Automatic Detection of Tracking Failures",
ICPR 2010.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from cagface_core.types import Face, Image, Motion

_BOX_PX = 40  # a face is looked at in this size at most: enough for a tenth of a pixel of it
_REGION = 2.0  # the part of the frame that is compared, in box sizes: room to move
_GRID = np.stack(np.meshgrid(*[np.linspace(-0.35, 0.35, 7)] * 2), -1).reshape(-1, 2)
"""The points, in box sizes from its centre."""
_RETURN_PX = 0.5  # a point followed forth and back ends at most this far from where it began
_MIN_SHARE = 0.4  # of the points must, or the motion is not known
_FLOW: dict[str, Any] = {
    "winSize": (9, 9),
    "maxLevel": 2,
    "criteria": (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 10, 0.03),
}

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class _Patch:
    """The surroundings of a face: left, top, right, bottom in the frame; grey, perhaps shrunk."""

    region: tuple[int, int, int, int]
    grey: Image
    face: Face


class Follower:
    """Remembers what each face looked like in the last frame. Plain state, no threads."""

    def __init__(self) -> None:
        """Start with no faces."""
        self._patches: dict[int, _Patch] = {}

    def follow(self, rgb: Image) -> dict[int, Motion]:
        """Find the remembered faces in the next frame.

        Args:
            rgb: (H, W, 3) uint8 RGB, of the size of the frame before.

        Returns:
            By identity, how the face moved; those of which that cannot be told are left out.
        """
        moved = {key: _motion(patch, rgb) for key, patch in self._patches.items()}
        return {key: motion for key, motion in moved.items() if motion is not None}

    def remember(self, rgb: Image, faces: Sequence[Face]) -> None:
        """Keep how the faces of this frame look; all others are forgotten."""
        self._patches = {face.id: _patch(face, rgb) for face in faces}

    def clear(self) -> None:
        """Forget all faces, as after a cut."""
        self._patches.clear()


def _patch(face: Face, rgb: Image) -> _Patch:
    height, width = rgb.shape[:2]
    x, y, reach = face.x + face.w / 2, face.y + face.h / 2, _REGION / 2 * max(face.w, face.h)
    left, top = (max(0, min(round(v - reach), n - 2)) for v, n in ((x, width), (y, height)))
    right, bottom = (
        min(n, max(round(v + reach), start + 2))
        for v, n, start in ((x, width, left), (y, height, top))
    )
    region = (left, top, right, bottom)
    return _Patch(region, _grey(rgb, region, max(face.w, face.h)), face)


def _grey(rgb: Image, region: tuple[int, int, int, int], box_px: float) -> Image:
    left, top, right, bottom = region
    shrink = min(1.0, _BOX_PX / box_px)
    skip = max(1, int(0.5 / shrink))  # averaging all of a large face would take longest
    some = np.ascontiguousarray(rgb[top:bottom:skip, left:right:skip])
    grey = np.asarray(cv2.cvtColor(some, cv2.COLOR_RGB2GRAY), np.uint8)
    if shrink == 1:
        return grey
    size = (max(2, round((right - left) * shrink)), max(2, round((bottom - top) * shrink)))
    return np.asarray(cv2.resize(grey, size, interpolation=cv2.INTER_AREA), np.uint8)


def _motion(patch: _Patch, rgb: Image) -> Motion | None:
    """How a face moved from its patch to the same place of another frame."""
    face, (left, top, right, bottom) = patch.face, patch.region
    now = _grey(rgb, patch.region, max(face.w, face.h))
    zoom = np.array([now.shape[1] / (right - left), now.shape[0] / (bottom - top)], np.float32)
    middle = np.array([face.x + face.w / 2 - left, face.y + face.h / 2 - top])
    start = ((middle + _GRID * (face.w, face.h)) * zoom - 0.5).astype(np.float32)
    inside = ((start >= 0) & (start <= (now.shape[1] - 1, now.shape[0] - 1))).all(1)
    start = start[inside]
    if len(start) < _MIN_SHARE * len(_GRID):
        return None
    end = _flow(patch.grey, now, start)
    back = _flow(now, patch.grey, end)
    good = np.abs(back - start).max(1) < _RETURN_PX
    if good.sum() < _MIN_SHARE * len(start):
        return None
    step = _median((end - start)[good]) / zoom
    return Motion(float(step[0]), float(step[1]), _growth(start[good], end[good]))


def _flow(a: Image, b: Image, points: Floats) -> Floats:
    """Where points of picture ``a`` are in ``b``; those that are lost come back as NaN."""
    end, found, _ = cv2.calcOpticalFlowPyrLK(a, b, points, np.empty_like(points), **_FLOW)
    end = np.asarray(end, np.float32)
    end[np.asarray(found).ravel() == 0] = np.nan
    return end


def _growth(start: Floats, end: Floats) -> float:
    """The median change of distances between opposite points."""
    half = len(start) // 2
    before = np.hypot(*(start[:half] - start[-half:]).T)
    after = np.hypot(*(end[:half] - end[-half:]).T)
    far = before > 0.3 * before.max()
    return float(_median(after[far] / before[far]))


def _median(values: Floats) -> Floats:
    """As ``np.median`` along the first axis, which takes ten times as long for so few."""
    ordered, middle = np.sort(values, axis=0), len(values) // 2
    return (ordered[(len(values) - 1) // 2] + ordered[middle]) / np.float32(2)
