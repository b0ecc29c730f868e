"""A video file, network stream or made-up picture comes in through FFmpeg as upright frames."""

from __future__ import annotations

import logging
import struct
from collections.abc import Iterator, Mapping
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
import av.error
from av.container import InputContainer
from av.sidedata.sidedata import SideData
from av.sidedata.sidedata import Type as SideDataType
from av.stream import Disposition
from av.video.stream import VideoStream

from cagface_core import Frame, InputError
from realtime.colour import ColourConverter, tags_of
from realtime.deinterlace import Deinterlacer
from realtime.hdr import read_hdr
from realtime.planar import Orientation, PlaneReader, planar_format
from realtime.source import SourceInfo, shown_as

_log = logging.getLogger(__name__)

_FASTEST_HZ = 1000
"""Raw DV tells 60,000 on average."""

_SHORT_S, _SHORT_SHARE = 2, Fraction(5, 100)
"""A picture that ends earlier by more than both is told of."""

JUMP_S = 1
"""Times that run back by more than this belong to another clock; by less, to frames in disorder."""
_NARROWEST = 8
"""Pixels are not narrower or wider than this."""
_NETWORK_TIMEOUT_S = (10.0, 5.0)
"""To open, and between two packets."""


def _side_data(frame: av.VideoFrame, kind: SideDataType) -> bytes | None:
    # The stub calls this a TypedDict; at run time it is keyed by type.
    found = cast(Mapping[SideDataType, SideData], frame.side_data)
    try:
        return bytes(found[kind])
    except KeyError:
        return None


def _orientation(frame: av.VideoFrame) -> Orientation:
    """Read the display matrix: x' = a*x + c*y, y' = b*x + d*y, in 16.16 fixed point."""
    matrix = _side_data(frame, SideDataType.DISPLAYMATRIX)
    if matrix is None:
        return Orientation()
    a, b, _, c, d, *_ = (value / 65536 for value in struct.unpack("=9i", matrix))
    if abs(a) + abs(d) < 0.02 * (abs(b) + abs(c)):
        return Orientation(transpose=True, mirror_x=c < 0, mirror_y=b < 0)
    if abs(b) + abs(c) < 0.02 * (abs(a) + abs(d)):
        return Orientation(mirror_x=a < 0, mirror_y=d < 0)
    _log.warning("the video is turned by an angle that is not a multiple of 90; left as it is")
    return Orientation()


def open_input(location: str, demuxer: str | None = None, *, url: bool = False) -> InputContainer:
    """Open a container for reading. Raises `InputError` that says what is wrong with it."""
    if not url and demuxer is None:
        path = Path(location)
        if not path.exists():
            raise InputError(f"{location}: no such file; check the name")
        if path.is_dir():
            raise InputError(f"{location} is a folder, expected a video file")
        # FFmpeg would take a name such as "clip:2.mp4" for a protocol without this.
        location = f"file:{location}"
    shown = shown_as(location) if url else location.removeprefix("file:")
    if url:
        scheme, _, rest = location.partition("://")
        location = f"{scheme.lower()}://{rest}"
    options = {"rtsp_transport": "tcp"} if location.startswith("rtsp") else {}
    try:
        return av.open(
            location,
            "r",
            format=demuxer,
            options=options,
            timeout=_NETWORK_TIMEOUT_S if url else None,
        )
    except av.error.InvalidDataError as error:
        raise InputError(
            f"{shown}: not a video that can be read (damaged, cut off before its index, or no "
            "video at all); play it elsewhere to check, or copy it again"
        ) from error
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise InputError(f"{shown}: cannot be opened ({_reason(error)})") from error


def _reason(error: Exception) -> str:
    """What went wrong, for people: FFmpeg calls it an exit when its time is over."""
    if isinstance(error, av.error.ExitError):
        return "nothing came for too long"
    return getattr(error, "strerror", None) or str(error)


def _has_no_end(container: InputContainer) -> bool:
    """Whether nothing tells where a stream ends, as of a camera's: no duration, no length.

    Playlists come piece by piece, each at once: they are held to their own times, as films are.
    """
    lists = container.format.name.split(",")[0] in ("hls", "dash")
    return not lists and container.duration is None and container.size <= 0


class VideoSource:
    """Frames of the first real video stream, upright, with their exact timestamps.

    Frames that cannot be decoded are left out and reported once at the end; InputError only when
    nothing can be decoded.

    Args:
        location: a path, or a URL or filter description with the next two arguments.
        demuxer: FFmpeg's name of the input format, None to find out from the content.
        url: ``location`` is a URL.
        live: the stream comes at its own pace; None where it has no end: a camera's, by HTTP.
        loop: start again at the end, for ever, with timestamps that go on rising.
        planes: give each frame its `Planes` too, all of one size, as they are stored. Without,
            frames are to be looked at: their pixels are square, and they may change size.
    """

    def __init__(
        self,
        location: Path | str,
        *,
        demuxer: str | None = None,
        url: bool = False,
        live: bool | None = False,
        loop: bool = False,
        planes: bool = False,
    ) -> None:
        self._location = str(location)
        self._name = shown_as(self._location) if url else self._location
        self._demuxer = demuxer
        self._url = url
        self._damaged = 0
        self._container = open_input(self._location, demuxer, url=url)
        try:
            self._live = _has_no_end(self._container) if live is None else live
            self._loop = loop and not self._live  # whoever opens it again waits before
            self._stream = stream = self._choose_stream()
            if stream.metadata.get("alpha_mode") == "1":
                _log.warning("%s: its transparency, as WebM has it, is left out", self._name)
            time_base = stream.time_base or Fraction(1, 90_000)
            aspect = stream.sample_aspect_ratio or Fraction(1)
            self._deinterlacer = Deinterlacer(self._name, time_base, aspect)
            self._decoder = self._decode(stream)
            first = next(self._decoder, None)
            if first is None:
                raise InputError(f"{self._name}: no frame of its video can be decoded")
        except BaseException:
            self._container.close()
            raise
        self._first: av.VideoFrame | None = first
        tags = tags_of(first)
        self._converter = ColourConverter(tags)
        self._orientation = _orientation(first)
        self._reader = PlaneReader(first, tags, self._orientation) if planes else None
        self._stored: tuple[int, int] | None = None
        self._size = first.width, first.height
        if not planes:
            self._fit_square_pixels(first)
        width, height = self._size

        turned = self._orientation.transpose
        told = (stream.average_rate, stream.base_rate, stream.guessed_rate)
        rate = next((rate for rate in told if rate and rate <= _FASTEST_HZ), None)
        start = stream.start_time if stream.start_time is not None else first.pts or 0
        self.info = SourceInfo(
            name=self._name,
            width=height if turned else width,
            height=width if turned else height,
            time_base=time_base,
            rate=rate,
            frame_count=self._estimate_frames(stream, rate),
            end_pts=None if stream.duration is None or self._loop else start + stream.duration,
            live=self._live,
            sample_aspect_ratio=Fraction(1) if not planes else 1 / aspect if turned else aspect,
            colour=tags,
            pix_fmt=planar_format(first.format),
            hdr=read_hdr(
                _side_data(first, SideDataType.MASTERING_DISPLAY_METADATA),
                _side_data(first, SideDataType.CONTENT_LIGHT_LEVEL),
            ),
        )

    def frames(self, first: int = 0) -> Iterator[Frame]:
        """All frames from number ``first`` on, in order; see `Source`.

        Raises `InputError` when a live stream breaks off.
        """
        number = 0
        last_pts: int | None = None
        repaired = 0
        offset = 0
        while True:
            for decoded in self._decoded():
                pts = decoded.pts if decoded.pts is not None else decoded.dts
                if pts is None:
                    pts = 0 if last_pts is None else last_pts + self.info.step - offset
                pts += offset
                if last_pts is not None and (last_pts - pts) * self.info.time_base > JUMP_S:
                    # A stream that began anew, or files joined end to end, goes on from here.
                    jump = last_pts + self.info.step - pts
                    offset, pts = offset + jump, pts + jump
                    repaired += 1
                elif last_pts is not None and pts <= last_pts:
                    # Encoders and containers refuse times that stand still or run back.
                    pts = last_pts + 1
                    repaired += 1
                last_pts = pts
                number += 1
                if number <= first:
                    continue
                if self._reader is None:
                    self._fit_square_pixels(decoded)
                yield self._frame(decoded, pts)
            if not self._loop or last_pts is None:
                break
            self._rewind()
            again = next(self._decoder, None)
            if again is None:
                break
            self._first = again
            offset = last_pts + self.info.step - (again.pts or 0)
        if self._damaged:
            _log.warning("%s: %d damaged packets left out", self._name, self._damaged)
        if repaired:
            _log.warning("%s: %d timestamps did not rise and were moved", self._name, repaired)
        elif last_pts is not None:
            self._tell_of_end(last_pts)

    def _tell_of_end(self, last_pts: int) -> None:
        """Say so where the picture ends long before the file says that it does."""
        told_s = self._told_s(self._stream)
        seen_s = (last_pts - (self._stream.start_time or 0)) * self.info.time_base
        if told_s and told_s - seen_s > max(_SHORT_S, _SHORT_SHARE * told_s):
            _log.warning(
                "%s: its picture ends at %.1f s, and it says %.1f s; was it cut off?",
                self._name, seen_s, told_s,
            )  # fmt: skip

    def frames_at(self, pts: int, jump_s: float) -> Iterator[Frame]:
        """The frames of a file from the one with this time on, as far as a jump finds it.

        The jump is to the key frame ``jump_s`` seconds before it, or what is taken for one. Times
        are those in the file, unrepaired; whether these are the frames that were meant is
        for the caller to check. Raises `InputError` where the file cannot be read out of order.
        """
        early = pts - round(jump_s / self.info.time_base)
        try:
            self._container.seek(early, stream=self._stream, backward=True)
        except (av.error.FFmpegError, OSError) as error:
            raise InputError(f"{self._name}: cannot be read from its middle") from error
        self._first, self._decoder = None, self._decode(self._stream)
        for decoded in self._decoder:
            at = decoded.pts if decoded.pts is not None else decoded.dts
            if at is not None and at >= pts:
                yield self._frame(decoded, at)

    def close(self) -> None:
        """Close the file or stream."""
        self._container.close()

    def _fit_square_pixels(self, decoded: av.VideoFrame) -> None:
        """Take over the size of a stored picture, in square pixels, of which none is lost."""
        stored = decoded.width, decoded.height
        if stored == self._stored:
            return
        # The file's word is the first one; of what comes later only the coding tells.
        changed, self._stored = self._stored is not None, stored
        coded = self._stream.codec_context.sample_aspect_ratio if changed else None
        aspect = coded or self._stream.sample_aspect_ratio
        if not aspect or not 1 / _NARROWEST <= aspect <= _NARROWEST:  # broken, rather than meant
            aspect = Fraction(1)
        wide, high = max(aspect, Fraction(1)), max(1 / aspect, Fraction(1))
        self._size = round(decoded.width * wide), round(decoded.height * high)

    def _frame(self, decoded: av.VideoFrame, pts: int) -> Frame:
        return Frame(
            self._orientation.apply(self._converter.to_rgb(decoded, *self._size)),
            pts,
            self.info.time_base,
            planes=self._reader.read(decoded) if self._reader else None,
        )

    def _decoded(self) -> Iterator[av.VideoFrame]:
        if self._first is not None:
            first, self._first = self._first, None
            yield first
        yield from self._decoder

    def _rewind(self) -> None:
        self._container.close()
        self._container = open_input(self._location, self._demuxer, url=self._url)
        self._stream = self._choose_stream()
        self._decoder = self._decode(self._stream)

    def _choose_stream(self) -> VideoStream:
        if self._container.format.name.endswith("_pipe") or self._container.format.name in (
            "image2",
            "tty",
        ):
            raise InputError(f"{self._name} is not a video; for pictures use: cagface image")
        for stream in self._container.streams.video:
            # A cover picture in a music file is a video stream by name only.
            if not stream.disposition & Disposition.attached_pic:
                stream.thread_type = "SLICE" if self._live else "AUTO"
                return stream
        found = ", ".join(
            "cover picture" if stream.type == "video" else stream.type
            for stream in self._container.streams
        )
        raise InputError(f"{self._name} has no video stream (found: {found or 'nothing'})")

    def _decode(self, stream: VideoStream) -> Iterator[av.VideoFrame]:
        return self._deinterlacer.frames(self._decode_packets(stream))

    def _decode_packets(self, stream: VideoStream) -> Iterator[av.VideoFrame]:
        packets = self._container.demux(stream)
        while True:
            try:
                packet = next(packets, None)
            except IndexError:  # PyAV's, where damage makes a stream of its own
                self._damaged += 1
                packets = self._container.demux(stream)
                continue
            except av.error.FFmpegError as error:
                if self._live:
                    raise InputError(
                        f"{self._name}: the stream broke off ({_reason(error)})"
                    ) from error
                _log.warning("%s: cut off, read up to the cut", self._name)
                return
            if packet is None:
                return
            try:
                yield from packet.decode()
            except av.error.FFmpegError:
                self._damaged += 1

    def _estimate_frames(self, stream: VideoStream, rate: Fraction | None) -> int | None:
        if self._loop or self._live:
            return None
        if stream.frames:
            return stream.frames
        told_s = self._told_s(stream)
        return round(told_s * rate) if rate and told_s is not None else None

    def _told_s(self, stream: VideoStream) -> Fraction | None:
        """How long the file says that its picture is, or all that it holds."""
        if stream.duration is not None and stream.time_base is not None:
            return stream.duration * stream.time_base
        if self._container.duration:
            return Fraction(self._container.duration, av.time_base)
        return None
