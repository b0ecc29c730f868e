"""Decoded video frames become RGB pictures here, and back, with the colours the tags name."""

from __future__ import annotations

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter

from cagface_core import Image
from realtime.source import ColourTags

# Without the two chroma flags swscale takes short cuts that shift colours by up to 3 levels.
_EXACT = (
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

_BT709, _SMPTE170M = 1, 6
_HD_HEIGHT = 720


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
        int(frame.color_range) == ColorRange.JPEG or frame.format.name.startswith("yuvj")
    )
    return ColourTags(
        matrix=matrix,
        primaries=int(frame.color_primaries),
        transfer=int(frame.color_trc),
        full_range=full_range,
    )


class ColourConverter:
    """Converts all frames of one stream; keeps swscale's tables between frames.

    One converter serves one direction and one thread.
    """

    def __init__(self, tags: ColourTags) -> None:
        self._tags = tags
        self._range = ColorRange.JPEG if tags.full_range else ColorRange.MPEG
        self._reformatters = [VideoReformatter() for _ in range(3)]

    def to_rgb(self, frame: av.VideoFrame, width: int, height: int) -> Image:
        """A decoded frame as (height, width, 3) uint8 RGB; deeper frames lose their low bits."""
        if frame.format.is_rgb:
            rgb = self._reformatters[0].reformat(
                frame, width, height, format="rgb24", interpolation=_EXACT
            )
        else:
            rgb = self._reformatters[0].reformat(
                frame,
                width,
                height,
                format="rgb24",
                src_colorspace=_MATRICES[self._tags.matrix],
                src_color_range=self._range,
                dst_color_range=ColorRange.JPEG,
                interpolation=_EXACT,
            )
        return np.ascontiguousarray(rgb.to_ndarray(), dtype=np.uint8)

    def from_rgb(self, rgb: Image, pix_fmt: str) -> av.VideoFrame:
        """(H, W, 3) uint8 RGB as a frame of ``pix_fmt`` with the stream's tags."""
        # swscale truncates where it makes 8-bit full-range chroma (half a level down on average)
        # and where it halves 12-bit chroma (luma half a level up). This way round does neither.
        steps = ("yuv444p12le", "yuv444p", pix_fmt) if self._tags.full_range else (pix_fmt,)
        matrix = _MATRICES[self._tags.matrix]
        frame = av.VideoFrame.from_ndarray(rgb, format="rgb24")
        source: dict[str, int] = {"src_color_range": ColorRange.JPEG}
        for step, reformatter in zip(steps, self._reformatters, strict=False):
            frame = reformatter.reformat(
                frame,
                format=step,
                dst_colorspace=matrix,
                dst_color_range=self._range,
                interpolation=_EXACT,
                **source,
            )
            source = {"src_colorspace": matrix, "src_color_range": self._range}
        frame.colorspace = self._tags.matrix
        frame.color_range = int(self._range)
        frame.color_primaries = self._tags.primaries
        frame.color_trc = self._tags.transfer
        return frame
