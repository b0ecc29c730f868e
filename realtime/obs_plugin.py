"""The filter into OBS Studio's folder of plugins, whole or not at all, and out of it again.

The plugin's folder holds a list of what was installed, so that exactly that is removed. In the
data folder the path of the ``cagface`` command is written, with which the filter starts the
engine; the token there is the engine's own to make, and stays.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from cagface_core import ConfigError, OutputError
from realtime.environment import package_version
from realtime.obs_compile import (
    PLUGIN,
    digest,
    library_path,
    make_plugin,
    shipped_library,
    source_folder,
)
from realtime.obs_files import COMMAND_NAME, data_folder, make_data_folder, xdg_folder
from realtime.partial_file import PartialFile

LIST_NAME = "installed.json"

_LONGEST_INSTALL_S = 3600.0

_FLATPAK = Path(".var", "app", "com.obsproject.Studio")


@dataclass(frozen=True, slots=True)
class Obs:
    """An OBS Studio that is here: its program, and what it calls its version."""

    program: Path
    version: str


@dataclass(frozen=True, slots=True)
class Installed:
    """What was installed: the package's version, the sources' digest, each file's SHA-256."""

    version: str
    sources: str
    files: dict[str, str]


def plugin_folder(
    environment: Mapping[str, str] | None = None, system: str = sys.platform,
    home: Path | None = None,
) -> Path:  # fmt: skip
    """The folder that OBS looks for the plugin in; the user's own, where the system has one.

    Args:
        environment: the variables; None is this process's.
        system: ``sys.platform``.
        home: the user's folder; None asks for it.

    Raises:
        ConfigError: on macOS, where a bundle has to be built by hand.
    """
    environment = os.environ if environment is None else environment
    home = home or Path.home()
    if system == "darwin":
        raise ConfigError(
            "on macOS this command knows nothing of the filter: build plugins/obs with cmake, put "
            f"{PLUGIN}.plugin into ~/Library/Application Support/obs-studio/plugins, and run "
            "`cagface serve` once, which tells it where the engine is"
        )
    if system == "win32":
        base = Path(environment.get("PROGRAMDATA") or "C:/ProgramData")
    else:
        base = xdg_folder(environment, "XDG_CONFIG_HOME", home / ".config")
    return base / "obs-studio" / "plugins" / PLUGIN


def flatpak_folder(home: Path | None = None) -> Path | None:
    """The folder of an OBS that came as a Flatpak, if there is one."""
    folder = (home or Path.home()) / _FLATPAK
    return folder if folder.is_dir() else None


def find_obs() -> Obs | None:
    """The OBS Studio of this system; None where there is none, or only a Flatpak."""
    names = ["obs", "obs64"]
    if sys.platform == "win32":
        programs = Path(os.environ.get("PROGRAMFILES", "C:/Program Files"))
        names.append(str(programs / "obs-studio" / "bin" / "64bit" / "obs64.exe"))
    if sys.platform == "darwin":
        names.append("/Applications/OBS.app/Contents/MacOS/OBS")
    program = next((found for name in names if (found := shutil.which(name))), None)
    if program is None:
        return None
    told = ""
    if sys.platform != "win32":  # where it opens its window instead
        with suppress(OSError, subprocess.SubprocessError):
            told = subprocess.run(
                [program, "--version"], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                errors="replace", timeout=20, check=False,
            ).stdout  # fmt: skip
    number = told.strip().splitlines()[-1].removeprefix("OBS Studio - ") if told.strip() else ""
    return Obs(Path(program), number or "of unknown version")


def engine_command() -> Path:
    """The ``cagface`` command of this installation. Raises `ConfigError` where there is none."""
    name = "cagface.exe" if sys.platform == "win32" else "cagface"
    own = Path(sys.argv[0])
    places = [own] if own.name == name else []
    places += [Path(sysconfig.get_path("scripts")) / name]
    places += [Path(found) for found in [shutil.which(name)] if found]
    for place in places:
        if place.is_file() and os.access(place, os.X_OK):
            return place.absolute()
    raise ConfigError("the command cagface is not here; install it: pip install cagface-live")


def install(*, build: bool = False) -> Path:
    """Install the filter, in place of the one that this command has installed before.

    Args:
        build: also where a built one is shipped.

    Returns:
        Its folder.

    Raises:
        ConfigError: OBS is one that cannot take it, or what it is built with is missing.
        OutputError: it cannot be built or written. What was there before is there still.
    """
    folder = plugin_folder()
    if (flatpak := flatpak_folder()) and find_obs() is None:
        raise ConfigError(
            f"OBS Studio is here as a Flatpak ({flatpak}), which loads only plugins built inside "
            "of it; install OBS Studio as a package of your system, then run this again"
        )
    command, source = engine_command(), source_folder()
    if folder.exists() and read_installed(folder) is None:
        raise OutputError(
            f"{folder} was not made by `cagface obs install`; move it away, then run this again"
        )
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        for left in folder.parent.glob(f".{PLUGIN}-*"):  # by an install that was killed
            if time.time() - left.stat().st_mtime > _LONGEST_INSTALL_S:
                shutil.rmtree(left, ignore_errors=True)
        stage = tempfile.mkdtemp(prefix=f".{PLUGIN}-", dir=folder.parent)
    except OSError as error:
        raise _unwritable(folder.parent, error) from error
    with ExitStack() as stack, ExitStack() as undo:
        stack.callback(shutil.rmtree, stage, ignore_errors=True)
        fresh, old, work = (Path(stage, name) for name in ("new", "old", "work"))
        make_plugin(source, fresh, work, None if build else shipped_library())
        files = {
            path.relative_to(fresh).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(fresh.rglob("*"))
            if path.is_file()
        }
        made = Installed(package_version(), digest(source), files)
        (fresh / LIST_NAME).write_text(json.dumps(asdict(made), indent=2), encoding="utf-8")
        command_file = data_folder() / COMMAND_NAME
        if not command_file.exists():
            undo.callback(command_file.unlink, missing_ok=True)
        _note(command)
        try:
            if folder.exists():
                folder.rename(old)
                undo.callback(old.rename, folder)
            fresh.rename(folder)
        except OSError as error:
            raise _unwritable(folder, error) from error
        undo.pop_all()
    return folder


def note_engine() -> None:
    """Tell the filter where the engine is, unless `install` has: one may be put in by hand.

    Nothing is told where that cannot be written, or this is no installed command.
    """
    if not (data_folder() / COMMAND_NAME).exists():
        with suppress(ConfigError, OutputError):
            _note(engine_command())


def _note(command: Path) -> None:
    _write(make_data_folder() / COMMAND_NAME, f"{command}\n")


def uninstall() -> list[Path]:
    """Remove what `install` has put there.

    Returns:
        What was removed; empty where nothing is installed.

    Raises:
        ConfigError: the folder was not made by `install`.
        OutputError: it cannot be removed.
    """
    folder = plugin_folder()
    removed: list[Path] = []
    try:
        if folder.exists():
            made = read_installed(folder)
            if made is None:
                raise ConfigError(
                    f"{folder} was not made by `cagface obs install`; remove it by hand"
                )
            for name in (*made.files, LIST_NAME):
                (folder / name).unlink(missing_ok=True)
            for place in sorted((p for p in folder.rglob("*") if p.is_dir()), reverse=True):
                _remove_empty(place)
            _remove_empty(folder)
            removed.append(folder)
        command_file = data_folder() / COMMAND_NAME
        if command_file.exists():
            command_file.unlink()
            removed.append(command_file)
    except OSError as error:
        raise _unwritable(folder, error) from error
    return removed


def read_installed(folder: Path) -> Installed | None:
    """What `install` has put into a folder; None where it has not."""
    try:
        held = json.loads((folder / LIST_NAME).read_text(encoding="utf-8"))
        return Installed(str(held["version"]), str(held["sources"]), dict(held["files"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def damage(folder: Path, made: Installed) -> str:
    """Which files are missing or changed, for people; empty where all are whole."""
    wrong = [name for name, sha256 in made.files.items() if _sha256(folder / name) != sha256]
    if library_path().as_posix() not in made.files:
        wrong.append(library_path().as_posix())
    return f"missing or changed: {', '.join(wrong)}" if wrong else ""


def _sha256(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return ""


def _write(path: Path, text: str) -> None:
    partial = PartialFile(path, overwrite=True)
    try:
        partial.path.write_text(text, encoding="utf-8")
        partial.commit()
    except OSError as error:
        raise _unwritable(path, error) from error
    finally:
        partial.discard()


def _remove_empty(folder: Path) -> None:
    """Remove a folder, unless someone else has put something there."""
    if not any(folder.iterdir()):
        folder.rmdir()


def _unwritable(path: Path, error: OSError) -> OutputError:
    reason = error.strerror or str(error)
    return OutputError(f"{path} cannot be written ({reason}); close OBS Studio, and make it yours")
