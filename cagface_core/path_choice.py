"""Which of the processor's paths is the fastest here: measured once, then remembered."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import platform
import sys
import time
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path

import torch
from torch import Tensor

from cagface_core.paths import Runner

log = logging.getLogger(__name__)

_SIDE_PX = 96  # of the crops of a call
_FACTOR = 2
_FORM = 3  # of the paths: one more when one of them becomes faster, so that all are measured anew
_LEAST_ROUNDS, _MOST_ROUNDS = 3, 20
_MOST_S = 1.0  # of rounds: what else the machine does then must not decide for ever

_WORTH_INT8 = 1.5
"""So many times as fast 8 bit must be: its rounding, another in every frame, shimmers a little."""

Times = Mapping[str, float]


def fastest(
    paths: tuple[str, ...], open_path: Callable[[str], Runner], channels: int, weights_sha256: str
) -> tuple[Runner, str]:
    """Choose among paths by time, remembered from the last start where nothing has changed.

    Args:
        paths: those that work here.
        open_path: makes the network ready on one.
        channels: of the network's input.
        weights_sha256: of its weights.

    Returns:
        The network on that path, and why: the milliseconds of each.
    """
    key = _key(paths, weights_sha256)
    file = _cache_file()
    times_ms = _read(file).get(key)
    if times_ms is not None and set(times_ms) == set(paths):
        try:
            return open_path(_best(times_ms)), _told(times_ms)
        except Exception as error:  # noqa: BLE001  it worked when it was measured
            log.warning("%s works no more: %s; measuring anew", _best(times_ms), error)
    block = torch.zeros(1, channels, _SIDE_PX, _SIDE_PX)
    runners = _open_all(paths, open_path, block)
    times_ms = dict.fromkeys(paths, math.inf) | _measure(runners, block)
    _write(file, key, times_ms)
    log.info("measured the paths of this processor: %s", _told(times_ms))
    return runners[_best(times_ms)], _told(times_ms)


def _best(times_ms: Times) -> str:
    """The fastest, 8 bit only where it is so by far."""
    return min(times_ms, key=lambda p: times_ms[p] * (_WORTH_INT8 if p.endswith("int8") else 1))


def _open_all(
    paths: tuple[str, ...], open_path: Callable[[str], Runner], block: Tensor
) -> dict[str, Runner]:
    """Those that open and compute; nobody asked for one of them in particular."""
    runners: dict[str, Runner] = {}
    failed: Exception | None = None
    for path in paths:
        try:
            runner = open_path(path)
            runner(block, _FACTOR)  # prepares
        except Exception as error:  # noqa: BLE001  a package of others may raise anything
            log.warning("%s does not work here and is left out: %s", path, error)
            failed = error
        else:
            runners[path] = runner
    if failed is not None and not runners:
        raise failed
    return runners


def _measure(runners: Mapping[str, Runner], block: Tensor) -> dict[str, float]:
    """Milliseconds for one crop by path, the best of a few rounds in which they take turns."""
    best_s = dict.fromkeys(runners, float("inf"))
    rounds, begin = 0, time.perf_counter()
    while rounds < _LEAST_ROUNDS or (
        rounds < _MOST_ROUNDS and time.perf_counter() - begin < _MOST_S
    ):
        for path, runner in runners.items():
            start = time.perf_counter()
            runner(block, _FACTOR)
            best_s[path] = min(best_s[path], time.perf_counter() - start)
        rounds += 1
    return {path: seconds * 1000 for path, seconds in best_s.items()}


def _told(times_ms: Times) -> str:
    ordered = sorted(times_ms.items(), key=lambda item: item[1])
    told = ", ".join(f"{path} {value:.1f} ms" for path, value in ordered if value < math.inf)
    return f"{_SIDE_PX} px: {told}"


def _key(paths: tuple[str, ...], weights_sha256: str) -> str:
    """What a measurement holds for: machine, threads, versions, weights."""
    facts = (
        platform.node(), platform.machine(), _processor(), torch.get_num_threads(),
        torch.__version__, _version(), _FORM, weights_sha256, *paths,
    )  # fmt: skip
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:32]


def _version() -> str:
    """This package's version; sources that nobody installed have none."""
    try:
        return metadata.version("cagface-live")
    except metadata.PackageNotFoundError:
        return ""


def _processor() -> str:
    """The processor's name, so that a home folder on two machines keeps two measurements."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line for line in lines if line.startswith("model name")), "")


def _cache_file() -> Path:
    """Where this user's programs keep what can be made anew."""
    if sys.platform == "win32":
        home = Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local"))
    elif sys.platform == "darwin":
        home = Path.home() / "Library" / "Caches"
    else:
        home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return home / "cagface-live" / "paths.json"


def _read(file: Path) -> dict[str, dict[str, float]]:
    """What was measured before; nothing where the file is missing, damaged or of another form."""
    try:
        held = json.loads(file.read_text(encoding="utf-8"))
        return {key: {p: float(ms) for p, ms in times.items()} for key, times in held.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def _write(file: Path, key: str, times_ms: Times) -> None:
    """Add a measurement, whole or not at all; a folder that cannot be written is no error."""
    temporary = file.with_name(f"{file.name}.{os.getpid()}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(json.dumps(_read(file) | {key: times_ms}), encoding="utf-8")
        temporary.replace(file)
    except OSError as error:
        log.info("the measurement cannot be kept in %s: %s", file, error)
