"""Enhanced frames go out into a video file here, with all else that the input holds.

They are encoded piece by piece, each kept in the journal when it is whole; at the end the pieces
are joined, the rest is copied, what came out is checked, and only then the file has its name.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import av
import av.error

from cagface_core import ConfigError, Frame, OutputError
from realtime.ahead import Piece
from realtime.encoders import Chosen, EncodeOptions, choose_encoder, instead_of, tell_losses
from realtime.join import Joined, join, what_cannot_be_held
from realtime.journal import DonePiece, Journal
from realtime.piece_file import PieceFile, add_video
from realtime.planar import planes_of_rgb
from realtime.source import SourceInfo
from realtime.stream_copy import StreamCopy

_log = logging.getLogger(__name__)

_UNUSABLE = (av.error.FFmpegError, OSError, ValueError)


class VideoSink:
    """A video file that appears under its name only when it is whole.

    Timestamps are those of the frames, exactly, as far as the container can hold them: Matroska
    and WebM round to milliseconds, and shift everything together when the audio begins before
    zero. Pictures are stored as deep and with as much colour as the source has them, where the
    codec can. Odd sizes keep every pixel: they are stored as 4:4:4 where the codec's 4:2:0 cannot
    (H.264, H.265, AV1). The sample aspect ratio and colour tags are carried, the rotation is not:
    the frames are upright.

    Args:
        path: the file to make; its suffix chooses the container.
        info: of the source, for times, depth, colours and aspect.
        width: of the frames to come, in pixels.
        height: of the frames to come, in pixels.
        journal: keeps what is done; closed with this.
        options: codec, quality, speed.
        copy_from: a file of which all but the video is copied; None for nothing.
        audio: whether its audio is copied too.
        note: asked, at the end of each piece, for what the journal is to keep of it.

    Raises:
        OutputError: the combination of container, codec and audio does not work.
        ConfigError: an encoder option makes no sense.
    """

    def __init__(
        self, path: Path, info: SourceInfo, width: int, height: int, *, journal: Journal,
        options: EncodeOptions | None = None, copy_from: Path | None = None, audio: bool = True,
        note: Callable[[], Mapping[str, Any]] | None = None,
    ) -> None:  # fmt: skip
        self.description = str(path)
        self._path, self._info, self._size, self._journal = path, info, (width, height), journal
        self._copy_from, self._audio, self._note = copy_from, audio, note
        with ExitStack() as undo:
            undo.callback(journal.close)
            self._chosen = rehearse(
                path, options or EncodeOptions(), info, self._size, journal.folder,
                copy_from, audio=audio,
            )  # fmt: skip
            tell_losses(str(path), self._chosen, info)
            self._piece: PieceFile | None = None
            self._start = 0
            self._undo = undo.pop_all()

    @property
    def chosen(self) -> Chosen:
        """What encodes, with its options: known to work here."""
        return self._chosen

    def write(self, frame: Frame) -> None:
        """Encode one frame. Raises OutputError when the disk is full."""
        planes = frame.planes or planes_of_rgb(frame.rgb)
        if (planes.width, planes.height) != self._size:
            raise ValueError(
                f"a frame of {planes.width}x{planes.height} came into a video of {self._size}"
            )
        start = self._start if frame.foreseen is None else frame.foreseen.piece
        try:
            if self._piece is not None and start != self._start:
                runs_in = frame.foreseen is not None and frame.foreseen.runs_in
                self._end_piece(Piece(start, runs_in))
            if self._piece is None:
                self._start = start
                file = self._journal.unfinished()
                self._piece = PieceFile(file, self._chosen, self._info, self._size)
            self._piece.write(planes, frame.pts, frame.time_base)
        except (av.error.FFmpegError, OSError) as error:
            raise self._write_error(error) from error

    def end(self) -> None:
        """All frames are written: keep the last piece. Raises OutputError when the disk is full."""
        try:
            if self._piece is not None:
                self._end_piece(None)
        except (av.error.FFmpegError, OSError) as error:
            raise self._write_error(error) from error

    def finish(self) -> None:
        """Join the pieces, copy the rest, check the result, give the file its name."""
        self.end()
        problem = what_cannot_be_held(self._path, self._journal, self._info)
        if problem is not None:
            self._journal.remove()  # the same command would end the same way
            raise OutputError(f"{self._path}: {problem}; choose a name that ends with .mkv")
        try:
            joined = self._journal.folder / f"joined{self._path.suffix}"
            facts = join(
                joined, self._journal, self._chosen, self._info, self._copy_from, audio=self._audio
            )
            self._check(joined, facts)
            joined.replace(self._path)
        except (av.error.FFmpegError, OSError) as error:
            raise self._write_error(error) from error
        self._journal.remove()

    def close(self) -> None:
        """Release everything; finished pieces stay for the next run of the same command."""
        if self._piece is not None:
            self._piece.discard()
            self._piece = None
        self._undo.close()

    def _end_piece(self, following: Piece | None) -> None:
        assert self._piece is not None
        pts, depth = self._piece.finish()
        self._piece = None
        note = self._note() if self._note else None
        self._journal.done(DonePiece(self._start, pts, depth, following), note)

    def _check(self, joined: Path, facts: Joined) -> None:
        """Read the file back. Raises `OutputError` when anything is not as it was written."""
        with av.open(f"file:{joined}") as container:
            found = Joined()
            for packet in container.demux():
                if packet.size:  # the last, empty one only says that all is read
                    data = bytes(packet) if packet.stream.type == "audio" else b""
                    found.count(packet.stream, data)
        for kind, written, there in (
            ("frames", facts.frames, found.frames), ("sound", facts.audio, found.audio)
        ):  # fmt: skip
            if written != there:
                raise OutputError(
                    f"{self._path}: the finished file does not hold the {kind} that went into it "
                    f"({there}, expected {written}); what was enhanced is kept, run the same "
                    "command again, or choose another suffix"
                )

    def _write_error(self, error: Exception) -> OutputError:
        reason = getattr(error, "strerror", None) or str(error)
        kept = (
            f"{self._journal.frames} frames are kept; run the same command again to go on"
            if self._journal.pieces
            else "nothing is left behind"
        )
        return OutputError(f"{self._path}: writing failed ({reason}); {kept}")


def rehearse(
    path: Path, options: EncodeOptions, info: SourceInfo, size: tuple[int, int], folder: Path,
    copy_from: Path | None, *, audio: bool,
) -> Chosen:  # fmt: skip
    """Begin a file and throw it away: what does not work is found before the work.

    Says what is left out. Most of the arguments are those of :class:`VideoSink`.

    Args:
        path: of the file that is meant.
        options: how to encode.
        info: of the source.
        size: of the frames to come, width and height.
        folder: where it is begun.
        copy_from: a file of which all but the video is copied.
        audio: whether its audio is too.

    Returns:
        What encodes, known to work here.

    Raises:
        OutputError: the combination of container, codec and audio does not work.
        ConfigError: an encoder option makes no sense.
    """
    chosen = choose_encoder(path, options, info, *size)

    def begin(chosen: Chosen, *, copying: bool = True) -> None:
        trial = folder / f"trial{path.suffix}"
        copy = None
        with ExitStack() as undo:
            undo.callback(trial.unlink, missing_ok=True)
            # A file of our own: where a header is refused PyAV never closes its own, and Windows
            # removes none that is open.
            file = undo.enter_context(trial.open("w+b"))
            container = undo.enter_context(av.open(file, "w"))
            add_video(container, chosen, info, size)
            if copy_from is not None and copying:
                copy = StreamCopy(str(copy_from), container, str(path), audio=audio)
                undo.callback(copy.close)
            container.start_encoding()
            if copy is not None:
                copy.tell_what_is_left_out()

    try:
        begin(chosen)
    except _UNUSABLE as error:
        reason = getattr(error, "strerror", None) or str(error)
        try:
            instead = instead_of(chosen, options, info, *size)
        except ConfigError as unknown:
            raise ConfigError(
                f"{chosen.codec} does not work here ({reason}), and {unknown}"
            ) from error
        width, height = size
        refused = OutputError(
            f"{path}: {chosen.codec} at {width}x{height} does not work in this kind of file "
            f"({reason}); try another --codec or suffix"
        )
        if copy_from is not None and audio:
            try:
                begin(chosen, copying=False)
            except _UNUSABLE:
                pass
            else:
                raise OutputError(
                    f"{path}: the sound of {copy_from} does not go into this kind of file "
                    f"({reason}); .mkv holds most; or leave it out with --no-audio"
                ) from error
        if instead is None:
            raise refused from error
        try:
            begin(instead)
        except _UNUSABLE:
            raise refused from error
        _log.warning(
            "%s does not work here (%s); %s encodes instead", chosen.codec, reason, instead.codec
        )
        chosen = instead
    return chosen
