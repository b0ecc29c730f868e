"""A network and the ranges of its activations in; the same with most of its work in 8 bit out.

Processors with VNNI multiply 8-bit numbers two to four times as often as float32; many laptops
have it, and few of these know bfloat16. The operators are oneDNN's, those that torch's own compiler
uses. Between two convolutions a picture never leaves 8 bit: a unit's sum, too, is made
within its second convolution and stored rounded, for a pass over memory to round it would cost as
much as the convolution. What a backbone was given is added at its end as it came. The last
upsampler computes in 8 bit where the ranges hold it, see :mod:`cagface_core.quantise`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any, cast

import torch
from torch import Tensor, nn

from cagface_core.cagface import (
    Backbone,
    ResidualUnit,
    pad_channels_last,
    pad_context,
)
from cagface_core.fold import FoldedCAGFace, fold, trial
from cagface_core.quantise import (
    LAST,
    Ranges,
    find_ranges,
    smooth_levels,
    weight_levels,
    weight_scales,
)

log = logging.getLogger(__name__)

_MOST_ERROR = 0.1
"""Of the picture's deviation: several times what rounding does, far below what a fault would do."""


def quantise(network: FoldedCAGFace, ranges: Ranges) -> None:
    """Put 8-bit layers into a network, in place; for inference only.

    Args:
        network: float32, on the processor.
        ranges: of :func:`cagface_core.quantise.find_ranges`.

    Raises:
        KeyError: the ranges are of another network.
        AttributeError, RuntimeError: this torch has no such operators.
    """
    for stage in ("backbone1", "backbone2"):
        backbone = cast("Backbone", network.get_submodule(stage))
        network.register_module(stage, Int8Backbone(backbone, stage, ranges))
    if LAST in ranges:
        network.register_module(LAST, Int8Upsampler(network.upsampler2, ranges[LAST]))


@cache
def computes_int8() -> bool:
    """Whether 8 bit can be had here: a small network gives, but for rounding, what it should."""
    network, block = trial()
    ranges, faster = find_ranges(network, [block]), fold(network)
    try:
        with torch.inference_mode():
            quantise(faster, ranges)
            expected = network(block)
            error = (faster(block) - expected).square().mean().sqrt() / expected.std()
        if not error < _MOST_ERROR:
            raise RuntimeError(f"it differs from floating point by {float(error):.2g}")
    except (AttributeError, RuntimeError, TypeError) as problem:  # none of it is public
        log.debug("no 8-bit convolutions here: %s", problem)
        return False
    return True


class Int8Backbone(nn.Module):
    """A :class:`cagface_core.cagface.Backbone` that computes in 8 bit."""

    def __init__(self, backbone: Backbone, stage: str, ranges: Ranges) -> None:
        """Round its weights and lay them out for oneDNN."""
        super().__init__()
        units = cast("Iterable[ResidualUnit]", backbone.units)
        pairs = [
            (
                _Conv(unit.conv1, ranges[f"{stage}.units.{k}.conv1"]),
                _Conv(unit.conv2, ranges[f"{stage}.units.{k}.conv2"]),
            )
            for k, unit in enumerate(units)
        ]
        self.tail = _Conv(backbone.tail, ranges[f"{stage}.tail"])
        firsts = [*(conv1 for conv1, _ in pairs), self.tail]
        self.first = firsts[0]
        self.units = [(*pair, after) for pair, after in zip(pairs, firsts[1:], strict=True)]

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, F, H, W) to the same shape and type."""
        y = self.first.rounded(x)
        for conv1, conv2, after in self.units:
            hidden = conv1.rectified(y, conv2)
            y = conv2.added(hidden, y, conv1, after)
        return self.tail.added_whole(y, x)


class Int8Upsampler(nn.Module):
    """The last upsampler, of a padded picture, in 8 bit."""

    def __init__(self, layer: nn.Conv2d, limits: Iterable[float]) -> None:
        """Round its weights and lay them out for oneDNN."""
        super().__init__()
        self._conv = _Conv(layer, limits, smooth_levels)
        self._reach = layer.kernel_size[0] // 2

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C', H - K + 1, W - K + 1) of the same type."""
        return self._conv.plain(self._conv.rounded(x), x.dtype)

    def leave_with(self, features: Tensor, features1: Tensor) -> Tensor:
        """What :meth:`cagface_core.fold.FoldedCAGFace.leave_with` does, with less to carry."""
        parts = [self._conv.rounded(part) for part in (features, features1)]
        levels = _padded(torch.cat(parts, dim=1), self._reach)
        return self._conv.plain(levels, features.dtype)


def _padded(levels: Tensor, pixels: int) -> Tensor:
    """Pad (N, C, H, W) uint8, channels last, with the replicated pixels, four channels at a time.

    torch pads bytes one by one, in ten times the time; where C is not a multiple of 4, so does it.
    """
    if levels.shape[1] % 4:
        return pad_channels_last(levels, pixels)
    words = levels.permute(0, 2, 3, 1).view(torch.float32).permute(0, 3, 1, 2)
    return pad_context(words, pixels).permute(0, 2, 3, 1).view(torch.uint8).permute(0, 3, 1, 2)


class _Conv:
    """A convolution whose input takes 256 values, and so does each output channel's weight."""

    def __init__(
        self, layer: nn.Conv2d, limits: Iterable[float],
        round_to: Callable[[Tensor, Tensor], Tensor] = weight_levels,
    ) -> None:  # fmt: skip
        low, high = limits
        self.scale = max(high - low, 1e-6) / 255
        self.zero = round(-low / self.scale)
        weight = layer.weight.detach().float()
        scales, zeros = weight_scales(weight), torch.zeros(len(weight), dtype=torch.int64)
        levels = round_to(weight, scales).to(torch.int8)
        # Stride, padding, dilation, groups.
        self._shape: tuple[Any, ...] = ([1, 1], list(layer.padding), [1, 1], 1)
        lay_out: Any = torch.ops.onednn.qconv_prepack
        laid_out: Tensor = lay_out(levels, scales, self.scale, self.zero, *self._shape)
        self._bias = None if layer.bias is None else layer.bias.detach().float()
        self._run: Any = torch.ops.onednn.qconv2d_pointwise
        self._weight = laid_out, scales, zeros

    def rounded(self, x: Tensor) -> Tensor:
        """Bring (N, C, H, W) to the values that the convolution's input takes, as uint8."""
        levels = (x * (1 / self.scale)).float().add_(self.zero + 0.5)
        return levels.clamp_(0, 255).to(torch.uint8, memory_format=torch.channels_last)

    def plain(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        """Convolve, and no more, into floating point."""
        return self._run(
            x, self.scale, self.zero, *self._weight, self._bias, *self._shape,
            1.0, 0, dtype, "none", [], "",
        )  # fmt: skip

    def rectified(self, x: Tensor, after: _Conv) -> Tensor:
        """Convolve, then ReLU, for ``after``."""
        return self._run(
            x, self.scale, self.zero, *self._weight, self._bias, *self._shape,
            after.scale, after.zero, torch.uint8, "relu", [], "",
        )  # fmt: skip

    def added(self, x: Tensor, total: Tensor, of: _Conv, after: _Conv) -> Tensor:
        """Convolve, add ``total``, which was made for ``of``, and round for ``after``."""
        return self._run.binary(
            x, self.scale, self.zero, *self._weight, total, self._bias, *self._shape,
            after.scale, after.zero, torch.uint8, of.scale, of.zero, "sum", 1.0, "none", [], "",
        )  # fmt: skip

    def added_whole(self, x: Tensor, total: Tensor) -> Tensor:
        """Convolve and add ``total``, in floating point."""
        return self._run.binary(
            x, self.scale, self.zero, *self._weight, total.clone(), self._bias, *self._shape,
            1.0, 0, total.dtype, 1.0, 0, "sum", 1.0, "none", [], "",
        )  # fmt: skip
