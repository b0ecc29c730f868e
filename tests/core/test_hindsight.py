"""Boxes with the future known: no lag, no gaps, no one-frame mistakes."""

import numpy as np

from cagface_core.hindsight import steadied
from cagface_core.types import Face

RATE_HZ = 25


def film(n, where, rng=None, noise=0.0):
    """Frames with the faces that ``where(index)`` gives as (id, x, size), boxes with noise."""
    rng = rng or np.random.default_rng(0)
    frames = []
    for index in range(n):
        faces = []
        for key, x, size in where(index):
            dx, dy, ds = noise * rng.standard_normal(3)
            faces.append(Face(key, x + dx, 40 + dy, size + ds, size + ds, 0.9))
        frames.append(tuple(faces))
    return frames, [index / RATE_HZ for index in range(n)]


def centres(found, times_s, key=1):
    for at in range(len(found)):
        (face,) = [f for f in steadied(found, times_s, at) if f.id == key]
        yield face.x + face.w / 2


def test_noise_goes_and_a_moving_face_is_not_late():
    truth = [20 + 3.0 * index for index in range(60)]
    found, times_s = film(60, lambda i: [(1, truth[i], 30)], noise=1.0)
    raw = np.array([faces[0].x + faces[0].w / 2 for faces in found]) - np.array(truth) - 15
    steady = np.array(list(centres(found, times_s))) - np.array(truth) - 15
    assert np.abs(steady.mean()) < 0.3
    assert steady.std() < 0.6 * raw.std()
    # Not at the ends either, where there is a past or a future only.
    assert np.abs(steady[[0, -1]]).max() < 2.5


def test_a_face_that_is_missed_is_where_its_neighbours_say():
    found, times_s = film(40, lambda i: [] if 15 <= i < 20 else [(1, 10 + 2.0 * i, 30)])
    for at in (15, 17, 19):
        (face,) = steadied(found, times_s, at)
        assert face.missed == 1
        assert abs(face.x - (10 + 2 * at)) < 0.5


def test_a_tracker_that_coasted_the_wrong_way_is_put_right():
    found, times_s = film(40, lambda i: [(1, 50, 30)])
    for at in range(15, 20):
        found[at] = (Face(1, 50 + 4.0 * (at - 14), 40, 30, 30, 0.9, missed=at - 14),)
    (face,) = steadied(found, times_s, 19)
    assert abs(face.x - 50) < 0.5


def test_a_face_that_goes_is_where_it_was_tracked_to():
    found, times_s = film(40, lambda i: [(1, 50, 30)] if i < 20 else [])
    found[20] = (Face(1, 51, 40, 30, 30, 0.9, missed=1),)
    assert steadied(found, times_s, 20) == found[20]
    assert steadied(found, times_s, 21) == ()


def test_a_mistake_of_two_frames_is_nobody():
    found, times_s = film(40, lambda i: [(1, 50, 30)] + [(2, 120, 20)] * (i in (18, 19)))
    assert [f.id for f in steadied(found, times_s, 18)] == [1]
    found, times_s = film(40, lambda i: [(1, 50, 30)] + [(2, 120, 20)] * (18 <= i < 22))
    assert [f.id for f in steadied(found, times_s, 18)] == [1, 2]


def test_a_film_of_one_frame_has_its_faces():
    found, times_s = film(1, lambda _i: [(1, 50, 30)])
    assert steadied(found, times_s, 0) == found[0]
