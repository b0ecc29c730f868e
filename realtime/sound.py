"""Audio that the output cannot hold in its own coding goes in, the same as FLAC comes out."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import av
import av.error
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.container import OutputContainer

_IN_16_BITS = ("u8", "u8p", "s16", "s16p")


class FlacCopy:
    """Decodes an audio stream and encodes it as FLAC, which loses nothing of what was decoded."""

    def __init__(self, source: AudioStream, output: OutputContainer) -> None:
        """Add the stream to the output.

        Args:
            source: of the input.
            output: a container that can hold FLAC.
        """
        context = source.codec_context
        depth = "s16" if context.format.name in _IN_16_BITS else "s32"
        self.stream: AudioStream = output.add_stream("flac", rate=context.sample_rate)
        """The output's."""
        self.stream.codec_context.layout = context.layout
        self.stream.codec_context.format = depth
        self._depth, self._source = depth, source
        self._resampler: AudioResampler | None = None
        self._start_s: Fraction | None = None
        self._done = 0

    def packets(self, packet: av.Packet[Any] | None) -> Iterator[av.Packet[Any]]:
        """Turn a packet of the input's into some of the output's; None gives the rest.

        Damaged ones are left out.
        """
        for frame in self._decoded(packet):
            if self._start_s is None and frame.pts is not None and frame.time_base is not None:
                self._start_s = frame.pts * frame.time_base
            frame.pts = None  # those of old containers are rounded, and tell of gaps without one
            yield from self._encoded(frame)
        if packet is None:
            yield from self._encoded(None)

    def _decoded(self, packet: av.Packet[Any] | None) -> list[av.AudioFrame]:
        try:
            return list(self._source.codec_context.decode(packet))
        except av.error.FFmpegError:
            return []

    def _encoded(self, frame: av.AudioFrame | None) -> Iterator[av.Packet[Any]]:
        context = self.stream.codec_context
        if self._resampler is None:
            if frame is None:
                return
            context.open(strict=False)
            self._resampler = AudioResampler(
                self._depth, context.layout, context.sample_rate, context.frame_size or None
            )
        for piece in self._resampler.resample(frame):
            piece.time_base = Fraction(1, context.sample_rate)
            piece.pts = round((self._start_s or 0) * context.sample_rate) + self._done
            self._done += piece.samples
            yield from context.encode(piece)
        if frame is None:
            yield from context.encode(None)
