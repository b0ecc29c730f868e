"""Photos with a foreign thing held before the face in; whether that is enhanced wrongly, out.

A hand, a cup or a microphone before a face is no face. Were the network to draw a face on it, or
smear it, it would do worse there than plain enlargement; the paste would then have to spare it.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from cagface_core import checkpoint
from cagface_core.engine import Engine
from cagface_core.evaluate.gain_table import run_gain_table
from cagface_core.evaluate.metrics import psnr
from cagface_core.evaluate.statistics import interval
from cagface_core.paste import upscale_frame
from cagface_core.train.degrade import degrade
from cagface_core.train.photos import load_square, read_photos
from cagface_core.types import Image

_SIDE_PX = 256
_AXES_PX = (70, 32)


def cover(hr: Image, other: Image, rng: np.random.Generator) -> tuple[Image, NDArray[np.bool_]]:
    """Hold an ellipse of another picture before the middle of a face.

    Args:
        hr: the face, (256, 256, 3) uint8 RGB.
        other: what the ellipse shows, of the same size; upside down, so that faces on it do not
            fall on the face.
        rng: where it lies, and its angle.

    Returns:
        The covered picture, and where it is covered, (256, 256) bool.
    """
    mask = np.zeros(hr.shape[:2], np.uint8)
    middle = int(rng.uniform(90, 166)), int(rng.uniform(120, 190))
    cv2.ellipse(mask, middle, _AXES_PX, float(rng.uniform(0, 180)), 0, 360, 1, -1)
    inside = mask.astype(bool)
    return np.where(inside[..., None], other[::-1], hr), inside


def measure(data_dir: Path, split: str, weights: Sequence[str], device: str) -> Table:
    """Gains over bicubic in dB within the thing, around it, and there without it.

    Raises:
        InputError: the photo set is not there. ConfigError, WeightsError: no such weights.
    """
    photos = read_photos(data_dir, split)
    engines = {name: Engine(checkpoint.find_named(name), device) for name in weights}
    gains: dict[str, list[list[float]]] = {name: [[], [], []] for name in weights}
    for index, photo in enumerate(photos):
        hr = load_square(photo, _SIDE_PX)
        other = load_square(photos[(index + 7) % len(photos)], _SIDE_PX)
        covered, inside = cover(hr, other, np.random.default_rng(index))
        places = ((covered, inside), (covered, ~inside), (hr, inside))
        for which, (truth, where) in enumerate(places):
            lr = degrade(truth, np.random.default_rng(index))
            plain = psnr(upscale_frame(lr, 4)[where], truth[where])
            for name, engine in engines.items():
                gains[name][which].append(psnr(engine.upscale(lr)[where], truth[where]) - plain)
    table = Table()
    for heading in ("weights", "n", "on the thing", "worst", "around it", "there, without it"):
        table.add_column(heading)
    groups = [photo.group for photo in photos]
    for name, columns in gains.items():
        cells: list[str] = []
        for values in columns:
            found = interval(np.asarray(values), groups)
            assert found is not None
            cells.append(found.shown(signed=True))
        worst = f"{min(columns[0]):+.2f}"
        table.add_row(name, str(len(photos)), cells[0], worst, cells[1], cells[2])
    return table


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; 2 after a user's error, as everywhere."""
    return run_gain_table("A thing held before the face.", measure, arguments)


if __name__ == "__main__":
    sys.exit(main())
