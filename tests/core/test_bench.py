"""The bench's parts: counts, percentiles, ratios, scenes, files; and a tiny real run of each."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from torch import nn

from cagface_core.bench import network as network_bench
from cagface_core.bench import report
from cagface_core.bench.chart import draw
from cagface_core.bench.flops import multiply_adds
from cagface_core.bench.frames import FramePlan, measure_frames
from cagface_core.bench.machine import describe, finish, one_line
from cagface_core.bench.network import NetworkPlan, measure_networks, open_network, presets
from cagface_core.bench.ratios import compare_folded, compare_paths, compare_peers
from cagface_core.bench.results import Rate, RatioRow, Results, from_json, joined, to_json
from cagface_core.bench.roofline import combined, measure_roofline
from cagface_core.bench.scene import KnownDetector, make_scene
from cagface_core.bench.timing import (
    Budget,
    percentile,
    quotient,
    race,
    sample,
    summarise,
    undisturbed,
)
from cagface_core.cagface import CAGFace, CAGFaceConfig
from cagface_core.checkpoint import PRESETS
from cagface_core.detect import open_detector
from cagface_core.errors import ConfigError, InputError, OutputError
from cagface_core.evaluate.peers import build_peer
from cagface_core.fold import fold
from cagface_core.standalone import claim_folder

CPU = torch.device("cpu")
BRIEF = Budget(0.0, least=2, most=2)


def quiet(_what):
    pass


@pytest.mark.parametrize("preset", ["pico", "nano", "small"])
def test_folded_network_by_hand(preset):
    f, units = PRESETS[preset].features, PRESETS[preset].units
    side, batch = 24, 3
    backbone = (2 * units + 1) * 9 * f * f
    stage1 = 9 * 6 * f + backbone + 25 * f * 12
    stage2 = 25 * 12 * f + backbone + 25 * 2 * f * 48
    network = open_network(preset)
    assert len(network.sha256) == 64
    expected = batch * side * side * (stage1 + stage2)
    assert multiply_adds(network.folded, (batch, 6, side, side)) == expected


def test_unfolded_network_by_hand_counts_the_context_of_its_linear_chains():
    f, units, side = 16, 2, 20
    backbone = (2 * units + 1) * 9 * f * f * side**2
    # Padded by two pixels a side; a 'valid' 3x3 takes one a side away again, at its own size.
    upsampler1 = 9 * f * 4 * f * (side + 2) ** 2 + 9 * f * 3 * (2 * (side + 2) - 2) ** 2
    stem2 = 9 * 12 * f * (side + 2) ** 2 + 9 * f * f * side**2
    second = 2 * (side + 2) - 2
    third = 2 * second - 2
    upsampler2 = 9 * 2 * f * 8 * f * ((side + 2) ** 2 + second**2)
    upsampler2 += 9 * 2 * f * 3 * third**2 + 9 * 3 * 3 * (third - 2) ** 2
    expected = 9 * 6 * f * side**2 + 2 * backbone + upsampler1 + stem2 + upsampler2
    network = CAGFace(CAGFaceConfig(f, units))
    assert multiply_adds(network, (1, 6, side, side)) == expected
    assert multiply_adds(fold(network), (1, 6, side, side)) < expected / 2


def test_other_layers_are_counted_or_refused():
    transposed = nn.ConvTranspose2d(4, 3, 9, stride=4, padding=3, output_padding=1)
    assert multiply_adds(transposed, (2, 4, 5, 6)) == 2 * 5 * 6 * 4 * 3 * 81
    assert multiply_adds(nn.Conv2d(8, 8, 3, groups=8), (1, 8, 10, 10)) == 8 * 8 * 8 * 9
    edsr = 9 * 64 * 64 * (33 + 4 + 16) + 9 * 3 * 64 * (1 + 16)
    assert multiply_adds(build_peer("edsr-baseline"), (1, 3, 8, 8)) == 64 * edsr
    with pytest.raises(ValueError, match="Linear"):
        multiply_adds(nn.Sequential(nn.Conv2d(3, 3, 1), nn.Linear(4, 4)), (1, 3, 4, 4))


def test_percentiles_are_values_that_were_measured():
    values = [float(v) for v in range(100, 0, -1)]
    assert [percentile(values, p) for p in (0, 0.5, 0.95, 0.99, 1)] == [1, 50, 95, 99, 100]
    assert percentile([7.0], 0.95) == 7
    timing = summarise([3.0, 1.0, 2.0])
    assert (timing.n, timing.best_ms, timing.p50_ms, timing.p99_ms) == (3, 1, 2, 3)
    for values, share in (([], 0.5), ([1.0], 1.5)):
        with pytest.raises(ValueError, match="share"):
            percentile(values, share)


def test_a_ratio_is_the_median_over_rounds():
    found = quotient([2, 4, 90, 6, 8], [1, 2, 3, 3, 4])  # one round was disturbed
    assert (found.median, found.low, found.high) == (2, 2, 2)


def test_a_race_runs_all_in_turn_and_back():
    calls = []
    times_ms = race(
        {name: lambda name=name: calls.append(name) for name in "ab"}, CPU, Budget(0, 4, 4)
    )
    assert "".join(calls) == "aabb" + "abbaabba"
    assert [len(times) for times in times_ms.values()] == [4, 4]


def test_a_sample_keeps_its_budget():
    calls = []
    assert sample(lambda: calls.append(1), CPU, Budget(0.0, 5, 9)).n == 5
    assert sample(lambda: calls.append(1), CPU, Budget(60.0, 5, 9)).n == 9


def test_what_was_disturbed_is_measured_again_and_the_quietest_kept():
    found = iter([("first", [1, 5, 9]), ("second", [1, 3, 4]), ("third", [1, 4, 4])])

    def measure():
        name, times_ms = next(found)
        return name, summarise(times_ms)

    assert undisturbed(measure) == "second"
    assert undisturbed(lambda: ("quiet", summarise([2, 3, 3]))) == "quiet"
    assert next(found, None) is None


@pytest.mark.parametrize("faces", [0, 1, 2, 4])
def test_the_real_detector_finds_the_faces_where_they_are(faces):
    scene = make_scene(640, 480, faces, 100, 2)
    detector = open_detector("file")
    found = detector.detect(scene.frames[0])
    detector.close()
    assert scene.frames[0].shape == (480, 640, 3)
    assert len(found) == faces == len(scene.boxes[0])
    for box in scene.boxes[0]:
        nearest = min(found, key=lambda d: abs(d.x - box.x) + abs(d.y - box.y))
        assert abs(nearest.x - box.x) < 15
        assert abs(nearest.w - box.w) < 15


def test_a_scene_moves_gently_and_comes_round():
    scene = make_scene(320, 240, 1, 90, 61)
    steps = [abs(b[0].x - a[0].x) for a, b in zip(scene.boxes, scene.boxes[1:], strict=False)]
    assert 0 < max(steps) < 1
    assert (scene.frames[0] == scene.frames[60]).all()
    assert (scene.frames[0] != scene.frames[15]).any()
    assert KnownDetector(scene).detect(scene.frames[7]) == scene.boxes[7]


def rate(best, median, what="multiply"):
    return Rate(what, "float32", "GFLOP/s", best, median, 3, "8 x 8 x 8")


def test_a_disturbed_roofline_is_the_better_one_and_is_told():
    notes = []
    assert combined([rate(80, 60)], [rate(200, 190)], notes) == [rate(200, 190)]
    assert notes == [
        "the machine was not quiet: multiply at float32 varied between 60 and 200 GFLOP/s"
    ]
    notes = []
    combined([rate(198, 190)], [rate(200, 195)], notes)
    assert notes == []


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """A tiny real run of everything but the live loop."""
    results = Results(describe(CPU, "cagface bench"))
    results.rates = measure_roofline(CPU, BRIEF, results.notes)
    measure_networks(NetworkPlan(["pico"], BRIEF, (64, 96), (1, 2), 60_000), "cpu", results, quiet)
    compare_peers("cpu", None, BRIEF, results)
    measure_frames(
        FramePlan(((320, 240),), (0, 1), (1, 2), (64,), n=2, warm_ups=1), "cpu", results, quiet
    )
    finish(results.machine, CPU)
    return results


def test_the_roofline(results):
    found = {(r.what, r.precision): r for r in results.rates}
    assert found["copy", "bytes"].unit == "GB/s"
    assert {("multiply", "float32"), ("multiply", "bfloat16")} <= found.keys()
    assert all(r.best >= r.median > 0 for r in results.rates)
    assert results.peak("float32") == found["multiply", "float32"].best
    assert results.peak("float8") is None


def test_the_networks(results):
    assert presets(everything=False) == ["pico", "nano", "small"]
    assert presets(everything=True) == list(PRESETS)
    shapes = {(r.path, r.side_px, r.batch) for r in results.network}
    for path in ("cpu-float32", "cpu-bfloat16"):
        assert {(path, side, batch) for side in (64, 96) for batch in (1, 2)} <= shapes
    for row in results.network:
        assert row.best_ms <= row.p50_ms <= row.p95_ms
        assert row.faces_per_s == pytest.approx(row.batch / row.p50_ms * 1000)
        per_pixel = row.gflop / row.batch / row.side_px**2
        assert per_pixel == pytest.approx(
            2e-9 * 90_336
        )  # pico: 864 + 2 * 20_736 + 2 * 4_800 + 38_400


def test_of_two_the_slower_one_is_told_however_uneven_the_rounds():
    uneven = [3.0, 1.0], [1.0, 2.0]  # three times, and half
    for first, second in (uneven, uneven[::-1]):
        found = quotient(first, second)
        back = quotient(second, first)
        assert found.low <= found.median <= found.high
        assert found.median >= 1 or back.median >= 1


def test_a_call_that_would_last_too_long_is_left_out_and_told():
    results = Results({})
    plan = NetworkPlan(["pico"], BRIEF, (64, 256), (1, 8), 0.001)
    measure_networks(plan, "cpu-float32", results, quiet)
    assert [(r.side_px, r.batch, r.path) for r in results.network] == [(64, 1, "cpu-float32")]
    (note,) = results.notes
    assert "left out 8 of 64 px, 1 of 256 px, 8 of 256 px" in note


def test_what_the_memory_does_not_hold_is_left_out_and_told(monkeypatch):
    def full(*_args, **_options):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB\nmore")

    results = Results({})
    plan = NetworkPlan(["pico"], BRIEF, (64,), (2,), 60_000)
    monkeypatch.setattr(network_bench, "sample", full)
    measure_networks(plan, "cpu-float32", results, quiet)
    told = "CUDA out of memory. Tried to allocate 2.00 GiB"
    assert (results.network, results.notes) == ([], [f"pico on cpu-float32: no 2 of 64 px: {told}"])
    rates = measure_roofline(CPU, BRIEF, [])
    monkeypatch.setattr(torch, "zeros_like", full)
    less, notes = measure_roofline(CPU, BRIEF, results.notes), []
    assert [r.what for r in less] == [r.what for r in rates][:-1]
    assert results.notes[1:] == [f"no copy rate: {told}"]
    assert len(combined(rates, less, notes)) == len(rates)


def test_the_ratios(results, shared_data):
    results = Results(results.machine)
    compare_paths("cpu", BRIEF, results, ["pico"])
    assert any("cpu-bfloat16" in r.slower + r.faster for r in results.ratios)
    results = Results(results.machine)
    compare_peers("cpu", shared_data, BRIEF, results)
    names = {r.slower for r in results.ratios} | {r.faster for r in results.ratios}
    assert {"EDSR-baseline", "FSRCNN_x4-opencv", "ESPCN_x4-opencv", "bicubic of OpenCV"} <= names
    assert all(r.goal is not None or r.ratio >= 1 for r in results.ratios)


def test_folded_is_faster():
    results = Results({})
    compare_folded(CPU, Budget(0.0, 5, 5), results, ["nano"], [64])
    found = {(r.slower, r.faster, r.precision, r.side_px): r for r in results.ratios}
    for precision in ("float32", "bfloat16"):
        folding = found["nano unfolded", "nano, not fused", precision, 64]
        assert folding.ratio > 1
        assert folding.goal == 2.5
    assert len(results.ratios) == 4
    fusing = [r for r in results.ratios if r.goal is None]
    assert [{r.slower, r.faster} for r in fusing] == 2 * [{"nano, not fused", "nano"}]


def test_the_frames(results):
    found = {(r.series, r.scale, r.faces): r for r in results.frames}
    assert found.keys() == {
        ("number", 1, 0), ("number", 1, 1), ("number", 2, 0), ("number", 2, 1), ("area", 2, 1),
    }  # fmt: skip
    for row in results.frames:
        assert row.found == row.faces
        assert row.detector == "real"
        assert {"detect", "network", "background", "paste"} <= row.stages_ms.keys()
        assert sum(row.stages_ms.values()) < 3 * row.p95_ms
    assert found["number", 1, 1].crop_px == 96
    assert found["area", 2, 1].crop_px == 64
    assert found["number", 1, 0].crop_px == 0


def test_json_comes_back_as_it_was(results, tmp_path):
    path = tmp_path / "bench.json"
    path.write_text(to_json(results))
    again = from_json(path)
    assert to_json(again) == to_json(results)
    assert [type(r) for r in again.network] == [type(r) for r in results.network]
    found = json.loads(path.read_text())
    assert len(found["machine"]["weights"]["nano-clean"]) == 64
    assert found["machine"]["versions"]["torch"] == torch.__version__
    assert found["machine"]["torch_threads"] == torch.get_num_threads()


def test_parts_of_one_machine_are_joined(results, tmp_path):
    path = tmp_path / "bench.json"
    path.write_text(to_json(results))
    first, second, other = (from_json(path) for _ in range(3))
    first.frames, second.network = [], []
    second.rates = [replace(first.rates[0], best=1e6), *first.rates[1:]]
    whole = joined([first, second])
    assert [r.best for r in whole.rates] == [1e6, *(r.best for r in second.rates[1:])]
    assert (len(whole.network), len(whole.frames)) == (len(results.network), len(results.frames))
    assert whole.notes == results.notes
    assert whole.machine["command"] == "cagface bench && cagface bench"
    other.machine["cores"] = 999
    with pytest.raises(ConfigError, match="differ in cores"):
        joined([whole, other])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("no json", "no bench.json"),
        ("{}", "no bench.json"),
        ("[]", "no bench.json"),
        ('{"schema": 99}', "schema 99"),
        ('{"schema": 1, "machine": {}, "notes": [], "rates": [{"x": 1}]}', "no bench.json"),
    ],
)
def test_what_is_no_bench_json(tmp_path, text, message):
    path = tmp_path / "bench.json"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        from_json(path)


def test_the_files_are_whole_and_say_it_all(results, tmp_path):
    assert report.write(tmp_path, results) == ["bench.json", "bench.md", "bench.png"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bench.json", "bench.md", "bench.png"]
    text = (tmp_path / "bench.md").read_text()
    assert one_line(results.machine) in text
    for heading in ("Roofline", "networks alone", "Ratios", "Whole frames", "Stages"):
        assert heading in text
    assert all(note in text for note in results.notes)
    assert (tmp_path / "bench.png").read_bytes().startswith(b"\x89PNG")


def test_a_folder_that_cannot_be_written_keeps_what_was_there(results, tmp_path):
    report.write(tmp_path, results)
    before = (tmp_path / "bench.json").read_bytes()
    (tmp_path / "bench.md").unlink()
    (tmp_path / "bench.md").mkdir()
    with pytest.raises(OutputError, match=r"bench\.md is a folder"):
        report.write(tmp_path, replace(results, notes=["other"]))
    assert (tmp_path / "bench.json").read_bytes() == before
    assert not (tmp_path / ".bench.json.part").exists()
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot write"):
        claim_folder(tmp_path / "file")


def test_without_networks_and_frames_there_is_no_empty_picture(results, tmp_path):
    bare = replace(results, network=[], frames=[], notes=[])
    assert report.write(tmp_path, bare) == ["bench.json", "bench.md"]
    assert not bare.notes


def test_without_matplotlib_there_is_no_picture_and_a_note(results, tmp_path, monkeypatch):
    (tmp_path / "bench.png").write_bytes(b"of other figures")
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    bare = replace(results, notes=[])
    assert draw(bare) is None
    assert report.write(tmp_path, bare) == ["bench.json", "bench.md"]
    assert not (tmp_path / "bench.png").exists()
    assert "matplotlib" in bare.notes[0]


def test_a_goal_that_is_missed_is_told_in_capitals(results):
    row = RatioRow("slow", "fast", "own", 64, 1.5, 1.4, 1.6, 3.0, 2.0, 9, 2.5)
    (section,) = report.sections(Results(results.machine, ratios=[row]))
    assert "2.5: NO" in section.rows[0]
    (section,) = report.sections(Results(results.machine, ratios=[replace(row, ratio=2.6)]))
    assert "2.5: yes" in section.rows[0]
