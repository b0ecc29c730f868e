"""A name in, one of the networks that the paper compares itself with out, fresh or retrained.

``cagface train peers`` retrains them on our data with our budget, loss and optimiser; none of
their authors' code or weights is used.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from cagface_core import checkpoint
from cagface_core.checkpoint import Checkpoint
from cagface_core.errors import ConfigError, WeightsError
from cagface_core.evaluate.peer_networks import (
    EDSR,
    FSRCNN,
    SRCNN,
    SRFBN,
    EnhanceNet,
    RRDBNet,
    SRResNet,
)


@dataclass(frozen=True, slots=True)
class Peer:
    """A network to compare with: how to build it, its paper, how ours differs from the paper's.

    ``sharpens`` names the peer that an adversarial one goes on from. The built module maps
    (N, 3, H, W) RGB in [-1, 1] to (N, 3, 4H, 4W), about [-1, 1], not clamped.
    """

    build: Callable[[], nn.Module]
    paper: str
    note: str
    sharpens: str | None = None


@dataclass(frozen=True, slots=True)
class PeerConfig:
    """What a peer's weights file says of its network: the name in :data:`PEERS`."""

    name: str


_SHARPENED = (
    "with our discriminator, and our component network's features in place of VGG's, as "
    "'cagface train detail' has them; without texture matching"
)

PEERS: dict[str, Peer] = {
    "srcnn": Peer(
        SRCNN,
        "Dong, Loy, He, Tang: Image Super-Resolution Using Deep Convolutional Networks, 2015",
        "9-5-5, the paper's best setting, on RGB instead of luminance",
    ),
    "fsrcnn": Peer(
        FSRCNN,
        "Dong, Loy, Tang: Accelerating the Super-Resolution Convolutional Neural Network, 2016",
        "FSRCNN(56, 12, 4), on RGB instead of luminance with bicubic chroma",
    ),
    "edsr-baseline": Peer(
        EDSR,
        "Lim et al.: Enhanced Deep Residual Networks for Single Image Super-Resolution, 2017",
        "the baseline (16 blocks, 64 features), trained straight at x4 instead of from x2",
    ),
    "srresnet": Peer(
        SRResNet,
        "Ledig et al.: Photo-Realistic Single Image Super-Resolution Using a GAN, 2017",
        "SRGAN's generator without the adversarial fine-tuning, which lowers PSNR",
    ),
    "rrdbnet-small": Peer(
        RRDBNet,
        "Wang et al.: ESRGAN: Enhanced Super-Resolution Generative Adversarial Networks, 2018",
        "ESRGAN's generator with 4 blocks, 32 features, growth 16 instead of 23, 64, 32; without "
        "the adversarial fine-tuning, which lowers PSNR",
    ),
    "enhancenet": Peer(
        EnhanceNet,
        "Sajjadi, Schölkopf, Hirsch: EnhanceNet, 2017",
        "the generator, trained as their ENet-E: pixel loss instead of textures",
    ),
    "srfbn-s": Peer(
        SRFBN,
        "Li et al.: Feedback Network for Image Super-Resolution, 2019",
        "the paper's small one: 4 iterations, 3 groups, 32 features",
    ),
    "srgan": Peer(
        SRResNet,
        "Ledig et al.: Photo-Realistic Single Image Super-Resolution Using a GAN, 2017",
        _SHARPENED,
        "srresnet",
    ),
    "esrgan-small": Peer(
        RRDBNet,
        "Wang et al.: ESRGAN: Enhanced Super-Resolution Generative Adversarial Networks, 2018",
        _SHARPENED,
        "rrdbnet-small",
    ),
    "enhancenet-pat": Peer(
        EnhanceNet, "Sajjadi, Schölkopf, Hirsch: EnhanceNet, 2017", _SHARPENED, "enhancenet"
    ),
}
"""The networks of the paper's comparison by the names that the commands take."""


def build_peer(name: str) -> nn.Module:
    """Build a peer, freshly initialised.

    Raises:
        ConfigError: there is no such peer.
    """
    if name not in PEERS:
        raise ConfigError(f"unknown peer {name!r}: expected one of {', '.join(PEERS)}")
    return PEERS[name].build()


def load_peer(path: Path) -> tuple[nn.Module, Checkpoint]:
    """Load a retrained peer in evaluation mode, and its facts; ``config["name"]`` is its name.

    Raises:
        WeightsError: the file is missing, damaged, or holds another kind of network.
    """
    found = checkpoint.load(path)
    if found.kind != "peer":
        raise WeightsError(f"{path} holds a {found.kind!r} network; expected a 'peer'")
    name = str(found.config.get("name"))
    if name not in PEERS:
        raise WeightsError(f"{path} holds an unknown peer {name!r}; known: {', '.join(PEERS)}")
    return checkpoint.fill(path, PEERS[name].build, found)
