"""An enhanced face and the one before in; the face out, steadied: :mod:`cagface_core.steady` there.

The same formula in torch, for where the faces never leave the device.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from cagface_core.attention import luminance
from cagface_core.consistency import resize
from cagface_core.steady import BLUR_PX, SHARE, STILL_LEVELS, Memory
from cagface_core.types import Crop


@dataclass(slots=True)
class _Seen:
    """A face as last shown: its crop, luminance (1, 1, S, S) blurred, picture (1, 3, ...)."""

    crop: Crop
    luminance: Tensor
    enhanced: Tensor


class DeviceSteadier(Memory[_Seen]):
    """Steadies faces on the device."""

    def steady(self, id: int, crop: Crop, picture: Tensor, residual: Tensor, scale: int) -> Tensor:
        """Steady one face.

        Args:
            id: the track's.
            crop: where it lies in the frame.
            picture: (1, 3, S, S) float32 in levels of 0..255, the crop's pixels.
            residual: (3, scale*S, scale*S), what the network adds to the plain upscale, in levels.
            scale: output scale.

        Returns:
            The residual, (3, scale*S, scale*S), of the steadied picture.
        """
        side = scale * crop.size
        plain = resize(picture, side, side)
        enhanced = plain + residual
        blurred = _blur(luminance(picture))
        last = self._seen.get(id)
        if last is not None and last.enhanced.shape[-1] == scale * last.crop.size:
            _mix(enhanced, blurred, crop, last, scale)
        self._seen[id] = _Seen(crop, blurred, enhanced)
        return (enhanced - plain)[0]


def _mix(enhanced: Tensor, blurred: Tensor, crop: Crop, last: _Seen, scale: int) -> None:
    """Blend the last picture into ``enhanced``, in place, where both crops show a still pixel."""
    left, top = max(crop.x, last.crop.x), max(crop.y, last.crop.y)
    right = min(crop.x + crop.size, last.crop.x + last.crop.size)
    bottom = min(crop.y + crop.size, last.crop.y + last.crop.size)
    if right - left < 2 or bottom - top < 2:
        return

    def shared(picture: Tensor, origin: Crop, factor: int) -> Tensor:
        rows = slice((top - origin.y) * factor, (bottom - origin.y) * factor)
        columns = slice((left - origin.x) * factor, (right - origin.x) * factor)
        return picture[..., rows, columns]

    change = (shared(blurred, crop, 1) - shared(last.luminance, last.crop, 1)).abs()
    change = F.max_pool2d(change, 3, 1, 1)
    weight = SHARE * (1 - change / STILL_LEVELS).clamp(0, 1)
    now = shared(enhanced, crop, scale)
    weight = F.interpolate(weight, size=now.shape[-2:], mode="bilinear", align_corners=False)
    now += weight * (shared(last.enhanced, last.crop, scale) - now)


def _blur(x: Tensor) -> Tensor:
    """Blur (1, 1, H, W) as OpenCV does by ``BLUR_PX``: four deviations far, borders mirrored."""
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
