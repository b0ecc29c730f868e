"""Enhanced faces and those before in; the faces out, steadied: :mod:`cagface_core.steady` there.

The same formula in torch, for where the faces never leave the device; large ones are compared in
all their pixels, not at half their size. Only motion is found on the processor. All faces of one
size are steadied at once, and what differs from one to the other are numbers on the device.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from cagface_core.attention import luminance
from cagface_core.steady import (
    BLUR_PX,
    FLOW_PX,
    SAME_LEVELS,
    SHARE,
    STILL_LEVELS,
    Memory,
    find_flow,
    make_thumb,
)
from cagface_core.types import Crop, Floats, Image

MOVE_NUMBERS = 4 + 2 * FLOW_PX**2
"""How many numbers tell how a face has moved, see :meth:`DeviceSteadier.recall`."""

UNLIKE = -1e3
"""In :attr:`Seen.blurred`, in levels: unlike anything, so that nothing of it is shown again."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A face as last shown.

    Attributes:
        crop: where it lay.
        thumb: its :func:`cagface_core.steady.make_thumb`, on the host.
        blurred: (1, 3, S, S), the crop's pixels in levels, blurred.
        enhanced: (1, 3, scale*S, scale*S), the enhanced picture, in levels.
    """

    crop: Crop
    thumb: Image
    blurred: Tensor
    enhanced: Tensor


@dataclass(frozen=True, slots=True)
class Moved:
    """How a face has moved since it was last shown, found on the host.

    Attributes:
        thumb: its :func:`cagface_core.steady.make_thumb` now.
        flow: of :func:`cagface_core.steady.find_flow`; None where nothing has moved, and of a new
            face.
    """

    thumb: Image
    flow: Floats | None = None


class DeviceSteadier(Memory[Seen]):
    """Remembers faces on the device."""

    def look_back(
        self, ids: Sequence[int], crops: Sequence[Crop], pictures: Sequence[Image],
        beside: Executor,
    ) -> Callable[[], list[Moved]]:  # fmt: skip
        """Begin to find how faces have moved; what is given waits for it.

        Args:
            ids: the tracks'.
            crops: of this frame.
            pictures: their pixels, (S, S, 3) uint8 RGB.
            beside: threads for it.
        """

        def look(last: Seen | None, crop: Crop, picture: Image) -> Moved:
            thumb = make_thumb(picture)
            return Moved(thumb, last and find_flow(crop, thumb, last.crop, last.thumb))

        lasts = [self._seen.get(key) for key in ids]
        looked = beside.map(look, lasts, crops, pictures)
        return lambda: list(looked)

    def recall(
        self, id: int, crop: Crop, moved: Moved, scale: int, device: torch.device
    ) -> tuple[Seen, NDArray[np.float32]]:
        """What a face was last shown as, and how it has moved since.

        Args:
            id: the track's.
            crop: its crop in this frame.
            moved: what :meth:`look_back` found.
            scale: output scale.
            device: where blanks are made, of a face that is new.

        Returns:
            It, in the crop's size; and (MOVE_NUMBERS,): how far the crop lies to the right of and
            below the last one, how large that was, 0 for nothing, whether anything has moved, 1 or
            0, and the two planes of :func:`cagface_core.steady.find_flow`.
        """
        moves = np.zeros(MOVE_NUMBERS, np.float32)
        last, side = self._seen.get(id), crop.size
        if last is None or last.enhanced.shape[-1] != scale * last.crop.size:
            blanks = (torch.zeros(1, 3, k * side, k * side, device=device) for k in (1, scale))
            return Seen(crop, moved.thumb, *blanks), moves
        if moved.flow is not None:
            moves[3], moves[4:] = 1, moved.flow.transpose(2, 0, 1).ravel()
        extent = min(side, last.crop.size)
        if last.crop.size != side:
            last = _in_size(last, crop, scale)
        moves[:3] = crop.x - last.crop.x, crop.y - last.crop.y, extent
        return last, moves

    def keep(self, id: int, seen: Seen) -> None:
        """Remember what a face is shown as."""
        self._seen[id] = seen


def _in_size(last: Seen, crop: Crop, scale: int) -> Seen:
    """A face as last shown, in the size of its new crop: what is nearest to it, or all and more."""
    most = max(0, last.crop.size - crop.size)
    left, top = (
        min(max(now - before, 0), most)
        for now, before in ((crop.x, last.crop.x), (crop.y, last.crop.y))
    )
    right, bottom = (crop.size - last.crop.size + start for start in (left, top))
    around = -left, right, -top, bottom
    return Seen(
        Crop(last.crop.x + left, last.crop.y + top, crop.size),
        last.thumb,
        F.pad(last.blurred, around),
        F.pad(last.enhanced, tuple(scale * pixels for pixels in around)),
    )


def mix(
    enhanced: Tensor, blurred: Tensor, last_enhanced: Tensor, last_blurred: Tensor, moves: Tensor
) -> Tensor:
    """Blend the last pictures in, where they show what is there now.

    Args:
        enhanced: (N, 3, scale*S, scale*S) in levels.
        blurred: (N, 3, S, S), their inputs after :func:`blur`.
        last_enhanced: as last shown.
        last_blurred: likewise.
        moves: (N, MOVE_NUMBERS) of :meth:`DeviceSteadier.recall`.

    Returns:
        The steadied pictures, (N, 3, scale*S, scale*S).
    """
    still, enhanced = _mix_still(enhanced, blurred, last_enhanced, last_blurred, moves[:, :3])
    side, scale = blurred.shape[-1], enhanced.shape[-1] // blurred.shape[-1]
    flow = moves[:, 4:].view(len(moves), 2, FLOW_PX, FLOW_PX)
    there = _places(flow, moves, side, 1)
    change = (blurred - _sample(last_blurred, there)).abs().amax(1, keepdim=True)
    inside = ((there >= 0) & (there <= moves[:, 2, None, None, None] - 1)).all(1, keepdim=True)
    change = torch.where(inside, change, 2 * SAME_LEVELS)
    weight = SHARE * _weigh(change, SAME_LEVELS) * (1 - still) * moves[:, 3, None, None, None]
    moved = _sample(last_enhanced, _places(flow, moves, side, scale))
    return enhanced + _enlarged(weight, enhanced) * (moved - enhanced)


def _mix_still(
    enhanced: Tensor, blurred: Tensor, last_enhanced: Tensor, last_blurred: Tensor, heads: Tensor
) -> tuple[Tensor, Tensor]:
    """Blend in where both show a still pixel; how much of it, (N, 1, S, S), and the result."""
    side, scale = blurred.shape[-1], enhanced.shape[-1] // blurred.shape[-1]
    right, down, extent = heads.long()[:, :, None].unbind(1)
    at = torch.arange(side, device=blurred.device)
    starts = [(-step).clamp(min=0) for step in (down, right)]
    ends = [(extent - step).clamp(max=side) for step in (down, right)]
    known = (ends[0] - starts[0] >= 2) & (ends[1] - starts[1] >= 2)
    rows, columns = ((at >= a) & (at < b) & known for a, b in zip(starts, ends, strict=True))
    shared = rows[:, None, :, None] & columns[:, None, None, :]
    change = luminance(blurred - _shifted(last_blurred, down, right)).abs() * shared
    weight = _weigh(change, STILL_LEVELS)
    # Beyond what is shared its edge goes on, so that enlarging mixes nothing else into it.
    inner = [at.clamp(a, b - 1).clamp(min=0) for a, b in zip(starts, ends, strict=True)]
    which = torch.arange(len(heads), device=heads.device)[:, None, None]
    edged = weight[:, 0][which, inner[0][:, :, None], inner[1][:, None, :]][:, None]
    size = enhanced.shape[-2:]
    share = SHARE * _enlarged(edged, enhanced) * F.interpolate(shared.to(weight), size=size)
    last = _shifted(last_enhanced, scale * down, scale * right)
    return weight * shared, enhanced + share * (last - enhanced)


def _shifted(x: Tensor, down: Tensor, right: Tensor) -> Tensor:
    """Pixels of (N, C, S, S) from so far below and to the right, (N, 1) each; its edge beyond."""
    at, most = torch.arange(x.shape[-1], device=x.device), x.shape[-1] - 1
    rows, columns = ((at + step).clamp(0, most) for step in (down, right))
    which = torch.arange(len(x), device=x.device)[:, None, None]
    return x.permute(0, 2, 3, 1)[which, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def _places(flow: Tensor, moves: Tensor, side: int, scale: int) -> Tensor:
    """Where the pixels of crops, ``scale`` times as large, were in those before: (N, 2, ...)."""
    at = torch.arange(scale * side, device=flow.device, dtype=flow.dtype)
    size = (scale * side, scale * side)
    large = F.interpolate(flow, size=size, mode="bilinear", align_corners=False)
    here = torch.stack([at.expand(size), at[:, None].expand(size)])
    return here + scale * (large + moves[:, :2, None, None])


def _sample(x: Tensor, there: Tensor) -> Tensor:
    """Take the pixels of (N, C, S, S) at ``there``; beyond the border its edge goes on."""
    grid = (2 * there + 1) / x.shape[-1] - 1
    return F.grid_sample(
        x, grid.permute(0, 2, 3, 1), mode="bilinear", padding_mode="border", align_corners=False
    )


def _weigh(change: Tensor, limit_levels: float) -> Tensor:
    """How surely pixels show the same, 0 to 1, by how much they differ; (N, 1, S, S)."""
    return (1 - F.max_pool2d(change, 3, 1, 1) / limit_levels).clamp(0, 1)


def _enlarged(weight: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(weight, size=like.shape[-2:], mode="bilinear", align_corners=False)


def blur(x: Tensor) -> Tensor:
    """Blur (N, 3, H, W) as OpenCV does by ``BLUR_PX``: four deviations far, borders mirrored."""
    kernel = _blur_kernel(x.device, x.dtype)
    radius = kernel.shape[-1] // 2
    planes = F.pad(x, (radius, radius, radius, radius), mode="reflect").flatten(0, 1)[:, None]
    blurred = F.conv2d(F.conv2d(planes, kernel), kernel.transpose(2, 3))
    return blurred.view(x.shape)


@cache
def _blur_kernel(device: torch.device, dtype: torch.dtype) -> Tensor:
    """The kernel, (1, 1, 1, K); made once: on a GPU its seven steps cost as much as a blur."""
    radius = round(4 * BLUR_PX)
    kernel = torch.exp(-0.5 * (torch.arange(-radius, radius + 1, dtype=dtype) / BLUR_PX) ** 2)
    return (kernel / kernel.sum())[None, None, None].to(device)
