"""A network's picture in; the same held to what the network was given, out.

One formula on every device. Where the processor computes, enlarging and blurring are OpenCV's:
the same kernels, several times as fast as torch's there.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor


def resize(x: Tensor, height: int, width: int) -> Tensor:
    """Bring (N, C, H, W) float32 to (height, width): bicubic, antialiased where it shrinks.

    Enlarging, it is what :func:`cagface_core.paste.upscale_frame` does.
    """
    if x.shape[-2:] == (height, width):
        return x
    if height < x.shape[-2]:
        # torch shrinks planes several times as fast as interleaved channels
        return F.interpolate(
            x.contiguous(), size=(height, width), mode="bicubic", antialias=True
        )  # fmt: skip
    if _on_processor(x):
        size = (width, height)
        return _each(x, lambda p: cv2.resize(p, size, interpolation=cv2.INTER_CUBIC))
    return F.interpolate(x, size=(height, width), mode="bicubic", align_corners=False)


def hold(
    sr: Tensor, lr: Tensor, sigma_px: float, seen: tuple[int, int] | None = None
) -> Tensor:  # fmt: skip
    """Hold a super-resolved face to its input, and tell what it adds to the plain upscale.

    One back-projection step. What the face, shrunk again, has too much or too little of is
    upscaled and put right. With ``sigma_px`` 0 all of it: nothing the input shows may change. With
    more, only its smooth part: colour and shading cannot drift, but noise and block edges, finer
    than ``sigma_px``, may go. A network that saw its input shrunk knows nothing of what is finer
    than it saw, so that is kept whole too: a large sharp face must not become the softer one that
    the network was shown.

    Args:
        sr: (N, 3, S*H, S*W) float32, the enhanced picture at any integer scale S.
        lr: (N, 3, H, W), its input, in the same range.
        sigma_px: Gaussian standard deviation in pixels of what the network saw.
        seen: (height, width) at which the network saw the input; None is the input's own.

    Returns:
        (N, 3, S*H, S*W): the consistent face minus the bicubic upscale of ``lr``.
    """
    kept = resize(sr, lr.shape[-2], lr.shape[-1])
    if sigma_px:
        difference = lr - kept
        coarse = resize(difference, *(seen or lr.shape[-2:]))
        finer = difference - resize(coarse, *lr.shape[-2:])
        kept = lr - resize(_smooth(coarse, sigma_px), *lr.shape[-2:]) - finer
    return sr - resize(kept, sr.shape[-2], sr.shape[-1])


def _smooth(x: Tensor, sigma_px: float) -> Tensor:
    """Blur (N, C, H, W) by a Gaussian, borders replicated."""
    radius = int(2.5 * sigma_px + 0.5)
    if _on_processor(x):
        side = 2 * radius + 1
        return _each(
            x,
            lambda p: cv2.GaussianBlur(
                p, (side, side), sigma_px, borderType=cv2.BORDER_REPLICATE
            ),
        )  # fmt: skip
    offsets = torch.arange(-radius, radius + 1, dtype=x.dtype, device=x.device)
    kernel = torch.exp(-0.5 * (offsets / sigma_px) ** 2)
    kernel = (kernel / kernel.sum()).expand(x.shape[1], 1, 1, -1)
    x = F.pad(x, (radius, radius, radius, radius), mode="replicate")
    x = F.conv2d(x, kernel, groups=x.shape[1])
    return F.conv2d(x, kernel.transpose(2, 3), groups=x.shape[1])


def _on_processor(x: Tensor) -> bool:
    return x.device.type == "cpu" and x.dtype == torch.float32


def _each(x: Tensor, change: Callable[[NDArray[np.float32]], object]) -> Tensor:
    """Change each picture of (N, C, H, W) as OpenCV sees it, (H, W, C)."""
    pictures = x.permute(0, 2, 3, 1).contiguous().numpy()
    changed = np.stack([np.asarray(change(p), np.float32) for p in pictures])
    return torch.from_numpy(changed).permute(0, 3, 1, 2)
