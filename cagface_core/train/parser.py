"""Photos and their component masks in, BiSeNet weights out (section 3.1).

The network must see what it will see at run time, so every training face is moved, shrunk to a
random size down to 32 px, degraded like a webcam picture, and brought back to the parser's size.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from rich.progress import track
from torch import Tensor, nn

from cagface_core import checkpoint
from cagface_core.attention import to_signed
from cagface_core.bisenet import CLASSES, INPUT_PX, BiSeNet, BiSeNetConfig
from cagface_core.fold import place
from cagface_core.train.degrade import jpeg
from cagface_core.train.photos import IGNORE, Photo, load_labels, load_square, read_photos
from cagface_core.train.trainer import Run, train
from cagface_core.types import Image

log = logging.getLogger(__name__)

LABEL_PX = 64
"""Side of the label pictures the loss compares at."""

_CLASS_WEIGHTS = (0.5, 1.0, 0.7, 2.5, 3.0, 1.5, 2.0, 2.0)  # small parts are few pixels
_FACE_SIZES_PX = (32, 48, 64, 96, 128, 256)
_HAND_MADE_WEIGHT = 4.0  # 74 hand-made masks against 1,600 made by a teacher network


@dataclass(frozen=True, slots=True)
class ParserTraining:
    """What ``cagface train parser`` is asked for."""

    data: Path
    out: Path
    steps: int = 1500
    batch: int = 16
    learning_rate: float = 2e-3
    width: float = 1.0
    seed: int = 0
    check_every: int = 100
    device: str = "cpu"


def run(plan: ParserTraining) -> Path:
    """Train and write ``out/weights.safetensors``; interrupted, the same call goes on.

    Raises:
        InputError: the photo set is not there.
        ConfigError: ``out`` belongs to another run.
    """
    torch.manual_seed(plan.seed)
    config = BiSeNetConfig(width=plan.width)
    model = place(BiSeNet(config), plan.device)
    pool = _Pool(plan, read_photos(plan.data, "train"))
    validation = _Pool(plan, read_photos(plan.data, "val")[::4])
    weights = torch.tensor(_CLASS_WEIGHTS, device=plan.device)

    def loss_of(net: nn.Module, step: int) -> Tensor:
        pictures, labels = pool.batch(step)
        logits = net(pictures)
        logits = F.interpolate(
            logits, size=(LABEL_PX, LABEL_PX), mode="bilinear", align_corners=False
        )
        return F.cross_entropy(logits, labels, weights, ignore_index=IGNORE)

    final = train(
        model,
        Run(plan.out, plan.steps, plan.learning_rate, plan.check_every, plan.device),
        loss_of,
        lambda net: float(np.nanmean(validation.iou(net))),
        "mean_iou",
    )
    scores = dict(zip(CLASSES, validation.iou(final), strict=True))
    log.info("IoU %s", {k: round(v, 3) for k, v in scores.items()})
    path = plan.out / "weights.safetensors"
    facts = {
        "classes": CLASSES, "licence": "Apache-2.0", "steps": plan.steps, "batch": plan.batch,
        "seed": plan.seed, "validation_iou": {k: round(v, 4) for k, v in scores.items() if v == v},
    }  # fmt: skip
    checkpoint.save(path, "parser", config, final.state_dict(), facts)
    return path


class _Pool:
    """Photos at the parser's size and their labels, in memory."""

    def __init__(self, plan: ParserTraining, photos: list[Photo]) -> None:
        self.plan = plan
        photos = [p for p in photos if p.mask is not None]
        self.pictures = [load_square(p, INPUT_PX) for p in track(photos, "photos", transient=True)]
        self.labels = [load_labels(p, INPUT_PX) for p in photos]
        odds = np.array([_HAND_MADE_WEIGHT if p.mask_is_hand_made else 1.0 for p in photos])
        self.odds = odds / odds.sum()

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """Draw (N, 3, INPUT_PX, INPUT_PX) in [-1, 1] and labels (N, LABEL_PX, LABEL_PX)."""
        rng = np.random.default_rng([self.plan.seed, step])
        chosen = rng.choice(len(self.pictures), self.plan.batch, p=self.odds)
        pairs = [_vary(self.pictures[int(i)], self.labels[int(i)], rng) for i in chosen]
        labels = torch.from_numpy(np.stack([m for _, m in pairs])).to(self.plan.device)
        return to_signed([p for p, _ in pairs], self.plan.device), labels.long()

    @torch.no_grad()
    def iou(self, model: nn.Module) -> list[float]:
        """Intersection over union per class, faces varied by a fixed seed; NaN: no such pixel."""
        both, either = np.zeros(len(CLASSES)), np.zeros(len(CLASSES))
        for index, (picture, labels) in enumerate(zip(self.pictures, self.labels, strict=True)):
            picture, labels = _vary(picture, labels, np.random.default_rng([99, index]))
            logits = model(to_signed([picture], self.plan.device))
            logits = F.interpolate(logits, size=labels.shape, mode="bilinear")
            found = logits[0].argmax(0).cpu().numpy()
            valid = labels != IGNORE
            for k in range(len(CLASSES)):
                both[k] += np.sum((found == k) & (labels == k))
                either[k] += np.sum(((found == k) | (labels == k)) & valid)
            del valid
        return [float(b / e) if e else float("nan") for b, e in zip(both, either, strict=True)]


def _vary(
    picture: Image, labels: NDArray[np.uint8], rng: np.random.Generator
) -> tuple[Image, NDArray[np.uint8]]:
    """Move, shrink and degrade a face; its labels move along, at LABEL_PX."""
    scale, angle = rng.uniform(0.85, 1.45), rng.normal(0, 12)
    half = INPUT_PX / 2
    matrix = cv2.getRotationMatrix2D((half, half), float(angle), float(scale))
    matrix[:, 2] += rng.uniform(-0.1, 0.1, 2) * INPUT_PX
    if rng.random() < 0.5:
        picture, labels = picture[:, ::-1], labels[:, ::-1]
    size = (INPUT_PX, INPUT_PX)
    moved = cv2.warpAffine(np.ascontiguousarray(picture), matrix, size,
                           borderMode=cv2.BORDER_REPLICATE)  # fmt: skip
    marks = cv2.warpAffine(np.ascontiguousarray(labels), matrix, size, flags=cv2.INTER_NEAREST,
                           borderMode=cv2.BORDER_CONSTANT, borderValue=IGNORE)  # fmt: skip
    face_px = int(_FACE_SIZES_PX[rng.integers(len(_FACE_SIZES_PX))])
    if rng.random() < 0.5:
        moved = cv2.GaussianBlur(moved, (0, 0), float(rng.uniform(0.5, 1.2) * INPUT_PX / face_px))
    small = cv2.resize(moved, (face_px, face_px), interpolation=cv2.INTER_AREA)
    gain, offset = rng.uniform(0.6, 1.25), rng.uniform(-25, 25)
    tint = rng.uniform(0.9, 1.1, 3)
    noise = rng.standard_normal((face_px, face_px, 3)) * rng.uniform(0, 9)
    levels = np.asarray(small, np.float64) * (gain * tint) + offset + noise
    seen = np.clip(levels, 0, 255).astype(np.uint8)
    if rng.random() < 0.6:
        seen = jpeg(seen, int(rng.integers(30, 95)))
    back = cv2.resize(seen, size, interpolation=cv2.INTER_LINEAR)
    step = INPUT_PX // LABEL_PX
    return np.asarray(back, np.uint8), np.asarray(marks, np.uint8)[
        step // 2 :: step, step // 2 :: step
    ]
