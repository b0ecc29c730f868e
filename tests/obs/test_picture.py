"""What the filter shows of an engine that inverts: every pixel of it, on every kind of source."""

from __future__ import annotations

import time

import cv2
import numpy as np
import pytest

from tests.obs.measure import number_in, numbered_clip, play
from tests.obs.studio import HEIGHT, WIDTH, shows, until, wait_for

COLOUR, SHOWN, INVERTED = 0xFF2040C0, (192, 64, 32), (63, 191, 223)


@pytest.fixture
def photo(tmp_path):
    """A picture with every value in it, on a canvas of the scene's size."""
    x, y = np.meshgrid(np.arange(WIDTH), np.arange(HEIGHT))
    rgb = np.stack((x * 255 // WIDTH, y * 255 // HEIGHT, (x + y) % 256), -1).astype(np.uint8)
    path = tmp_path / "photo.png"
    cv2.imwrite(str(path), rgb[..., ::-1])
    return path, rgb


def same(studio, rgb, tolerance=4):
    return int(np.abs(studio.picture().astype(int) - rgb).max()) <= tolerance


def test_a_colour_source_is_inverted(studio, engine):
    studio.add_colour("colour", COLOUR)
    assert shows(studio, SHOWN)
    studio.add_filter("colour", address=engine.start().address)
    until(lambda: same(studio, INVERTED), "the inverted colour")


def test_an_image_is_inverted_bit_by_bit(studio, engine, photo):
    path, rgb = photo
    studio.add_input("image", "image_source", file=str(path))
    until(lambda: same(studio, rgb), "the image")
    studio.add_filter("image", address=engine.start().address)
    until(lambda: same(studio, 255 - rgb), "the inverted image")


def test_a_playing_clip_is_inverted(studio, engine, demo_clip):
    """A frame shown is one of the clip's, inverted: no two are mixed, none is half of one."""
    item = studio.add_input(
        "clip", "ffmpeg_source", local_file=str(demo_clip), is_local_file=True, looping=True
    )
    until(lambda: studio.size(item) == (320, 240), "the clip to play")
    studio.add_filter("clip", address=engine.start().address)
    until(lambda: studio.picture()[:240, :320].mean() > 128, "the inverted clip")
    studio.ask(
        "TriggerMediaInputAction", inputName="clip",
        mediaAction="OBS_WEBSOCKET_MEDIA_INPUT_ACTION_PAUSE",
    )  # fmt: skip
    until(lambda: paused(studio), "the clip to be paused")
    inverted = until(lambda: still(studio, 0.6), "the paused clip's picture to stay")
    engine.end()
    original = until(lambda: changed(studio, inverted), "the original")
    assert int(np.abs(inverted + original - 255)[:240, :320].max()) <= 4


def paused(studio):
    status = studio.ask("GetMediaInputStatus", inputName="clip")
    return status["mediaState"] == "OBS_MEDIA_STATE_PAUSED"


def still(studio, seconds=0.1):
    """A picture that stays so long: what was on its way to the engine and back has come."""
    first = studio.picture().astype(int)
    time.sleep(seconds)
    return first if (first == studio.picture()).all() else None


def changed(studio, before):
    now = studio.picture().astype(int)
    return now if np.abs(now - before).max() > 64 else None


def test_half_transparent_stays_half_transparent(studio, engine, tmp_path):
    """Over black, and with the alpha that it came with: straight to the engine and back."""
    path = tmp_path / "half.png"
    cv2.imwrite(str(path), np.full((HEIGHT, WIDTH, 4), (32, 64, 192, 128), np.uint8))
    studio.add_colour("below", 0xFFFFFFFF)
    studio.add_input("half", "image_source", file=str(path))
    plain = until(lambda: still(studio), "the picture")[240, 320]
    assert 192 < plain[0] < 255
    engine.start("--plain")
    studio.add_filter("half", address=engine.address, split_percent=50)
    until(lambda: line_at(studio, 320), "the line between before and after")
    picture = studio.picture().astype(int)
    assert np.abs(picture[240, 100] - plain).max() <= 2
    assert np.abs(picture[240, 600] - plain).max() <= 3


def line_at(studio, x):
    row = studio.picture()[100].astype(int)
    return row[x - 1 : x + 1].min() == 255 and row.min() < 250


def test_the_original_is_left_of_the_line(studio, engine):
    studio.add_colour("colour", COLOUR)
    studio.add_filter("colour", address=engine.start().address, split_percent=25)
    until(lambda: line_at(studio, 160), "the line")
    row = studio.picture()[240].astype(int)
    assert np.abs(row[:158] - SHOWN).max() <= 4
    assert np.abs(row[163:] - INVERTED).max() <= 4


def test_before_and_after_are_of_one_moment(studio, engine, tmp_path):
    """Left of the line is the frame that the right was made of, not the one that plays now."""
    clip = numbered_clip(tmp_path / "numbered.mkv")
    play(studio, clip)
    engine.start("--plain", "--delay-ms", "100")
    studio.add_filter("clip", address=engine.address, split_percent=50, start_engine=False)
    until(lambda: (studio.picture()[200:230, 160] > 250).all(), "the line")
    numbers = set()
    for _ in range(10):
        picture = studio.picture()
        numbers.add(number_in(picture, 0))
        assert number_in(picture, 0) == number_in(picture, 160)
    assert len(numbers) > 1


def test_a_hidden_source_comes_back(studio, engine):
    item = studio.add_colour("colour", COLOUR)
    studio.add_filter("colour", address=engine.start().address)
    wait_for(studio, INVERTED)
    studio.ask("SetSceneItemEnabled", sceneName="Scene", sceneItemId=item, sceneItemEnabled=False)
    wait_for(studio, (0, 0, 0))
    studio.ask("SetInputSettings", inputName="colour", inputSettings={"color": 0xFF000000})
    studio.frames(5)
    studio.ask("SetSceneItemEnabled", sceneName="Scene", sceneItemId=item, sceneItemEnabled=True)
    seen = [tuple(studio.picture()[240, 320]) for _ in range(20)]
    assert set(seen) <= {(0, 0, 0), (255, 255, 255)}, "a picture from before it was hidden"
    wait_for(studio, (255, 255, 255))


def test_a_source_without_a_size_is_left_alone(studio, engine):
    item = studio.add_input("nothing", "image_source", file="")
    studio.add_filter("nothing", address=engine.start().address, scale=4)
    studio.frames(15)
    assert studio.size(item) == (0, 0)
