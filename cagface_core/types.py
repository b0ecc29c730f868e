"""The nouns that cross between stages: frames, detections, faces, crops, enhanced frames."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from fractions import Fraction
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Image: TypeAlias = NDArray[np.uint8]
"""An RGB picture: (H, W, 3), uint8, 0..255, sRGB-encoded, C-contiguous."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One picture of a stream and when it is shown.

    ``rgb`` is (H, W, 3) uint8 RGB. ``pts * time_base`` is the presentation time in seconds;
    both are exact. Live sources count ``pts`` in microseconds of a monotonic clock.
    ``captured_s`` is when it was captured, in seconds of `time.perf_counter`; None where that
    means nothing: in a file, or in a picture that no camera has seen.
    """

    rgb: Image
    pts: int = 0
    time_base: Fraction = Fraction(1, 1_000_000)
    captured_s: float | None = None

    @property
    def time_s(self) -> float:
        """Presentation time in seconds."""
        return float(self.pts * self.time_base)


@dataclass(frozen=True, slots=True)
class Detection:
    """A face found in one picture: box in pixels (left, top, width, height), score in [0, 1].

    ``keypoints`` holds (x, y) in pixels of the image-left eye, image-right eye, nose tip, mouth,
    image-left ear and image-right ear; empty when the detector gives none.
    """

    x: float
    y: float
    w: float
    h: float
    score: float
    keypoints: tuple[tuple[float, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Face:
    """A tracked face: a stable ``id`` and a smoothed box in pixels (left, top, width, height).

    ``missed`` counts the updates since a detection last confirmed it; 0 means seen just now.
    """

    id: int
    x: float
    y: float
    w: float
    h: float
    score: float
    missed: int = 0


@dataclass(frozen=True, slots=True)
class Motion:
    """How a face moved between two frames: its centre by (dx, dy) pixels, its size by a factor."""

    dx: float
    dy: float
    growth: float = 1.0


@dataclass(frozen=True, slots=True)
class Crop:
    """A square of the frame at native resolution: integer left, top and side, in pixels.

    It may reach beyond the frame where the frame is smaller than the bucket; the pixels outside
    are the replicated border and are never pasted back.
    """

    x: int
    y: int
    size: int


class Outcome(StrEnum):
    """What became of one face in one frame."""

    ENHANCED = "enhanced"
    GUARDED = "guarded"
    """The output guard refused the network's result; the plain upscale is shown."""
    FAILED = "failed"
    """The network raised; the plain upscale is shown."""
    LEFT = "left"
    """Not asked for: strength 0, not among those chosen, or beyond the number asked for."""


@dataclass(frozen=True, slots=True)
class Enhanced:
    """An enhanced frame: ``rgb`` is (S*H, S*W, 3) uint8 RGB for output scale S.

    ``faces`` are those tracked in this frame, ``outcomes`` what became of each (same order),
    ``timings_ms`` the milliseconds spent per stage, ``counts`` events of this frame by name
    (for example ``attention_hits``).
    """

    rgb: Image
    faces: tuple[Face, ...] = ()
    outcomes: tuple[Outcome, ...] = ()
    timings_ms: Mapping[str, float] = field(default_factory=dict[str, float])
    counts: Mapping[str, int] = field(default_factory=dict[str, int])
