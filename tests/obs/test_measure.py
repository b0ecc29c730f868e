"""The measurements run, for seconds; and memory stays where it is."""

from __future__ import annotations

import subprocess
import sys

import av
import numpy as np
import pytest

from tests.obs import measure


def test_memory_is_flat(studio, engine):
    engine.start()
    found = measure.measure_memory(studio, engine, 6.0)
    assert 50 < found["obs"]["most_mib"] < 1500
    assert 10 < found["engine"]["most_mib"] < 500
    for name in ("obs", "engine"):
        assert found[name]["growth_mib"] < 40  # one leaked frame in ten would be 100 MiB


def test_delay(studio, engine):
    engine.start("--plain")
    found = measure.measure_delay(studio, engine, 3.0)
    assert found["samples"] > 1  # of a hundred: a busy machine shows OBS few of its frames
    assert 1 <= found["frames"]["p50"] < 60
    assert found["ms"]["p50"] == pytest.approx(found["frames"]["p50"] * 1000 / 30)


def test_troubles(studio, engine):
    engine.start("--plain")
    found = measure.measure_troubles(studio, engine, 0.3)
    assert list(found) == ["without the filter", "well", "stopped", "gone", "slow", "lies"]
    assert all(each["frames"] > 0 for each in found.values())


def test_numbers_are_read_as_they_are_written(tmp_path):
    with av.open(str(measure.numbered_clip(tmp_path / "clip.mkv", 70))) as clip:
        pictures = [picture.to_ndarray(format="rgb24") for picture in clip.decode(video=0)]
    assert [measure.number_in(picture, 0) for picture in pictures] == list(range(70))
    assert measure.number_in(np.hstack((pictures[0], pictures[69])), 320) == 69


def test_round_trip(tmp_path):
    with measure.engine_of("echo", tmp_path) as engine:
        found = measure.measure_round_trip(engine, 0.2)
    assert found.keys() == {"640x480", "1280x720"}
    assert all(0 < spread["p50"] <= spread["p95"] for spread in found.values())


def test_a_mistake_is_one_line():
    done = subprocess.run(
        [sys.executable, "-m", "tests.obs.measure", "delay", "--minutes", "0"],
        capture_output=True, text=True, check=False, cwd=measure.ROOT,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.endswith("--minutes 0 is not possible; expected a number above 0\n")
