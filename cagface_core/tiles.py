"""The paper's patch-based mode: a picture too large for one pass, in overlapping tiles, blended."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

TILE_PX = 192
OVERLAP_PX = 32


def spans(length: int, tile: int = TILE_PX, overlap: int = OVERLAP_PX) -> list[int]:
    """Starts of tiles that cover ``length``, evenly spread, overlapping by ``overlap`` or more."""
    if length <= tile:
        return [0]
    count = -(-(length - overlap) // (tile - overlap))
    return [round(i * (length - tile) / (count - 1)) for i in range(count)]


def tiled(
    run: Callable[[Tensor], Tensor], block: Tensor,
    tile: int = TILE_PX, overlap: int = OVERLAP_PX, factor: int = 4,
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
    weight = total.new_zeros(1, 1, f * height, f * width)
    th, tw = min(tile, height), min(tile, width)
    rows, columns = spans(height, tile, overlap), spans(width, tile, overlap)
    for y in rows:
        for x in columns:
            part = run(block[..., y : y + th, x : x + tw])
            down = _ramp(f * th, f * overlap, y > 0, y + th < height, total)
            across = _ramp(f * tw, f * overlap, x > 0, x + tw < width, total)
            mask = down[:, None] * across[None, :]
            where = (..., slice(f * y, f * (y + th)), slice(f * x, f * (x + tw)))
            total[where] += part * mask
            weight[where] += mask
    return total / weight


def _ramp(length: int, width: int, first: bool, last: bool, like: Tensor) -> Tensor:
    """Weight along a tile's side: rising and falling linearly at the edges that are inner."""
    position = torch.arange(length, dtype=like.dtype, device=like.device) + 0.5
    ramp = torch.ones_like(position)
    if first:
        ramp = torch.minimum(ramp, position / width)
    if last:
        ramp = torch.minimum(ramp, (length - position) / width)
    return ramp
