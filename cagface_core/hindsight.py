"""Faces of the frames before and after one in; the faces of that frame, steadied, out.

A file is not live: what comes next is known. So boxes are smoothed from both sides, without the
lag that smoothing from one side has; a face that detection misses in between is where its
neighbours say; and what is seen for a moment only was a mistake.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from cagface_core.types import Face

SIGMA_S = 0.12
"""Standard deviation of the Gaussian window in which boxes are smoothed."""

REACH_S = 0.5
"""So far the frames before and after are looked at."""

_FEWEST = 3
"""A face seen in fewer frames than this, where more could have been, was a mistake."""


def steadied(
    found: Sequence[tuple[Face, ...]], times_s: Sequence[float], at: int
) -> tuple[Face, ...]:
    """The faces of one frame, with hindsight.

    Args:
        found: the faces of consecutive frames of one shot, as tracked without smoothing; frames
            further away than ``REACH_S`` do not count.
        times_s: the frames' presentation times, rising.
        at: which of the frames is asked for.

    Returns:
        Its faces by identity. One that is not seen in this frame (``missed`` above 0) is where
        the frames on both sides have it, or, if it is not seen again, where it was tracked to.
    """
    now_s = times_s[at]
    near = [k for k, time_s in enumerate(times_s) if abs(time_s - now_s) <= REACH_S + 1e-6]
    seen: dict[int, list[tuple[float, Face]]] = {}
    for k in near:
        for face in found[k]:
            if face.missed == 0:
                seen.setdefault(face.id, []).append((times_s[k] - now_s, face))
    there = {face.id: face for face in found[at]}
    faces: list[Face] = []
    for key in sorted(seen.keys() | there.keys()):
        views = seen.get(key, [])
        if len(views) < min(_FEWEST, len(near)):
            continue
        face = there.get(key)
        between = views[0][0] <= 0 <= views[-1][0]
        if between:
            nearest = min(views, key=lambda view: abs(view[0]))[1]
            faces.append(_smoothed(views, face or replace(nearest, missed=1)))
        elif face is not None:
            faces.append(face)
    return tuple(faces)


def _smoothed(views: Sequence[tuple[float, Face]], face: Face) -> Face:
    """The face with the box that a straight line through its views has at time 0.

    Weighted by a Gaussian: a local linear regression has no lag at the ends of a track either.
    """
    offsets = np.array([offset for offset, _ in views])
    boxes = np.array([(f.x + f.w / 2, f.y + f.h / 2, f.w, f.h) for _, f in views])
    weights = np.exp(-0.5 * (offsets / SIGMA_S) ** 2)
    total = weights.sum()
    mean_offset = (weights @ offsets) / total
    mean_box = (weights @ boxes) / total
    spread = weights @ (offsets - mean_offset) ** 2
    if spread > 1e-9 * total:
        slope = (weights * (offsets - mean_offset)) @ (boxes - mean_box) / spread
        mean_box = mean_box - slope * mean_offset
    x, y, w, h = (float(value) for value in mean_box)
    w, h = max(w, 1.0), max(h, 1.0)
    return replace(face, x=x - w / 2, y=y - h / 2, w=w, h=h)
