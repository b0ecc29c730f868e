"""What the runtime's tests share: clips made on the spot, a plain enhancer, looks at files."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from cagface_core import Enhanced, Face, Frame, Image, Rung, Tuning
from realtime.plain import untouched, upscale
from realtime.source import SourceInfo


def picture(index: int, width: int, height: int) -> Image:
    """A smooth coloured picture whose frame number shows as a bright bar that moves."""
    y, x = np.mgrid[0:height, 0:width]
    rgb = np.stack(
        [60 + 120 * x / width, 60 + 120 * y / height, 90 + 60 * (x + y) / (width + height)], axis=2
    )
    left = (index * 4) % (width - 8)
    rgb[height // 3 : height // 2, left : left + 8] = 220
    return rgb.astype(np.uint8)


@dataclass(frozen=True)
class Clip:
    """How to make a clip."""

    width: int = 96
    height: int = 64
    pts: Sequence[int] = tuple(range(0, 12 * 512, 512))
    time_base: Fraction = Fraction(1, 12_800)
    rate: Fraction = Fraction(25)
    codec: str = "libx264"
    pix_fmt: str = "yuv420p"
    options: tuple[tuple[str, str], ...] = (("crf", "10"), ("preset", "ultrafast"))
    audio: Sequence[str] = ()
    audio_start_s: float = 0.0
    audio_s: float = 0.48
    colorspace: int = 2
    color_range: int = 0
    sar: Fraction = Fraction(1)

    def write(self, path: Path) -> Path:
        """Make the file."""
        with av.open(str(path), "w") as container:
            video: Any = container.add_stream(
                self.codec, rate=self.rate, options=dict(self.options), time_base=self.time_base
            )
            video.width, video.height, video.pix_fmt = self.width, self.height, self.pix_fmt
            video.codec_context.sample_aspect_ratio = self.sar
            video.codec_context.colorspace = self.colorspace
            video.codec_context.color_range = self.color_range
            tones: list[Any] = [container.add_stream(codec, rate=48_000) for codec in self.audio]
            for tone in tones:
                tone.bit_rate = tone.bit_rate or 128_000  # without one some encoders do not open
            for index, pts in enumerate(self.pts):
                rgb = picture(index, self.width, self.height)
                frame = av.VideoFrame.from_ndarray(rgb, format="rgb24")
                if self.pix_fmt != "rgb24":
                    frame = frame.reformat(
                        format=self.pix_fmt,
                        src_color_range=2,
                        dst_colorspace={1: 1, 2: 5, 6: 5}[self.colorspace],
                        dst_color_range=self.color_range or 1,
                    )
                frame.pts, frame.time_base = pts, self.time_base
                container.mux(video.encode(frame))
            container.mux(video.encode(None))
            for number, tone in enumerate(tones):
                for packet in _tone(tone, 200 * (number + 1), self.audio_start_s, self.audio_s):
                    container.mux(packet)
        return path


def _tone(stream: Any, hz: int, start_s: float, seconds: float) -> Iterator[Any]:
    for block in range(round(50 * seconds)):
        t = (np.arange(960) + 960 * block) / 48_000
        wave = np.tile((0.2 * np.sin(2 * np.pi * hz * t)).astype(np.float32), (2, 1))
        frame = av.AudioFrame.from_ndarray(wave, format="fltp", layout="stereo")
        frame.sample_rate = 48_000
        frame.pts, frame.time_base = 960 * block + round(start_s * 48_000), Fraction(1, 48_000)
        yield from stream.encode(frame)
    yield from stream.encode(None)


def video_times(path: Path) -> list[Fraction]:
    """The exact presentation times of all frames, in seconds."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert stream.time_base is not None
        return [(f.pts or 0) * stream.time_base for f in container.decode(stream)]


def audio_streams(path: Path) -> list[tuple[str, list[Fraction]]]:
    """For each audio stream a hash over all its packets, and their exact times in seconds."""
    with av.open(str(path)) as container:
        found = {s.index: (hashlib.sha256(), []) for s in container.streams.audio}
        for packet in container.demux(*container.streams.audio) if found else ():
            if packet.dts is not None:
                digest, times = found[packet.stream.index]
                digest.update(bytes(packet))
                times.append((packet.pts or 0) * packet.time_base)
        return [(digest.hexdigest(), times) for digest, times in found.values()]


def frames_of(path: Path) -> list[Image]:
    """All pictures of a file, through the product's own source."""
    from realtime.video_in import VideoSource

    source = VideoSource(path, planes=True)
    pictures = [frame.rgb for frame in source.frames()]
    source.close()
    return pictures


class PlainState:
    """Counts how often it was reset."""

    def __init__(self) -> None:
        self.resets = 0

    def reset(self) -> None:
        self.resets += 1


class PlainEnhancer:
    """Enlarges by bicubic interpolation, reports one face, and fails where it is told to."""

    description = "plain bicubic"
    path = "plain"
    frames_ahead = 0

    def __init__(self, scale: int = 2, *, fail_at: Callable[[int], bool] | None = None) -> None:
        self.scale = scale
        self.tuning = Tuning("pico", scale)
        self.presets = ("pico", "nano")
        self.rungs = (Rung(self.tuning.preset, self.tuning.max_crop_px),)
        self.fail_at = fail_at or (lambda _index: False)
        self.states: list[PlainState] = []
        self.calls = itertools.count()
        self.warmed: tuple[int, int] | None = None
        self.closed = False

    def new_state(self, *, ahead: bool = False) -> PlainState:
        self.states.append(PlainState())
        return self.states[-1]

    def look(self, frame: Frame, state: PlainState) -> tuple[Face, ...]:
        return (Face(id=0, x=1, y=1, w=4, h=4, score=1.0),)

    def load(self, preset: str, max_crop_px: int | None = None) -> None:
        assert preset in self.presets

    def enhance(self, frame: Frame, state: PlainState, tuning: Tuning | None = None) -> Enhanced:
        if self.fail_at(next(self.calls)):
            raise RuntimeError("the network tripped")
        face = Face(id=0, x=1, y=1, w=4, h=4, score=1.0)
        counts = {"attention_hits": 3, "attention_misses": 1}
        plain = untouched(frame, (tuning or self.tuning).scale)
        return replace(plain, faces=(face,), timings_ms={"network": 1.0}, counts=counts)

    def begin(self, frame: Frame, state: PlainState) -> Callable[[], Enhanced]:
        enhanced = self.enhance(frame, state)
        return lambda: enhanced

    def enhance_aligned(self, rgb: Image) -> Image:
        return upscale(rgb, 4)

    def warm_up(self, height: int, width: int) -> None:
        self.warmed = (height, width)

    def close(self) -> None:
        self.closed = True


class ListSource:
    """Frames out of memory; raises ``error`` after the last."""

    def __init__(self, pts: Sequence[int], *, error: Exception | None = None) -> None:
        self.info = SourceInfo("list", 32, 16, Fraction(1, 1000), Fraction(25))
        self._pts = pts
        self._error = error

    def frames(self) -> Iterator[Frame]:
        for index, pts in enumerate(self._pts):
            yield Frame(picture(index, 32, 16), pts, self.info.time_base)
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        pass


class ListSink:
    """Keeps what it is given."""

    description = "list"

    def __init__(self, *, error_at: int | None = None, error: Exception | None = None) -> None:
        self.frames: list[Frame] = []
        self._error_at = error_at
        self._error = error or OSError("disk full")

    def write(self, frame: Frame) -> None:
        if len(self.frames) == self._error_at:
            raise self._error
        self.frames.append(frame)

    def finish(self) -> None:
        pass

    def close(self) -> None:
        pass
