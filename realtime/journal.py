"""What is done of a film is kept here, piece by piece, until the film is whole.

A folder beside the output, hidden, holds each finished piece and the journal that lists them. A
piece counts when its line is in the journal, on the disk. So whatever ends the work, the same
command goes on behind the last finished piece.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from errno import ENAMETOOLONG
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from cagface_core import OutputError
from realtime.ahead import Piece

_log = logging.getLogger(__name__)

_VERSION = 2
"""Of what the folder holds; another one is begun anew."""


@dataclass(frozen=True, slots=True)
class DonePiece:
    """A finished piece: the number of its first frame, its frames' times, the piece after it.

    ``pts`` are in units of the source's time base; ``depth`` is how many packets come, at most,
    before one that is shown before them; ``following`` is None at the film's end.
    """

    start: int
    pts: Sequence[int]
    depth: int
    following: Piece | None


@dataclass(slots=True)
class Journal:
    """The pieces of one film. Made by `open_journal`.

    ``pieces`` are those from the film's beginning to the first gap, in order.
    """

    folder: Path
    pieces: list[DonePiece]
    _lock: FileLock = field(repr=False)
    _later: dict[int, DonePiece] = field(default_factory=dict[int, DonePiece])

    def __post_init__(self) -> None:
        """Find the first gap."""
        found, self.pieces = self.pieces, []
        for piece in found:
            self._take(piece)

    @property
    def pts(self) -> list[int]:
        """The times of the frames of all ``pieces``, in order."""
        return [time for piece in self.pieces for time in piece.pts]

    @property
    def frames(self) -> int:
        """How many frames are done."""
        return sum(len(piece.pts) for piece in (*self.pieces, *self._later.values()))

    def has(self, start: int) -> bool:
        """Whether the piece that begins with this frame is done."""
        return start in self._later or any(piece.start == start for piece in self.pieces)

    @property
    def next(self) -> Piece | None:
        """The piece to make next; None when all are done."""
        return self.pieces[-1].following if self.pieces else Piece()

    def file(self, start: int) -> Path:
        """Where the piece that begins with this frame is kept."""
        return _file(self.folder, start)

    def unfinished(self) -> Path:
        """Where a piece is written until it is whole."""
        return self.folder / "unfinished.mkv"

    def notes(self) -> list[dict[str, Any]]:
        """What was noted of each piece; an empty one where nothing was."""
        files = [self.file(piece.start).with_suffix(".json") for piece in self.pieces]
        return [json.loads(f.read_text(encoding="utf-8")) if f.exists() else {} for f in files]

    def done(self, piece: DonePiece, note: Mapping[str, Any] | None = None) -> None:
        """Keep a piece that is written whole, in any order. OSError where the disk is full."""
        if note is not None:
            file = self.file(piece.start).with_suffix(".json")
            file.write_text(json.dumps(note), encoding="utf-8")
        _to_disk(self.unfinished())
        entry = asdict(piece) | {"bytes": self.unfinished().stat().st_size}
        self.unfinished().replace(self.file(piece.start))
        with (self.folder / "pieces.jsonl").open("a", encoding="utf-8") as lines:
            lines.write(json.dumps(entry) + "\n")
            lines.flush()
            os.fsync(lines.fileno())
        self._take(piece)

    def close(self) -> None:
        """Leave it to a later run; without a finished piece nothing is left."""
        if self._lock.is_locked:
            self._lock.release()
            if not self.frames:
                self.remove()
            else:
                _log.warning("%d frames are kept; run the same command again to go on", self.frames)

    def remove(self) -> None:
        """Throw it away: the film is whole, or not worth keeping."""
        self.pieces, self._later = [], {}
        self._lock.release()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _take(self, piece: DonePiece) -> None:
        if self.has(piece.start):
            return
        self._later[piece.start] = piece
        while self.next is not None and self.next.start in self._later:
            self.pieces.append(self._later.pop(self.next.start))


def open_journal(output: Path, facts: Mapping[str, object]) -> Journal:
    """Begin the work on a film, or go on with it.

    Args:
        output: the file that is to be made.
        facts: all that the result depends on, as JSON has it; work begun with others is not
            gone on with.

    Raises:
        OutputError: the folder cannot be written, or another program is at work on it.
    """
    folder = output.with_name(f".{output.name}.cagface")
    try:
        folder.mkdir(exist_ok=True)
        lock = FileLock(folder / "lock", blocking=False)
        lock.acquire()
    except Timeout as error:
        raise OutputError(
            f"{output}: another run is at work on it; wait for it, or choose another name"
        ) from error
    except OSError as error:
        reason = error.strerror or str(error)
        raise OutputError(
            f"{output}: cannot write in {output.parent} ({reason}); choose "
            f"{'a shorter name' if error.errno == ENAMETOOLONG else 'another folder'}"
        ) from error
    wanted = {"version": _VERSION, **facts}
    journal = Journal(folder, _read(folder, wanted), lock)
    if not journal.frames:
        _clear(folder)
        (folder / "job.json").write_text(json.dumps(wanted, indent=1), encoding="utf-8")
    return journal


def _read(folder: Path, wanted: Mapping[str, object]) -> list[DonePiece]:
    """The pieces that are there and fit; none where the work was begun otherwise."""
    try:
        begun = json.loads((folder / "job.json").read_text(encoding="utf-8"))
        lines = (folder / "pieces.jsonl").read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return []
    if begun != json.loads(json.dumps(wanted)):
        changed = sorted(k for k in begun.keys() | wanted.keys() if begun.get(k) != wanted.get(k))
        _log.warning("what was begun before is given up: %s changed", ", ".join(changed))
        return []
    pieces: list[DonePiece] = []
    for line in lines:
        try:
            entry = json.loads(line)
            following = entry["following"]
            entry["following"] = None if following is None else Piece(**following)
            size = entry.pop("bytes")
            piece = DonePiece(**entry)
        except (ValueError, KeyError, TypeError):
            continue  # cut off: its piece is made again
        file = _file(folder, piece.start)
        if file.is_file() and file.stat().st_size == size:  # or it is made again
            pieces.append(piece)
    return pieces


def _file(folder: Path, start: int) -> Path:
    return folder / f"{start:09}.mkv"


def _clear(folder: Path) -> None:
    for path in folder.iterdir():
        if path.name != "lock":
            path.unlink()


def _to_disk(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())
