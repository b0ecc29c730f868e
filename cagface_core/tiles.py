"""The paper's patch-based mode: a picture too large for one pass, in overlapping tiles, blended."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

OVERLAP_PX = 32
_STEP_PX = 16
"""Of sides of tiles: convolutions like whole blocks."""


def tile_px(length: int, most_px: int, overlap: int = OVERLAP_PX) -> int:
    """The side of the smallest tiles of which as few as can be cover ``length``.

    Args:
        length: to be covered, in pixels, longer than ``most_px``.
        most_px: a tile may have, a multiple of 16.
        overlap: pixels that neighbouring tiles share, at least.
    """
    count = _count(length, most_px, overlap)
    return -(-(length + (count - 1) * overlap) // (count * _STEP_PX)) * _STEP_PX


def spans(length: int, tile: int, overlap: int = OVERLAP_PX) -> list[int]:
    """Starts of tiles that cover ``length``, evenly spread, overlapping by ``overlap`` or more."""
    if length <= tile:
        return [0]
    count = _count(length, tile, overlap)
    return [round(i * (length - tile) / (count - 1)) for i in range(count)]


def _count(length: int, tile: int, overlap: int) -> int:
    return -(-(length - overlap) // (tile - overlap))


def tiled(
    run: Callable[[Tensor], Tensor], block: Tensor, tile: int,
    overlap: int = OVERLAP_PX, factor: int = 4,
) -> Tensor:  # fmt: skip
    """Super-resolve a picture tile by tile.

    Args:
        run: maps (N, C, h, w) to (N, 3, factor*h, factor*w) float32.
        block: (N, C, H, W), the network's input for the whole picture.
        tile: side of a tile, in input pixels.
        overlap: pixels that neighbouring tiles share; blended linearly.
        factor: how many output pixels an input pixel becomes, per side.

    Returns:
        (N, 3, factor*H, factor*W) float32.
    """
    f = factor
    height, width = block.shape[-2:]
    total = block.new_zeros(block.shape[0], 3, f * height, f * width, dtype=torch.float32)
    th, tw = min(tile, height), min(tile, width)
    columns = _shares(spans(width, tile, overlap), tw, width, overlap, f, total)
    for y, down in _shares(spans(height, tile, overlap), th, height, overlap, f, total):
        for x, across in columns:
            part = run(block[..., y : y + th, x : x + tw])
            place = total[..., f * y : f * (y + th), f * x : f * (x + tw)]
            place.addcmul_(part, down[:, None] * across)
    return total


def _shares(
    starts: Sequence[int], tile: int, length: int, overlap: int, f: int, like: Tensor
) -> list[tuple[int, Tensor]]:
    """Where each tile starts along one side, and what it gives to each pixel there; all give 1."""
    ramps = [
        _ramp(f * tile, f * overlap, start > 0, start + tile < length, like) for start in starts
    ]
    whole = like.new_zeros(f * length)
    for start, ramp in zip(starts, ramps, strict=True):
        whole[f * start : f * (start + tile)] += ramp
    return [
        (start, ramp / whole[f * start : f * (start + tile)])
        for start, ramp in zip(starts, ramps, strict=True)
    ]


def _ramp(length: int, width: int, first: bool, last: bool, like: Tensor) -> Tensor:
    """Weight along a tile's side: rising and falling linearly at the edges that are inner."""
    position = torch.arange(length, dtype=like.dtype, device=like.device) + 0.5
    ramp = torch.ones_like(position)
    if first:
        ramp = torch.minimum(ramp, position / width)
    if last:
        ramp = torch.minimum(ramp, (length - position) / width)
    return ramp
