"""Decoded video frames become RGB pictures here, in the colours that their tags name."""

from __future__ import annotations

from typing import cast

import av
import cv2
import numpy as np
from av.video.plane import VideoPlane
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter

from cagface_core import Image, Plane
from realtime.source import ColourTags

# For every conversion. Without the two chroma flags swscale takes short cuts that shift colours by
# up to 3 levels.
EXACT = (
    Interpolation.BICUBIC
    | Interpolation.ACCURATE_RND
    | Interpolation.FULL_CHR_H_INT
    | Interpolation.FULL_CHR_H_INP
)

_MATRICES = {
    1: Colorspace.ITU709,
    4: Colorspace.FCC,
    5: Colorspace.ITU601,
    6: Colorspace.ITU601,
    7: Colorspace.SMPTE240M,
    9: Colorspace.BT2020,
    10: Colorspace.BT2020,
}
"""H.273 matrix coefficients -> swscale's constant. 0 (RGB), 2 (unspecified) and rare ones miss."""

_WEIGHTS = {
    1: (0.2126, 0.0722),
    4: (0.30, 0.11),
    5: (0.299, 0.114),
    6: (0.299, 0.114),
    7: (0.212, 0.087),
    9: (0.2627, 0.0593),
    10: (0.2627, 0.0593),
}
"""H.273 matrix coefficients -> K_R and K_B."""

_BT709, _SMPTE170M = 1, 6
_HD_HEIGHT = 720


def swscale_matrix(matrix: int) -> Colorspace:
    """What swscale calls H.273 matrix coefficients; RGB, 0, has none of its own."""
    return _MATRICES.get(matrix, Colorspace.ITU709)


def luma_weights(matrix: int) -> tuple[float, float]:
    """The weights of red and of blue in luma."""
    return _WEIGHTS[matrix]


def range_of(full: bool) -> ColorRange:
    """What FFmpeg calls the range of code values."""
    return ColorRange.JPEG if full else ColorRange.MPEG


def tags_of(frame: av.VideoFrame) -> ColourTags:
    """What the frame says of its colours, with the usual guess where it says nothing.

    An untagged matrix means BT.601 below 720 lines and BT.709 from there on: that is how players
    read it. The guess is written out as a tag, because the enlarged video may cross that line
    and would then be shown in other colours.
    """
    matrix = int(frame.colorspace)
    if matrix not in _MATRICES:
        matrix = _BT709 if min(frame.width, frame.height) >= _HD_HEIGHT else _SMPTE170M
    full_range = not frame.format.is_rgb and (
        int(frame.color_range) == ColorRange.JPEG
        or frame.format.name.startswith("yuvj")
        # FFmpeg takes grey that says nothing as full.
        or (frame.format.name.startswith("gray") and int(frame.color_range) == 0)
    )
    return ColourTags(
        matrix=matrix,
        primaries=int(frame.color_primaries),
        transfer=int(frame.color_trc),
        full_range=full_range,
    )


class ColourConverter:
    """Converts all frames of one stream, in one thread; keeps swscale's tables between frames."""

    def __init__(self, tags: ColourTags) -> None:
        self._tags = tags
        self._reformatter = VideoReformatter()

    def to_rgb(self, frame: av.VideoFrame, width: int, height: int) -> Image:
        """A decoded frame as (height, width, 3) uint8 RGB; deeper frames lose their low bits."""
        if frame.format.is_rgb:
            rgb = self._reformatter.reformat(
                frame, width, height, format="rgb24", interpolation=EXACT
            )
            return np.ascontiguousarray(rgb.to_ndarray(), dtype=np.uint8)
        # The same values as in rgb24, but computed by vector code, in a third of the time.
        planar = self._reformatter.reformat(
            frame,
            width,
            height,
            format="gbrp",
            src_colorspace=swscale_matrix(self._tags.matrix),
            src_color_range=range_of(self._tags.full_range),
            dst_color_range=ColorRange.JPEG,
            interpolation=EXACT,
        )
        green, blue, red = (plane_values(plane, 8) for plane in planar.planes)
        return np.asarray(cv2.merge([red, green, blue]), np.uint8)


def plane_values(plane: VideoPlane, bits: int) -> Plane:
    """A plane's memory as (H, W) code values; writing into it changes the frame."""
    values: Plane
    # The stub does not say that a plane is a buffer.
    if bits <= 8:
        values = np.frombuffer(cast(bytearray, plane), np.uint8)
    else:
        values = np.frombuffer(cast(bytearray, plane), np.uint16)
    row = plane.line_size // values.itemsize
    return values[: row * plane.height].reshape(plane.height, row)[:, : plane.width]
