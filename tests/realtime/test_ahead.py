"""Films cut into pieces: every frame once, nothing that depends on where the work began."""

from fractions import Fraction

import numpy as np
import pytest

from cagface_core import Face, Frame
from realtime.ahead import AheadSource, Piece, frames_ahead
from realtime.source import SourceInfo
from realtime.stats import Stats

RATE_HZ = 10


class Numbered:
    """A film of ``n`` frames; a shot begins where ``cuts`` say. Counts what is held."""

    def __init__(self, n, cuts=(), pts=None):
        self.info = SourceInfo("film", 64, 36, Fraction(1, RATE_HZ), Fraction(RATE_HZ))
        self.pts = list(pts or range(n))
        shots = np.cumsum([index in cuts for index in range(len(self.pts))])
        self.levels = [40 + 150 * int(shot % 2) for shot in shots]
        self.asked = []
        self.closed = False

    def frames(self, first=0):
        self.asked.append(first)
        for index in range(first, len(self.pts)):
            rgb = np.full((36, 64, 3), self.levels[index], np.uint8)
            yield Frame(rgb, self.pts[index], self.info.time_base)

    def close(self):
        self.closed = True


class Finder:
    """Finds one face, which remembers how many frames this finder has seen."""

    def __init__(self):
        self.seen = 0

    def __call__(self, frame):
        self.seen += 1
        return (Face(1, self.seen % 5, frame.pts % 7, 8, 8, 0.9),)


def foresee(film, begin=None, finder=Finder, stats=None):
    return list(AheadSource(film, finder, stats or Stats(), begin).frames())


def shown(frames):
    return [frame for frame in frames if frame.foreseen.shown]


FILMS = {
    "short": (30, ()),
    "one frame": (1, ()),
    "long shot": (500, ()),
    "shots": (600, (30, 75, 160, 163, 300, 480)),
    "ends with a piece": (400, (200,)),
    "cut behind a border": (420, (203,)),
}


@pytest.mark.parametrize("name", FILMS)
def test_every_frame_is_shown_once_in_order(name):
    n, cuts = FILMS[name]
    frames = foresee(Numbered(n, cuts))
    assert [frame.pts for frame in shown(frames)] == list(range(n))
    assert all(len(frame.foreseen.faces) == 1 for frame in frames if n > 2)
    # Every change of shot begins anew, and every piece.
    begins = {frame.pts for frame in shown(frames) if frame.foreseen.begins}
    assert set(cuts) <= begins


def pieces(frames):
    return sorted({(f.foreseen.piece, f.foreseen.runs_in) for f in frames})


def test_pieces_end_with_a_shot_or_after_twenty_seconds():
    assert pieces(foresee(Numbered(*FILMS["long shot"]))) == [(0, False), (200, True), (400, True)]
    found = pieces(foresee(Numbered(*FILMS["shots"])))
    assert found == [(0, False), (75, False), (160, False), (300, False), (480, False)]
    assert pieces(foresee(Numbered(*FILMS["short"]))) == [(0, False)]


def test_a_piece_without_a_new_shot_is_run_into():
    film = Numbered(500)
    ahead = frames_ahead(film.info)
    frames = foresee(film)
    unseen = [frame.pts for frame in frames if not frame.foreseen.shown]
    assert unseen == [*range(200 - ahead, 200), *range(400 - ahead, 400)]
    assert [f.pts for f in frames if f.foreseen.begins] == [0, 200 - ahead, 400 - ahead]


@pytest.mark.parametrize("name", FILMS)
def test_a_film_that_is_begun_at_a_piece_goes_on_the_same(name):
    n, cuts = FILMS[name]
    whole = foresee(Numbered(n, cuts))
    for start, runs_in in pieces(whole):
        film = Numbered(n, cuts)
        again = foresee(film, Piece(start, runs_in))
        expected = [f for f in whole if f.foreseen.piece >= start]
        assert [(f.pts, f.foreseen) for f in again] == [(f.pts, f.foreseen) for f in expected]
        assert film.asked == [start - (frames_ahead(film.info) if runs_in else 0)]


def test_little_is_held():
    film = Numbered(500)
    taken, most = 0, 0

    def counting(first=0):
        nonlocal taken
        for frame in Numbered(500).frames(first):
            taken += 1
            yield frame

    film.frames = counting
    for given, _ in enumerate(AheadSource(film, Finder, Stats()).frames()):
        most = max(most, taken - given)
    assert most <= 2 * frames_ahead(film.info) + 1


def test_large_pictures_look_less_far_ahead():
    small = SourceInfo("", 640, 360, Fraction(1, 1000), Fraction(60))
    large = SourceInfo("", 7680, 4320, Fraction(1, 1000), Fraction(60))
    assert frames_ahead(small) == 30
    assert frames_ahead(large) == 4


def test_frames_far_apart_are_no_pieces_of_their_own():
    film = Numbered(40, pts=range(0, 40 * 100, 100))  # ten seconds each
    frames = foresee(film)
    assert [frame.pts for frame in shown(frames)] == film.pts
    assert len(pieces(frames)) == 1


def test_a_look_that_fails_costs_the_face_and_not_the_frame(caplog):
    class Failing(Finder):
        def __call__(self, frame):
            if 10 <= frame.pts < 30:
                raise RuntimeError("no memory")
            return super().__call__(frame)

    stats = Stats()
    frames = foresee(Numbered(60), finder=Failing, stats=stats)
    assert len(frames) == 60
    assert frames[20].foreseen.faces == ()
    assert len(frames[50].foreseen.faces) == 1
    assert stats.summary().counts["looks_failed"] == 20
    assert len([r for r in caplog.records if "no memory" in r.getMessage()]) == 1


def test_closing_closes_the_film():
    film = Numbered(1)
    AheadSource(film, Finder, Stats()).close()
    assert film.closed
