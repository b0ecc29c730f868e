"""What a training is asked for in; refused, before anything is read, where it cannot be, out."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from cagface_core.errors import ConfigError
from cagface_core.standalone import claim_folder
from cagface_core.train.ranks import rank

_NOTE = "training.json"

_LEAST: dict[str, float] = {
    "steps": 1, "steps1": 0, "steps2": 0, "batch": 1, "patch_px": 8, "seed": 0, "seeds": 1,
    "check_every": 1, "variants": 1, "minutes": 0,
}  # fmt: skip
_MOST: dict[str, float] = {"patch_px": 64}  # the smallest pictures have no more
_ABOVE_NOUGHT = ("learning_rate", "width", "parts_weight")

_MAY_CHANGE = (
    "data", "out", "steps", "steps1", "steps2", "learning_rate", "minutes", "check_every", "device",
    "precision", "prepared", "only", "seeds",
)  # fmt: skip
"""What a training that goes on may be told otherwise than at its start."""


def check(plan: Any) -> None:
    """Refuse numbers that no training can have.

    Args:
        plan: a training's dataclass.

    Raises:
        ConfigError: names the option, and what it may be.
    """
    for item in fields(plan):
        name, value = item.name, getattr(plan, item.name)
        if not isinstance(value, int | float):
            continue
        option = f"--{name.replace('_', '-')} {value:g}"
        if not math.isfinite(value):
            raise ConfigError(f"{option} is no number to train with")
        if name in _ABOVE_NOUGHT and value <= 0:
            raise ConfigError(f"{option} is not possible; expected a number above 0")
        least, most = _LEAST.get(name, -math.inf), _MOST.get(name, math.inf)
        if not least <= value <= most:
            least_of = f"at least {least:g}" if most == math.inf else f"{least:g} to {most:g}"
            raise ConfigError(f"{option} is not possible; expected {least_of}")


def claim(out: Path, what: str, plan: Any) -> None:
    """Take a folder for a training, or go on in it; of several processes the first one does.

    Args:
        out: is made, and told in ``training.json`` whose it is.
        what: ``sr``, ``parser`` or another of the trainings.
        plan: its dataclass.

    Raises:
        OutputError: it cannot be made or written to.
        ConfigError: it is another training's, or this one's with other options.
    """
    if not rank().leads:
        return
    claim_folder(out)
    ours = {"training": what} | {
        item.name: str(value) if isinstance(value := getattr(plan, item.name), Path) else value
        for item in fields(plan)
        if item.name not in _MAY_CHANGE
    }
    path = out / _NOTE
    if not _begun(out):
        path.unlink(missing_ok=True)
    try:
        theirs = noted(path, ours)
    except ValueError as error:
        raise ConfigError(f"{path} is damaged; give --out another folder") from error
    for name, value in ours.items():
        if name in theirs and theirs[name] != value:
            raise ConfigError(
                f"{out} belongs to another training: {name} was {theirs[name]}, not {value}; "
                "give --out another folder, or the same options to go on"
            )


def noted(path: Path, ours: Mapping[str, Any]) -> dict[str, Any]:
    """Read a folder's note; where there is none, write this one. Raises OSError, ValueError."""
    if not path.is_file():
        path.write_text(json.dumps(ours, indent=1) + "\n", encoding="utf-8")
    return json.loads(path.read_text(encoding="utf-8"))


def _begun(out: Path) -> bool:
    """Whether there is more of a training than its name."""
    return (out / "weights.safetensors").is_file() or any(out.rglob("state.pt"))
