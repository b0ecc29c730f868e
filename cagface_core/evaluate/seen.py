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
from cagface_core.crop import (
    FACE_TO_CROP,
    UPWARD_SHIFT,
    choose_crop,
    cut,
    reach,
    seen_side,
    work_grid,
)
from cagface_core.engine import Engine
from cagface_core.errors import InputError
from cagface_core.evaluate.gain_table import run_gain_table
from cagface_core.evaluate.metrics import psnr
from cagface_core.evaluate.statistics import interval
from cagface_core.paste import feather, upscale_frame
from cagface_core.train.degrade import degrade
from cagface_core.train.photos import load_square, read_photos
from cagface_core.types import Face, Floats, Image

_CROPS_PX = (128, 192, 256, 384)
_LIMITS_PX = (64, 96, 192, 384)
_SCALE = 2
_LEAST_SIDE_PX = 1020  # of a photo: twice and more what is shown of all crops but the largest


def enhance(engine: Engine, crop: Image, limit_px: int) -> Image:
    """Super-resolve a crop (S, S, 3) to (2S, 2S, 3), all of it shrunk to the limit, uint8 RGB."""
    return _shown(crop, _added(engine, crop, limit_px))


def enhance_as_live(engine: Engine, head: Image, limit_px: int) -> Image:
    """Do the same to what of a head a frame's crop holds, see ``crop.enhanced_side``."""
    side, face = head.shape[0], _face(head.shape[0])
    crop = choose_crop(face, side, side, limit_px)
    added = _added(engine, cut(head, crop), limit_px)
    mask = feather(crop, reach(face, limit_px), side, side, _SCALE)
    whole = np.zeros((_SCALE * side, _SCALE * side, 3), np.float32)
    left, top = (_SCALE * at for at in (crop.x, crop.y))
    whole[top : top + added.shape[0], left : left + added.shape[1]] = mask * added
    return _shown(head, whole)


def _face(side: int) -> Face:
    """Where in a crop of all of a head its face is."""
    face_px = side / FACE_TO_CROP
    top = side / 2 + (UPWARD_SHIFT - 0.5) * face_px
    return Face(0, (side - face_px) / 2, top, face_px, face_px, 1.0)


def _added(engine: Engine, crop: Image, limit_px: int) -> Floats:
    """What the network adds to the plain upscale of a crop, (2S, 2S, 3)."""
    side = crop.shape[0]
    _, scale = work_grid(side, limit_px, _SCALE)
    residual = engine.residual([crop], engine.parse([crop]), scale, limit_px)[0]
    size = (_SCALE * side, _SCALE * side)
    return np.asarray(cv2.resize(residual, size, interpolation=cv2.INTER_CUBIC), np.float32)


def _shown(crop: Image, added: Floats) -> Image:
    return np.clip(upscale_frame(crop, _SCALE) + added + 0.5, 0, 255).astype(np.uint8)


def measure(data_dir: Path, split: str, weights: Sequence[str], device: str) -> Table:
    """Gains over bicubic in dB, by the side of the head's crop and the limit.

    Of all of the crop and of the face in it: if all of it is shrunk, and as a frame's crop is.

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
    for heading in ("weights", "n", "crop px", "limit px"):
        table.add_column(heading)
    for what in ("whole", "as live"):
        for heading in ("seen at px", "gain, dB", "in the face"):
            table.add_column(f"{what}: {heading}")
    for name in weights:
        engine = Engine(checkpoint.find_named(name), device)
        for crop_px in _CROPS_PX:
            gains: dict[tuple[int, str, str], list[float]] = {}
            face = _face(crop_px)
            left, top, length = (round(_SCALE * x) for x in (face.x, face.y, face.w))
            parts = {"all": np.s_[:, :], "face": np.s_[top : top + length, left : left + length]}
            for photo in photos:
                hr = load_square(photo, 4 * crop_px)
                seed = zlib.crc32(photo.path.name.encode())
                crop = degrade(hr, np.random.default_rng(seed))
                size = (_SCALE * crop_px, _SCALE * crop_px)
                truth = np.asarray(cv2.resize(hr, size, interpolation=cv2.INTER_AREA), np.uint8)
                plain = upscale_frame(crop, _SCALE)
                for limit_px in _LIMITS_PX:
                    for how in (enhance, enhance_as_live):
                        made = how(engine, crop, limit_px)
                        for part, place in parts.items():
                            gain = psnr(made[place], truth[place])
                            gain -= psnr(plain[place], truth[place])
                            gains.setdefault((limit_px, how.__name__, part), []).append(gain)
            for limit_px in _LIMITS_PX:
                row = [name, str(len(photos)), str(crop_px), str(limit_px)]
                sides = crop_px, choose_crop(face, crop_px, crop_px, limit_px).size
                for how, side in zip((enhance, enhance_as_live), sides, strict=True):
                    row.append(str(seen_side(side, limit_px)))
                    for part in parts:
                        found = interval(np.asarray(gains[limit_px, how.__name__, part]), groups)
                        assert found is not None
                        row.append(found.shown(signed=True))
                table.add_row(*row)
    return table


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; 2 after a user's error, as everywhere."""
    return run_gain_table("What seeing faces shrunk costs.", measure, arguments)


if __name__ == "__main__":
    sys.exit(main())
