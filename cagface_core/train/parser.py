"""Photos and their component masks in, BiSeNet weights out (section 3.1).

The network must see what it will see at run time, so every training face is moved, shrunk to a
random size down to 32 px, degraded like a webcam picture, and brought back to the parser's size.
"""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
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
from cagface_core.cores import usable_cores
from cagface_core.fold import place
from cagface_core.train.claim import claim
from cagface_core.train.degrade import jpeg
from cagface_core.train.photos import IGNORE, Photo, load_labels, load_square, read_photos
from cagface_core.train.trainer import Run, autocast, train
from cagface_core.types import Image

log = logging.getLogger(__name__)

LABEL_PX = INPUT_PX // 4
"""Side of the label pictures: that of the parser's logits."""

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
    check_every: int = 250
    device: str = "cpu"
    precision: str = "float32"


def run(plan: ParserTraining) -> Path:
    """Train and write ``out/weights.safetensors``; interrupted, the same call goes on.

    Raises:
        InputError: the photo set is not there.
        ConfigError: ``out`` belongs to another run.
    """
    claim(plan.out, "parser", plan)
    torch.manual_seed(plan.seed)
    config = BiSeNetConfig(width=plan.width)
    model = place(_WithAuxiliary(BiSeNet(config)), plan.device)
    pool = _Pool(plan, read_photos(plan.data, "train"))
    validation = _Pool(plan, read_photos(plan.data, "val")[::4])
    weights = torch.tensor(_CLASS_WEIGHTS, device=plan.device)

    def loss_of(net: nn.Module, step: int) -> Tensor:
        pictures, labels = pool.batch(step)
        with autocast(plan.device, plan.precision):
            outputs: tuple[Tensor, ...] = net(pictures)
        losses = [
            F.cross_entropy(logits.float(), labels, weights, ignore_index=IGNORE)
            for logits in outputs
        ]
        return torch.stack(losses).sum()

    final = train(
        model,
        Run(plan.out, plan.steps, plan.learning_rate, plan.check_every, plan.device),
        loss_of,
        lambda net: float(np.nanmean(validation.iou(_parser_of(net)))),
        "mean_iou",
    )
    parser = _parser_of(final)
    before, after = validation.calibrate(parser)
    log.info("validation cross-entropy %.4f, calibrated %.4f", before, after)
    scores = dict(zip(CLASSES, validation.iou(parser), strict=True))
    log.info("IoU %s", {k: round(v, 3) for k, v in scores.items()})
    path = plan.out / "weights.safetensors"
    facts = {
        "classes": CLASSES, "licence": "Apache-2.0", "steps": plan.steps, "batch": plan.batch,
        "seed": plan.seed, "validation_iou": {k: round(v, 4) for k, v in scores.items() if v == v},
    }  # fmt: skip
    checkpoint.save(path, "parser", config, parser.state_dict(), facts)
    return path


class _WithAuxiliary(nn.Module):
    """BiSeNet with the two auxiliary heads that its paper trains with, on 1/16 and 1/32."""

    def __init__(self, parser: BiSeNet) -> None:
        super().__init__()
        self.parser = parser
        channels = parser.merge16[0].out_channels
        assert isinstance(channels, int)
        self.heads = nn.ModuleList(nn.Conv2d(channels, parser.config.classes, 1) for _ in range(2))

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Map pictures to three (N, classes, LABEL_PX, LABEL_PX) logits, the parser's first."""
        fused, *context = self.parser.features(x)
        logits = [self.parser.head(fused)]
        for head, features in zip(self.heads, context, strict=True):
            size = (x.shape[-2] // 4, x.shape[-1] // 4)
            logits.append(F.interpolate(head(features), size=size, mode="bilinear"))
        return tuple(logits)


def _parser_of(model: nn.Module) -> BiSeNet:
    """The parser, without what only training needs."""
    assert isinstance(model, _WithAuxiliary)
    return model.parser


class _Pool:
    """Photos at the parser's size and their labels, in memory."""

    def __init__(self, plan: ParserTraining, photos: list[Photo]) -> None:
        self.plan = plan
        photos = [p for p in photos if p.mask is not None]
        self.pictures = [load_square(p, INPUT_PX) for p in track(photos, "photos", transient=True)]
        self.labels = [load_labels(p, INPUT_PX) for p in photos]
        odds = np.array([_HAND_MADE_WEIGHT if p.mask_is_hand_made else 1.0 for p in photos])
        self.odds = odds / odds.sum()
        self.workers = ThreadPoolExecutor(usable_cores())  # OpenCV works outside Python's lock

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """Draw (N, 3, INPUT_PX, INPUT_PX) in [-1, 1] and labels (N, LABEL_PX, LABEL_PX)."""
        rng = np.random.default_rng([self.plan.seed, step])
        chosen = rng.choice(len(self.pictures), self.plan.batch, p=self.odds)
        pairs = list(self.workers.map(self._varied, chosen, rng.spawn(len(chosen))))
        labels = torch.from_numpy(np.stack([m for _, m in pairs])).to(self.plan.device)
        return to_signed([p for p, _ in pairs], self.plan.device), labels.long()

    def _varied(self, index: int, rng: np.random.Generator) -> tuple[Image, NDArray[np.uint8]]:
        """Vary one face and its labels."""
        return _vary(self.pictures[index], self.labels[index], rng)

    @torch.no_grad()
    def iou(self, model: nn.Module) -> list[float]:
        """Intersection over union per class, faces varied by a fixed seed; NaN: no such pixel."""
        both, either = np.zeros(len(CLASSES)), np.zeros(len(CLASSES))
        for index, (picture, labels) in enumerate(zip(self.pictures, self.labels, strict=True)):
            picture, labels = _vary(picture, labels, np.random.default_rng([99, index]))
            logits = model(to_signed([picture], self.plan.device))
            found = logits[0].argmax(0).cpu().numpy()
            valid = labels != IGNORE
            for k in range(len(CLASSES)):
                both[k] += np.sum((found == k) & (labels == k))
                either[k] += np.sum(((found == k) | (labels == k)) & valid)
        return [float(b / e) if e else float("nan") for b, e in zip(both, either, strict=True)]

    @torch.no_grad()
    def calibrate(self, model: BiSeNet) -> tuple[float, float]:
        """Make the probabilities mean what they say, by the head's weights alone.

        The class weights of the loss made small parts look as many times more likely: their
        logarithms come off the biases. Then one temperature, the best of a fixed row, divides
        the logits (Guo et al. 2017). Both are linear, so the running parser does not change.

        Returns:
            Cross-entropy per pixel of these photos before and after.
        """
        head = model.head[1]
        assert isinstance(head, nn.Conv2d)
        assert head.bias is not None
        rows: list[tuple[Tensor, Tensor]] = []
        for index, (picture, labels) in enumerate(zip(self.pictures, self.labels, strict=True)):
            picture, labels = _vary(picture, labels, np.random.default_rng([98, index]))
            logits = model(to_signed([picture], self.plan.device))[0].flatten(1).T.cpu()
            rows.append((logits, torch.from_numpy(labels).flatten().long()))
        logits, labels = torch.cat([r[0] for r in rows]), torch.cat([r[1] for r in rows])
        prior = torch.tensor(_CLASS_WEIGHTS).log()

        def loss_at(shift: Tensor, temperature: float) -> float:
            calibrated = (logits - shift) / temperature
            return float(F.cross_entropy(calibrated, labels, ignore_index=IGNORE))

        temperature = min(np.geomspace(0.5, 3, 37), key=lambda t: loss_at(prior, float(t)))
        head.bias -= prior.repeat_interleave(4).to(head.bias.device)
        for parameter in (head.weight, head.bias):
            parameter /= float(temperature)
        return loss_at(torch.zeros(len(CLASSES)), 1), loss_at(prior, float(temperature))


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
    seen = shrink_like_a_webcam(np.asarray(moved, np.uint8), face_px, rng)
    back = cv2.resize(seen, size, interpolation=cv2.INTER_LINEAR)
    step = INPUT_PX // LABEL_PX
    return np.asarray(back, np.uint8), np.asarray(marks, np.uint8)[
        step // 2 :: step, step // 2 :: step
    ]


def shrink_like_a_webcam(picture: Image, face_px: int, rng: np.random.Generator) -> Image:
    """Bring a square picture to ``face_px``, blurred, tinted, noisy and as JPEG, by chance.

    Args:
        picture: (S, S, 3) uint8 RGB.
        face_px: side of the result.
        rng: the only source of chance.

    Returns:
        (face_px, face_px, 3) uint8 RGB.
    """
    if rng.random() < 0.5:
        sigma = rng.uniform(0.5, 1.2) * picture.shape[0] / face_px
        picture = np.asarray(cv2.GaussianBlur(picture, (0, 0), float(sigma)), np.uint8)
    small = cv2.resize(picture, (face_px, face_px), interpolation=cv2.INTER_AREA)
    gain, offset = rng.uniform(0.4, 1.25), rng.uniform(-25, 25)
    tint = rng.uniform(0.9, 1.1, 3)
    noise = rng.standard_normal((face_px, face_px, 3)) * rng.uniform(0, 9)
    levels = np.asarray(small, np.float64) * (gain * tint) + offset + noise
    seen = np.clip(levels, 0, 255).astype(np.uint8)
    return jpeg(seen, int(rng.integers(20, 95))) if rng.random() < 0.6 else seen
