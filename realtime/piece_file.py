"""Frames of one piece of a film go into a file of their own here, encoded.

The file counts frames instead of time, as Matroska rounds times; what the times are is kept
elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import av
import av.error
from av.container import OutputContainer
from av.video.format import VideoFormat
from av.video.stream import VideoStream

from cagface_core import Planes
from realtime.encoders import Chosen
from realtime.planar import PlaneWriter
from realtime.source import ColourTags, SourceInfo

_TICK = Fraction(1, 1000)
"""A frame of a piece, in Matroska's time."""

_LEAD = 64
"""The number that the first frame has in the file: those that come before they are shown have
decoding times, which must rise, and may not be negative."""


class PieceFile:
    """Encodes the frames of one piece. Raises FFmpegError, OSError: where the disk is full."""

    def __init__(self, path: Path, chosen: Chosen, info: SourceInfo, size: tuple[int, int]) -> None:
        self._path = path
        self._pts: list[int] = []
        self._number: dict[int, int] = {}
        self._written = 0
        self._depth = 0
        self._writer = PlaneWriter(chosen.pix_fmt, tags_of_output(info, chosen))
        self._container = av.open(f"file:{path}", "w", format="matroska")
        try:
            self._video = add_video(self._container, chosen, info, size)
            self._container.start_encoding()
        except BaseException:
            self.discard()
            raise

    def write(self, planes: Planes, pts: int, time_base: Fraction) -> None:
        """Encode one frame, with a time above those before."""
        picture = self._writer.frame(planes)
        picture.pts, picture.time_base = pts, time_base
        self._number[pts] = len(self._pts)
        self._pts.append(pts)
        self._encode(picture)

    def finish(self) -> tuple[list[int], int]:
        """Encode what is left and close the file.

        Returns:
            The frames' times, and how many packets come, at most, before one that is shown before
            them.
        """
        self._encode(None)
        self._container.close()
        return self._pts, self._depth

    def discard(self) -> None:
        """Close the file and remove it."""
        with suppress(av.error.FFmpegError, OSError):
            self._container.close()
        self._path.unlink(missing_ok=True)

    def _encode(self, picture: av.VideoFrame | None) -> None:
        for packet in cast("Iterable[av.Packet[Any]]", self._video.encode_lazy(picture)):
            assert packet.pts is not None
            number = self._number[packet.pts]
            self._depth = max(self._depth, self._written - number)
            packet.pts = number + _LEAD
            packet.dts = self._written
            packet.time_base, packet.duration = _TICK, 1
            self._written += 1
            self._container.mux(packet)


def read_piece(path: Path) -> Iterator[tuple[int, av.Packet[Any]]]:
    """The packets of a piece in the order of decoding, each with the number of its frame."""
    with av.open(f"file:{path}") as container:
        for packet in container.demux(video=0):
            if packet.pts is not None:
                yield packet.pts - _LEAD, packet


def add_video(
    container: OutputContainer, chosen: Chosen, info: SourceInfo, size: tuple[int, int]
) -> VideoStream:
    """Add the encoder's stream to a file."""
    colour = tags_of_output(info, chosen)
    stream = container.add_stream(
        chosen.codec,
        rate=info.rate or Fraction(30),
        options=dict(chosen.options),
        time_base=info.time_base,
        width=size[0],
        height=size[1],
    )
    assert isinstance(stream, VideoStream)
    context = stream.codec_context
    context.pix_fmt = chosen.pix_fmt
    context.thread_count = 0
    context.sample_aspect_ratio = info.sample_aspect_ratio
    context.colorspace = colour.matrix
    context.color_primaries = colour.primaries
    context.color_trc = colour.transfer
    context.color_range = 2 if colour.full_range else 1
    stream.time_base = info.time_base
    return stream


def tags_of_output(info: SourceInfo, chosen: Chosen) -> ColourTags:
    """What the output says of its colours."""
    tags = info.colour or ColourTags(matrix=1, primaries=1, transfer=1, full_range=False)
    if VideoFormat(chosen.pix_fmt, 64, 64).is_rgb:
        return replace(tags, matrix=0, full_range=True)
    return tags
