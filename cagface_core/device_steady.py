"""Enhanced faces and those before in; the faces out, steadied: :mod:`cagface_core.steady` there.

The same formula in torch, for where the faces never leave the device. What a track was last shown
as is brought to where its crop lies now, so that all faces of a frame are steadied at once, and
what differs from face to face are numbers on the device.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from cagface_core.attention import luminance
from cagface_core.steady import BLUR_PX, SHARE, STILL_LEVELS, Memory
from cagface_core.types import Crop

Box = tuple[int, int, int, int]

_NOWHERE: Box = (0, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class Seen:
    """A face as last shown.

    Attributes:
        crop: where it lay.
        luminance: (1, 1, S, S) of its crop, blurred.
        enhanced: (1, 3, scale*S, scale*S), the enhanced picture, in levels.
    """

    crop: Crop
    luminance: Tensor
    enhanced: Tensor


class DeviceSteadier(Memory[Seen]):
    """Remembers faces on the device."""

    def recall(self, id: int, crop: Crop, scale: int, device: torch.device) -> tuple[Seen, Box]:
        """What a face was last shown as, brought to where its crop lies now.

        Args:
            id: the track's.
            crop: its crop in this frame.
            scale: output scale.
            device: where blanks are made, of a face that is new.

        Returns:
            It, and what both crops show: top, left, bottom, right in pixels of ``crop``, all 0 for
            nothing.
        """
        last, side = self._seen.get(id), crop.size
        if last is None or last.enhanced.shape[-1] != scale * last.crop.size:
            return _blank(crop, scale, device), _NOWHERE
        left, top = last.crop.x - crop.x, last.crop.y - crop.y
        box = (
            max(top, 0),
            max(left, 0),
            min(top + last.crop.size, side),
            min(left + last.crop.size, side),
        )
        if min(box[2] - box[0], box[3] - box[1]) < 2:
            return _blank(crop, scale, device), _NOWHERE
        if last.crop == crop:
            return last, box
        around = left, side - left - last.crop.size, top, side - top - last.crop.size
        luminance = F.pad(last.luminance, around)
        enhanced = F.pad(last.enhanced, tuple(scale * pixels for pixels in around))
        return Seen(crop, luminance, enhanced), box

    def keep(self, id: int, seen: Seen) -> None:
        """Remember what a face is shown as."""
        self._seen[id] = seen


def _blank(crop: Crop, scale: int, device: torch.device) -> Seen:
    side = crop.size
    return Seen(
        crop,
        torch.zeros(1, 1, side, side, device=device),
        torch.zeros(1, 3, scale * side, scale * side, device=device),
    )


def blurred_luminance(pictures: Tensor) -> Tensor:
    """What is compared of (N, 3, S, S): (N, 1, S, S), blurred so that noise is not motion."""
    return _blur(luminance(pictures))


def mix(
    enhanced: Tensor, blurred: Tensor, last_enhanced: Tensor, last_blurred: Tensor, boxes: Tensor
) -> Tensor:
    """Blend the last pictures in where both crops show a still pixel.

    Args:
        enhanced: (N, 3, scale*S, scale*S) in levels.
        blurred: their :func:`blurred_luminance`, (N, 1, S, S).
        last_enhanced: as last shown, where the crops lie now.
        last_blurred: likewise.
        boxes: (N, 4) int64 of :meth:`DeviceSteadier.recall`.

    Returns:
        The steadied pictures, (N, 3, scale*S, scale*S).
    """
    at = torch.arange(blurred.shape[-1], device=blurred.device)
    top, left, bottom, right = boxes[:, :, None].unbind(1)
    rows, columns = (at >= top) & (at < bottom), (at >= left) & (at < right)
    shared = rows[:, None, :, None] & columns[:, None, None, :]
    change = F.max_pool2d((blurred - last_blurred).abs() * shared, 3, 1, 1)
    weight = SHARE * (1 - change / STILL_LEVELS).clamp(0, 1)
    # Beyond what is shared its edge goes on, so that enlarging mixes nothing else into it.
    which = torch.arange(len(boxes), device=boxes.device)[:, None, None]
    inner_rows = at.clamp(top, bottom - 1)[:, :, None]
    inner_columns = at.clamp(left, right - 1)[:, None, :]
    weight = weight[:, 0][which, inner_rows, inner_columns][:, None]
    size = enhanced.shape[-2:]
    weight = F.interpolate(weight, size=size, mode="bilinear", align_corners=False)
    weight = weight * F.interpolate(shared.to(weight), size=size, mode="nearest")
    return enhanced + weight * (last_enhanced - enhanced)


def _blur(x: Tensor) -> Tensor:
    """Blur (N, 1, H, W) as OpenCV does by ``BLUR_PX``: four deviations far, borders mirrored."""
    kernel = _blur_kernel(x.device, x.dtype)
    radius = kernel.shape[-1] // 2
    x = F.pad(x, (radius, radius, radius, radius), mode="reflect")
    return F.conv2d(F.conv2d(x, kernel), kernel.transpose(2, 3))


@cache
def _blur_kernel(device: torch.device, dtype: torch.dtype) -> Tensor:
    """The kernel, (1, 1, 1, K); made once: on a GPU its seven steps cost as much as a blur."""
    radius = round(4 * BLUR_PX)
    kernel = torch.exp(-0.5 * (torch.arange(-radius, radius + 1, dtype=dtype) / BLUR_PX) ** 2)
    return (kernel / kernel.sum())[None, None, None].to(device)
