"""The finished pieces of a film in; one file with their frames, and all else of the input, out."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
from av.container import OutputContainer
from av.stream import Disposition, Stream
from av.video.stream import VideoStream

from realtime.encoders import Chosen
from realtime.journal import Journal
from realtime.piece_file import read_piece
from realtime.source import SourceInfo
from realtime.stream_copy import StreamCopy

_NEAR = Fraction(1, 10)
_LONGEST_IN_MP4 = 2**31 - 1
"""How long a frame may be shown there, in units of the time base."""


@dataclass(slots=True)
class Joined:
    """What is in a file: how many frames, and a hash of each audio stream, in order."""

    frames: int = 0
    _hashes: dict[int, Any] = field(default_factory=dict[int, Any])

    @property
    def audio(self) -> list[str]:
        """A hash of the packets of each audio stream that has any."""
        return [self._hashes[index].hexdigest()[:16] for index in sorted(self._hashes)]

    def count(self, stream: Stream, data: bytes) -> None:
        """Take a packet; ``data`` counts for audio only."""
        if stream.type == "audio":
            digest = self._hashes.setdefault(stream.index, hashlib.sha256())
            digest.update(_without_adts(data) if stream.codec_context.name == "aac" else data)
        elif stream.type == "video" and stream.index == 0:
            self.frames += 1


def _without_adts(packet: bytes) -> bytes:
    """The packet without the header that AAC has in transport streams, and in no other file."""
    if len(packet) >= 7 and packet[0] == 0xFF and packet[1] & 0xF6 == 0xF0:
        return packet[7 if packet[1] & 1 else 9 :]
    return packet


def join(
    path: Path, journal: Journal, chosen: Chosen, info: SourceInfo, copy_from: Path | None, *,
    audio: bool,
) -> Joined:  # fmt: skip
    """Write the file.

    Args:
        path: the file to make.
        journal: holds the pieces, at least one.
        chosen: the encoder that made them.
        info: of the source.
        copy_from: a file of which all but the video is copied; None for nothing.
        audio: whether its audio is copied too.

    Returns:
        What went into it.
    """
    written = Joined()
    with ExitStack() as stack:
        container = stack.enter_context(_open(path, info, copy_from, early=journal.pts[0] < 0))
        first = stack.enter_context(av.open(f"file:{journal.file(journal.pieces[0].start)}"))
        hevc = chosen.codec.startswith(("libx265", "hevc")) and path.suffix != ".mkv"
        # Opaque: PyAV looks for an encoder otherwise, and finds none by the decoder's name of AV1.
        video = container.add_stream_from_template(first.streams.video[0], opaque=not hevc)
        video.time_base = info.time_base
        video.disposition = Disposition.default
        if rate := _rate(journal.pts, info):
            video.codec_context.framerate = rate
        if hevc:
            video.codec_context.codec_tag = "hvc1"  # by its other name Apple's players refuse it
        copy = None
        if copy_from is not None:
            copy = StreamCopy(str(copy_from), container, str(path), audio=audio, told=written.count)
            stack.callback(copy.close)
            video.metadata.update(copy.video_metadata)
        container.start_encoding()
        for packet in _packets(journal, info, video):
            if copy is not None:
                assert packet.dts is not None
                copy.copy_until(packet.dts * packet.time_base)
            written.count(video, b"")
            container.mux(packet)
        if copy is not None:
            copy.copy_until(None)
    return written


def what_cannot_be_held(path: Path, journal: Journal, info: SourceInfo) -> str | None:
    """Why a film's times do not fit into the container; None where they do."""
    if not _is_mp4(path):
        return None
    durations = _durations(journal.pts, info)
    if max(durations) <= _LONGEST_IN_MP4:
        return None
    hours = float(max(durations) * info.time_base) / 3600
    return f"one frame is shown for {hours:.1f} hours, longer than {path.suffix[1:]} can say"


def _is_mp4(path: Path) -> bool:
    return path.suffix.lower() in (".mp4", ".m4v", ".mov")


def _packets(journal: Journal, info: SourceInfo, video: VideoStream) -> Iterator[av.Packet[Any]]:
    """The packets of all pieces in the order of decoding, with their times."""
    pts = journal.pts
    durations = _durations(pts, info)
    depth = max(piece.depth for piece in journal.pieces)
    # A packet is decoded when the one is shown that is ``depth`` before it; the first ones as
    # much earlier as the first is shown too early for that.
    lead = pts[min(depth, len(pts) - 1)] - pts[0]
    base = number = 0
    for piece in journal.pieces:
        for within, packet in read_piece(journal.file(piece.start)):
            index = base + within
            packet.pts = pts[index]
            packet.dts = pts[number - depth] if number >= depth else pts[number] - lead
            packet.duration = durations[index]
            packet.time_base = info.time_base
            packet.stream = video
            number += 1
            yield packet
        base += len(piece.pts)


def _durations(pts: list[int], info: SourceInfo) -> list[int]:
    """How long each frame is shown."""
    steps = [after - before for before, after in pairwise(pts)]
    # Where the input does not say when its last frame ends, it lasts as long as usual, or as the
    # frame before it in a stream that is faster than that. So it does in a file cut off, whose
    # header tells the end of frames that are gone.
    to_end = (info.end_pts or 0) - pts[-1]
    known = to_end > 0 and len(pts) >= (info.frame_count or 0)
    last = to_end if known else min([info.step, *steps[-1:]])
    return [*steps, last]


def _rate(pts: list[int], info: SourceInfo) -> Fraction | None:
    """What the file tells of its rate, in Hz: the source's, or the average where that is off."""
    if len(pts) < 2 or pts[-1] == pts[0]:
        return info.rate
    average = (len(pts) - 1) / ((pts[-1] - pts[0]) * info.time_base)
    if info.rate and abs(info.rate / average - 1) < _NEAR:
        return info.rate
    return average.limit_denominator(1001)


def _open(path: Path, info: SourceInfo, copy_from: Path | None, *, early: bool) -> OutputContainer:
    options: dict[str, str] = {}
    if _is_mp4(path):
        # Edit lists count in the movie's own time scale, 1/1000 s unless told: too coarse for
        # starts such as 1001/30000 s.
        options = {
            "movflags": "+faststart",
            "movie_timescale": str(_movie_timescale(info, copy_from)),
        }
        if early:  # what lies before zero is hidden by an edit list
            options["avoid_negative_ts"] = "make_non_negative"
    return av.open(f"file:{path}", "w", options=options)


def _movie_timescale(info: SourceInfo, copy_from: Path | None) -> int:
    """A time scale, in Hz, in which the starts of the video and all audio streams are whole."""
    rates = {info.time_base.denominator}
    if copy_from:
        with av.open(f"file:{copy_from}") as container:
            rates |= {stream.rate for stream in container.streams.audio if stream.rate}
    exact = math.lcm(*rates)
    return exact if exact <= 100_000_000 else info.time_base.denominator
