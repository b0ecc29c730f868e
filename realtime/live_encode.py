"""Delivered frames with their real times become H.264 in a file or a network stream here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fractions import Fraction
from typing import Any, cast

import av
import av.error
import numpy as np
from av.container import OutputContainer
from av.video.stream import VideoStream

from cagface_core import Frame, OutputError
from realtime.plain import i420_rows

_TIME_BASE = Fraction(1, 90_000)
"""MPEG's own: MPEG-TS can hold nothing finer, and nothing live needs it."""
_BT601 = 6
"""SMPTE 170M, as an ITU-T H.273 code point: the matrix of OpenCV's conversion."""
_SRGB_PRIMARIES, _BT709_TRANSFER = 1, 1
_USUAL_RATE = Fraction(30)


class LiveEncoder:
    """An open container that takes frames at whatever times they come.

    4:2:0 needs even sizes, so an odd last row or column is cut off. Belongs to one thread.

    Args:
        target: FFmpeg's name of the file or stream ("file:clip.mp4", "udp://host:port").
        name: what errors call it; a target may hold a secret key.
        width: of the frames to come, in pixels.
        height: of the frames to come, in pixels.
        rate: the nominal rate in Hz, for the encoder's plans; None means 30.
        container: the container's format; None goes by the target's suffix.
        container_options: FFmpeg's options of muxer and protocol.
        codec_options: of libx264.

    Raises:
        OutputError: the target cannot be opened; says FFmpeg's reason.
    """

    def __init__(
        self,
        target: str,
        name: str,
        width: int,
        height: int,
        rate: Fraction | None,
        *,
        container: str | None = None,
        container_options: Mapping[str, str],
        codec_options: Mapping[str, str],
    ) -> None:
        self._name = name
        self._size = (width & ~1, height & ~1)
        self._last_pts = -1
        self._origin: Fraction | None = None
        try:
            self._container: OutputContainer = av.open(
                target, "w", format=container, options=dict(container_options)
            )
        except (av.error.FFmpegError, OSError, ValueError) as error:
            raise OutputError(f"{name}: cannot be opened ({_reason(error)})") from error
        try:
            self._stream = self._add_stream(rate or _USUAL_RATE, codec_options)
            self._container.start_encoding()
        except (av.error.FFmpegError, OSError, ValueError) as error:
            self._abandon()
            raise OutputError(f"{name}: cannot be started ({_reason(error)})") from error

    def write(self, frame: Frame) -> None:
        """Encode one frame at its time after the first. Raises `OutputError`."""
        time_s = frame.pts * frame.time_base
        if self._origin is None:
            self._origin = time_s
        # A source that came back may have begun its clock anew.
        self._last_pts = max(self._last_pts + 1, round((time_s - self._origin) / _TIME_BASE))
        # swscale's exact conversion takes ten times as long, on cores that the network wants.
        picture = av.VideoFrame.from_ndarray(i420_rows(frame), format="yuv420p")
        self._encode(picture, self._last_pts)

    def close(self) -> None:
        """Write what the encoder still holds and close. Raises `OutputError`; closed anyway."""
        try:
            if self._origin is None:
                # FFmpeg crashes where it closes a hybrid MP4 without a frame.
                width, height = self._size
                self.write(Frame(np.zeros((height, width, 3), np.uint8)))
            self._encode(None, 0)
        except OutputError:
            self._abandon()
            raise
        try:
            self._container.close()
        except (av.error.FFmpegError, OSError) as error:
            raise self._broken(error) from error

    def _add_stream(self, rate: Fraction, options: Mapping[str, str]) -> VideoStream:
        stream = self._container.add_stream(
            "libx264",
            rate=rate,
            options=dict(options),
            time_base=_TIME_BASE,
            width=self._size[0],
            height=self._size[1],
        )
        assert isinstance(stream, VideoStream)
        context = stream.codec_context
        context.pix_fmt = "yuv420p"
        context.colorspace = _BT601
        context.color_primaries = _SRGB_PRIMARIES
        context.color_trc = _BT709_TRANSFER
        context.color_range = 1
        stream.time_base = _TIME_BASE
        return stream

    def _encode(self, picture: av.VideoFrame | None, pts: int) -> None:
        if picture is not None:
            picture.pts, picture.time_base = pts, _TIME_BASE
        try:
            for packet in cast("Iterable[av.Packet[Any]]", self._stream.encode_lazy(picture)):
                self._container.mux(packet)
        except (av.error.FFmpegError, OSError) as error:
            raise self._broken(error) from error

    def _broken(self, error: Exception) -> OutputError:
        return OutputError(f"{self._name}: writing failed ({_reason(error)})")

    def _abandon(self) -> None:
        """Close what is broken already: the first error is the one to report."""
        try:
            self._container.close()
        except (av.error.FFmpegError, OSError):
            return


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
