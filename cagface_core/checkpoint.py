"""Weights on disk: safetensors with the facts in the header, loaded strictly.

The header holds ``kind`` (``sr``, ``sr-folded``, ``parser`` or ``peer``), ``config`` (the network's
configuration as JSON), ``facts`` (protocol, data, licence, figures, as JSON) and ``sha256`` of
the tensors.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file  # pyright: ignore[reportUnknownVariableType]
from torch import Tensor

from cagface_core.bisenet import BiSeNet, BiSeNetConfig
from cagface_core.cagface import CAGFace, CAGFaceConfig
from cagface_core.errors import ConfigError, OutputError, WeightsError
from cagface_core.fold import FoldedCAGFace, fold
from cagface_core.resnet18 import FaceParsing

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

WEIGHTS_DIR = Path(__file__).parent / "weights"

log = logging.getLogger(__name__)

PRESETS: dict[str, CAGFaceConfig] = {
    "pico": CAGFaceConfig(features=16, units=4),
    "nano": CAGFaceConfig(features=32, units=8),
    "small": CAGFaceConfig(features=64, units=8),
    "base": CAGFaceConfig(features=128, units=16),
    "paper": CAGFaceConfig(features=256, units=16),
}
"""Sizes by name; which of them ship with weights, :func:`shipped` tells."""

AUTO = "auto"
"""Weights for pictures of any quality, two networks: see ``Engine``'s ``finer``."""
_AUTO = ("webcam", "clean")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A weights file as read: what it is, its configuration, its facts and its tensors."""

    kind: str
    config: Mapping[str, Any]
    facts: Mapping[str, Any]
    tensors: dict[str, Tensor]
    sha256: str


def save(
    path: Path, kind: str, config: DataclassInstance, model: Mapping[str, Tensor],
    facts: Mapping[str, Any],
) -> None:  # fmt: skip
    """Write a weights file whole or not at all.

    Args:
        path: the final name; its folder must exist.
        kind: ``sr``, ``sr-folded``, ``parser`` or ``peer``.
        config: the network's configuration, a dataclass.
        model: its state.
        facts: anything JSON can hold: protocol, data, licence, figures.

    Raises:
        OutputError: the file cannot be written.
    """
    tensors = {name: value.detach().cpu().contiguous() for name, value in model.items()}
    header = {
        "kind": kind,
        "config": json.dumps(asdict(config)),
        "facts": json.dumps(facts),
        "sha256": _digest(tensors),
    }
    temporary = path.with_name(f".{path.name}.part")
    try:
        save_file(tensors, temporary, header)
        temporary.replace(path)
    except (OSError, SafetensorError) as error:
        temporary.unlink(missing_ok=True)
        raise OutputError(f"cannot write the weights {path}: {error}") from error


def save_folded(path: Path, model: CAGFace | FoldedCAGFace, facts: Mapping[str, Any]) -> None:
    """Write a super-resolution network as it ships: folded, in half precision."""
    tensors = {name: value.half() for name, value in fold(model).state_dict().items()}
    save(path, "sr-folded", model.config, tensors, facts)


def load(path: Path) -> Checkpoint:
    """Read a weights file and check it against its own digest.

    Raises:
        WeightsError: it is missing, not safetensors, not ours, or damaged.
    """
    if not path.is_file():
        raise WeightsError(
            f"no weights file at {path}; give the path of a .safetensors file "
            f"or one of the shipped names: {', '.join(shipped())}"
        )
    try:
        opened: Any = safe_open(path, framework="pt")  # it has no types
        with opened as file:
            header: dict[str, str] = file.metadata() or {}
            tensors: dict[str, Tensor] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise WeightsError(
            f"{path} is not a readable safetensors file ({error}); copy or download it again"
        ) from error
    try:
        kind, config = header["kind"], json.loads(header["config"])
        facts, sha256 = json.loads(header["facts"]), header["sha256"]
    except (KeyError, ValueError) as error:
        raise WeightsError(
            f"{path} carries no CAGFace Live header ({error}); "
            "expected a file written by 'cagface train'"
        ) from error
    if _digest(tensors) != sha256:
        raise WeightsError(f"{path} is damaged: its tensors do not match its own sha256")
    return Checkpoint(kind, config, facts, tensors, sha256)


def load_sr(path: Path) -> tuple[CAGFace | FoldedCAGFace, Checkpoint]:
    """Load a super-resolution network as it was saved, in float32 and evaluation mode.

    Raises:
        WeightsError: the file is not readable, of another kind, or does not fit itself.
    """
    checkpoint = load(path)
    networks = {"sr": CAGFace, "sr-folded": FoldedCAGFace}
    if checkpoint.kind not in networks:
        raise WeightsError(f"{path} holds a {checkpoint.kind!r} network; expected 'sr' weights")
    network = networks[checkpoint.kind]
    return fill(path, lambda: network(CAGFaceConfig(**checkpoint.config)), checkpoint)


def load_between(
    path: Path, other: Path, share: float
) -> tuple[CAGFace | FoldedCAGFace, Checkpoint]:
    """Load ``path``, with ``share`` 0 to 1 of each weight taken from ``other``, folded.

    Between weights of which one was trained on from the other, or both from a third, every mixture
    is a network about as good as they are. The facts are those of ``path``.

    Raises:
        WeightsError: a file is not readable, or the two are of different sizes.
    """
    model, found = load_sr(path)
    theirs, _ = load_sr(other)
    if theirs.config != model.config:
        raise WeightsError(f"{other} cannot be mixed with {path}: {theirs.config}, {model.config}")
    model, theirs = fold(model), fold(theirs).state_dict()
    mixed = {name: torch.lerp(value, theirs[name], share)
             for name, value in model.state_dict().items()}  # fmt: skip
    model.load_state_dict(mixed)
    return model, found


def load_parser(path: Path) -> tuple[BiSeNet | FaceParsing, Checkpoint]:
    """Load a component network in evaluation mode.

    A ``.pth`` or ``.pt`` file is one of the 19-class face-parsing layout
    (:mod:`cagface_core.resnet18`), any other one of ours.

    Raises:
        WeightsError: the file is not readable, of another kind, or does not fit.
    """
    if path.suffix in (".pth", ".pt"):
        return _load_face_parsing(path)
    checkpoint = load(path)
    if checkpoint.kind != "parser":
        raise WeightsError(f"{path} holds a {checkpoint.kind!r} network; expected 'parser'")
    return fill(path, lambda: BiSeNet(BiSeNetConfig(**checkpoint.config)), checkpoint)


def _load_face_parsing(path: Path) -> tuple[FaceParsing, Checkpoint]:
    """Load a PyTorch file of the face-parsing layout: tensors only, no code of the file runs."""
    if not path.is_file():
        raise WeightsError(f"no weights file at {path}; give a face-parsing checkpoint (.pth)")
    layout = "the 19-class face-parsing layout on ResNet-18 (79999_iter.pth)"
    try:
        tensors: Any = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, EOFError, RuntimeError, ValueError, LookupError, UnpicklingError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise WeightsError(
            f"{path} is not a PyTorch file of tensors ({reason}); expected {layout}"
        ) from error
    model = FaceParsing()
    try:
        model.load_state_dict(tensors, strict=True)
    except (TypeError, AttributeError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:160]
        raise WeightsError(f"{path} is not of {layout}: {reason}") from error
    facts = {"layout": layout}
    return model.eval(), Checkpoint("parser", {}, facts, tensors, _digest(tensors))


def shipped() -> list[str]:
    """Name the weights that come with the package, for example ``nano-clean``."""
    return sorted(p.stem for p in WEIGHTS_DIR.glob("*.safetensors") if p.stem != "parser")


def presets_with(weights: str) -> list[str]:
    """Name the presets that ship such weights, smallest first."""
    names = shipped()
    kinds = _AUTO if weights == AUTO else (weights,)
    return [preset for preset in PRESETS if all(f"{preset}-{kind}" in names for kind in kinds)]


def largest(weights: str, most: str) -> str:
    """The largest preset up to ``most`` that ships such weights; ``most`` if none does."""
    order = list(PRESETS)
    there = [p for p in presets_with(weights) if order.index(p) <= order.index(most)]
    return there[-1] if there else most


def find_pair(preset: str, weights: str) -> tuple[Path, Path | None]:
    """Resolve as :func:`find_sr` does; of :data:`AUTO` the second are those for clean pictures."""
    if weights != AUTO:
        return find_sr(preset, weights), None
    first, second = (find_sr(preset, kind) for kind in _AUTO)
    return first, second


def find_sr(preset: str, weights: str) -> Path:
    """Resolve ``--preset`` and ``--weights``: a shipped name, or a file of one's own.

    Raises:
        ConfigError: the preset or the name is unknown, or the preset ships no such weights.
    """
    if preset not in PRESETS:
        raise ConfigError(f"unknown preset {preset!r}; expected one of {', '.join(PRESETS)}")
    if weights.endswith(".safetensors") or os.sep in weights or Path(weights).is_file():
        return Path(weights)
    path = WEIGHTS_DIR / f"{preset}-{weights}.safetensors"
    if weights in shipped():
        size, _, kind = weights.partition("-")
        raise ConfigError(
            f"{weights} is a preset and weights; say --preset {size} --weights {kind}"
        )
    if not path.is_file():
        raise ConfigError(
            f"no weights {weights!r} for preset {preset!r}; shipped are: {', '.join(shipped())}; "
            "or give a .safetensors file"
        )
    return path


def tell_of_size(preset: str | None, found: Checkpoint, weights: Path) -> None:
    """Say so where a file of one's own is of another size than the preset that was asked for."""
    held = CAGFaceConfig(**found.config)
    wanted = held if preset is None else PRESETS[preset]
    if (held.features, held.units) != (wanted.features, wanted.units):
        size = f"F={held.features}, L={held.units}"
        log.warning(
            "preset %s is not used: %s holds a network of its own (%s)", preset, weights, size
        )


def find_named_pair(name: str) -> tuple[Path, Path | None]:
    """Resolve as :func:`find_named` does, and ``nano-auto`` as :func:`find_pair`."""
    preset, _, weights = name.partition("-")
    return find_pair(preset, AUTO) if weights == AUTO else (find_named(name), None)


def find_named(name: str) -> Path:
    """Resolve ``nano-webcam``, a shipped name, or a ``.safetensors`` file.

    Raises:
        ConfigError: no such weights ship.
    """
    if name.endswith(".safetensors"):
        return Path(name)
    if name not in shipped():
        raise ConfigError(f"unknown weights {name!r}; shipped: {', '.join(shipped())}")
    return WEIGHTS_DIR / f"{name}.safetensors"


def fill(path: Path, build: Any, checkpoint: Checkpoint) -> Any:
    """Build a network and load the tensors strictly; ``WeightsError`` if they do not fit."""
    try:
        model = build()
        model.load_state_dict(checkpoint.tensors, strict=True)
    except (TypeError, ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise WeightsError(f"{path} does not fit its own configuration: {reason}") from error
    return model.eval(), checkpoint


def _digest(tensors: Mapping[str, Tensor]) -> str:
    """Hash names, shapes and bytes of the tensors, in name order."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        value = tensors[name]
        digest.update(f"{name} {value.dtype} {tuple(value.shape)};".encode())
        digest.update(value.numpy().tobytes())
    return digest.hexdigest()
