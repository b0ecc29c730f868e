"""A split of the photo set in; pairs of low-resolution input and truth out, and who shows what."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from cagface_core.bisenet import CLASSES
from cagface_core.train.degrade import degrade
from cagface_core.train.photos import Photo, downsample4, load_square
from cagface_core.types import Image


@dataclass(frozen=True, slots=True)
class Protocol:
    """How inputs are made.

    Photos of at least ``least_side_px`` are brought to ``side_px``, then shrunk to a quarter,
    plainly or ``degraded``.
    """

    name: str
    side_px: int
    least_side_px: int
    degraded: bool
    text: str

    def photos(self, photos: list[Photo]) -> list[Photo]:
        """Choose those that are large enough."""
        return [photo for photo in photos if photo.side >= self.least_side_px]

    def pair(self, photo: Photo) -> tuple[Image, Image]:
        """Make the input (S/4, S/4, 3) and the truth (S, S, 3), uint8 RGB.

        Chance is seeded by the file's name: a photo is degraded alike in every run.
        """
        hr = load_square(photo, self.side_px)
        if not self.degraded:
            return downsample4(hr), hr
        seed = zlib.crc32(f"{photo.path.parent.name}/{photo.path.name}".encode())
        return degrade(hr, np.random.default_rng([2024, seed])), hr


PROTOCOLS = (
    Protocol("whole_face", 256, 0, False, "whole face, 64x64 -> 256x256, antialiased bicubic"),
    Protocol("patch", 1024, 1020, False, "256x256 -> 1024x1024, antialiased bicubic"),
    Protocol("webcam", 256, 0, True, "whole face, 64x64 -> 256x256, blur, noise, JPEG or H.264"),
)


@dataclass(frozen=True, slots=True)
class Group:
    """Photos that are looked at apart: a name, and by what a photo belongs to it."""

    name: str
    definition: str
    holds: Callable[[Photo, float], bool]
    """Of a photo and its :func:`skin_lightness`."""


_OLD, _CHILDREN = "Ethnicity_x_Age_1", "Ethnicity_x_Age_3"
_TAG = "the manifest's tag is"


def groups(photos: list[Photo]) -> list[Group]:
    """Name the groups that can be told honestly: by the manifest, or by measured pixels.

    Nothing is inferred about real people but how light their pictures' skin pixels are.
    """
    by_source = [
        Group(
            f"source: {name}",
            f"photos of {name}",
            lambda p, _, name=name: p.path.parent.name == name,
        )
        for name in sorted({photo.path.parent.name for photo in photos})
    ]
    skin = "median CIE L* of the truth's pixels whose mask says skin"
    return [
        Group("real", "the manifest says real", lambda p, _: p.kind == "real"),
        Group("synthetic", "the manifest says synthetic", lambda p, _: p.kind == "synthetic"),
        *by_source,
        Group("skin dark", f"{skin}: below 40; dark skin or dim light", lambda _, s: s < 40),
        Group("skin medium", f"{skin}: 40 to 60", lambda _, s: 40 <= s < 60),
        Group("skin light", f"{skin}: 60 or more", lambda _, s: s >= 60),
        Group("glasses", f"{_TAG} Glasses_Style; synthetic", lambda p, _: p.tag == "Glasses_Style"),
        Group(
            "age varied", f"{_TAG} one of sheets drawn to vary age, all ages; synthetic",
            lambda p, _: "age" in p.tag.lower().split("_"),
        ),
        Group(
            "old", f"{_TAG} {_OLD}, a sheet of old faces; synthetic", lambda p, _: p.tag == _OLD,
        ),
        Group(
            "children", f"{_TAG} {_CHILDREN}, a sheet of children; synthetic",
            lambda p, _: p.tag == _CHILDREN,
        ),
    ]  # fmt: skip


def skin_lightness(hr: Image, labels: NDArray[np.uint8] | None) -> float:
    """Median CIE L* (0..100, sRGB, D65) of the skin pixels; NaN without at least 500 of them.

    Args:
        hr: (H, W, 3) uint8 RGB.
        labels: (H, W) component labels, or None where the photo has no mask.
    """
    if labels is None:
        return math.nan
    skin = hr[labels == CLASSES.index("skin")]
    if len(skin) < 500:
        return math.nan
    lab = cv2.cvtColor((skin[None] / np.float32(255)).astype(np.float32), cv2.COLOR_RGB2Lab)
    return float(np.median(lab[..., 0]))


def spread(photos: list[Photo], limit: int | None) -> list[Photo]:
    """Take ``limit`` photos evenly spread over the list, or all."""
    if limit is None or limit >= len(photos):
        return photos
    return [photos[int(i)] for i in np.linspace(0, len(photos) - 1, limit)]
