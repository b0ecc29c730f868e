"""CAGFace, the two-stage 4x super-resolution network: a six-channel block in, 2x and 4x RGB out.

Kalarot, Li, Porikli: *Component Attention Guided Face Super-Resolution Network*, section 3 and
Table 1, layer by layer. Two of the table's printed totals contradict its own rows; see
:func:`stage_parameters`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CONTEXT_PX = 2
"""Low-resolution pixels of context each linear chain (stem 2, both upsamplers) reads per side."""


TAPS = (0.15, 1.0, -0.15)
"""What the first of two pixels is made of: its left neighbour, its source, its right neighbour.

The second takes them mirrored. Once a stage, they enlarge photos of faces 4x by 0.2 dB better than
torch's bicubic and 0.4 dB better than Pillow's; 0.15 was the best of its kind on training photos.
"""

ATTENTION = ("none", "paper", "maps", "twice", "gate")
"""How component attention enters the network.

``paper``: luminance times each heatmap, three more channels for stem 1 (sections 3.1 and 3.2).
``none``: RGB alone. The others give the heatmaps themselves, which also tell the components
apart where the picture is dark: ``maps`` to stem 1, ``twice`` to stem 2 as well, and ``gate``
to stem 1 and to a 1x1 convolution a stage whose output scales the stem's features.
"""


@dataclass(frozen=True, slots=True)
class CAGFaceConfig:
    """Size of the network: ``features`` (F) channels and ``units`` (L) residual units a stage.

    ``attention`` is one of :data:`ATTENTION`.
    """

    features: int = 256
    units: int = 16
    attention: str = "paper"

    def __post_init__(self) -> None:
        """Refuse sizes that no network can have, with ``ValueError``."""
        if self.features < 12 or self.units < 1 or self.attention not in ATTENTION:
            raise ValueError(
                f"need features >= 12, units >= 1, attention in {ATTENTION}; got {self}"
            )  # 12: stem 2 must be able to carry the twelve channels of sr2

    @property
    def in_channels(self) -> int:
        """Channels of the block: RGB, and three of attention."""
        return 3 if self.attention == "none" else 6


class ResidualUnit(nn.Module):
    """Convolution, ReLU, convolution, and the skip around them (section 3.3)."""

    def __init__(self, features: int) -> None:
        """Make a unit of ``features`` channels."""
        super().__init__()
        self.conv1 = nn.Conv2d(features, features, 3, padding=1)
        self.conv2 = nn.Conv2d(features, features, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, F, H, W) to the same shape."""
        return x + self.conv2(F.relu(self.conv1(x)))


class Backbone(nn.Module):
    """L residual units, the tail convolution, and the long skip from input to output."""

    def __init__(self, features: int, units: int) -> None:
        """Make ``units`` residual units of ``features`` channels and the tail."""
        super().__init__()
        self.units = nn.Sequential(*(ResidualUnit(features) for _ in range(units)))
        self.tail = nn.Conv2d(features, features, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, F, H, W) to the same shape."""
        return x + self.tail(self.units(x))


class LinearChain(nn.Sequential):
    """3x3 convolutions and pixel shuffles with no activation between: one linear map.

    Its input is padded once (replicate, 2 px) and its convolutions are 'valid', so that
    :mod:`cagface_core.fold` can collapse it exactly into one 5x5 convolution, borders included.
    """

    @property
    def scale(self) -> int:
        """How many output pixels one input pixel becomes, per side."""
        scale = 1
        for module in self:
            if isinstance(module, nn.PixelShuffle):
                scale *= module.upscale_factor
        return scale

    def forward(self, input: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C', scale*H, scale*W)."""
        height, width = input.shape[-2] * self.scale, input.shape[-1] * self.scale
        x = pad_context(input)
        for module in self:
            x = module(x)
        top, left = (x.shape[-2] - height) // 2, (x.shape[-1] - width) // 2
        return x[..., top : top + height, left : left + width]


def pad_context(x: Tensor, pixels: int = CONTEXT_PX) -> Tensor:
    """Pad (N, C, H, W) with the replicated pixels a side that a linear chain reads."""
    if x.is_cuda and not torch.is_grad_enabled():
        return pad_channels_last(x, pixels)
    return F.pad(x, (pixels, pixels, pixels, pixels), mode="replicate")


def pad_channels_last(x: Tensor, pixels: int) -> Tensor:
    """Pad as :func:`pad_context` does, by one look-up; without gradients.

    On a GPU torch's own padding brings channels to the front first, and the convolution behind it
    brings them back: two passes over memory more.
    """
    rows, columns = (_repeated(length, pixels, x.device) for length in x.shape[-2:])
    return x.permute(0, 2, 3, 1)[:, rows[:, None], columns].permute(0, 3, 1, 2)


@cache
def _repeated(length: int, pixels: int, device: torch.device) -> Tensor:
    """Which pixel each of a padded row shows; kept for good, as a CUDA graph may read it."""
    return torch.arange(-pixels, length + pixels).clamp(0, length - 1).to(device)


def make_gates(config: CAGFaceConfig) -> tuple[nn.Conv2d | None, nn.Conv2d | None]:
    """Make the two gates of attention ``gate``, which start as identity; None for the others."""
    if config.attention != "gate":
        return None, None
    gates = nn.Conv2d(3, config.features, 1), nn.Conv2d(3, config.features, 1)
    for gate in gates:
        for parameter in gate.parameters():
            nn.init.zeros_(parameter)
    return gates


def gated(gate: nn.Module | None, features: Tensor, block: Tensor) -> Tensor:
    """Scale (N, F, H, W) features by what the gate makes of the block's maps."""
    return features if gate is None else features * (1 + gate(block[:, 3:]))


def stem2_channels(config: CAGFaceConfig) -> int:
    """Count the channels stem 2 reads: ``sr2``'s twelve, and the maps again for ``twice``."""
    return 15 if config.attention == "twice" else 12


def stem2_input(config: CAGFaceConfig, sr2_channels: Tensor, block: Tensor) -> Tensor:
    """Make stem 2's input (N, 12 or 15, H, W) of ``sr2`` after space-to-depth and the block."""
    if config.attention != "twice":
        return sr2_channels
    return torch.cat([sr2_channels, block[:, 3:]], dim=1)


class CAGFace(nn.Module):
    """The whole network as trained (unfolded); run it through :func:`cagface_core.fold.fold`."""

    def __init__(self, config: CAGFaceConfig) -> None:
        """Build the layers of Table 1 and initialise them as linear interpolation."""
        super().__init__()
        self.config = config
        f, n = config.features, config.units
        self.gate1, self.gate2 = make_gates(config)
        self.stem1 = nn.Conv2d(config.in_channels, f, 3, padding=1)
        self.backbone1 = Backbone(f, n)
        self.upsampler1 = LinearChain(
            nn.Conv2d(f, 4 * f, 3),
            nn.PixelShuffle(2),
            nn.Conv2d(f, 3, 3),
        )
        self.stem2 = LinearChain(nn.Conv2d(stem2_channels(config), f, 3), nn.Conv2d(f, f, 3))
        self.backbone2 = Backbone(f, n)
        self.upsampler2 = LinearChain(
            nn.Conv2d(2 * f, 8 * f, 3),
            nn.PixelShuffle(2),
            nn.Conv2d(2 * f, 8 * f, 3),
            nn.PixelShuffle(2),
            nn.Conv2d(2 * f, 3, 3),
            nn.Conv2d(3, 3, 3),
        )
        self._initialise()

    def forward(self, block: Tensor) -> tuple[Tensor, Tensor]:
        """Super-resolve a block.

        Args:
            block: (N, config.in_channels, H, W) float in [-1, 1]; see
                :func:`cagface_core.attention.make_block`.

        Returns:
            ``sr2`` (N, 3, 2H, 2W) and ``sr4`` (N, 3, 4H, 4W), RGB, about [-1, 1], not clamped.
        """
        features1, sr2 = self.stage1(block)
        features2 = self.stem2(stem2_input(self.config, F.pixel_unshuffle(sr2, 2), block))
        features2 = self.backbone2(gated(self.gate2, features2, block))
        sr4 = self.upsampler2(torch.cat([features2, features1], dim=1))
        return sr2, sr4

    def stage1(self, block: Tensor) -> tuple[Tensor, Tensor]:
        """Run the first stage alone: stem 1's features (N, F, H, W), and ``sr2``."""
        features1 = gated(self.gate1, self.stem1(block), block)
        return features1, self.upsampler1(self.backbone1(features1))

    def initialise_stage2(self) -> None:
        """Start stage 2's backbone from stage 1's, as the paper trains it (end of section 3)."""
        self.backbone2.load_state_dict(self.backbone1.state_dict())

    @torch.no_grad()
    def _initialise(self) -> None:
        """Make the fresh network an interpolation, by :data:`TAPS` once a stage.

        The paper leaves initialisation open. The three colours travel as delta kernels through
        the long skips, and every learned branch starts small beside them, so training begins
        at a picture better than bicubic instead of noise and spends its steps on detail.
        """
        for backbone in (self.backbone1, self.backbone2):
            for module in backbone.modules():
                if isinstance(module, ResidualUnit):
                    module.conv2.weight.mul_(0.1)
                    nn.init.zeros_(module.conv2.bias)  # pyright: ignore[reportArgumentType]
            backbone.tail.weight.zero_()
            nn.init.zeros_(backbone.tail.bias)  # pyright: ignore[reportArgumentType]
        rgb = range(3)
        _carry(self.stem1, {c: c for c in rgb})
        _interpolate(self.upsampler1[0])
        _carry(self.upsampler1[2], {c: c for c in rgb})
        _carry(self.stem2[0], {c: c for c in range(12)})
        _carry(self.stem2[1], {c: c for c in range(12)})
        _carry(self.upsampler2[0], {4 * c + k: 4 * c + k for c in rgb for k in range(4)})
        _interpolate(self.upsampler2[2])
        _carry(self.upsampler2[4], {c: c for c in rgb})
        _carry(self.upsampler2[5], {c: c for c in rgb})


def _carry(conv: nn.Module, routes: dict[int, int]) -> None:
    """Make output channel ``k`` of a 3x3 ``conv`` a copy of input channel ``routes[k]``."""
    assert isinstance(conv, nn.Conv2d)
    assert conv.bias is not None
    for out_channel, in_channel in routes.items():
        conv.weight[out_channel] = 0
        conv.weight[out_channel, in_channel, 1, 1] = 1
        conv.bias[out_channel] = 0


def _interpolate(conv: nn.Module) -> None:
    """Make a pixel shuffle by 2 after a 3x3 ``conv`` enlarge its first three channels."""
    _carry(conv, {4 * c + k: c for c in range(3) for k in range(4)})
    assert isinstance(conv, nn.Conv2d)
    taps = torch.tensor(TAPS)
    for k in range(4):
        down, across = (taps.flip(0) if odd else taps for odd in divmod(k, 2))
        for c in range(3):
            conv.weight[4 * c + k, c] = torch.outer(down, across)


def stage_parameters(model: CAGFace) -> tuple[int, int]:
    """Count the trainable parameters of stage 1 and stage 2.

    At F=256, L=16 these are 21,853,955 and 38,982,999. The paper's stage-1 total, 21,881,859,
    also counts stem 2a (27,904); its stage-2 total, 38,952,791, leaves stem 2a out and carries a
    slip of 2,304 in stem 2b (587,520 printed for 3*3*256*256 = 589,824).
    """
    stage1 = (model.stem1, model.backbone1, model.upsampler1)
    stage2 = (model.stem2, model.backbone2, model.upsampler2)

    def count(modules: tuple[nn.Module, ...]) -> int:
        return sum(p.numel() for m in modules for p in m.parameters())

    return count(stage1), count(stage2)
