"""All that a run of the bench measured, as plain rows; to and from ``bench.json``."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, cast

from cagface_core.errors import ConfigError, InputError

SCHEMA = 1


@dataclass(frozen=True, slots=True)
class Rate:
    """What the machine can do at most: ``what`` is ``multiply`` or ``copy``.

    ``best`` and ``median`` over ``n`` measurements are in ``unit``: GFLOP/s (a multiply-add is two
    operations; for int8 likewise) or GB/s read and written together.
    """

    what: str
    precision: str
    unit: str
    best: float
    median: float
    n: int
    size: str


@dataclass(frozen=True, slots=True)
class NetworkRow:
    """One network alone on a batch of square crops, block in, 4x RGB out.

    ``sha256`` is that of the weights, None for a network freshly initialised. ``gflop`` counts
    the whole batch, a multiply-add as two; ``gflop_per_s`` is by the median.
    """

    preset: str
    features: int
    units: int
    sha256: str | None
    path: str
    precision: str
    side_px: int
    batch: int
    n: int
    best_ms: float
    p50_ms: float
    p95_ms: float
    faces_per_s: float
    gflop: float
    gflop_per_s: float


@dataclass(frozen=True, slots=True)
class RatioRow:
    """How many times longer ``slower`` takes than ``faster``, in turn in one run.

    ``ratio`` is the median over rounds, ``low`` and ``high`` are its quartiles; ``goal`` is what
    the project wants at least, None for none. Times are medians.
    """

    slower: str
    faster: str
    precision: str
    side_px: int
    ratio: float
    low: float
    high: float
    slower_ms: float
    faster_ms: float
    rounds: int
    goal: float | None


@dataclass(frozen=True, slots=True)
class FrameRow:
    """Whole frames through `FaceEnhancer.enhance`, from RGB to ``output``, ``rgb`` or ``i420``.

    ``series`` is ``number`` (of faces) or ``area`` (of one face). ``faces`` were shown, ``found``
    of them enhanced on average; ``crop_px`` is the side of their crops at native resolution,
    ``seen_px`` that at which the network saw them. ``detector`` is ``real`` or ``known`` (the
    boxes were given). ``stages_ms`` are medians. Files of before lack ``p99_ms`` and ``output``.
    """

    series: str
    width: int
    height: int
    faces: int
    found: float
    crop_px: int
    seen_px: int
    scale: int
    network: str
    detector: str
    n: int
    p50_ms: float
    p95_ms: float
    stages_ms: Mapping[str, float]
    p99_ms: float | None = None
    output: str = "rgb"


@dataclass(frozen=True, slots=True)
class LiveRow:
    """The live loop on a source of ``rate_hz``, into nothing.

    Latency counts from a frame's capture to its delivery. ``held`` says that at least 98 % of the
    frames arrived. ``stages_ms`` are medians.
    """

    preset: str
    scale: int
    width: int
    height: int
    face_px: int
    rate_hz: float
    fps: float
    held: bool
    frames: int
    dropped: int
    passthrough: int
    faces_per_frame: float
    seconds: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    stages_ms: Mapping[str, float]


@dataclass(slots=True)
class Results:
    """One run: the machine, the figures, and in ``notes`` what was not measured, and why."""

    machine: dict[str, Any]
    rates: list[Rate] = field(default_factory=list[Rate])
    network: list[NetworkRow] = field(default_factory=list[NetworkRow])
    ratios: list[RatioRow] = field(default_factory=list[RatioRow])
    frames: list[FrameRow] = field(default_factory=list[FrameRow])
    live: list[LiveRow] = field(default_factory=list[LiveRow])
    notes: list[str] = field(default_factory=list[str])

    def peak(self, precision: str) -> float | None:
        """The machine's best GFLOP/s at a precision, None where it was not measured."""
        found = [r.best for r in self.rates if (r.what, r.precision) == ("multiply", precision)]
        return max(found, default=None)


_ROWS: dict[str, type] = {
    "rates": Rate, "network": NetworkRow, "ratios": RatioRow, "frames": FrameRow, "live": LiveRow,
}  # fmt: skip


def to_json(results: Results) -> str:
    """All figures, to five significant digits: more is noise."""
    text = json.dumps({"schema": SCHEMA, **_rounded(asdict(results))}, indent=1, allow_nan=False)
    return text + "\n"


def from_json(path: Path) -> Results:
    """Read a ``bench.json`` again.

    Raises:
        InputError: it is not there, or not what this version writes.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if found["schema"] != SCHEMA:
            raise InputError(
                f"{path} is of schema {found['schema']!r}, expected {SCHEMA}; run the bench again"
            )
        rows = {name: [row(**entry) for entry in found[name]] for name, row in _ROWS.items()}
        return Results(found["machine"], notes=found["notes"], **rows)
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); give a bench.json") from error
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is no bench.json ({error}); run the bench again") from error


def joined(parts: Sequence[Results]) -> Results:
    """Put runs of different parts on one machine together; of each rate the best counts.

    Raises:
        ConfigError: they are of different machines or versions.
    """
    whole = parts[0]
    for part in parts[1:]:
        for name in ("cpu", "gpu", "cores", "torch_threads", "versions", "weights"):
            if part.machine[name] != whole.machine[name]:
                raise ConfigError(f"the files differ in {name}: they cannot be shown as one run")
        whole.machine["command"] += f" && {part.machine['command']}"
        whole.machine["load_after"] = part.machine["load_after"]
        for name in _ROWS:
            getattr(whole, name).extend(getattr(part, name))
        best: dict[tuple[str, str], Rate] = {}
        for rate in sorted(whole.rates, key=lambda rate: -rate.best):
            best.setdefault((rate.what, rate.precision), rate)
        whole.rates = [
            best[key] for key in dict.fromkeys((r.what, r.precision) for r in whole.rates)
        ]
        whole.notes += [note for note in part.notes if note not in whole.notes]
    return whole


def _rounded(value: Any) -> Any:
    """Round every float in nested dictionaries and lists."""
    if isinstance(value, float):
        return float(f"{value:.5g}")
    if isinstance(value, dict):
        return {name: _rounded(entry) for name, entry in cast("dict[str, Any]", value).items()}
    if isinstance(value, list):
        return [_rounded(entry) for entry in cast("list[Any]", value)]
    return value
