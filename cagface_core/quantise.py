"""A folded network and crops of faces in; the network with most of its work in 8 bit out.

The convolutions of the residual units and tails are quantised, for what they add is small; and the
last upsampler, the largest of all, where that costs little, as in networks for degraded faces. The
stems and the first upsampler carry the picture itself and stay: rounded too, a face at rest would
shimmer clearly more.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from cagface_core.cagface import ResidualUnit
from cagface_core.errors import WeightsError
from cagface_core.fold import FoldedCAGFace

LAST = "upsampler2"
"""The layer that is quantised only where the ranges hold it."""

_HEADROOM = 1.2

FACT = "activation_ranges"
"""The fact of a weights file that holds, by layer, the least and greatest input to be expected."""

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
    """Watch what goes into each convolution that :func:`quantised` can change.

    Args:
        network: float32, on the processor.
        blocks: (N, C, H, W) each, in [-1, 1]: crops of faces with their attention.

    Returns:
        By layer's name, the least and greatest value, and a fifth more, as cutting off what is
        stronger yet costs more than coarser steps; of :data:`LAST` those of the channels in which
        all but one in 20,000 at either end are, for its steps are seen.
    """
    ranges: dict[str, list[float]] = {}
    last: list[Tensor] = []

    def watch(name: str) -> object:
        def look(_module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            if name == LAST:
                last.append(inputs[0][..., ::3, ::3].transpose(0, 1).flatten(1))
                return
            low, high = ranges.setdefault(name, [0.0, 0.0])
            least, most = (_HEADROOM * edge.item() for edge in inputs[0].aminmax())
            ranges[name] = [min(low, least), max(high, most)]

        return look

    hooks = [conv.register_forward_pre_hook(watch(name)) for name, conv in _layers(network)]  # pyright: ignore[reportArgumentType]
    for block in blocks:
        network(block)
    for hook in hooks:
        hook.remove()
    values = torch.cat(last, dim=1).sort(dim=1).values
    rare = values.shape[1] // 20_000
    ranges[LAST] = [
        min(0.0, values[:, rare].min().item()), max(0.0, values[:, -1 - rare].max().item())
    ]  # fmt: skip
    return ranges


def quantised(network: FoldedCAGFace, ranges: Ranges) -> FoldedCAGFace:
    """Put 8-bit rounding into a copy of the network.

    It computes in floating point what an 8-bit engine computes, and such an engine finds its
    scales in it: inputs by the ranges, weights per output channel.

    Raises:
        KeyError: the ranges are of another network.
    """
    copied = copy.deepcopy(network)
    for name, conv in list(_layers(copied)):
        if name == LAST and LAST not in ranges:
            continue
        parent, _, own = name.rpartition(".")
        low, high = ranges[name]
        levels = smooth_levels if name == LAST else weight_levels
        setattr(copied.get_submodule(parent), own, _Rounded(conv, low, high, levels))
    return copied


def _layers(network: FoldedCAGFace) -> Iterator[tuple[str, nn.Conv2d]]:
    """The convolutions of the residual units and the tails, and :data:`LAST`, by name."""
    for stage, backbone in (("backbone1", network.backbone1), ("backbone2", network.backbone2)):
        for k in range(len(backbone.units)):
            unit = backbone.units.get_submodule(str(k))
            assert isinstance(unit, ResidualUnit)
            yield f"{stage}.units.{k}.conv1", unit.conv1
            yield f"{stage}.units.{k}.conv2", unit.conv2
        yield f"{stage}.tail", backbone.tail
    yield LAST, network.upsampler2


def weight_scales(weight: Tensor) -> Tensor:
    """What one step of 8 bit is worth, (C',), for the weights (C', C, H, W) of each output."""
    return weight.abs().amax((1, 2, 3)).clamp(min=1e-8) / 127


def weight_levels(weight: Tensor, scales: Tensor) -> Tensor:
    """Round weights (C', C, H, W) to whole steps, float32, from -127 to 127."""
    return (weight / scales[:, None, None, None]).round()


def smooth_levels(weight: Tensor, scales: Tensor) -> Tensor:
    """Do what :func:`weight_levels` does so that the errors of a kernel cancel on smooth pictures.

    What rounding one weight of a kernel changes, the ones after it make good, as in GPTQ; features
    are taken to be as alike from pixel to pixel as :data:`_ALIKE` says, so no picture is needed. Of
    what rounding the last upsampler's weights costs, two thirds go.
    """
    count = weight[0, 0].numel()
    steps = (weight / scales[:, None, None, None]).double().reshape(-1, count)
    rows, columns = (_ALIKE ** _apart(side) for side in weight.shape[2:])
    inverse = np.linalg.inv(np.kron(rows, columns))
    shares = torch.from_numpy(np.linalg.cholesky(inverse).T.copy())
    levels = torch.empty_like(steps)
    for at in range(count):
        levels[:, at] = steps[:, at].round().clamp(-127, 127)
        error = (steps[:, at] - levels[:, at]) / shares[at, at]
        steps[:, at:] -= error[:, None] * shares[at, at:]
    return levels.float().reshape(weight.shape)


def _apart(count: int) -> NDArray[np.float64]:
    """How far numbers from 0 to ``count`` are apart, each from each."""
    return np.abs(np.subtract.outer(np.arange(count), np.arange(count))).astype(np.float64)


_ALIKE = 0.8
"""The correlation of features at neighbouring pixels that rounding assumes."""


class _Rounded(nn.Module):
    """A convolution whose input and weights take 256 values each."""

    def __init__(
        self, conv: nn.Conv2d, low: float, high: float, levels: Callable[[Tensor, Tensor], Tensor]
    ) -> None:  # fmt: skip
        super().__init__()
        self.conv = conv
        signed = low < 0
        self.scale = max(-low, high, 1e-6) / (127 if signed else 255)
        self.limits = (-128, 127) if signed else (0, 255)
        weight = conv.weight.detach()
        self.scales = nn.Buffer(weight_scales(weight))
        self.zeros = nn.Buffer(torch.zeros(len(self.scales), dtype=torch.int32))
        self.weight = nn.Buffer(levels(weight, self.scales) * self.scales[:, None, None, None])

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C', H, W)."""
        x = torch.fake_quantize_per_tensor_affine(x, self.scale, 0, *self.limits)
        weight = torch.fake_quantize_per_channel_affine(
            self.weight, self.scales, self.zeros, 0, -128, 127
        )
        return F.conv2d(x, weight, self.conv.bias, padding=self.conv.padding)
