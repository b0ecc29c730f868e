"""``python -m cagface_core.train.ranges``: photos in; what 8 bit needs, into weights.

Only the header of the file changes; its tensors, and their sha256, stay.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from torch import Tensor

from cagface_core import checkpoint
from cagface_core.attention import component_maps, make_block, resize_maps, to_signed
from cagface_core.cagface import CAGFaceConfig
from cagface_core.fold import FoldedCAGFace, fold
from cagface_core.quantise import FACT, LAST, find_ranges, quantised
from cagface_core.standalone import run_standalone
from cagface_core.train.degrade import degrade
from cagface_core.train.photos import downsample4, load_square, read_photos
from cagface_core.types import Image

MOST_LOSS_DB = 0.05
"""What 8 bit may cost in the last upsampler: half of what the whole may."""

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
            loss = add_ranges(path, options.data, options.photos)
            last = "with" if loss <= MOST_LOSS_DB else "without"
            told = f"{FACT} added, {last} the last upsampler, which loses {loss:.3f} dB"
            Console().print(f"{path}: {told}", soft_wrap=True)

    return run_standalone(work)


def add_ranges(path: Path, data: Path, photos: int) -> float:
    """Measure activation ranges on photos and write them into a weights file.

    That of the last upsampler is written only where 8 bit costs little there: up to
    :data:`MOST_LOSS_DB` of peak signal-to-noise ratio on these photos.

    Args:
        path: a super-resolution network, changed in place.
        data: a folder as :func:`cagface_core.train.photos.read_photos` takes it.
        photos: how many to look at.

    Returns:
        What 8 bit costs in the last upsampler, in dB.

    Raises:
        InputError: no photo set. WeightsError: no such network. OutputError: cannot write.
    """
    model, held = checkpoint.load_sr(path)
    network = fold(model)
    degraded = held.facts.get("protocol") == "webcam"
    samples = list(_samples(data, photos, model.config, degraded=degraded))
    ranges = find_ranges(network, (block for _, block in samples))
    branches = {name: limits for name, limits in ranges.items() if name != LAST}
    without, with_it = (_psnr(quantised(network, some), samples) for some in (branches, ranges))
    loss = without - with_it
    facts = {**held.facts, FACT: ranges if loss <= MOST_LOSS_DB else branches}
    checkpoint.save(path, held.kind, model.config, held.tensors, facts)
    return loss


def _samples(
    data: Path, count: int, config: CAGFaceConfig, *, degraded: bool
) -> Iterator[tuple[Image, Tensor]]:
    """``count`` photos, spread over the training split, and the network's input for each."""
    parser, _ = checkpoint.load_parser(checkpoint.WEIGHTS_DIR / "parser.safetensors")
    photos = read_photos(data, "train")
    rng = np.random.default_rng(0)
    for photo in photos[:: max(1, len(photos) // count)][:count]:
        hr = load_square(photo, _SIDE_PX)
        lr = to_signed([degrade(hr, rng) if degraded else downsample4(hr)])
        maps = resize_maps(component_maps(parser, lr), *lr.shape[-2:])
        yield hr, make_block(lr, maps, config.attention)


@torch.inference_mode()
def _psnr(network: FoldedCAGFace, samples: Sequence[tuple[Image, Tensor]]) -> float:
    """Mean peak signal-to-noise ratio of what a network makes, in dB."""
    errors = [network(block) - to_signed([hr], block.device) for hr, block in samples]
    return float(np.mean([10 * np.log10(4 / float(error.square().mean())) for error in errors]))


if __name__ == "__main__":
    sys.exit(main())
