"""A film whose making is ended at any moment, begun again, and as if nothing had been."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time

import av
import numpy as np
import pytest

from cagface_core import OutputError
from realtime.cli import main
from realtime.journal import open_journal
from tests.conftest import ROOT
from tests.realtime.helpers import Clip, audio_streams, video_times

PROGRAM = """
import sys
sys.path.insert(0, {root!r})
import realtime.ahead as ahead
ahead._SHORTEST_S, ahead._LONGEST_S, ahead._LEAST_TIMES_AHEAD = 0.5, 1.0, 2
from realtime.cli import main
from tests.realtime.remembering import RememberingEnhancer
print("ready", flush=True)
make = lambda options: RememberingEnhancer(options.scale, {wait_s})
sys.exit(main(sys.argv[1:], make_enhancer=make))
"""


def command(source, output, wait_s=0.0, *more):
    code = PROGRAM.format(root=str(ROOT), wait_s=wait_s)
    encode = ("--encoder-preset", "ultrafast", "--crf", "12")
    return [sys.executable, "-c", code, "video", source, output, "--scale", "1", *encode, *more]


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    """Ten seconds, with sound, and what an uninterrupted run makes of it."""
    folder = tmp_path_factory.mktemp("film")
    options = (("crf", "10"), ("preset", "ultrafast"))
    source = Clip(pts=range(0, 250 * 512, 512), options=options, audio=["aac"]).write(
        folder / "in.mp4"
    )
    output = folder / "whole.mp4"
    subprocess.run(command(source, output), check=True, timeout=120)
    assert sorted(p.name for p in folder.iterdir()) == ["in.mp4", "whole.mp4"]
    return source, output


def frames(path):
    with av.open(str(path)) as container:
        return [frame.to_ndarray() for frame in container.decode(video=0)]


def assert_equal(output, whole):
    assert video_times(output) == video_times(whole)
    assert audio_streams(output) == audio_streams(whole)
    for a, b in zip(frames(output), frames(whole), strict=True):
        assert np.array_equal(a, b)


def test_what_is_made_depends_on_what_was_before(film):
    """Else the tests below would prove nothing."""
    source, whole = film
    pictures, originals = frames(whole), frames(source)
    added = [int(np.median(a.astype(int) - b)) for a, b in zip(pictures, originals, strict=True)]
    assert len(set(added)) > 3


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="killed the POSIX way")
def test_twenty_kills(film, tmp_path):
    source, whole = film
    output = tmp_path / "out.mp4"
    rng = random.Random(4)
    arguments = command(source, output, 0.02)
    kept = []
    for _ in range(20):
        program = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert program.stdout is not None
        program.stdout.readline()
        time.sleep(rng.uniform(0, 1.2))
        program.kill()
        program.communicate()
        lines = tmp_path / ".out.mp4.cagface" / "pieces.jsonl"
        kept.append(len(lines.read_text().splitlines()) if lines.exists() else 0)
        if output.exists():
            break
    assert kept == sorted(kept) or output.exists()
    subprocess.run(command(source, output), check=True, timeout=120, capture_output=True)
    assert_equal(output, whole)
    assert [p.name for p in tmp_path.iterdir()] == ["out.mp4"]


@pytest.mark.skipif(os.name != "posix", reason="signals are sent the POSIX way")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_ended_in_mid_work_it_goes_on(film, tmp_path, number):
    source, whole = film
    output = tmp_path / "out.mp4"
    lines = tmp_path / ".out.mp4.cagface" / "pieces.jsonl"
    program = subprocess.Popen(command(source, output, 0.02), stderr=subprocess.PIPE)
    end_s = time.monotonic() + 60
    while not (lines.exists() and len(lines.read_text().splitlines()) >= 2):
        assert time.monotonic() < end_s
        assert program.poll() is None
        time.sleep(0.02)
    program.send_signal(number)
    program.communicate(timeout=30)
    assert not output.exists()
    done = sum(len(json.loads(line)["pts"]) for line in lines.read_text().splitlines())
    again = subprocess.run(
        command(source, output), check=True, timeout=120, capture_output=True, text=True
    )
    assert f"going on behind the {done} frames" in again.stderr
    assert_equal(output, whole)
    assert [p.name for p in tmp_path.iterdir()] == ["out.mp4"]


def begin(film, tmp_path, pieces=3):
    """A run that was ended behind so many pieces."""
    source, _ = film
    output = tmp_path / "out.mp4"
    lines = tmp_path / ".out.mp4.cagface" / "pieces.jsonl"
    program = subprocess.Popen(command(source, output, 0.02), stderr=subprocess.DEVNULL)
    while not (lines.exists() and len(lines.read_text().splitlines()) >= pieces):
        assert program.poll() is None
        time.sleep(0.02)
    program.kill()
    program.wait()
    return output, lines


def test_another_setting_begins_anew(film, tmp_path):
    output, _ = begin(film, tmp_path)
    again = subprocess.run(
        command(film[0], output, 0.0, "--strength", "0.5"),
        check=True,
        capture_output=True,
        text=True,
    )
    assert "given up: --strength changed" in again.stderr
    assert "going on" not in again.stderr
    assert len(frames(output)) == 250


@pytest.mark.parametrize("damage", ["line cut off", "piece gone", "piece cut off", "no journal"])
def test_a_damaged_journal_costs_work_and_nothing_else(film, tmp_path, damage):
    output, lines = begin(film, tmp_path)
    if damage == "line cut off":
        text = lines.read_text()
        lines.write_text(text[:-20])
    elif damage == "piece gone":
        sorted(lines.parent.glob("0*.mkv"))[1].unlink()
    elif damage == "piece cut off":
        os.truncate(sorted(lines.parent.glob("0*.mkv"))[0], 3000)
    else:
        lines.unlink()
    subprocess.run(command(film[0], output), check=True, capture_output=True)
    assert_equal(output, film[1])


def test_two_runs_at_one_output(tmp_path, capsys):
    source = Clip().write(tmp_path / "in.mp4")
    journal = open_journal(tmp_path / "out.mp4", {})
    assert main(["video", str(source), str(tmp_path / "out.mp4")], make_enhancer=None) == 2
    assert "another run is at work on it" in capsys.readouterr().err
    journal.close()
    assert [p.name for p in tmp_path.iterdir()] == ["in.mp4"]


def test_a_result_that_is_not_what_went_in_is_no_result(film, tmp_path, monkeypatch):
    from realtime import video_out
    from realtime.run_video import VideoJob, run_video
    from tests.realtime.remembering import RememberingEnhancer

    join = video_out.join

    def lossy(*arguments, **options):
        written = join(*arguments, **options)
        written.frames += 1
        return written

    monkeypatch.setattr(video_out, "join", lossy)
    with pytest.raises(OutputError, match="does not hold the frames"):
        run_video(VideoJob(film[0], tmp_path / "out.mp4", 1), lambda: RememberingEnhancer(1, 0.0))
    assert not (tmp_path / "out.mp4").exists()
    monkeypatch.undo()
    run_video(VideoJob(film[0], tmp_path / "out.mp4", 1), lambda: pytest.fail("all was done"))
    assert len(frames(tmp_path / "out.mp4")) == 250
