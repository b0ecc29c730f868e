"""The photo set on disk in; square pictures, low-resolution inputs and component maps out."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from cagface_core.bisenet import CLASSES
from cagface_core.errors import InputError
from cagface_core.types import Image

IGNORE = 255
"""The label of pixels that no loss and no score may look at."""

_COLUMNS = ("file", "split", "group", "kind", "tier", "width", "height", "landmarks_ok")

_CLASS_OF_MASK = {
    0: "background", 1: "skin", 2: "brows", 3: "brows", 4: "eyes", 5: "eyes",
    7: "ears", 8: "ears", 10: "nose", 11: "mouth", 12: "mouth", 13: "mouth", 17: "hair",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Photo:
    """One face photo: where it lies, its split, group (person), kind, tier and source.

    ``kind`` is ``real`` or ``synthetic``; ``mask`` is the picture of component labels, or None;
    ``tag`` is the manifest's word for what a synthetic picture was drawn to show, may be empty.
    """

    path: Path
    split: str
    group: str
    kind: str
    tier: str
    source: str
    side: int
    mask: Path | None
    mask_is_hand_made: bool
    tag: str


def find_manifest(data_dir: Path) -> Path:
    """The list of a photo set. Raises ``InputError`` where there is none."""
    manifest = data_dir / "train_photos" / "manifest.csv"
    if not manifest.is_file():
        raise InputError(f"no photo set in {data_dir}: expected {manifest}; give --data its folder")
    return manifest


def read_photos(data_dir: Path, split: str) -> list[Photo]:
    """List the photos of a split, in the manifest's order.

    The split is by group: the manifest keeps one person's pictures together, and a group found
    on both sides is refused.

    Raises:
        InputError: there is no photo set, or it mixes a group over splits.
    """
    manifest = find_manifest(data_dir)
    try:
        with manifest.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            rows, there = list(reader), set(reader.fieldnames or ())
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{manifest} is no CSV file in UTF-8 ({error})") from error
    if missing := [name for name in _COLUMNS if name not in there]:
        raise InputError(
            f"{manifest} has no column {', '.join(missing)}; expected {', '.join(_COLUMNS)}"
        )
    split_of: dict[str, str] = {}
    for row in rows:
        if split_of.setdefault(row["group"], row["split"]) != row["split"]:
            raise InputError(f"{manifest}: group {row['group']!r} stands in two splits")
    photos: list[Photo] = []
    for row in rows:
        if row["split"] != split:
            continue
        name = Path(row["file"])
        hand_made = data_dir / "parsing_gt_london" / f"{name.stem}.png"
        pseudo = data_dir / "parsing_pseudo" / name.with_suffix(".png")
        mask = next((p for p in (hand_made, pseudo) if p.is_file()), None)
        if row["landmarks_ok"] != "True" and mask == pseudo:
            mask = None  # only the hair of such a mask is valid
        photos.append(
            Photo(
                path=manifest.parent / name,
                split=split,
                group=row["group"],
                kind=row["kind"],
                tier=row["tier"],
                source=name.parts[0],
                side=min(int(row["width"]), int(row["height"])),
                mask=mask,
                mask_is_hand_made=mask == hand_made,
                tag=row.get("tag", ""),
            )
        )
    if not photos:
        raise InputError(f"no photos of split {split!r} in {manifest}; it has train, val, test")
    return photos


def load_square(photo: Photo, side_px: int) -> Image:
    """Read a photo's central square at (side_px, side_px, 3), by antialiased bicubic."""
    with Pillow.open(photo.path) as picture:
        picture = picture.convert("RGB")
        return np.asarray(_square(picture).resize((side_px, side_px), Pillow.Resampling.BICUBIC))


def downsample4(hr: Image) -> Image:
    """The paper's degradation: antialiased bicubic to a quarter, (4H, 4W, 3) to (H, W, 3) uint8."""
    height, width = hr.shape[:2]
    picture = Pillow.fromarray(hr)
    return np.asarray(picture.resize((width // 4, height // 4), Pillow.Resampling.BICUBIC))


def load_labels(photo: Photo, side_px: int) -> NDArray[np.uint8]:
    """Read a photo's component labels at (side_px, side_px): indices of ``CLASSES`` or IGNORE.

    Raises:
        InputError: the photo has no mask.
    """
    if photo.mask is None:
        raise InputError(f"{photo.path} has no component mask")
    table = np.full(256, IGNORE, np.uint8)
    for value, name in _CLASS_OF_MASK.items():
        table[value] = CLASSES.index(name)
    with Pillow.open(photo.mask) as mask:
        square = _square(mask).resize((side_px, side_px), Pillow.Resampling.NEAREST)
    return table[np.asarray(square)]


def _square(picture: Pillow.Image) -> Pillow.Image:
    """Cut the central square."""
    side = min(picture.size)
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    return picture.crop((left, top, left + side, top + side))
