"""Audio packets cross from the input file to the output file here, untouched."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import av
import av.error
from av.audio.stream import AudioStream
from av.container import OutputContainer

from cagface_core import OutputError
from realtime.video_in import open_input

_log = logging.getLogger(__name__)


class AudioCopy:
    """Copies every audio stream, bit for bit, with its own times, language and title.

    It opens the input a second time, so that video decoding never has to hold back audio
    packets. `copy_until` is called with the time of each video packet and keeps both side by
    side in the file.
    """

    def __init__(self, path: str, output: OutputContainer, output_name: str) -> None:
        self._input = open_input(path)
        self._path = path
        self._output = output
        self._next: av.Packet[Any] | None = None
        self._streams: dict[int, AudioStream] = {}
        try:
            for stream in self._input.streams.audio:
                self._streams[stream.index] = self._add(stream, output_name)
        except BaseException:
            self._input.close()
            raise
        self._packets = self._read()

    @property
    def stream_count(self) -> int:
        """How many audio streams are copied."""
        return len(self._streams)

    def copy_until(self, time_s: Fraction | None) -> None:
        """Copy all packets that are due by ``time_s`` seconds; None copies the rest."""
        while True:
            packet = self._next or next(self._packets, None)
            self._next = None
            if packet is None:
                return
            if time_s is not None and (packet.dts or 0) * packet.time_base > time_s:
                self._next = packet
                return
            packet.stream = self._streams[packet.stream.index]
            self._output.mux(packet)

    def close(self) -> None:
        """Close the input."""
        self._input.close()

    def _add(self, stream: AudioStream, output_name: str) -> AudioStream:
        try:
            copy = self._output.add_stream_from_template(stream)
        except ValueError as error:
            raise OutputError(
                f"{output_name}: this kind of file cannot hold the {stream.codec_context.name} "
                "audio of the input; use a name that ends in .mkv, or pass --no-audio"
            ) from error
        copy.metadata.update(stream.metadata)
        copy.disposition = stream.disposition
        return copy

    def _read(self) -> Iterator[av.Packet[Any]]:
        if not self._streams:
            return
        packets = self._input.demux(*self._input.streams.audio)
        while True:
            try:
                packet = next(packets, None)
            except av.error.FFmpegError:
                _log.warning("%s: audio cut off, copied up to the cut", self._path)
                return
            if packet is None:
                return
            if packet.dts is not None:  # the last, empty packet only says that all is read
                yield packet
