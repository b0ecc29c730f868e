"""A frame composed where the network runs: up once, everything on the device, down once.

Plain torch, so that it computes on any device what :mod:`cagface_core.paste` and
:mod:`cagface_core.steady` do with OpenCV on the processor, to within two levels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from cagface_core.attention import MAP_PX
from cagface_core.consistency import resize
from cagface_core.crop import BUCKETS_PX
from cagface_core.cuda_graph import Graphed
from cagface_core.device_steady import MOVE_NUMBERS, DeviceSteadier, Seen, blur, mix
from cagface_core.engine import Engine
from cagface_core.paste import ramps
from cagface_core.paths import BATCHES, Runner, batch_sizes
from cagface_core.steady import FLOW_PX, make_thumb
from cagface_core.types import Crop, Floats, Image


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
        self._graph: Graphed[_Outputs] | None = None
        if (graphs := engine.graphs) is not None:
            self._graph = Graphed(partial(self._compute, run=graphs.eager), graphs.pool)

    def capture(self, max_faces: int) -> None:
        """Capture the graphs of every bucket and batch that can come, before the first frame."""
        if self._graph is None:
            return
        device, steadier = self.engine.device, DeviceSteadier()
        for side in BUCKETS_PX:
            thumb = np.zeros((FLOW_PX, FLOW_PX), np.uint8)
            last, moves = steadier.recall(0, Crop(0, 0, side), thumb, self.scale, device)
            one = _Face(
                torch.zeros(1, 3, side, side, device=device),
                torch.zeros(1, 3, MAP_PX, MAP_PX, device=device),
                last,
                np.concatenate([moves, np.zeros(2 * self.scale * side, np.float32)]),
            )
            for batch in BATCHES:
                if batch <= max_faces:
                    self._graph.try_capture(*self._inputs([one] * batch))

    @torch.inference_mode()
    def begin(self, rgb: Image) -> Begun:
        """Send a frame, (H, W, 3) uint8 RGB, and start its upscale; does not wait for either."""
        pixels = self._send(rgb)
        planes = pixels.permute(2, 0, 1)[None].float()
        height, width = (self.scale * side for side in rgb.shape[:2])
        base = planes if self.scale == 1 else resize(planes, height, width)
        return Begun(pixels, base[0].round().clamp(0, 255))

    @torch.inference_mode()
    def finish(
        self, begun: Begun, ids: Sequence[int], crops: Sequence[Crop], pictures: Sequence[Image],
        reaches: Sequence[tuple[float, float, float]], maps: Sequence[Tensor],
        strengths: Sequence[float], steadier: DeviceSteadier,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        """Enhance the faces and blend them in.

        Args:
            begun: the frame.
            ids: the tracks' identities.
            crops: where they lie.
            pictures: their pixels on the host, (S, S, 3) uint8 RGB: motion is found there.
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
        height, width = begun.pixels.shape[:2]
        steadier.forget_others(set(ids))
        thumbs = [make_thumb(picture) for picture in pictures]
        faces: list[_Face] = []
        for key, crop, thumb, reach, found, strength in zip(
            ids, crops, thumbs, reaches, maps, strengths, strict=True
        ):
            last, moves = steadier.recall(key, crop, thumb, self.scale, canvas.device)
            rows, columns = ramps(crop, reach, height, width, self.scale)
            numbers = np.concatenate([moves, np.float32(strength) * rows, columns])
            faces.append(_Face(cut(begun.pixels, crop), found, last, numbers))
        shown: dict[int, tuple[Tensor, Tensor]] = {}
        passed: dict[int, Tensor] = {}
        for part in _parts(crops):
            made = self._run(self._inputs([faces[i] for i in part]))
            for k, i in enumerate(part):
                one = slice(k, k + 1)
                seen = Seen(crops[i], thumbs[i], made.blurred[one], made.enhanced[one])
                steadier.keep(ids[i], seen)
                shown[i], passed[i] = (made.residual[k], made.mask[k]), made.passed[one]
        for i, crop in enumerate(crops):  # the smallest last: it stays on top
            self._blend(canvas, begun, *shown[i], crop)
        blank = torch.zeros(0, dtype=torch.bool, device=canvas.device)
        return canvas, torch.cat([blank, *(passed[i] for i in range(len(crops)))])

    def _inputs(self, faces: Sequence[_Face]) -> tuple[Tensor, ...]:
        """What :meth:`_compute` takes, of faces of one bucket."""
        numbers = self._send(np.stack([face.numbers for face in faces]))
        tensors = (
            (face.picture, face.maps, face.last.blurred, face.last.enhanced) for face in faces
        )
        return *map(torch.cat, zip(*tensors, strict=True)), numbers

    def _run(self, inputs: tuple[Tensor, ...]) -> _Outputs:
        """Compute faces of one bucket, by a graph where there is one for their number."""
        graph = self._graph
        if graph is not None and inputs[0].shape[-1] in BUCKETS_PX and graph.try_capture(*inputs):
            return graph(*inputs)
        return self._compute(*inputs)

    def _compute(
        self, pictures: Tensor, maps: Tensor, last_blurred: Tensor, last_enhanced: Tensor,
        numbers: Tensor, *, run: Runner | None = None,
    ) -> _Outputs:  # fmt: skip
        """Enhance faces and make ready to blend; the same kernels wherever they lie.

        Args:
            pictures: (N, 3, S, S) float32 in levels.
            maps: (N, 3, MAP_PX, MAP_PX).
            last_blurred: see :class:`cagface_core.device_steady.Seen`; of all, as the others.
            last_enhanced: likewise.
            numbers: (N, MOVE_NUMBERS + 2*scale*S): how they have moved, see
                :meth:`cagface_core.device_steady.DeviceSteadier.recall`, and the two sides of
                their masks, see :func:`cagface_core.paste.ramps`.
            run: the network to use in place of the engine's runner.
        """
        side = self.scale * pictures.shape[-1]
        lr = pictures / 127.5 - 1
        residual = self.engine.added(lr, maps, self.scale, self.limit_px, run)
        size = residual.abs().mean((1, 2, 3))  # of anything that is not finite, not finite either
        passed = size < self.guard_levels
        residual = torch.where(passed[:, None, None, None], residual, 0.0)
        plain = resize(pictures, side, side)
        blurred = blur(pictures)
        moves = numbers[:, :MOVE_NUMBERS]
        enhanced = mix(plain + residual, blurred, last_enhanced, last_blurred, moves)
        rows, columns = numbers[:, MOVE_NUMBERS:].view(len(numbers), 2, side).unbind(1)
        mask = rows[:, :, None] * columns[:, None, :]
        return _Outputs(enhanced - plain, mask, blurred, enhanced, passed)

    def _blend(
        self, canvas: Tensor, begun: Begun, residual: Tensor, mask: Tensor, crop: Crop
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

    def _send(self, values: np.ndarray[Any, Any]) -> Tensor:
        """Send an array to the device; does not wait for it."""
        host = torch.from_numpy(values)
        if self.engine.device.type == "cuda":
            host = host.pin_memory()
        return host.to(self.engine.device, non_blocking=True)


class _Outputs(NamedTuple):
    """What is made of N faces of one bucket.

    Attributes:
        residual: (N, 3, scale*S, scale*S), what they add to the plain upscale, in levels.
        mask: (N, scale*S, scale*S), where and how strongly they are shown.
        blurred: (N, 3, S, S), and
        enhanced: (N, 3, scale*S, scale*S): see :class:`cagface_core.device_steady.Seen`.
        passed: (N,) bool: whether the guard let it pass; where not, the residual is nought.
    """

    residual: Tensor
    mask: Tensor
    blurred: Tensor
    enhanced: Tensor
    passed: Tensor


class _Face(NamedTuple):
    """One face to be computed, on the device; its ``numbers`` are still on the host."""

    picture: Tensor
    maps: Tensor
    last: Seen
    numbers: Floats


def _parts(crops: Sequence[Crop]) -> Iterator[list[int]]:
    """The crops by bucket, as many together as there is a graph for."""
    for side in sorted({crop.size for crop in crops}):
        chosen = [i for i, crop in enumerate(crops) if crop.size == side]
        for size in batch_sizes(len(chosen)):
            yield chosen[:size]
            chosen = chosen[size:]


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
