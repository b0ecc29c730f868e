"""Pictures in planes, drawn: in every layout that films have."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cagface_core.types import PlaneLayout, Planes

BT709 = (0.2126, 0.0722)
LAYOUTS = {
    "420": PlaneLayout(),
    "422, 10 bits": PlaneLayout(bits=10, chroma_px=(2, 1), chroma_at=(0, 0), weights=BT709),
    "444, 12 bits": PlaneLayout(bits=12, chroma_px=(1, 1), chroma_at=(0, 0)),
    "440": PlaneLayout(chroma_px=(1, 2), chroma_at=(0, 0.5)),
    "411": PlaneLayout(chroma_px=(4, 1), chroma_at=(0, 0)),
    "420, full range": PlaneLayout(full_range=True),
    "420 with alpha, 10 bits": PlaneLayout(bits=10, alpha=True),
    "gbr, 16 bits": PlaneLayout("gbr", 16, False, (1, 1), (0, 0), full_range=True),
    "grey": PlaneLayout("grey", chroma_px=(1, 1), chroma_at=(0, 0)),
}


def waves(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """A smooth picture, defined between pixels too: (..., 3) RGB in levels."""
    channels = [
        128 + 90 * np.sin(0.11 * x + 0.02 * y + phase) * np.cos(0.07 * y - phase)
        for phase in (0, 1, 2)
    ]
    return np.stack(channels, axis=-1)


def ycc(rgb: np.ndarray, layout: PlaneLayout) -> np.ndarray:
    """Code values of Y, Cb, Cr, unrounded, by ITU-T H.273."""
    k_r, k_b = layout.weights
    luma = k_r * rgb[..., 0] + (1 - k_r - k_b) * rgb[..., 1] + k_b * rgb[..., 2]
    cb = (rgb[..., 2] - luma) / 2 / (1 - k_b)
    cr = (rgb[..., 0] - luma) / 2 / (1 - k_r)
    if layout.full_range:
        unit = ((1 << layout.bits) - 1) / 255
        return np.stack([luma * unit, cb * unit + (1 << layout.bits - 1),
                         cr * unit + (1 << layout.bits - 1)], axis=-1)  # fmt: skip
    step = 1 << layout.bits - 8
    return np.stack([(16 + luma * 219 / 255) * step, (128 + cb * 224 / 255) * step,
                     (128 + cr * 224 / 255) * step], axis=-1)  # fmt: skip


def drawn(width: int, height: int, layout: PlaneLayout, scale: int = 1, add: float = 0) -> Planes:
    """`waves` in planes; at a scale, as if seen ``scale`` times as large."""
    dtype = np.uint8 if layout.bits == 8 else np.uint16
    most = (1 << layout.bits) - 1

    def plane(index: int, px: tuple[int, int], at: tuple[float, float]) -> np.ndarray:
        x = np.arange(-(-width * scale // px[0])) * px[0] + at[0]
        y = np.arange(-(-height * scale // px[1])) * px[1] + at[1]
        rgb = add + waves(*np.meshgrid((x + 0.5) / scale - 0.5, (y + 0.5) / scale - 0.5))
        if layout.kind == "gbr":
            values = rgb[..., (1, 2, 0)[index]] * most / 255
        else:
            values = ycc(rgb, layout)[..., index]
        return np.clip(np.rint(values), 0, most).astype(dtype)

    count = 1 if layout.kind == "grey" else 3
    planes = [plane(0, (1, 1), (0, 0))]
    planes += [plane(index, layout.chroma_px, layout.chroma_at) for index in range(1, count)]
    if layout.alpha:
        planes.append(np.full_like(planes[0], most // 3))
    return Planes(tuple(planes), layout)


TURNED = {
    "mirrored": PlaneLayout(chroma_at=(1, 0.5)),
    "on its side": PlaneLayout(chroma_at=(0.5, 0)),
    "on its side, 422": PlaneLayout(chroma_px=(1, 2), chroma_at=(0, 0)),
    "upside down, 422": PlaneLayout(chroma_px=(2, 1), chroma_at=(1, 0)),
}


def exact_i420(rgb: NDArray[Any]) -> list[NDArray[np.float64]]:
    """By ITU-R BT.601's own words, unrounded; chroma that of four pixels."""
    weights = (0.299, 0.587, 0.114)
    height, width = rgb.shape[:2]
    fours = rgb.reshape(height // 2, 2, width // 2, 2, 3).mean((1, 3))
    middle = fours @ weights
    return [
        16 + 219 / 255 * (rgb @ weights),
        128 + 224 / 255 * (fours[..., 2] - middle) / 1.772,
        128 + 224 / 255 * (fours[..., 0] - middle) / 1.402,
    ]
