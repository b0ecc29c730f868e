"""Output and truth in; distances of what networks see in them out: one a picture, or one a set.

Lower is better. The backbones of LPIPS and of FID are never downloaded here: they are used where
their weights lie in torch's cache. Beside them the same two measures on our own component network
(*parser distance*, *parser Frechet distance*) are always there. They are no LPIPS: that network
knows faces only, and weights trained with a loss on its features are favoured by them.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cagface_core import checkpoint
from cagface_core.attention import to_signed
from cagface_core.bisenet import BiSeNet
from cagface_core.errors import WeightsError
from cagface_core.evaluate.metrics import centre
from cagface_core.types import Image

_LPIPS_FILE = "alexnet-owt-7be5be79.pth"
_FID_FILE = "weights-inception-2015-12-05-6726825d.pth"


@dataclass(frozen=True, slots=True)
class Seen:
    """What the component network sees in a picture.

    ``layers`` are the unit-normalised maps (1, C, h, w) of its spatial path and its context path;
    ``pooled`` is the average (1, C) of the context path's features at 1/16.
    """

    layers: tuple[Tensor, ...]
    pooled: Tensor


class ParserFeatures:
    """The component network as the eye: features of pictures, and the distance of two of them."""

    def __init__(self, weights: Path, device: torch.device) -> None:
        """Load the network; ``WeightsError`` where it does not fit, or is not a BiSeNet of ours."""
        network, _ = checkpoint.load_parser(weights)
        if not isinstance(network, BiSeNet):
            raise WeightsError(
                f"{weights} is not of our layout; give a .safetensors file of kind 'parser'"
            )
        self._network = network.to(device)
        self._device = device

    @torch.inference_mode()
    def see(self, picture: Image) -> Seen:
        """Compute the features of (H, W, 3) uint8 RGB: of its centre, where it is large."""
        x = to_signed([centre(picture)], self._device)
        context = self._network.context_path
        layers = [*_steps(self._network.spatial_path, x)]
        layers += _steps((context.stem, *context.stages), x)[1:]
        return Seen(
            tuple(F.normalize(layer, dim=1) for layer in layers), layers[-2].mean(dim=(2, 3)).cpu()
        )


def parser_distance(a: Seen, b: Seen) -> float:
    """LPIPS-like: squared distance of unit-normalised features, 0 for equal pictures, at most 4.

    Summed over channels, averaged over positions, then over the layers with equal weights.
    """
    distances = [((x - y) ** 2).sum(dim=1).mean() for x, y in zip(a.layers, b.layers, strict=True)]
    return float(torch.stack(distances).mean())


class Frechet:
    """Frechet distance (torchmetrics) of two sets of vectors, seen one by one."""

    def __init__(self, size: int) -> None:
        """Expect vectors of ``size`` numbers."""
        from torchmetrics.image.fid import FrechetInceptionDistance  # only the extra brings it

        self._metric = FrechetInceptionDistance(feature=_AsTheyAre(size))
        self._metric.set_dtype(torch.float64)

    def add(self, vectors: Tensor, *, real: bool) -> None:
        """Add (N, size) vectors of the truth, or of outputs."""
        self._metric.update(vectors.double(), real=real)

    def compute(self) -> float:
        """Compute the distance; at least two vectors on either side."""
        return float(self._metric.compute())


def open_lpips(device: torch.device) -> Callable[[Image, Image], float] | str:
    """LPIPS (AlexNet, torchmetrics) where torchvision and its weights are, else why not."""
    if reason := _missing("LPIPS", "torchvision", _LPIPS_FILE):
        return reason
    from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity

    try:
        metric = LearnedPerceptualImagePatchSimilarity("alex").to(device)
    except (ImportError, RuntimeError) as error:  # a torchvision made for another torch
        return f"LPIPS is left out: torchvision cannot be loaded ({str(error).splitlines()[0]})"

    @torch.inference_mode()
    def measure(a: Image, b: Image) -> float:
        return float(metric(*(to_signed([centre(p)], device).clamp(-1, 1) for p in (a, b))))

    return measure


def open_inception(device: torch.device) -> Callable[[Image], Tensor] | str:
    """FID's Inception, (H, W, 3) uint8 to (1, 2048), where it and its weights are, else why not."""
    if reason := _missing("FID", "torch_fidelity", _FID_FILE):
        return reason
    from torchmetrics.image import fid

    module: Any = fid  # its network is of a type that only torch_fidelity knows
    path = str(_cache() / _FID_FILE)
    network: Any = module.NoTrainInceptionV3("inception-v3-compat", ["2048"], path).to(device)

    @torch.inference_mode()
    def features(picture: Image) -> Tensor:
        batch = torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None]
        return network(batch.to(device)).cpu()

    return features


class _AsTheyAre(nn.Identity):
    """Vectors that were computed before, under the interface of a feature extractor."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.num_features = size


def _steps(layers: Sequence[nn.Module] | nn.Sequential, x: Tensor) -> list[Tensor]:
    """Run the layers one after the other and keep what each gives."""
    found: list[Tensor] = []
    for layer in layers:
        x = layer(x)
        found.append(x)
    return found


def _cache() -> Path:
    return Path(torch.hub.get_dir()) / "checkpoints"


def _missing(metric: str, package: str, file: str) -> str:
    """Say in one line what a metric lacks; empty where all is there."""
    if importlib.util.find_spec(package) is None:
        return f"{metric} is left out: the package {package} is not installed"
    if not (_cache() / file).is_file():
        return f"{metric} is left out: its weights are not here, {_cache() / file}"
    return ""
