"""A frame in; its plain upscale on the device, faces added to it there, and the picture back, out.

Plain torch, so that it computes on any device what :mod:`cagface_core.paste` does on the processor
to a frame in RGB, and :mod:`cagface_core.planes` to one in planes, to within two code values.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from cagface_core.consistency import resize
from cagface_core.planes import Places, find_places, rgb_gains, standard
from cagface_core.types import Image, PlaneLayout, Planes


class Canvas(Protocol):
    """An enlarged frame on the device."""

    def add(self, x: int, y: int, levels: Tensor) -> None:
        """Add to it, in place.

        Args:
            x: where the first column of ``levels`` belongs.
            y: where its first row does.
            levels: (3, h, w) float32 RGB in levels of 0..255.
        """
        ...

    def fetch(self) -> Image | Planes:
        """Bring it to the host; waits for everything that makes it."""
        ...


class RgbCanvas:
    """A frame as RGB: ``rgb`` is (3, S*H, S*W) float32 in whole levels."""

    def __init__(self, rgb: Tensor) -> None:
        self.rgb = rgb

    @classmethod
    def upscale(cls, pixels: Tensor, scale: int) -> Self:
        """Enlarge a frame, (H, W, 3) uint8 on the device, as ``paste.upscale_frame`` does."""
        height, width = (scale * side for side in pixels.shape[:2])
        plain = resize(pixels.permute(2, 0, 1)[None].float(), height, width)
        return cls(plain[0].round_().clamp_(0, 255))

    def add(self, x: int, y: int, levels: Tensor) -> None:
        """See :class:`Canvas`."""
        _add(self.rgb, x, y, levels, 255)

    def fetch(self) -> Image:
        """(S*H, S*W, 3) uint8 RGB; see :class:`Canvas`."""
        return download(self.rgb.to(torch.uint8).permute(1, 2, 0).contiguous())


class PlanesCanvas:
    """A frame in planes, (h, w) float32 each: whole code values, in a `standard` layout."""

    def __init__(self, planes: Sequence[Tensor], layout: PlaneLayout) -> None:
        self.planes, self.layout = planes, layout

    @classmethod
    def upscale(cls, picture: Planes, scale: int, device: torch.device) -> Self:
        """Send a picture and enlarge it, as ``planes.upscale_planes`` does; does not wait."""
        planes: list[Tensor] = []
        most = _most(picture.layout)
        for plane, place in zip(picture.planes, find_places(picture, scale), strict=True):
            large = _resample(_levels(send(plane, device)), scale, place)
            planes.append(large.round_().clamp_(0, most))
        return cls(planes, standard(picture.layout))

    def add(self, x: int, y: int, levels: Tensor) -> None:
        """See :class:`Canvas`, and :func:`cagface_core.planes.add_to_planes`, which this does."""
        layout = self.layout
        across, down = layout.chroma_px if layout.kind == "yuv" else (1, 1)
        left, top = x % across, y % down
        height, width = levels.shape[-2:]
        around = (left, -(left + width) % across, top, -(top + height) % down)
        if any(around):
            levels = F.pad(levels[None], around, mode="replicate")[0]
        rows = send(rgb_gains(layout).astype(np.float32), levels.device)
        gains = torch.matmul(rows, levels.reshape(3, -1)).reshape(levels.shape)
        most = _most(layout)
        luma = gains[0][top : top + height, left : left + width]
        _add(self.planes[0], x, y, luma, most)
        if layout.kind == "grey":
            return
        for plane, gain in zip(self.planes[1:3], gains[1:], strict=True):
            _add(plane, x // across, y // down, _halve(gain, across, down), most)

    def fetch(self) -> Planes:
        """In 8 or 16 bits; see :class:`Canvas`."""
        deep = self.layout.bits > 8
        # uint16, which torch hardly knows, is the lower half of int32.
        codes = [p.int().short() if deep else p.to(torch.uint8) for p in self.planes]
        flat = download(torch.cat([code.flatten() for code in codes]))
        parts = np.split(flat, np.cumsum([code.numel() for code in codes[:-1]]))
        planes = tuple(
            part.view(np.uint16 if deep else np.uint8).reshape(code.shape)
            for part, code in zip(parts, codes, strict=True)
        )
        return Planes(planes, self.layout)


def send(values: np.ndarray[Any, Any], device: torch.device) -> Tensor:
    """Send an array to the device, uint16 as int16; does not wait for it."""
    if values.dtype == np.uint16:
        values = values.view(np.int16)
    host = torch.from_numpy(np.ascontiguousarray(values))
    if device.type == "cuda":
        host = host.pin_memory()
    return host.to(device, non_blocking=True)


def download(values: Tensor) -> np.ndarray[Any, Any]:
    """Fetch a tensor as numpy; waits for everything that makes it."""
    if values.device.type != "cuda":
        return values.numpy()
    host = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
    host.copy_(values, non_blocking=True)
    torch.cuda.current_stream(values.device).synchronize()
    return host.numpy()


def _most(layout: PlaneLayout) -> int:
    return (1 << layout.bits) - 1


def _levels(plane: Tensor) -> Tensor:
    """Code values that came as uint8, or as uint16 in int16: (h, w) float32."""
    if plane.dtype == torch.int16:
        plane = plane.to(torch.int32) & 0xFFFF
    return plane.float()


def _resample(plane: Tensor, scale: int, place: Places) -> Tensor:
    """Take bicubic samples of a plane, (h, w) float32, at its places."""
    width, height = place.size
    rows, columns = plane.shape
    if place.centred and place.steps == (1 / scale, 1 / scale):
        large = resize(plane[None, None], scale * rows, scale * columns)[0, 0]
        return large[:height, :width]
    x, y = (
        # From the middle of the first sample of the plane, -1, to that of its last, 1.
        ((start + step * _count(count, plane)) * 2 / max(length - 1, 1) - 1).float()
        for start, step, count, length in zip(
            place.starts, place.steps, place.size, (columns, rows), strict=True
        )
    )
    grid = torch.stack(torch.meshgrid(x, y, indexing="xy"), -1)[None]
    return F.grid_sample(
        plane[None, None], grid, mode="bicubic", padding_mode="border", align_corners=True
    )[0, 0]


def _count(count: int, plane: Tensor) -> Tensor:
    return torch.arange(count, dtype=torch.float64, device=plane.device)


def _halve(gain: Tensor, across: int, down: int) -> Tensor:
    """Average (h, w) to one sample for ``across`` x ``down`` pixels, where codecs have it.

    Its first row and column are a chroma sample's, its sides multiples of ``across`` and ``down``.
    """
    gain = gain.reshape(-1, down, gain.shape[1]).mean(1)
    if across == 1:
        return gain
    reach = across - 1
    padded = F.pad(gain[None, None], (reach, reach, 0, 0), mode="replicate")[0, 0]
    halved = torch.zeros_like(gain[:, ::across])
    for at in range(-reach, reach + 1):
        halved += (
            (across - abs(at)) / across**2 * padded[:, at + reach :][:, : gain.shape[1] : across]
        )
    return halved


def _add(plane: Tensor, x: int, y: int, values: Tensor, most: int) -> None:
    height, width = values.shape[-2:]
    part = plane[..., y : y + height, x : x + width]
    part.add_(values).round_().clamp_(0, most)
