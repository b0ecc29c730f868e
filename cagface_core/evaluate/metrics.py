"""Two pictures in, one figure out: PSNR, SSIM, MS-SSIM, and how well an output keeps its input."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from cagface_core.bisenet import COMPONENTS
from cagface_core.train.photos import downsample4
from cagface_core.types import Image

WINDOW_PX = 512
"""Slow measures look at the central square of this side where a picture is larger."""

_COMPONENT_NAMES = ("hair", "skin", "parts")
_LEAST_PX = 64  # fewer pixels of a component say nothing about it


def psnr(a: Image, b: Image) -> float:
    """Peak signal-to-noise ratio in dB over all pixels and channels of two uint8 pictures."""
    return _decibels(float(np.mean((a.astype(np.float64) - b.astype(np.float64)) ** 2)))


def psnr_y(a: Image, b: Image) -> float:
    """Peak signal-to-noise ratio in dB of the luminances of two uint8 RGB pictures."""
    return _decibels(float(np.mean((luma(a) - luma(b)) ** 2)))


def ssim(a: Image, b: Image) -> float:
    """Structural similarity of the luminances of two uint8 RGB pictures.

    Wang et al. 2004: 11x11 Gaussian window of sigma 1.5, K1 = 0.01, K2 = 0.03, BT.601 luma,
    mean over the windows that lie wholly inside.
    """
    x, y = luma(a), luma(b)

    def mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
        blurred = cv2.GaussianBlur(values, (11, 11), 1.5)
        return np.asarray(blurred, np.float64)[5:-5, 5:-5]

    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    mx, my = mean(x), mean(y)
    vx, vy = mean(x * x) - mx * mx, mean(y * y) - my * my
    vxy = mean(x * y) - mx * my
    score = ((2 * mx * my + c1) * (2 * vxy + c2)) / ((mx**2 + my**2 + c1) * (vx + vy + c2))
    return float(score.mean())


def ms_ssim(a: Image, b: Image) -> float:
    """Multi-scale structural similarity of the luminances of two uint8 RGB pictures, five scales.

    By torchmetrics, on the central :data:`WINDOW_PX` of larger pictures; at least 177 px a side.
    """
    from torchmetrics.functional.image import (  # only the extra `eval` brings it
        multiscale_structural_similarity_index_measure as measure,
    )

    x, y = (torch.from_numpy(luma(centre(p)))[None, None].float() / 255 for p in (a, b))
    return float(torch.as_tensor(measure(x, y, data_range=1.0)))


def drift(output: Image, lr: Image) -> float:
    """Mean absolute difference in levels of 255 between an output, shrunk again, and its input."""
    return float(np.abs(downsample4(output).astype(np.float64) - lr).mean())


def consistency(output: Image, lr: Image) -> float:
    """PSNR in dB between an output, shrunk again by antialiased bicubic, and its input."""
    return psnr(downsample4(output), lr)


def component_psnr(
    a: Image, b: Image, labels: NDArray[np.uint8], components: Sequence[Sequence[int]] = COMPONENTS
) -> dict[str, float]:
    """PSNR in dB over the pixels of hair, of skin and of the parts (eyes, brows, nose, mouth ...).

    Args:
        a: (H, W, 3) uint8.
        b: the same.
        labels: (H, W) indices of :data:`cagface_core.bisenet.CLASSES`, or IGNORE.
        components: the classes of the three.

    Returns:
        ``hair``, ``skin``, ``parts``; NaN where the picture shows next to nothing of it.
    """
    error = ((a.astype(np.float64) - b.astype(np.float64)) ** 2).mean(axis=2)
    found: dict[str, float] = {}
    for name, classes in zip(_COMPONENT_NAMES, components, strict=True):
        inside = np.isin(labels, classes)
        enough = int(inside.sum()) >= _LEAST_PX
        found[name] = _decibels(float(error[inside].mean())) if enough else float("nan")
    return found


def luma(rgb: Image) -> NDArray[np.float64]:
    """Gamma-encoded BT.601 luminance, 0..255, (H, W) float64."""
    return rgb.astype(np.float64) @ np.array([0.299, 0.587, 0.114])


def centre(picture: Image, side_px: int = WINDOW_PX) -> Image:
    """The central square of ``side_px``, or the picture itself where it is smaller."""
    height, width = picture.shape[:2]
    y, x = max(0, height - side_px) // 2, max(0, width - side_px) // 2
    return picture[y : y + side_px, x : x + side_px]


def _decibels(squared_error: float) -> float:
    """Mean squared error in levels of 255 as PSNR, at most 148 dB."""
    return float(10 * np.log10(255.0**2 / max(squared_error, 1e-10)))
