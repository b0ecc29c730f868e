"""A tiny photo set of drawn faces, laid out like the real one."""

import csv
from pathlib import Path

import cv2
import numpy as np

COLUMNS = ("file", "split", "tier", "kind", "group", "width", "height", "landmarks_ok")


def write_photo_set(folder: Path, side: int = 256) -> Path:
    """Draw two training and two validation faces, with masks in face-parsing class ids."""
    rows = []
    for index, split in enumerate(("train", "train", "val", "val")):
        rng = np.random.default_rng(index)
        picture = cv2.GaussianBlur(
            rng.integers(0, 256, (side, side, 3), dtype=np.uint8), (0, 0), 2.0
        )
        mask = np.zeros((side, side), np.uint8)
        c, r = side // 2, side // 4
        for value, centre, radius, colour in (
            (17, (c, c - r // 3), int(r * 1.2), (40, 30, 20)),
            (1, (c, c), r, (200, 150, 120)),
            (4, (c - r // 3, c - r // 4), r // 6, (20, 20, 20)),
            (5, (c + r // 3, c - r // 4), r // 6, (20, 20, 20)),
            (11, (c, c + r // 2), r // 5, (160, 40, 40)),
        ):
            cv2.circle(mask, centre, radius, value, -1)
            cv2.circle(picture, centre, radius, colour, -1)
        name = f"drawn/face_{index}"
        for kind, image in (("train_photos", picture), ("parsing_pseudo", mask)):
            path = folder / kind / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            assert cv2.imwrite(str(path), image)
        rows.append((f"{name}.png", split, "hr256", "synthetic", f"g{index}", side, side, True))
    with (folder / "train_photos" / "manifest.csv").open("w", newline="") as file:
        csv.writer(file).writerows([COLUMNS, *rows])
    return folder
