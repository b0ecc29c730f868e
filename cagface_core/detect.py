"""RGB pictures in, face detections in the pictures' own pixels out; no memory between pictures."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from cagface_core.blazeface import (
    BlazeFaceDetector,
    Closing,
    Range,
    check_score,
    clipped,
)
from cagface_core.errors import ConfigError
from cagface_core.look_team import LookTeam, Models
from cagface_core.types import Detection, Face, Image, checked_picture


class Detector(Protocol):
    """Finds faces in a picture. Not thread-safe: one thread at a time."""

    def detect(
        self, rgb: Image, known: Sequence[Detection | Face] = (), *, search: bool = True,
        part: int | None = None,
    ) -> list[Detection]:  # fmt: skip
        """Find the faces of a picture, best first.

        Args:
            rgb: (H, W, 3) uint8 RGB, any size from 1x1.
            known: where faces were a moment ago; a detector may look there more closely.
            search: look for new faces as thoroughly as this detector can. ``False`` on most
                frames of a video is what makes the thorough detector affordable.
            part: look for new faces also in this of the detector's parts of the picture; any number
                from 0, so that counting on visits all of them.

        Returns:
            Boxes in pixels of ``rgb``, clipped to it; never the same face twice.

        Raises:
            InputError: ``rgb`` is not an (H, W, 3) uint8 picture with at least one pixel.
            ValueError: the detector was closed.
        """
        ...

    def close(self) -> None:
        """Free the models; closing twice is fine."""
        ...


def open_detector(mode: Literal["live", "file"]) -> LiveDetector | TiledDetector:
    """Make the detector for live frames (fast) or for pictures and video files (thorough).

    Raises:
        ConfigError: ``mode`` is neither.
        DeviceError: MediaPipe is missing or cannot be loaded.
        WeightsError: a model file is missing or damaged.
    """
    if mode == "live":
        return LiveDetector()
    if mode == "file":
        return TiledDetector()
    raise ConfigError(f"unknown detector mode {mode!r}: expected 'live' or 'file'")


class _BothRanges(Closing):
    """Both models, and how a closer look at a face confirms or follows it."""

    def __init__(self, min_score: float = 0.5, *, thorough: bool = False) -> None:
        """Load both models; raises as `BlazeFaceDetector` does."""
        check_score(min_score)
        self._min_score = min_score
        # Enough where a face is known already, and for suggestions that are confirmed anyway.
        self._low_score = 0.8 * min_score
        # Enough without confirmation, which some profiles never get.
        self._sure_score = min(1.0, 1.4 * min_score)
        self._team = LookTeam(self._low_score, thorough=thorough)

    def close(self) -> None:
        """Free the models; closing twice is fine."""
        self._team.close()

    def _glance(self, rgb: Image) -> list[Detection]:
        """Faces that one look at the whole frame suggests."""

        def look(models: Models, whole: _Region) -> list[Detection]:
            return whole.look(models["full"], rgb) or whole.look(models["short"], rgb)

        return self._team.each(look, [_whole(rgb)])[0]

    def _follow(self, rgb: Image, known: Sequence[Detection | Face]) -> list[Detection]:
        """Find known faces again by a closer look at each; the full range knows more profiles."""

        def look(models: Models, place: Detection | Face) -> Detection | None:
            seen = _look_closely(rgb, place, models["short"])
            return seen or _look_closely(rgb, place, models["full"])

        return [d for d in self._team.each(look, known) if d is not None]

    def _confirm(
        self,
        rgb: Image,
        suggestions: Sequence[Detection],
        found: Sequence[Detection],
        known: Sequence[Detection | Face],
    ) -> list[Detection]:
        """Keep the suggestions, other than faces found already, that a closer look confirms.

        Measured on the test pictures: of one look at the frame 32 true and 5 false boxes become
        49 and 1, as fainter suggestions can be allowed; of all tiles 498 and 44 become 489 and 11.
        """

        def look(models: Models, suggested: Detection) -> Detection | None:
            seen = _look_closely(rgb, suggested, models["short"])
            needed = self._min_score
            if any(_is_near(suggested, k) for k in known):
                needed = self._low_score
            if seen and seen.score >= needed:
                return seen
            if suggested.score >= self._sure_score or (
                # A large face fills the picture: there is no closer look at it.
                suggested.score >= needed and _around(suggested, rgb) == _whole(rgb)
            ):
                return suggested
            return None

        new = [s for s in suggestions if not any(_is_near(s, d) for d in found)]
        return [d for d in self._team.each(look, new) if d is not None]


def _look_closely(
    rgb: Image, place: Detection | Face, model: BlazeFaceDetector
) -> Detection | None:  # fmt: skip
    """Look for one face around its place."""
    seen = _around(place, rgb).look(model, rgb)
    return next((d for d in seen if _is_near(d, place)), None)


class LiveDetector(_BothRanges):
    """For live frames: one look at the frame, and a closer one at each face.

    With ``search=False`` known faces get the closer look only, a third of the time for one face;
    the look at the whole frame follows only when one of them is lost. Who sits far from the camera
    is found by a look at one part after another: 6 of a 16:9 picture, 9 of a 4:3 one.
    """

    PART = 0.4
    """Side of a part, of the longest side."""
    OVERLAP = 0.25
    MOST = 8
    """Parts are looked at while fewer faces are known: each costs a closer look every time."""
    MOST_NEW = 3
    """Suggestions of one part that get a closer look."""
    SMALLEST_PX = 24
    """Smaller faces are not worth a live frame's time."""

    def detect(
        self, rgb: Image, known: Sequence[Detection | Face] = (), *, search: bool = True,
        part: int | None = None,
    ) -> list[Detection]:  # fmt: skip
        """Find faces; see `Detector.detect`."""
        found = self._follow(checked_picture(rgb), known)
        if search or not known or len(found) < len(known):
            found += self._confirm(rgb, self._glance(rgb), found, known)
        if part is not None and len(found) < self.MOST:
            found += self._confirm(rgb, self._in_part(rgb, part, found), found, known)
        return clipped(_unique(found), rgb)

    def count_parts(self, rgb: Image) -> int:
        """Count the parts of a picture."""
        return len(self._parts(rgb))

    def _parts(self, rgb: Image) -> list[_Region]:
        return _tiles(rgb, max(1, round(self.PART * max(rgb.shape[:2]))), self.OVERLAP)

    def _in_part(self, rgb: Image, part: int, found: Sequence[Detection]) -> list[Detection]:
        """Faces, other than those found already, that a look at one part suggests, best first."""
        parts = self._parts(rgb)
        seen = self._team.each(
            lambda models, region: region.look(models["full"], rgb), [parts[part % len(parts)]]
        )
        new = [
            d
            for d in seen[0]
            if d.h >= self.SMALLEST_PX and not any(_is_near(d, other) for other in found)
        ]
        return new[: self.MOST_NEW]


class TiledDetector(_BothRanges):
    """For pictures and files: the frame and overlapping tiles of three sizes, then a closer look.

    With ``search=False`` known faces get the closer look only, and the whole frame one where one of
    them is lost or it is asked for as a part. Looks that do not wait for one another are made at
    once, as the processor has cores.
    """

    # Model, and tile side as a fraction of the longest side.
    TILINGS: tuple[tuple[Range, float], ...] = (
        ("full", 0.30),
        ("short", 0.30),
        ("full", 0.20),
        ("full", 0.15),
    )
    OVERLAP = 0.25
    MIN_TILE_PX = 160

    def __init__(self, min_score: float = 0.5) -> None:
        """Load both models; raises as `BlazeFaceDetector` does."""
        super().__init__(min_score, thorough=True)

    def detect(
        self, rgb: Image, known: Sequence[Detection | Face] = (), *, search: bool = True,
        part: int | None = None,
    ) -> list[Detection]:  # fmt: skip
        """Find faces; see `Detector.detect`. A search takes about 100 looks in a 4:3 picture.

        Its only part is the whole of it, in one look.
        """
        found = self._follow(checked_picture(rgb), known)
        if search:
            found += self._confirm(rgb, self._search(rgb), found, known)
        elif part is not None or not known or len(found) < len(known):
            found += self._confirm(rgb, self._glance(rgb), found, known)
        return clipped(_unique(found), rgb)

    def _search(self, rgb: Image) -> list[Detection]:
        """Faces that the frame and all tiles suggest.

        Boxes that a tile's border cuts come last: whole ones of the same face replace them.
        """

        def look(models: Models, at: tuple[Range, _Region]) -> list[tuple[bool, Detection]]:
            kind, region = at
            seen = [d for d in region.look(models[kind], rgb) if d.score >= self._min_score]
            return [(region.cuts(d, rgb), d) for d in seen]

        sightings = chain(*self._team.each(look, self._places(rgb)))
        return _unique([d for _, d in sorted(sightings, key=lambda s: (s[0], -s[1].score))])

    def _places(self, rgb: Image) -> Iterator[tuple[Range, _Region]]:
        """Yield with which model to look where."""
        longest = max(rgb.shape[:2])
        yield "full", _whole(rgb)
        yield "short", _whole(rgb)
        done: set[tuple[Range, int]] = set()
        for kind, fraction in self.TILINGS:
            side = max(self.MIN_TILE_PX, round(fraction * longest))
            if side < longest and (kind, side) not in done:
                done.add((kind, side))
                for tile in _tiles(rgb, side, self.OVERLAP):
                    yield kind, tile


@dataclass(frozen=True, slots=True)
class _Region:
    """A part of the picture to look at, in whole pixels."""

    x: int
    y: int
    w: int
    h: int

    def look(self, model: BlazeFaceDetector, rgb: Image) -> list[Detection]:
        """Run a model on this part; what it finds is in the picture's pixels, best first."""
        part = rgb[self.y : self.y + self.h, self.x : self.x + self.w]
        return [
            replace(
                d,
                x=d.x + self.x,
                y=d.y + self.y,
                keypoints=tuple((x + self.x, y + self.y) for x, y in d.keypoints),
            )
            for d in model.look(part)
        ]

    def cuts(self, d: Detection, rgb: Image) -> bool:
        """Whether a border of this part, inside the picture, cuts the box."""
        height, width = rgb.shape[:2]
        return (
            (d.x <= self.x and self.x > 0)
            or (d.y <= self.y and self.y > 0)
            or (d.x + d.w >= self.x + self.w and self.x + self.w < width)
            or (d.y + d.h >= self.y + self.h and self.y + self.h < height)
        )


def _whole(rgb: Image) -> _Region:
    """Give the region that is the whole picture."""
    return _Region(0, 0, rgb.shape[1], rgb.shape[0])


def _tiles(rgb: Image, side: int, overlap: float) -> list[_Region]:
    """Give the squares, cut to the picture, that cover it with at least this overlap."""
    height, width = rgb.shape[:2]
    return [
        _Region(x, y, min(side, width), min(side, height))
        for y in _starts(height, side, overlap)
        for x in _starts(width, side, overlap)
    ]


def _starts(length: int, side: int, overlap: float) -> list[int]:
    """Where evenly spread tiles begin so that they cover ``length`` with at least the overlap."""
    if length <= side:
        return [0]
    count = 1 + math.ceil((length - side) / (side * (1 - overlap)))
    return [round(i * (length - side) / (count - 1)) for i in range(count)]


_CLOSE = 4.0
"""A closer look is this many times as wide as the face: room to have moved since.

With 3.0 it confirms three faces less on the test pictures, and two false ones more.
"""


def _around(place: Detection | Face, rgb: Image) -> _Region:
    """Give the square to look at closely, moved into the picture; all of it for a large face."""
    height, width = rgb.shape[:2]
    side = round(min(max(_CLOSE * max(place.w, place.h), 16), max(width, height)))
    x = round(min(max(0.0, place.x + (place.w - side) / 2), max(0, width - side)))
    y = round(min(max(0.0, place.y + (place.h - side) / 2), max(0, height - side)))
    return _Region(x, y, min(side, width), min(side, height))


def _is_near(found: Detection, known: Detection | Face) -> bool:
    """Whether the found box is about where the known face was: centre inside, size alike."""
    dx = abs(found.x + found.w / 2 - known.x - known.w / 2)
    dy = abs(found.y + found.h / 2 - known.y - known.h / 2)
    return dx < known.w / 2 and dy < known.h / 2 and known.h / 2 < found.h < 2 * known.h


_SAME_IOU = 0.3
"""Boxes overlapping by more than this (intersection over union) are one face."""
_SAME_CONTAINED = 0.6
"""So are boxes of which the smaller lies in the larger by more than this: a tile cut the face."""


def _unique(found: Sequence[Detection]) -> list[Detection]:
    """Drop boxes that show the same face as an earlier one; the rest, highest score first."""
    iou, contained = _overlaps(found)
    is_same = (iou > _SAME_IOU) | (contained > _SAME_CONTAINED)
    kept: list[int] = []
    for i in range(len(found)):
        if not is_same[i, kept].any():
            kept.append(i)
    return sorted((found[i] for i in kept), key=lambda d: -d.score)


def _overlaps(
    boxes: Sequence[Detection | Face],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(n, n) intersection over union, and intersection over the smaller box."""
    x, y, w, h = np.array([(b.x, b.y, b.w, b.h) for b in boxes], np.float64).reshape(-1, 4).T
    shared_w = np.minimum.outer(x + w, x + w) - np.maximum.outer(x, x)
    shared_h = np.minimum.outer(y + h, y + h) - np.maximum.outer(y, y)
    shared = np.clip(shared_w, 0, None) * np.clip(shared_h, 0, None)
    area = w * h
    return shared / (np.add.outer(area, area) - shared), shared / np.minimum.outer(area, area)
