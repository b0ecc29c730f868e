"""The picture that is shown goes into a folder here, as it came and as it was enhanced."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import cv2

from cagface_core import Image, OutputError
from realtime.monitor import Shown
from realtime.partial_file import PartialFile


def default_folder() -> Path:
    """Where snapshots and recordings go unless told: CAGFace in the user's pictures."""
    return Path.home() / "Pictures" / "CAGFace"


def save(shown: Shown, folder: Path) -> Path:
    """Write ``NAME-before.png`` and ``NAME-after.png``, each whole or not at all.

    Args:
        shown: what is shown; its frame as captured and its enhanced version are written.
        folder: made if it is missing.

    Returns:
        The enhanced picture's file.

    Raises:
        OutputError: the folder cannot be made or written.
    """
    after = new_name(folder, "-after.png")
    before = after.with_name(after.name.replace("-after", "-before"))
    _write(before, shown.frame.rgb)
    _write(after, shown.after)
    return after


def new_name(folder: Path, ending: str) -> Path:
    """A name in ``folder`` that tells the time to the millisecond; the folder is made.

    Where that name is taken, the next millisecond is waited for.

    Raises:
        OutputError: the folder cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"{folder}: the folder cannot be made ({error.strerror}); name another by --snapshots"
        ) from error
    while True:
        stamp = datetime.now().astimezone().strftime("%Y%m%d-%H%M%S-%f")[:-3]
        if not (path := folder / f"cagface-{stamp}{ending}").exists():
            return path


def _write(path: Path, rgb: Image) -> None:
    partial = PartialFile(path, overwrite=False)
    try:
        _, data = cv2.imencode(".png", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))
        partial.path.write_bytes(data.tobytes())
        partial.commit()
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror})") from error
    finally:
        partial.discard()
