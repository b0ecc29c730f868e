"""A trained network in, a larger one that computes the same out: a head start for its training."""

from __future__ import annotations

import torch
from torch import nn

from cagface_core.cagface import CAGFace, CAGFaceConfig
from cagface_core.errors import ConfigError
from cagface_core.fold import FoldedCAGFace


@torch.no_grad()
def widen(small: CAGFace | FoldedCAGFace, config: CAGFaceConfig) -> CAGFace | FoldedCAGFace:
    """Grow a network, folded or not, to ``config`` without changing what it computes.

    As in Net2Net (Chen et al. 2016), but with zeros in place of split weights:
    the old features keep their channels and read nothing from the new ones yet; the new ones
    start as in a fresh network, so that gradients find them at once. New units start as identity.

    Raises:
        ConfigError: ``config`` is smaller somewhere, or differs in what it takes in.
    """
    old = small.config
    grows = config.features >= old.features and config.units >= old.units
    if not grows or config.attention != old.attention:
        raise ConfigError(f"cannot grow {old} to {config}: expected as many features and units")
    large = type(small)(config)
    trained = _convolutions(small)
    for name, module in _convolutions(large).items():
        if name in trained:
            # only upsampler 2 reads two groups of features: stage 2's, then stem 1's
            groups = 2 if name in ("upsampler2.0", "upsampler2") else 1
            _copy(module, trained[name], groups)
        elif name.endswith("conv2"):
            for parameter in module.parameters():
                parameter.zero_()
    return large


def _convolutions(network: nn.Module) -> dict[str, nn.Conv2d]:
    """The convolutions of a network by name."""
    return {n: m for n, m in network.named_modules() if isinstance(m, nn.Conv2d)}  # pyright: ignore[reportUnknownVariableType]


def _copy(large: nn.Conv2d, small: nn.Conv2d, groups: int) -> None:
    """Copy a kernel into the leading channels; old outputs get zero weight for new inputs."""
    out = small.out_channels
    for group in range(groups):
        first = group * large.in_channels // groups
        width = small.in_channels // groups
        large.weight[:out, first : first + large.in_channels // groups] = 0
        large.weight[:out, first : first + width] = small.weight[:, group * width :][:, :width]
    assert large.bias is not None
    assert small.bias is not None
    large.bias[:out] = small.bias
