"""A folder of pictures in, how many faces each detector finds by face size out.

Run ``python -m cagface_core.evaluate.recall --data DIR [--out FILE.json]``.

The yardstick is not hand labels. `DIR/test_images/manifest.csv` gives only how many faces a picture
shows; where they are is taken from YuNet (`DIR/models/yunet`), run at full size and at 640 px and
cut to that many best boxes. So recall here means: of the faces YuNet sees, how many are found too.
A false box is one that matches no yardstick box; some of those are faces that YuNet missed.
"""

from __future__ import annotations

import argparse
import csv
import json
import logging
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image as PillowImage
from PIL import ImageOps
from rich.table import Table

from cagface_core.blazeface import BlazeFaceDetector
from cagface_core.detect import LiveDetector, TiledDetector
from cagface_core.errors import InputError
from cagface_core.native_log import native_stderr_to_log
from cagface_core.standalone import open_console, run_standalone, write_files
from cagface_core.types import Detection, Image

log = logging.getLogger(__name__)

BUCKETS_PX: tuple[tuple[int, int], ...] = ((0, 32), (32, 64), (64, 128), (128, 256), (256, 100_000))
"""Face heights in pixels: from, below."""
MATCH_IOU = 0.3
"""YuNet's box is tall and BlazeFace's square: the same face seldom overlaps by more than 0.7."""
NO_FACE_PICTURE = "no_real_face_illustration.png"

Find = Callable[[Image], Sequence[Detection]]


@dataclass(frozen=True, slots=True)
class Recall:
    """What one detector found: per bucket of `BUCKETS_PX`, and over all pictures."""

    found: tuple[int, ...]
    faces: tuple[int, ...]
    false_boxes: int
    drawn_faces: int
    """Boxes in the one picture that shows drawn faces only; counted as false boxes too."""
    ms_per_picture: float


def measure(
    data: Path, finders: Mapping[str, Find], *, yunet: Path | None = None, most: int | None = None
) -> dict[str, Recall]:
    """Run detectors over the pictures of ``data/test_images/manifest.csv``.

    Args:
        data: the data folder.
        finders: by name, a function from an (H, W, 3) uint8 RGB picture to detections.
        yunet: the YuNet model; by default the one in ``data/models/yunet``.
        most: only pictures with at most so many faces; None is all.

    Raises:
        InputError: the manifest, a picture or the model cannot be read.
    """
    model = yunet or data / "models" / "yunet" / "face_detection_yunet_2023mar.onnx"
    if not model.is_file():
        raise InputError(f"no YuNet model at {model}: expected the data folder with models/yunet")
    pictures: list[tuple[str, Image, list[Detection]]] = []
    for name, count in _manifest(data / "test_images" / "manifest.csv"):
        if most is not None and count > most:
            continue
        rgb = _read(data / "test_images" / name)
        pictures.append((name, rgb, yardstick(rgb, model, count)))
    return {name: _recall(find, pictures) for name, find in finders.items()}


def round_of_parts(live: LiveDetector, rgb: Image) -> Sequence[Detection]:
    """What a live stream of a still picture has found once every part was looked at."""
    found = live.detect(rgb)
    for part in range(live.count_parts(rgb)):
        found = live.detect(rgb, found, search=False, part=part)
    return found


def yardstick(rgb: Image, model: Path, count: int) -> list[Detection]:
    """YuNet's ``count`` best boxes for an (H, W, 3) uint8 RGB picture, at two sizes merged.

    YuNet finds faces of about 10 to 300 px; the second size is for larger ones.
    """
    longest = max(rgb.shape[:2])
    boxes: list[Detection] = []
    for size in {longest, 640}:
        scale = size / longest
        kernel = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        resized = cv2.resize(rgb, None, fx=scale, fy=scale, interpolation=kernel)
        bgr = cv2.cvtColor(resized, cv2.COLOR_RGB2BGR)
        with native_stderr_to_log(log):
            net = cv2.FaceDetectorYN.create(
                str(model), "", (bgr.shape[1], bgr.shape[0]), 0.6, 0.3, 5000
            )
            found: Any = net.detect(bgr)[1]
        for row in () if found is None else found:
            x, y, w, h = (float(v) / scale for v in row[:4])
            boxes.append(Detection(x, y, w, h, float(row[14])))
    kept: list[Detection] = []
    for box in sorted(boxes, key=lambda d: -d.score):
        if all(_iou(box, other) < MATCH_IOU for other in kept):
            kept.append(box)
    return kept[:count]


def _recall(find: Find, pictures: Sequence[tuple[str, Image, list[Detection]]]) -> Recall:
    found, faces = np.zeros(len(BUCKETS_PX), int), np.zeros(len(BUCKETS_PX), int)
    false_boxes, drawn, seconds = 0, 0, 0.0
    for name, rgb, truth in pictures:
        started = time.perf_counter()
        boxes = find(rgb)
        seconds += time.perf_counter() - started
        matched = _match(truth, boxes)
        false_boxes += len(boxes) - len(matched)
        drawn += len(boxes) if name == NO_FACE_PICTURE else 0
        for i, face in enumerate(truth):
            bucket = next(k for k, (low, high) in enumerate(BUCKETS_PX) if low <= face.h < high)
            faces[bucket] += 1
            found[bucket] += i in matched
    return Recall(
        tuple(found.tolist()),
        tuple(faces.tolist()),
        false_boxes,
        drawn,
        1000 * seconds / max(1, len(pictures)),
    )


def _match(truth: Sequence[Detection], boxes: Sequence[Detection]) -> set[int]:
    """Pair each face with at most one box, best overlap first; give the faces that got one."""
    pairs = sorted(
        ((_iou(t, b), i, j) for i, t in enumerate(truth) for j, b in enumerate(boxes)), reverse=True
    )
    faces: set[int] = set()
    used: set[int] = set()
    for overlap, i, j in pairs:
        if overlap >= MATCH_IOU and i not in faces and j not in used:
            faces.add(i)
            used.add(j)
    return faces


def _iou(a: Detection, b: Detection) -> float:
    w = min(a.x + a.w, b.x + b.w) - max(a.x, b.x)
    h = min(a.y + a.h, b.y + b.h) - max(a.y, b.y)
    shared = max(0.0, w) * max(0.0, h)
    return shared / (a.w * a.h + b.w * b.h - shared)


def _manifest(path: Path) -> list[tuple[str, int]]:
    """File names and face counts; pictures without a count are left out."""
    try:
        with path.open(newline="", encoding="utf-8") as lines:
            rows = list(csv.DictReader(lines))
        return [(row["file"], int(row["faces"])) for row in rows if row["faces"]]
    except (OSError, KeyError, ValueError) as error:
        raise InputError(
            f"cannot read {path} ({error}): expected a CSV file with columns file and faces"
        ) from error


def _read(path: Path) -> Image:
    try:
        with PillowImage.open(path) as picture:
            upright = ImageOps.exif_transpose(picture)
            if upright.mode == "P":  # its transparency only survives by way of RGBA
                upright = upright.convert("RGBA")
            return np.array(upright.convert("RGB"), np.uint8)
    except OSError as error:
        raise InputError(f"cannot read {path} ({error}): expected a picture") from error


def _table(results: Mapping[str, Recall]) -> Table:
    table = Table(title="Faces found, of those YuNet sees, by face height")
    table.add_column("detector")
    for low, high in BUCKETS_PX:
        label = f"{low}-{high} px" if high < BUCKETS_PX[-1][1] else f">= {low} px"
        table.add_column(f"< {high} px" if low == 0 else label, justify="right")
    for label in ("all", "false boxes", "drawn faces", "ms a picture"):
        table.add_column(label, justify="right")
    for name, r in results.items():
        table.add_row(
            name,
            *(f"{found}/{faces}" for found, faces in zip(r.found, r.faces, strict=True)),
            f"{sum(r.found)}/{sum(r.faces)} = {sum(r.found) / max(1, sum(r.faces)):.1%}",
            str(r.false_boxes),
            str(r.drawn_faces),
            f"{r.ms_per_picture:.0f}",
        )
    return table


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; 2 after a user's error, as everywhere."""
    parser = argparse.ArgumentParser(description="Detection recall by face size.")
    parser.add_argument("--data", type=Path, required=True, help="folder with test_images, models")
    parser.add_argument("--most", type=int, metavar="N", help="only pictures of at most N faces")
    parser.add_argument("--out", type=Path, help="write the figures as JSON too")
    options = parser.parse_args(arguments)
    return run_standalone(lambda: _run(options))


def _run(options: argparse.Namespace) -> None:
    """Measure the detectors, print the table, write it if asked to."""
    with ExitStack() as stack:
        short = stack.enter_context(BlazeFaceDetector("short"))
        full = stack.enter_context(BlazeFaceDetector("full"))
        live = stack.enter_context(LiveDetector())
        tiled = stack.enter_context(TiledDetector())
        results = measure(
            options.data,
            {
                "short range": short.detect,
                "full range": full.detect,
                "live, one look": live.detect,
                "live, a round of its parts": lambda rgb: round_of_parts(live, rgb),
                "tiled (files)": tiled.detect,
            },
            most=options.most,
        )
    open_console().print(_table(results))
    if options.out is not None:
        write_files(options.out.parent, {options.out.name: to_json(results)})


def to_json(results: Mapping[str, Recall]) -> str:
    """Write the figures of every detector as JSON."""
    figures = {name: asdict(recall) for name, recall in results.items()}
    return json.dumps({"buckets_px": BUCKETS_PX, "detectors": figures}, indent=2) + "\n"


if __name__ == "__main__":
    sys.exit(main())
