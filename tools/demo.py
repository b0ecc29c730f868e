"""A video in; the enhanced video and a before/after picture of one frame of it out.

``python tools/demo.py assets/demo.mp4 out`` writes ``out/demo.mp4`` and ``out/demo.png``.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from PIL import Image as Pictures
from PIL import ImageDraw, ImageFont

from cagface_core import CagfaceError, EnhancerConfig, Face, FaceEnhancer, Frame, Image, OutputError
from realtime.cli import main as cagface
from realtime.source import open_source

LONGEST_OUTPUT_PX = 2560
PANEL_PX = 640
BAR_PX = 34
FACE_MARGIN = 1.7


def scale_for(video: Path) -> int:
    """The largest output scale that keeps the longest side within LONGEST_OUTPUT_PX."""
    with closing(open_source(str(video))) as source:
        longest_px = max(source.info.width, source.info.height)
    return next((s for s in (4, 2) if s * longest_px <= LONGEST_OUTPUT_PX), 1)


def enhance(video: Path, result: Path, scale: int) -> tuple[int, dict[str, float]]:
    """Run ``cagface video``; its exit code, and what it measured when that is 0."""
    with tempfile.TemporaryDirectory() as folder:
        measured = Path(folder) / "stats.json"
        words = ["video", str(video), str(result), "--scale", str(scale), "--overwrite"]
        code = cagface([*words, "--stats-json", str(measured)])
        return code, json.loads(measured.read_text(encoding="utf-8")) if code == 0 else {}


def picked(video: Path, indices: list[int]) -> Iterator[Frame]:
    """The frames at these rising indices, decoded in one pass."""
    with closing(open_source(str(video))) as source:
        frames = source.frames()
        start = 0
        for index in indices:
            yield from itertools.islice(frames, index - start, index - start + 1)
            start = index + 1


def largest_face(rgb: Image) -> Face | None:
    """The largest face of a picture."""
    with closing(FaceEnhancer(EnhancerConfig(scale=1, mode="image", max_faces=1))) as enhancer:
        faces = enhancer.enhance(Frame(rgb), enhancer.new_state()).faces
    return faces[0] if faces else None


def first_with_face(video: Path, result: Path, frames: int) -> tuple[Image, Image, Face | None]:
    """The first of three moments with a face: the frame before, the frame after, the face."""
    indices = sorted({int(frames * part) for part in (0.25, 0.5, 0.75)})
    moments = list(zip(picked(video, indices), picked(result, indices), strict=True))
    for before, after in moments:
        if face := largest_face(before.rgb):
            return before.rgb, after.rgb, face
    print(f"note: no face found in {len(moments)} frames of {video}", file=sys.stderr)
    return moments[0][0].rgb, moments[0][1].rgb, None


def panel(picture: Pictures.Image, height_px: int, text: str) -> Pictures.Image:
    """The picture fitted into a labelled panel PANEL_PX wide."""
    board = Pictures.new("RGB", (PANEL_PX, height_px + BAR_PX), (24, 24, 24))
    factor = min(PANEL_PX / picture.width, height_px / picture.height)
    size = (round(picture.width * factor), round(picture.height * factor))
    fitted = picture.resize(size, Pictures.Resampling.BICUBIC)
    board.paste(fitted, ((PANEL_PX - size[0]) // 2, BAR_PX + (height_px - size[1]) // 2))
    font = ImageFont.load_default(size=18)
    ImageDraw.Draw(board).text((10, BAR_PX / 2), text, (235, 235, 235), font, anchor="lm")
    return board


def draw(before: Image, after: Image, face: Face | None) -> Pictures.Image:
    """Both frames side by side, the face enlarged below them.

    ``before`` (H, W, 3) is enlarged by bicubic interpolation to the size of ``after``, so that
    both sides differ in the enhancement only.
    """
    new = Pictures.fromarray(after)
    old = Pictures.fromarray(before).resize(new.size, Pictures.Resampling.BICUBIC)
    height_px = min(PANEL_PX, round(PANEL_PX * new.height / new.width))
    scale = new.width // before.shape[1]
    rows = [[panel(old, height_px, "before: bicubic"), panel(new, height_px, "after: CAGFace")]]
    if face is not None:
        half = scale * FACE_MARGIN * max(face.w, face.h) / 2
        x, y = scale * (face.x + face.w / 2), scale * (face.y + face.h / 2)
        box = (round(x - half), round(y - half), round(x + half), round(y + half))
        label = f"the face, {face.w:.0f} px wide in the input"
        rows.append([panel(old.crop(box), PANEL_PX, label), panel(new.crop(box), PANEL_PX, label)])
    board = Pictures.new("RGB", (2 * PANEL_PX, sum(row[0].height for row in rows)))
    top = 0
    for row in rows:
        for column, part in enumerate(row):
            board.paste(part, (column * PANEL_PX, top))
        top += row[0].height
    return board


def run(video: Path, folder: Path) -> int:
    """Enhance, draw, tell; the exit code."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder} cannot be made a folder ({error.strerror})") from error
    result, poster = folder / "demo.mp4", folder / "demo.png"
    scale = scale_for(video)
    code, measured = enhance(video, result, scale)
    if code != 0:
        return code
    draw(*first_with_face(video, result, int(measured["frames"]))).save(poster)
    print(f"video:        {result} (scale {scale}, {measured['fps']:.2f} fps)")
    print(f"before/after: {poster}")
    return 0


def main() -> int:
    """The command line: exit code 2 and one line when something is wrong."""
    parser = argparse.ArgumentParser(description="Enhance a video and show what it changed")
    parser.add_argument("video", type=Path)
    parser.add_argument("out", type=Path, help="the folder for demo.mp4 and demo.png")
    arguments = parser.parse_args()
    try:
        return run(arguments.video, arguments.out)
    except CagfaceError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
