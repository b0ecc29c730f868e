"""A frame composed where the network runs: up once, everything on the device, down once.

Plain torch, so that it computes on any device what :mod:`cagface_core.paste` and
:mod:`cagface_core.steady` do with OpenCV on the processor, to within two code values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from cagface_core.attention import MAP_PX
from cagface_core.consistency import resize
from cagface_core.crop import BUCKETS_PX
from cagface_core.cuda_graph import Graphed, GraphPool
from cagface_core.device_canvas import Canvas, PlanesCanvas, RgbCanvas
from cagface_core.device_steady import (
    MOVE_NUMBERS,
    UNLIKE,
    DeviceSteadier,
    Moved,
    Seen,
    blur,
    mix,
)
from cagface_core.engine import Engine
from cagface_core.paste import Box, ramps, shared, square
from cagface_core.paths import BATCHES, batch_sizes, has_room
from cagface_core.transfer import send
from cagface_core.types import Crop, Floats, Frame, Picture

_MOST_LARGE = 4
"""So many sizes of large faces have a graph."""
_BYTES_A_PIXEL = 200
"""Of its output: what a graph holds, about."""
_MOST_PX = 2048
"""Larger outputs keep the device so busy that a graph would spare nothing."""


@dataclass(frozen=True, slots=True)
class Begun:
    """A frame on the device: its plain upscale, and its (H, W, 3) uint8 RGB.

    Of a frame in planes the latter is None, and faces are sent one by one.
    """

    height: int
    width: int
    canvas: Canvas
    pixels: Tensor | None


class DeviceFrame:
    """Composes frames at one output scale."""

    def __init__(
        self, engine: Engine, scale: int, limit_px: int, guard_levels: float, *,
        captures: bool = True, beside: Executor | None = None,
    ) -> None:  # fmt: skip
        """Take the engine whose device is to be used.

        Args:
            engine: computes the faces.
            scale: output scale 1, 2 or 4.
            limit_px: as for :meth:`cagface_core.engine.Engine.residual`.
            guard_levels: a residual of this mean size or more is refused.
            captures: use graphs, which pay from the second time on.
            beside: in it those not captured before the first frame are, while frames go on
                without; None captures them as they come.
        """
        self.engine, self.scale = engine, scale
        self.limit_px, self.guard_levels = limit_px, guard_levels
        self._graph: Graphed[_Outputs] | None = None
        self._large: Graphed[_Outputs] | None = None
        """Of faces beyond ``BUCKETS_PX``, one at a time."""
        self._beside = beside
        self._making: tuple[Graphed[_Outputs], Future[bool]] | None = None
        """What is captured beside, and when it is done."""
        if captures and (graphs := engine.graphs) is not None:
            compute = partial(self._compute, run=graphs.eager)
            # In memory of its own: it may be captured while another one's graphs run.
            self._graph = Graphed(compute, GraphPool(engine.device))
            self._large = Graphed(compute, GraphPool(engine.device))

    def capture(self, max_faces: int) -> None:
        """Capture the graphs of every bucket and batch that can come, before the first frame."""
        if self._graph is None:
            return
        device, steadier, moved = self.engine.device, DeviceSteadier(), Moved(np.empty(0, np.uint8))
        for side in BUCKETS_PX:
            last, moves = steadier.recall(0, Crop(0, 0, side), moved, self.scale, device)
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
    def begin(self, frame: Frame, as_planes: bool = False) -> Begun:
        """Send a frame, start its upscale, in planes if it came so; does not wait for either.

        Args:
            frame: the frame.
            as_planes: one in RGB comes back as `I420`, if its size is even.
        """
        height, width = frame.rgb.shape[:2]
        if frame.planes is not None:
            canvas = PlanesCanvas.upscale(frame.planes, self.scale, self.engine.device)
            return Begun(height, width, canvas, None)
        pixels = send(frame.rgb, self.engine.device)
        as_planes = as_planes and not self.scale * (height | width) % 2
        return Begun(height, width, RgbCanvas.upscale(pixels, self.scale, as_planes), pixels)

    @torch.inference_mode()
    def finish(
        self, begun: Begun, ids: Sequence[int], crops: Sequence[Crop], moved: Sequence[Moved],
        seen: Sequence[Picture], reaches: Sequence[tuple[float, float, float]],
        maps: Sequence[Tensor], strengths: Sequence[float], steadier: DeviceSteadier,
    ) -> Tensor:  # fmt: skip
        """Enhance the faces and add them to the frame, in place.

        Args:
            begun: the frame.
            ids: the tracks' identities.
            crops: where they lie.
            moved: what :meth:`cagface_core.device_steady.DeviceSteadier.look_back` found of them.
            seen: their pixels on the host, (S, S, 3) RGB, as deep as the frame is: what the network
                sees, where the frame's own pixels are not on the device.
            reaches: where they are shown, see :func:`cagface_core.paste.ramps`.
            maps: their heatmaps, (1, 3, MAP_PX, MAP_PX) each.
            strengths: 0 shows the plain upscale of a face, 1 the whole enhancement.
            steadier: the stream's memory of enhanced faces, changed in place.

        Returns:
            For each face whether the guard let it pass, 1 or 0, (N,) float32, on the device.

        Raises:
            RuntimeError: the network failed.
        """
        device = self.engine.device
        steadier.forget_others(set(ids))
        faces: list[_Face] = []
        for i, (key, crop) in enumerate(zip(ids, crops, strict=True)):
            last, moves = steadier.recall(key, crop, moved[i], self.scale, device)
            rows, columns = ramps(crop, reaches[i], begun.height, begun.width, self.scale)
            numbers = np.concatenate([moves, np.float32(strengths[i]) * rows, columns])
            pixels = begun.pixels
            picture = _whole(send(seen[i], device)) if pixels is None else cut(pixels, crop)
            faces.append(_Face(picture, maps[i], last, numbers))
        added: dict[int, tuple[Tensor, Tensor]] = {}
        passed: dict[int, Tensor] = {}
        for part in _parts(crops):
            made = self._run(self._inputs([faces[i] for i in part]))
            for k, i in enumerate(part):
                one = slice(k, k + 1)
                kept = Seen(crops[i], moved[i].thumb, made.blurred[one], made.enhanced[one])
                steadier.keep(ids[i], kept)
                added[i], passed[i] = (made.levels[k], made.mask[k]), made.passed[one]
        self._add(begun, crops, [added[i] for i in range(len(crops))])
        if not crops:
            return torch.zeros(0, device=device)
        return _joined([passed[i] for i in range(len(crops))])

    def _inputs(self, faces: Sequence[_Face]) -> tuple[Tensor, ...]:
        """What :meth:`_compute` takes, of faces of one bucket."""
        numbers = send(np.stack([face.numbers for face in faces]), self.engine.device)
        tensors = (
            (face.picture, face.maps, face.last.blurred, face.last.enhanced) for face in faces
        )
        return *map(_joined, zip(*tensors, strict=True)), numbers

    def _run(self, inputs: tuple[Tensor, ...]) -> _Outputs:
        """Compute faces of one bucket; by a graph, where there is one for their number."""
        graph = self._graph if inputs[0].shape[-1] in BUCKETS_PX else self._large
        if graph is not None and self._is_ready(graph, inputs):
            return graph(*inputs)
        return self._compute(*inputs, run=self.engine.eager)

    def _is_ready(self, graph: Graphed[_Outputs], inputs: tuple[Tensor, ...]) -> bool:
        """Whether it can be had at once: of what is captured into nothing can."""
        if self._making is not None and self._making[1].done():
            self._making = None
        if self._making is not None and self._making[0] is graph:
            return False
        return graph.captured(inputs) or self._add_graph(graph, inputs)

    def _add_graph(self, graph: Graphed[_Outputs], inputs: tuple[Tensor, ...]) -> bool:
        """Capture what comes for the first time, where it pays; whether it is there already."""
        if graph.refused(inputs):
            return False
        if graph is self._large:
            side_px = self.scale * inputs[0].shape[-1]
            wanted_bytes = 2 * _BYTES_A_PIXEL * side_px**2  # and a frame without, meanwhile
            if side_px > _MOST_PX or len(graph) == _MOST_LARGE:
                return False
            if not has_room(self.engine.device, wanted_bytes):
                return False
        if self._beside is None:
            return graph.try_capture(*inputs)
        if self._making is None:
            beside = self._beside.submit(graph.try_capture, *inputs, benchmark=False)
            self._making = graph, beside
        return False

    def _compute(
        self, pictures: Tensor, maps: Tensor, last_blurred: Tensor, last_enhanced: Tensor,
        numbers: Tensor, *, run: Callable[[Tensor, int], Tensor],
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
            run: the network.
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
        mask = rows[:, :, None] * columns[:, None, :] * passed[:, None, None]
        levels = mask[:, None] * (enhanced - plain)
        known = torch.where(passed[:, None, None, None], blurred, UNLIKE)
        return _Outputs(levels, mask, known, enhanced, passed.float())

    def _add(
        self, begun: Begun, crops: Sequence[Crop], faces: Sequence[tuple[Tensor, Tensor]]
    ) -> None:
        """Add faces, levels and mask of each, as :func:`cagface_core.paste.find_changes` tells.

        Where two overlap the later one covers, which is the smaller.
        """
        whole = (0, 0, begun.width, begun.height)
        squares = [square(crop) for crop in crops]
        for i, (added, _) in enumerate(faces):
            box = shared(squares[i], whole)
            levels = self._part(added, squares[i], box)
            for k in range(i + 1, len(faces)):
                both = shared(box, squares[k])
                if both[0] < both[2] and both[1] < both[3]:
                    cover = self._part(faces[k][1], squares[k], both)
                    self._part(levels, box, both).mul_(1 - cover)
            begun.canvas.add(self.scale * box[0], self.scale * box[1], levels)

    def _part(self, picture: Tensor, origin: Box, box: Box) -> Tensor:
        """What an enlarged picture of the box ``origin`` shows of ``box``."""
        left, top, right, bottom = (
            self.scale * (at - start) for at, start in zip(box, 2 * origin[:2], strict=True)
        )
        return picture[..., top:bottom, left:right]


class _Outputs(NamedTuple):
    """What is made of N faces of one bucket.

    Attributes:
        levels: (N, 3, scale*S, scale*S), what they add to the plain upscale, masked.
        mask: (N, scale*S, scale*S), where and how strongly they are shown; nought of what the guard
            refused.
        blurred: (N, 3, S, S), and
        enhanced: (N, 3, scale*S, scale*S): see :class:`cagface_core.device_steady.Seen`; of what
            the guard refused nothing is shown again.
        passed: (N,) float32: whether the guard let it pass, 1 or 0.
    """

    levels: Tensor
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
    """The crops by bucket, as many together as there is a graph for; large ones one by one."""
    for side in sorted({crop.size for crop in crops}):
        chosen = [i for i, crop in enumerate(crops) if crop.size == side]
        together = side in BUCKETS_PX
        for size in batch_sizes(len(chosen)) if together else [1] * len(chosen):
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
    part = _whole(part)
    over = (max(-left, 0), max(right - width, 0), max(-top, 0), max(bottom - height, 0))
    return torch.nn.functional.pad(part, over, mode="replicate") if any(over) else part


def _whole(picture: Tensor) -> Tensor:
    """A crop as it was sent, (S, S, 3), as (1, 3, S, S) float32."""
    planes = picture.permute(2, 0, 1)[None]
    return planes.to(torch.float32, memory_format=torch.contiguous_format).contiguous()


def _joined(parts: Sequence[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(list(parts))
