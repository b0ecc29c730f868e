"""What takes minutes to make in; the same, from a file if it was made before, out."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from filelock import FileLock
from safetensors.torch import load_file, save_file  # pyright: ignore[reportUnknownVariableType]
from torch import Tensor

from cagface_core.errors import OutputError

log = logging.getLogger(__name__)


def kept(
    folder: Path | None, what: object, sources: Sequence[str | None],
    make: Callable[[], dict[str, Tensor]],
) -> dict[str, Tensor]:  # fmt: skip
    """Make tensors, or read those that were made of the same before.

    Args:
        folder: where they are kept; None keeps nothing.
        what: all that they depend on, as plain values.
        sources: the files of the code that makes them: made by another version, they are stale.
        make: makes them, on the processor. Of several processes that want the same one makes it.

    Raises:
        OutputError: the folder cannot be written to.
    """
    if folder is None:
        return make()
    digest = hashlib.sha256(json.dumps(what).encode())
    for source in sources:
        digest.update(Path(str(source)).read_bytes())
    path = folder / f"{digest.hexdigest()[:16]}.safetensors"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_suffix(".lock")):
            if not path.is_file():
                part = path.with_suffix(".part")
                save_file(make(), part)
                part.replace(path)
                log.info("prepared pictures are kept in %s", path)
        return load_file(path)
    except OSError as error:
        raise OutputError(
            f"prepared pictures cannot be kept in {folder}: {error}; give --prepared another folder"
        ) from error
