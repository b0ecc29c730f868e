"""Degraded photos as crops of several sizes in; what seeing them shrunk costs, out.

A large face takes a network long, so live it is shown the face shrunk, see
:func:`cagface_core.crop.seen_side`. Noise, blocks and blur are gone from what it sees then, and so
is most of what it could have put right.
"""

from __future__ import annotations

import sys
import zlib
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from rich.table import Table

from cagface_core import checkpoint
from cagface_core.crop import seen_side, work_grid
from cagface_core.engine import Engine
from cagface_core.errors import InputError
from cagface_core.evaluate.gain_table import run_gain_table
from cagface_core.evaluate.metrics import psnr
from cagface_core.evaluate.statistics import interval
from cagface_core.paste import upscale_frame
from cagface_core.train.degrade import degrade
from cagface_core.train.photos import load_square, read_photos
from cagface_core.types import Image

_CROPS_PX = (128, 192, 256, 384)
_LIMITS_PX = (64, 96, 192, 384)
_SCALE = 2
_LEAST_SIDE_PX = 1020  # of a photo: twice and more what is shown of all crops but the largest


def enhance(engine: Engine, crop: Image, limit_px: int) -> Image:
    """Super-resolve a crop (S, S, 3) to (2S, 2S, 3) as a live frame does, both uint8 RGB."""
    _, scale = work_grid(crop.shape[0], limit_px, _SCALE)
    residual = engine.residual([crop], engine.parse([crop]), scale, limit_px)[0]
    plain = upscale_frame(crop, _SCALE)
    size = (plain.shape[1], plain.shape[0])
    added = np.asarray(cv2.resize(residual, size, interpolation=cv2.INTER_CUBIC), np.float32)
    return np.clip(plain + added + 0.5, 0, 255).astype(np.uint8)


def measure(data_dir: Path, split: str, weights: Sequence[str], device: str) -> Table:
    """Gains over bicubic in dB, by the crop's side and the limit.

    Raises:
        InputError: the photo set is not there, or has no large photos. ConfigError, WeightsError:
            no such weights.
    """
    photos = [photo for photo in read_photos(data_dir, split) if photo.side >= _LEAST_SIDE_PX]
    if not photos:
        raise InputError(
            f"no photo of {split} in {data_dir} has {_LEAST_SIDE_PX} pixels a side; expected a few"
        )
    groups = [photo.group for photo in photos]
    table = Table()
    for heading in ("weights", "n", "crop px", "limit px", "seen at px", "gain, dB"):
        table.add_column(heading)
    for name in weights:
        engine = Engine(checkpoint.find_named(name), device)
        for crop_px in _CROPS_PX:
            gains: dict[int, list[float]] = {limit_px: [] for limit_px in _LIMITS_PX}
            for photo in photos:
                hr = load_square(photo, 4 * crop_px)
                seed = zlib.crc32(photo.path.name.encode())
                crop = degrade(hr, np.random.default_rng(seed))
                size = (_SCALE * crop_px, _SCALE * crop_px)
                truth = np.asarray(cv2.resize(hr, size, interpolation=cv2.INTER_AREA), np.uint8)
                plain = psnr(upscale_frame(crop, _SCALE), truth)
                for limit_px, found in gains.items():
                    found.append(psnr(enhance(engine, crop, limit_px), truth) - plain)
            for limit_px, values in gains.items():
                found = interval(np.asarray(values), groups)
                assert found is not None
                seen = str(seen_side(crop_px, limit_px))
                row = (name, str(len(photos)), str(crop_px), str(limit_px), seen)
                table.add_row(*row, found.shown(signed=True))
    return table


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; 2 after a user's error, as everywhere."""
    return run_gain_table("What seeing faces shrunk costs.", measure, arguments)


if __name__ == "__main__":
    sys.exit(main())
