"""A folded network and crops of faces in; the network with its residual branches in 8 bit out.

Only the convolutions of the residual units and tails are quantised: they are most of the work, and
what they add is small. The stems and upsamplers carry the picture itself, which 8 bit would show:
with them too, the shipped networks lose more than a decibel instead of a hundredth.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cagface_core.cagface import ResidualUnit
from cagface_core.errors import WeightsError
from cagface_core.fold import FoldedCAGFace

FACT = "activation_ranges"
"""The fact of a weights file that holds, by layer, the least and greatest input seen."""

Ranges = Mapping[str, Sequence[float]]


def ranges_of(facts: Mapping[str, Any]) -> Ranges:
    """The ranges that a weights file holds.

    Raises:
        WeightsError: it holds none.
    """
    if FACT not in facts:
        raise WeightsError(
            f"these weights hold no {FACT}, which int8 needs; add them with "
            "'python -m cagface_core.train.ranges --data DIR FILE', or choose another --device"
        )
    return facts[FACT]


@torch.inference_mode()
def find_ranges(network: FoldedCAGFace, blocks: Iterable[Tensor]) -> dict[str, list[float]]:
    """Watch what goes into each convolution that :func:`quantised` changes.

    Args:
        network: float32, on the processor.
        blocks: (N, C, H, W) each, in [-1, 1]: crops of faces with their attention.

    Returns:
        By layer's name, the least and greatest value.
    """
    ranges: dict[str, list[float]] = {}

    def watch(name: str) -> object:
        def look(_module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            low, high = ranges.setdefault(name, [0.0, 0.0])
            ranges[name] = [min(low, inputs[0].min().item()), max(high, inputs[0].max().item())]

        return look

    hooks = [conv.register_forward_pre_hook(watch(name)) for name, conv in _branches(network)]  # pyright: ignore[reportArgumentType]
    for block in blocks:
        network(block)
    for hook in hooks:
        hook.remove()
    return ranges


def quantised(network: FoldedCAGFace, ranges: Ranges) -> FoldedCAGFace:
    """Put 8-bit rounding into a copy of the network.

    It computes in floating point what an 8-bit engine computes, and such an engine finds its
    scales in it: inputs by the ranges, weights per output channel.

    Raises:
        KeyError: the ranges are of another network.
    """
    copied = copy.deepcopy(network)
    for name, conv in list(_branches(copied)):
        parent, _, own = name.rpartition(".")
        low, high = ranges[name]
        setattr(copied.get_submodule(parent), own, _Rounded(conv, low, high))
    return copied


def _branches(network: FoldedCAGFace) -> Iterator[tuple[str, nn.Conv2d]]:
    """The convolutions of the residual units and the tails, by name."""
    for stage, backbone in (("backbone1", network.backbone1), ("backbone2", network.backbone2)):
        for k in range(len(backbone.units)):
            unit = backbone.units.get_submodule(str(k))
            assert isinstance(unit, ResidualUnit)
            yield f"{stage}.units.{k}.conv1", unit.conv1
            yield f"{stage}.units.{k}.conv2", unit.conv2
        yield f"{stage}.tail", backbone.tail


def weight_scales(weight: Tensor) -> Tensor:
    """What one step of 8 bit is worth, (C',), for the weights (C', C, H, W) of each output."""
    return weight.abs().amax((1, 2, 3)).clamp(min=1e-8) / 127


class _Rounded(nn.Module):
    """A 3x3 convolution whose input and weights take 256 values each."""

    def __init__(self, conv: nn.Conv2d, low: float, high: float) -> None:
        super().__init__()
        self.conv = conv
        signed = low < 0
        self.scale = max(-low, high, 1e-6) / (127 if signed else 255)
        self.limits = (-128, 127) if signed else (0, 255)
        self.scales = nn.Buffer(weight_scales(conv.weight.detach()))
        self.zeros = nn.Buffer(torch.zeros(len(self.scales), dtype=torch.int32))

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C', H, W)."""
        x = torch.fake_quantize_per_tensor_affine(x, self.scale, 0, *self.limits)
        weight = torch.fake_quantize_per_channel_affine(
            self.conv.weight, self.scales, self.zeros, 0, -128, 127
        )
        return F.conv2d(x, weight, self.conv.bias, padding=1)
