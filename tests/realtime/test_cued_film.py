"""A film read from its middle: the very frames that were read before, or a refusal."""

from __future__ import annotations

from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest

from cagface_core import CagfaceError, ConfigError, EnhancerConfig
from realtime.ahead import AheadSource, Piece, stretches
from realtime.cluster_worker import PieceWorker, Recruit, versions
from realtime.cued_film import CuedFilm, OtherFramesError, mark_of
from realtime.encoders import EncodeOptions, choose_encoder
from realtime.piece_maker import FilmWork, make_piece
from realtime.stats import Stats
from realtime.video_in import VideoSource
from tests.realtime.helpers import Clip
from tests.realtime.remembering import RememberingEnhancer, shorten_pieces
from tests.realtime.test_ahead import FILMS, Finder, Numbered


@pytest.fixture(autouse=True)
def _short_pieces(monkeypatch):
    from realtime import ahead

    for name in ("_SHORTEST_S", "_LONGEST_S", "_LEAST_TIMES_AHEAD"):
        monkeypatch.setattr(ahead, name, getattr(ahead, name))
    shorten_pieces()


def never():
    return False


def source(path):
    return VideoSource(path, planes=True)


def found(path):
    with closing(source(path)) as film:
        return list(stretches(film, Piece(), mark_of, stop=never))


@pytest.mark.parametrize("name", FILMS)
def test_pieces_are_found_where_they_are_made(name):
    n, cuts = FILMS[name]
    made = [frame.foreseen for frame in AheadSource(Numbered(n, cuts), Finder, Stats()).frames()]
    wanted = sorted({(foreseen.piece, foreseen.runs_in) for foreseen in made})
    pieces = list(stretches(Numbered(n, cuts), Piece(), lambda frame: frame.pts, stop=never))
    assert [(s.piece.start, s.piece.runs_in) for s in pieces] == wanted
    assert [s.following for s in pieces] == [*(s.piece for s in pieces[1:]), None]
    assert pieces[-1].end == n
    for stretch in pieces:
        assert list(stretch.pts) == list(range(stretch.first, stretch.first + len(stretch.pts)))
        assert stretch.marks == stretch.pts
    # From the middle on the same are found.
    begin = pieces[len(pieces) // 2].piece
    later = list(stretches(Numbered(n, cuts), begin, lambda frame: frame.pts, stop=never))
    assert [s.piece for s in later] == [s.piece for s in pieces if s.piece.start >= begin.start]


def test_looking_for_pieces_can_be_ended():
    asked = iter([False] * 100 + [True])
    ended = stretches(Numbered(5000), Piece(), lambda frame: frame.pts, stop=lambda: next(asked))
    assert len(list(ended)) < 30
    assert next(asked, None) is None


TIMES = range(0, 120 * 512, 512)
LONG_GROUPS = (("crf", "10"), ("preset", "medium"), ("g", "40"), ("bf", "3"))
KINDS = {
    "h264 with b-frames.mp4": Clip(pts=TIMES, options=LONG_GROUPS),
    "h264 open groups.mkv": Clip(
        pts=TIMES, options=(*LONG_GROUPS, ("x264-params", "open-gop=1:log-level=error"))
    ),
    "one key frame.mp4": Clip(pts=TIMES, options=(("crf", "10"), ("g", "999"))),
    "mpeg4.mkv": Clip(pts=TIMES, codec="mpeg4", options=(("qscale", "3"),)),
    "late start.mkv": Clip(pts=range(90 * 512, 210 * 512, 512), options=LONG_GROUPS),
    "lossless.mkv": Clip(pts=TIMES, codec="ffv1", options=()),
    "ten bits.mkv": Clip(pts=TIMES, codec="ffv1", pix_fmt="yuv420p10le", options=()),
    "every other time.mp4": Clip(
        pts=[512 * (i + i // 3) for i in range(120)], options=LONG_GROUPS
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", KINDS)
def test_a_jump_finds_the_frames_that_were_read_before(name, tmp_path):
    path = KINDS[name].write(tmp_path / name)
    pieces = found(path)
    assert len(pieces) > 3
    assert any(stretch.piece.runs_in for stretch in pieces)
    with closing(source(path)) as film:
        whole = list(film.frames())
    for stretch in pieces[1:]:
        with closing(source(path)) as film:
            frames = list(CuedFilm(film, stretch, 0.2).frames(stretch.first))
        expected = whole[stretch.first : stretch.first + len(stretch.pts)]
        assert [frame.pts for frame in frames] == [frame.pts for frame in expected]
        for a, b in zip(frames, expected, strict=True):
            assert all(map(np.array_equal, a.planes.planes, b.planes.planes))


def test_other_frames_are_refused(tmp_path):
    path = KINDS["mpeg4.mkv"].write(tmp_path / "in.mkv")
    stretch = found(path)[2]
    marks = list(stretch.marks)
    marks[7] ^= 1
    for jump_s in (0.2, None):
        with closing(source(path)) as film:
            frames = CuedFilm(film, replace(stretch, marks=tuple(marks)), jump_s).frames(
                stretch.first
            )
            with pytest.raises(OtherFramesError, match=f"frame {stretch.first + 7} is not decoded"):
                list(frames)


def work_on(path, **more):
    with closing(source(path)) as film:
        info = film.info
    chosen = choose_encoder(Path("out.mkv"), EncodeOptions("ffv1"), info, info.width, info.height)
    return FilmWork(path, info, info.width, info.height, chosen, 1, False, False, **more)


def pictures_of(data, tmp_path):
    (tmp_path / "made.mkv").write_bytes(data)
    with av.open(str(tmp_path / "made.mkv")) as container:
        return [frame.to_ndarray() for frame in container.decode(video=0)]


def two_clocks(tmp_path):
    """Two transport streams end to end: times begin anew in the middle, which a jump takes ill."""
    one = Clip(pts=TIMES, options=LONG_GROUPS).write(tmp_path / "one.ts")
    (tmp_path / "two.ts").write_bytes(one.read_bytes() * 2)
    return tmp_path / "two.ts"


def test_a_wider_jump_finds_the_key_frame_of_a_transport_stream(tmp_path):
    path = Clip(pts=range(0, 500 * 512, 512), options=LONG_GROUPS).write(tmp_path / "in.ts")
    stretch = found(path)[-1]
    made = make_piece(work_on(path), path, stretch, RememberingEnhancer(1, 0.0), tmp_path)
    assert made.jump_s == 12.0
    assert made.done.following is None


def test_where_a_jump_goes_astray_the_film_is_read_from_its_beginning(tmp_path):
    path = two_clocks(tmp_path)
    pieces = found(path)
    astray = [stretch for stretch in pieces if stretch.first >= 120]
    assert len(astray) >= 3
    for stretch in astray[:2]:
        with closing(source(path)) as film, pytest.raises(CagfaceError):
            list(CuedFilm(film, stretch, 0.2).frames(stretch.first))
        made = make_piece(work_on(path), path, stretch, RememberingEnhancer(1, 0.0), tmp_path)
        assert made.jump_s is None
        start = stretch.piece.start - stretch.first
        assert tuple(made.done.pts) == stretch.pts[start : stretch.end - stretch.first]


def test_a_piece_that_decodes_otherwise_is_not_made(tmp_path):
    path = KINDS["lossless.mkv"].write(tmp_path / "in.mkv")
    stretch = found(path)[1]
    other = replace(stretch, marks=tuple(mark ^ 1 for mark in stretch.marks))
    with pytest.raises(OtherFramesError, match="without --cluster"):
        make_piece(work_on(path), path, other, RememberingEnhancer(1, 0.0), tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["in.mkv"]


def recruit(work, **more):
    told = {"config": EnhancerConfig(mode="file", scale=1), "size": work.source.stat().st_size}
    told |= {"versions": versions(), "files": {}, "cpus": 1}
    return Recruit(lambda config: RememberingEnhancer(config.scale, 0.0), work=work, **told | more)


@pytest.fixture
def worker():
    one = PieceWorker()
    yield one
    one.close()


def test_a_worker_that_cannot_see_the_film_gets_a_copy(tmp_path, worker):
    path = KINDS["lossless.mkv"].write(tmp_path / "in.mkv")
    stretch = found(path)[1]
    work, data = work_on(path), path.read_bytes()
    expected, _ = with_own_film(work, stretch)
    told = recruit(work)
    path.unlink()
    assert worker.hello(told, "cpu").needs_film
    worker.take_film(data[:5000])
    worker.take_film(data[5000:])
    made, warnings = worker.make(stretch)
    assert warnings == []
    assert made.jump_s == 0.2
    assert made.done == expected.done
    for a, b in zip(
        pictures_of(made.data, tmp_path), pictures_of(expected.data, tmp_path), strict=True
    ):
        assert np.array_equal(a, b)


def with_own_film(work, stretch):
    one = PieceWorker()
    assert not one.hello(recruit(work), "cpu").needs_film
    return one.make(stretch)


def test_a_worker_of_another_version_is_refused(tmp_path, worker):
    work = work_on(Clip().write(tmp_path / "in.mp4"))
    with pytest.raises(ConfigError, match=r"has .*av .*, this machine av 0.0; install the same"):
        worker.hello(recruit(work, versions={"av": "0.0"}), "cpu")


def test_a_worker_has_the_weights_that_were_named(tmp_path, worker):
    work = work_on(Clip().write(tmp_path / "in.mp4"))
    seen = []

    def make(config):
        seen.append((Path(config.weights).read_bytes(), config.parser.read_bytes()))
        return RememberingEnhancer(config.scale, 0.0)

    told = recruit(
        work, config=EnhancerConfig(mode="file", weights="gone.safetensors", parser=Path("p.pth")),
        files={"gone.safetensors": b"weights", "p.pth": b"parser"},
    )  # fmt: skip
    worker.hello(replace(told, make_enhancer=make), "cpu")
    assert seen == [(b"weights", b"parser")]


def test_folders_of_dead_workers_are_swept():
    folder = PieceWorker()._folder.parent
    (folder / "999999999").mkdir(exist_ok=True)
    PieceWorker().close()
    with suppress(AssertionError):
        assert not Path("/proc/self").exists()
        return
    assert not (folder / "999999999").exists()
