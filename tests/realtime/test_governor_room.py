"""Where there is much room, the governor lets faces be seen larger than was asked for."""

from __future__ import annotations

import threading
from dataclasses import replace
from fractions import Fraction

import pytest

from cagface_core import Enhanced, Face, Frame, Outcome, Tuning
from realtime.governor import Governor
from tests.realtime.helpers import picture
from tests.realtime.test_governor import BLANK, PRESETS, Machine, make


class Roomy(Machine):
    """A machine whose faces may be seen larger than was asked for; one frame costs 3 ms besides."""

    def __init__(self, face_px: float = 110.0, **of_machine: object):
        super().__init__(Tuning("pico", 2, max_crop_px=96), **of_machine)
        self.face_px = face_px
        self.governor = Governor(Fraction(30), PRESETS, most_crop_px=192, clock=lambda: self.now_s)

    def cost_ms(self, tuning: Tuning) -> float:
        crop_px = next(side for side in (64, 96, 128, 192, 256) if side >= 1.6 * self.face_px)
        side = min(crop_px, tuning.max_crop_px) / 96
        return self.slower * (3 + min(self.faces, tuning.max_faces) * 6 * side**1.3)

    def took(self, spent_ms: float, tuning: Tuning) -> None:
        face = Face(1, 0, 0, self.face_px, self.face_px, 1.0)
        became = (Outcome.ENHANCED,) * self.faces
        self.governor.took(spent_ms, Enhanced(BLANK, (face,) * self.faces, became))

    @property
    def seen_px(self) -> int:
        tuning = self.governor.limit(self.asked)
        assert tuning is not None
        return tuning.max_crop_px


def test_much_room_is_spent_on_seeing_faces_larger():
    machine = Roomy()
    assert machine.seen_px == 96
    machine.run(2)
    assert machine.seen_px == 96  # nobody waits for it at the start
    machine.run(10)
    assert machine.seen_px == 192
    assert (machine.governor.level, machine.governor.what) == (-1, "")
    (decision,) = machine.governor.decisions
    assert (decision.level, decision.what) == (-1, "faces seen at up to 192 px")
    assert decision.reason == "a frame takes only 9 of 33 ms"
    machine.run(600)
    assert len(machine.governor.decisions) == 1
    assert machine.held(18000) == 1


@pytest.mark.parametrize("face_px", [20.0, 59.0])
def test_room_is_not_spent_where_it_changes_nothing(face_px: float):
    machine = Roomy(face_px)
    machine.run(60)
    assert machine.governor.decisions == ()
    machine.face_px = 110.0  # it comes nearer
    machine.run(10)
    assert machine.seen_px == 192


def test_little_room_is_kept():
    machine = Roomy()
    machine.slower = 1.2
    machine.run(600)
    assert machine.governor.decisions == ()


def test_who_else_comes_in_takes_back_what_was_spent_beyond_what_is_asked():
    machine = Roomy()
    machine.run(20)
    assert machine.seen_px == 192
    machine.faces = 3
    machine.run(1)
    assert machine.governor.level == 0
    machine.run(60)
    assert machine.held(1800) > 0.99
    assert machine.seen_px == 96


def test_a_slower_machine_takes_back_what_was_spent_and_spares_as_ever():
    machine = Roomy()
    machine.run(20)
    machine.slower = 2.0
    machine.run(2)
    assert machine.governor.level == 0
    machine.slower = 8.0
    machine.run(20)
    assert machine.governor.level > 0
    machine.slower = 1.0
    machine.run(120)
    assert machine.seen_px == 192


@pytest.mark.parametrize("asked_px", [0, 192, 256])
def test_who_asks_for_as_much_gets_no_more(asked_px: int):
    machine = Roomy()
    machine.asked = replace(machine.asked, max_crop_px=asked_px)
    machine.slower = 0.1
    machine.run(60)
    assert machine.governor.decisions == ()
    assert machine.seen_px == asked_px


def test_a_wish_for_less_or_more_keeps_its_place_on_the_ladder():
    machine = Roomy()
    machine.run(20)
    assert machine.seen_px == 192
    machine.asked = replace(machine.asked, max_crop_px=256)
    assert machine.seen_px == 256
    assert machine.governor.level == 0
    machine.asked = replace(machine.asked, max_crop_px=96)
    assert machine.seen_px == 96
    assert machine.governor.level == 0


def test_larger_crops_are_made_ready_for_beside_the_frames():
    governed, controls, enhancer = make(Tuning("pico", 2, max_crop_px=96))
    more = replace(controls.settings.tuning, max_crop_px=192)
    gate, loaded, used, took = threading.Event(), [], [], []
    enhance = enhancer.enhance

    def load(preset: str, max_crop_px: int | None = None) -> None:
        assert gate.wait(10)
        loaded.append((preset, max_crop_px))

    def note(frame, state, tuning=None):
        used.append(tuning.max_crop_px)
        return enhance(frame, state, tuning)

    enhancer.load, enhancer.enhance = load, note
    governed._governor.limit = lambda _asked: more
    governed._governor.took = lambda ms, _enhanced: took.append(ms)
    state, frame = governed.new_state(), Frame(picture(0, 32, 16))
    for _ in range(3):
        governed.enhance(frame, state)
    assert (used, took) == ([96, 96, 96], [])
    gate.set()
    governed.close()
    governed.enhance(frame, state)
    assert (used[3:], loaded, len(took)) == ([192], [("pico", 192)], 1)


def test_crops_that_cannot_be_made_ready_for_leave_the_governor_its_eyes(caplog):
    governed, controls, enhancer = make(Tuning("pico", 2, max_crop_px=96))
    more, took = replace(controls.settings.tuning, max_crop_px=192), []

    def load(preset: str, max_crop_px: int | None = None) -> None:
        raise RuntimeError("out of memory")

    enhancer.load = load
    governed._governor.limit = lambda _asked: more
    governed._governor.took = lambda ms, _enhanced: took.append(ms)
    state, frame = governed.new_state(), Frame(picture(0, 32, 16))
    governed.enhance(frame, state)
    governed.close()  # it has been tried
    took.clear()
    for _ in range(2):
        governed.enhance(frame, state)
    assert len(took) == 2
    assert caplog.messages == [
        "preset pico cannot be used for crops of up to 192 px: out of memory"
    ]  # fmt: skip
