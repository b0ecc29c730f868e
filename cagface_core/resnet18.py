"""A face picture in, class logits at a quarter of its size out: BiSeNet on ResNet-18.

The modules are named as in the widely used face-parsing checkpoint (``79999_iter.pth``, 19 classes
of CelebAMask-HQ), so that such a file loads strictly; nothing of this layout ships with the
package. The spatial path of the paper is replaced there by ResNet-18's own features at 1/8.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

ENLARGED = 2
"""The layout was trained at 512 px: what is read at ``INPUT_PX`` (256) is enlarged this much."""

FACE_PARSING_CLASSES = 19

CLASS_IDS = (
    (0, 9, 14, 15, 16, 18),  # background, earring, neck, necklace, cloth, hat
    (17,),  # hair
    (1,),  # skin
    (2, 3),  # brows
    (4, 5, 6),  # eyes; glasses (6) cover them, frames and what is seen through them alike
    (10,),  # nose
    (11, 12, 13),  # mouth, upper and lower lip
    (7, 8),  # ears
)
"""For each of ``cagface_core.bisenet.CLASSES``, the layout's class ids that belong to it."""

_MEAN = (0.485, 0.456, 0.406)  # ImageNet's, of RGB in [0, 1]
_STD = (0.229, 0.224, 0.225)


class ConvBNReLU(nn.Module):
    """Convolution, batch normalisation, ReLU; 'same' padding."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int = 3) -> None:
        """Make the layers."""
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel, padding=kernel // 2, bias=False)
        self.bn = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C', H, W)."""
        return F.relu(self.bn(self.conv(x)))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with a skip; the first may halve the size (He et al. 2016)."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        """Make a block; the skip has weights only where size or channels change."""
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.downsample: nn.Sequential | None = None
        if stride > 1 or in_channels != out_channels:
            self.downsample = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride, bias=False),
                nn.BatchNorm2d(out_channels),
            )

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C', H/stride, W/stride)."""
        skip = x if self.downsample is None else self.downsample(x)
        return F.relu(skip + self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))))


class ResNet18(nn.Module):
    """ResNet-18 without its classifier: features at 1/8, 1/16 and 1/32."""

    def __init__(self) -> None:
        """Make the stem and four stages of two blocks."""
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.layer1 = nn.Sequential(BasicBlock(64, 64, 1), BasicBlock(64, 64, 1))
        self.layer2 = nn.Sequential(BasicBlock(64, 128, 2), BasicBlock(128, 128, 1))
        self.layer3 = nn.Sequential(BasicBlock(128, 256, 2), BasicBlock(256, 256, 1))
        self.layer4 = nn.Sequential(BasicBlock(256, 512, 2), BasicBlock(512, 512, 1))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Map (N, 3, H, W) to the features at 1/8, 1/16 and 1/32."""
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 3, 2, 1)
        x8 = self.layer2(self.layer1(x))
        x16 = self.layer3(x8)
        return x8, x16, self.layer4(x16)


class AttentionRefinement(nn.Module):
    """A 3x3 convolution whose channels are reweighted by their global average."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        """Make the module."""
        super().__init__()
        self.conv = ConvBNReLU(in_channels, out_channels)
        self.conv_atten = nn.Conv2d(out_channels, out_channels, 1, bias=False)
        self.bn_atten = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C', H, W)."""
        x = self.conv(x)
        pooled = F.adaptive_avg_pool2d(x, 1)
        return x * torch.sigmoid(self.bn_atten(self.conv_atten(pooled)))


class ContextPath(nn.Module):
    """ResNet-18, its deep features refined and brought back to 1/8."""

    def __init__(self) -> None:
        """Make the path."""
        super().__init__()
        self.resnet = ResNet18()
        self.arm16 = AttentionRefinement(256, 128)
        self.arm32 = AttentionRefinement(512, 128)
        self.conv_head32 = ConvBNReLU(128, 128)
        self.conv_head16 = ConvBNReLU(128, 128)
        self.conv_avg = ConvBNReLU(512, 128, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map (N, 3, H, W) to ResNet's features and the context features, both at 1/8."""
        x8, x16, x32 = self.resnet(x)
        y32 = self.arm32(x32) + self.conv_avg(F.adaptive_avg_pool2d(x32, 1))
        y32 = self.conv_head32(F.interpolate(y32, scale_factor=2.0))
        y16 = self.arm16(x16) + y32
        return x8, self.conv_head16(F.interpolate(y16, scale_factor=2.0))


class FeatureFusion(nn.Module):
    """Join the two paths; reweight the channels by their global average, with a skip."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        """Make the module."""
        super().__init__()
        self.convblk = ConvBNReLU(in_channels, out_channels, 1)
        self.conv1 = nn.Conv2d(out_channels, out_channels // 4, 1, bias=False)
        self.conv2 = nn.Conv2d(out_channels // 4, out_channels, 1, bias=False)

    def forward(self, spatial: Tensor, context: Tensor) -> Tensor:
        """Map two (N, C, H, W) to one (N, C', H, W)."""
        x = self.convblk(torch.cat([spatial, context], dim=1))
        gate = self.conv2(F.relu(self.conv1(F.adaptive_avg_pool2d(x, 1))))
        return x + x * torch.sigmoid(gate)


class Output(nn.Module):
    """A head: 3x3 convolution, then 1x1 to the class logits."""

    def __init__(self, in_channels: int, middle: int) -> None:
        """Make the head."""
        super().__init__()
        self.conv = ConvBNReLU(in_channels, middle)
        self.conv_out = nn.Conv2d(middle, FACE_PARSING_CLASSES, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, 19, H, W)."""
        return self.conv_out(self.conv(x))


class FaceParsing(nn.Module):
    """The network of the face-parsing checkpoint, answering as our own parser does."""

    mean: Tensor
    std: Tensor

    def __init__(self) -> None:
        """Build the network."""
        super().__init__()
        self.cp = ContextPath()
        self.ffm = FeatureFusion(256, 256)
        self.conv_out = Output(256, 256)
        # heads of the auxiliary losses: a file of the layout holds them, running needs them not
        self.conv_out16 = Output(128, 64)
        self.conv_out32 = Output(128, 64)
        # not persistent: the layout has no such tensors
        self.register_buffer("mean", torch.tensor(_MEAN)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(_STD)[:, None, None], persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Label a picture with our own classes.

        Args:
            x: (N, 3, H, W) RGB float in [-1, 1]; H and W multiples of 16. It is enlarged twice
                and normalised as the layout wants it.

        Returns:
            (N, 8, H/4, W/4) logits of ``cagface_core.bisenet.CLASSES``. Their softmax is the sum
            of the 19 classes' probabilities over ``CLASS_IDS``.
        """
        logits = self.all_classes(x)
        merged = [torch.logsumexp(logits[:, list(ids)], dim=1) for ids in CLASS_IDS]
        return torch.stack(merged, dim=1)

    def all_classes(self, x: Tensor) -> Tensor:
        """Label a picture, (N, 3, H, W) as in :meth:`forward`, to (N, 19, H/4, W/4) logits."""
        x = F.interpolate(x, scale_factor=float(ENLARGED), mode="bilinear", align_corners=False)
        x8, context = self.cp(((x + 1) / 2 - self.mean) / self.std)
        return self.conv_out(self.ffm(x8, context))
