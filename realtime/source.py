"""Frames come in here: the `Source` Protocol, and `open_source`, which finds the right backend."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Protocol

from cagface_core import DeviceError, Frame, InputError
from realtime.hdr import HdrMetadata

_LIVE_SCHEMES = ("rtsp", "rtsps", "rtmp", "rtmps", "udp", "rtp", "srt", "tcp")

_MOST_CAMERAS = 999


@dataclass(frozen=True, slots=True)
class ColourTags:
    """How YUV numbers mean colour, as ITU-T H.273 code points; ``full_range`` is 0..255 luma."""

    matrix: int
    primaries: int
    transfer: int
    full_range: bool


@dataclass(frozen=True, slots=True)
class SourceInfo:
    """What is known of a source before its first frame is taken.

    ``width`` and ``height`` are those of `Frame.rgb`, upright, in pixels: of every frame with
    planes, of others at the start. ``rate`` is the nominal frame rate in Hz, ``frame_count`` an
    estimate, ``end_pts`` where the last frame ends in units of ``time_base``; None where unknown.
    ``live`` sources keep their own pace; others give frames as fast as they are asked. ``pix_fmt``
    is FFmpeg's name of the planar format that holds a file's code values, ``hdr`` what it says of
    the display it was made on.
    """

    name: str
    width: int
    height: int
    time_base: Fraction
    rate: Fraction | None = None
    frame_count: int | None = None
    end_pts: int | None = None
    live: bool = False
    sample_aspect_ratio: Fraction = Fraction(1)
    colour: ColourTags | None = None
    pix_fmt: str = "yuv420p"
    hdr: HdrMetadata | None = None

    @property
    def step(self) -> int:
        """How long a frame usually lasts, in units of ``time_base``; 1 where that is unknown."""
        return max(1, round(1 / (self.rate * self.time_base))) if self.rate else 1


class Source(Protocol):
    """An open stream of frames. Its constructor raises `InputError` or `DeviceError`."""

    @property
    def info(self) -> SourceInfo:
        """Known as soon as the source is open."""
        ...

    def frames(self) -> Iterator[Frame]:
        """All frames, once, in order, ``pts`` strictly rising.

        Those with planes are all of one size, others may change theirs. Live ones
        carry ``captured_s``. Runs in one thread. Raises `InputError` or `DeviceError` when the
        stream breaks off.
        """
        ...

    def close(self) -> None:
        """Release the device or file; may be called twice, never while `frames` runs."""
        ...


@dataclass(frozen=True, slots=True)
class CameraRequest:
    """What a camera is asked for; it may give something else. None: the camera's own choice."""

    width: int | None = None
    height: int | None = None
    rate_hz: float | None = None


def open_source(spec: str, *, loop: bool = False, camera: CameraRequest | None = None) -> Source:
    """Open a camera, a file, a network stream or a made-up picture.

    Cameras and network streams never end, those by HTTP where they do not say when: one that is
    lost is opened again until it is back, see `realtime.reconnect`.

    Args:
        spec: a camera's number ("0") or device ("/dev/video0"); a path; a URL ("rtsp://...");
            or "lavfi:" and a filter description ("lavfi:testsrc=size=640x480:rate=30").
        loop: start a file again when it ends, for ever.
        camera: the size and rate asked of a camera.

    Raises:
        DeviceError: the camera is not there or gives no picture.
        InputError: the file or stream cannot be read.
    """
    if not spec.strip() or (spec.startswith("-") and spec[1:].isdecimal()):
        raise InputError(
            f"there is no source {spec!r}: expected a camera's number from 0 on, a file or a URL; "
            "'cagface devices' lists cameras"
        )
    if spec.isdecimal() and int(spec) > _MOST_CAMERAS:
        raise DeviceError(f"there is no camera {spec}; 'cagface devices' lists those that are")
    # Backends are imported only when used: a machine without OpenCV's video part still reads
    # files, and one without FFmpeg still has its camera.
    if is_camera(spec):
        from realtime.camera import CameraSource
        from realtime.reconnect import Reconnecting

        request = camera or CameraRequest()
        return Reconnecting(lambda: CameraSource(spec, request), shown_as(spec))
    from realtime.video_in import VideoSource

    if spec.startswith("lavfi:"):
        if not spec.removeprefix("lavfi:").strip():
            raise InputError('"lavfi:" lacks a filter; for example: lavfi:testsrc=size=640x480')
        return VideoSource(spec.removeprefix("lavfi:"), demuxer="lavfi", loop=loop)
    if "://" in spec:
        live = True if spec.split("://", 1)[0].lower() in _LIVE_SCHEMES else None
        source = VideoSource(spec, url=True, live=live, loop=loop)
        if not source.info.live:
            return source
        from realtime.reconnect import Reconnecting

        opened = iter([source])
        return Reconnecting(
            lambda: next(opened, None) or VideoSource(spec, url=True, live=True), shown_as(spec)
        )
    return VideoSource(Path(spec), loop=loop)


def shown_as(spec: str) -> str:
    """How a source is named to people, from what `open_source` takes.

    Of a URL without what must not be shown: name and password, and what follows a "?".
    """
    if is_camera(spec):
        return f"camera {spec}"
    scheme, mark, rest = spec.partition("://")
    if not mark or scheme.startswith("lavfi:"):
        return spec
    rest = rest.partition("?")[0]
    host, slash, path = rest.partition("/")
    port = host.rpartition(":")[2] if ":" in host.rpartition("]")[2] else "0"
    if "@" in path and not (port.isdecimal() or "@" in host):  # a password that has a "/"
        return f"{scheme}://{rest.rpartition('@')[2]}"
    return f"{scheme}://{host.rpartition('@')[2]}{slash}{path}"


def is_camera(spec: str) -> bool:
    """Whether that is a camera's number or device."""
    return spec.isdecimal() or spec.startswith("/dev/video")
