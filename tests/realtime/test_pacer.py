"""Times of streams that behave, and of those that jump."""

from __future__ import annotations

from contextlib import closing
from fractions import Fraction
from itertools import pairwise

import pytest

from realtime.pacer import Pacer
from realtime.video_in import VideoSource
from tests.realtime.helpers import Clip


class Clock:
    now_s = 1000.0

    def __call__(self):
        return self.now_s


@pytest.fixture
def clock():
    return Clock()


def due(pacer, clock, times_s, *, work_s=0.0):
    """When each is due from the start, in a run that waits for each."""
    found = []
    for time_s in times_s:
        due_s = pacer.due_s(time_s)
        clock.now_s = max(clock.now_s, due_s) + work_s
        found.append(round(due_s - 1000, 3))
    return found


def test_frames_are_due_as_long_after_the_first_as_their_times_say(clock):
    assert due(Pacer(clock), clock, [7.0, 7.04, 7.1, 15.0]) == [0, 0.04, 0.1, 8.0]


def test_a_little_that_was_lost_is_caught_up(clock):
    pacer = Pacer(clock)
    assert due(pacer, clock, [0.0, 0.04]) == [0, 0.04]
    clock.now_s += 0.3
    assert due(pacer, clock, [0.08, 0.12, 0.4]) == [0.08, 0.12, 0.4]


@pytest.mark.parametrize("jump_s", [7200.0, -7200.0, -1.0, 11.0])
def test_times_that_jump_neither_stall_nor_rush(clock, jump_s):
    pacer = Pacer(clock)
    assert due(pacer, clock, [100.0, 100.04]) == [0, 0.04]
    assert due(pacer, clock, [100.0 + jump_s, 100.04 + jump_s]) == [0.04, 0.08]


def test_after_a_suspension_it_goes_on_from_now(clock):
    pacer = Pacer(clock)
    assert due(pacer, clock, [0.0, 0.04]) == [0, 0.04]
    clock.now_s = 1000 + 3600
    assert due(pacer, clock, [0.08, 0.12, 0.16]) == [3600, 3600.04, 3600.08]


def test_a_stream_slower_than_its_times_never_falls_far_behind(clock):
    pacer = Pacer(clock)
    late_s = []
    for index in range(200):
        due_s = pacer.due_s(0.04 * index)
        late_s.append(clock.now_s - due_s)
        clock.now_s = max(clock.now_s, due_s) + 0.06
    assert max(late_s) <= 0.5


def test_streams_joined_end_to_end_keep_their_pace(tmp_path):
    clip = Clip(time_base=Fraction(1, 90_000), pts=range(0, 2 * 90_000, 3600))
    joined = tmp_path / "joined.ts"
    one = clip.write(tmp_path / "one.ts").read_bytes()
    joined.write_bytes(one + one)
    with closing(VideoSource(joined)) as source:
        times_s = [frame.time_s for frame in source.frames()]
    assert len(times_s) == 100
    steps = [b - a for a, b in pairwise(times_s)]
    assert max(abs(step - 0.04) for step in steps) < 1e-3
