"""What a worker of a cluster is: it loads the network once, then makes piece after piece.

Nothing here knows of Ray; `realtime.cluster` puts it to work.
"""

from __future__ import annotations

import logging
import os
import platform
import shutil
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cagface_core import ConfigError, EnhancerConfig
from realtime.ahead import Stretch
from realtime.options import MakeEnhancer
from realtime.piece_maker import FilmWork, MadePiece, make_piece
from realtime.process import in_own_thread, keep_memory, leave_a_core

if TYPE_CHECKING:
    from realtime.run_images import PictureEnhancer


@dataclass(frozen=True, slots=True)
class Recruit:
    """What a worker is told when it is taken on.

    ``size`` is the film's, in bytes, by which a worker knows it; ``files`` holds weights that
    came from a file, by the name they had. ``cpus`` are the cores that it has for itself.
    """

    make_enhancer: MakeEnhancer
    config: EnhancerConfig
    work: FilmWork
    size: int
    versions: Mapping[str, str]
    files: Mapping[str, bytes]
    cpus: int


@dataclass(frozen=True, slots=True)
class Hello:
    """What a worker tells of itself; ``needs_film``: it cannot read the film where it lies."""

    place: str
    path: str
    description: str
    needs_film: bool


class PieceWorker:
    """One process that makes pieces of one film."""

    def __init__(self) -> None:
        self._told = _Told()
        self._folder = _own_folder()

    def hello(self, recruit: Recruit, device: str) -> Hello:
        """Load the network for ``device``.

        Raises:
            ConfigError: another version of this program, or of what encodes, is installed here.
            CagfaceError: the network cannot be loaded.
        """
        here = versions()
        if here != recruit.versions:
            raise ConfigError(
                f"the worker on {platform.node()} has {_listed(here)}, this machine "
                f"{_listed(recruit.versions)}; install the same on both"
            )
        keep_memory()
        leave_a_core(recruit.cpus)
        self._work = recruit.work
        self._source = recruit.work.source
        config = replace(self._with_files(recruit), device=device)
        self._enhancer: PictureEnhancer[Any] = in_own_thread(lambda: recruit.make_enhancer(config))
        return Hello(
            f"{platform.node()}, process {os.getpid()}",
            self._enhancer.path,
            self._enhancer.description,
            not (self._source.is_file() and self._source.stat().st_size == recruit.size),
        )

    def take_film(self, block: bytes) -> None:
        """Keep a copy of the film, of which this is the first block, or the next one."""
        self._source = self._folder / f"film{self._work.source.suffix}"
        with self._source.open("ab") as file:
            file.write(block)

    def make(self, stretch: Stretch) -> tuple[MadePiece, list[str]]:
        """Make one piece; give it and the warnings that were logged meanwhile."""
        made = make_piece(self._work, self._source, stretch, self._enhancer, self._folder)
        return made, self._told.taken()

    def here(self) -> None:
        """Answer that it is alive."""

    def close(self) -> None:
        """Leave nothing behind."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _with_files(self, recruit: Recruit) -> EnhancerConfig:
        """The configuration, with the files it names as they are here."""
        placed: dict[str, Path] = {}
        for number, (name, data) in enumerate(recruit.files.items()):
            placed[name] = self._folder / f"{number}-{Path(name).name}"
            placed[name].write_bytes(data)
        config = recruit.config
        weights = str(placed.get(config.weights, config.weights))
        return replace(config, weights=weights, parser=placed.get(str(config.parser)))


def versions() -> dict[str, str]:
    """What must be the same on all machines for a film to come out the same."""
    found: dict[str, str] = {}
    for name in ("cagface-live", "av"):
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def _listed(found: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {number}" for name, number in found.items()) or "none of it"


@dataclass(slots=True)
class _Told:
    """The warnings of this program, each once."""

    _lines: list[str] = field(default_factory=list[str])
    _known: set[str] = field(default_factory=set[str])

    def __post_init__(self) -> None:
        handler = logging.Handler(logging.WARNING)
        handler.emit = self._emit
        for name in ("realtime", "cagface_core"):
            logger = logging.getLogger(name)
            logger.addHandler(handler)
            logger.propagate = False

    def taken(self) -> list[str]:
        """Those since this was last asked."""
        lines, self._lines = self._lines, []
        return lines

    def _emit(self, record: logging.LogRecord) -> None:
        line = record.getMessage()
        if line not in self._known:
            self._known.add(line)
            self._lines.append(line)


def _own_folder() -> Path:
    """A folder of this process; those of killed ones are removed."""
    shared = Path(tempfile.gettempdir()) / f"cagface-workers-{Path.home().name}"
    shared.mkdir(exist_ok=True)
    if Path("/proc/self").exists():
        for left in shared.iterdir():
            if not Path("/proc", left.name).exists():
                shutil.rmtree(left, ignore_errors=True)
    own = shared / str(os.getpid())
    shutil.rmtree(own, ignore_errors=True)
    own.mkdir()
    return own
