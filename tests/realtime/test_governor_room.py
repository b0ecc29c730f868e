"""Where there is much room, it is spent on larger crops, then on larger networks."""

from __future__ import annotations

import threading
from dataclasses import replace
from fractions import Fraction

import pytest

from cagface_core import Enhanced, Face, Frame, Outcome, Rung, Tuning
from cagface_core.crop import seen_face
from realtime.governor import Governor
from tests.realtime.helpers import picture
from tests.realtime.test_governor import BLANK, COST_MS, PRESETS, Machine, make

RUNGS = (
    Rung("pico", 96), Rung("pico", 192), Rung("pico", 384), Rung("nano", 384), Rung("small", 384),
)  # fmt: skip


class Roomy(Machine):
    """A machine whose faces may be worth more than was asked for; one frame costs 3 ms besides."""

    def __init__(self, face_px: float = 110.0, rungs: tuple[Rung, ...] = RUNGS[:2]):
        super().__init__(Tuning("pico", 2, max_crop_px=96))
        self.face_px, self.dearer = face_px, 1.0
        self.governor = Governor(Fraction(30), PRESETS, rungs, clock=lambda: self.now_s)

    def cost_ms(self, tuning: Tuning) -> float:
        return self.slower * 3 + self.network_ms(tuning)

    def network_ms(self, tuning: Tuning) -> float:
        side = seen_face(self.face_px, tuning.max_crop_px) / 96
        face_ms = 6 * side**1.3 * COST_MS[tuning.preset] / COST_MS["pico"]
        if tuning.preset != "pico":
            face_ms *= self.dearer
        return self.slower * min(self.faces, tuning.max_faces) * face_ms

    def took(self, spent_ms: float, tuning: Tuning) -> None:
        face = Face(1, 0, 0, self.face_px, self.face_px, 1.0)
        became = (Outcome.ENHANCED,) * self.faces
        times_ms = {"network": self.network_ms(tuning)}
        self.governor.took(spent_ms, Enhanced(BLANK, (face,) * self.faces, became, times_ms))

    @property
    def seen_px(self) -> int:
        tuning = self.governor.limit(self.asked)
        assert tuning is not None
        return tuning.max_crop_px

    @property
    def steps(self) -> list[str]:
        return [decision.what for decision in self.governor.decisions]

    @property
    def worth(self) -> Rung:
        tuning = self.governor.limit(self.asked)
        assert tuning is not None
        return Rung(tuning.preset, tuning.max_crop_px)


def test_much_room_is_spent_on_seeing_faces_larger():
    machine = Roomy()
    assert machine.seen_px == 96
    machine.run(2)
    assert machine.seen_px == 96  # nobody waits for it at the start
    machine.run(10)
    assert machine.seen_px == 192
    assert machine.governor.level == -1
    (decision,) = machine.governor.decisions
    assert (decision.level, decision.what) == (-1, "faces seen at up to 192 px")
    assert machine.governor.what == decision.what
    assert decision.reason == "a frame takes only 12 of 33 ms"
    machine.run(600)
    assert len(machine.governor.decisions) == 1
    assert machine.held(18000) == 1


@pytest.mark.parametrize("face_px", [20.0, 59.0, 79.0])  # a crop of 128 px is seen whole
def test_room_is_not_spent_where_it_changes_nothing(face_px: float):
    machine = Roomy(face_px)
    machine.run(60)
    assert machine.governor.decisions == ()
    machine.face_px = 110.0  # it comes nearer
    machine.run(10)
    assert machine.seen_px == 192


def test_little_room_is_kept():
    machine = Roomy()
    machine.slower = 1.5
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


def test_a_fast_machine_gives_a_large_face_its_own_size_first_and_then_larger_networks():
    machine = Roomy(rungs=RUNGS)
    machine.slower = 0.1
    machine.run(30)
    assert machine.worth == ("small", 384)
    assert machine.steps == [
        "faces seen at up to 192 px",
        "network nano instead of pico",
        "network small instead of pico",
    ]
    assert machine.governor.level == -4
    assert machine.held(900) == 1
    machine.run(600)
    assert len(machine.governor.decisions) == 3


def test_a_face_near_the_camera_is_seen_at_its_own_size_before_a_larger_network_is_tried():
    machine = Roomy(240.0, RUNGS)  # a crop of 384 px
    machine.slower = 0.2
    machine.run(30)
    assert machine.worth == ("pico", 384)
    assert machine.steps == [
        "faces seen at up to 192 px",
        "faces seen at up to 384 px",
    ]
    machine.run(600)
    assert len(machine.governor.decisions) == 2  # nano would take 27 ms more
    assert machine.held(18000) == 1


def test_a_face_near_the_camera_stays_shrunk_where_its_own_size_would_be_too_much():
    machine = Roomy(240.0, RUNGS)
    machine.slower = 0.7
    machine.run(600)
    assert machine.worth == ("pico", 192)  # its network takes 15 of 33 ms, and would take 29
    (decision,) = machine.governor.decisions
    assert decision.what == "faces seen at up to 192 px"
    assert machine.held(18000) == 1


def test_a_small_face_gets_larger_networks_at_once():
    machine = Roomy(58.0, RUNGS)
    machine.run(30)
    assert machine.worth == ("nano", 384)  # all of its 93 px, as with a limit of 96
    assert machine.held(900) == 1
    (decision,) = machine.governor.decisions
    assert decision.what == "network nano instead of pico"


def test_networks_are_not_changed_for_nobody():
    machine = Roomy(58.0, RUNGS)
    machine.faces = 0
    machine.run(60)
    assert machine.governor.decisions == ()
    machine.faces = 1
    machine.run(10)
    assert machine.worth.preset == "nano"


def test_who_else_comes_in_takes_back_the_larger_network():
    machine = Roomy(58.0, RUNGS)
    machine.run(20)
    machine.faces = 2
    machine.run(1)
    assert machine.worth.preset == "pico"
    machine.run(60)
    assert machine.held(1800) == 1
    machine.faces = 1
    machine.run(120)
    assert machine.worth.preset == "nano"


def test_a_network_that_would_be_too_much_is_not_tried():
    machine = Roomy(58.0, RUNGS)
    machine.slower = 1.4  # pico takes 13 ms of 33, nano 32
    machine.run(600)
    assert machine.governor.decisions == ()


def test_a_network_that_was_too_much_is_tried_ever_less_often():
    machine = Roomy(58.0, RUNGS)
    machine.dearer = 1.4  # than networks usually are: pico takes 9 ms of 33, nano 31
    machine.run(3600)
    tries = [d for d in machine.governor.decisions if d.what.startswith("network nano")]
    assert 8 <= len(tries) <= 11
    machine.run(7200)
    assert len(machine.governor.decisions) / 2 - len(tries) <= 4
    assert machine.held(10000) == 1


@pytest.mark.parametrize(
    ("asked", "best"),
    [
        (Rung("nano", 96), Rung("nano", 192)),  # which holds its crop
        (Rung("pico", 128), Rung("small", 128)),
        (Rung("small", 192), Rung("small", 192)),
        (Rung("nano", 0), Rung("nano", 0)),
    ],
)
def test_what_is_asked_for_in_particular_stays(asked: Rung, best: Rung):
    machine = Roomy(rungs=RUNGS)
    machine.asked = replace(machine.asked, preset=asked.preset, max_crop_px=asked.max_crop_px)
    machine.slower = 0.05
    machine.run(60)
    assert machine.worth == best


def test_a_larger_network_comes_with_the_crops_that_it_is_to_see():
    governed, controls, enhancer = make(Tuning("pico", 2, max_crop_px=96))
    gates, loaded, used = {192: threading.Event(), 384: threading.Event()}, [], []
    enhance = enhancer.enhance

    def load(preset: str, max_crop_px: int | None = None) -> None:
        assert gates[max_crop_px].wait(10)
        loaded.append((preset, max_crop_px))

    def note(frame, state, tuning=None):
        used.append((tuning.preset, tuning.max_crop_px))
        return enhance(frame, state, tuning)

    enhancer.load, enhancer.enhance = load, note
    governed._governor.took = lambda _ms, _enhanced: None
    state, frame = governed.new_state(), Frame(picture(0, 32, 16))

    def frame_at(preset: str, max_crop_px: int) -> None:
        wanted = replace(controls.settings.tuning, preset=preset, max_crop_px=max_crop_px)
        governed._governor.limit = lambda _asked: wanted
        governed.enhance(frame, state)

    frame_at("pico", 192)
    gates[192].set()
    governed.close()
    frame_at("pico", 192)
    frame_at("nano", 384)  # until nano has come, pico goes on, at no less than before
    gates[384].set()
    governed.close()
    frame_at("nano", 384)
    frame_at("nano", 96)
    assert used == [("pico", 96), ("pico", 192), ("pico", 192), ("nano", 384), ("nano", 96)]
    assert loaded == [("pico", 192), ("nano", 384)]


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
