"""Photos in; batches of random patches, and whole examples, out: all of it on the device.

The pictures lie on the device as uint8, so that a step of a fast GPU waits for no loader.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from rich.progress import track
from torch import Tensor, nn

from cagface_core import checkpoint
from cagface_core.attention import (
    MAP_PX,
    component_maps,
    gaussian_pool,
    make_block,
    resize_maps,
    to_signed,
)
from cagface_core.bisenet import COMPONENTS
from cagface_core.cores import usable_cores
from cagface_core.errors import InputError
from cagface_core.train import degrade as degrading
from cagface_core.train import photos as reading
from cagface_core.train.degrade import degrade
from cagface_core.train.photos import Photo, downsample4, load_labels, load_square
from cagface_core.train.plan import SRTraining
from cagface_core.train.prepared import kept
from cagface_core.train.ranks import rank
from cagface_core.types import Image
from cagface_core.workers import single_threaded

PHOTO_SIDES_PX = (256, 448, 1024)
"""High-resolution sides a photo is used at, where it is large enough: whole faces of 64 px for
the whole-face protocol, and of 112 and 256 px for patches as live crops and tiles see them."""

_SIDE_WEIGHTS = (0.55, 0.25, 0.20)
_CLEAN_SHARE = 0.15  # of webcam input: a good camera's picture must not be smoothed
_REAL_WEIGHT = 1.5  # two thirds of the photos are synthetic; real skin and cameras matter more

_TURNS = ((0, 0, 0), (1, 0, 1), (0, 1, 1), (1, 1, 0), (0, 1, 0), (0, 0, 1))
"""The paper's six augmentations, none, rotation by 90, 180, 270 degrees, vertical, horizontal
flip: whether rows and columns change places, then whether each runs backwards."""


class Batch(NamedTuple):
    """Blocks (N, 6 or 3, P, P), targets (N, 3, 4P, 4P) in [-1, 1], maps (N, 3, P, P) in [0, 1]."""

    block: Tensor
    hr: Tensor
    maps: Tensor


class Example(NamedTuple):
    """A whole face: ``block``, ``lr`` (1, 3, S, S), ``maps`` as in a batch of one; ``hr`` uint8."""

    block: Tensor
    lr: Tensor
    maps: Tensor
    hr: Image


@dataclass(frozen=True, slots=True)
class _Size:
    """All photos of one size: ``hr`` (K, 4S, 4S, 3); per variant ``lr``, ``maps`` (K*V, S, S, 3).

    uint8 on the device; ``row`` finds a photo's K, -1 where it is too small.
    """

    hr: Tensor
    lr: Tensor
    maps: Tensor
    row: NDArray[np.int64]


class Pool:
    """The photos on the device, at each of their sizes, with inputs and maps ready."""

    def __init__(
        self, plan: SRTraining, photos: list[Photo], sides: tuple[int, ...] = PHOTO_SIDES_PX,
        variants: int | None = None,
    ) -> None:  # fmt: skip
        """Read and degrade the photos; minutes for two thousand on a slow processor."""
        self.plan = plan
        parser: nn.Module | None = None
        if plan.parser is not None and plan.uses_maps:
            parser = checkpoint.load_parser(plan.parser)[0].to(plan.device)
        elif plan.uses_maps:
            photos = [photo for photo in photos if photo.mask is not None]
            if not photos:
                raise InputError(f"no photo of {plan.data} that is used has a mask; give --parser")
        self.photos = photos
        self.variants = 1 if plan.protocol == "clean" else variants or plan.variants
        weights = np.array([_REAL_WEIGHT if p.kind == "real" else 1.0 for p in photos])
        self._odds = weights / weights.sum()

        def prepare(index: int) -> list[_Item]:
            photo, rng = photos[index], np.random.default_rng([plan.seed, index, 7])
            usable = [s for s in sides if s <= photo.side] or [sides[0]]
            return [_item(plan, photo, side, self.variants, parser, rng) for side in usable]

        def read() -> dict[str, Tensor]:
            threads = cv2.getNumThreads()
            cv2.setNumThreads(1)  # a photo for each core, not parts of one
            try:
                with single_threaded("photos", usable_cores()) as workers:
                    work = workers.map(prepare, range(len(photos)))
                    items = list(track(work, "reading photos", len(photos), transient=True,
                                       disable=not rank().leads))  # fmt: skip
            finally:
                cv2.setNumThreads(threads)
            return {
                f"{k}.{name}": tensor
                for k in range(max(len(item) for item in items))
                for name, tensor in _stack([i[k] if k < len(i) else None for i in items]).items()
            }

        names = [str(photo.path.relative_to(plan.data)) for photo in photos]
        parsed_by = plan.parser and checkpoint.load(plan.parser).sha256
        what = [names, sides, self.variants, plan.protocol, plan.seed, plan.uses_maps, parsed_by]
        found = kept(plan.prepared, what, (__file__, degrading.__file__, reading.__file__), read)
        self._sizes = [
            _Size(
                found[f"{k}.hr"].to(plan.device),
                found[f"{k}.lr"].to(plan.device),
                found[f"{k}.maps"].to(plan.device),
                found[f"{k}.row"].numpy(),
            )
            for k in range(len(found) // 4)
        ]

    def batch(self, step: int) -> Batch:
        """Draw this process's share of a step's batch, which depends on seed and step alone."""
        rng = np.random.default_rng([self.plan.seed, step])
        n, p = self.plan.batch, self.plan.patch_px
        chosen = rng.choice(len(self.photos), n, p=self._odds)
        known = np.array([size.row[chosen] >= 0 for size in self._sizes]).T
        odds = np.cumsum(known * np.array(_SIDE_WEIGHTS[: len(self._sizes)]), axis=1)
        drawn = (rng.random((n, 1)) * odds[:, -1:] >= odds).sum(axis=1)
        variant, turns = rng.integers(self.variants, size=n), rng.integers(len(_TURNS), size=n)
        place = rng.random((n, 2))
        own = rank().share(n)
        chosen, drawn, place = chosen[own], drawn[own], place[own]
        variant, turns = variant[own], turns[own]
        parts: list[tuple[Tensor, Tensor, Tensor]] = []
        for k, size in enumerate(self._sizes):
            mine = drawn == k
            if not mine.any():
                continue
            row, turn = size.row[chosen[mine]], turns[mine]
            corner = (place[mine] * (size.lr.shape[1] - p + 1)).astype(np.int64)
            low = row * self.variants + variant[mine]
            parts.append((
                _cut(size.lr, low, corner, turn, p),
                _cut(size.hr, row, 4 * corner, turn, 4 * p),
                _cut(size.maps, low, corner, turn, p),
            ))  # fmt: skip
        lr, hr, maps = (torch.cat(tensors) for tensors in zip(*parts, strict=True))
        heat = self._heat(maps)
        return Batch(self._block(lr, heat), hr, heat)

    def example(self, index: int) -> Example:
        """A photo's first variant at the smallest size, whole."""
        size = self._sizes[0]
        row = int(size.row[index])
        lr = _signed(size.lr[row * self.variants][None])
        heat = self._heat(_signed(size.maps[row * self.variants][None]))
        return Example(self._block(lr, heat), lr, heat, size.hr[row].cpu().numpy())

    def _block(self, lr: Tensor, heat: Tensor) -> Tensor:
        """Make the network's input as the plan has it."""
        attention = self.plan.attention or checkpoint.PRESETS[self.plan.preset].attention
        return make_block(lr, heat, attention)

    def _heat(self, maps: Tensor) -> Tensor:
        """Bring maps from [-1, 1] to [0, 1], hardened if so planned."""
        heat = maps * 0.5 + 0.5
        if self.plan.maps == "soft":
            return heat
        rest = 1 - heat.sum(dim=1, keepdim=True)
        likeliest = torch.cat([rest, heat], dim=1).argmax(dim=1)
        return F.one_hot(likeliest, 4)[..., 1:].permute(0, 3, 1, 2).to(heat.dtype)


class _Item(NamedTuple):
    """One photo at one size: (4S, 4S, 3) target; per variant (S, S, 3) input and maps; uint8."""

    hr: Image
    lr: list[Image]
    maps: list[Image]


def _stack(items: list[_Item | None]) -> dict[str, Tensor]:
    """Put the photos of one size together, as :class:`_Size` names them."""
    there = [item for item in items if item is not None]
    row = np.cumsum([item is not None for item in items]) - 1
    row[[item is None for item in items]] = -1
    pictures = {
        "hr": [item.hr for item in there],
        "lr": [lr for item in there for lr in item.lr],
        "maps": [maps for item in there for maps in item.maps],
    }
    stacked = {k: torch.from_numpy(np.stack(v)).contiguous() for k, v in pictures.items()}
    return {**stacked, "row": torch.from_numpy(row)}


def _cut(
    pictures: Tensor, row: NDArray[np.int64], corner: NDArray[np.int64],
    turn: NDArray[np.int64], side_px: int,
) -> Tensor:  # fmt: skip
    """Cut squares of (K, H, W, 3) uint8, turn them, and give them as (N, 3, P, P) in [-1, 1]."""

    def column(values: NDArray[np.int64]) -> Tensor:
        return torch.from_numpy(values).to(pictures.device)[:, None, None]

    swap, back_y, back_x = (column(np.array(_TURNS)[turn][:, k]).bool() for k in range(3))
    along = torch.arange(side_px, device=pictures.device)
    i, j = along[None, :, None], along[None, None, :]
    y, x = torch.where(swap, j, i), torch.where(swap, i, j)
    y = torch.where(back_y, side_px - 1 - y, y) + column(corner[:, 0])
    x = torch.where(back_x, side_px - 1 - x, x) + column(corner[:, 1])
    return _signed(pictures[column(row), y, x])


def _signed(pictures: Tensor) -> Tensor:
    """Bring (N, H, W, 3) uint8 to (N, 3, H, W) float32 in [-1, 1], channels last."""
    return pictures.permute(0, 3, 1, 2).float() / 127.5 - 1


def _item(
    plan: SRTraining, photo: Photo, side: int, count: int, parser: nn.Module | None,
    rng: np.random.Generator,
) -> _Item:  # fmt: skip
    """Prepare one photo at one size."""
    hr = load_square(photo, side)
    clean = plan.protocol == "clean"
    lr = [
        downsample4(hr) if clean or rng.random() < _CLEAN_SHARE else degrade(hr, rng)
        for _ in range(count)
    ]
    if not plan.uses_maps:
        return _Item(hr, lr, [np.zeros_like(lr[0])] * count)
    if parser is None:
        return _Item(hr, lr, [_quantise(_mask_maps(photo, side // 4))] * count)
    with torch.inference_mode():
        found = component_maps(parser, to_signed(lr, plan.device))
        maps = [_quantise(m[None]) for m in resize_maps(found, side // 4, side // 4).unbind()]
    return _Item(hr, lr, maps)


def _mask_maps(photo: Photo, side: int) -> Tensor:
    """Heatmaps (1, 3, side, side) from a photo's own mask, pooled like the parser's."""
    labels = torch.from_numpy(load_labels(photo, 4 * MAP_PX))
    maps = torch.stack(
        [torch.isin(labels, torch.tensor(c, dtype=torch.uint8)).float() for c in COMPONENTS]
    )
    return resize_maps(gaussian_pool(F.avg_pool2d(maps[None], 4)), side, side)


def _quantise(maps: Tensor) -> Image:
    """Heatmaps (1, 3, H, W) in [0, 1] to (H, W, 3) uint8 in 0..255."""
    return (maps[0] * 255).round().byte().permute(1, 2, 0).cpu().numpy()
