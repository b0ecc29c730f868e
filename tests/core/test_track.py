"""Synthetic detections in, identities and boxes checked: no pictures, no detector."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest

from cagface_core.cuts import CutDetector
from cagface_core.errors import ConfigError
from cagface_core.track import Tracker, TrackerConfig
from cagface_core.types import Detection

FRAME_S = 1 / 25


def at(x, y=100.0, size=50.0, score=0.9):
    """A detection centred at (x, y)."""
    return Detection(x - size / 2, y - size / 2, size, size, score)


def center(face):
    return face.x + face.w / 2, face.y + face.h / 2


def follow(tracker, positions, start_s=0.0, size=50.0):
    """Update once per frame with one face at each position; the faces of each frame."""
    return [
        tracker.update([at(x, size=size)], start_s + i * FRAME_S) for i, x in enumerate(positions)
    ]


def test_a_still_face_gets_steadier_and_stays_in_place():
    rng = np.random.default_rng(1)
    raw = 200 + rng.normal(0, 0.5, 300)  # 1% of the box, as BlazeFace jitters on a still head
    smooth = np.array([center(faces[0])[0] for faces in follow(Tracker(), raw)])
    assert np.diff(smooth[50:]).std() < 0.35 * np.diff(raw[50:]).std()
    assert smooth[50:].std() < 0.6 * raw[50:].std()
    assert abs(smooth[50:].mean() - 200) < 0.1


@pytest.mark.parametrize("boxes_per_s", [0.5, 2, 8, 15])
def test_the_box_keeps_up_with_motion(boxes_per_s):
    step = boxes_per_s * 50 * FRAME_S
    positions = [100.0] * 25 + [100 + step * i for i in range(1, 50)]
    for faces, x in zip(follow(Tracker(), positions), positions, strict=True):
        assert [face.id for face in faces] == [1]
        assert abs(center(faces[0])[0] - x) <= 0.1 * 50 + 1e-9


def test_size_follows_without_pumping():
    tracker = Tracker()
    sizes = [50.0] * 25 + [50 + i for i in range(50)]
    for i, size in enumerate(sizes):
        (face,) = tracker.update([at(200, size=size)], i * FRAME_S)
        assert abs(face.w - size) <= 0.1 * size + 1e-9


def test_smoothing_does_not_depend_on_resolution():
    rng = random.Random(2)
    positions = [300 + 40 * math.sin(i / 7) + rng.gauss(0, 1) for i in range(100)]
    small = follow(Tracker(), positions)
    large = follow(Tracker(), [10 * x for x in positions], size=500)
    for a, b in zip(small, large, strict=True):
        assert 10 * center(a[0])[0] == pytest.approx(center(b[0])[0])


def test_smoothing_goes_by_time_not_by_frames():
    """A step is worked off after the same time at any frame rate."""
    places = []
    for hz in (15, 30, 60, 120):
        tracker = Tracker(TrackerConfig(max_lag=1.0, center_beta=0.0))
        tracker.update([at(100)], 0.0)
        for i in range(1, hz // 2 + 1):
            (face,) = tracker.update([at(110)], i / hz)
        places.append(center(face)[0])
    assert max(places) - min(places) < 0.6


def test_a_dropped_detection_is_held_then_let_go():
    tracker = Tracker()
    follow(tracker, [100.0] * 26)  # 1 s
    held = [tracker.update([], 1.0 + i * FRAME_S) for i in range(1, 19)]
    assert all(len(faces) == 1 and faces[0].id == 1 for faces in held)
    assert [faces[0].missed for faces in held] == list(range(1, 19))
    assert abs(center(held[-1][0])[0] - 100) < 1e-6
    assert tracker.update([], 1.0 + 19 * FRAME_S) == ()
    assert [f.id for f in tracker.update([at(300)], 1.8)] == [2]


@pytest.mark.parametrize(("place", "after_s", "id"), [(104, 20, 1), (200, 20, 2), (104, 90, 2)])
def test_a_face_found_again_where_it_was_is_the_same(place: float, after_s: float, id: int):
    tracker = Tracker()
    follow(tracker, [100.0] * 26)
    assert tracker.update([], 5.0) == ()
    assert [f.id for f in tracker.update([at(place)], 5.0 + after_s)] == [id]
    # who comes beside it is somebody else
    assert [f.id for f in tracker.update([at(place), at(400)], 5.1 + after_s)] == [
        id,
        3 if id == 2 else 2,
    ]


def test_after_a_cut_nobody_is_found_again():
    tracker = Tracker()
    follow(tracker, [100.0] * 26)
    assert tracker.update([], 5.0) == ()
    tracker.reset()
    assert [f.id for f in tracker.update([at(100)], 6.0)] == [2]


def test_it_comes_back_as_the_same_face_within_the_hold():
    tracker = Tracker()
    follow(tracker, [100.0] * 26)
    tracker.update([], 1.2)
    (face,) = tracker.update([at(104)], 1.4)
    assert (face.id, face.missed) == (1, 0)


def test_a_mistake_of_one_frame_lasts_one_frame():
    tracker = Tracker()
    assert len(tracker.update([at(100)], 0.0)) == 1
    assert tracker.update([], FRAME_S) == ()


def test_confirmation_keeps_mistakes_out_and_shows_lasting_faces():
    tracker = Tracker(TrackerConfig(confirm_hits=3))
    assert tracker.update([at(100)], 0.0) == ()
    assert tracker.update([], 1 * FRAME_S) == ()
    assert tracker.update([at(100)], 2 * FRAME_S) == ()
    assert tracker.update([at(100)], 3 * FRAME_S) == ()
    (face,) = tracker.update([at(100)], 4 * FRAME_S)
    assert [f.id for f in tracker.update([], 5 * FRAME_S)] == [face.id]


@pytest.mark.parametrize("boxes_per_s", [1.0, 3.0])
def test_crossing_faces_keep_their_identities(boxes_per_s):
    rng = random.Random(3)
    step = boxes_per_s * 50 * FRAME_S
    frames = int(300 / step)
    tracker = Tracker()
    for i in range(frames):
        pair = [at(100 + step * i), at(400 - step * i, y=104)]
        rng.shuffle(pair)
        faces = tracker.update(pair, i * FRAME_S)
        assert [f.id for f in sorted(faces, key=lambda f: f.id)] == [1, 2]
        if i == 0:
            left = min(faces, key=lambda f: f.x).id
    by_id = {f.id: f for f in faces}
    assert by_id[left].x > by_id[3 - left].x + 100


def test_a_face_hidden_behind_another_comes_back_with_its_identity():
    tracker = Tracker()
    step = 3.0  # 1.5 boxes per second
    for i in range(100):
        moving, still = at(100 + step * i), at(250, y=100)
        hidden = abs(100 + step * i - 250) < 15
        faces = tracker.update([moving] if hidden else [moving, still], i * FRAME_S)
        assert len(faces) == 1 if hidden and abs(100 + step * i - 250) < 9 else len(faces) >= 1
        if i == 0:
            still_id = max(faces, key=lambda f: f.x).id
    assert {f.id for f in faces} == {1, 2}
    assert abs(center(next(f for f in faces if f.id == still_id))[0] - 250) < 1


def test_two_boxes_on_one_held_face_are_never_shown():
    """A detection too different to be the held face takes its place."""
    tracker = Tracker()
    follow(tracker, [100.0] * 26)
    faces = tracker.update([at(100, size=300)], 1.0 + FRAME_S)
    assert [f.id for f in faces] == [2]


def test_identities_are_never_used_twice():
    tracker = Tracker()
    seen = set()
    for i in range(5):
        ids = {f.id for f in tracker.update([at(100), at(300)], float(i))}
        assert not ids & seen
        seen |= ids
        tracker.reset()
        assert tracker.coast(float(i)) == ()


def test_coasting_moves_on_but_does_not_run_away():
    tracker = Tracker()
    step = 4.0  # 2 boxes per second
    last = follow(tracker, [100 + step * i for i in range(50)])[-1][0]
    x0, now = center(last)[0], 49 * FRAME_S
    (soon,) = tracker.coast(now + FRAME_S)
    (late,) = tracker.coast(now + 10 * FRAME_S)
    assert 0.7 * step < center(soon)[0] - x0 < 1.05 * step
    assert center(soon)[0] < center(late)[0] < x0 + 0.15 * 100 + 1
    assert (soon.id, soon.missed) == (1, 0)
    (again,) = tracker.update([at(100 + step * 60)], now + 11 * FRAME_S)
    assert again.id == 1


def test_detection_on_every_fourth_frame_follows_as_well():
    tracker = Tracker()
    for i in range(100):
        x = 100 + 3 * i
        faces = tracker.update([at(x)], i * FRAME_S) if i % 4 == 0 else tracker.coast(i * FRAME_S)
        assert [f.id for f in faces] == [1]
        if i > 40:
            assert abs(center(faces[0])[0] - x) < 0.15 * 50


def test_frames_with_one_timestamp_and_time_going_back():
    tracker = Tracker()
    follow(tracker, [100.0] * 10, start_s=5.0)
    (face,) = tracker.update([at(101)], 5.0 + 9 * FRAME_S)
    assert face.id == 1
    assert all(map(math.isfinite, center(face)))
    (face,) = tracker.update([at(101)], 0.0)  # the file starts again
    assert face.id == 2


def test_many_faces_all_keep_their_identities():
    tracker = Tracker()
    grid = [(80 * (i % 16) + 50, 80 * (i // 16) + 50) for i in range(157)]
    rng = random.Random(4)
    first = None
    for frame in range(10):
        boxes = [at(x + 2 * frame + rng.gauss(0, 0.5), y, size=30) for x, y in grid]
        rng.shuffle(boxes)
        faces = tracker.update(boxes, frame * FRAME_S)
        places = {f.id: (round((f.x - 2 * frame) / 80), round(f.y / 80)) for f in faces}
        first = first or places
        assert places == first
    assert len(places) == 157


@pytest.mark.parametrize(
    "wrong", [{"hold_s": -1}, {"confirm_hits": 0}, {"center_cutoff_hz": 0}, {"max_lag": math.nan}]
)
def test_settings_that_make_no_sense_are_refused(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        TrackerConfig(**wrong)


def scene(seed, shift=0):
    """A textured picture, moved sideways by some pixels."""
    blocks = np.random.default_rng(seed).integers(0, 256, (12, 40, 3))
    wide = np.kron(blocks, np.ones((20, 20, 1))).astype(np.uint8)
    return np.ascontiguousarray(wide[:, shift : shift + 320])


def test_cuts_are_seen_and_motion_is_not():
    cuts = CutDetector()
    assert cuts.is_cut(scene(1))
    assert not any(cuts.is_cut(scene(1, 3 * i)) for i in range(40))  # a quick pan
    assert cuts.is_cut(scene(2))
    assert not cuts.is_cut(scene(2))
    assert cuts.is_cut(scene(2)[:100])  # another size
    cuts.reset()
    assert cuts.is_cut(scene(2)[:100])


def test_a_cut_after_a_fast_pan_is_one():
    def flat(level: int) -> np.ndarray:
        return np.full((90, 160, 3), level, np.uint8)

    cuts = CutDetector()
    assert cuts.is_cut(flat(100))
    assert not any(cuts.is_cut(flat(level)) for level in 8 * (118, 100))
    assert not cuts.is_cut(flat(142))  # more motion yet
    assert not any(cuts.is_cut(flat(level)) for level in 8 * (124, 142))
    assert cuts.is_cut(flat(205))
    assert not cuts.is_cut(flat(205))


def test_cuts_of_tiny_and_fading_frames():
    cuts = CutDetector()
    assert cuts.is_cut(np.zeros((1, 1, 3), np.uint8))
    assert not cuts.is_cut(np.zeros((1, 1, 3), np.uint8))
    levels = np.linspace(0, 255, 25).astype(np.uint8)  # a one-second fade from black
    cuts.is_cut(np.zeros((90, 160, 3), np.uint8))
    assert not any(cuts.is_cut(np.full((90, 160, 3), v, np.uint8)) for v in levels)
