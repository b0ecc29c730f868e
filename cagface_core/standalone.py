"""A module's own command line: work in, exit code out, as of the ``cagface`` commands."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from cagface_core.errors import CagfaceError, OutputError

if TYPE_CHECKING:
    from rich.console import Console

_LEAST_COLUMNS = 140


def open_console() -> Console:
    """What prints tables: as wide as the terminal; wide enough for all of them where it is none.

    Raises:
        ImportError: rich is not installed.
    """
    from rich.console import Console

    console = Console()
    return console if console.is_terminal else Console(width=_LEAST_COLUMNS)


def run_standalone(work: Callable[[], None]) -> int:
    """Run ``work``; a user's error becomes one line on standard error and exit code 2."""
    try:
        work()
    except CagfaceError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    return 0


def claim_folder(folder: Path) -> None:
    """Make a folder now: better no permission at the start than after minutes of measuring.

    Raises:
        OutputError: it cannot be made or written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".probe.part"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise _refused(folder, error) from error


def write_files(folder: Path, contents: Mapping[str, str | bytes]) -> None:
    """Write files by name into a folder, which is made.

    Raises:
        OutputError: it cannot be made or written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in contents.items():
            (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    except OSError as error:
        raise _refused(folder, error) from error


def _refused(folder: Path, error: OSError) -> OutputError:
    return OutputError(f"cannot write to {folder} ({error.strerror}); give --out another folder")
