"""A network and the shape of its input in; how many multiply-adds its convolutions take, out."""

from __future__ import annotations

import copy
import math
from typing import Any

import torch
from torch import Tensor, nn


def multiply_adds(network: nn.Module, shape: tuple[int, int, int, int]) -> int:
    """Count what one call of a network multiplies, layer by layer, exactly.

    The network runs on shapes alone, without numbers, so that every layer's true output size
    counts, with the padding of the linear chains. Biases, activations, skips and padding are left
    out: together they are about one in a hundred.

    Args:
        network: of `Conv2d` and `ConvTranspose2d`, and layers without weights.
        shape: of its input, (N, C, H, W).

    Raises:
        ValueError: a layer with weights is of a kind that is not counted here.
    """
    counts: list[int] = []

    def count(layer: nn.Module, inputs: Any, output: Tensor) -> None:
        if isinstance(layer, nn.Conv2d):
            per_pixel = layer.in_channels // layer.groups * math.prod(layer.kernel_size)
            counts.append(output.numel() * per_pixel)
        elif isinstance(layer, nn.ConvTranspose2d):
            per_pixel = layer.out_channels // layer.groups * math.prod(layer.kernel_size)
            counts.append(inputs[0].numel() * per_pixel)
        else:
            raise ValueError(f"cannot count the multiply-adds of a {type(layer).__name__}")

    shadow = copy.deepcopy(network).to("meta")
    for layer in shadow.modules():
        if any(True for _ in layer.parameters(recurse=False)) and not isinstance(layer, nn.PReLU):
            layer.register_forward_hook(count)
    dtype = next(shadow.parameters()).dtype
    with torch.inference_mode():
        shadow(torch.empty(shape, device="meta", dtype=dtype))
    return sum(counts)
