"""A network in; the same with what surrounds its convolutions done within them, out.

On processors ReLU and the residual's addition happen as a convolution stores its result, not in
passes of their own over memory. oneDNN's operators are those that torch's own compiler uses; where
a torch has them not, the network stays as it was.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from itertools import pairwise
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from cagface_core.cagface import Backbone, ResidualUnit
from cagface_core.fold import FoldedCAGFace

log = logging.getLogger(__name__)

ModuleT = TypeVar("ModuleT", bound=nn.Module)

_RELU: tuple[Any, ...] = ("relu", [], "")
_ADDED: tuple[Any, ...] = ("add", 1.0, None, [], None)


def fuse(network: FoldedCAGFace) -> None:
    """Make a network faster on a processor, in place; for inference only.

    Args:
        network: on the processor, channels last, in the precision that it is to compute in. Its
            results change by the rounding of that precision.
    """
    if not torch.backends.mkldnn.is_available():
        return
    try:
        faster = [FusedBackbone(backbone) for backbone in (network.backbone1, network.backbone2)]
        with torch.inference_mode():
            faster[0](network.stem1.weight.new_zeros(1, network.config.features, 8, 8))
    except (AttributeError, RuntimeError, TypeError) as error:  # no public operators: no promises
        log.debug("no fused convolutions here: %s", error)
        return
    network.register_module("backbone1", faster[0])
    network.register_module("backbone2", faster[1])


def fold_norms(network: ModuleT) -> ModuleT:
    """Fold each batch normalisation behind a convolution into that, in place; for inference only.

    Args:
        network: in evaluation mode. Only where the two follow each other in an ``nn.Sequential``.
    """
    for module in list(network.modules()):
        if isinstance(module, nn.Sequential):
            for k, (layer, norm) in enumerate(pairwise(list(module))):
                if isinstance(layer, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                    module[k], module[k + 1] = fuse_conv_bn_eval(layer, norm), nn.Identity()
    return network


class FusedBackbone(nn.Module):
    """A :class:`cagface_core.cagface.Backbone` with fused convolutions."""

    def __init__(self, backbone: Backbone) -> None:
        """Lay its weights out for oneDNN."""
        super().__init__()
        units = cast("Iterable[ResidualUnit]", backbone.units)
        self.units = [(_Conv(unit.conv1), _Conv(unit.conv2)) for unit in units]
        self.tail = _Conv(backbone.tail)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, F, H, W) to the same shape."""
        y, total = x.clone(), x.clone()
        for conv1, conv2 in self.units:
            conv2.add_to(y, conv1.rectified(y))
        self.tail.add_to(total, y)
        return total


class _Conv:
    """A convolution, its weights laid out for oneDNN, which a small picture has no time to do.

    Only between equal widths: with two threads, 128 channels to 48 took ten times as long.
    """

    def __init__(self, layer: nn.Conv2d) -> None:
        self.shape = layer.padding, layer.stride, layer.dilation, layer.groups
        lay_out: Any = torch.ops.aten.mkldnn_reorder_conv2d_weight
        self.weight: Tensor = lay_out(layer.weight.detach().to_mkldnn(), *self.shape)
        self.bias = layer.bias

    def rectified(self, x: Tensor) -> Tensor:
        """Convolve (N, C, H, W), then ReLU."""
        return torch.ops.mkldnn._convolution_pointwise(
            x, self.weight, self.bias, *self.shape, *_RELU
        )

    def add_to(self, total: Tensor, x: Tensor) -> None:
        """Add the convolved ``x`` to ``total``, in place."""
        torch.ops.mkldnn._convolution_pointwise_.binary(
            total, x, self.weight, self.bias, *self.shape, *_ADDED
        )
