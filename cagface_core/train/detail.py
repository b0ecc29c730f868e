"""Webcam weights and photos in, detail weights out: sharper, by a discriminator and features.

What a mean error cannot ask for, skin and hair that look real, three losses share: the Huber loss
of the other trainings, the distance of what our own component network sees (no backbone is
downloaded), and a discriminator that is shown the input beside the face, so that texture which
does not belong to this input counts against it. All three look at the face as it will be shown,
after :func:`cagface_core.consistency.hold` has held it to its input.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from cagface_core import checkpoint
from cagface_core.attention import resize_maps
from cagface_core.bisenet import BiSeNet
from cagface_core.cagface import CAGFace
from cagface_core.checkpoint import Checkpoint
from cagface_core.consistency import SIGMA_PX, hold, resize
from cagface_core.errors import ConfigError
from cagface_core.evaluate.perceptual import ParserFeatures, parser_distance
from cagface_core.fold import FoldedCAGFace, fold, place
from cagface_core.train.claim import claim
from cagface_core.train.photos import read_photos
from cagface_core.train.plan import SRTraining
from cagface_core.train.pool import Batch, Pool
from cagface_core.train.sr import halve, outputs_of, to_image
from cagface_core.train.trainer import Run, autocast, train

log = logging.getLogger(__name__)

SHARES = 0.5, 0.5
"""The usual shares of the feature loss's gradient and of the discriminator's."""

_RAMP = 0.1  # of the steps, over which the discriminator's word comes to count: it must learn first


@dataclass(frozen=True, slots=True)
class DetailTraining:
    """What ``cagface train detail`` is asked for.

    ``init`` are webcam weights; ``parser`` the component network, for attention and features.
    ``feature_share`` and ``adversarial_share`` are how strong the gradients of those two losses
    are at each picture, against the Huber loss's, which needs no tuning to a network's size or
    progress. ``parts_weight`` is how many times eyes, brows, nose, mouth and ears count. The rest
    is as in :class:`cagface_core.train.plan.SRTraining`.
    """

    data: Path
    out: Path
    init: Path
    parser: Path = checkpoint.WEIGHTS_DIR / "parser.safetensors"
    steps: int = 2000
    batch: int = 16
    patch_px: int = 32
    learning_rate: float = 2e-4
    feature_share: float = SHARES[0]
    adversarial_share: float = SHARES[1]
    parts_weight: float = 2.0
    seed: int = 0
    check_every: int = 250
    device: str = "cpu"
    variants: int = 4
    precision: str = "float32"
    prepared: Path | None = None


def run(plan: DetailTraining) -> Path:
    """Train; interrupted, the same call goes on.

    Writes ``out/weights.safetensors``, float32, to train on from, and ``out/folded.safetensors``,
    in half precision and folded, to ship.

    Raises:
        ConfigError: an unknown precision, ``init`` holds no webcam weights, or ``out`` belongs to
            another run. WeightsError: ``init`` or ``parser`` cannot be read.
        InputError: the photo set is not there.
    """
    _, found = load_init(plan)  # refuse a wrong plan before the photos are read
    claim(plan.out, "detail", plan)
    shared = pool_plan(plan, found)
    pool = Pool(shared, read_photos(plan.data, "train"))
    validation = Pool(shared, read_photos(plan.data, "val")[::4], sides=(256,), variants=1)
    return run_on(plan, pool, validation)


def run_on(plan: DetailTraining, pool: Pool, validation: Pool) -> Path:
    """Do what :func:`run` does, on pools that may serve several trainings."""
    torch.manual_seed(plan.seed)
    model, found = load_init(plan)
    features = Features(plan.parser, plan.device)
    eye = ParserFeatures(plan.parser, torch.device(plan.device))
    adversary = Adversary(plan.device, plan.learning_rate, plan.precision)
    final = train(
        place(model, plan.device),
        Run(plan.out, plan.steps, plan.learning_rate, plan.check_every, plan.device),
        lambda m, step: loss_of(plan, m, pool.batch(step), adversary, features, step),
        lambda m: closeness(m, validation, eye),
        "minus_parser_distance",
        adversary,
    )
    assert isinstance(final, CAGFace | FoldedCAGFace)
    facts = {
        "protocol": "webcam", "objective": "detail", "licence": "Apache-2.0", "scale": 4,
        "steps": plan.steps, "batch": plan.batch, "patch_px": plan.patch_px, "seed": plan.seed,
        "feature_share": plan.feature_share, "adversarial_share": plan.adversarial_share,
        "parts_weight": plan.parts_weight, "attention": checkpoint.load(plan.parser).sha256,
        "photos": len(pool.photos), "init": found.sha256,
    }  # fmt: skip
    path = plan.out / "weights.safetensors"
    kind = "sr" if isinstance(final, CAGFace) else "sr-folded"
    checkpoint.save(path, kind, final.config, final.state_dict(), facts)
    checkpoint.save_folded(plan.out / "folded.safetensors", final, facts)
    return path


def load_init(plan: DetailTraining) -> tuple[CAGFace | FoldedCAGFace, Checkpoint]:
    """Load the weights to start from, and check the plan.

    Raises:
        ConfigError: they are no webcam weights, or the precision is unknown.
        WeightsError: they cannot be read.
    """
    autocast(plan.device, plan.precision)
    model, found = checkpoint.load_sr(plan.init)
    if found.facts.get("protocol") != "webcam":
        raise ConfigError(
            f"{plan.init} was trained for {found.facts.get('protocol')!r}; "
            "detail starts from webcam weights: give --init nano-webcam.safetensors, for example"
        )
    return model.train(), found


def pool_plan(plan: DetailTraining, init: Checkpoint) -> SRTraining:
    """Say what the pool must prepare: degraded input, and attention as ``init`` takes it."""
    return SRTraining(
        plan.data, plan.out, protocol="webcam", parser=plan.parser, batch=plan.batch,
        patch_px=plan.patch_px, seed=plan.seed, device=plan.device, variants=plan.variants,
        attention=init.config["attention"], prepared=plan.prepared,
    )  # fmt: skip


class Discriminator(nn.Sequential):
    """Face and input in, one verdict per 32 x 32 region or so out; spectrally normalised."""

    def __init__(self) -> None:
        """Make three stride-2 convolutions and two more."""

        def conv(inputs: int, outputs: int, kernel: int, stride: int) -> nn.Module:
            return spectral_norm(nn.Conv2d(inputs, outputs, kernel, stride, padding=1))

        super().__init__(
            conv(6, 48, 4, 2), nn.LeakyReLU(0.2),
            conv(48, 96, 4, 2), nn.LeakyReLU(0.2),
            conv(96, 128, 4, 2), nn.LeakyReLU(0.2),
            conv(128, 128, 3, 1), nn.LeakyReLU(0.2),
            conv(128, 1, 3, 1),
        )  # fmt: skip


class Adversary:
    """The discriminator and its optimiser: learns beside the network, saved with it."""

    def __init__(self, device: str, learning_rate: float, precision: str) -> None:
        """Start it fresh."""
        self._network = place(Discriminator(), device)
        self._optimiser = torch.optim.Adam(
            self._network.parameters(), lr=learning_rate, betas=(0.9, 0.99)
        )
        self._autocast = lambda: autocast(device, precision)

    def verdict(self, face: Tensor, plain: Tensor) -> Tensor:
        """Judge (N, 3, 4H, 4W) faces beside their inputs' plain upscales; higher is more real."""
        with self._autocast():
            return self._network(torch.cat([face, plain], dim=1)).float()

    def learn(self, truth: Tensor, face: Tensor, plain: Tensor) -> None:
        """Take one step on the hinge loss."""
        real, made = self.verdict(truth, plain), self.verdict(face, plain)
        loss = F.relu(1 - real).mean() + F.relu(1 + made).mean()
        self._optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self._optimiser.step()

    def state_dict(self) -> dict[str, Any]:
        """Everything that goes on from here."""
        return {
            "network": self._network.state_dict(), "optimiser": self._optimiser.state_dict(),
        }  # fmt: skip

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a :meth:`state_dict`."""
        self._network.load_state_dict(state["network"])
        self._optimiser.load_state_dict(state["optimiser"])


class Features:
    """What the component network's two paths compute of a picture, as a distance."""

    def __init__(self, parser: Path, device: str) -> None:
        """Load it, frozen. ``ConfigError`` where it is not a BiSeNet of ours."""
        network, _ = checkpoint.load_parser(parser)
        if not isinstance(network, BiSeNet):
            raise ConfigError(f"{parser} is no component network of 'cagface train parser'")
        self._network = place(network, device).requires_grad_(False)

    def distance(self, a: Tensor, b: Tensor) -> Tensor:
        """Compare (N, 3, H, W) pictures: mean absolute difference against ``b``'s own strength."""
        distances = [
            (x.float() - y.float()).abs().mean() / y.float().abs().mean()
            for x, y in zip(self._layers(a), self._layers(b), strict=True)
        ]
        return torch.stack(distances).mean()

    def _layers(self, x: Tensor) -> list[Tensor]:
        spatial, context = self._network.spatial_path, self._network.context_path
        found: list[Tensor] = []
        for path in (spatial, (context.stem, *context.stages)):
            y = x
            for layer in path:
                y = layer(y)
                found.append(y)
        return found


def loss_of(
    plan: DetailTraining, model: nn.Module, batch: Batch, adversary: Adversary,
    features: Features, step: int,
) -> Tensor:  # fmt: skip
    """Compute a loss whose value is the Huber loss and whose gradient is that of all the losses.

    The discriminator takes its own step on the way.
    """
    block, hr, maps = batch
    lr = block[:, :3]
    with autocast(plan.device, plan.precision):
        sr2, sr4 = (output.float() for output in outputs_of(model, block))
    plain = resize(lr, *hr.shape[-2:])
    shown = plain + hold(sr4, lr, SIGMA_PX["webcam"])
    parts = resize_maps(maps, *hr.shape[-2:])[:, 2:]
    weight = 1 + (plan.parts_weight - 1) * parts
    shares = plan.feature_share, plan.adversarial_share * ramp(step, plan.steps)
    critics = adversary, features, autocast(plan.device, plan.precision)
    return pulled(shown, hr, plain, shares, critics, weight) + F.huber_loss(sr2, halve(hr))


def ramp(step: int, steps: int) -> float:
    """How much of its share the discriminator has at a step, 0 to 1."""
    return min(1.0, step / max(1, _RAMP * steps))


def pulled(
    shown: Tensor, hr: Tensor, plain: Tensor, shares: tuple[float, float],
    critics: tuple[Adversary, Features, torch.autocast], weight: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """Compute the Huber loss of faces, with the gradient of features and discriminator besides.

    Args:
        shown: (N, 3, 4H, 4W) faces as they will be shown.
        hr: the truth.
        plain: the inputs' plain upscales.
        shares: how strong the gradients of features and discriminator are against Huber's.
        critics: the discriminator, which takes its own step; the features, and at what precision
            they compute.
        weight: (N, 1, 4H, 4W), how much each pixel counts; None: all the same.
    """
    adversary, features, precision = critics
    face = shown.detach().requires_grad_()
    pixel = F.huber_loss(face, hr)
    with precision:
        feature = features.distance(face, hr)
    adversarial = -adversary.verdict(face, plain).mean()
    losses = ((1.0, pixel), (shares[0], feature), (shares[1], adversarial))
    gradients = [(share, torch.autograd.grad(loss, face)[0]) for share, loss in losses]
    adversary.learn(hr, face.detach(), plain)
    strength = _norm(gradients[0][1])
    wanted = torch.stack([share * g * strength / (_norm(g) + 1e-12) for share, g in gradients]).sum(
        dim=0
    )
    if weight is not None:
        wanted = wanted * weight / weight.mean()
    pull = (shown * wanted).sum()
    return pixel.detach() + (pull - pull.detach())


@torch.no_grad()
def closeness(model: nn.Module, pool: Pool, eye: ParserFeatures) -> float:
    """Minus the mean LPIPS-like distance to the truth, of faces as they are shown.

    A network other than CAGFace is taken to map the input to the 4x picture, and shown as it is.
    """
    network = model
    if isinstance(model, CAGFace | FoldedCAGFace):
        network = place(fold(model), pool.plan.device)
    distances: list[float] = []
    for index in range(len(pool.photos)):
        example = pool.example(index)
        if isinstance(network, FoldedCAGFace):
            residual = hold(network(example.block), example.lr, SIGMA_PX["webcam"])
            shown = resize(example.lr, *residual.shape[-2:]) + residual
        else:
            shown = network(example.lr)
        distances.append(parser_distance(eye.see(to_image(shown)), eye.see(example.hr)))
    return -float(np.mean(distances))


def _norm(gradient: Tensor) -> Tensor:
    """Length of each picture's gradient, (N, 1, 1, 1)."""
    return gradient.square().sum(dim=(1, 2, 3), keepdim=True).sqrt()
