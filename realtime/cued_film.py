"""A film in, read from its middle; the very frames that another reading of it found, out."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from cagface_core import Frame, InputError
from realtime.ahead import Stretch
from realtime.source import SourceInfo
from realtime.video_in import VideoSource


class OtherFramesError(InputError):
    """A film gave other frames here than where its pieces were found."""


def mark_of(frame: Frame) -> int:
    """What a frame that came in planes is known by again: a checksum of its code values."""
    assert frame.planes is not None
    value = 0
    for plane in frame.planes.planes:
        value = zlib.crc32(np.ascontiguousarray(plane).data, value)
    return value


class CuedFilm:
    """The frames that one piece of a film takes, each held against its mark.

    Args:
        film: an open source that gives planes; closed with this.
        stretch: what is to be read.
        jump_s: go to so many seconds before its place at once; None decodes all that is before it.
    """

    def __init__(self, film: VideoSource, stretch: Stretch, jump_s: float | None) -> None:
        self._film, self._stretch, self._jump_s = film, stretch, jump_s

    @property
    def info(self) -> SourceInfo:
        """What is known of the film."""
        return self._film.info

    def frames(self, first: int = 0) -> Iterator[Frame]:
        """The stretch's frames, with their times. Raises `OtherFramesError` at another one."""
        stretch = self._stretch
        if first != stretch.first:
            raise ValueError(f"the stretch begins at frame {stretch.first}, not at {first}")
        if self._jump_s is None or first == 0:
            frames = self._film.frames(first)
        else:
            frames = self._film.frames_at(stretch.pts[0], self._jump_s)
        for number, (pts, mark) in enumerate(zip(stretch.pts, stretch.marks, strict=True), first):
            frame = next(frames, None)
            if frame is None or mark_of(frame) != mark:
                raise OtherFramesError(
                    f"{self.info.name}: frame {number} is not decoded here as it was before; make "
                    "this video without --cluster"
                )
            yield replace(frame, pts=pts)

    def close(self) -> None:
        """Close the film."""
        self._film.close()
