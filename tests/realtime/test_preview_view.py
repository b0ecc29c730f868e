"""The preview's keys, clicks and picture, without a window."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from cagface_core import Enhanced, Face, Frame, Outcome, Tuning
from realtime.controls import Controls, Settings
from realtime.monitor import Shown
from realtime.preview_draw import render, text_px
from realtime.preview_view import (
    HELP,
    Command,
    Compare,
    Rect,
    View,
    face_at,
    place,
    press,
    split_at,
    toggle,
)

SETTINGS = Settings(Tuning("pico", 2, strength=0.95))
LEFT_FACE, RIGHT_FACE = Face(3, 10, 20, 30, 40, 0.9), Face(4, 100, 20, 40, 40, 0.9)


@pytest.mark.parametrize(
    ("key", "changes"),
    [
        ("e", {"enhance": False}),
        ("F", {"freeze": True}),
        ("g", {"governor": False}),
        ("+", {"strength": 1.0}),
        ("-", {"strength": 0.85}),
        ("1", {"scale": 1}),
        ("4", {"scale": 4}),
        ("x", {}),
        ("\0", {}),
    ],
)
def test_keys_that_change_settings(key, changes):
    done = press(key, View(), SETTINGS)
    assert done.changes == changes
    assert (done.view, done.command) == (View(), None)
    Controls(SETTINGS, ("pico",)).change(**done.changes)  # takes them all


def test_keys_that_change_the_view():
    view, seen = View(), []
    for _ in range(4):
        view = press("c", view, SETTINGS).view
        seen.append(view.compare)
    assert seen == [Compare.SPLIT, Compare.SIDE_BY_SIDE, Compare.OFF, Compare.SPLIT]
    for key, name in (("b", "boxes"), ("i", "figures"), ("h", "help")):
        on = press(key, View(), SETTINGS).view
        assert on == replace(View(), **{name: True})
        assert press(key, on, SETTINGS).view == View()


def test_keys_that_command():
    keys = {key: press(key, View(), SETTINGS).command for key in "srqQ\x1bb"}
    end = Command.END
    assert keys == {
        "s": Command.SNAPSHOT, "r": Command.RECORD, "q": end, "Q": end, "\x1b": end, "b": None,
    }  # fmt: skip


def test_every_key_of_the_help_does_something():
    for keys, _ in HELP:
        for key in keys.split():
            if key != "click":
                done = press(key, View(), SETTINGS)
                assert done.changes or done.command or done.view != View(), key


def test_a_click_turns_a_face_off_and_on():
    controls = Controls(SETTINGS, ("pico",))
    wanted = []
    for _ in range(3):
        controls.change(**toggle(LEFT_FACE, controls.settings))
        tuning = controls.settings.tuning
        wanted.append((tuning.wanted(3), tuning.wanted(4)))
    assert wanted == [(0, 0.95), (0.95, 0.95), (0, 0.95)]
    controls.change(only=frozenset({4}), strength_of={})
    controls.change(**toggle(LEFT_FACE, controls.settings))
    assert controls.settings.tuning.wanted(3) == 0.95


def test_places_are_whole_and_in_proportion():
    assert place((640, 480), (320, 240), Compare.OFF) == (Rect(0, 0, 640, 480),)
    assert place((640, 640), (320, 240), Compare.SPLIT) == (Rect(0, 80, 640, 480),)
    assert place((640, 480), (320, 240), Compare.SIDE_BY_SIDE) == (
        Rect(0, 120, 320, 240), Rect(320, 120, 320, 240),
    )  # fmt: skip


def test_a_face_is_found_under_the_mouse():
    faces = (LEFT_FACE, RIGHT_FACE, Face(5, 0, 0, 160, 120, 0.9))
    rects = place((640, 240), (160, 120), Compare.SIDE_BY_SIDE)

    def at(x, y):
        face = face_at(x, y, rects, (160, 120), faces)
        return None if face is None else face.id

    assert [at(40, 80), at(320 + 40, 80), at(320 + 220, 60), at(150, 10)] == [3, 3, 4, 5]
    assert face_at(150, 10, rects, (160, 120), faces[:2]) is None
    assert [split_at(x, Rect(100, 0, 200, 9)) for x in (0, 150, 400)] == [0, 0.25, 1]


@pytest.fixture
def shown():
    """Before is dark grey, after light grey, so that each pixel tells where it is from."""
    before = np.full((120, 160, 3), 40, np.uint8)
    after = np.full((240, 320, 3), 200, np.uint8)
    enhanced = Enhanced(after, (LEFT_FACE, RIGHT_FACE), (Outcome.ENHANCED, Outcome.LEFT))
    return Shown(Frame(before), enhanced, Frame(after), 1)


def draw(shown, view, size=(640, 480), **more):
    return render(shown, view, SETTINGS.tuning, size, **more)


def test_only_after_is_seen_where_nothing_is_compared(shown):
    assert (draw(shown, View()) == 200).all()
    canvas = draw(shown, View(), (800, 480))
    assert (canvas[:, 80:720] == 200).all()
    assert (canvas[:, :80] == 0).all()


def test_the_split_divides_before_and_after(shown):
    row = draw(shown, View(Compare.SPLIT, split=0.25))[100, :, 0]
    assert (row[:158] == 40).all()
    assert (row[163:] == 200).all()
    assert row[159] == 255, "a line between them"
    assert (draw(shown, View(Compare.SPLIT, split=0.0))[100, 3:] == 200).all()
    assert (draw(shown, View(Compare.SPLIT, split=1.0))[100, :637] == 40).all()


def test_side_by_side(shown):
    canvas = draw(shown, View(Compare.SIDE_BY_SIDE))
    assert (canvas[200, :320] == 40).all()
    assert (canvas[200, 320:] == 200).all()


def test_boxes_lie_on_the_faces_in_their_colours(shown):
    canvas = draw(shown, View(boxes=True))
    green, grey = canvas[80 + 80, 40], canvas[80 + 80, 400]
    assert green[1] > green[0] + 50
    assert len(set(grey.tolist())) == 1
    assert grey[0] != 200


@pytest.mark.parametrize("size", [(160, 120), (320, 240), (640, 480), (1920, 1080), (240, 1000)])
def test_everything_fits_at_every_size(shown, size):
    everything = View(Compare.SPLIT, 0.5, boxes=True, figures=True, help=True)
    lines = ("30.0 fps, 0 dropped", "governor: network pico instead of nano")
    canvas = draw(shown, everything, size, figures=lines, notes=["frozen"], recording=True)
    assert canvas.shape == (size[1], size[0], 3)
    assert 8 <= text_px(*size) <= 30


def test_text_is_bright_on_dark(shown):
    plain = draw(shown, View())
    for name, more in (
        ("figures", {"figures": ("30.0 fps",)}),
        ("notes", {"notes": ("saved",)}),
        ("recording", {"recording": True}),
    ):
        canvas = draw(shown, View(figures=True), **({"figures": ("x",)} | more))
        changed = (canvas != plain).any(axis=2)
        y, x = np.argwhere(changed).mean(axis=0) / (480, 640)
        assert changed.sum() > 200, name
        assert canvas[changed].min() <= 61, "the picture behind is dimmed"
        assert canvas[changed].max() > 230
        corner = {"figures": y < 0.2 and x < 0.3, "notes": x < 0.3, "recording": x > 0.2}
        assert corner[name], (name, x, y)


def test_what_is_shown_is_never_written_into(shown):
    view = View(Compare.OFF, boxes=True, figures=True, help=True)
    draw(shown, view, (320, 240), figures=("x",), notes=("y",), recording=True)
    assert (shown.rgb == 200).all()
    assert (shown.frame.rgb == 40).all()


def test_figures_cost_little(shown):
    def best_ms(view, **more):
        times = []
        for _ in range(15):
            begin = cv2.getTickCount()
            draw(shown, view, (1280, 960), **more)
            times.append((cv2.getTickCount() - begin) / cv2.getTickFrequency() * 1e3)
        return min(times)

    lines = ("29.9 fps, 12 dropped", "latency 31 ms, p95 40 ms", "2 faces, pico", "governor: off")
    assert best_ms(View(figures=True), figures=lines) - best_ms(View()) < 2.0
