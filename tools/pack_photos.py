"""The photo set in; one small .zip of the same layout out, to train on another machine.

    python tools/pack_photos.py DATA runs/photos.zip
    python -m zipfile -e runs/photos.zip FOLDER        # there; FOLDER is then its --data

Photos are shrunk and compressed again as WebP, and only some keep their whole size for patches.
"""

from __future__ import annotations

import argparse
import csv
import io
import zipfile
from pathlib import Path

from PIL import Image


def pack(data: Path, target: Path, max_side_px: int, quality: int, whole: int) -> int:
    """Write the archive whole or not at all; the number of photos in it."""
    folder = data / "train_photos"
    with (folder / "manifest.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    kept_whole: dict[str, int] = {}
    temporary = target.with_name(f".{target.name}.part")
    with zipfile.ZipFile(temporary, "w") as archive:
        for row in rows:
            with Image.open(folder / row["file"]) as opened:
                picture = opened.convert("RGB")
            if min(picture.size) >= 1000 and kept_whole.setdefault(row["split"], 0) < whole:
                kept_whole[row["split"]] += 1
            elif min(picture.size) > max_side_px:
                scale = max_side_px / min(picture.size)
                size = (round(picture.width * scale), round(picture.height * scale))
                picture = picture.resize(size, Image.Resampling.BICUBIC)
            row["width"], row["height"] = str(picture.width), str(picture.height)
            data_out = io.BytesIO()
            picture.save(data_out, "WEBP", quality=quality, method=6)
            archive.writestr(f"train_photos/{row['file']}", data_out.getvalue())
        text = io.StringIO()
        writer = csv.DictWriter(text, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
        archive.writestr("train_photos/manifest.csv", text.getvalue())
        for masks in ("parsing_pseudo", "parsing_gt_london"):
            for path in sorted((data / masks).rglob("*.png")):
                archive.write(path, path.relative_to(data))
    temporary.replace(target)
    return len(rows)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Pack the photo set small.")
    parser.add_argument("data", type=Path, help="folder of the photo set")
    parser.add_argument("target", type=Path, help="the .zip to write")
    parser.add_argument("--max-side-px", type=int, default=320, help="shorter side (default 320)")
    parser.add_argument("--quality", type=int, default=80, help="of WebP, 0..100 (default 80)")
    parser.add_argument("--whole", type=int, default=60, metavar="N",
                        help="photos of each split that keep 1024 px (default 60)")  # fmt: skip
    a = parser.parse_args()
    count = pack(a.data, a.target, a.max_side_px, a.quality, a.whole)
    print(f"{count} photos, {a.target.stat().st_size / 1e6:.1f} MB: {a.target}")
