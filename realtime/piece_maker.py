"""One piece of a film in, by its place; the piece as a file, and all that is to be kept of it, out.

What a worker of a cluster does; nothing here knows of the cluster.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from cagface_core import Enhanced, Frame, InputError, OutputError
from realtime.ahead import AheadSource, FaceFinder, Stretch
from realtime.cued_film import CuedFilm, OtherFramesError
from realtime.encoders import Chosen
from realtime.film_notes import FilmNotes
from realtime.journal import DonePiece
from realtime.loop import LoopOptions, Resettable, enhanced_only, run_loop
from realtime.piece_file import PieceFile
from realtime.plain import planes_side_by_side, untouched
from realtime.run import FaceSeer, RunEnhancer
from realtime.source import SourceInfo
from realtime.stats import Stats, StatsShare
from realtime.video_in import VideoSource

StateT = TypeVar("StateT", bound=Resettable)

_JUMPS_S = (0.2, 12.0)
"""A deinterlacer looks a few frames back. Transport streams have no index: a jump may end between
two key frames, and only a wider one reaches the key frame before the place."""


@dataclass(frozen=True, slots=True)
class FilmWork:
    """What is to be made of each piece of a film, the same for all.

    ``width`` and ``height`` are the output's, in pixels; ``notes``: whether a report is wanted.
    """

    source: Path
    info: SourceInfo
    width: int
    height: int
    chosen: Chosen
    scale: int
    compare: bool
    notes: bool


@dataclass(frozen=True, slots=True)
class MadePiece:
    """A finished piece: its file's bytes, its line in the journal, its note, what it took.

    ``jump_s`` is from how many seconds before its place the film was read, None from its beginning.
    """

    data: bytes
    done: DonePiece
    note: Mapping[str, Any] | None
    stats: StatsShare
    jump_s: float | None


def make_piece(
    work: FilmWork, source: Path, stretch: Stretch, enhancer: RunEnhancer[StateT], folder: Path
) -> MadePiece:
    """Make one piece.

    Args:
        work: what is to be made.
        source: where the film lies on this machine.
        stretch: which piece.
        enhancer: enhances by ``work.scale``.
        folder: for the file while it is written.

    Raises:
        OtherFramesError: this machine decodes other frames of the film.
        CagfaceError: the film cannot be read, or the piece not be written.
    """
    for jump_s in _JUMPS_S:
        try:
            return _make(work, source, stretch, enhancer, folder, jump_s)
        except InputError:
            continue
    return _make(work, source, stretch, enhancer, folder, None)


def _make(
    work: FilmWork, source: Path, stretch: Stretch, enhancer: RunEnhancer[StateT], folder: Path,
    jump_s: float | None,
) -> MadePiece:  # fmt: skip
    stats = Stats()
    notes = FilmNotes(work.scale) if work.notes else None
    path = folder / "piece.mkv"
    with ExitStack() as stack:
        film = stack.enter_context(closing(VideoSource(source, planes=True)))
        sink = stack.enter_context(closing(_PieceSink(path, work)))
        run_loop(
            AheadSource(
                CuedFilm(film, stretch, jump_s), lambda: finder_of(enhancer), stats,
                stretch.piece, alone=True,
            ),
            enhancer,
            sink,
            LoopOptions(scale=work.scale),
            stats,
            compose=composed(work.scale, notes, compare=work.compare),
        )  # fmt: skip
        pts, depth = sink.end()
        data = path.read_bytes()
    wanted = stretch.pts[stretch.piece.start - stretch.first : stretch.end - stretch.first]
    if tuple(pts) != wanted:
        raise OtherFramesError(
            f"{source}: the piece at frame {stretch.piece.start} ends elsewhere here"
        )
    done = DonePiece(stretch.piece.start, pts, depth, stretch.following)
    return MadePiece(data, done, notes.take() if notes else None, stats.share(), jump_s)


def finder_of(enhancer: FaceSeer[StateT]) -> FaceFinder:
    """What finds the faces of one piece."""
    state = enhancer.new_state(ahead=True)
    return lambda frame: enhancer.look(frame, state)


def composed(
    scale: int, notes: FilmNotes | None, *, compare: bool
) -> Callable[[Frame, Enhanced], Frame]:
    """What is delivered of a frame: the enhanced picture, beside its plain upscale if asked for."""

    def compose(frame: Frame, enhanced: Enhanced) -> Frame:
        if notes is not None:
            notes.note(frame, enhanced)
        if not compare:
            return enhanced_only(frame, enhanced)
        before = untouched(frame, scale).planes
        assert before is not None  # a film comes in planes
        assert enhanced.planes is not None
        return replace(frame, planes=planes_side_by_side(before, enhanced.planes))

    return compose


class _PieceSink:
    """Takes the frames of one piece into its file, which is gone when this is closed."""

    def __init__(self, path: Path, work: FilmWork) -> None:
        self.description = str(path)
        self._path = path
        try:
            self._file = PieceFile(path, work.chosen, work.info, (work.width, work.height))
        except Exception as error:  # FFmpeg's own, and ValueError where an encoder is not there
            raise OutputError(
                f"{work.chosen.codec} does not work on this machine ({error}); "
                "choose another --codec"
            ) from error

    def write(self, frame: Frame) -> None:
        """Encode one frame."""
        assert frame.planes is not None
        self._file.write(frame.planes, frame.pts, frame.time_base)

    def finish(self) -> None:
        """Nothing: `end` does it."""

    def end(self) -> tuple[list[int], int]:
        """Write the file whole; see `PieceFile.finish`."""
        return self._file.finish()

    def close(self) -> None:
        """Remove the file."""
        self._file.discard()
