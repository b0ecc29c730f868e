"""``cagface bench``: the live part through the real loop, and the command line."""

from __future__ import annotations

import json

import pytest
import torch

from cagface_core import EnhancerConfig
from cagface_core.bench.live import LivePlan, measure_live
from cagface_core.bench.results import Results
from cagface_core.bench.scene import make_scene
from realtime.cli import main
from realtime.live_bench import LoopedFrames, run_frames_live
from realtime.options import load_enhancer
from tests.realtime.helpers import PlainEnhancer


def test_frames_come_round_and_round_at_their_rate():
    scene = make_scene(64, 48, 0, 1, 3)
    frames = list(LoopedFrames(scene.frames, 30, 7).frames())
    assert [frame.pts for frame in frames] == [i * 1_000_000 // 30 for i in range(7)]
    assert (frames[3].rgb == scene.frames[0]).all()
    assert frames[3].rgb is not scene.frames[0]


def test_a_fast_enhancer_holds_the_rate():
    scene = make_scene(64, 48, 0, 1, 3)
    enhancer = PlainEnhancer(2)
    summary = run_frames_live(scene.frames, lambda: enhancer, 2, 30, 1.0)
    assert summary.frames + summary.dropped == 30
    assert 0.9 < summary.seconds < 1.5
    latency = summary.stages["latency"]
    assert latency.p50_ms <= latency.p95_ms <= latency.p99_ms
    assert enhancer.warmed == (48, 64)
    assert enhancer.closed


def test_the_live_part_with_the_real_enhancer():
    results = Results({})

    def run(frames, config, rate_hz, seconds):
        return run_frames_live(
            frames, lambda: load_enhancer(config), config.scale, rate_hz, seconds
        )

    measure_live(LivePlan(("pico",), (1,), 1.0), run, "cpu", results, lambda _: None)
    (row,) = results.live
    assert (row.preset, row.scale, row.width, row.height) == ("pico", 1, 640, 480)
    assert row.frames + row.dropped == 30
    assert row.faces_per_frame > 0.5
    assert row.passthrough == 0
    assert row.fps == pytest.approx(row.frames / row.seconds)
    assert row.held == (row.frames >= 0.98 * 30)
    assert "network" in row.stages_ms


def test_the_command_runs_the_live_part(tmp_path, capsys):
    asked = []

    def make(config: EnhancerConfig):
        asked.append((config.preset, config.scale, config.mode))
        return PlainEnhancer(config.scale)

    arguments = ["bench", "--quick", "--only", "live", "--device", "cpu", "--out", str(tmp_path)]
    assert main(arguments, make_enhancer=make) == 0
    assert asked == [("pico", 1, "live"), ("pico", 2, "live")]
    found = json.loads((tmp_path / "bench.json").read_text())
    assert [row["scale"] for row in found["live"]] == [1, 2]
    assert found["machine"]["command"].startswith("cagface bench --device cpu --quick --only live")
    assert "Live loop at 30 Hz" in capsys.readouterr().out
    before = found
    assert main(["bench", "--draw", str(tmp_path / "bench.json"), "--out", str(tmp_path)]) == 0
    assert json.loads((tmp_path / "bench.json").read_text()) == before


def test_without_mediapipe_the_live_part_is_one_line(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("realtime.commands.find_spec", lambda name: None)
    assert main(["bench", "--only", "live", "--out", str(tmp_path / "out")]) == 2
    captured = capsys.readouterr()
    assert captured.err == (
        "error: the live loop is left out: not installed: av, mediapipe; pip install them\n"
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_bench_gpu_without_a_gpu_is_one_line(tmp_path, capsys):
    assert main(["bench", "--device", "cuda", "--out", str(tmp_path / "out")]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("error: cannot compute on device 'cuda'")
    assert captured.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
