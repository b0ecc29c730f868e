"""What the network added to a crop in; a seamless addition to the upscaled frame out.

The enhancement is pasted as a residual: the network's picture, held to its input, minus the
plain bicubic upscale of the same crop. Where the residual is zero the frame is exactly its plain
upscale, at every output scale, so a seam has nothing to show.
"""

from __future__ import annotations

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from cagface_core.types import Crop, Image

CONSISTENCY_SIGMA_PX = {"clean": 0.0, "webcam": 3.0}
"""By protocol: clean input is kept exactly; of degraded input what is smoother than its noise and
blocks. See :func:`consistent`."""

_FEATHER = 0.14  # of the crop's side
_DEAD_PX = 2  # frame pixels at a cut edge that never show: the network's padding reaches there


def upscale_frame(rgb: Image, scale: int) -> Image:
    """The plain upscale of a whole frame, (H, W, 3) to (scale*H, scale*W, 3) uint8, bicubic."""
    if scale == 1:
        return rgb.copy()
    size = (rgb.shape[1] * scale, rgb.shape[0] * scale)
    return np.asarray(cv2.resize(rgb, size, interpolation=cv2.INTER_CUBIC), np.uint8)


def resize(x: Tensor, height: int, width: int) -> Tensor:
    """Bring (N, C, H, W) to (height, width): bicubic, antialiased where it shrinks.

    Enlarging, it is what :func:`upscale_frame` does.
    """
    if x.shape[-2:] == (height, width):
        return x
    shrinks = height < x.shape[-2]
    return F.interpolate(
        x, size=(height, width), mode="bicubic", align_corners=False, antialias=shrinks
    )


def consistent(
    sr: Tensor, lr: Tensor, sigma_px: float, seen: tuple[int, int] | None = None
) -> Tensor:
    """Hold a super-resolved face to its input: one back-projection step.

    What the face, shrunk again, has too much or too little of is upscaled and put right. With
    ``sigma_px`` 0 all of it: nothing the input shows may change. With more, only its smooth part:
    colour and shading cannot drift, but noise and block edges, finer than ``sigma_px``, may go.
    A network that saw its input shrunk knows nothing of what is finer than it saw, so that is kept
    whole too: a large sharp face must not become the softer one that the network was shown.

    Args:
        sr: (N, 3, S*H, S*W), the enhanced picture at any integer scale S.
        lr: (N, 3, H, W), its input, in the same range.
        sigma_px: Gaussian standard deviation in pixels of what the network saw.
        seen: (height, width) at which the network saw the input; None is the input's own.

    Returns:
        (N, 3, S*H, S*W).
    """
    difference = lr - resize(sr, lr.shape[-2], lr.shape[-1])
    if sigma_px:
        coarse = resize(difference, *(seen or lr.shape[-2:]))
        finer = difference - resize(coarse, *lr.shape[-2:])
        difference = resize(_smooth(coarse, sigma_px), *lr.shape[-2:]) + finer
    return sr + resize(difference, sr.shape[-2], sr.shape[-1])


def feather(crop: Crop, frame_height: int, frame_width: int, scale: int) -> NDArray[np.float32]:
    """The paste mask of a crop, (scale*size, scale*size, 1) in [0, 1].

    It falls smoothly to 0 before each edge, but not at the frame's own borders.
    """
    rows = _ramp(crop.y, crop.size, frame_height, scale)
    columns = _ramp(crop.x, crop.size, frame_width, scale)
    return (rows[:, None] * columns[None, :])[..., None]


def paste(
    canvas: Image, base: Image, residual: NDArray[np.float32], mask: NDArray[np.float32],
    crop: Crop, scale: int,
) -> None:  # fmt: skip
    """Blend one face into the canvas, in place.

    Args:
        canvas: (scale*H, scale*W, 3) uint8, the frame being composed.
        base: the plain upscale; may be ``canvas`` itself when no two crops overlap.
        residual: (scale*size, scale*size, 3) in levels of 0..255.
        mask: (scale*size, scale*size, 1), 0 shows what is there, 1 the enhanced face.
        crop: where the face lies in the frame before upscaling.
        scale: the output scale.
    """
    height, width = canvas.shape[:2]
    top, left, side = crop.y * scale, crop.x * scale, crop.size * scale
    y0, x0, y1, x1 = max(top, 0), max(left, 0), min(top + side, height), min(left + side, width)
    inner = np.s_[y0 - top : y1 - top, x0 - left : x1 - left]
    outer = np.s_[y0:y1, x0:x1]
    there = canvas[outer].astype(np.float32)
    if base is canvas:
        blended = there + mask[inner] * residual[inner]
    else:
        blended = there + mask[inner] * (base[outer] + residual[inner] - there)
    canvas[outer] = np.clip(blended + 0.5, 0, 255).astype(np.uint8)


def overlap(crops: list[Crop]) -> bool:
    """Whether any two crops share pixels."""
    return any(
        a.x < b.x + b.size and b.x < a.x + a.size and a.y < b.y + b.size and b.y < a.y + a.size
        for i, a in enumerate(crops)
        for b in crops[:i]
    )


def _ramp(start: int, size: int, length: int, scale: int) -> NDArray[np.float32]:
    """One side of the mask: smoothstep at cut edges, 1 at the frame's borders."""
    position = (np.arange(size * scale, dtype=np.float32) + 0.5) / scale
    width = size * _FEATHER
    ramp = np.ones(size * scale, np.float32)
    if start > 0:
        ramp = np.minimum(ramp, (position - _DEAD_PX) / width)
    if start + size < length:
        ramp = np.minimum(ramp, (size - position - _DEAD_PX) / width)
    ramp = np.clip(ramp, 0, 1)
    return (ramp * ramp * (3 - 2 * ramp)).astype(np.float32)


def _smooth(x: Tensor, sigma_px: float) -> Tensor:
    """Blur (N, C, H, W) by a Gaussian, borders replicated."""
    radius = int(2.5 * sigma_px + 0.5)
    offsets = torch.arange(-radius, radius + 1, dtype=x.dtype, device=x.device)
    kernel = torch.exp(-0.5 * (offsets / sigma_px) ** 2)
    kernel = (kernel / kernel.sum()).expand(x.shape[1], 1, 1, -1)
    x = F.pad(x, (radius, radius, radius, radius), mode="replicate")
    x = F.conv2d(x, kernel, groups=x.shape[1])
    return F.conv2d(x, kernel.transpose(2, 3), groups=x.shape[1])
