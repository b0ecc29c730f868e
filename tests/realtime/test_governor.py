"""The governor against machines made of numbers: it holds the rate and gives back what it can."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction

import pytest

from cagface_core import ConfigError, Enhanced, Face, Frame, Outcome, Tuning
from realtime.controls import Controls, Settings
from realtime.governed import Governed
from realtime.governor import Governor
from tests.realtime.helpers import PlainEnhancer, picture

ASKED = Tuning("small", 2, max_faces=8, max_crop_px=256)
PRESETS = ("pico", "nano", "small")
BLANK = picture(0, 16, 16)
COST_MS = {"pico": 12.0, "nano": 40.0, "small": 130.0}


class Machine:
    """A made-up machine: what a frame costs follows from the tuning; time is counted, not spent."""

    def __init__(self, asked: Tuning = ASKED, rate: int = 30, faces: int = 1):
        self.now_s = 1000.0
        self.asked, self.faces = asked, faces
        self.slower = 1.0
        self.stalls: Callable[[float], float] = lambda _now_s: 0.0
        self.governor = Governor(Fraction(rate), PRESETS, clock=lambda: self.now_s)
        self.period_ms = 1000 / rate
        self.spent_ms: list[float] = []

    def cost_ms(self, tuning: Tuning) -> float:
        seen = min(self.faces, tuning.max_faces)
        side = (tuning.max_crop_px or 256) / 128
        face_ms = COST_MS[tuning.preset] * side**2 + 10 / tuning.patience
        return self.slower * (2 + seen * face_ms + tuning.scale)

    def run(self, seconds: float) -> None:
        end_s = self.now_s + seconds
        while self.now_s < end_s:
            tuning = self.governor.limit(self.asked)
            spent_ms = 0.0
            if tuning is not None:
                spent_ms = self.cost_ms(tuning) + self.stalls(self.now_s)
                self.took(spent_ms, tuning)
            self.spent_ms.append(spent_ms)
            self.now_s += max(self.period_ms, spent_ms) / 1e3

    def took(self, spent_ms: float, tuning: Tuning) -> None:
        became = [
            Outcome.ENHANCED if i < tuning.max_faces else Outcome.LEFT for i in range(self.faces)
        ]
        face = Face(1, 0, 0, 400, 400, 1.0)
        self.governor.took(spent_ms, Enhanced(BLANK, (face,) * self.faces, (*became,)))

    def held(self, frames: int) -> float:
        """The share of the newest frames that took no longer than there was time."""
        newest = self.spent_ms[-frames:]
        return sum(ms <= self.period_ms for ms in newest) / len(newest)


class Room(Machine):
    """One face before the camera and five far from it."""

    NEAR, FAR = Face(1, 0, 0, 400, 400, 1.0), Face(2, 0, 0, 150, 150, 1.0)

    def cost_ms(self, tuning: Tuning) -> float:
        return super().cost_ms(tuning) + (0 if tuning.least else 5 * self.slower * 4.0)

    def took(self, spent_ms: float, tuning: Tuning) -> None:
        far = Outcome.LEFT if tuning.least else Outcome.ENHANCED
        became = (Outcome.ENHANCED, *(far,) * 5)
        self.governor.took(spent_ms, Enhanced(BLANK, (self.NEAR, *(self.FAR,) * 5), became))


def test_who_is_near_keeps_the_resolution_where_leaving_those_far_away_is_enough():
    machine = Room(Tuning("pico", 2, max_faces=8, max_crop_px=96))
    machine.slower = 1.2
    machine.run(60)
    tuning = machine.governor.limit(machine.asked)
    assert tuning is not None
    assert (tuning.least, tuning.max_crop_px) == (0.5, 96)
    assert machine.governor.what == "faces far from the camera are left"
    machine.slower = 0.5
    machine.run(60)
    assert machine.governor.limit(machine.asked) == machine.asked


def test_a_machine_that_can_is_left_alone():
    machine = Machine(Tuning("pico", 2, max_crop_px=96))
    machine.run(600)
    assert machine.governor.decisions == ()
    assert machine.governor.limit(machine.asked) == machine.asked


@pytest.mark.parametrize(("faces", "slower"), [(1, 1.0), (1, 3.0), (10, 1.0), (10, 4.0)])
def test_a_machine_that_cannot_gets_less_until_the_rate_holds(faces: int, slower: float):
    machine = Machine(faces=faces)
    machine.slower = slower
    machine.run(60)  # its first frame may take 20 s
    machine.run(60)
    assert machine.held(1800) > 0.95
    assert machine.governor.level > 0
    first = machine.governor.decisions[0]
    assert " of 33 ms" in first.reason
    assert machine.governor.what == machine.governor.decisions[-1].what != ""


def test_overload_gives_way_within_a_second_and_recovers():
    machine = Machine(Tuning("pico", 2, max_crop_px=96))
    machine.run(20)
    machine.slower = 3.5
    machine.run(1.5)
    assert machine.governor.level > 0
    machine.run(30)
    assert machine.held(600) > 0.95
    machine.slower = 1.0
    machine.run(120)
    assert machine.governor.level == 0
    assert machine.governor.limit(machine.asked) == machine.asked


def test_hopeless_machines_pass_frames_through_and_try_again_ever_less_often():
    machine = Machine()
    machine.slower = 50
    machine.run(63)  # between two tries
    assert machine.governor.limit(machine.asked) is None
    tries = [d for d in machine.governor.decisions if "to see" in d.reason]
    machine.run(1200)
    later = [d for d in machine.governor.decisions if "to see" in d.reason]
    assert 5 < len(later) - len(tries) < 30
    machine.slower = 0.01
    machine.run(600)
    assert machine.governor.level == 0


def test_at_the_edge_it_does_not_swing():
    machine = Machine()
    machine.slower = 1.1
    machine.run(1800)
    settled = [d for d in machine.governor.decisions if d.time_s]
    machine.run(1800)
    swings = len([d for d in machine.governor.decisions if d.time_s]) - len(settled)
    assert swings <= 2 * 1800 / 60 + 2  # a try and its end a minute at most
    assert machine.held(1800 * 30) > 0.99


def now_and_then(chance: random.Random) -> Callable[[float], float]:
    """One frame in eight takes 20 to 40 ms more; twice a minute ten in a row take 30 more."""

    def stalls(now_s: float) -> float:
        if now_s % 30 < 0.5:
            return 30.0
        return chance.uniform(20.0, 40.0) if chance.random() < 1 / 8 else 0.0

    return stalls


@pytest.mark.parametrize("seed", range(5))
def test_a_system_that_stalls_now_and_then_is_no_load(seed: int):
    machine = Machine(Tuning("pico", 2, max_crop_px=96))
    machine.stalls = now_and_then(random.Random(seed))
    levels: list[int] = []
    for _ in range(1200):
        machine.run(0.5)
        levels.append(machine.governor.level)
    # Components looked for less often, for seconds, at most: nobody sees that.
    assert max(levels) <= 1
    assert sum(levels) < 0.05 * len(levels)


@pytest.mark.parametrize("slower", [1.5, 3.0])
def test_a_second_of_stalls_does_not_end_the_enhancement_where_less_of_it_helps(slower: float):
    machine = Machine(Tuning("pico", 2, max_crop_px=96))
    machine.slower = slower
    chance = random.Random(1)
    machine.stalls = lambda now_s: chance.uniform(20.0, 50.0) if now_s % 60 < 1.0 else 0.0
    machine.run(1800)
    assert machine.spent_ms.count(0.0) == 0


def test_a_try_that_fails_does_not_make_lower_levels_wait():
    machine = Machine(Tuning("pico", 2, max_crop_px=96))
    machine.slower = 1.6  # what is asked for is tried in vain, ever less often
    machine.run(1200)
    assert machine.governor.level > 0
    machine.slower = 50.0
    machine.run(15)
    assert machine.governor.limit(machine.asked) is None
    machine.slower = 1.6
    machine.run(8)
    assert machine.governor.limit(machine.asked) is not None


def test_a_hang_is_no_load():
    machine = Machine(Tuning("pico", 2, max_crop_px=96))
    machine.run(5)
    machine.took(5000.0, machine.asked)
    machine.now_s += 5
    machine.run(5)
    assert machine.governor.decisions == ()


def test_a_slow_look_at_the_components_now_and_then_is_no_load():
    machine = Machine(Tuning("pico", 2, max_crop_px=96))
    for _ in range(40):
        machine.run(0.5)
        machine.took(60.0, machine.asked)
    assert machine.governor.decisions == ()


def test_a_clock_that_jumps_by_hours_does_no_harm():
    machine = Machine()
    machine.run(20)
    machine.now_s += 8 * 3600
    machine.run(20)
    assert machine.held(300) > 0.9


def test_steps_that_spare_nothing_are_skipped():
    machine = Machine(Tuning("pico", 4, max_faces=8, max_crop_px=64))
    machine.slower = 3.0
    machine.run(60)
    tuning = machine.governor.limit(machine.asked)
    assert tuning is not None
    assert not any("faces" in d.what for d in machine.governor.decisions)
    assert tuning.scale < 4 or tuning.patience > 1


def test_a_wish_that_changes_meanwhile_is_minded_at_once():
    machine = Machine(faces=10)
    machine.run(20)
    machine.asked = replace(ASKED, strength=0.3, only=frozenset({4}))
    tuning = machine.governor.limit(machine.asked)
    assert tuning is not None
    assert (tuning.strength, tuning.only) == (0.3, {4})


def make(asked: Tuning | None = None):
    enhancer = PlainEnhancer(scale=2)
    if asked is not None:
        enhancer.tuning = asked
    controls = Controls(Settings(enhancer.tuning), enhancer.presets)
    governed = Governed(enhancer, controls, Governor(None, enhancer.presets))
    return governed, controls, enhancer


def test_settings_reach_the_next_frame():
    governed, controls, enhancer = make()
    state = governed.new_state()
    frame = Frame(picture(0, 32, 16))
    assert governed.enhance(frame, state).rgb.shape == (32, 64, 3)
    controls.change(scale=4)
    assert governed.enhance(frame, state).rgb.shape == (64, 128, 3)
    calls = next(enhancer.calls)
    controls.change(enhance=False)
    assert governed.enhance(frame, state).faces == ()
    assert next(enhancer.calls) == calls + 1
    governed.close()


def test_another_preset_is_loaded_beside_the_frames():
    governed, controls, enhancer = make()
    begun, gate = threading.Event(), threading.Event()
    used: list[str] = []
    enhance = enhancer.enhance

    def load(preset: str, max_crop_px: int | None = None) -> None:
        begun.set()
        assert gate.wait(10)

    def note(frame, state, tuning=None):
        used.append(tuning.preset)
        return enhance(frame, state, tuning)

    enhancer.load, enhancer.enhance = load, note
    state, frame = governed.new_state(), Frame(picture(0, 32, 16))
    governed.enhance(frame, state)
    controls.change(preset="nano")
    governed.enhance(frame, state)
    assert begun.wait(10)
    governed.enhance(frame, state)
    gate.set()
    governed.close()
    governed.enhance(frame, state)
    assert used == ["pico", "pico", "pico", "nano"]


def test_the_network_in_use_is_not_held_against_the_one_being_loaded():
    governed, controls, enhancer = make()
    gate, took = threading.Event(), []
    enhancer.load = lambda _preset, _max_crop_px=None: gate.wait(10)
    governed._governor.took = lambda ms, _enhanced: took.append(ms)
    state, frame = governed.new_state(), Frame(picture(0, 32, 16))
    controls.change(preset="nano")
    for _ in range(3):
        governed.enhance(frame, state)
    assert took == []
    gate.set()
    governed.close()
    governed.enhance(frame, state)
    assert len(took) == 1


@pytest.mark.parametrize("error", [ConfigError, RuntimeError])
def test_a_preset_that_cannot_be_loaded_is_refused_once(caplog, error):
    governed, controls, enhancer = make()
    tries: list[str] = []

    def load(preset: str, max_crop_px: int | None = None) -> None:
        tries.append(preset)
        raise error("no such weights")

    enhancer.load = load
    state, frame = governed.new_state(), Frame(picture(0, 32, 16))
    controls.change(preset="nano")
    for _ in range(5):
        governed.enhance(frame, state)
        governed.close()
    assert tries == ["nano"]
    assert "no such weights" in caplog.text


@pytest.mark.parametrize(
    "changes",
    [
        {"strength": 2}, {"strength": "much"}, {"scale": 3}, {"preset": "huge"}, {"freeze": 1},
        {"max_faces": -1}, {"colour": "red"}, {"strength": 0.5, "scale": 7},
        {"strength_of": {1: -1.0}},
    ],
)  # fmt: skip
def test_a_wrong_change_changes_nothing(changes):
    _, controls, _ = make()
    before = controls.settings
    with pytest.raises(ConfigError):
        controls.change(**changes)
    assert controls.settings is before


def test_changes_from_many_threads_are_all_kept():
    _, controls, _ = make()
    names = [{"strength": 0.5}, {"scale": 1}, {"max_faces": 3}, {"freeze": True}]
    threads = [threading.Thread(target=controls.change, kwargs=change) for change in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    settings = controls.settings
    assert (settings.tuning.strength, settings.tuning.scale) == (0.5, 1)
    assert (settings.tuning.max_faces, settings.freeze) == (3, True)
