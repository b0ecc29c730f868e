"""The demo clip in; docs/weights.webp out: one face through every shipped network, at 100 %.

    python tools/weights_sheet.py docs/weights.webp

The upper row is the clip's face as it is and as weights ``clean`` see it, the lower row the same
face after a webcam (blur, noise, H.264) and weights ``webcam`` and ``detail``.
"""

from __future__ import annotations

import argparse
from contextlib import closing
from itertools import product
from pathlib import Path

import cv2
import numpy as np
from PIL import Image as Pillow
from PIL import ImageDraw, ImageFont

from cagface_core import checkpoint
from cagface_core.engine import Engine
from cagface_core.paste import upscale_frame
from cagface_core.train.degrade import h264
from cagface_core.types import Image
from realtime.source import open_source

CLIP = Path("assets/demo.mp4")
FACE = np.s_[2:162, 54:214]  # around the face of the clip's first frame
CELL_PX = 320
BAR_PX = 28


def webcam(face: Image) -> Image:
    """Blur, add noise to four frames of, and compress a face, (80, 80, 3) uint8."""
    rng = np.random.default_rng(5)
    soft = np.asarray(cv2.GaussianBlur(face, (0, 0), 0.7), np.float32)
    noise = rng.normal(0, 5, (4, *face.shape))
    return h264(list(np.clip(soft + noise, 0, 255).round().astype(np.uint8)), crf=24)


def row(label: str, face: Image, *names: str) -> list[tuple[str, Image]]:
    """The face in large pixels, bicubic, and by each network of these weights."""
    pixels = np.repeat(np.repeat(face, 4, axis=0), 4, axis=1)
    cells = [(label, pixels)]
    cells.append(("bicubic", upscale_frame(face, 4)))
    for name, preset in product(names, checkpoint.PRESETS):
        if f"{preset}-{name}" in checkpoint.shipped():
            engine = Engine(checkpoint.find_sr(preset, name), "cpu")
            cells.append((f"{preset}-{name}", engine.upscale(face)))
    return cells


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target", type=Path, help="the .png to write")
    target = parser.parse_args().target
    with closing(open_source(str(CLIP))) as source:
        frame = Pillow.fromarray(next(iter(source.frames())).rgb[FACE])
    # shrunk, so that the clip's own compression does not show
    first = np.asarray(frame.resize((80, 80), Pillow.Resampling.BICUBIC))
    rows = [
        row("input", first, "clean"),
        row("input, as a webcam", webcam(first), "webcam", "detail"),
    ]
    width = max(len(cells) for cells in rows) * (CELL_PX + 4)
    sheet = Pillow.new("RGB", (width, len(rows) * (CELL_PX + BAR_PX)), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(16)
    for y, cells in enumerate(rows):
        for x, (label, picture) in enumerate(cells):
            corner = (x * (CELL_PX + 4), y * (CELL_PX + BAR_PX))
            draw.text((corner[0] + 2, corner[1] + 5), label, fill="black", font=font)
            sheet.paste(Pillow.fromarray(picture), (corner[0], corner[1] + BAR_PX))
    sheet.save(target, quality=95)
    print(f"{target}: {sheet.width}x{sheet.height}")
