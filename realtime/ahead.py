"""A file's frames in, in order; the same with what is known of their faces, a look ahead, out.

The film is cut into pieces, at a change of shot where there is one in time. What is made of a
piece depends on it and on the few frames around it alone, on nothing that is remembered from
longer ago. So a piece that is made again, after a crash or on another machine, is the same.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, replace
from typing import Protocol

from cagface_core import REACH_S, CutDetector, Face, Foreseen, Frame, steadied
from realtime.source import SourceInfo
from realtime.stats import Stats

_log = logging.getLogger(__name__)

_SHORTEST_S = 6.0
_LONGEST_S = 20.0
"""A piece ends at the first change of shot after the one, else after the other."""

_LEAST_TIMES_AHEAD = 8
"""But one that the next has to run in from is at least this many times as long as that takes."""

_HELD_BYTES = 512 << 20
_FEWEST_HELD = 4
"""Frames are held to look ahead: at most this much of them, but never fewer than that."""

_USUAL_HZ = 30

FaceFinder = Callable[[Frame], tuple[Face, ...]]
"""Finds the faces of consecutive frames, with unsmoothed boxes."""


class Film(Protocol):
    """A source that can begin anywhere."""

    @property
    def info(self) -> SourceInfo:
        """Known as soon as the source is open."""
        ...

    def frames(self, first: int = 0) -> Iterator[Frame]:
        """All frames from number ``first`` on; see `Source.frames`."""
        ...

    def close(self) -> None:
        """Release the file."""
        ...


@dataclass(frozen=True, slots=True)
class Piece:
    """Where a piece begins: the number of its first frame, and whether frames before it run in.

    A piece that begins with a shot needs none.
    """

    start: int = 0
    runs_in: bool = False


@dataclass(frozen=True, slots=True)
class Stretch:
    """A piece, and all the frames that making it takes: those before and behind it too.

    ``first`` is the number of the first of them; ``pts`` their times, in units of the film's time
    base, and ``marks`` what they are known by again. ``end`` is where the piece ends, and
    ``following`` the piece that begins there, None at the film's end.
    """

    piece: Piece
    first: int
    pts: tuple[int, ...]
    marks: tuple[int, ...]
    end: int
    following: Piece | None


def frames_ahead(info: SourceInfo) -> int:
    """How many frames are held to look ahead, and run in."""
    wanted = round(REACH_S * float(info.rate or _USUAL_HZ))
    held = _HELD_BYTES // (6 * info.width * info.height)
    return max(_FEWEST_HELD, min(wanted, held))


class AheadSource:
    """A film whose frames come foreseen.

    Args:
        film: an open source; closed with this.
        finder: gives, for each piece, what finds its faces.
        stats: told how long finding takes.
        begin: the piece to begin with.
        alone: that piece and no other.
    """

    def __init__(
        self, film: Film, finder: Callable[[], FaceFinder], stats: Stats,
        begin: Piece | None = None, *, alone: bool = False,
    ) -> None:  # fmt: skip
        self.info = film.info
        self._film = film
        self._finder = finder
        self._stats = stats
        self._begin = begin or Piece()
        self._alone = alone
        self._ahead = frames_ahead(film.info)

    def frames(self) -> Iterator[Frame]:
        """The frames of each piece, foreseen; before them those that run it in."""
        piece: Piece | None = self._begin
        held = _Held(self._film, _first(piece, self._ahead))
        while piece is not None and held.get(piece.start) is not None:
            following = yield from self._piece(held, piece)
            piece = None if self._alone else following

    def close(self) -> None:
        """Close the film."""
        self._film.close()

    def _piece(self, held: _Held, piece: Piece) -> Generator[Frame, None, Piece | None]:
        """Foresee one piece; the generator's value is the next, None at the film's end."""
        at = _first(piece, self._ahead)
        view = _View(piece, at, self._ahead, self._finder(), self._stats)
        while True:
            while view.wants(at):
                view.take(held.get(view.count))
            if at == view.end:
                return view.following
            frame = held.get(at)
            assert frame is not None
            foreseen = Foreseen(
                view.faces(at), view.begins(at), piece.start, piece.runs_in, at >= piece.start
            )
            yield replace(frame, foreseen=foreseen)
            at += 1
            # The next piece may begin where looking is now, and run in.
            held.forget_before(min(at, (view.end or view.count) - self._ahead))


def stretches(
    film: Film, begin: Piece, mark: Callable[[Frame], int], *, stop: Callable[[], bool]
) -> Iterator[Stretch]:
    """Find the film's pieces, as `AheadSource` cuts them, without a look at any face.

    Args:
        film: an open source.
        begin: the piece to begin with.
        mark: gives what a frame is known by again.
        stop: asked at every frame whether to give up.
    """
    ahead = frames_ahead(film.info)
    piece: Piece | None = begin
    known: dict[int, tuple[int, int]] = {}
    held = _Held(film, _first(begin, ahead))
    while piece is not None and held.get(piece.start) is not None:
        first = _first(piece, ahead)
        known = {index: value for index, value in known.items() if index >= first}
        view = _View(piece, first, ahead, _nobody, Stats())
        while not view.complete:
            if stop():
                return
            index, frame = view.count, held.get(view.count)
            if frame is not None and index not in known:
                known[index] = frame.pts, mark(frame)
            view.take(frame)
            held.forget_before((view.end or view.count) - ahead)
        assert view.end is not None
        pts, marks = zip(*(known[index] for index in sorted(known)), strict=True)
        yield Stretch(piece, first, pts, marks, view.end, view.following)
        piece = view.following


def _first(piece: Piece, ahead: int) -> int:
    """The number of the first frame that a piece takes."""
    return max(0, piece.start - ahead) if piece.runs_in else piece.start


def _nobody(_frame: Frame) -> tuple[Face, ...]:
    return ()


class _Held:
    """Frames that may be needed again, by number; more are taken as they are asked for."""

    def __init__(self, film: Film, first: int) -> None:
        self._frames = film.frames(first)
        self._first = first
        self._held: deque[Frame] = deque()

    def get(self, index: int) -> Frame | None:
        """A frame that was not let go of; None beyond the end."""
        while index >= self._first + len(self._held):
            frame = next(self._frames, None)
            if frame is None:
                return None
            self._held.append(frame)
        return self._held[index - self._first]

    def forget_before(self, index: int) -> None:
        """Let go of the frames before this one."""
        while self._first < index and self._held:
            self._held.popleft()
            self._first += 1


class _View:
    """What was found in the frames of a piece and around it.

    ``count`` is the number of the frame to look at next, ``end`` where the next piece begins, once
    that is known, and ``following`` that piece.
    """

    def __init__(
        self, piece: Piece, first: int, ahead: int, find: FaceFinder, stats: Stats
    ) -> None:
        self.count = first
        self.end: int | None = None
        self.following: Piece | None = None
        self._piece, self._first, self._ahead = piece, first, ahead
        self._find, self._stats = find, stats
        self._cuts = CutDetector()
        self._until: int | None = None
        self._shots: list[int] = []
        self._found: list[tuple[Face, ...]] = []
        self._times_s: list[float] = []

    @property
    def complete(self) -> bool:
        """Whether no further frame is to be looked at for this piece."""
        return self.count == self._until

    def wants(self, at: int) -> bool:
        """Whether more frames are to be looked at before frame ``at`` is foreseen."""
        return self.count <= at + self._ahead and not self.complete

    def take(self, frame: Frame | None) -> None:
        """Look at the next frame; None: the film has ended."""
        index = self.count
        if frame is None:
            self._until = index
            self.end = index if self.end is None else self.end
            return
        begins = self._cuts.is_cut(frame.rgb)
        if begins and self.end is not None:
            self._until = index  # another shot tells nothing of this piece
            return
        if self.end is None and index > self._piece.start:
            age_s = frame.time_s - self._times_s[self._piece.start - self._first]
            if begins and age_s >= _SHORTEST_S:
                self.end = self._until = index
                self.following = Piece(index)
                return
            long = index - self._piece.start >= _LEAST_TIMES_AHEAD * self._ahead
            if long and age_s >= _LONGEST_S:
                self.end, self._until = index, index + self._ahead
                self.following = Piece(index, runs_in=True)
        if begins:
            self._shots.append(index)
        self._found.append(self._look(frame))
        self._times_s.append(frame.time_s)
        self.count += 1

    def begins(self, at: int) -> bool:
        """Whether a frame begins a shot, or what is looked at of the piece."""
        return at in self._shots

    def faces(self, at: int) -> tuple[Face, ...]:
        """The faces of a frame, from what was found in its shot before and after it."""
        first = max(shot for shot in self._shots if shot <= at)
        last = min((shot for shot in self._shots if shot > at), default=self.count)
        near = slice(
            max(first, at - self._ahead) - self._first, min(last, at + self._ahead) - self._first
        )
        return steadied(self._found[near], self._times_s[near], at - self._first - near.start)

    def _look(self, frame: Frame) -> tuple[Face, ...]:
        started_s = time.perf_counter()
        try:
            return self._find(frame)
        except Exception as error:  # noqa: BLE001  a frame without its faces is better than none
            if self._stats.count("looks_failed") == 1:
                _log.warning(
                    "faces could not be looked for in a frame (%s); others are counted", error
                )
            return ()
        finally:
            self._stats.time("look", 1e3 * (time.perf_counter() - started_s))
