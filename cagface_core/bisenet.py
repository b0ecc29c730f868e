"""The component network, BiSeNet: a face picture in, class logits at a quarter of its size out.

Yu et al.: *BiSeNet: Bilateral Segmentation Network for Real-time Semantic Segmentation* (ECCV
2018), with its Xception39 context path; the CAGFace paper's component network (section 3.1).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

INPUT_PX = 256
"""Side of the square picture the parser reads: crops of every size are resized to it."""

CLASSES = ("background", "hair", "skin", "brows", "eyes", "nose", "mouth", "ears")
"""What the shipped parser tells apart, in the order of its logits."""

COMPONENTS = ((1,), (2,), (3, 4, 5, 6, 7))
"""The classes of the three components hair, skin, parts (eyes, brows, nose, mouth, ears)."""


@dataclass(frozen=True, slots=True)
class BiSeNetConfig:
    """Number of ``classes``, and the ``width`` multiplier of all channels."""

    classes: int = len(CLASSES)
    width: float = 1.0

    def __post_init__(self) -> None:
        """Refuse sizes that no network can have, with ``ValueError``."""
        if self.classes < 2 or self.width < 0.5:
            # narrower, layers of 4 channels: training them crashes torch 2.13 on processors
            raise ValueError(f"need classes >= 2 and width >= 0.5; got {self}")


def _conv(
    in_channels: int, out_channels: int, kernel: int = 3, stride: int = 1, groups: int = 1
) -> nn.Sequential:
    """Make convolution, batch normalisation, ReLU; 'same' padding."""
    return nn.Sequential(
        nn.Conv2d(
            in_channels, out_channels, kernel, stride, kernel // 2, groups=groups, bias=False
        ),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    )


class SpatialPath(nn.Sequential):
    """Three stride-2 convolutions that keep spatial detail, to an eighth of the input's size."""

    def __init__(self, channels: int, out_channels: int) -> None:
        """Make the path: 7x7, 3x3, 3x3, then 1x1 to ``out_channels``."""
        super().__init__(
            _conv(3, channels, 7, 2),
            _conv(channels, channels, 3, 2),
            _conv(channels, channels, 3, 2),
            _conv(channels, out_channels, 1),
        )


class XceptionUnit(nn.Module):
    """Three separable convolutions with a skip; the first may halve the size."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        """Make a unit; with stride 1 the channels must stay the same."""
        super().__init__()
        middle = out_channels // 4
        self.body = nn.Sequential(
            _conv(in_channels, in_channels, 3, stride, groups=in_channels),
            _conv(in_channels, middle, 1),
            _conv(middle, middle, 3, groups=middle),
            _conv(middle, middle, 1),
            _conv(middle, middle, 3, groups=middle),
            nn.Conv2d(middle, out_channels, 1, bias=False),
            nn.BatchNorm2d(out_channels),
        )
        self.skip = nn.Sequential()
        if stride > 1:
            self.skip = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride, bias=False),
                nn.BatchNorm2d(out_channels),
            )

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C', H/stride, W/stride)."""
        return F.relu(self.body(x) + self.skip(x))


class Xception39(nn.Module):
    """The light Xception of the BiSeNet paper: features at 1/8, 1/16 and 1/32."""

    def __init__(self, channels: tuple[int, int, int, int]) -> None:
        """Make the stem and three stages of 4, 8 and 4 units."""
        super().__init__()
        stem, *stages = channels
        self.stem = nn.Sequential(_conv(3, stem, 3, 2), nn.MaxPool2d(3, 2, 1))
        built: list[nn.Module] = []
        in_channels = stem
        for out_channels, units in zip(stages, (4, 8, 4), strict=True):
            rest = [XceptionUnit(out_channels, out_channels, 1) for _ in range(units - 1)]
            built.append(nn.Sequential(XceptionUnit(in_channels, out_channels, 2), *rest))
            in_channels = out_channels
        self.stages = nn.ModuleList(built)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map (N, 3, H, W) to the features at 1/16 and at 1/32."""
        x8 = self.stages[0](self.stem(x))
        x16 = self.stages[1](x8)
        return x16, self.stages[2](x16)


class AttentionRefinement(nn.Module):
    """A 3x3 convolution whose channels are reweighted by their global average."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        """Make the module."""
        super().__init__()
        self.conv = _conv(in_channels, out_channels)
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(out_channels, out_channels, 1),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C', H, W)."""
        x = self.conv(x)
        return x * self.gate(x)


class FeatureFusion(nn.Module):
    """Join the two paths; reweight the channels by their global average, with a skip."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        """Make the module."""
        super().__init__()
        self.join = _conv(in_channels, out_channels, 1)
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(out_channels, out_channels // 4, 1),
            nn.ReLU(inplace=True),
            nn.Conv2d(out_channels // 4, out_channels, 1),
            nn.Sigmoid(),
        )

    def forward(self, spatial: Tensor, context: Tensor) -> Tensor:
        """Map two (N, C, H, W) to one (N, C', H, W)."""
        x = self.join(torch.cat([spatial, context], dim=1))
        return x + x * self.gate(x)


class BiSeNet(nn.Module):
    """Spatial path, context path with attention refinement and global pooling, fusion, head."""

    def __init__(self, config: BiSeNetConfig) -> None:
        """Build the network; channels are multiples of 8 whatever the width."""
        super().__init__()
        self.config = config

        def wide(channels: int) -> int:
            return max(8, round(channels * config.width / 8) * 8)

        stem, c8, c16, c32 = 8, wide(16 * 4), wide(32 * 4), wide(64 * 4)
        self.spatial_path = SpatialPath(wide(32), wide(64))
        self.context_path = Xception39((stem, c8, c16, c32))
        context = wide(64)
        self.refine16 = AttentionRefinement(c16, context)
        self.refine32 = AttentionRefinement(c32, context)
        # no batch normalisation here: the pooled tail has one pixel a picture
        self.tail = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(c32, context, 1), nn.ReLU())
        self.merge32 = _conv(context, context)
        self.merge16 = _conv(context, context)
        self.fusion = FeatureFusion(wide(64) + context, wide(128))
        # The paper's head ends at an eighth and is enlarged; an eye of a small face is two or
        # three such pixels wide, so ours says each of the four quarters of a pixel by itself.
        self.head = nn.Sequential(
            _conv(wide(128), wide(64)),
            nn.Conv2d(wide(64), 4 * config.classes, 1),
            nn.PixelShuffle(2),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Label a picture.

        Args:
            x: (N, 3, H, W) RGB float in [-1, 1]; H and W multiples of 32.

        Returns:
            (N, classes, H/4, W/4) logits.
        """
        return self.head(self.features(x)[0])

    def features(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Compute what the head reads, and what the context path gives at 1/16 and 1/32.

        Args:
            x: as in :meth:`forward`.

        Returns:
            (N, 128*width, H/8, W/8) fused features; then the context features of 1/16 and 1/32,
            each enlarged twice, which the auxiliary losses of training look at.
        """
        x16, x32 = self.context_path(x)
        y32 = self.refine32(x32) + self.tail(x32)
        y32 = self.merge32(F.interpolate(y32, scale_factor=2.0))
        y16 = self.merge16(F.interpolate(self.refine16(x16) + y32, scale_factor=2.0))
        return self.fusion(self.spatial_path(x), y16), y16, y32
