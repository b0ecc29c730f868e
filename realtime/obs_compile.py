"""The filter's sources in, the folder that OBS loads it from out: shipped, or built by CMake."""

from __future__ import annotations

import hashlib
import logging
import platform
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from cagface_core import ConfigError, OutputError

_log = logging.getLogger(__name__)

PLUGIN = "cagface-enhance"

_HERE = Path(__file__).parent

_PACKAGES = (
    "on Windows: see Build in plugins/obs/README.md"
    if sys.platform == "win32"
    else "on Debian and Ubuntu: sudo apt-get install build-essential cmake pkg-config libobs-dev; "
    "on Fedora: sudo dnf install gcc make cmake pkgconf obs-studio-devel; "
    "on Arch: sudo pacman -S base-devel cmake obs-studio"
)

_LONGEST_S = 300.0


def source_folder(package: Path = _HERE) -> Path:
    """The filter's sources: of the checkout, or those that are installed with this package.

    Raises:
        ConfigError: neither is there.
    """
    for folder in (package.parent / "plugins" / "obs", package / "obs_plugin_source"):
        if (folder / "CMakeLists.txt").is_file():
            return folder
    raise ConfigError(
        "the filter's sources are not here; install the package again: "
        "pip install --force-reinstall --no-deps cagface-live"
    )


def library_path(system: str = sys.platform) -> Path:
    """Where in the plugin's folder the library lies."""
    return Path("bin", "64bit", f"{PLUGIN}{'.dll' if system == 'win32' else '.so'}")


def shipped_library(package: Path = _HERE) -> Path | None:
    """The library that this package holds for this system, if it does."""
    place = f"{platform.system()}-{platform.machine()}".lower()
    library = package / "obs_build" / place / library_path().name
    return library if library.is_file() else None


def digest(source: Path) -> str:
    """What tells one version of the sources from another: hexadecimal digits."""
    total = hashlib.sha256()
    files = [source / "CMakeLists.txt"]
    files += [path for part in ("src", "data", "windows") for path in (source / part).rglob("*")]
    for path in sorted(path for path in files if path.is_file()):
        total.update(f"{path.relative_to(source).as_posix()}\0".encode())
        total.update(hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()


def make_plugin(source: Path, into: Path, work: Path, library: Path | None) -> None:
    """Make the plugin's folder: ``bin/64bit`` with the library, and ``data``.

    Args:
        source: `source_folder`.
        into: the folder, made here.
        work: an empty folder to build in.
        library: one that is built already; None builds it.

    Raises:
        ConfigError: what it is built with is missing.
        OutputError: it cannot be built or written.
    """
    if library is not None:
        try:
            (into / library_path()).parent.mkdir(parents=True)
            shutil.copy2(library, into / library_path())
            shutil.copytree(source / "data", into / "data")
        except OSError as error:
            raise OutputError(f"{into}: cannot be written ({error.strerror})") from error
        return
    cmake = shutil.which("cmake")
    if cmake is None:
        raise ConfigError(f"the filter is built with cmake, which is not here; {_PACKAGES}")
    told = _run([cmake, "-S", str(source), "-B", str(work)])
    if told is not None:
        raise ConfigError(f"the filter cannot be built: {_missing(told)}; {_PACKAGES}")
    for step in (
        ["--build", str(work), "--config", "Release"],
        ["--install", str(work), "--config", "Release", "--prefix", str(into)],
    ):
        if (told := _run([cmake, *step])) is not None:
            raise OutputError(
                f"the filter cannot be built: {_first_error(told)}; `cagface --debug obs install` "
                "tells all of it"
            )
    if not (into / library_path()).is_file():
        raise OutputError(f"the build has made no {library_path()}; report it with this line")


def _run(words: Sequence[str]) -> str | None:
    """Run a step of the build; what it said if it failed, None if it did not."""
    try:
        done = subprocess.run(
            words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, errors="replace", timeout=_LONGEST_S, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return f"error: {Path(words[0]).name} took longer than {_LONGEST_S:.0f} s"
    except OSError as error:
        return f"error: {words[0]} does not start ({error.strerror})"
    _log.debug("%s\n%s", " ".join(words), done.stdout)
    return done.stdout if done.returncode else None


def _missing(told: str) -> str:
    """What CMake did not find, from what it said."""
    if "CMAKE_C_COMPILER" in told or "CMAKE_MAKE_PROGRAM" in told:
        return "there is no C compiler, or no make"
    if "PkgConfig" in told or "pkg-config" in told:
        return "there is no pkg-config"
    if "libobs" in told:
        return "the headers of libobs are missing"
    return _first_error(told)


def _first_error(told: str) -> str:
    """The first line of an error, with the next where that only says that there is one."""
    lines = [" ".join(line.split()) for line in told.splitlines() if line.strip()]
    for index, line in enumerate(lines):
        if "error" in line.lower():
            return " ".join(lines[index : index + 2]) if line.endswith(":") else line
    return lines[-1] if lines else "without a word"
