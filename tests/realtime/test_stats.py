"""Numbers in, a summary out."""

from __future__ import annotations

import errno
import json
import os
import time
from pathlib import Path

import pytest

from cagface_core import Enhanced, Face, Outcome, OutputError
from realtime.partial_file import check_output
from realtime.report import stats_table, write_stats_json
from realtime.stats import Stats
from tests.realtime.helpers import picture


def filled():
    stats = Stats()
    stats.start()
    for value in range(1, 101):
        stats.time("enhance", value)
    face = Face(0, 0, 0, 1, 1, 1.0)
    rgb = picture(0, 16, 16)
    stats.enhanced(Enhanced(rgb, (face, face), (Outcome.ENHANCED, Outcome.GUARDED)))
    stats.enhanced(Enhanced(rgb, (), (), {"detect": 2.0}, {"attention_hits": 1}))
    for _ in range(2):
        stats.delivered()
    stats.count("dropped", 3)
    return stats


def test_summary():
    summary = filled().summary()
    stage = summary.stages["enhance"]
    assert (stage.n, stage.mean_ms) == (100, 50.5)
    assert stage.p50_ms == pytest.approx(50.5, abs=1)
    assert stage.p95_ms == pytest.approx(95, abs=1)
    assert (summary.frames, summary.faces, summary.frames_without_face) == (2, 2, 1)
    assert (summary.dropped, summary.passthrough) == (3, 0)
    assert summary.attention_hit_rate == 1.0
    assert summary.counts == {"attention_hits": 1, "faces_enhanced": 1, "faces_guarded": 1}
    assert "3 frames dropped" in summary.line()


def test_nothing_yet():
    summary = Stats().summary()
    assert (summary.frames, summary.fps, summary.attention_hit_rate) == (0, 0.0, None)


def test_memory_is_bounded_and_the_mean_is_of_all():
    stats = Stats()
    for value in range(10_000):
        stats.time("enhance", value)
    stage = stats.summary().stages["enhance"]
    assert (stage.n, stage.mean_ms) == (10_000, 4999.5)
    assert stage.p50_ms > 7000, "percentiles look at the newest"


def test_table_and_json(tmp_path, monkeypatch):
    def full(_path: Path, text: str, **_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    summary = filled().summary()
    assert stats_table(summary).row_count == 2 + 5 + 3
    write_stats_json(tmp_path / "s.json", summary)
    assert json.loads((tmp_path / "s.json").read_text())["stages"]["enhance.detect"]["n"] == 1
    with pytest.raises(OutputError, match="does not exist"):
        write_stats_json(tmp_path / "none" / "s.json", summary)
    before = (tmp_path / "s.json").read_bytes()
    with monkeypatch.context() as within:
        within.setattr(Path, "write_text", full)
        with pytest.raises(OutputError, match="No space left"):
            write_stats_json(tmp_path / "s.json", summary)
    assert [path.name for path in tmp_path.iterdir()] == ["s.json"]
    assert (tmp_path / "s.json").read_bytes() == before
    link = tmp_path / "link.json"  # as /dev/stdout is
    link.symlink_to(tmp_path / "s.json")
    check_output(link, overwrite=True)
    (tmp_path / "s.json").write_text("")
    write_stats_json(link, summary)
    assert link.is_symlink()
    assert (tmp_path / "s.json").read_bytes() == before
    write_stats_json(Path(os.devnull), summary)
    assert not Path(os.devnull).is_file()


def test_latency_and_what_is_recent():
    stats = Stats()
    assert stats.latency is None
    assert stats.recent() == {}
    for value in range(1000):
        stats.time("latency", value)
    latency, recent = stats.latency, stats.recent()["latency"]
    assert latency is not None
    assert (latency.n, latency.p50_ms) == (1000, pytest.approx(500, abs=1))
    assert (recent.n, recent.mean_ms) == (150, 924.5)
    assert recent.p50_ms == pytest.approx(924.5, abs=1)
    assert stats.summary().latency_ms == latency.p50_ms


def test_the_first_frame_is_timed_from_the_command_and_only_once():
    stats = Stats(begun_s=time.perf_counter() - 60)
    stats.start()
    assert stats.summary().first_frame_s is None
    stats.delivered()
    first_s = stats.summary().first_frame_s
    assert first_s == pytest.approx(60, abs=1)
    stats.delivered()
    assert stats.summary().first_frame_s == first_s


def test_the_sources_true_rate():
    stats = Stats()
    assert stats.captured_fps == 0.0
    assert stats.fps_text == "0.0 fps"
    for index in range(200):
        stats.captured(5 + (index / 15 if index > 100 else index / 30))
    assert stats.captured_fps == pytest.approx(15)
    assert stats.fps_text == "0.0 of 15.0 fps"
    stats.captured(100)  # it was gone for a while
    assert stats.captured_fps == 0.0
    stats.captured(100.1)
    assert stats.captured_fps == pytest.approx(10)
