"""The nouns that cross between stages: frames, detections, faces, crops, enhanced frames."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from fractions import Fraction
from typing import Any, Literal, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from cagface_core.errors import InputError

Image: TypeAlias = NDArray[np.uint8]
"""An RGB picture: (H, W, 3), uint8, 0..255, sRGB-encoded, C-contiguous."""


Floats: TypeAlias = NDArray[np.float32]
Picture: TypeAlias = Image | Floats
"""(H, W, 3) RGB in levels of 0..255; float32 where it is deeper than 8 bits."""
Plane: TypeAlias = NDArray[np.uint8 | np.uint16]
"""One component of a picture, (H, W), in code values: uint8 up to 8 bits, else uint16."""


@dataclass(frozen=True, slots=True)
class PlaneLayout:
    """What the planes of a picture mean.

    Attributes:
        kind: ``yuv``: Y, Cb, Cr; ``gbr``: green, blue, red; ``grey``: Y alone.
        bits: of a code value, 8 to 16.
        alpha: a last plane says how opaque a pixel is.
        chroma_px: luma pixels to one chroma sample, across and down.
        chroma_at: where the first chroma sample lies, in luma pixels right of and below the
            first luma sample.
        weights: of red and of blue in luma (ITU-T H.273, K_R and K_B).
        full_range: luma uses all code values, and not 16 to 235 of 255.
    """

    kind: Literal["yuv", "gbr", "grey"] = "yuv"
    bits: int = 8
    alpha: bool = False
    chroma_px: tuple[int, int] = (2, 2)
    chroma_at: tuple[float, float] = (0.0, 0.5)
    weights: tuple[float, float] = (0.299, 0.114)
    full_range: bool = False


I420 = PlaneLayout(chroma_at=(0.5, 0.5))
"""What virtual cameras and live encoders take: ITU-R BT.601, chroma in the midst of four pixels."""


@dataclass(frozen=True, slots=True)
class Planes:
    """A picture as video codecs hold it: nothing of it is lost to 8-bit RGB."""

    planes: tuple[Plane, ...]
    layout: PlaneLayout

    @property
    def height(self) -> int:
        """Rows of luma."""
        return self.planes[0].shape[0]

    @property
    def width(self) -> int:
        """Columns of luma."""
        return self.planes[0].shape[1]


@dataclass(frozen=True, slots=True)
class Change:
    """What is added to an upscaled frame in one place.

    ``levels`` is (h, w, 3) float32 RGB in levels of 0..255, its left and top pixel at (x, y), once
    it is enlarged by ``zoom``, bicubic.
    """

    x: int
    y: int
    levels: Floats
    zoom: int = 1


@dataclass(frozen=True, slots=True)
class Foreseen:
    """What is known of a frame of a file before it is enhanced.

    Attributes:
        faces: those in it, found with the frames after it in view.
        begins: nothing that was remembered from frames before it counts any more.
        piece: the number of the frame that begins its piece of the film.
        runs_in: frames before the piece were enhanced to run it in.
        shown: False for a frame before its piece, enhanced only so that the first of the piece
            finds what a memory should hold.
    """

    faces: tuple[Face, ...]
    begins: bool
    piece: int
    runs_in: bool
    shown: bool


@dataclass(frozen=True, slots=True)
class Frame:
    """One picture of a stream and when it is shown.

    ``rgb`` is (H, W, 3) uint8 RGB. ``pts * time_base`` is the presentation time in seconds;
    both are exact. Live sources count ``pts`` in microseconds of a monotonic clock.
    ``captured_s`` is when it was captured, in seconds of `time.perf_counter`; None where that
    means nothing: in a file, or in a picture that no camera has seen. ``planes`` is the same
    picture as its file holds it; what is made of such a frame is made of them, and ``rgb`` is
    only what is looked at, or, of one that is only delivered, `NO_RGB`. ``foreseen`` is what is
    known of it already.
    """

    rgb: Image
    pts: int = 0
    time_base: Fraction = Fraction(1, 1_000_000)
    captured_s: float | None = None
    planes: Planes | None = None
    foreseen: Foreseen | None = None

    def __post_init__(self) -> None:
        """Refuse what is no picture, with ``InputError``."""
        checked_picture(self.rgb, 0)  # empty where only planes go on

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

    Of a frame that came with planes, or where planes were asked for, ``planes`` is the enhanced
    picture, and ``rgb`` is `NO_RGB`.
    ``faces`` are those tracked in this frame, ``outcomes`` what became of each (same order),
    ``timings_ms`` the milliseconds spent per stage, ``counts`` events of this frame by name
    (for example ``attention_hits``).
    """

    rgb: Image
    faces: tuple[Face, ...] = ()
    outcomes: tuple[Outcome, ...] = ()
    timings_ms: Mapping[str, float] = field(default_factory=dict[str, float])
    counts: Mapping[str, int] = field(default_factory=dict[str, int])
    planes: Planes | None = None


def checked_picture(rgb: object, least_px: int = 1) -> Image:
    """Give a picture back, or say in one line why it is none.

    Args:
        rgb: is expected to be (H, W, 3) uint8 RGB.
        least_px: H and W are to be at least.

    Raises:
        InputError: it is not.
    """
    found = type(rgb).__name__
    if isinstance(rgb, np.ndarray):
        picture = cast("NDArray[Any]", rgb)
        found = f"an array of shape {picture.shape}, {picture.dtype}"
        fits = picture.dtype == np.uint8 and picture.ndim == 3 and picture.shape[2] == 3
        if fits and min(picture.shape[:2]) >= least_px:
            return picture
    least = f", at least {least_px} pixels a side" if least_px else ""
    raise InputError(
        f"expected an RGB picture, a numpy array (height, width, 3) of uint8{least}; got {found}"
    )


NO_RGB: Image = np.zeros((0, 0, 3), np.uint8)
"""Stands where a picture is given in planes alone."""
