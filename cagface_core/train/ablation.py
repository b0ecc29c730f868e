"""A photo set in; the paper's ablations, and ours on attention, as a table out (section 4.4).

Every variant is trained from scratch on the same batches for the same number of steps, both
stages at once, whole faces 64 -> 256, and measured on the validation photos.
"""

from __future__ import annotations

import copy
import json
import logging
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cagface_core import checkpoint
from cagface_core.bench.timing import Budget, Work, percentile, race
from cagface_core.cagface import CAGFace, CAGFaceConfig, LinearChain, pad_context
from cagface_core.errors import ConfigError
from cagface_core.evaluate.metrics import psnr
from cagface_core.fold import fold, fold_chain, place
from cagface_core.train.claim import claim
from cagface_core.train.photos import read_photos
from cagface_core.train.plan import SRTraining
from cagface_core.train.pool import Pool
from cagface_core.train.sr import loss_of, to_image
from cagface_core.train.trainer import Run, train

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Ablation:
    """What ``cagface train ablation`` is asked for.

    ``preset`` is the size at which the forms of attention are compared; ``only`` names some of
    :data:`VARIANTS`, separated by commas. Without ``parser`` the photos' own masks are the
    attention, which no parser can be better than.
    """

    data: Path
    out: Path
    preset: str = "pico"
    only: str = ""
    parser: Path | None = None
    steps: int = 3000
    batch: int = 16
    learning_rate: float = 1e-3
    seeds: int = 1
    device: str = "cpu"
    precision: str = "float32"


VARIANTS: dict[str, dict[str, Any]] = {
    "none": {"attention": "none"},
    "paper": {"attention": "paper"},
    "paper-hard": {"attention": "paper", "maps": "hard"},
    "maps": {"attention": "maps"},
    "twice": {"attention": "twice"},
    "gate": {"attention": "gate"},
    "none-parts-x3": {"attention": "none", "parts_weight": 3.0},
    "single-stage": {"attention": "paper"},
    "F16-L4": {"size": (16, 4)},
    "F16-L8": {"size": (16, 8)},
    "F32-L4": {"size": (32, 4)},
    "F32-L8": {"size": (32, 8)},
    "F64-L4": {"size": (64, 4)},
    "F64-L8": {"size": (64, 8)},
}
"""The variants: forms of attention at the preset's size, then the F x L grid of Figures 6 and 7."""


class SingleStage(nn.Module):
    """The paper's other candidate: one stage of twice the units, straight to 4x (section 4.4)."""

    def __init__(self, config: CAGFaceConfig) -> None:
        """Start, like CAGFace, as linear interpolation."""
        super().__init__()
        twin, second = CAGFace(config), CAGFace(config)
        self.stem1 = twin.stem1
        self.backbone1 = twin.backbone1
        self.backbone1.units.extend(twin.backbone2.units)
        self.upsampler = LinearChain(
            twin.upsampler1[0], nn.PixelShuffle(2), second.upsampler1[0], nn.PixelShuffle(2),
            second.upsampler1[2], second.upsampler2[5],
        )  # fmt: skip

    def forward(self, block: Tensor) -> Tensor:
        """Map (N, in_channels, H, W) to (N, 3, 4H, 4W), folded on the fly."""
        features = pad_context(self.backbone1(self.stem1(block)))
        return F.pixel_shuffle(F.conv2d(features, *fold_chain(self.upsampler)), 4)

    @torch.no_grad()
    def folded(self) -> nn.Module:
        """Make the same network with its upsampler as one convolution; shares the other layers."""
        weight, bias = fold_chain(copy.deepcopy(self.upsampler).double())
        last = nn.Conv2d(weight.shape[1], weight.shape[0], weight.shape[-1])
        last.load_state_dict({"weight": weight, "bias": bias})
        context = nn.ReplicationPad2d(weight.shape[-1] // 2)
        return nn.Sequential(self.stem1, self.backbone1, context, last, nn.PixelShuffle(4)).eval()


def run(plan: Ablation) -> Path:
    """Train and measure the variants; finished ones are kept, an interrupted one goes on.

    Returns:
        The table, ``out/ablation.md``; its figures are also in ``out/ablation.json``.

    Raises:
        ConfigError: an unknown variant or preset. InputError: the photo set is not there.
    """
    names = [name.strip() for name in plan.only.split(",") if name.strip()] or list(VARIANTS)
    for name in names:
        if name not in VARIANTS:
            raise ConfigError(f"unknown variant {name!r}: expected some of {', '.join(VARIANTS)}")
    if plan.preset not in checkpoint.PRESETS:
        raise ConfigError(f"unknown preset {plan.preset!r}")
    claim(plan.out, "ablation", plan)
    base = SRTraining(
        plan.data, plan.out, preset=plan.preset, parser=plan.parser, steps1=0, steps2=plan.steps,
        batch=plan.batch, learning_rate=plan.learning_rate, check_every=500, device=plan.device,
        precision=plan.precision,
    )  # fmt: skip
    pool = Pool(base, read_photos(plan.data, "train"), sides=(256,))
    validation = Pool(base, read_photos(plan.data, "val"), sides=(256,))
    perfect = Pool(replace(base, parser=None), validation.photos, sides=(256,))
    masks = {photo.path: perfect.example(i).maps for i, photo in enumerate(perfect.photos)}
    for name in names:
        for seed in range(plan.seeds):
            folder = plan.out / name / str(seed)
            if not (folder / "scores.json").is_file():
                scores = _train_one(name, replace(base, out=folder, seed=seed), pool, validation,
                                    masks)  # fmt: skip
                (folder / "scores.json").write_text(json.dumps(scores) + "\n", encoding="utf-8")
                log.info("%s, seed %d: %s", name, seed, scores)
    return _report(plan)


def _network(name: str, preset: str) -> CAGFace | SingleStage:
    """Make a variant's network, freshly initialised."""
    options, config = VARIANTS[name], checkpoint.PRESETS[preset]
    if size := options.get("size"):
        config = replace(config, features=size[0], units=size[1])
    config = replace(config, attention=options.get("attention", config.attention))
    return SingleStage(config) if name == "single-stage" else CAGFace(config)


def _folded(model: CAGFace | SingleStage) -> nn.Module:
    return model.folded() if isinstance(model, SingleStage) else fold(model)


def _train_one(
    name: str, plan: SRTraining, pool: Pool, validation: Pool, masks: dict[Path, Tensor]
) -> dict[str, float]:
    """Train a variant and measure it."""
    plan = replace(plan, **{k: v for k, v in VARIANTS[name].items() if k != "size"})
    torch.manual_seed(plan.seed)
    model = place(_network(name, plan.preset), plan.device)
    mine = [copy.copy(p) for p in (pool, validation)]
    for p in mine:
        p.plan = plan
    drawing, checking = mine

    def score(net: nn.Module) -> float:
        assert isinstance(net, CAGFace | SingleStage)
        return _measure(net, checking, masks, every=4)["gain_db"]

    final = train(
        model, Run(plan.out, plan.steps2, plan.learning_rate, plan.check_every, plan.device),
        lambda m, step: loss_of(plan, m, drawing.batch(step)), score, "gain_db",
    )  # fmt: skip
    assert isinstance(final, CAGFace | SingleStage)
    return _measure(final, checking, masks)


@torch.no_grad()
def _measure(
    model: CAGFace | SingleStage, pool: Pool, masks: dict[Path, Tensor], every: int = 1
) -> dict[str, float]:
    """Mean gains in dB over bicubic, whole and within the components' masks."""
    network = place(_folded(model), pool.plan.device)
    gains: dict[str, list[float]] = {"gain_db": [], "hair_db": [], "skin_db": [], "parts_db": []}
    for index in range(0, len(pool.photos), every):
        example = pool.example(index)
        sr = to_image(network(example.block))
        plain = to_image(F.interpolate(example.lr, scale_factor=4, mode="bicubic"))
        gains["gain_db"].append(psnr(sr, example.hr) - psnr(plain, example.hr))
        if pool.photos[index].mask is None:
            continue
        parts = F.interpolate(masks[pool.photos[index].path], scale_factor=4)[0] > 0.5
        for name, inside in zip(
            ("hair_db", "skin_db", "parts_db"), parts.cpu().numpy(), strict=True
        ):
            if inside.sum() > 200:
                truth = example.hr[inside]
                gains[name].append(psnr(sr[inside], truth) - psnr(plain[inside], truth))
    parameters = sum(p.numel() for p in network.parameters())
    means = {key: round(float(np.mean(values)), 4) for key, values in gains.items()}
    return {**means, "parameters": parameters}


@torch.inference_mode()
def _milliseconds(names: Iterable[str], plan: Ablation) -> dict[str, float]:
    """Median time of each variant, folded, for one 64 px block: all in turn, in this one run."""
    device, dtype = torch.device(plan.device), getattr(torch, plan.precision)
    works: dict[str, Work] = {}
    for name in names:
        model = _network(name, plan.preset)
        network = place(_folded(model), device).to(dtype)
        block = torch.rand(1, model.stem1.in_channels, 64, 64, device=device) * 2 - 1
        block = block.to(dtype, memory_format=torch.channels_last)
        works[name] = partial(network, block)
    raced = race(works, device, Budget(0.5 * len(works), 5, 50))
    return {name: round(percentile(times, 0.5), 2) for name, times in raced.items()}


def _report(plan: Ablation) -> Path:
    """Write ``ablation.json`` and ``ablation.md`` of all variants found in the folder."""
    rows: dict[str, dict[str, list[float]]] = {}
    for name in VARIANTS:
        files = sorted((plan.out / name).glob("*/scores.json"))
        seeds: list[dict[str, float]] = [
            json.loads(file.read_text(encoding="utf-8")) for file in files
        ]
        if seeds:
            rows[name] = {key: [s[key] for s in seeds] for key in seeds[0]}
    for name, time_ms in _milliseconds(rows, plan).items():
        rows[name]["ms"] = [time_ms]
    attention = "the photos' own masks" if plan.parser is None else plan.parser.name
    facts = {
        "preset": plan.preset, "steps": plan.steps, "batch": plan.batch, "patch_px": 32,
        "attention": attention, "device": plan.device, "threads": torch.get_num_threads(),
    }  # fmt: skip
    text = json.dumps({"facts": facts, "variants": rows}, indent=1)
    (plan.out / "ablation.json").write_text(text + "\n", encoding="utf-8")
    head = (
        f"{plan.steps} steps of {plan.batch} patches, {plan.preset} where no size is named; "
        f"attention: {attention}. Gains over bicubic in dB, 64 -> 256, mean over validation "
        "photos (then seeds); within hair, skin and parts by the photos' masks. ms: folded, in "
        f"{plan.precision}, all in turn."
    )
    lines = [
        head,
        "",
        "| variant | gain | hair | skin | parts | seeds' spread | ms at 64 px | parameters |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, row in rows.items():
        mean = {key: float(np.mean(values)) for key, values in row.items()}
        spread = max(row["gain_db"]) - min(row["gain_db"])
        lines.append(
            f"| {name} | {mean['gain_db']:+.3f} | {mean['hair_db']:+.3f} | "
            f"{mean['skin_db']:+.3f} | {mean['parts_db']:+.3f} | "
            f"{spread:.3f} | {mean['ms']:.1f} | {mean['parameters']:,.0f} |"
        )
    path = plan.out / "ablation.md"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path
