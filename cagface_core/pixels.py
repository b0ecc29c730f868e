"""A frame in levels on the device in; the pixel format that a sink wants, still there, out."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

PixelFormat = Literal["rgb", "i420", "nv12"]

_YUV = ((65.481, 128.553, 24.966), (-37.797, -74.203, 112.0), (112.0, -93.786, -18.214))
"""BT.601, limited range, of red, green and blue in [0, 1]: what cameras and OpenCV mean by it."""


def convert(rgb: Tensor, wanted: PixelFormat = "rgb") -> Tensor:
    """Round a frame to bytes in the format wanted.

    Args:
        rgb: (3, H, W) float32 in levels of 0..255; for I420 and NV12, H and W must be even.
        wanted: ``rgb``; ``i420``: planes Y, U, V; ``nv12``: plane Y, then U and V interleaved.

    Returns:
        uint8: (H, W, 3) for RGB, else (3*H/2, W), chroma halved by averaging.

    Raises:
        ValueError: an odd side.
    """
    if wanted == "rgb":
        return _bytes(rgb).permute(1, 2, 0).contiguous()
    height, width = rgb.shape[-2:]
    if height % 2 or width % 2:
        raise ValueError(f"{wanted} needs even sides, got {width}x{height}; pad the frame by one")
    red, green, blue = _bytes(rgb).float().div(255).unbind()
    y, u, v = (
        offset + a * red + b * green + c * blue
        for offset, (a, b, c) in zip((16, 128, 128), _YUV, strict=True)
    )
    chroma = F.avg_pool2d(torch.stack([u, v]), 2)
    if wanted == "nv12":
        chroma = chroma.permute(1, 2, 0)
    return torch.cat([_bytes(y), _bytes(chroma).reshape(height // 2, width)])


def _bytes(levels: Tensor) -> Tensor:
    return (levels + 0.5).clamp(0, 255).to(torch.uint8)
