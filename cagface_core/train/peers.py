"""Photos in, weights of the paper's competitors out: same data, batches, budget and loss for all.

They get what CAGFace gets of :mod:`cagface_core.train.sr`: its patches, its Huber loss on the 4x
picture, and the one loop of :mod:`cagface_core.train.trainer`; the adversarial ones then what it
gets of :mod:`cagface_core.train.detail`, for as many steps again.
"""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cagface_core import checkpoint
from cagface_core.consistency import resize
from cagface_core.errors import ConfigError, OutputError
from cagface_core.evaluate.peer_networks import SRFBN
from cagface_core.evaluate.peers import PEERS, PeerConfig, build_peer, load_peer
from cagface_core.evaluate.perceptual import ParserFeatures
from cagface_core.fold import place
from cagface_core.train.claim import noted
from cagface_core.train.detail import (
    SHARES,
    Adversary,
    Features,
    closeness,
    pulled,
    ramp,
)
from cagface_core.train.photos import read_photos
from cagface_core.train.plan import SRTraining
from cagface_core.train.pool import Batch, Pool
from cagface_core.train.sr import gain
from cagface_core.train.trainer import Run, autocast, train

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PeersTraining:
    """What ``cagface train peers`` is asked for.

    ``only`` names some of :data:`cagface_core.evaluate.peers.PEERS`, separated by commas.
    ``protocol``, ``batch``, ``patch_px``, ``precision`` and ``prepared`` are as in
    :class:`cagface_core.train.plan.SRTraining`. Peers in one folder must agree in all but
    ``learning_rate`` and ``precision``, for no rate suits every network: name those that want
    another with ``only``.
    """

    data: Path
    out: Path
    only: str = ""
    protocol: str = "clean"
    steps: int = 10_000
    batch: int = 16
    patch_px: int = 32
    learning_rate: float = 1e-3
    seed: int = 0
    check_every: int = 250
    device: str = "cpu"
    precision: str = "float32"
    prepared: Path | None = None


def run(plan: PeersTraining) -> Path:
    """Train the peers one after another, each to ``out/NAME/weights.safetensors``.

    Finished ones are kept, an interrupted one goes on.

    Returns:
        The folder ``out``.

    Raises:
        ConfigError: an unknown peer, protocol or precision, or ``out`` holds a run of another
            budget. InputError: the photo set is not there. OutputError: ``out`` cannot be written.
    """
    names = [name.strip() for name in plan.only.split(",") if name.strip()] or list(PEERS)
    for name in names:
        if name not in PEERS:
            raise ConfigError(f"unknown peer {name!r}: expected some of {', '.join(PEERS)}")
    if plan.protocol not in ("clean", "webcam"):
        raise ConfigError(f"unknown protocol {plan.protocol!r}: expected clean or webcam")
    autocast(plan.device, plan.precision)  # refuse a wrong one before the photos are read
    _claim(plan)
    names = [n for name in names for n in (PEERS[name].sharpens, name) if n is not None]
    missing = [name for name in dict.fromkeys(names) if not _weights(plan, name).is_file()]
    if not missing:
        return plan.out
    shared = SRTraining(
        plan.data, plan.out, protocol=plan.protocol, batch=plan.batch, patch_px=plan.patch_px,
        seed=plan.seed, device=plan.device, attention="none", prepared=plan.prepared,
    )  # fmt: skip
    pool = Pool(shared, read_photos(plan.data, "train"))
    validation = Pool(shared, read_photos(plan.data, "val")[::4], sides=(256,), variants=1)
    for name in missing:
        log.info("%s", name)
        _train_one(plan, name, pool, validation)
    return plan.out


def loss_of(plan: PeersTraining, model: nn.Module, batch: Batch) -> Tensor:
    """Huber loss of one batch, computed at the plan's precision.

    That of SRFBN is the mean over its iterations, as its paper has it.
    """
    lr = batch.block[:, :3]
    with autocast(plan.device, plan.precision):
        outputs = model.pictures(lr) if isinstance(model, SRFBN) else [model(lr)]
    return torch.stack([F.huber_loss(sr.float(), batch.hr) for sr in outputs]).mean()


def _train_one(plan: PeersTraining, name: str, pool: Pool, validation: Pool) -> None:
    """Train one peer and write its weights."""
    torch.manual_seed(plan.seed)
    before = PEERS[name].sharpens
    if before is None:
        final = train(
            place(build_peer(name), plan.device),
            Run(plan.out / name, plan.steps, plan.learning_rate, plan.check_every, plan.device),
            lambda m, step: loss_of(plan, m, pool.batch(step)),
            lambda m: gain(m, validation),
            "gain_db",
        )
    else:
        final = _sharpen(plan, name, load_peer(_weights(plan, before))[0], pool, validation)
    facts = {
        **_budget(plan), "learning_rate": plan.learning_rate, "precision": plan.precision,
        "scale": 4, "photos": len(pool.photos), "paper": PEERS[name].paper,
        "note": PEERS[name].note, "licence": "Apache-2.0",
    }  # fmt: skip
    checkpoint.save(_weights(plan, name), "peer", PeerConfig(name), final.state_dict(), facts)


def _sharpen(
    plan: PeersTraining, name: str, model: nn.Module, pool: Pool, validation: Pool
) -> nn.Module:
    """Go on with a trained peer as an adversarial one does, at a fifth of the rate."""
    rate = plan.learning_rate / 5
    parser = checkpoint.WEIGHTS_DIR / "parser.safetensors"
    adversary = Adversary(plan.device, rate, plan.precision)
    features = Features(parser, plan.device)
    eye = ParserFeatures(parser, torch.device(plan.device))

    def loss(m: nn.Module, step: int) -> Tensor:
        batch = pool.batch(step + 1_000_000)
        lr = batch.block[:, :3]
        with autocast(plan.device, plan.precision):
            sr = m(lr).float()
        shares = SHARES[0], SHARES[1] * ramp(step, plan.steps)
        critics = adversary, features, autocast(plan.device, plan.precision)
        return pulled(sr, batch.hr, resize(lr, *batch.hr.shape[-2:]), shares, critics)

    return train(
        place(model.train(), plan.device),
        Run(plan.out / name, plan.steps, rate, plan.check_every, plan.device),
        loss,
        lambda m: closeness(m, validation, eye),
        "minus_parser_distance",
        adversary,
    )


def _weights(plan: PeersTraining, name: str) -> Path:
    """Where a peer's weights go; the file is there when its training is finished."""
    return plan.out / name / "weights.safetensors"


def _budget(plan: PeersTraining) -> dict[str, Any]:
    """What must be the same for all peers of a folder."""
    kept = ("protocol", "steps", "batch", "patch_px", "seed")
    return {key: value for key, value in asdict(plan).items() if key in kept}


def _claim(plan: PeersTraining) -> None:
    """Write the budget to ``out/budget.json``, or hold the one found there against the plan."""
    path, budget = plan.out / "budget.json", _budget(plan)
    try:
        plan.out.mkdir(parents=True, exist_ok=True)
        found = noted(path, budget)
    except (OSError, ValueError) as error:
        raise OutputError(f"cannot use {path}: {error}; give --out another folder") from error
    if found != budget:
        raise ConfigError(
            f"{plan.out} holds peers of another budget ({found}), which cannot be compared with "
            f"{budget}; give --out another folder"
        )
