"""A network in; the same with what surrounds its convolutions done within them, out.

ReLU, bias and the residual's addition happen as a convolution stores its result, not in passes of
their own over memory. On processors, where :mod:`cagface_core.cpu_graph` has no graph, by oneDNN's
operators, those that torch's own compiler uses; on CUDA GPUs by our own, or cuDNN's and one small
kernel. Where a torch has them not, or they compute anything else, the network stays as it was.
"""

from __future__ import annotations

import logging
import os
import sysconfig
from collections.abc import Callable, Iterable, Mapping
from functools import cache, partial
from itertools import pairwise
from pathlib import Path
from shutil import which
from typing import Any, TypeVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from cagface_core.cagface import Backbone, ResidualUnit
from cagface_core.cuda_graph import makes_graph
from cagface_core.fold import FoldedCAGFace

log = logging.getLogger(__name__)

ModuleT = TypeVar("ModuleT", bound=nn.Module)

_RELU: tuple[Any, ...] = ("relu", [], "")
_ADDED: tuple[Any, ...] = ("add", 1.0, None, [], None)

_CONVOLUTION_RELU: Any = torch.cudnn_convolution_relu

_ADD = "template <typename T> T add(T x, T y, T bias) { return x + y + bias; }"

_LANES = 8
_ADD_HALVES = """
__device__ unsigned sum(unsigned a, unsigned b) {
    unsigned c;
    asm("add.f16x2 %0, %1, %2;" : "=r"(c) : "r"(a), "r"(b));
    return c;
}
extern "C" __global__ void add_halves(
    const uint4 *x, uint4 *y, const uint4 *bias, int count, int groups) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= count) return;
    uint4 a = x[i], b = y[i], c = bias[i % groups];
    y[i] = make_uint4(sum(a.x, sum(b.x, c.x)), sum(a.y, sum(b.y, c.y)),
                      sum(a.z, sum(b.z, c.z)), sum(a.w, sum(b.w, c.w)));
}
"""
"""Adds x and a bias for each channel to y, channels last, in half precision."""

_MOST_ERROR = 0.03
"""Of the largest value: three times what rounding does in bfloat16, and far below what a wrong
operator would do."""


def fuse(network: FoldedCAGFace) -> str:
    """Make a network faster where it is, in place; for inference only.

    Args:
        network: on its device, channels last, in the precision that it is to compute in. Its
            results change by the rounding of that precision.

    Returns:
        Why it is not as fast as it could be; nothing where it is.
    """
    weight, why = network.stem1.weight, ""
    if weight.device.type not in _KINDS:
        return why
    for kind in _KINDS[weight.device.type]:
        backbones = network.backbone1, network.backbone2
        try:
            faster = [kind(backbone) for backbone in backbones]
            _check(faster[0], backbones[0], weight)
        except Exception as error:  # noqa: BLE001 - none is public, compilers fail in their own ways
            log.debug("no %s here: %s", kind.__name__, error)
            why = why or " ".join(str(error).split())
        else:
            network.register_module("backbone1", faster[0])
            network.register_module("backbone2", faster[1])
            return why
    return why


@torch.inference_mode()
def _check(faster: nn.Module, backbone: nn.Module, like: Tensor) -> None:
    """Run both on the same noise; RuntimeError where they differ by more than rounding."""
    for height, width in _TRIED[like.device.type]:
        noise = _noise(like, 1, height, width)
        _compare(faster(noise), backbone(noise))


def _noise(like: Tensor, count: int, height: int, width: int) -> Tensor:
    """Features to try a network with, as wide as a weight; the same every time."""
    random = torch.Generator().manual_seed(0)
    noise = torch.rand(count, like.shape[0], height, width, generator=random) - 0.5
    return noise.to(like).contiguous(memory_format=torch.channels_last)


def _compare(made: Tensor, expected: Tensor) -> None:
    error = (made - expected).abs().max() / expected.abs().max()
    if not error < _MOST_ERROR:
        raise RuntimeError(f"they differ from the plain ones by {float(error):.2g}")


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


class CudaBackbone(nn.Module):
    """A :class:`cagface_core.cagface.Backbone` in three kernels a unit instead of six."""

    def __init__(self, backbone: Backbone) -> None:
        """Take its weights as they are."""
        super().__init__()
        units = cast("Iterable[ResidualUnit]", backbone.units)
        self.units = [(unit.conv1, unit.conv2) for unit in units]
        self.tail = backbone.tail
        self.total = _total(backbone.tail.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, F, H, W) to the same shape."""
        y = x
        for unit in self.units:
            y = self._plain_unit(y, *unit)
        return self.total(x, self.tail, y)

    def _plain_unit(self, x: Tensor, conv1: nn.Conv2d, conv2: nn.Conv2d) -> Tensor:
        hidden = _CONVOLUTION_RELU(x, conv1.weight, conv1.bias, (1, 1), (1, 1), (1, 1), 1)
        return self.total(x, conv2, hidden)


class TritonBackbone(CudaBackbone):
    """The same in two kernels a unit, for as many pixels as that is faster with: rather few."""

    def __init__(self, backbone: Backbone) -> None:
        """Take its weights as they are."""
        from cagface_core import triton_conv  # only there where Triton is

        super().__init__(backbone)
        weight = backbone.tail.weight
        if weight.dtype not in (torch.float16, torch.bfloat16):
            raise TypeError("it multiplies in half precision")
        if torch.cuda.get_device_capability(weight.device) < (8, 0):
            raise RuntimeError("Triton does not use this GPU's units for that")
        if not _can_build():  # the compiler itself would say it on the user's screen
            raise RuntimeError("Triton needs a C compiler and Python's headers")
        self.convolve = triton_conv.convolve
        self.tiles: list[Any] = []
        why = "none for networks of this width"
        for tile in triton_conv.tiles(weight.shape[0]):
            try:
                self._try(tile)
            except RuntimeError as error:  # many GPUs have less memory for a block than it wants
                log.debug("no %s here: %s", tile, error)
                why = str(error)
            else:
                self.tiles.append(tile)
        if not self.tiles:
            raise RuntimeError(why)
        kind = weight.device, weight.dtype, weight.shape[0]
        self.fastest = _FASTEST.setdefault(kind, {})
        """By number of pixels, the tile to use, None for cuDNN's kernels, as tried here."""

    @torch.inference_mode()
    def _try(self, tile: Any) -> None:
        """Compile what uses a tile, now and not in a frame; RuntimeError if it is wrong."""
        noise = _noise(self.tail.weight, 2, 9, 16)
        plain = self.tail(noise)
        _compare(self.convolve(noise, self.tail, None, tile), plain.relu())
        _compare(self.convolve(noise, self.tail, noise, tile), plain + noise)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, F, H, W) to the same shape."""
        tile = self._choose(x)
        if tile is None:
            return super().forward(x)
        y = x
        for unit in self.units:
            y = self._unit(y, *unit, tile)
        return self.convolve(y, self.tail, x, tile)

    def _unit(self, x: Tensor, conv1: nn.Conv2d, conv2: nn.Conv2d, tile: Any) -> Tensor:
        return self.convolve(self.convolve(x, conv1, None, tile), conv2, x, tile)

    def _choose(self, x: Tensor) -> Any:
        """The tile for as many pixels, tried where graphs are made.

        Without a graph it is cuDNN's kernels: Triton's take longer to tell.
        """
        if not makes_graph():
            return None
        pixels = x.numel() // x.shape[1]
        if pixels not in self.fastest and not torch.cuda.is_current_stream_capturing():
            unit = self.units[0]
            ways: dict[Any, Callable[[], Tensor]] = {None: partial(self._plain_unit, x, *unit)}
            ways |= {tile: partial(self._unit, x, *unit, tile) for tile in self.tiles}
            self.fastest[pixels] = _race(ways)
        return self.fastest.get(pixels)


_FASTEST: dict[tuple[torch.device, torch.dtype, int], dict[int, Any]] = {}
"""Of all networks of one width, on one GPU, in one precision: :attr:`TritonBackbone.fastest`."""

_ROUNDS = 5
_TRIES = 4
_TELLING = 2_000_000  # cycles, about a millisecond: as long as it takes to tell a GPU of them

WayT = TypeVar("WayT")


def _race(ways: Mapping[WayT, Callable[[], object]]) -> WayT:
    """Tell which is the fastest, by the least that each took: other work may come between."""
    for way in ways.values():
        for _ in range(2):
            way()  # compiled, and cuDNN's algorithms tried
    rounds = [{name: _time_ms(way) for name, way in ways.items()} for _ in range(_ROUNDS)]
    return min(ways, key=lambda name: min(took_ms[name] for took_ms in rounds))


def _time_ms(work: Callable[[], object]) -> float:
    """How long a GPU is at it, but for the time it takes to tell it what to do."""
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    vars(torch.cuda)["_sleep"](_TELLING)
    begin.record()
    for _ in range(_TRIES):
        work()
    end.record()
    end.synchronize()
    return begin.elapsed_time(end)


def _can_build() -> bool:
    """Whether Triton finds here what it builds the start of its kernels with."""
    scheme = sysconfig.get_default_scheme().replace("posix_local", "posix_prefix")  # as it does
    headers = Path(sysconfig.get_path("include", scheme), "Python.h")
    compilers = (os.environ.get("CC"), "clang", "gcc")
    return headers.is_file() and any(which(name) for name in compilers if name)


_KINDS: dict[str, tuple[type[FusedBackbone | CudaBackbone], ...]] = {
    "cpu": (FusedBackbone,), "cuda": (TritonBackbone, CudaBackbone),
}  # fmt: skip
"""Fastest first."""

_TRIED = {"cpu": ((16, 24),), "cuda": ((16, 24), (256, 256))}
"""Heights and widths: for wide networks on GPUs, small and large ones are not computed alike."""


def _total(like: Tensor) -> Callable[[Tensor, nn.Conv2d, Tensor], Tensor]:
    """Make what adds a convolution of a picture, its bias and another picture together.

    In half precision eight values at a time: one by one, with a bias looked up for each, the
    additions took twice as long.
    """
    if like.dtype == torch.float16 and like.shape[0] % _LANES == 0:
        try:
            kernel = _compiled(_ADD_HALVES, "add_halves", like.device)
        except (KeyError, OSError, RuntimeError) as error:  # neither public nor promised
            log.debug("additions of single values: %s", error)
        else:
            return partial(_add_halves, kernel)
    add: Any = vars(torch.cuda.jiterator)["_create_jit_fn"](_ADD)
    return lambda x, layer, y: add(x, F.conv2d(y, layer.weight, padding=1), _column(layer))


def _add_halves(kernel: Any, x: Tensor, layer: nn.Conv2d, y: Tensor) -> Tensor:
    made = F.conv2d(y, layer.weight, padding=1)
    assert x.is_contiguous(memory_format=torch.channels_last)
    assert made.is_contiguous(memory_format=torch.channels_last)
    count = made.numel() // _LANES
    arguments = [x, made, layer.bias, count, made.shape[1] // _LANES]
    with torch.cuda.device(made.device):
        kernel(grid=(-(-count // 256), 1, 1), block=(256, 1, 1), args=arguments)
    return made


@cache
def _compiled(source: str, name: str, device: torch.device) -> Any:
    """Compile a CUDA kernel for a GPU, by the compiler that torch brings."""
    with torch.cuda.device(device):
        return vars(torch.cuda)["_compile_kernel"](source, name)


def _column(layer: nn.Conv2d) -> Tensor:
    """A layer's bias, (1, C, 1, 1)."""
    assert layer.bias is not None
    return layer.bias.detach()[None, :, None, None]
