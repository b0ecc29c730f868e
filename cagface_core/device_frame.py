"""A frame composed where the network runs: up once, everything on the device, down once.

Plain torch, so that it computes on any device what :mod:`cagface_core.paste` and
:mod:`cagface_core.steady` do with OpenCV on the processor, to within two levels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from cagface_core.attention import MAP_PX
from cagface_core.consistency import resize
from cagface_core.crop import BUCKETS_PX
from cagface_core.cuda_graph import Graphed
from cagface_core.device_steady import DeviceSteadier
from cagface_core.engine import Engine
from cagface_core.paste import ramps
from cagface_core.paths import BATCHES, Runner, batch_sizes
from cagface_core.types import Crop, Image


@dataclass(frozen=True, slots=True)
class Begun:
    """A frame on the device: its (H, W, 3) uint8 pixels, (3, S*H, S*W) float32 upscale."""

    pixels: Tensor
    base: Tensor


class DeviceFrame:
    """Composes frames at one output scale."""

    def __init__(self, engine: Engine, scale: int, limit_px: int, guard_levels: float) -> None:
        """Take the engine whose device is to be used.

        Args:
            engine: computes the faces.
            scale: output scale 1, 2 or 4.
            limit_px: as for :meth:`cagface_core.engine.Engine.residual`.
            guard_levels: a residual of this mean size or more is refused.
        """
        self.engine, self.scale = engine, scale
        self.limit_px, self.guard_levels = limit_px, guard_levels
        self._graph: Graphed | None = None
        if (graphs := engine.graphs) is not None:
            eager, pool = graphs.eager, graphs.pool
            self._graph = Graphed(partial(self._added, run=eager), pool)

    def capture(self, max_faces: int) -> None:
        """Capture the graphs of every bucket and batch that can come, before the first frame."""
        if self._graph is None:
            return
        for side in BUCKETS_PX:
            for batch in BATCHES:
                if batch <= max_faces:
                    lr = torch.zeros(batch, 3, side, side, device=self.engine.device)
                    self._graph.try_capture(lr, lr.new_zeros(batch, 3, MAP_PX, MAP_PX))

    @torch.inference_mode()
    def begin(self, rgb: Image) -> Begun:
        """Send a frame, (H, W, 3) uint8 RGB, and start its upscale; does not wait for either."""
        host = torch.from_numpy(rgb)
        if self.engine.device.type == "cuda":
            host = host.pin_memory()
        pixels = host.to(self.engine.device, non_blocking=True)
        planes = pixels.permute(2, 0, 1)[None].float()
        height, width = (self.scale * side for side in rgb.shape[:2])
        base = planes if self.scale == 1 else resize(planes, height, width)
        return Begun(pixels, base[0].round().clamp(0, 255))

    @torch.inference_mode()
    def finish(
        self, begun: Begun, ids: Sequence[int], crops: Sequence[Crop],
        reaches: Sequence[tuple[float, float, float]], maps: Sequence[Tensor],
        strengths: Sequence[float], steadier: DeviceSteadier,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        """Enhance the faces and blend them in.

        Args:
            begun: the frame.
            ids: the tracks' identities.
            crops: where they lie.
            reaches: where they are shown, see :func:`cagface_core.paste.ramps`.
            maps: their heatmaps, (1, 3, MAP_PX, MAP_PX) each.
            strengths: 0 shows the plain upscale of a face, 1 the whole enhancement.
            steadier: the stream's memory of enhanced faces, changed in place.

        Returns:
            The frame (3, S*H, S*W) float32 in levels, not rounded; and for each face whether the
            guard let it pass, (N,) bool. Both on the device.

        Raises:
            RuntimeError: the network failed.
        """
        canvas = begun.base.clone()
        passed = torch.zeros(len(crops), dtype=torch.bool, device=canvas.device)
        residuals: list[Tensor | None] = [None] * len(crops)
        steadier.forget_others(set(ids))
        pictures = [cut(begun.pixels, crop) for crop in crops]
        for side in sorted({crop.size for crop in crops}):
            chosen = [i for i, crop in enumerate(crops) if crop.size == side]
            lr = torch.cat([pictures[i] for i in chosen]) / 127.5 - 1
            added = self._run(lr, torch.cat([maps[i] for i in chosen]))
            for i, residual in zip(chosen, added, strict=True):
                size = residual.abs().mean()  # of anything that is not finite, not finite either
                passed[i] = size < self.guard_levels
                residuals[i] = torch.where(passed[i], residual, 0.0)
        for i, residual in enumerate(residuals):
            assert residual is not None
            steady = steadier.steady(ids[i], crops[i], pictures[i], residual, self.scale)
            mask = strengths[i] * self._mask(crops[i], reaches[i], begun)
            self._blend(canvas, begun, steady, crops[i], mask)
        return canvas, passed

    def _run(self, lr: Tensor, maps: Tensor) -> Tensor:
        """What the network adds, by a graph where there is one for a part's shape."""
        graph = self._graph if lr.shape[-1] in BUCKETS_PX else None
        parts: list[Tensor] = []
        done = 0
        for size in batch_sizes(len(lr)):
            part = lr[done : done + size], maps[done : done + size]
            by_graph = graph is not None and graph.try_capture(*part)
            parts.append(graph(*part) if graph and by_graph else self._added(*part))
            done += size
        return torch.cat(parts)

    def _added(
        self, lr: Tensor, maps: Tensor, run: Runner | None = None
    ) -> Tensor:  # fmt: skip
        return self.engine.added(lr, maps, self.scale, self.limit_px, run)

    def _blend(
        self, canvas: Tensor, begun: Begun, residual: Tensor, crop: Crop, mask: Tensor
    ) -> None:
        """Blend one face into the canvas, in place, as :func:`cagface_core.paste.paste` does."""
        height, width = begun.pixels.shape[:2]
        s = self.scale
        top, left, bottom, right = crop.y, crop.x, crop.y + crop.size, crop.x + crop.size
        y0, x0, y1, x1 = max(top, 0), max(left, 0), min(bottom, height), min(right, width)
        outer = (..., slice(y0 * s, y1 * s), slice(x0 * s, x1 * s))
        inner = (
            ...,
            slice((y0 - top) * s, (y1 - top) * s),
            slice((x0 - left) * s, (x1 - left) * s),
        )
        there = canvas[outer]
        change = begun.base[outer] + residual[inner] - there
        blended = there + mask[inner] * change
        canvas[outer] = blended.clamp(0, 255)

    def _mask(self, crop: Crop, reach: tuple[float, float, float], begun: Begun) -> Tensor:
        """The paste mask of a crop, (scale*size, scale*size), multiplied on the device."""
        height, width = begun.pixels.shape[:2]
        rows, columns = (
            torch.from_numpy(ramp).to(self.engine.device, non_blocking=True)
            for ramp in ramps(crop, reach, height, width, self.scale)
        )
        return rows[:, None] * columns


def cut(pixels: Tensor, crop: Crop) -> Tensor:
    """A crop's pixels, (1, 3, size, size) float32 in levels; the border goes on beyond the frame.

    Args:
        pixels: the frame, (H, W, 3) uint8.
        crop: where to cut.
    """
    height, width = pixels.shape[:2]
    top, left, bottom, right = crop.y, crop.x, crop.y + crop.size, crop.x + crop.size
    part = pixels[max(top, 0) : min(bottom, height), max(left, 0) : min(right, width)]
    part = part.permute(2, 0, 1)[None].float()
    over = (max(-left, 0), max(right - width, 0), max(-top, 0), max(bottom - height, 0))
    return torch.nn.functional.pad(part, over, mode="replicate") if any(over) else part


def download(picture: Tensor) -> Image:
    """Fetch a uint8 picture as numpy; waits for everything that makes it."""
    if picture.device.type != "cuda":
        return picture.contiguous().numpy()
    host = torch.empty(picture.shape, dtype=torch.uint8, pin_memory=True)
    host.copy_(picture, non_blocking=True)
    torch.cuda.current_stream(picture.device).synchronize()
    return host.numpy()
