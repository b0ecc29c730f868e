"""Enhanced frames go out into a video file here, with the input's times and its audio."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import av
import av.error
from av.container import OutputContainer
from av.video.stream import VideoStream

from cagface_core import ConfigError, Frame, OutputError
from realtime.audio_copy import AudioCopy
from realtime.colour import ColourConverter
from realtime.partial_file import PartialFile
from realtime.source import ColourTags, SourceInfo

_X26X_PRESETS = (
    "ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow",
)  # fmt: skip
_FRAME_DURATION_FLAG = 1 << 8
"""AV_CODEC_FLAG_FRAME_DURATION: the encoder hands each frame's duration on to its packet."""


@dataclass(frozen=True, slots=True)
class _Encoder:
    """What this program knows of one FFmpeg encoder."""

    options: Callable[[int, str], dict[str, str]]
    """(quality, preset) -> the encoder's own options."""
    crf: int
    """Default constant-quality value."""
    max_crf: int
    preset: str
    presets: tuple[str, ...]
    odd_pix_fmt: str
    """Pixel format for odd sizes: 4:4:4 where 4:2:0 needs even ones."""


_ENCODERS = {
    "libx264": _Encoder(
        lambda crf, preset: {"crf": str(crf), "preset": preset},
        crf=18, max_crf=51, preset="fast", presets=_X26X_PRESETS, odd_pix_fmt="yuv444p",
    ),
    "libx265": _Encoder(
        lambda crf, preset: {
            "crf": str(crf), "preset": preset, "x265-params": "log-level=error",
        },
        crf=20, max_crf=51, preset="fast", presets=_X26X_PRESETS, odd_pix_fmt="yuv444p",
    ),
    "libvpx-vp9": _Encoder(
        lambda crf, preset: {
            "crf": str(crf), "b": "0", "deadline": "good", "cpu-used": preset, "row-mt": "1",
        },
        crf=24, max_crf=63, preset="4", presets=tuple("012345678"), odd_pix_fmt="yuv420p",
    ),
    "ffv1": _Encoder(
        lambda _crf, _preset: {"level": "3", "slicecrc": "1"},
        crf=0, max_crf=0, preset="lossless", presets=("lossless",), odd_pix_fmt="yuv420p",
    ),
}  # fmt: skip

_DEFAULT_ENCODER = {
    ".mp4": "libx264",
    ".m4v": "libx264",
    ".mov": "libx264",
    ".mkv": "libx264",
    ".webm": "libvpx-vp9",
}


@dataclass(frozen=True, slots=True)
class EncodeOptions:
    """How to encode; None means the usual value for the file's suffix and the codec."""

    codec: str | None = None
    crf: int | None = None
    preset: str | None = None


def usable_codecs() -> list[str]:
    """The codecs that this program knows and this FFmpeg has."""
    return [name for name in _ENCODERS if name in av.codecs_available]


def _resolve(path: Path, options: EncodeOptions) -> tuple[str, _Encoder, dict[str, str]]:
    """Choose the encoder and its options, or say in one line why they make no sense."""
    suffix = path.suffix.lower()
    if suffix not in _DEFAULT_ENCODER:
        raise OutputError(
            f"{path}: unknown kind of video file; use a name that ends in one of "
            + ", ".join(_DEFAULT_ENCODER)
        )
    codec = options.codec or _DEFAULT_ENCODER[suffix]
    if codec not in usable_codecs():
        raise ConfigError(f"unknown codec {codec!r}; usable: {', '.join(usable_codecs())}")
    encoder = _ENCODERS[codec]
    crf = encoder.crf if options.crf is None else options.crf
    if not 0 <= crf <= encoder.max_crf:
        raise ConfigError(f"--crf {crf}: {codec} takes 0 (best) to {encoder.max_crf} (smallest)")
    preset = options.preset or encoder.preset
    if preset not in encoder.presets:
        raise ConfigError(
            f"--encoder-preset {preset!r}: {codec} takes {', '.join(encoder.presets)}"
        )
    return codec, encoder, encoder.options(crf, preset)


class VideoSink:
    """A video file that appears under its name only when it is whole.

    Timestamps are those of the frames, exactly, as far as the container can hold them: Matroska
    and WebM round to milliseconds, and shift everything together when the audio begins before
    zero. Odd sizes keep every pixel: they are stored as 4:4:4 where the codec's 4:2:0 cannot
    (H.264, H.265). The sample aspect ratio and colour tags are carried, the rotation is not: the
    frames are upright.

    Args:
        path: the file to make; its suffix chooses the container.
        info: of the source, for times, colours and aspect.
        width: of the frames to come, in pixels.
        height: of the frames to come, in pixels.
        options: codec, quality, speed.
        overwrite: replace an existing file.
        audio_from: a file whose audio streams are copied; None for no audio.

    Raises:
        OutputError: the place or the combination of container, codec and audio does not work.
        ConfigError: an encoder option makes no sense.
    """

    def __init__(
        self,
        path: Path,
        info: SourceInfo,
        width: int,
        height: int,
        *,
        options: EncodeOptions,
        overwrite: bool = False,
        audio_from: Path | None = None,
    ) -> None:
        codec, encoder, codec_options = _resolve(path, options)
        self.description = str(path)
        self._path = path
        self._size = (width, height)
        self._end_pts = info.end_pts
        colour = info.colour or ColourTags(matrix=1, primaries=1, transfer=1, full_range=False)
        self._converter = ColourConverter(colour)
        odd = width % 2 or height % 2
        self._pix_fmt = encoder.odd_pix_fmt if odd else "yuv420p"
        self._waiting: av.VideoFrame | None = None
        self._waiting_pts = 0
        self._usual_step = max(1, round(1 / (info.rate * info.time_base))) if info.rate else None
        self._step = self._usual_step or 1
        with ExitStack() as undo:
            self._file = PartialFile(path, overwrite=overwrite)
            undo.callback(self._file.discard)
            try:
                self._container = self._open_container(info, audio_from)
                undo.callback(self._close_container)
                self._video = self._add_video(codec, codec_options, info, colour)
                self._audio = (
                    AudioCopy(str(audio_from), self._container, str(path)) if audio_from else None
                )
                if self._audio:
                    undo.callback(self._audio.close)
                self._container.start_encoding()
            except (av.error.FFmpegError, OSError, ValueError) as error:
                raise OutputError(
                    f"{path}: {codec} at {width}x{height} does not work in this kind of file "
                    f"({error}); try another --codec or suffix"
                ) from error
            self._undo = undo.pop_all()

    def write(self, frame: Frame) -> None:
        """Encode one frame. Raises OutputError when the disk is full."""
        height, width = frame.rgb.shape[:2]
        if (width, height) != self._size:
            raise ValueError(f"a frame of {width}x{height} came into a video of {self._size}")
        picture = self._converter.from_rgb(frame.rgb, self._pix_fmt)
        picture.pts = frame.pts
        picture.time_base = frame.time_base
        # A frame's duration is known when the next one is there.
        if self._waiting is not None:
            self._step = frame.pts - self._waiting_pts
            self._encode(self._waiting, self._step)
        self._waiting, self._waiting_pts = picture, frame.pts

    def finish(self) -> None:
        """Encode what is left, copy the rest of the audio, give the file its name."""
        if self._waiting is not None:
            # Where the input does not say when its last frame ends, it lasts as long as usual,
            # or as the frame before it in a stream that is faster than that.
            to_end = (self._end_pts or 0) - self._waiting_pts
            usual = min(self._step, self._usual_step or self._step)
            self._encode(self._waiting, to_end if to_end > 0 else usual)
            self._waiting = None
        self._encode(None, 0)
        try:
            if self._audio:
                self._audio.copy_until(None)
            self._container.close()
        except (av.error.FFmpegError, OSError) as error:
            raise self._write_error(error) from error
        self._file.commit()

    def close(self) -> None:
        """Release everything; an unfinished file is removed."""
        self._undo.close()

    def _open_container(self, info: SourceInfo, audio_from: Path | None) -> OutputContainer:
        options: dict[str, str] = {}
        if self._path.suffix.lower() in (".mp4", ".m4v", ".mov"):
            # Edit lists count in the movie's own time scale, 1/1000 s unless told: too coarse
            # for starts such as 1001/30000 s.
            options = {
                "movflags": "+faststart",
                "movie_timescale": str(_movie_timescale(info, audio_from)),
            }
        return av.open(f"file:{self._file.path}", "w", options=options)

    def _add_video(
        self, codec: str, codec_options: dict[str, str], info: SourceInfo, colour: ColourTags
    ) -> VideoStream:
        stream = self._container.add_stream(
            codec,
            rate=info.rate or Fraction(30),
            options=codec_options,
            time_base=info.time_base,
            width=self._size[0],
            height=self._size[1],
        )
        assert isinstance(stream, VideoStream)
        context = stream.codec_context
        context.pix_fmt = self._pix_fmt
        context.thread_count = 0
        context.sample_aspect_ratio = info.sample_aspect_ratio
        context.colorspace = colour.matrix
        context.color_primaries = colour.primaries
        context.color_trc = colour.transfer
        context.color_range = 2 if colour.full_range else 1
        context.flags |= _FRAME_DURATION_FLAG
        stream.time_base = info.time_base
        return stream

    def _encode(self, picture: av.VideoFrame | None, duration: int) -> None:
        """Encode a picture, None for all that the encoder still holds, and what is due of audio."""
        if picture is not None:
            picture.duration = duration
        try:
            for packet in cast("Iterable[av.Packet[Any]]", self._video.encode_lazy(picture)):
                if self._audio and packet.dts is not None:
                    self._audio.copy_until(packet.dts * packet.time_base)
                self._container.mux(packet)
        except (av.error.FFmpegError, OSError) as error:
            raise self._write_error(error) from error

    def _write_error(self, error: Exception) -> OutputError:
        reason = getattr(error, "strerror", None) or str(error)
        return OutputError(f"{self._path}: writing failed ({reason}); nothing is left behind")

    def _close_container(self) -> None:
        try:
            self._container.close()
        except (av.error.FFmpegError, OSError):
            # Only reached for a file that is thrown away: the first error is the one to report.
            return


def _movie_timescale(info: SourceInfo, audio_from: Path | None) -> int:
    """A time scale, in Hz, in which the starts of the video and all audio streams are whole."""
    rates = {info.time_base.denominator}
    if audio_from:
        with av.open(f"file:{audio_from}") as container:
            rates |= {stream.rate for stream in container.streams.audio if stream.rate}
    exact = math.lcm(*rates)
    return exact if exact <= 100_000_000 else info.time_base.denominator
