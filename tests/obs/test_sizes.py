"""Scale 1, 2 and 4: the source's size and the scene's picture are right in every frame."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from tests.obs.studio import until, wait_for

QUARTERS = ((255, 0, 0), (0, 255, 0), (0, 0, 255), (200, 200, 0))


@pytest.fixture
def quartered(studio, tmp_path):
    """A source of 160x120 whose quarters differ, drawn over the whole scene."""
    rgb = np.zeros((120, 160, 3), np.uint8)
    for number, colour in enumerate(QUARTERS):
        y, x = divmod(number, 2)
        rgb[60 * y : 60 * y + 60, 80 * x : 80 * x + 80] = colour
    path = tmp_path / "quarters.png"
    cv2.imwrite(str(path), rgb[..., ::-1])
    item = studio.add_input("quarters", "image_source", file=str(path))
    studio.place(
        item, boundsType="OBS_BOUNDS_STRETCH", boundsWidth=640.0, boundsHeight=480.0,
        positionX=0.0, positionY=0.0,
    )  # fmt: skip
    until(lambda: quarters(studio) == QUARTERS, "the source")
    return item


def quarters(studio):
    """The colours in the middle of each quarter of the scene, rounded to what they can be."""
    picture = studio.picture()
    found = [picture[y, x].astype(int) for y in (120, 360) for x in (160, 480)]
    known = [*QUARTERS, *inverted()]
    near = [[k for k in known if np.abs(rgb - k).max() <= 4] for rgb in found]
    return tuple(n[0] if n else tuple(rgb) for n, rgb in zip(near, found, strict=True))


def inverted():
    return tuple(tuple(255 - value for value in colour) for colour in QUARTERS)


@pytest.mark.parametrize("scale", [1, 2, 4])
def test_the_size_holds_while_the_engine_comes_and_goes(studio, quartered, engine, scale):
    size = (160 * scale, 120 * scale)
    studio.add_filter("quarters", address=engine.address, scale=scale, start_engine=False)
    seen = set()

    def look():
        seen.add(quarters(studio))
        assert studio.size(quartered) == size
        return seen

    until(lambda: studio.size(quartered) == size, "the new size")
    for _ in range(2):
        engine.start()
        until(lambda: look() and inverted() in seen, "the inverted picture")
        seen.discard(inverted())
        engine.end()
        until(lambda: look() and quarters(studio) == QUARTERS, "the original")
    assert seen <= {QUARTERS, inverted()}, "a frame drawn at the wrong size or place"


def test_the_scale_changes_while_it_plays(studio, quartered, engine):
    studio.add_filter("quarters", address=engine.start().address, start_engine=False)
    until(lambda: quarters(studio) == inverted(), "the inverted picture")
    for scale in (4, 1, 2, 1, 4):
        studio.set_filter("quarters", scale=scale)
        for _ in range(5):
            assert quarters(studio) == inverted()
        size = (160 * scale, 120 * scale)
        until(lambda size=size: studio.size(quartered) == size, f"{size}")


def test_a_source_that_changes_its_size(studio, engine):
    item = studio.add_colour("colour", 0xFF2040C0, 100, 80)
    studio.place(item, boundsType="OBS_BOUNDS_STRETCH", boundsWidth=640.0, boundsHeight=480.0)
    studio.add_filter("colour", address=engine.start().address, scale=2, start_engine=False)
    wait_for(studio, (63, 191, 223))
    for width, height in ((300, 200), (8, 8), (1, 1), (640, 480)):
        changes = {"width": width, "height": height}
        studio.ask("SetInputSettings", inputName="colour", inputSettings=changes)
        until(lambda w=width, h=height: studio.size(item) == (2 * w, 2 * h), "the new size")
        wait_for(studio, (63, 191, 223))


def test_a_picture_too_large_for_the_scale_takes_the_next(studio, engine):
    item = studio.add_colour("colour", 0xFF2040C0, 4000, 16)
    studio.add_filter("colour", address=engine.start().address, scale=4, start_engine=False)
    until(lambda: studio.size(item) == (8000, 32), "twice the size")
    changes = {"width": 8200}
    studio.ask("SetInputSettings", inputName="colour", inputSettings=changes)
    until(lambda: studio.size(item) == (8200, 16), "the size that it has")
    until(lambda: tuple(studio.picture()[8, 320]) == (192, 64, 32), "the original")
