"""Decoded video frames become planes here, and planes an encoder's frames, value by value."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeVar

import av
import numpy as np
from av.video.format import VideoFormat
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from cagface_core import Image, PlaneLayout, Planes
from realtime.colour import EXACT, luma_weights, plane_values, range_of, swscale_matrix
from realtime.source import ColourTags

_CHROMA_NAMES = {
    (2, 2): "420", (2, 1): "422", (1, 1): "444", (1, 2): "440", (4, 1): "411", (4, 4): "410",
}  # fmt: skip


ScalarT = TypeVar("ScalarT", bound=np.generic)


@dataclass(frozen=True, slots=True)
class Orientation:
    """How a stored picture is turned upright: transpose first, then mirror."""

    transpose: bool = False
    mirror_x: bool = False
    mirror_y: bool = False

    def apply(self, picture: NDArray[ScalarT]) -> NDArray[ScalarT]:
        """Turn (H, W) or (H, W, C) upright; C-contiguous."""
        if self.transpose:
            picture = picture.swapaxes(0, 1)
        if self.mirror_x:
            picture = picture[:, ::-1]
        if self.mirror_y:
            picture = picture[::-1]
        return np.ascontiguousarray(picture)

    def turned(self, layout: PlaneLayout, width: int, height: int) -> PlaneLayout:
        """The layout of a turned picture, of this size once it is upright."""
        across, down = layout.chroma_px
        right, below = layout.chroma_at
        if self.transpose:
            across, down, right, below = down, across, below, right
        if self.mirror_x:
            right = _mirrored(right, across, width)
        if self.mirror_y:
            below = _mirrored(below, down, height)
        return replace(layout, chroma_px=(across, down), chroma_at=(right, below))


def _mirrored(first: float, step: int, length: int) -> float:
    """Where the first chroma sample lies once the last comes first."""
    return length - 1 - (first + step * (-(-length // step) - 1))


def planar_format(pix_fmt: VideoFormat) -> str:
    """FFmpeg's name of the planar format that holds the same code values."""
    components = pix_fmt.components
    bits = max(component.bits for component in components)
    bits = next((depth for depth in (8, 9, 10, 12, 14, 16) if depth >= bits), 16)
    depth = "" if bits == 8 else f"{bits}le"
    alpha = any(component.is_alpha for component in components)
    if pix_fmt.is_rgb or pix_fmt.has_palette or pix_fmt.name.startswith("xyz"):
        if alpha and bits == 9:
            bits, depth = 10, "10le"
        return f"gbr{'a' if alpha or pix_fmt.has_palette else ''}p{depth}"
    if len(components) < 3 and not alpha:
        return f"gray{depth}"
    px = _chroma_px(pix_fmt) if len(components) >= 3 else (1, 1)
    return f"yuv{'a' if alpha else ''}{_CHROMA_NAMES.get(px, '444')}p{depth}"


def _chroma_px(pix_fmt: VideoFormat) -> tuple[int, int]:
    return 64 // pix_fmt.chroma_width(64), 64 // pix_fmt.chroma_height(64)


def layout_of(name: str, tags: ColourTags) -> PlaneLayout:
    """What the planes of a `planar_format` mean."""
    pix_fmt = VideoFormat(name, 64, 64)
    alpha = any(component.is_alpha for component in pix_fmt.components)
    bits = pix_fmt.components[0].bits
    if pix_fmt.is_rgb:
        return PlaneLayout("gbr", bits, alpha, (1, 1), (0, 0), full_range=True)
    kind = "grey" if len(pix_fmt.components) == 1 else "yuv"
    across, down = _chroma_px(pix_fmt) if kind == "yuv" else (1, 1)
    return PlaneLayout(
        kind,
        bits,
        alpha,
        (across, down),
        (0.0, (down - 1) / 2),
        luma_weights(tags.matrix),
        tags.full_range,
    )


class PlaneReader:
    """Reads the frames of one stream; those of another size or format are brought to the first's.

    Args:
        first: the first frame.
        tags: what its colours mean.
        orientation: how it is turned upright.
    """

    def __init__(self, first: av.VideoFrame, tags: ColourTags, orientation: Orientation) -> None:
        self._width, self._height = first.width, first.height
        self._format = planar_format(first.format)
        self._orientation = orientation
        self._reformatter = VideoReformatter()
        width, height = first.width, first.height
        if orientation.transpose:
            width, height = height, width
        self._layout = orientation.turned(layout_of(self._format, tags), width, height)

    def read(self, frame: av.VideoFrame) -> Planes:
        """The planes of a frame, upright."""
        same_size = (frame.width, frame.height) == (self._width, self._height)
        # yuvj420p is yuv420p with its range in the name: converted, its code values would change.
        if not same_size or frame.format.name.replace("yuvj", "yuv") != self._format:
            frame = self._reformatter.reformat(
                frame, self._width, self._height, format=self._format, interpolation=EXACT
            )
        return Planes(
            tuple(
                self._orientation.apply(plane_values(plane, self._layout.bits))
                for plane in frame.planes
            ),
            self._layout,
        )


class PlaneWriter:
    """Makes frames of one pixel format for an encoder.

    Args:
        pix_fmt: what the encoder takes.
        tags: what the colours mean, and are said to mean.
    """

    def __init__(self, pix_fmt: str, tags: ColourTags) -> None:
        self._pix_fmt, self._tags = pix_fmt, tags
        self._reformatter = VideoReformatter()

    def frame(self, picture: Planes) -> av.VideoFrame:
        """A frame with the planes' code values where the format holds them, else the nearest."""
        layout = picture.layout
        frame = av.VideoFrame(picture.width, picture.height, name_of(layout))
        for target, source in zip(frame.planes, picture.planes, strict=True):
            plane_values(target, layout.bits)[:] = source
        colour_range = range_of(self._tags.full_range)
        if name_of(layout) != self._pix_fmt:
            matrix = swscale_matrix(self._tags.matrix)
            frame = self._reformatter.reformat(
                frame,
                format=self._pix_fmt,
                src_colorspace=matrix,
                dst_colorspace=matrix,
                src_color_range=range_of(layout.full_range),
                dst_color_range=colour_range,
                interpolation=EXACT,
            )
        frame.colorspace = self._tags.matrix
        frame.color_range = int(colour_range)
        frame.color_primaries = self._tags.primaries
        frame.color_trc = self._tags.transfer
        return frame


def planes_of_rgb(rgb: Image) -> Planes:
    """(H, W, 3) uint8 RGB as planes."""
    layout = PlaneLayout("gbr", chroma_px=(1, 1), chroma_at=(0, 0), full_range=True)
    return Planes(tuple(np.ascontiguousarray(rgb[..., index]) for index in (1, 2, 0)), layout)


def name_of(layout: PlaneLayout) -> str:
    """FFmpeg's name of a layout; that of its turned chroma where no codec has it."""
    depth = "" if layout.bits == 8 else f"{layout.bits}le"
    if layout.kind == "grey":
        return f"gray{depth}"
    alpha = "a" if layout.alpha else ""
    if layout.kind == "gbr":
        return f"gbr{alpha}p{depth}"
    return f"yuv{alpha}{_CHROMA_NAMES[layout.chroma_px]}p{depth}"
