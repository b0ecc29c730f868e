r"""The files that filter and engine find each other by: the token, and the engine's command.

The filter looks for them without Python, so the folder is spelled out here and not asked of a
library:

- Linux: ``$XDG_DATA_HOME/cagface-live``, or ``~/.local/share/cagface-live``
- macOS: ``~/Library/Application Support/cagface-live``
- Windows: ``%LOCALAPPDATA%\cagface-live``
"""

from __future__ import annotations

import os
import re
import secrets
import stat
import sys
from collections.abc import Mapping
from pathlib import Path

from cagface_core import ConfigError, OutputError

TOKEN_NAME = "obs-token"
"""64 hexadecimal digits that only the user can read; who knows them may use the engine."""

COMMAND_NAME = "obs-engine"
"""One line: the absolute path of the ``cagface`` that the filter starts the engine with."""

_TOKEN = re.compile(r"[0-9a-f]{64}")


def data_folder(
    environment: Mapping[str, str] | None = None, system: str = sys.platform,
    home: Path | None = None,
) -> Path:  # fmt: skip
    """Where both files are.

    Args:
        environment: the variables; None is this process's.
        system: ``sys.platform``.
        home: the user's folder; None asks for it.
    """
    environment = os.environ if environment is None else environment
    home = home or Path.home()
    if system == "win32":
        base = Path(environment.get("LOCALAPPDATA") or home / "AppData" / "Local")
    elif system == "darwin":
        base = home / "Library" / "Application Support"
    else:
        base = xdg_folder(environment, "XDG_DATA_HOME", home / ".local" / "share")
    return base / "cagface-live"


def xdg_folder(environment: Mapping[str, str], name: str, usual: Path) -> Path:
    """The folder that a variable of XDG names; a relative one does not count, by XDG."""
    given = environment.get(name, "")
    return Path(given) if given.startswith("/") else usual


def make_data_folder() -> Path:
    """The folder, made if it is missing. Raises `OutputError`."""
    folder = data_folder()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        reason = error.strerror or str(error)
        raise OutputError(f"{folder} cannot be made ({reason}); make that folder yours") from error
    return folder


def own_token() -> str:
    """The token, made if there is none yet; of several that make one at once, the first's counts.

    Raises:
        ConfigError: it is damaged, or others can read it.
        OutputError: it cannot be written.
    """
    path = make_data_folder() / TOKEN_NAME
    if not path.exists():
        fresh = path.with_name(f".partial-{secrets.token_hex(6)}")
        try:
            # Readable by its owner only from its first moment on.
            handle = os.open(fresh, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
            try:
                with os.fdopen(handle, "w", encoding="ascii") as file:
                    file.write(secrets.token_hex(32))
                if not path.exists():
                    _link(fresh, path)
            finally:
                fresh.unlink(missing_ok=True)
        except OSError as error:
            reason = error.strerror or str(error)
            raise OutputError(
                f"{path}: cannot be written ({reason}); make that folder yours"
            ) from error
    return read_token()


def _link(fresh: Path, path: Path) -> None:
    """Give the file its name, unless another has it by now."""
    try:
        path.hardlink_to(fresh)
    except FileExistsError:
        return


def read_token() -> str:
    """The token as it lies there.

    Raises:
        ConfigError: there is none, it is damaged, or others can read it.
    """
    path = data_folder() / TOKEN_NAME
    try:
        text = path.read_text(encoding="ascii").strip()
        mode = stat.S_IMODE(path.stat().st_mode)
    except FileNotFoundError as error:
        raise ConfigError(f"{path} is not there yet; `cagface serve` makes it") from error
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} cannot be read ({error}); remove it") from error
    if os.name == "posix" and mode & 0o077:
        raise ConfigError(
            f"{path} can be read by others (mode {mode:o}, expected 600); remove it, and the next "
            "start makes a new one"
        )
    if not _TOKEN.fullmatch(text):
        raise ConfigError(
            f"{path} holds no token, expected 64 hexadecimal digits; remove it, and the next start "
            "makes a new one"
        )
    return text
