"""Frames and what became of their faces in; what a report tells of a piece, as JSON, out."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from cagface_core import Crop, Enhanced, Face, Frame, Outcome, rgb_levels

_SIDE_PX = 192
"""Of a picture in the contact sheet."""

_AROUND = 1.6
"""A picture shows this many times the face's box."""

_LARGER = 1.3
"""A track's picture is taken anew when its face is this many times as large as in the last."""

_MOST_TRACKS = 60
"""Of one piece; the longest."""


@dataclass(slots=True)
class _Track:
    first_s: float
    last_s: float = 0.0
    frames: int = 0
    enhanced: int = 0
    side: float = 0.0
    before: str = ""
    after: str = ""
    detail: float = 1.0
    drift: float = 0.0


@dataclass(slots=True)
class FilmNotes:
    """What is noted of the piece that is being made.

    ``scale`` is the output's. Take what is noted with `take`, once for each piece.
    """

    scale: int
    _tracks: dict[int, _Track] = field(default_factory=dict[int, _Track])
    _frames: list[list[int]] = field(default_factory=list[list[int]])
    _times_s: list[float] = field(default_factory=list[float])

    def note(self, frame: Frame, enhanced: Enhanced) -> None:
        """Note a frame that is delivered; it came in planes."""
        outcomes = enhanced.outcomes
        done = sum(outcome is Outcome.ENHANCED for outcome in outcomes)
        failed = sum(outcome in (Outcome.FAILED, Outcome.GUARDED) for outcome in outcomes)
        passed = int(not enhanced.timings_ms)  # what passes through was not timed
        self._frames.append([len(enhanced.faces), done, failed, passed])
        self._times_s.append(frame.time_s)
        for face, outcome in zip(enhanced.faces, outcomes, strict=False):
            track = self._tracks.setdefault(face.id, _Track(frame.time_s))
            track.last_s = frame.time_s
            track.frames += 1
            track.enhanced += outcome is Outcome.ENHANCED
            side = max(face.w, face.h)
            if outcome is Outcome.ENHANCED and side > _LARGER * track.side:
                track.side = side
                self._picture(track, frame, enhanced, face)

    def take(self) -> dict[str, Any]:
        """What was noted since it was last taken."""
        tracks = sorted(self._tracks.values(), key=lambda track: -track.frames)[:_MOST_TRACKS]
        noted: dict[str, Any] = {
            "frames": self._frames,
            "times_s": self._times_s,
            "tracks": [
                {
                    "first_s": track.first_s, "last_s": track.last_s, "frames": track.frames,
                    "enhanced": track.enhanced, "side_px": track.side, "before": track.before,
                    "after": track.after, "detail": track.detail, "drift": track.drift,
                }
                for track in tracks
            ],
        }  # fmt: skip
        self._tracks, self._frames, self._times_s = {}, [], []
        return noted

    def _picture(self, track: _Track, frame: Frame, enhanced: Enhanced, face: Face) -> None:
        """Take the two pictures of a face, and measure one against the other."""
        assert frame.planes is not None
        assert enhanced.planes is not None
        side = max(16, round(_AROUND * max(face.w, face.h)))
        x, y = round(face.x + face.w / 2 - side / 2), round(face.y + face.h / 2 - side / 2)
        size = (self.scale * side, self.scale * side)
        source = rgb_levels(frame.planes, Crop(x, y, side))
        before = np.asarray(cv2.resize(source, size, interpolation=cv2.INTER_CUBIC), np.float32)
        place = Crop(self.scale * x, self.scale * y, self.scale * side)
        after = rgb_levels(enhanced.planes, place)
        track.before, track.after = _jpeg(before), _jpeg(after)
        track.detail = float(_fine(after) / max(1e-6, _fine(before)))
        shrunk = cv2.resize(after, (side, side), interpolation=cv2.INTER_AREA)
        track.drift = float(np.abs(shrunk - source).mean())


def _fine(levels: NDArray[np.float32]) -> float:
    """How much fine content a picture has: its mean absolute Laplacian, in levels."""
    return float(np.abs(cv2.Laplacian(levels, cv2.CV_32F)).mean())


def _jpeg(levels: NDArray[np.float32]) -> str:
    """A picture for the contact sheet, in base64."""
    kernel = cv2.INTER_AREA if levels.shape[0] > _SIDE_PX else cv2.INTER_CUBIC
    small = cv2.resize(levels, (_SIDE_PX, _SIDE_PX), interpolation=kernel)
    bgr = np.clip(small[..., ::-1], 0, 255).astype(np.uint8)
    written, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, 88])
    assert written
    return base64.b64encode(data.tobytes()).decode("ascii")
