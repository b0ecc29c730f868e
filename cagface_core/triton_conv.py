"""Features and weights in; their 3x3 convolution, its ReLU or its sum with others within it, out.

cuDNN cuts pictures into tiles so large that a face of 64 px keeps half a large GPU busy, and adds
nothing to what it stores but a bias. These tiles may be smaller, and the addition costs nothing.
Triton comes with torch for CUDA GPUs on Linux, and needs a C compiler once; nothing else may import
this module.
"""

# Triton reads the kernel's annotations, and knows none but its own.
# ruff: noqa: ANN001, ANN202, N803
# pyright: reportMissingParameterType=false, reportUnknownParameterType=false, reportUnknownVariableType=false

from __future__ import annotations

import importlib
from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

triton: Any = importlib.import_module("triton")
tl: Any = importlib.import_module("triton.language")

if TYPE_CHECKING:
    constexpr = int
else:
    constexpr = tl.constexpr


class Tile(NamedTuple):
    """What one block of threads makes, and how: pixels, features, and features read at a time."""

    pixels: int
    features: int
    depth: int
    warps: int
    stages: int


_TILES: dict[int, tuple[Tile, ...]] = {
    16: (Tile(128, 16, 16, 4, 6), Tile(64, 16, 16, 4, 6)),
    32: (Tile(128, 32, 32, 4, 4), Tile(64, 32, 32, 4, 5)),
    64: (Tile(128, 64, 64, 4, 4), Tile(64, 64, 64, 4, 4), Tile(64, 32, 64, 4, 5)),
    128: (Tile(64, 128, 64, 4, 4), Tile(64, 64, 128, 4, 3)),
    256: (Tile(64, 128, 128, 4, 3),),
}
"""By features: of a dozen each, the fastest for some number of pixels on an H200."""


def tiles(features: int) -> tuple[Tile, ...]:
    """All that :func:`convolve` may be told to use; none where it is of no use."""
    return _TILES.get(features, ())


def convolve(
    x: Tensor, layer: nn.Conv2d, added: Tensor | None, tile: Tile
) -> Tensor:  # fmt: skip
    """Convolve 3x3, padded with nought; then ReLU, or an addition.

    Args:
        x: (N, F, H, W), channels last, float16 or bfloat16.
        layer: its weight (F, F, 3, 3) channels last, with a bias, on the same device.
        added: (N, F, H, W), channels last; None is the ReLU.
        tile: one of :func:`tiles`.

    Returns:
        (N, F, H, W), channels last.

    Raises:
        RuntimeError: the GPU, or this Triton, cannot.
    """
    count, features, height, width = x.shape
    given = (x, layer.weight) if added is None else (x, layer.weight, added)
    assert all(tensor.is_contiguous(memory_format=torch.channels_last) for tensor in given)
    made = torch.empty_like(x)
    pixels = count * height * width
    blocks = -(-pixels // tile.pixels), features // tile.features
    with torch.cuda.device(x.device), _failing_as_torch_does():
        _convolve[blocks](
            x, layer.weight, layer.bias, x if added is None else added, made, pixels, height, width,
            FEATURES=features, PIXELS_A_TILE=tile.pixels, FEATURES_A_TILE=tile.features,
            DEPTH=tile.depth, ADDS=added is not None, num_warps=tile.warps, num_stages=tile.stages,
        )  # fmt: skip
    return made


@contextmanager
def _failing_as_torch_does() -> Generator[None]:
    """What Triton, its compilers and its files on disk may raise becomes a RuntimeError."""
    try:
        yield
    except RuntimeError:
        raise
    except Exception as error:
        raise RuntimeError(f"Triton: {' '.join(str(error).split())}") from error


@triton.jit(do_not_specialize=["count", "height", "width"])
def _convolve(
    x, weight, bias, added, made, count, height, width,
    FEATURES: constexpr, PIXELS_A_TILE: constexpr, FEATURES_A_TILE: constexpr,
    DEPTH: constexpr, ADDS: constexpr,
):  # fmt: skip
    """As a product of matrices: pixels by what surrounds them, that by features."""
    pixel = tl.program_id(0) * PIXELS_A_TILE + tl.arange(0, PIXELS_A_TILE)
    feature = tl.program_id(1) * FEATURES_A_TILE + tl.arange(0, FEATURES_A_TILE)
    depth = tl.arange(0, DEPTH)
    row = pixel // width
    column = pixel - row * width
    row = row % height  # of its picture
    there = pixel < count
    own = x + pixel[:, None] * FEATURES + depth[None, :]
    taps = weight + feature[None, :] * (9 * FEATURES) + depth[:, None]
    total = tl.zeros((PIXELS_A_TILE, FEATURES_A_TILE), tl.float32)
    parts: constexpr = FEATURES // DEPTH
    for step in range(9 * parts):
        tap = step // parts
        down = tap // 3 - 1
        right = tap % 3 - 1
        inside = there & (row + down >= 0) & (row + down < height)
        inside = inside & (column + right >= 0) & (column + right < width)
        shift = (down * width + right) * FEATURES + (step % parts) * DEPTH
        around = tl.load(own + shift, mask=inside[:, None], other=0.0)
        total = tl.dot(around, tl.load(taps + step * DEPTH), total)
    total += tl.load(bias + feature)[None, :].to(tl.float32)
    place = pixel[:, None] * FEATURES + feature[None, :]
    if ADDS:
        total += tl.load(added + place, mask=there[:, None], other=0.0).to(tl.float32)
    else:
        total = tl.maximum(total, 0.0)
    tl.store(made + place, total.to(made.dtype.element_ty), mask=there[:, None])
