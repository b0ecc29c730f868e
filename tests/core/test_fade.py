"""Strengths that never jump: up, down, held over a dropped detection, gone after it."""

from __future__ import annotations

from itertools import pairwise

import pytest

from cagface_core.config import Tuning
from cagface_core.fade import FADE_S, HOLD_S, Fader
from cagface_core.types import Face

HZ = 30


def face(id: int = 1, missed: int = 0) -> Face:
    return Face(id, 0, 0, 50, 50, 1.0, missed)


def run(fader, faces, goal, start_s, seconds):
    """The strength of the first of ``faces(i)`` over frames."""
    return [
        fader.step(faces, {f.id: goal for f in faces}, start_s + i / HZ)[0]
        for i in range(round(seconds * HZ))
    ]


def test_the_first_frame_is_shown_in_full():
    assert Fader().step([face()], {1: 0.8}, 7.0) == [0.8]


@pytest.mark.parametrize("hz", [10, 30, 60])
def test_who_comes_later_comes_up_in_a_quarter_of_a_second_at_any_rate(hz: int):
    fader = Fader()
    fader.step([], {}, 0.0)
    strengths = [fader.step([face()], {1: 1.0}, i / hz)[0] for i in range(1, hz)]
    assert strengths[0] < 0.5
    assert strengths == sorted(strengths)
    reached = next(i for i, s in enumerate(strengths, 1) if s == pytest.approx(1.0))
    assert reached / hz == pytest.approx(FADE_S, abs=1.01 / hz)


def test_nothing_jumps_when_it_is_turned_off_and_on():
    fader = Fader()
    strengths = run(fader, [face()], 1.0, 0.0, 1)
    strengths += run(fader, [face()], 0.0, 1.0, 1)
    strengths += run(fader, [face()], 0.5, 2.0, 1)
    assert max(abs(b - a) for a, b in pairwise(strengths)) <= 1 / HZ / FADE_S + 1e-9
    assert (strengths[HZ - 1], strengths[2 * HZ - 1], strengths[-1]) == (1.0, 0.0, 0.5)


def test_a_dropped_detection_shows_only_after_half_a_second():
    fader = Fader()
    run(fader, [face()], 1.0, 0.0, 1)
    lost = run(fader, [face(missed=1)], 1.0, 1.0, 1)
    held = round(HOLD_S * HZ) - 1
    assert set(lost[:held]) == {1.0}
    assert lost[-1] == 0.0
    assert max(abs(b - a) for a, b in pairwise(lost)) <= 1 / HZ / FADE_S + 1e-9


def test_a_face_that_comes_back_while_it_fades_comes_up_from_there():
    fader = Fader()
    run(fader, [face()], 1.0, 0.0, 1)
    lost = run(fader, [face(missed=1)], 1.0, 1.0, 0.6)
    back = run(fader, [face()], 1.0, 1.6, 0.5)
    assert 0 < lost[-1] < 1
    assert lost[-1] < back[0] < 1
    assert back[-1] == 1.0


def test_time_that_goes_back_changes_nothing():
    fader = Fader()
    fader.step([], {}, 10.0)
    assert fader.step([face()], {1: 1.0}, 5.0) == [0.0]


def test_after_a_cut_faces_are_there_at_once_and_others_are_forgotten():
    fader = Fader()
    run(fader, [face()], 1.0, 0.0, 1)
    fader.clear()
    assert fader.strength(1) == 0.0
    assert fader.step([face(2)], {2: 1.0}, 1.0) == [1.0]


def test_of_two_equal_faces_the_one_shown_stays():
    fader = Fader()
    one = Tuning("pico", 2, max_faces=1)
    chosen = []
    for index in range(30):
        wobble = 6 * (-1) ** index
        faces = [Face(1, 0, 0, 100 + wobble, 100, 1.0), Face(2, 200, 0, 100 - wobble, 100, 1.0)]
        shown, strengths = fader.choose(faces, one, index / 10)
        chosen.append([face.id for face, s in zip(shown, strengths, strict=True) if s == 1])
    assert chosen == [[1]] * 30
    larger = [Face(1, 0, 0, 100, 100, 1.0), Face(2, 200, 0, 150, 150, 1.0)]
    for index in range(30, 40):
        shown, strengths = fader.choose(larger, one, index / 10)
    assert [(face.id, s) for face, s in zip(shown, strengths, strict=True)] == [(2, 1.0)]


def test_faces_far_from_the_camera_are_left_if_so_tuned():
    sizes = {1: 100.0, 2: 60.0, 3: 48.0, 4: 30.0}
    faces = [Face(i, 0, 0, px, px, 1.0) for i, px in sizes.items()]
    fader, near = Fader(), Tuning("pico", 2, least=0.5)
    shown, strengths = fader.choose(faces, near, 0.0)
    assert [f.id for f in shown] == [1, 2]
    assert strengths == [1.0, 1.0]
    assert {f.id for f in fader.choose(faces, Tuning("pico", 2), 1.0)[0]} == {1, 2, 3, 4}
    fader.choose(faces, Tuning("pico", 2), 2.0)
    grown = [Face(2, 0, 0, 49.0, 49.0, 1.0) if f.id == 2 else f for f in faces]
    assert {f.id for f, s in zip(*fader.choose(grown, near, 3.0), strict=True) if s} == {1}
    assert fader.choose([], near, 4.0) == ([], [])
