"""``python -m cagface_core.train.ranges``: photos in; what 8 bit needs, into weights.

Only the header of the file changes; its tensors, and their sha256, stay.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from rich.console import Console
from torch import Tensor

from cagface_core import checkpoint
from cagface_core.attention import component_maps, make_block, resize_maps, to_signed
from cagface_core.cagface import CAGFaceConfig
from cagface_core.fold import fold
from cagface_core.quantise import FACT, find_ranges
from cagface_core.standalone import run_standalone
from cagface_core.train.degrade import degrade
from cagface_core.train.photos import downsample4, load_square, read_photos

_SIDE_PX = 256


def main(arguments: Sequence[str] | None = None) -> int:
    """Add activation ranges to weights files; 2 after a mistake."""
    parser = argparse.ArgumentParser(
        prog="python -m cagface_core.train.ranges", description=__doc__
    )
    parser.add_argument("weights", type=Path, nargs="+", metavar="FILE")
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="the photo set")
    parser.add_argument("--photos", type=int, default=64, help="how many, of split train")
    options = parser.parse_args(arguments)

    def work() -> None:
        for path in options.weights:
            add_ranges(path, options.data, options.photos)
            Console().print(f"{path}: {FACT} added")

    return run_standalone(work)


def add_ranges(path: Path, data: Path, photos: int) -> None:
    """Measure activation ranges on photos and write them into a weights file.

    Args:
        path: a super-resolution network, changed in place.
        data: a folder as :func:`cagface_core.train.photos.read_photos` takes it.
        photos: how many to look at.

    Raises:
        InputError: no photo set. WeightsError: no such network. OutputError: cannot write.
    """
    model, held = checkpoint.load_sr(path)
    degraded = held.facts.get("protocol") == "webcam"
    ranges = find_ranges(fold(model), _blocks(data, photos, model.config, degraded=degraded))
    facts = {**held.facts, FACT: ranges}
    checkpoint.save(path, held.kind, model.config, held.tensors, facts)


def _blocks(data: Path, count: int, config: CAGFaceConfig, *, degraded: bool) -> Iterator[Tensor]:
    """The network's input for ``count`` photos, spread over the training split."""
    parser, _ = checkpoint.load_parser(checkpoint.WEIGHTS_DIR / "parser.safetensors")
    photos = read_photos(data, "train")
    rng = np.random.default_rng(0)
    for photo in photos[:: max(1, len(photos) // count)][:count]:
        hr = load_square(photo, _SIDE_PX)
        lr = to_signed([degrade(hr, rng) if degraded else downsample4(hr)])
        maps = resize_maps(component_maps(parser, lr), *lr.shape[-2:])
        yield make_block(lr, maps, config.attention)


if __name__ == "__main__":
    sys.exit(main())
