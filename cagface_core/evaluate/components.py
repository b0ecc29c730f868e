"""Photos and their masks in; how well the component network finds each component, by size, out.

Run ``python -m cagface_core.evaluate.components --data DIR [--split test] [--parser FILE]``.

Each photo is brought to 32, 64, 128 and 256 px, clean (antialiased bicubic) and degraded as in
training, and parsed as at run time. Found is compared with true at ``INPUT_PX``, all pixels of all
photos together. True are the hand-made masks, people of this split only, and apart from them the
masks that a teacher network made, which know no ears. A sheet of the hard cases is for the eye.
"""

from __future__ import annotations

import argparse
import csv
import io
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image as Pillow
from rich.progress import track
from torch import Tensor, nn

from cagface_core import checkpoint
from cagface_core.attention import component_maps, to_signed
from cagface_core.bisenet import CLASSES, INPUT_PX
from cagface_core.errors import ConfigError
from cagface_core.evaluate.component_scores import Tally, markdown, to_json
from cagface_core.fold import place
from cagface_core.paths import find_device
from cagface_core.standalone import open_console, run_standalone, write_files
from cagface_core.train.parser import shrink_like_a_webcam
from cagface_core.train.photos import IGNORE, Photo, load_labels, load_square, read_photos
from cagface_core.types import Image

SIZES_PX = (32, 64, 128, 256)
"""Sides of the square pictures that the parser is given."""

CONDITIONS = ("clean", "degraded")

REFERENCES = {"hand-made masks": CLASSES, "a teacher's masks": CLASSES[:-1]}
"""Whose masks, and which classes these know; the last class, ears, a teacher does not."""

_CASES: dict[str, tuple[str, ...]] = {
    "hat": ("Hats", "Accessories"), "glasses": ("Glasses_Style",), "beard": ("Facial_Hair",),
}  # fmt: skip
_PER_CASE = 3
_CELL_PX = 192
_COLOURS = np.array(
    [(0, 0, 0), (60, 60, 200), (220, 170, 140), (120, 60, 0), (255, 255, 255), (240, 220, 60),
     (220, 40, 60), (60, 180, 90)], np.uint8,
)  # fmt: skip


def measure(data: Path, split: str, parser: nn.Module, name: str) -> dict[str, Any]:
    """Score a component network.

    Args:
        data: folder of the photo set.
        split: ``val`` or ``test``: people whom no training saw.
        parser: maps (N, 3, INPUT_PX, INPUT_PX) RGB in [-1, 1] to logits of ``CLASSES``.
        name: how the report calls it.

    Returns:
        ``split``, ``parser`` and ``references``: for each of ``REFERENCES`` the number of
        pictures and people, and by condition and size what ``Tally.report`` gives.

    Raises:
        InputError: there is no photo set, or a person stands in two splits.
        ConfigError: the split is the training's.
    """
    if split == "train":
        raise ConfigError("the training split says nothing here; expected val or test")
    photos = [p for p in read_photos(data, split) if p.mask is not None]
    tallies = {
        (reference, condition, size): Tally(known)
        for reference, known in REFERENCES.items()
        for condition in CONDITIONS
        for size in SIZES_PX
    }
    groups: dict[str, set[str]] = {reference: set() for reference in REFERENCES}
    for index, photo in enumerate(track(photos, "photos", transient=True)):
        reference = tuple(REFERENCES)[0 if photo.mask_is_hand_made else 1]
        groups[reference].add(photo.group)
        picture, labels = load_square(photo, INPUT_PX), load_labels(photo, INPUT_PX)
        for condition in CONDITIONS:
            for size in SIZES_PX:
                small = shrunk(picture, size, condition, index)
                found = probabilities(parser, small).cpu().numpy()
                tallies[reference, condition, size].add(found, labels)
    references: dict[str, Any] = {}
    for reference, known in REFERENCES.items():
        if groups[reference]:
            conditions = {
                c: {str(size): tallies[reference, c, size].report() for size in SIZES_PX}
                for c in CONDITIONS
            }
            references[reference] = {
                "pictures": tallies[reference, "clean", SIZES_PX[0]].pictures,
                "people": len(groups[reference]), "known": known, "conditions": conditions,
            }  # fmt: skip
    return {"split": split, "parser": name, "references": references}


def shrunk(picture: Image, size_px: int, condition: str, index: int) -> Image:
    """Bring (S, S, 3) uint8 to (size_px, size_px, 3), clean or degraded; the same each time."""
    if condition == "degraded":
        return shrink_like_a_webcam(picture, size_px, np.random.default_rng([97, size_px, index]))
    size = (size_px, size_px)
    return np.asarray(Pillow.fromarray(picture).resize(size, Pillow.Resampling.BICUBIC))


@torch.inference_mode()
def probabilities(parser: nn.Module, picture: Image) -> Tensor:
    """Parse one (S, S, 3) uint8 picture as at run time: (classes, INPUT_PX, INPUT_PX) in [0, 1]."""
    side = (INPUT_PX, INPUT_PX)
    signed = to_signed([picture], _device_of(parser))
    seen = F.interpolate(signed, size=side, mode="bilinear", align_corners=False, antialias=True)
    logits: Tensor = parser(seen)
    logits = F.interpolate(logits, size=side, mode="bilinear", align_corners=False)
    return logits[0].softmax(dim=0)


def hard_cases(data: Path, split: str) -> list[tuple[str, Photo]]:
    """Choose the faces that parsers fail on: (case, photo), a few of each case.

    Hats, glasses and beards by the manifest's tags; profiles are the most turned faces, bald those
    of the others whose mask has the least hair. A case the split does not have is left out.
    """
    photos = read_photos(data, split)
    folder = data / "train_photos"
    with (folder / "manifest.csv").open(newline="", encoding="utf-8") as file:
        rows = {folder / row["file"]: row for row in csv.DictReader(file)}
    chosen: list[tuple[str, Photo]] = []
    for case, tags in _CASES.items():
        tagged = [p for tag in tags for p in photos if rows[p.path].get("tag") == tag]
        chosen += [(case, p) for p in tagged[:_PER_CASE]]
    yaws = {p.path: abs(float(rows[p.path].get("yaw") or 0)) for p in photos}
    turned = sorted((p for p in photos if yaws[p.path] > 0), key=lambda p: -yaws[p.path])
    chosen += [("profile", p) for p in turned[:_PER_CASE]]
    taken = {p.path for _, p in chosen}
    others = [p for p in photos if p.mask is not None and p.path not in taken]
    hair = {p.path: int(np.sum(load_labels(p, 64) == CLASSES.index("hair"))) for p in others}
    least_hair = sorted(others, key=lambda p: hair[p.path])
    return chosen + [("bald", p) for p in least_hair[:_PER_CASE]]


def sheet(parser: nn.Module, cases: Sequence[tuple[str, Photo]]) -> Image:
    """Draw one row a face: input, heatmaps at four inputs, labels found, labels true.

    Heatmaps lie over what the parser was given: parts red, skin green, hair blue. The inputs are
    256 px clean, 64 px clean, 64 px and 32 px degraded.
    """
    rows: list[Image] = []
    for index, (case, photo) in enumerate(cases):
        picture = load_square(photo, INPUT_PX)
        views = (("clean", 256), ("clean", 64), ("degraded", 64), ("degraded", 32))
        inputs = [shrunk(picture, size, condition, index) for condition, size in views]
        found = probabilities(parser, picture).argmax(dim=0).cpu().numpy()
        true = np.zeros((INPUT_PX, INPUT_PX), np.uint8)
        if photo.mask is not None:
            true = load_labels(photo, INPUT_PX)
            true[true == IGNORE] = 0
        drawings = [
            picture,
            *(_overlay(parser, i) for i in inputs),
            _COLOURS[found],
            _COLOURS[true],
        ]
        row = np.hstack([_cell(drawing) for drawing in drawings])
        cv2.putText(row, case, (6, 20), cv2.FONT_HERSHEY_SIMPLEX, 0.6, (255, 255, 255), 3)
        cv2.putText(row, case, (6, 20), cv2.FONT_HERSHEY_SIMPLEX, 0.6, (0, 0, 0), 1)
        rows.append(row)
    return np.vstack(rows)


@torch.inference_mode()
def _overlay(parser: nn.Module, picture: Image) -> Image:
    """Lay the pooled heatmaps over the picture the parser was given."""
    maps = component_maps(parser, to_signed([picture], _device_of(parser)))[0]
    colours = maps.flip(0).permute(1, 2, 0).cpu().numpy() * 255
    mixed = 0.45 * _cell(picture) + 0.55 * cv2.resize(colours, (_CELL_PX, _CELL_PX))
    return mixed.astype(np.uint8)


def _cell(picture: NDArray[np.uint8]) -> Image:
    """Bring a square picture to the sheet's cell; coarse ones stay visibly coarse."""
    kernel = cv2.INTER_AREA if picture.shape[0] >= _CELL_PX else cv2.INTER_NEAREST
    return np.asarray(cv2.resize(picture, (_CELL_PX, _CELL_PX), interpolation=kernel), np.uint8)


def _device_of(parser: nn.Module) -> torch.device:
    return next(parser.parameters()).device


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; 2 after a user's error, as everywhere."""
    parser = argparse.ArgumentParser(description="IoU, F1 and calibration of the component network")
    parser.add_argument("--data", type=Path, required=True, help="folder of the photo set")
    parser.add_argument("--split", default="val", choices=("val", "test"))
    parser.add_argument(
        "--parser", type=Path, default=checkpoint.WEIGHTS_DIR / "parser.safetensors",
        metavar="FILE", help=".safetensors, or .pth of the face-parsing layout (default: shipped)",
    )  # fmt: skip
    parser.add_argument("--out", type=Path, default=Path("out/components"), help="folder to write")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or mps")
    options = parser.parse_args(arguments)
    return run_standalone(lambda: _run(options))


def _run(options: argparse.Namespace) -> None:
    """Measure, write the files, print the table, and say where the files are."""
    model, facts = checkpoint.load_parser(options.parser)
    placed = place(model, find_device(options.device))
    name = f"{options.parser.name} ({facts.sha256[:8]})"
    report = measure(options.data, options.split, placed, name)
    cases = hard_cases(options.data, options.split)
    report["hard_cases"] = [(case, photo.path.name) for case, photo in cases]
    table, drawn = markdown(report), io.BytesIO()
    Pillow.fromarray(sheet(placed, cases)).save(drawn, "PNG")
    files = {"components.json": to_json(report), "components.md": table}
    write_files(options.out, {**files, "components.png": drawn.getvalue()})
    console = open_console()
    console.print(table, markup=False, soft_wrap=True)
    console.print(f"wrote components.json, components.md and components.png in {options.out}")


if __name__ == "__main__":
    sys.exit(main())
