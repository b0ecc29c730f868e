"""Photos in, CAGFace weights out: stage 1 first, then both stages (end of section 3)."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cagface_core import checkpoint
from cagface_core.attention import resize_maps, to_signed
from cagface_core.cagface import CAGFace
from cagface_core.errors import ConfigError
from cagface_core.evaluate.metrics import psnr
from cagface_core.fold import FoldedCAGFace, collapsed_forward, fold, place
from cagface_core.train.claim import claim
from cagface_core.train.photos import read_photos
from cagface_core.train.plan import SRTraining
from cagface_core.train.pool import Batch, Pool
from cagface_core.train.ranks import rank
from cagface_core.train.trainer import Run, autocast, steps_done, train
from cagface_core.train.widen import widen
from cagface_core.types import Image

log = logging.getLogger(__name__)


def run(plan: SRTraining) -> Path:
    """Train; interrupted, the same call goes on.

    Writes ``out/weights.safetensors``, float32 and unfolded unless ``init`` was folded, to train
    on from; and ``out/folded.safetensors``, the same in half precision and folded, to ship.

    Raises:
        ConfigError: an unknown preset or protocol, or ``out`` belongs to another run.
        InputError: the photo set is not there.
        OutputError: ``out`` cannot be written to.
    """
    start(plan)  # refuse a wrong plan before the photos are read
    rank().share(plan.batch)
    claim(plan.out, "sr", plan)
    pool = Pool(plan, read_photos(plan.data, "train"))
    validation = Pool(plan, read_photos(plan.data, "val")[::4], sides=(256,), variants=1)
    return run_on(plan, pool, validation)


def run_on(plan: SRTraining, pool: Pool, validation: Pool) -> Path:
    """Do what :func:`run` does, on pools that may serve several trainings."""
    final = fit(plan, start(plan), pool, validation)
    path = plan.out / "weights.safetensors"
    if not rank().leads:
        return path
    facts = {
        "protocol": plan.protocol, "licence": "Apache-2.0",
        "steps": [steps_done(plan.out / stage) for stage in ("stage1", "stage2")],
        "batch": plan.batch, "patch_px": plan.patch_px, "seed": plan.seed, "scale": 4,
        "attention": "masks" if plan.parser is None else checkpoint.load(plan.parser).sha256,
        "photos": len(pool.photos), "init": plan.init.name if plan.init else None,
    }  # fmt: skip
    kind = "sr" if isinstance(final, CAGFace) else "sr-folded"
    checkpoint.save(path, kind, final.config, final.state_dict(), facts)
    checkpoint.save_folded(plan.out / "folded.safetensors", final, facts)
    return path


def start(plan: SRTraining) -> CAGFace | FoldedCAGFace:
    """Check the plan and make the network it starts from, on its device.

    Raises:
        ConfigError: an unknown preset, protocol, precision or form of attention.
    """
    for name, value, known in (
        ("preset", plan.preset, tuple(checkpoint.PRESETS)),
        ("protocol", plan.protocol, ("clean", "webcam")),
        ("maps", plan.maps, ("soft", "hard")),
    ):
        if value not in known:
            raise ConfigError(f"unknown {name} {value!r}: expected one of {', '.join(known)}")
    autocast(plan.device, plan.precision)  # refuse a wrong one before the photos are read
    if plan.minutes and rank().count > 1:
        raise ConfigError("--minutes is for one process: those of torchrun would end at odds")
    torch.manual_seed(plan.seed)
    config = checkpoint.PRESETS[plan.preset]
    if plan.attention is not None:
        try:
            config = replace(config, attention=plan.attention)
        except ValueError as error:
            raise ConfigError(str(error)) from error
    if plan.init is None:
        return place(CAGFace(config), plan.device)
    return place(widen(checkpoint.load_sr(plan.init)[0], config), plan.device)


def fit(
    plan: SRTraining, model: CAGFace | FoldedCAGFace, pool: Pool, validation: Pool
) -> CAGFace | FoldedCAGFace:
    """Train stage 1, then both; or both at once from ``init``, or where ``steps1`` is 0."""
    settings = (plan.learning_rate, plan.check_every, plan.device, plan.minutes)
    if isinstance(model, CAGFace) and plan.init is None and plan.steps1:
        stage1 = train(
            model,
            Run(plan.out / "stage1", plan.steps1, *settings),
            lambda m, step: loss_of(plan, m, pool.batch(step), stages=1),
            lambda m: gain(m, validation, stages=1),
            "gain_2x_db",
        )
        model.load_state_dict(stage1.state_dict())
        model.initialise_stage2()
    final = train(
        model,
        Run(plan.out / "stage2", plan.steps2, *settings),
        lambda m, step: loss_of(plan, m, pool.batch(step + 1_000_000), stages=2),
        lambda m: gain(m, validation),
        "gain_db",
    )
    assert isinstance(final, CAGFace | FoldedCAGFace)
    return final


@torch.no_grad()
def gain(model: nn.Module, pool: Pool, stages: int = 2) -> float:
    """Mean PSNR gain over bicubic in dB on the pool's smallest size, at 2x after stage 1, else 4x.

    A network other than CAGFace is taken to map the block to the 4x picture.
    """
    device = pool.plan.device
    if stages == 2 and isinstance(model, CAGFace | FoldedCAGFace):
        model = place(fold(model), device)
    gains: list[float] = []
    for index in range(len(pool.photos)):
        example = pool.example(index)
        out = outputs_of(model, example.block, stages)[-1]
        hr = example.hr
        if stages == 1:
            hr = to_image(halve(to_signed([hr], device)))
        size = out.shape[-2:]
        plain = F.interpolate(example.lr, size=size, mode="bicubic", align_corners=False)
        gains.append(psnr(to_image(out), hr) - psnr(to_image(plain), hr))
    return float(np.mean(gains))


def outputs_of(model: nn.Module, block: Tensor, stages: int = 2) -> list[Tensor]:
    """Run a network in training: CAGFace's outputs of each stage, or any other's 4x picture."""
    if isinstance(model, CAGFace | FoldedCAGFace):
        return list(collapsed_forward(model, block, stages))[:stages]
    return [model(block)]


def halve(hr: Tensor) -> Tensor:
    """Downsample (N, 3, H, W) by antialiased bicubic to half: the target of ``sr2``."""
    size = (hr.shape[-2] // 2, hr.shape[-1] // 2)
    return F.interpolate(hr, size=size, mode="bicubic", align_corners=False, antialias=True)


def to_image(signed: Tensor) -> Image:
    """Convert the first of (N, 3, H, W) in [-1, 1] to (H, W, 3) uint8, clipped and rounded."""
    levels = ((signed[0].clamp(-1, 1) + 1) * 127.5).round().byte()
    return levels.permute(1, 2, 0).contiguous().cpu().numpy()


def loss_of(plan: SRTraining, model: nn.Module, batch: Batch, stages: int = 2) -> Tensor:
    """Huber losses of one batch (equation 1), folded on the fly.

    A network other than CAGFace is taken to map the block to the 4x picture alone.
    """
    block, hr, maps = batch
    with autocast(plan.device, plan.precision):
        outputs = outputs_of(model, block, stages)
    losses: list[Tensor] = []
    for sr in outputs:
        truth = hr if sr.shape == hr.shape else halve(hr)
        if plan.parts_weight == 1:
            losses.append(F.huber_loss(sr.float(), truth))
        else:
            parts = resize_maps(maps, *truth.shape[-2:])[:, 2:]
            weight = 1 + (plan.parts_weight - 1) * parts
            loss = F.huber_loss(sr.float(), truth, reduction="none")
            losses.append((weight * loss).mean() / weight.mean())
    return torch.stack(losses).sum()
