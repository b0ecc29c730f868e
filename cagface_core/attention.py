"""Component logits in; Gaussian-pooled heatmaps, then the six-channel block out (section 3.1)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from cagface_core.bisenet import COMPONENTS, INPUT_PX
from cagface_core.transfer import send
from cagface_core.types import Picture

MAP_PX = 64
"""Side of the square heatmaps, whatever the crop's size: they are smooth, and cheap to keep."""

POOLING_SIGMA = 1.0
"""Standard deviation of the fixed Gaussian pooling, in heatmap pixels (1/64 of the crop)."""

LUMA = (0.299, 0.587, 0.114)
"""BT.601 weights of red, green, blue in the gamma-encoded luminance."""


def to_signed(pictures: Sequence[Picture], device: str | torch.device = "cpu") -> Tensor:
    """Stack (H, W, C) pictures of one size, 0..255, to (N, C, H, W) float32 in [-1, 1]."""
    batch = send(np.stack(pictures), torch.device(device))
    return batch.permute(0, 3, 1, 2).float().div_(127.5).sub_(1)  # of the copy that stack made


def gaussian_pool(maps: Tensor) -> Tensor:
    """Smooth heatmaps with the fixed Gaussian kernel; no learned weights (section 3.1).

    Args:
        maps: (N, C, H, W) float in [0, 1].

    Returns:
        The same shape and range.
    """
    radius = round(2 * POOLING_SIGMA)
    offsets = torch.arange(-radius, radius + 1, dtype=maps.dtype, device=maps.device)
    kernel = torch.exp(-(offsets**2) / (2 * POOLING_SIGMA**2))
    kernel = kernel / kernel.sum()
    channels = maps.shape[1]
    maps = F.pad(maps, (radius, radius, radius, radius), mode="replicate")
    maps = F.conv2d(maps, kernel.expand(channels, 1, 1, -1), groups=channels)
    return F.conv2d(maps, kernel[:, None].expand(channels, 1, -1, 1), groups=channels)


def heatmaps(logits: Tensor, components: Sequence[Sequence[int]]) -> Tensor:
    """Turn class logits into soft component heatmaps; never arg-max.

    Args:
        logits: (N, classes, h, w) float, any spatial size.
        components: for hair, skin and parts, the class indices that belong to it.

    Returns:
        (N, 3, MAP_PX, MAP_PX) float in [0, 1], after Gaussian pooling.
    """
    logits = F.interpolate(logits, size=(MAP_PX, MAP_PX), mode="bilinear", align_corners=False)
    planes = logits.softmax(dim=1).unbind(dim=1)
    # not by an index tensor: one made here could not be part of a CUDA graph
    maps = torch.stack([torch.stack([planes[i] for i in c]).sum(dim=0) for c in components], dim=1)
    return gaussian_pool(maps)


def luminance(rgb: Tensor) -> Tensor:
    """Compute (N, 1, H, W) luminance of (N, 3, H, W) RGB, both in the same range."""
    # by plain numbers: a tensor made here could not be part of a CUDA graph
    red, green, blue = (rgb[:, c : c + 1] for c in range(3))
    return LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue


def resize_maps(maps: Tensor, height: int, width: int) -> Tensor:
    """Bring (N, 3, h, w) heatmaps to a crop's (height, width), bilinearly."""
    return F.interpolate(maps, size=(height, width), mode="bilinear", align_corners=False)


def make_block(lr: Tensor, maps: Tensor, attention: str = "paper") -> Tensor:
    """Stack a crop with its three attention maps, the stem's input (sections 3.1 and 3.2).

    The paper's attention map is the crop's luminance in [0, 1] times a heatmap, then normalised.

    Args:
        lr: (N, 3, H, W) float RGB in [-1, 1].
        maps: (N, 3, H, W) float heatmaps of hair, skin, parts in [0, 1].
        attention: one of :data:`cagface_core.cagface.ATTENTION`; ``none`` leaves the maps out,
            and all but ``paper`` take the heatmaps as they are.

    Returns:
        (N, 6, H, W), or (N, 3, H, W) without attention, float in [-1, 1].
    """
    if attention == "none":
        return lr
    if attention != "paper":
        return torch.cat([lr, maps * 2 - 1], dim=1)
    return torch.cat([lr, luminance((lr + 1) / 2) * maps * 2 - 1], dim=1)


def component_maps(
    parser: Callable[[Tensor], Tensor], lr: Tensor, components: Sequence[Sequence[int]] = COMPONENTS
) -> Tensor:
    """Run the component network on crops of any one size.

    Args:
        parser: what computes :class:`cagface_core.bisenet.BiSeNet`.
        lr: (N, 3, H, W) RGB float in [-1, 1].
        components: the parser's classes for hair, skin and parts.

    Returns:
        (N, 3, MAP_PX, MAP_PX) heatmaps in [0, 1].
    """
    return heatmaps(parser(parser_input(lr)), components)


def parser_input(lr: Tensor) -> Tensor:
    """Bring (N, 3, H, W) crops to the size that the component network reads."""
    if lr.shape[-2:] == (INPUT_PX, INPUT_PX):
        return lr
    return F.interpolate(
        lr, size=(INPUT_PX, INPUT_PX), mode="bilinear", align_corners=False, antialias=True
    )
