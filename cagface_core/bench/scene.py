"""Sizes and places in; frames with real faces that move gently, and where the faces are, out.

The face is the demo clip's (NASA, public domain), pasted softly on a grey wall, so that a
detector finds it and nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from cagface_core.detect import Detector
from cagface_core.errors import InputError
from cagface_core.types import Detection, Face, Image

_FACE_FILE = Path(__file__).parent / "face.png"
_FACE_BOX = (49, 49, 102)  # left, top and side of the face in the file, in pixels
_MOVES = 0.08  # of the face's side, each way

LOOP_FRAMES = 60
"""After so many frames all faces are where they were: two seconds at 30 Hz."""


@dataclass(frozen=True, slots=True)
class Scene:
    """Frames (H, W, 3) uint8 RGB, and each one's face boxes."""

    frames: list[Image]
    boxes: list[list[Detection]]


def make_scene(width: int, height: int, faces: int, face_px: int, length: int) -> Scene:
    """Paste ``faces`` faces, side by side in rows, into ``length`` frames.

    Args:
        width: of the frames, in pixels.
        height: of the frames, in pixels.
        faces: how many, 0 to 4.
        face_px: the side of a face's box.
        length: how many frames; `LOOP_FRAMES` of them loop without a jump.

    Raises:
        InputError: the face's file is missing or damaged: the package is not whole.
    """
    face = cv2.imread(str(_FACE_FILE))
    if face is None:
        raise InputError(f"{_FACE_FILE} is missing or damaged; install the package again")
    picture = np.asarray(face[..., ::-1], np.float32)
    wall = _wall(width, height)
    columns = max(1, math.ceil(math.sqrt(faces)))
    rows = max(1, math.ceil(faces / columns))
    frames: list[Image] = []
    boxes: list[list[Detection]] = []
    for index in range(length):
        turn = 2 * math.pi * index / LOOP_FRAMES
        canvas = wall.copy()
        found: list[Detection] = []
        for number in range(faces):
            x = (number % columns + 0.5) * width / columns
            y = (number // columns + 0.5) * height / rows
            x += _MOVES * face_px * math.sin(turn + number)
            y += _MOVES * face_px * 0.5 * math.sin(2 * turn + number)
            found.append(_paste_face(canvas, picture, x, y, face_px))
        frames.append(canvas)
        boxes.append(found)
    return Scene(frames, boxes)


class KnownDetector:
    """Gives the boxes of a scene, for a machine without the real detector."""

    def __init__(self, scene: Scene) -> None:
        self._boxes = {
            id(frame): boxes for frame, boxes in zip(scene.frames, scene.boxes, strict=True)
        }

    def detect(
        self, rgb: Image, known: Sequence[Detection | Face] = (), *, search: bool = True,
        part: int | None = None,
    ) -> list[Detection]:  # fmt: skip
        """The boxes of a frame of the scene, by its identity; see `Detector.detect`."""
        return list(self._boxes.get(id(rgb), ()))

    def close(self) -> None:
        """Nothing to release."""


class IntroducedDetector:
    """A real detector that is told where the faces are until it has seen them once.

    It then follows them as in a stream that began with larger faces: the cost of a frame is
    wanted, not whether a small face is found far away.
    """

    def __init__(self, detector: Detector, scene: Scene) -> None:
        self._detector = detector
        self._first = KnownDetector(scene)
        self._wanted = len(scene.boxes[0])

    def detect(
        self, rgb: Image, known: Sequence[Detection | Face] = (), *, search: bool = True,
        part: int | None = None,
    ) -> list[Detection]:  # fmt: skip
        """Detect as the real one; the boxes of the scene while faces are missing."""
        if len(known) < self._wanted:
            return self._first.detect(rgb)
        return self._detector.detect(rgb, known, search=search, part=part)

    def close(self) -> None:
        """Close the real one."""
        self._detector.close()


def _wall(width: int, height: int) -> Image:
    """A grey wall in soft light, with a camera's noise."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    light = 110 + 40 * (1 - y / height) + 20 * x / width
    noise = rng.normal(0, 1.5, (height, width, 3))
    return (light[..., None] + noise).round().astype(np.uint8)


def _paste_face(
    canvas: Image, picture: NDArray[np.float32], x: float, y: float, face_px: int
) -> Detection:
    """Blend the face into the canvas, in place, with the box's centre at (x, y)."""
    left, top, side = _FACE_BOX
    zoom = face_px / side
    height, width = canvas.shape[:2]
    corner_x, corner_y = x - zoom * (left + side / 2), y - zoom * (top + side / 2)
    reach = math.ceil(zoom * picture.shape[0]) + 1
    x0, y0 = max(0, math.floor(corner_x)), max(0, math.floor(corner_y))
    x1, y1 = min(width, x0 + reach), min(height, y0 + reach)
    matrix = np.array([[zoom, 0, corner_x - x0], [0, zoom, corner_y - y0]], np.float32)
    size = (x1 - x0, y1 - y0)
    if zoom < 1:  # the warp alone would alias
        picture = np.asarray(cv2.GaussianBlur(picture, (0, 0), 0.5 / zoom), np.float32)
    face = np.asarray(cv2.warpAffine(picture, matrix, size), np.float32)
    mask = np.asarray(cv2.warpAffine(_mask(picture.shape[0]), matrix, size), np.float32)[..., None]
    there = canvas[y0:y1, x0:x1]
    there[:] = (there * (1 - mask) + face * mask).round().astype(np.uint8)
    return Detection(x - face_px / 2, y - face_px / 2, face_px, face_px, 1.0)


def _mask(side: int) -> NDArray[np.float32]:
    """A disc with a soft edge, (side, side) in [0, 1]."""
    axis = (np.arange(side, dtype=np.float32) + 0.5) / side * 2 - 1
    radius = np.sqrt(axis[:, None] ** 2 + axis[None, :] ** 2)
    return np.clip((0.98 - radius) / 0.15, 0, 1).astype(np.float32)
