"""A frame in; its plain upscale on the device, faces added to it there, and the picture back, out.

Plain torch, so that it computes on any device what :mod:`cagface_core.paste` does on the processor
to a frame in RGB, and :mod:`cagface_core.planes` to one in planes, to within two code values.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Protocol, Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from cagface_core.consistency import resize
from cagface_core.planes import Places, find_places, rgb_gains, standard
from cagface_core.transfer import fetch, send
from cagface_core.types import I420, Image, PlaneLayout, Planes


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

    def fetch(self) -> Callable[[], Image | Planes]:
        """Begin to bring it to the host; what is given waits for it, and has it."""
        ...


class RgbCanvas:
    """A frame as RGB: ``rgb`` is (3, S*H, S*W) float32 in whole levels.

    It comes back as RGB or, where its sides are even, as `I420`.
    """

    def __init__(self, rgb: Tensor, as_planes: bool = False) -> None:
        self.rgb, self._as_planes = rgb, as_planes

    @classmethod
    def upscale(cls, pixels: Tensor, scale: int, as_planes: bool = False) -> Self:
        """Enlarge a frame, (H, W, 3) uint8 on the device, as ``paste.upscale_frame`` does."""
        height, width = (scale * side for side in pixels.shape[:2])
        plain = resize(pixels.permute(2, 0, 1)[None].float(), height, width)
        return cls(plain[0].round_().clamp_(0, 255), as_planes)

    def add(self, x: int, y: int, levels: Tensor) -> None:
        """See :class:`Canvas`."""
        _add(self.rgb, x, y, levels, 255)

    def fetch(self) -> Callable[[], Image | Planes]:
        """(S*H, S*W, 3) uint8 RGB, or `I420`; see :class:`Canvas`."""
        if self._as_planes:
            return PlanesCanvas(self._to_planes(), I420).fetch()
        rows = self.rgb.permute(1, 2, 0)
        return fetch(rows.to(torch.uint8, memory_format=torch.contiguous_format))

    def _to_planes(self) -> list[Tensor]:
        """Code values of `I420`, as `PlanesCanvas` has them but for a fraction that it cuts."""
        gains, half = _gains(I420, self.rgb.device), 0.5
        luma = torch.matmul(gains[0], self.rgb.flatten(1)).add_(16 + half)
        fours = F.avg_pool2d(self.rgb, 2)
        chroma = torch.matmul(gains[1:], fours.flatten(1)).add_(128 + half)
        return [luma.view(self.rgb.shape[1:]), *chroma.view(2, *fours.shape[1:])]


class PlanesCanvas:
    """A frame in planes, (h, w) float32 each: code values, in a `standard` layout or `I420`."""

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
        gains = torch.matmul(_gains(layout, levels.device), levels.reshape(3, -1))
        gains = gains.reshape(levels.shape)
        most = _most(layout)
        luma = gains[0][top : top + height, left : left + width]
        _add(self.planes[0], x, y, luma, most)
        if layout.kind == "grey":
            return
        for plane, gain in zip(self.planes[1:3], _halve(gains[1:], across, down), strict=True):
            _add(plane, x // across, y // down, gain, most)

    def fetch(self) -> Callable[[], Planes]:
        """In 8 or 16 bits; see :class:`Canvas`."""
        deep = self.layout.bits > 8
        # uint16, which torch hardly knows, is the lower half of int32.
        codes = [p.int().short() if deep else p.to(torch.uint8) for p in self.planes]
        fetched = fetch(torch.cat([code.flatten() for code in codes]))
        shapes, ends = [tuple(p.shape) for p in codes], np.cumsum([p.numel() for p in codes])

        def wait() -> Planes:
            parts = np.split(fetched().view(np.uint16 if deep else np.uint8), ends[:-1])
            planes = (part.reshape(shape) for part, shape in zip(parts, shapes, strict=True))
            return Planes(tuple(planes), self.layout)

        return wait


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
    return F.grid_sample(
        plane[None, None], _grid(place, rows, columns, plane.device), mode="bicubic",
        padding_mode="border", align_corners=True,
    )[0, 0]  # fmt: skip


@lru_cache(4)  # of each film it is one
def _grid(place: Places, rows: int, columns: int, device: torch.device) -> Tensor:
    """The places as ``grid_sample`` has them, (1, h, w, 2), of a plane of that size."""
    x, y = (
        # From the middle of the first sample of the plane, -1, to that of its last, 1.
        ((start + step * torch.arange(count, dtype=torch.float64)) * 2 / max(length - 1, 1) - 1)
        .float()
        .to(device)
        for start, step, count, length in zip(
            place.starts, place.steps, place.size, (columns, rows), strict=True
        )
    )
    return torch.stack(torch.meshgrid(x, y, indexing="xy"), -1)[None]


@lru_cache(4)
def _gains(layout: PlaneLayout, device: torch.device) -> Tensor:
    """See :func:`cagface_core.planes.rgb_gains`."""
    return torch.from_numpy(rgb_gains(layout).astype(np.float32)).to(device)


def _halve(gains: Tensor, across: int, down: int) -> Tensor:
    """Average (N, h, w) to one sample for ``across`` x ``down`` pixels, where codecs have it.

    Its first row and column are a chroma sample's, its sides multiples of ``across`` and ``down``.
    It weighs columns by a triangle: two averages in turn.
    """
    wide = F.pad(gains[:, None], (across - 1, across - 1, 0, 0), mode="replicate")
    narrow = F.avg_pool2d(wide, (down, across), (down, 1))
    return F.avg_pool2d(narrow, (1, across), (1, across))[:, 0]


def _add(plane: Tensor, x: int, y: int, values: Tensor, most: int) -> None:
    height, width = values.shape[-2:]
    part = plane[..., y : y + height, x : x + width]
    part.add_(values).round_().clamp_(0, most)
