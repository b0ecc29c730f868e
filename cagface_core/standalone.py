"""A module's own command line: work in, exit code out, as of the ``cagface`` commands."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from rich.console import Console

from cagface_core.errors import CagfaceError, OutputError


def run_standalone(work: Callable[[], None]) -> int:
    """Run ``work``; a user's error becomes one line on standard error and exit code 2."""
    try:
        work()
    except CagfaceError as error:
        console = Console(stderr=True)
        console.print(f"error: {error}", style="red", markup=False, soft_wrap=True)
        return 2
    return 0


def write_files(folder: Path, contents: Mapping[str, str]) -> None:
    """Write text files by name into a folder, which is made.

    Raises:
        OutputError: it cannot be made or written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in contents.items():
            (folder / name).write_text(text, encoding="utf-8")
    except OSError as error:
        raise OutputError(
            f"cannot write to {folder} ({error.strerror}); give --out another folder"
        ) from error
