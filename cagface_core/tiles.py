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
    run: Callable[[Tensor, Tensor], Tensor], lr: Tensor, maps: Tensor,
    tile: int = TILE_PX, overlap: int = OVERLAP_PX,
) -> Tensor:  # fmt: skip
    """Super-resolve a picture tile by tile.

    Args:
        run: maps ``lr`` (N, 3, h, w) and ``maps`` (N, 3, h, w) to (N, 3, 4h, 4w).
        lr: (N, 3, H, W) RGB in [-1, 1].
        maps: (N, 3, H, W) heatmaps of the whole picture, in [0, 1].
        tile: side of a tile, in input pixels.
        overlap: pixels that neighbouring tiles share; blended linearly.

    Returns:
        (N, 3, 4H, 4W).
    """
    height, width = lr.shape[-2:]
    total = lr.new_zeros(lr.shape[0], 3, 4 * height, 4 * width)
    weight = lr.new_zeros(1, 1, 4 * height, 4 * width)
    th, tw = min(tile, height), min(tile, width)
    rows, columns = spans(height, tile, overlap), spans(width, tile, overlap)
    for y in rows:
        for x in columns:
            part = run(lr[..., y : y + th, x : x + tw], maps[..., y : y + th, x : x + tw])
            down = _ramp(4 * th, 4 * overlap, y > 0, y + th < height, lr)
            across = _ramp(4 * tw, 4 * overlap, x > 0, x + tw < width, lr)
            mask = down[:, None] * across[None, :]
            where = (..., slice(4 * y, 4 * (y + th)), slice(4 * x, 4 * (x + tw)))
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
