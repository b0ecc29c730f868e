"""What a file holds beside its pictures crosses from the input to the output here, untouched."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from typing import Any

import av
import av.error
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.stream import AttachmentStream, Disposition, Stream

from cagface_core import OutputError
from realtime.sound import FlacCopy
from realtime.video_in import JUMP_S, open_input

_log = logging.getLogger(__name__)

_COPIED = ("audio", "subtitle")
_COVERS = {"mjpeg": ("jpg", "image/jpeg"), "png": ("png", "image/png")}
"""What Matroska keeps as a file within the file: name's suffix and type by coding."""

_NO_EDITS = ("matroska", "webm")
"""They have no edit lists, so that what one hides would come back."""

_PRIMES_S = {"opus": 0.08, "libopus": 0.08, "mp3": 0.1, "mp3float": 0.1}
"""Seconds that decoders want before the first sound that is right; others a packet, or none:"""
_NEED_NONE = ("flac", "alac", "pcm_")

_OF_THE_OLD_FILE = (
    "encoder", "duration", "major_brand", "minor_version", "compatible_brands", "number_of_frames",
    "number_of_bytes", "bps", "rotate", "handler_name", "vendor_id", "filename", "mimetype",
    "alpha_mode",
)  # fmt: skip
"""Metadata that tell of the container or stream they were in, and not of what is in it."""


def kept(metadata: dict[str, str]) -> dict[str, str]:
    """What of the metadata is as true of a copy."""
    return {
        key: value
        for key, value in metadata.items()
        if key.lower() not in _OF_THE_OLD_FILE and not key.lower().startswith("_statistics")
    }


class StreamCopy:
    """Copies audio and subtitles, bit for bit, with their own times, languages and titles.

    Chapters, attachments, cover pictures and the file's metadata too. Audio that Matroska cannot
    hold becomes FLAC there; elsewhere it is an error, as nobody wants a silent film. ``told`` gets
    each packet that goes out, and the output's stream.
    It opens the input a second time, so that video decoding never has to hold back packets.
    `copy_until` is called with the time of each video packet and keeps all side by side in the
    file.
    """

    def __init__(
        self, path: str, output: OutputContainer, output_name: str, *, audio: bool = True,
        told: Callable[[Stream, bytes], None] = lambda _stream, _data: None,
    ) -> None:  # fmt: skip
        self._input = open_input(path)
        self._path = path
        self._output = output
        self._told = told
        self._name = output_name
        self._next: av.Packet[Any] | None = None
        self._streams: dict[int, Stream] = {}
        self._converted: dict[int, FlacCopy] = {}
        self._left: list[str] = []
        self._others: list[str] = []
        self._has_picture = False
        self._moved = 0
        self._changed: list[str] = []
        self.video_metadata: dict[str, str] = {}
        """What the input says of its video: language, title."""
        try:
            self._output.metadata.update(kept(self._input.metadata))
            for stream in self._input.streams:
                self._take(stream, audio=audio)
            self._take_chapters()
        except BaseException:
            self._input.close()
            raise
        self._packets = self._read()

    def tell_what_is_left_out(self) -> None:
        """Log what the output cannot hold, or not as it is."""
        for coding in self._changed:
            _log.warning("%s: the %s audio becomes FLAC, which loses nothing", self._name, coding)
        if self._others:
            _log.warning(
                "%s: the first picture is enhanced, others are left out: %s",
                self._name, ", ".join(self._others),
            )  # fmt: skip
        if self._left:
            _log.warning(
                "%s: left out, as this kind of file cannot hold it: %s%s",
                self._name, ", ".join(self._left),
                "" if self._output.format.name == "matroska" else "; .mkv holds most",
            )  # fmt: skip

    def copy_until(self, time_s: Fraction | None) -> None:
        """Copy all packets that are due by ``time_s`` seconds; None copies the rest."""
        while True:
            packet = self._next or next(self._packets, None)
            self._next = None
            if packet is None:
                while self._converted:
                    index, flac = self._converted.popitem()
                    self._mux(index, flac.packets(None))
                return
            if time_s is not None and (packet.dts or 0) * packet.time_base > time_s:
                self._next = packet
                return
            index = packet.stream.index
            converted = self._converted.get(index)
            self._mux(index, converted.packets(packet) if converted else [packet])

    def _mux(self, index: int, packets: Iterable[av.Packet[Any]]) -> None:
        for packet in packets:
            packet.stream = self._streams[index]
            self._told(packet.stream, bytes(packet))
            self._output.mux(packet)

    def close(self) -> None:
        """Close the input."""
        self._input.close()

    def _take(self, stream: Stream, *, audio: bool) -> None:
        """Make a place for a stream in the output, or note that there is none."""
        if isinstance(stream, AttachmentStream):
            self._attach(stream)
        elif stream.type == "audio" and not audio:
            return
        elif _is_cover(stream) and self._output.format.name == "matroska":
            self._attach_cover(stream)
        elif stream.type in _COPIED or _is_cover(stream):
            try:
                copy = self._output.add_stream_from_template(stream)
            except ValueError as error:
                if stream.type == "audio":
                    self._convert(stream, error)
                    return
                self._left.append(_named(stream))
                return
            self._keep(stream, copy)
        elif stream.type == "video":
            if self._has_picture:
                self._others.append(_named(stream))
            else:
                self._has_picture, self.video_metadata = True, kept(stream.metadata)
        elif "timecode" not in stream.metadata and not self._holds_chapters(stream):
            self._left.append(_named(stream))

    def _holds_chapters(self, stream: Stream) -> bool:
        """Whether it is the text that QuickTime's chapters are, which are taken as such."""
        return stream.type == "data" and 0 < stream.frames == len(self._input.chapters())

    def _convert(self, stream: Stream, error: ValueError) -> None:
        """Take audio in another coding, where there is one that loses nothing."""
        coding = stream.codec_context.name
        if self._output.format.name != "matroska" or not isinstance(stream, AudioStream):
            raise OutputError(
                f"{self._name}: this kind of file cannot hold the {coding} audio of the input; "
                "use a name that ends in .mkv, or pass --no-audio"
            ) from error
        self._changed.append(coding)
        flac = self._converted[stream.index] = FlacCopy(stream, self._output)
        self._keep(stream, flac.stream)

    def _keep(self, stream: Stream, copy: Stream) -> None:
        copy.metadata.update(kept(stream.metadata))
        copy.disposition = stream.disposition
        self._streams[stream.index] = copy

    def _attach(self, stream: AttachmentStream) -> None:
        if self._output.format.name != "matroska":
            self._left.append(_named(stream))
            return
        self._output.add_attachment(
            stream.name or "attachment", stream.mimetype or "application/octet-stream", stream.data
        )

    def _attach_cover(self, stream: Stream) -> None:
        suffix, mimetype = _COVERS.get(stream.codec_context.name, ("", ""))
        with open_input(self._path) as another:
            cover = next(another.demux(another.streams[stream.index]))
            if suffix and cover.size:
                self._output.add_attachment(f"cover.{suffix}", mimetype, bytes(cover))
            else:
                self._left.append(_named(stream))

    def _take_chapters(self) -> None:
        chapters = self._input.chapters()
        if chapters:
            self._output.set_chapters(chapters)

    def _read(self) -> Iterator[av.Packet[Any]]:
        taken = [s for s in self._input.streams if s.index in self._streams]
        if not taken:
            return
        packets = self._input.demux(*taken)
        ends: dict[int, tuple[int, int]] = {}
        offsets = dict.fromkeys(self._streams, Fraction(0))
        while True:
            try:
                packet = next(packets, None)
            except IndexError:  # PyAV's, where damage makes a stream of its own
                packets = self._input.demux(*taken)
                continue
            except av.error.FFmpegError:
                _log.warning("%s: audio cut off, copied up to the cut", self._path)
                return
            if packet is None:
                if self._moved:
                    _log.warning(
                        "%s: the times of %d packets of sound or subtitles did not rise and were "
                        "moved", self._path, self._moved,
                    )  # fmt: skip
                return
            if packet.is_discard and self._output.format.name in _NO_EDITS and _is_cut(packet):
                continue
            if packet.dts is None and packet.size and _is_cover(packet.stream):
                packet.pts = packet.dts = 0  # a cover picture has no time
            if packet.dts is not None:  # the last, empty packet only says that all is read
                self._go_on(packet, ends, offsets)
                yield packet

    def _go_on(
        self, packet: av.Packet[Any], ends: dict[int, tuple[int, int]],
        offsets: dict[int, Fraction],
    ) -> None:  # fmt: skip
        """Let times that begin anew go on, as those of the pictures do: of films joined end to end.

        Args:
            packet: changed in place.
            ends: by stream, the time of its newest packet, and where that ends.
            offsets: by stream, the seconds that its times are moved by.
        """
        index, base, dts = packet.stream.index, packet.time_base, packet.dts or 0
        moved, is_audio = round(offsets[index] / base), packet.stream.type == "audio"
        last, end = ends.get(index, (dts + moved - 1, dts + moved))
        if ((end if is_audio else last) - dts - moved) * base > JUMP_S:
            # Subtitles may have ended long ago: what goes on beside them tells by how much.
            beside = max(offsets.values())
            alone = is_audio or beside <= offsets[index]
            offsets[index] = (end - dts) * base if alone else beside
            moved = round(offsets[index] / base)
        # Containers refuse times that run back, and of sound those that stand still.
        if is_audio and dts + moved <= last:
            moved = max(end, last + 1) - dts
        moved = max(moved, last - dts)
        self._moved += moved != 0
        packet.dts = dts + moved
        if packet.pts is not None:
            packet.pts += moved
        ends[index] = packet.dts, packet.dts + (packet.duration or 0)


def _is_cut(packet: av.Packet[Any]) -> bool:
    """Whether an edit list hides it, and it is none of the last, which prime a decoder."""
    if packet.stream.type != "audio":
        return False
    end, duration = (packet.pts or 0) + (packet.duration or 0), packet.duration or 0
    name = packet.stream.codec_context.name
    if name in _PRIMES_S:
        return end * packet.time_base <= -_PRIMES_S[name]
    return end <= (0 if name.startswith(_NEED_NONE) else -duration)


def _is_cover(stream: Stream) -> bool:
    return stream.type == "video" and bool(stream.disposition & Disposition.attached_pic)


def _named(stream: Stream) -> str:
    """A stream, for people: what it is, in which coding, in which language."""
    try:
        coding = stream.codec_context.name
    except AttributeError:
        coding = stream.metadata.get("filename", "")
    words = ["cover picture" if _is_cover(stream) else stream.type, coding,
             stream.metadata.get("language", "")]  # fmt: skip
    return " ".join(word for word in words if word)
