"""A result crosses to its final name here, whole or not at all."""

from __future__ import annotations

import os
import secrets
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from cagface_core import OutputError


def check_output(
    final: Path, *, overwrite: bool, instead: str = "pass --overwrite to replace it"
) -> None:
    """Refuse a place that cannot be written, before any work is done.

    Args:
        final: the file to make.
        overwrite: whether it may take the place of another.
        instead: what to do where it may not.

    Raises:
        OutputError: the folder is missing or a file, the name is taken by a folder, or by a
            file and ``overwrite`` is False.
    """
    folder = final.parent
    if not folder.exists():
        raise OutputError(f"{final}: the folder {folder} does not exist; make it first")
    if not folder.is_dir():
        raise OutputError(f"{final}: {folder} is a file, expected a folder; choose another place")
    reachable = os.access(folder, os.X_OK)
    if not reachable or not (written_through(final) or os.access(folder, os.W_OK)):
        raise OutputError(
            f"{final}: cannot write in {folder} (no permission, or a read-only disk); "
            "choose another folder"
        )
    if final.is_dir():
        raise OutputError(f"{final} is a folder, expected a file name; add one")
    if final.exists() and not overwrite:
        raise OutputError(f"{final} exists already; {instead}")


def written_through(final: Path) -> bool:
    """Whether a name is written to as it is, and no file put in its place: a link, a device."""
    return final.is_symlink() or (final.exists() and not final.is_file())


def check_apart(place: Path, *others: Path) -> None:
    """Refuse to write over another file of the same run. Raises `OutputError`."""
    for other in others:
        same = place.resolve() == other.resolve()
        if same or (place.exists() and other.exists() and place.samefile(other)):
            raise OutputError(f"{place} is read or made by this run itself; choose another name")


def check_distinct(planned: Sequence[tuple[Path, Path]], kind: str) -> None:
    """Refuse to make two files of one name. Raises `OutputError`.

    Args:
        planned: what is read, and what is made of it.
        kind: what they are, for people: videos.
    """
    taken = Counter(output for _, output in planned)
    for source, output in planned:
        if taken[output] > 1:
            raise OutputError(
                f"{output}: {taken[output]} {kind} would get this name "
                f"({source} is one); enhance them one after the other"
            )


class PartialFile:
    """A hidden file beside ``final``, with the same suffix, renamed to it by `commit`.

    The hidden file is made at once, so that a folder that cannot be written is found out
    before the work and not after it. With ``through`` there is none where `written_through` says
    so: ``path`` is ``final`` then.
    """

    def __init__(self, final: Path, *, overwrite: bool, through: bool = False) -> None:
        check_output(final, overwrite=overwrite)
        self.final = final
        if through and written_through(final):
            self.path, self._open = final, False
            return
        self.path = final.with_name(f".partial-{secrets.token_hex(6)}{final.suffix}")
        self._open = False
        try:
            os.close(os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        except OSError as error:
            reason = error.strerror or str(error)
            raise OutputError(
                f"{final}: cannot write in {final.parent} ({reason}); choose another folder"
            ) from error
        self._open = True

    def commit(self) -> None:
        """Give the file its final name. Raises `OutputError`."""
        if self.path == self.final:
            return
        try:
            self.path.replace(self.final)
        except OSError as error:
            reason = error.strerror or str(error)
            raise OutputError(f"{self.final}: cannot be written ({reason})") from error
        self._open = False

    def discard(self) -> None:
        """Remove the hidden file unless it was committed; may be called twice."""
        if self._open:
            self.path.unlink(missing_ok=True)
            self._open = False
