"""A trained CAGFace in, an equal network without its costly linear layers out.

No activation stands between a tail and its RGB output, so each upsampler, and stem 2, is one
linear map with a receptive field of 5x5 low-resolution pixels: it folds exactly into one 5x5
convolution and one pixel shuffle. At F=256, L=16 that is 2.3x fewer multiply-adds.
"""

from __future__ import annotations

import copy
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cagface_core.cagface import (
    CONTEXT_PX,
    Backbone,
    CAGFace,
    CAGFaceConfig,
    LinearChain,
    gated,
    make_gates,
    pad_context,
    stem2_channels,
    stem2_input,
)

ModuleT = TypeVar("ModuleT", bound=nn.Module)

KERNEL_PX = 2 * CONTEXT_PX + 1

_HALF_PX = KERNEL_PX + 2
"""Shrinking 4x to 2x, antialiased, reads one low-resolution pixel more on each side."""


def fold_chain(chain: LinearChain) -> tuple[Tensor, Tensor]:
    """Collapse a linear chain into one 5x5 convolution; differentiable.

    The kernel is the chain's response to unit impulses (so its first convolution costs nothing),
    the bias its response to zero.

    Args:
        chain: maps C channels to C' channels at ``scale`` times the size.

    Returns:
        weight (C' * scale**2, C, 5, 5) and bias (C' * scale**2,); a pixel shuffle by ``scale``
        after the convolution gives the chain's output.
    """
    first = chain[0]
    assert isinstance(first, nn.Conv2d)
    r = chain.scale
    impulse = torch.eye(first.in_channels, dtype=first.weight.dtype, device=first.weight.device)
    response = impulse[:, :, None, None]
    constant = response.new_zeros(1, first.in_channels, KERNEL_PX, KERNEL_PX)
    for module in chain:
        if isinstance(module, nn.Conv2d):
            response = F.conv2d(response, module.weight, padding=2)  # a 'full' convolution
        else:
            response = module(response)
        constant = module(constant)
    margin = (KERNEL_PX * r - response.shape[-1]) // 2
    response = F.pad(response, (margin, margin, margin, margin))
    weight = F.pixel_unshuffle(response, r).permute(1, 0, 2, 3).flip(2, 3)
    centre = (constant.shape[-1] - r) // 2
    constant = constant[..., centre : centre + r, centre : centre + r]
    return weight.contiguous(), F.pixel_unshuffle(constant, r).flatten()


def collapsed_forward(
    model: CAGFace | FoldedCAGFace, block: Tensor, stages: int = 2
) -> tuple[Tensor, Tensor]:
    """Compute both outputs, folding on the way; for training, where it is cheaper.

    Args:
        model: the network, unfolded or folded; gradients reach all its parameters.
        block: (N, in_channels, H, W), [-1, 1].
        stages: 1 stops after the first stage and returns ``sr2`` twice.

    Returns:
        ``sr2`` (N, 3, 2H, 2W) and ``sr4`` (N, 3, 4H, 4W).
    """
    if isinstance(model, FoldedCAGFace):
        sr2_channels, sr4 = model.outputs(block)
        return F.pixel_shuffle(sr2_channels, 2), sr4
    features1 = gated(model.gate1, model.stem1(block), block)
    sr2_channels = F.conv2d(pad_context(model.backbone1(features1)), *fold_chain(model.upsampler1))
    sr2 = F.pixel_shuffle(sr2_channels, 2)
    if stages == 1:
        return sr2, sr2
    second = pad_context(stem2_input(model.config, sr2_channels, block))
    features2 = F.conv2d(second, *fold_chain(model.stem2))
    features2 = model.backbone2(gated(model.gate2, features2, block))
    features = torch.cat([features2, features1], dim=1)
    sr4 = F.conv2d(pad_context(features), *fold_chain(model.upsampler2))
    return sr2, F.pixel_shuffle(sr4, 4)


class FoldedCAGFace(nn.Module):
    """CAGFace as it runs and ships: equal to the unfolded network, which it can also go on from."""

    def __init__(self, config: CAGFaceConfig, factor: int = 4) -> None:
        """Build the folded layers, with parameters to be filled by :func:`fold`, :func:`halved`."""
        super().__init__()
        self.config = config
        self.factor = factor
        f = config.features
        self.gate1, self.gate2 = make_gates(config)
        self.stem1 = nn.Conv2d(config.in_channels, f, 3, padding=1)
        self.backbone1 = Backbone(f, config.units)
        self.upsampler1 = nn.Conv2d(f, 12, KERNEL_PX)
        self.stem2 = nn.Conv2d(stem2_channels(config), f, KERNEL_PX)
        self.backbone2 = Backbone(f, config.units)
        last_px = KERNEL_PX if factor == 4 else _HALF_PX
        self.last_reach = last_px // 2
        self.upsampler2 = nn.Conv2d(2 * f, 3 * factor**2, last_px)

    def forward(self, block: Tensor) -> Tensor:
        """Map (N, in_channels, H, W) in [-1, 1] to (N, 3, factor*H, factor*W), about [-1, 1]."""
        return self.outputs(block)[1]

    def outputs(self, block: Tensor) -> tuple[Tensor, Tensor]:
        """Compute ``sr2`` in its space-to-depth form, (N, 12, H, W), and the picture."""
        features1 = self.enter(block)
        sr2, features2 = self.cross(features1, block)
        return sr2, F.pixel_shuffle(self.leave(features1, features2), self.factor)

    def enter(self, block: Tensor) -> Tensor:
        """Make the first features, (N, F, H, W), of a block."""
        return gated(self.gate1, self.stem1(block), block)

    def cross(self, features1: Tensor, block: Tensor) -> tuple[Tensor, Tensor]:
        """Run stage 1 and enter stage 2: ``sr2`` as in :meth:`outputs`, and its features."""
        return self.enter_again(self.backbone1(features1), block)

    def enter_again(self, features: Tensor, block: Tensor) -> tuple[Tensor, Tensor]:
        """Make ``sr2`` as in :meth:`outputs`, and stage 2's first features, of backbone 1's."""
        sr2 = self.upsampler1(pad_context(features))  # space-to-depth form
        features2 = self.stem2(pad_context(stem2_input(self.config, sr2, block)))
        return sr2, gated(self.gate2, features2, block)

    def leave(self, features1: Tensor, features2: Tensor) -> Tensor:
        """Run stage 2: (N, 3*factor**2, H, W), the picture before its pixels are shuffled."""
        return self.leave_with(self.backbone2(features2), features1)

    def leave_with(self, features: Tensor, features1: Tensor) -> Tensor:
        """Make what :meth:`leave` does, of backbone 2's features and the first ones."""
        features = torch.cat([features, features1], dim=1)
        return self.upsampler2(pad_context(features, self.last_reach))


def trial() -> tuple[FoldedCAGFace, Tensor]:
    """Make what a way of computing is tried with: a small network, and (1, C, H, W) for it.

    On the processor, float32, random, and the same every time.
    """
    generator = torch.Generator().manual_seed(0)
    network = place(FoldedCAGFace(CAGFaceConfig(16, 2)), "cpu").requires_grad_(False)
    for values in network.parameters():
        values.copy_(0.3 * torch.rand(values.shape, generator=generator) - 0.15)
    block = torch.rand(1, network.config.in_channels, 24, 32, generator=generator) * 2 - 1
    return network, block.contiguous(memory_format=torch.channels_last)


def place(module: ModuleT, device: str | torch.device) -> ModuleT:
    """Move a network to a device, channels last: the layout that convolves fastest."""
    placed = module.to(device)
    return placed.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue, reportUnknownVariableType]


@torch.no_grad()
def fold(model: CAGFace | FoldedCAGFace) -> FoldedCAGFace:
    """Fold a trained network; the result shares no memory with it and is in evaluation mode."""
    if isinstance(model, FoldedCAGFace):
        return copy.deepcopy(model).eval()
    folded = FoldedCAGFace(model.config)
    state = {
        name: value
        for name, value in model.state_dict().items()
        if name.split(".")[0] not in ("upsampler1", "stem2", "upsampler2")
    }
    for name in ("upsampler1", "stem2", "upsampler2"):
        chain = getattr(model, name)
        # float64, because the products of four kernels lose bits that the border test would see
        weight, bias = fold_chain(copy.deepcopy(chain).double())
        state[f"{name}.weight"], state[f"{name}.bias"] = weight, bias
    folded.load_state_dict(state)
    return folded.to(next(model.parameters()).device).eval()


@torch.no_grad()
def halved(network: FoldedCAGFace) -> FoldedCAGFace:
    """Fold the shrinking of the 4x picture to 2x (bicubic, antialiased) into the last layer.

    Half as many multiply-adds there, and no 4x picture. Away from the outermost two pixels of the
    input, equal to shrinking afterwards; all other layers are shared with ``network``.
    """
    last = network.upsampler2
    size, middle = 2 * _HALF_PX + 1, _HALF_PX
    impulse = torch.zeros(last.in_channels, last.in_channels, size, size, dtype=torch.float64)
    impulse[range(last.in_channels), range(last.in_channels), middle, middle] = 1
    assert last.bias is not None
    bias = last.bias.double().cpu()
    response = F.conv2d(impulse, last.weight.double().cpu(), padding=CONTEXT_PX)
    constant = bias[:, None, None].expand(1, -1, size, size)

    def shrunk(channels: Tensor) -> Tensor:
        sr4 = F.pixel_shuffle(channels, 4)
        sr2 = F.interpolate(sr4, scale_factor=0.5, mode="bicubic", antialias=True)
        return F.pixel_unshuffle(sr2, 2)

    reach = _HALF_PX // 2
    window = slice(middle - reach, middle + reach + 1)
    weight = shrunk(response)[..., window, window].permute(1, 0, 2, 3).flip(2, 3)
    state = network.state_dict()
    state["upsampler2.weight"] = weight.to(last.weight).contiguous()
    state["upsampler2.bias"] = shrunk(constant)[0, :, middle, middle].to(last.weight)
    half = FoldedCAGFace(network.config, 2)
    half.load_state_dict(state, assign=True)
    return half.eval().requires_grad_(False)


@torch.no_grad()
def by_pixel(network: FoldedCAGFace) -> FoldedCAGFace:
    """Order what the network leaves with by pixel: rows, columns, then colours.

    Of channels-last features, :func:`spread` makes the picture in one pass, copying whole rows of
    it; all other layers are shared with ``network``.
    """
    state = network.state_dict()
    for name in ("upsampler2.weight", "upsampler2.bias"):
        last = state[name]
        colours_last = last.unflatten(0, (3, network.factor**2)).transpose(0, 1).flatten(0, 1)
        state[name] = torch.empty_like(last).copy_(colours_last)  # in its layout
    ordered = FoldedCAGFace(network.config, network.factor)
    ordered.load_state_dict(state, assign=True)
    return ordered.eval().requires_grad_(False)


def spread(channels: Tensor, factor: int) -> Tensor:
    """Make the picture of what a network :func:`by_pixel` leaves with.

    Args:
        channels: (N, 3*factor**2, H, W), channels last.
        factor: 2 or 4.

    Returns:
        (N, 3, factor*H, factor*W) float32, channels last.
    """
    n, _, h, w = channels.shape
    words = channels.permute(0, 2, 3, 1).contiguous().view(torch.int32)  # copied as they are
    rows = words.view(n, h, w, factor, -1).transpose(2, 3).contiguous().view(channels.dtype)
    return rows.view(n, factor * h, factor * w, 3).float().permute(0, 3, 1, 2)
