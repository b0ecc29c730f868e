"""A frame waits for the detector only where it cannot do without; what is found is the same."""

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import closing
from dataclasses import dataclass, field

import cv2
import numpy as np
import pytest

from cagface_core.enhancer import _LOOK_EVERY_S
from cagface_core.looks import Looks
from cagface_core.state import State
from cagface_core.types import Detection, Face, Frame, Image
from cagface_core.watch import Watcher

RNG = np.random.default_rng(0)
WALL = cv2.GaussianBlur(RNG.integers(0, 256, (240, 320, 3), np.uint8), (0, 0), 2)
PATCH = cv2.GaussianBlur(RNG.integers(0, 256, (90, 90, 3), np.uint8), (0, 0), 2)


def scene(number: int) -> Frame:
    """A patch that goes one pixel to the right with each frame."""
    rgb = WALL.copy()
    rgb[60:150, 80 + number : 170 + number] = PATCH
    return Frame(rgb, round(number * 1e6 / 30))


@dataclass
class Slow:
    """Finds the patch where it is in the frame it is given; stands still until it may go."""

    place: Callable[[int], list[Detection]]
    go: threading.Event = field(default_factory=threading.Event)
    saw: list[int] = field(default_factory=list[int])
    fails: bool = False

    def detect(
        self, rgb: Image, known: Sequence[Detection | Face] = (), *, search: bool = True,
        part: int | None = None,
    ) -> list[Detection]:  # fmt: skip
        assert self.go.wait(30)
        number = next(n for n in range(200) if np.array_equal(scene(n).rgb, rgb))
        self.saw.append(number)
        if self.fails:
            raise ValueError("the detector is broken")
        return self.place(number)

    def close(self) -> None:
        """Nothing to release."""


def one(number: int) -> list[Detection]:
    return [Detection(80.0 + number, 60.0, 90.0, 90.0, 0.9)]


@pytest.fixture
def watcher() -> Iterator[Watcher]:
    with closing(Watcher(waits=False)) as made:
        yield made


def fresh() -> State:
    return State(Looks(*_LOOK_EVERY_S["live"]))


def test_a_frame_with_faces_that_can_be_followed_does_not_wait(watcher: Watcher):
    slow, state = Slow(one), fresh()
    slow.go.set()
    assert [f.x for f in watcher.look(scene(0), state, slow)] == [80]  # a first one does
    number = 1
    slow.go.clear()
    while state.looking is None:  # the detector stands still, frames go on
        (face,) = watcher.look(scene(number), state, slow)
        assert face.x == pytest.approx(80 + number, abs=0.5)
        number += 1
        assert number < 20
    slow.go.set()
    (face,) = watcher.look(scene(number), state, slow)
    assert face.x == pytest.approx(80 + number, abs=0.5)
    assert state.looking is None
    assert slow.saw[-1] == number - 1


def test_what_is_found_late_counts_from_the_next_frame_on(watcher: Watcher):
    def two(number: int) -> list[Detection]:
        return one(number) + ([Detection(220, 150, 60, 60, 0.9)] if number >= 5 else [])

    slow, state = Slow(two), fresh()
    slow.go.set()
    counts = [len(watcher.look(scene(number), state, slow)) for number in range(20)]
    looked = next(number for number in slow.saw if number >= 5)
    assert counts.index(2) == looked + 1
    assert counts[looked + 1 :] == [2] * (19 - looked)


def test_faces_do_not_depend_on_how_long_the_detector_takes(watcher: Watcher):
    def run(pause: Callable[[threading.Event], None]) -> list[tuple[Face, ...]]:
        slow, state = Slow(one), fresh()
        slow.go.set()
        found: list[tuple[Face, ...]] = []
        for number in range(30):
            if state.faces and number % 3:
                slow.go.clear()
                timer = threading.Timer(0.01, slow.go.set)
                timer.start()
            found.append(watcher.look(scene(number), state, slow))
            pause(slow.go)
            slow.go.set()
        return found

    def finished(go: threading.Event) -> None:
        go.set()
        watcher._thread.submit(int).result()

    assert run(finished) == run(lambda _: None)


def test_after_a_cut_what_was_found_before_it_is_forgotten(watcher: Watcher):
    slow, state = Slow(one), fresh()
    slow.go.set()
    number = 0
    while state.looking is None:
        watcher.look(scene(number), state, slow)
        number += 1
    dark = np.full_like(WALL, 5)
    dark[120:] = 250

    class Nobody(Slow):
        def detect(self, *_: object, **__: object) -> list[Detection]:
            return []

    assert watcher.look(Frame(dark, round(number * 1e6 / 30)), state, Nobody(one)) == ()
    state.looking = Future()
    state.forget_faces()
    assert state.looking is None


def test_a_broken_detector_is_told_by_the_frame_that_needs_it(watcher: Watcher):
    slow, state = Slow(one), fresh()
    slow.go.set()
    watcher.look(scene(0), state, slow)
    slow.fails = True
    number = 1
    while state.looking is None:
        watcher.look(scene(number), state, slow)
        number += 1
    with pytest.raises(ValueError, match="broken"):
        watcher.look(scene(number), state, slow)
    assert state.looking is None
    state.reset()
    with pytest.raises(ValueError, match="broken"):  # it has no faces to go on with
        watcher.look(scene(number + 1), state, slow)


def test_frames_of_a_file_wait_for_every_look():
    with closing(Watcher(waits=True)) as files:
        slow, state = Slow(one), State(Looks(*_LOOK_EVERY_S["file"]))
        slow.go.set()
        for number in range(5):
            files.look(scene(number), state, slow)
            assert state.looking is None
        assert slow.saw == [0, 1, 2, 3, 4]
