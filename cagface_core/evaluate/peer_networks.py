"""A low-resolution picture in, 4x out: the generators of the paper's competitors, layer by layer.

Each is its paper's network on RGB, without what belongs to its training alone (losses,
discriminators). Only the start is ours: like CAGFace, each begins as a plain upscaler instead of
noise, so that a short training is spent on detail by all alike.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class SRCNN(nn.Sequential):
    """Three convolutions, 9-5-5 with 64 and 32 features, on the bicubic upscale (section 3.1)."""

    def __init__(self, channels: int = 3, middle: int = 5) -> None:
        """Make the net ``9-middle-5``; the paper's figures are for one channel."""
        super().__init__(
            nn.Upsample(scale_factor=4, mode="bicubic"), _conv(channels, 64, 9), nn.ReLU(),
            _conv(64, 32, middle), nn.ReLU(), _conv(32, channels, 5),
        )  # fmt: skip
        _start_plain(self)


class FSRCNN(nn.Sequential):
    """FSRCNN(d, s, m): features, shrink, m maps, expand, deconvolve (section 3.2)."""

    def __init__(self, channels: int = 3, d: int = 56, s: int = 12, m: int = 4) -> None:
        """Make the net; the paper's figures are for one channel.

        Of a stride-4 deconvolution with 9 taps the middle tap can lie on the first or second of
        the four pixels. The second, padding 3, is the one nearest to the input pixel's centre.
        """
        maps: list[nn.Module] = []
        for _ in range(m):
            maps += [_conv(s, s), nn.PReLU(s)]
        super().__init__(
            _conv(channels, d, 5), nn.PReLU(d), _conv(d, s, 1), nn.PReLU(s), *maps,
            _conv(s, d, 1), nn.PReLU(d),
            nn.ConvTranspose2d(d, channels, 9, stride=4, padding=3, output_padding=1),
        )  # fmt: skip
        _start_plain(self)


class Block(nn.Sequential):
    """Layers with a skip around them."""

    def __init__(self, *layers: nn.Module, scale: float = 1.0) -> None:
        """Take the layers; their output counts ``scale`` times."""
        super().__init__(*layers)
        self.scale = scale

    def forward(self, input: Tensor) -> Tensor:
        """Map (N, F, H, W) to the same shape."""
        x = input
        for layer in self:
            x = layer(x)
        return input + self.scale * x


class EDSR(nn.Sequential):
    """EDSR-baseline: residual blocks without batch norm, a long skip, pixel shuffles (3.2)."""

    def __init__(self, features: int = 64, blocks: int = 16) -> None:
        """Make the net; sizes are those of the paper's baseline."""
        f = features
        body = [Block(_conv(f, f), nn.ReLU(), _conv(f, f)) for _ in range(blocks)]
        super().__init__(
            _conv(3, f), Block(*body, _conv(f, f)),
            _conv(f, 4 * f), nn.PixelShuffle(2), _conv(f, 4 * f), nn.PixelShuffle(2),
            _conv(f, 3),
        )  # fmt: skip
        _start_plain(self)


class SRResNet(nn.Sequential):
    """SRGAN's generator: residual blocks with batch norm, PReLU, pixel shuffles (Figure 4)."""

    def __init__(self, features: int = 64, blocks: int = 16) -> None:
        """Make the net; sizes are the paper's."""
        f = features
        body = [
            Block(_conv(f, f), nn.BatchNorm2d(f), nn.PReLU(), _conv(f, f), nn.BatchNorm2d(f))
            for _ in range(blocks)
        ]
        super().__init__(
            _conv(3, f, 9), nn.PReLU(), Block(*body, _conv(f, f), nn.BatchNorm2d(f)),
            _conv(f, 4 * f), nn.PixelShuffle(2), nn.PReLU(),
            _conv(f, 4 * f), nn.PixelShuffle(2), nn.PReLU(),
            _conv(f, 3, 9),
        )  # fmt: skip
        _start_plain(self)


class _DenseBlock(nn.Module):
    """Five convolutions, each of all before it, added at 0.2 (ESRGAN, section 3.1)."""

    def __init__(self, features: int, growth: int) -> None:
        """Make the block; it starts small, as the paper asks."""
        super().__init__()
        grown = [features + k * growth for k in range(5)]
        outs = [growth] * 4 + [features]
        self.convs = nn.ModuleList(_conv(i, o) for i, o in zip(grown, outs, strict=True))
        with torch.no_grad():
            for conv in self.convs:
                for parameter in conv.parameters():
                    parameter *= 0.1

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, F, H, W) to the same shape."""
        *inner, last = self.convs
        seen = [x]
        for conv in inner:
            seen.append(F.leaky_relu(conv(torch.cat(seen, dim=1)), 0.2))
        return x + 0.2 * last(torch.cat(seen, dim=1))


class RRDBNet(nn.Sequential):
    """ESRGAN's generator: dense blocks in residual blocks, nearest upsampling (section 3.1)."""

    def __init__(self, features: int = 32, blocks: int = 4, growth: int = 16) -> None:
        """Make the net, by default far smaller than the paper's 64, 23, 32."""
        f = features
        body = [
            Block(*(_DenseBlock(f, growth) for _ in range(3)), scale=0.2) for _ in range(blocks)
        ]
        super().__init__(
            _conv(3, f), Block(*body, _conv(f, f)),
            nn.Upsample(scale_factor=2), _conv(f, f), nn.LeakyReLU(0.2),
            nn.Upsample(scale_factor=2), _conv(f, f), nn.LeakyReLU(0.2),
            _conv(f, f), nn.LeakyReLU(0.2), _conv(f, 3),
        )  # fmt: skip
        _start_plain(self)


class EnhanceNet(nn.Sequential):
    """EnhanceNet's generator: ten residual blocks; adds to the bicubic upscale (Table 1)."""

    def __init__(self, features: int = 64, blocks: int = 10) -> None:
        """Make the net; sizes are the paper's."""
        f = features
        body = [Block(_conv(f, f), nn.ReLU(), _conv(f, f)) for _ in range(blocks)]
        super().__init__(
            _conv(3, f), nn.ReLU(), *body,
            nn.Upsample(scale_factor=2), _conv(f, f), nn.ReLU(),
            nn.Upsample(scale_factor=2), _conv(f, f), nn.ReLU(),
            _conv(f, f), nn.ReLU(), _conv(f, 3),
        )  # fmt: skip
        _silence(self[-1])

    def forward(self, input: Tensor) -> Tensor:
        """Map (N, 3, H, W) to (N, 3, 4H, 4W)."""
        x = input
        for layer in self:
            x = layer(x)
        return x + F.interpolate(input, scale_factor=4, mode="bicubic", align_corners=False)


class SRFBN(nn.Module):
    """SRFBN-S: one feedback block of projection groups, run again on its own output (3.1, 3.2)."""

    def __init__(self, features: int = 32, groups: int = 3, iterations: int = 4) -> None:
        """Make the net; sizes are those of the paper's small one."""
        super().__init__()
        f, self.iterations = features, iterations
        self.stem = nn.Sequential(_with_prelu(_conv(3, 4 * f)), _with_prelu(_conv(4 * f, f, 1)))
        self.compress_in = _with_prelu(_conv(2 * f, f, 1))
        self.gather_low = _gatherers(f, groups)
        self.ups = nn.ModuleList(_with_prelu(_up4(f)) for _ in range(groups))
        self.gather_high = _gatherers(f, groups)
        self.downs = nn.ModuleList(
            _with_prelu(nn.Conv2d(f, f, 8, stride=4, padding=2)) for _ in range(groups)
        )
        self.compress_out = _with_prelu(_conv(groups * f, f, 1))
        self.reconstruct = nn.Sequential(_with_prelu(_up4(f)), _conv(f, 3))
        _keep_variance(self)
        _silence(self.reconstruct[-1])

    def forward(self, input: Tensor) -> Tensor:
        """Map (N, 3, H, W) to (N, 3, 4H, 4W): the last iteration's picture."""
        features = hidden = self.stem(input)
        for _ in range(self.iterations):
            hidden = self._feed_back(features, hidden)
        return self._picture(input, hidden)

    def pictures(self, input: Tensor) -> list[Tensor]:
        """Every iteration's picture (N, 3, 4H, 4W): the paper's loss averages over them."""
        features = hidden = self.stem(input)
        found: list[Tensor] = []
        for _ in range(self.iterations):
            hidden = self._feed_back(features, hidden)
            found.append(self._picture(input, hidden))
        return found

    def _feed_back(self, features: Tensor, hidden: Tensor) -> Tensor:
        """Refine the hidden features (N, F, H, W) once."""
        lows = [self.compress_in(torch.cat([features, hidden], dim=1))]
        highs: list[Tensor] = []
        groups = zip(self.gather_low, self.ups, self.gather_high, self.downs, strict=True)
        for gather_low, up, gather_high, down in groups:
            highs.append(up(gather_low(torch.cat(lows, dim=1))))
            lows.append(down(gather_high(torch.cat(highs, dim=1))))
        return self.compress_out(torch.cat(lows[1:], dim=1))

    def _picture(self, input: Tensor, hidden: Tensor) -> Tensor:
        """Add what the hidden features make to the bilinear upscale."""
        plain = F.interpolate(input, scale_factor=4, mode="bilinear", align_corners=False)
        return plain + self.reconstruct(hidden)


def _conv(in_channels: int, out_channels: int, kernel: int = 3) -> nn.Conv2d:
    """Make a convolution that keeps the size."""
    return nn.Conv2d(in_channels, out_channels, kernel, padding=kernel // 2)


def _with_prelu(layer: nn.Module) -> nn.Sequential:
    """Follow a layer by one learned slope, started at 0.2 as SRFBN's authors do."""
    return nn.Sequential(layer, nn.PReLU(init=0.2))


def _up4(features: int) -> nn.ConvTranspose2d:
    """Make SRFBN's deconvolution to four times the size."""
    return nn.ConvTranspose2d(features, features, 8, stride=4, padding=2)


def _keep_variance(model: nn.Module) -> None:
    """Initialise after He et al. for slopes of 0.2: no skips here carry the features along.

    With torch's defaults, made for slopes near 1, each iteration would change the picture by less
    than a millionth. A deconvolution's output sees every stride-th tap of a kernel only.
    """
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            skipped = layer.stride[0] if isinstance(layer, nn.ConvTranspose2d) else 1
            seen = layer.in_channels * (layer.kernel_size[0] / skipped) ** 2
            nn.init.normal_(layer.weight, std=math.sqrt(2 / (1 + 0.2**2) / seen))
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def _gatherers(features: int, groups: int) -> nn.ModuleList:
    """Make the 1x1 convolutions that take all earlier groups' features; group 1 has one input."""
    layers = [_with_prelu(_conv((k + 1) * features, features, 1)) for k in range(1, groups)]
    return nn.ModuleList([nn.Identity(), *layers])


@torch.no_grad()
def _start_plain(chain: nn.Sequential) -> None:
    """Make a fresh chain pass its colours on: nearest-neighbour, or for a deconvolution bilinear.

    The colours travel in the first channels, above zero where activations stand in the way, and
    long skips begin as nothing but the skip.
    """
    layers = list(chain)
    convs = [m for m in layers if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)]
    channels = convs[0].in_channels
    for layer, following in zip(layers, [*layers[1:], None], strict=True):
        if isinstance(layer, nn.Conv2d):
            copies = 4 if isinstance(following, nn.PixelShuffle) else 1
            _pass_on(layer, channels, copies)
        elif isinstance(layer, nn.ConvTranspose2d):
            taps = (1 - (torch.arange(9) - 4.5).abs() / 4).clamp(min=0)
            layer.weight[:, :channels] = 0
            for channel in range(channels):
                layer.weight[channel, channel] = taps[:, None] * taps
        elif isinstance(layer, Block):
            _silence(layer[-1])
    if any(isinstance(m, nn.ReLU | nn.PReLU | nn.LeakyReLU) for m in layers):
        for conv, bias in ((convs[0], 1.0), (convs[-1], -1.0)):
            assert conv.bias is not None
            conv.bias[:channels] = bias


def _pass_on(conv: nn.Conv2d, channels: int, copies: int) -> None:
    """Make the first outputs of a convolution ``copies`` of each of the first inputs."""
    assert conv.bias is not None
    middle = conv.kernel_size[0] // 2
    for k in range(channels * copies):
        conv.weight[k] = 0
        conv.weight[k, k // copies, middle, middle] = 1
        conv.bias[k] = 0


def _silence(layer: nn.Module) -> None:
    """Make a layer give zero until it is trained."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
