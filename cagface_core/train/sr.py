"""Photos in, CAGFace weights out: stage 1 first, then both stages (end of section 3)."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from rich.progress import track
from torch import Tensor, nn

from cagface_core import checkpoint
from cagface_core.attention import (
    MAP_PX,
    component_maps,
    gaussian_pool,
    make_block,
    resize_maps,
    to_signed,
)
from cagface_core.bisenet import COMPONENTS
from cagface_core.cagface import CAGFace, huber_loss
from cagface_core.errors import ConfigError
from cagface_core.evaluate.metrics import psnr
from cagface_core.fold import collapsed_forward, fold, place
from cagface_core.train.degrade import degrade
from cagface_core.train.photos import Photo, downsample4, load_labels, load_square, read_photos
from cagface_core.train.trainer import Run, train
from cagface_core.types import Image

log = logging.getLogger(__name__)

PHOTO_SIDES_PX = (256, 448, 1024)
"""High-resolution sides a photo is used at, where it is large enough: whole faces of 64 px for
the whole-face protocol, and of 112 and 256 px for patches as live crops and tiles see them."""

_SIDE_WEIGHTS = (0.55, 0.25, 0.20)
_REAL_WEIGHT = 1.5  # two thirds of the photos are synthetic; real skin and cameras matter more


@dataclass(frozen=True, slots=True)
class SRTraining:
    """What ``cagface train sr`` is asked for.

    ``protocol`` is ``clean`` (the paper's antialiased bicubic) or ``webcam`` (degraded, see
    :mod:`cagface_core.train.degrade`). ``parser`` is the component network's weights; None
    takes the photos' own masks as perfect attention. ``init`` starts from weights instead of
    from stage 1; ``steps1`` is then not used. Patches are ``patch_px`` low-resolution pixels.
    """

    data: Path
    out: Path
    preset: str = "nano"
    protocol: str = "clean"
    parser: Path | None = None
    init: Path | None = None
    steps1: int = 2000
    steps2: int = 8000
    batch: int = 16
    patch_px: int = 32
    learning_rate: float = 1e-3
    seed: int = 0
    check_every: int = 250
    device: str = "cpu"
    variants: int = 2


@dataclass(frozen=True, slots=True)
class Item:
    """One photo at one size: (4S, 4S, 3) target, and per variant (S, S, 3) input, (3, S, S) maps.

    All uint8; heatmaps are scaled to 0..255.
    """

    hr: Image
    lr: tuple[Image, ...]
    maps: tuple[NDArray[np.uint8], ...]


def run(plan: SRTraining) -> Path:
    """Train and write ``out/weights.safetensors``; interrupted, the same call goes on.

    Raises:
        ConfigError: an unknown preset or protocol, or ``out`` belongs to another run.
        InputError: the photo set is not there.
    """
    if plan.preset not in checkpoint.PRESETS or plan.protocol not in ("clean", "webcam"):
        raise ConfigError(f"unknown preset or protocol: {plan.preset}, {plan.protocol}")
    torch.manual_seed(plan.seed)
    config = checkpoint.PRESETS[plan.preset]
    model = CAGFace(config)
    if plan.init is not None:
        model, _ = checkpoint.load_sr(plan.init)
        if model.config != config:
            raise ConfigError(f"{plan.init} is no {plan.preset} network: {model.config}")
    model = place(model, plan.device)
    pool = Pool(plan, read_photos(plan.data, "train"))
    validation = Pool(plan, read_photos(plan.data, "val")[::4], sides=(256,), variants=1)

    if plan.init is None:
        stage1 = train(
            model,
            Run(
                plan.out / "stage1", plan.steps1, plan.learning_rate, plan.check_every, plan.device
            ),
            lambda m, step: _loss(m, pool.batch(step), stages=1),
            lambda m: validation.gain(m, stages=1),
            "gain_2x_db",
        )
        assert isinstance(stage1, CAGFace)
        model.load_state_dict(stage1.state_dict())
        model.initialise_stage2()
    final = train(
        model,
        Run(plan.out / "stage2", plan.steps2, plan.learning_rate, plan.check_every, plan.device),
        lambda m, step: _loss(m, pool.batch(step + 1_000_000), stages=2),
        lambda m: validation.gain(m, stages=2),
        "gain_db",
    )
    assert isinstance(final, CAGFace)
    path = plan.out / "weights.safetensors"
    facts = {
        "protocol": plan.protocol, "licence": "Apache-2.0",
        "steps": [0 if plan.init else plan.steps1, plan.steps2],
        "batch": plan.batch, "patch_px": plan.patch_px, "seed": plan.seed, "scale": 4,
        "attention": "masks" if plan.parser is None else checkpoint.load(plan.parser).sha256,
        "photos": len(pool.items), "init": plan.init.name if plan.init else None,
    }  # fmt: skip
    checkpoint.save(path, "sr", config, final.state_dict(), facts)
    return path


class Pool:
    """The photos in memory, at each of their sizes, with inputs and maps ready."""

    def __init__(
        self, plan: SRTraining, photos: list[Photo], sides: tuple[int, ...] = PHOTO_SIDES_PX,
        variants: int | None = None,
    ) -> None:  # fmt: skip
        """Read and degrade the photos; a minute or two for two thousand."""
        self.plan = plan
        parser: nn.Module | None = None
        if plan.parser is not None:
            parser = checkpoint.load_parser(plan.parser)[0].to(plan.device)
        elif any(photo.mask is None for photo in photos):
            photos = [photo for photo in photos if photo.mask is not None]
        count = 1 if plan.protocol == "clean" else variants or plan.variants
        self.items: list[list[Item]] = []
        self.weights = np.array([_REAL_WEIGHT if p.kind == "real" else 1.0 for p in photos])
        self.weights /= self.weights.sum()
        for index, photo in enumerate(track(photos, "reading photos", transient=True)):
            usable = [s for s in sides if s <= photo.side] or [sides[0]]
            rng = np.random.default_rng([plan.seed, index, 7])
            self.items.append([_item(plan, photo, side, count, parser, rng) for side in usable])

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """Draw the batch of a step: blocks (N, 6, P, P) and targets (N, 3, 4P, 4P), [-1, 1]."""
        rng = np.random.default_rng([self.plan.seed, step])
        p = self.plan.patch_px
        hrs, lrs, maps = list[Image](), list[Image](), list[NDArray[np.uint8]]()
        for photo in rng.choice(len(self.items), self.plan.batch, p=self.weights):
            sizes = self.items[int(photo)]
            odds = np.array(_SIDE_WEIGHTS[: len(sizes)])
            item = sizes[rng.choice(len(sizes), p=odds / odds.sum())]
            variant = rng.integers(len(item.lr))
            lr, m = item.lr[variant], item.maps[variant]
            y, x = rng.integers(0, lr.shape[0] - p + 1, 2)
            turn = int(rng.integers(6))
            hrs.append(_augment(item.hr[4 * y : 4 * (y + p), 4 * x : 4 * (x + p)], turn))
            lrs.append(_augment(lr[y : y + p, x : x + p], turn))
            maps.append(_augment(m[:, y : y + p, x : x + p].transpose(1, 2, 0), turn))
        device = self.plan.device
        block = make_block(to_signed(lrs, device), to_signed(maps, device) * 0.5 + 0.5)
        return block, to_signed(hrs, device)

    @torch.no_grad()
    def gain(self, model: nn.Module, stages: int) -> float:
        """Mean PSNR gain over bicubic in dB on the smallest size, at 2x after stage 1, else 4x."""
        assert isinstance(model, CAGFace)
        gains: list[float] = []
        device = self.plan.device
        run = place(fold(model), device) if stages == 2 else None
        for item, *_ in self.items:
            lr = to_signed([item.lr[0]], device)
            maps = to_signed([item.maps[0].transpose(1, 2, 0)], device) * 0.5 + 0.5
            block = make_block(lr, maps)
            out = run(block) if run else model.stage1(block)[1]
            size = out.shape[-1]
            hr = item.hr if stages == 2 else to_image(halve(to_signed([item.hr], device)))
            plain = F.interpolate(lr, size=(size, size), mode="bicubic", align_corners=False)
            gains.append(psnr(to_image(out), hr) - psnr(to_image(plain), hr))
        return float(np.mean(gains))


def halve(hr: Tensor) -> Tensor:
    """Downsample (N, 3, H, W) by antialiased bicubic to half: the target of ``sr2``."""
    size = (hr.shape[-2] // 2, hr.shape[-1] // 2)
    return F.interpolate(hr, size=size, mode="bicubic", align_corners=False, antialias=True)


def to_image(signed: Tensor) -> Image:
    """Convert the first of (N, 3, H, W) in [-1, 1] to (H, W, 3) uint8, clipped and rounded."""
    levels = ((signed[0].clamp(-1, 1) + 1) * 127.5).round().byte()
    return levels.permute(1, 2, 0).contiguous().cpu().numpy()


def _loss(model: nn.Module, batch: tuple[Tensor, Tensor], stages: int) -> Tensor:
    """Huber losses of one batch, folded on the fly."""
    assert isinstance(model, CAGFace)
    block, hr = batch
    sr2, sr4 = collapsed_forward(model, block, stages)
    hr2 = halve(hr)
    return huber_loss(sr2, sr4, hr, hr2) if stages == 2 else F.huber_loss(sr2, hr2)


def _item(
    plan: SRTraining, photo: Photo, side: int, count: int, parser: nn.Module | None,
    rng: np.random.Generator,
) -> Item:  # fmt: skip
    """Prepare one photo at one size."""
    hr = load_square(photo, side)
    clean = plan.protocol == "clean"
    lr = tuple(downsample4(hr) if clean else degrade(hr, rng) for _ in range(count))
    if parser is None:
        perfect = _quantise(_mask_maps(photo, side // 4))
        return Item(hr, lr, (perfect,) * count)
    maps: list[NDArray[np.uint8]] = []
    with torch.inference_mode():
        for picture in lr:
            signed = to_signed([picture], plan.device)
            maps.append(
                _quantise(resize_maps(component_maps(parser, signed), side // 4, side // 4))
            )
    return Item(hr, lr, tuple(maps))


def _mask_maps(photo: Photo, side: int) -> Tensor:
    """Heatmaps (1, 3, side, side) from a photo's own mask, pooled like the parser's."""
    labels = torch.from_numpy(load_labels(photo, 4 * MAP_PX))
    maps = torch.stack(
        [torch.isin(labels, torch.tensor(c, dtype=torch.uint8)).float() for c in COMPONENTS]
    )
    return resize_maps(gaussian_pool(F.avg_pool2d(maps[None], 4)), side, side)


def _quantise(maps: Tensor) -> NDArray[np.uint8]:
    """Heatmaps (1, 3, H, W) in [0, 1] to (3, H, W) uint8 in 0..255."""
    return (maps[0] * 255).round().byte().cpu().numpy()


def _augment(picture: NDArray[np.uint8], turn: int) -> NDArray[np.uint8]:
    """Apply one of the paper's six: none, rotation by 90, 180, 270, vertical, horizontal flip."""
    if turn < 4:
        return np.rot90(picture, turn)
    return picture[::-1] if turn == 4 else picture[:, ::-1]
