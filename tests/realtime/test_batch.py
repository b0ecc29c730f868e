"""Many videos by one command: what is planned, what is skipped, what fails."""

import shutil
from pathlib import Path

import pytest

from cagface_core import InputError, OutputError
from realtime.batch import plan_videos
from realtime.cli import main
from tests.realtime.helpers import Clip, PlainEnhancer, frames_of


@pytest.fixture
def shelf(tmp_path):
    """Two clips in a folder, one in a folder within, and things that are none."""
    clip = Clip().write(tmp_path / "a.mp4")
    folder = tmp_path / "shelf"
    (folder / "deep").mkdir(parents=True)
    (folder / ".hidden").mkdir()
    for name in ("b.MP4", "c.mkv", "deep/d.avi", ".hidden/e.mp4", ".f.mp4"):
        shutil.copy(clip, folder / name)
    (folder / "notes.txt").write_text("no video")
    return tmp_path


def names(planned, root):
    return [(str(p.source.relative_to(root)), str(p.output.relative_to(root))) for p in planned]


def test_one_file_has_the_name_that_was_given(shelf):
    planned = plan_videos([str(shelf / "a.mp4")], shelf / "x.mkv")
    assert names(planned, shelf) == [("a.mp4", "x.mkv")]
    planned = plan_videos([str(shelf / "a.mp4")], shelf / "shelf")
    assert names(planned, shelf) == [("a.mp4", "shelf/a.mp4")]


def test_a_folder_gives_its_videos_and_those_within_if_asked(shelf):
    planned = plan_videos([str(shelf / "shelf")], shelf / "out")
    assert names(planned, shelf) == [("shelf/b.MP4", "out/b.mp4"), ("shelf/c.mkv", "out/c.mkv")]
    planned = plan_videos([str(shelf / "shelf")], shelf / "out", recursive=True, suffix=".mov")
    assert names(planned, shelf) == [
        ("shelf/b.MP4", "out/b.mov"), ("shelf/c.mkv", "out/c.mov"),
        ("shelf/deep/d.avi", "out/deep/d.mov"),
    ]  # fmt: skip
    assert (
        names(plan_videos([str(shelf / "shelf/deep")], shelf / "out"), shelf)[0][1] == "out/d.mkv"
    )


def test_results_are_not_enhanced_again(shelf):
    before = plan_videos([str(shelf / "shelf")], shelf / "shelf" / "better", recursive=True)
    for item in before:
        item.output.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(shelf / "a.mp4", item.output)
    again = plan_videos([str(shelf / "shelf")], shelf / "shelf" / "better", recursive=True)
    assert again == before
    in_place = plan_videos([str(shelf / "shelf")], shelf / "shelf", recursive=True)
    assert len(in_place) == 2 * len(before)


def test_patterns(shelf, monkeypatch):
    planned = plan_videos([str(shelf / "shelf" / "*.mkv"), str(shelf / "a.mp4")], shelf / "out")
    assert names(planned, shelf) == [("shelf/c.mkv", "out/c.mkv"), ("a.mp4", "out/a.mp4")]
    monkeypatch.chdir(shelf)
    planned = plan_videos(["**/d.*"], Path("out"), recursive=True)
    assert [str(item.output) for item in planned] == ["out/d.mkv"]


def test_what_makes_no_sense_is_one_line(shelf):
    with pytest.raises(InputError, match="no such file"):
        plan_videos([str(shelf / "none.mp4")], shelf / "out")
    with pytest.raises(InputError, match=r"holds no videos; --recursive"):
        plan_videos([str(_empty(shelf))], shelf / "out")
    with pytest.raises(OutputError, match="is a file, expected a folder for 2"):
        plan_videos([str(shelf / "shelf")], shelf / "a.mp4")
    shutil.copy(shelf / "a.mp4", shelf / "shelf" / "deep" / "a.mp4")
    with pytest.raises(OutputError, match=r"2 videos would get this name"):
        plan_videos([str(shelf / "a.mp4"), str(shelf / "shelf/deep/a.mp4")], shelf / "out")


def _empty(folder):
    (folder / "empty").mkdir()
    return folder / "empty"


def run(*arguments):
    return main(["video", *map(str, arguments)], make_enhancer=lambda o: PlainEnhancer(o.scale))


def test_a_batch_skips_what_is_there_and_outlives_what_fails(shelf, capsys):
    (shelf / "shelf" / "bad.mp4").write_text("no video")
    assert run(shelf / "shelf", shelf / "out", "--encoder-preset", "ultrafast") == 2
    told = capsys.readouterr()
    assert "not a video that can be read" in told.err
    assert "failed" in told.out
    assert sorted(p.name for p in (shelf / "out").iterdir()) == ["b.mp4", "c.mkv"]
    assert frames_of(shelf / "out" / "b.mp4")[0].shape == (128, 192, 3)
    (shelf / "shelf" / "bad.mp4").unlink()
    before = (shelf / "out" / "b.mp4").stat().st_mtime_ns
    assert run(shelf / "shelf", shelf / "out", "--recursive") == 0
    assert "there already" in capsys.readouterr().out.replace("\n", " ")
    assert (shelf / "out" / "b.mp4").stat().st_mtime_ns == before
    assert (shelf / "out" / "deep" / "d.mkv").exists()


def test_a_dry_run_says_what_would_be_and_makes_nothing(shelf, capsys):
    assert run(shelf / "a.mp4", shelf / "x.mp4", "--dry-run") == 0
    told = capsys.readouterr().out
    assert "96x64 at 25.00 fps, 12 frames, yuv420p" in told
    assert "192x128, libx264 yuv420p, crf 18, preset faster" in told
    assert "nothing else is in it" in told
    assert "without sound, by 12 frames of it" in told
    assert not (shelf / "x.mp4").exists()
    assert [p for p in shelf.iterdir() if p.name.startswith(".")] == []
    assert run(shelf / "shelf", shelf / "out", "--dry-run", "--codec", "h266") == 2
    assert "unknown codec" in capsys.readouterr().out
    assert run(shelf / "a.mp4", shelf / "x.mp4", "--dry-run", "--compare") == 0
    assert "384x128" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("x.mp4 --codec prores", "does not work in this kind of file"),
        ("x.mp4 --report none/page.html", "none does not exist"),
        ("a.mp4", "is the input itself"),
        ("none/x.mp4", "none does not exist"),
    ],
)
def test_a_dry_run_fails_where_the_run_would(shelf, capsys, words, said):
    output, *others = words.split()
    others = [str(shelf / word) if word.startswith("none") else word for word in others]
    for dry in (["--dry-run"], []):
        assert run(shelf / "a.mp4", shelf / output, *others, *dry) == 2
        told = capsys.readouterr()
        assert said in (told.out + told.err).replace("\n", " ")
        assert not (shelf / "x.mp4").exists()
