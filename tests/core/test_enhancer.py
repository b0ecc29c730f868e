"""The composition on the demo clip, with the shipped weights."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from cagface_core import EnhancerConfig, FaceEnhancer, Frame, Outcome, checkpoint, cpu_graph
from cagface_core.config import Mode
from cagface_core.consistency import resize
from cagface_core.detect import open_detector
from cagface_core.enhancer import batches
from cagface_core.errors import ConfigError, DeviceError
from cagface_core.heatmaps import Heatmaps
from cagface_core.paste import upscale_frame
from cagface_core.types import Image


@pytest.fixture(scope="module")
def frames(demo_clip: Path) -> list[Frame]:
    with av.open(str(demo_clip)) as container:
        decoded = [f for f, _ in zip(container.decode(video=0), range(6), strict=False)]
    return [Frame(f.to_ndarray(format="rgb24"), f.pts, f.time_base) for f in decoded]


@pytest.fixture(scope="module")
def enhancer() -> Iterator[FaceEnhancer]:
    made = FaceEnhancer(EnhancerConfig(scale=2, mode="live", max_crop_px=96))
    yield made
    made.close()


def test_a_clip_is_enhanced_and_attention_is_reused(enhancer: FaceEnhancer, frames: list[Frame]):
    state = enhancer.new_state()
    results = [enhancer.enhance(frame, state) for frame in frames[:4]]
    for frame, result in zip(frames, results, strict=False):
        height, width = frame.rgb.shape[:2]
        assert result.rgb.shape == (2 * height, 2 * width, 3)
        assert result.outcomes == (Outcome.ENHANCED,)
        assert set(result.timings_ms) == {
            "detect", "crop", "attention", "network", "steady", "paste", "background", "recall",
        }  # fmt: skip
    assert [r.counts["attention_hits"] for r in results] == [0, 1, 1, 1]
    assert len({r.faces[0].id for r in results}) == 1


class Stopped:
    """A component network that stands still until it is let go."""

    def __init__(self, enhancer: FaceEnhancer, monkeypatch: pytest.MonkeyPatch) -> None:
        self.go, self.calls, self.fails = threading.Event(), 0, False
        self.go.set()
        self._parse = enhancer.engine.parse
        monkeypatch.setattr(enhancer.engine, "parse", self)

    def __call__(self, pictures: list[Image]) -> list[torch.Tensor]:
        self.calls += 1
        assert self.go.wait(30)
        if self.fails:
            raise RuntimeError("out of memory")
        return self._parse(pictures)


def test_live_no_frame_waits_for_a_parse_it_can_do_without(
    enhancer: FaceEnhancer, frames: list[Frame], monkeypatch: pytest.MonkeyPatch
):
    parser = Stopped(enhancer, monkeypatch)
    state = enhancer.new_state()

    def look(time_s: float) -> tuple[int, int]:
        frame = Frame(frames[0].rgb, round(time_s * 1e6))
        result = enhancer.enhance(frame, state)
        assert result.outcomes == (Outcome.ENHANCED,)
        return result.counts["attention_hits"], parser.calls

    assert look(0.0) == (0, 1)  # a new face has nothing else: its frame waits
    assert look(0.1) == (1, 1)
    parser.go.clear()
    assert look(0.7) == (0, 2)  # too old: asked for, the old ones go on meanwhile
    assert look(0.8) == (0, 2)
    (asked,) = state.parsing.values()
    parser.go.set()
    asked.parsing.maps()  # waits
    assert look(0.9) == (1, 2)
    parser.fails = True
    assert look(1.7) == (0, 3)
    (asked,) = state.parsing.values()
    with pytest.raises(RuntimeError):
        asked.parsing.maps()
    assert look(1.8)[0] == 0  # the old ones go on, new ones are asked for again
    parser.fails = False


def test_frames_of_a_file_wait(frames: list[Frame], monkeypatch: pytest.MonkeyPatch):
    with closing(FaceEnhancer(EnhancerConfig(scale=2, mode="file", preset="pico"))) as files:
        parser = Stopped(files, monkeypatch)
        state = files.new_state()
        for calls, time_s in enumerate((0.0, 0.7, 1.4), 1):
            files.enhance(Frame(frames[0].rgb, round(time_s * 1e6)), state)
            assert (parser.calls, state.parsing) == (calls, {})


def test_a_parse_beside_takes_one_thread_and_leaves_none(frames: list[Frame]):
    threads = threading.active_count()
    pool = torch.get_num_threads()
    with closing(FaceEnhancer(EnhancerConfig(preset="pico"))) as live:
        picture = np.ascontiguousarray(frames[0].rgb[:96, :96])
        aside = live.engine.parse_aside(picture).maps()
        torch.testing.assert_close(aside, live.engine.parse([picture])[0], atol=1e-3, rtol=1e-3)
        assert torch.get_num_threads() == pool
        with ThreadPoolExecutor(1) as fresh:
            assert fresh.submit(torch.get_num_threads).result() == pool
    assert threading.active_count() == threads


def test_only_the_face_changes(enhancer: FaceEnhancer, frames: list[Frame]):
    result = enhancer.enhance(frames[0], enhancer.new_state())
    plain = upscale_frame(frames[0].rgb, 2)
    change = np.abs(result.rgb.astype(int) - plain).max(axis=2)
    face = result.faces[0]
    x, y, w, h = (round(2 * v) for v in (face.x, face.y, face.w, face.h))
    assert change[y : y + h, x : x + w].mean() > 0.5
    outside = change.copy()
    outside[max(0, y - h) : y + 2 * h, max(0, x - w) : x + 2 * w] = 0
    assert outside.max() == 0


@pytest.mark.parametrize(("scale", "mean", "most"), [(4, 0.05, 1), (2, 0.5, 12), (1, 0.5, 12)])
def test_plain_upsampling_in_place_of_the_network_gives_the_plain_frame(
    enhancer: FaceEnhancer,
    frames: list[Frame],
    monkeypatch: pytest.MonkeyPatch,
    scale: int,
    mean: float,
    most: int,
):
    """At 4 exactly but for rounding; below, the shrinking of the 4x picture is not a no-op."""

    def plain(block: torch.Tensor, factor: int) -> torch.Tensor:
        return resize(block[:, :3], factor * block.shape[-2], factor * block.shape[-1])

    def as_it_is(sr: torch.Tensor, lr: torch.Tensor, *_: object) -> torch.Tensor:
        return sr - resize(lr, *sr.shape[-2:])

    monkeypatch.setattr(enhancer.engine, "runner", plain)
    monkeypatch.setattr("cagface_core.engine.hold", as_it_is)
    tuning = replace(enhancer.tuning, scale=scale, max_crop_px=0)
    result = enhancer.enhance(frames[0], enhancer.new_state(), tuning)
    assert result.outcomes == (Outcome.ENHANCED,)
    difference = np.abs(result.rgb.astype(int) - upscale_frame(frames[0].rgb, scale))
    assert difference.mean() <= mean
    assert difference.max() <= most


def test_colours_do_not_drift(enhancer: FaceEnhancer, frames: list[Frame]):
    result = enhancer.enhance(frames[0], enhancer.new_state())
    plain = upscale_frame(frames[0].rgb, 2)
    face = result.faces[0]
    box = np.s_[
        round(2 * face.y) : round(2 * (face.y + face.h)),
        round(2 * face.x) : round(2 * (face.x + face.w)),
    ]
    assert np.abs(result.rgb[box].mean(axis=(0, 1)) - plain[box].mean(axis=(0, 1))).max() < 0.7


def test_strength_zero_is_the_plain_upscale(enhancer: FaceEnhancer, frames: list[Frame]):
    off = FaceEnhancer(replace(enhancer.config, strength=0.0))
    result = off.enhance(frames[0], off.new_state())
    off.close()
    assert len(result.faces) == 1
    assert np.array_equal(result.rgb, upscale_frame(frames[0].rgb, 2))


def test_a_network_that_fails_or_runs_wild_leaves_the_plain_face(
    enhancer: FaceEnhancer, frames: list[Frame], monkeypatch: pytest.MonkeyPatch
):
    plain = upscale_frame(frames[0].rgb, 2)

    def wild(*_: object) -> np.ndarray:
        return np.full((1, 192, 192, 3), np.nan, np.float32)

    monkeypatch.setattr(enhancer.engine, "residual", wild)
    result = enhancer.enhance(frames[0], enhancer.new_state())
    assert result.outcomes == (Outcome.GUARDED,)
    assert np.array_equal(result.rgb, plain)

    def broken(*_: object) -> np.ndarray:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(enhancer.engine, "residual", broken)
    result = enhancer.enhance(frames[0], enhancer.new_state())
    assert result.outcomes == (Outcome.FAILED,)
    assert np.array_equal(result.rgb, plain)


def test_a_face_whose_components_cannot_be_found_is_enhanced_all_the_same(
    enhancer: FaceEnhancer, frames: list[Frame], monkeypatch: pytest.MonkeyPatch
):
    def broken(*_: object) -> None:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(enhancer.engine, "parse", broken)
    result = enhancer.enhance(frames[0], enhancer.new_state())
    assert result.outcomes == (Outcome.ENHANCED,)
    assert result.counts["attention_misses"] == 1


def test_a_folder_that_is_named_like_weights_is_not_taken_for_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "webcam").mkdir()
    monkeypatch.chdir(tmp_path)
    assert checkpoint.find_sr("pico", "webcam").parent == checkpoint.WEIGHTS_DIR


def test_a_frame_without_faces_is_the_plain_upscale(enhancer: FaceEnhancer):
    grey = Frame(np.full((90, 121, 3), 90, np.uint8))
    result = enhancer.enhance(grey, enhancer.new_state())
    assert result.faces == ()
    assert np.array_equal(result.rgb, upscale_frame(grey.rgb, 2))


def test_a_change_of_size_starts_new_tracks(enhancer: FaceEnhancer, frames: list[Frame]):
    state = enhancer.new_state()
    first = enhancer.enhance(frames[0], state)
    smaller = replace(frames[1], rgb=np.ascontiguousarray(frames[1].rgb[:, 20:-20]))
    second = enhancer.enhance(smaller, state)
    assert second.counts["attention_misses"] == 1
    assert {f.id for f in first.faces}.isdisjoint(f.id for f in second.faces)


def test_aligned_pictures_of_any_size_come_out_four_times_as_large(enhancer: FaceEnhancer):
    for height, width in ((8, 8), (33, 64), (20, 290)):
        picture = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
        assert enhancer.enhance_aligned(picture).shape == (4 * height, 4 * width, 3)


def test_faces_are_batched_by_size_and_never_too_many():
    sides = [64] * 10 + [96, 64, 96]
    groups = batches(sides, most=8)
    assert sorted(i for group in groups for i in group) == list(range(13))
    assert [len(group) for group in groups] == [8, 3, 2]
    assert all(len({sides[i] for i in group}) == 1 for group in groups)


def test_wrong_settings_are_one_clear_line():
    for wrong, message in (
        ({"scale": 3}, "expected 1, 2 or 4"),
        ({"strength": 2.0}, "expected 0 to 1"),
        ({"mode": "tv"}, "unknown mode"),
        ({"max_faces": 0}, "expected 1 or more"),
        ({"max_crop_px": 10}, "expected 64 or more"),
    ):
        with pytest.raises(ConfigError, match=message):
            EnhancerConfig(**wrong)
    with pytest.raises(DeviceError, match="--device cpu"):
        FaceEnhancer(EnhancerConfig(device="quantum"))


@pytest.mark.parametrize(
    ("mode", "preset", "size"),
    [("live", None, "F=16"), ("file", None, "F=32"), ("live", "nano", "F=32")],
)
def test_the_preset_is_chosen_by_mode(mode: Mode, preset: str | None, size: str):
    with closing(FaceEnhancer(EnhancerConfig(preset=preset, mode=mode, device="cpu"))) as made:
        assert size in made.description


def plain(frame: Frame, scale: int) -> np.ndarray:
    return upscale_frame(frame.rgb, scale)


@pytest.mark.parametrize("on_device", [False, True])
@pytest.mark.parametrize(
    "change", [{"strength": 0.0}, {"strength_of": {1: 0.0}}, {"only": frozenset({7})},
               {"max_faces": 0}],
)  # fmt: skip
def test_a_face_not_asked_for_is_left_as_it_is_but_told_of(frames, change, on_device, monkeypatch):
    with closing(FaceEnhancer(EnhancerConfig(device="cpu-float32"))) as enhancer:
        monkeypatch.setattr(enhancer, "on_device", on_device)
        state = enhancer.new_state()
        tuning = replace(enhancer.tuning, **change)
        for frame in frames[:2]:
            result = enhancer.enhance(frame, state, tuning)
            assert [face.id for face in result.faces] == [1]
            assert result.outcomes == (Outcome.LEFT,)
            assert np.abs(result.rgb.astype(int) - plain(frame, 2)).max() <= 2 * on_device


def test_strength_is_a_face_s_own_and_comes_gradually(enhancer: FaceEnhancer, frames: list[Frame]):
    state = enhancer.new_state()
    changes = []
    for index, frame in enumerate(frames * 3):
        half = replace(enhancer.tuning, strength_of={1: 0.5} if index else {})
        later = Frame(frame.rgb, round(index * 40_000))
        result = enhancer.enhance(later, state, half)
        changes.append(float(np.abs(result.rgb.astype(int) - plain(frame, 2)).mean()))
    assert changes[1] > 0.8 * changes[0]  # 40 ms of 250
    assert 0.35 * changes[0] < changes[-1] < 0.65 * changes[0]


def test_scale_and_preset_change_between_two_frames(enhancer: FaceEnhancer, frames: list[Frame]):
    state = enhancer.new_state()
    shapes = []
    for frame, scale, preset in zip(frames, (2, 4, 1, 2), ("pico", "nano", "pico", "pico"),
                                    strict=False):  # fmt: skip
        tuning = replace(enhancer.tuning, scale=scale, preset=preset)
        result = enhancer.enhance(frame, state, tuning)
        assert result.outcomes == (Outcome.ENHANCED,)
        shapes.append(result.rgb.shape[0] // frame.rgb.shape[0])
    assert shapes == [2, 4, 1, 2]
    assert enhancer.presets == ("pico", "nano", "small")


class Dropping:
    """A real detector that is blind for a while."""

    def __init__(self, detector):
        self.detector, self.blind = detector, False

    def detect(self, rgb, known=(), **how):
        return [] if self.blind else self.detector.detect(rgb, known, **how)

    def close(self):
        self.detector.close()


def test_nothing_is_seen_of_a_detection_that_drops_for_half_a_second(demo_clip: Path):
    with av.open(str(demo_clip)) as container:
        decoded = [f for f, _ in zip(container.decode(video=0), range(45), strict=False)]
    shot = [Frame(f.to_ndarray(format="rgb24"), f.pts, f.time_base) for f in decoded]

    def run(blind_frames: range) -> tuple[list[np.ndarray], list[int]]:
        detector = Dropping(open_detector("live"))
        with closing(FaceEnhancer(EnhancerConfig(device="cpu-float32"), detector)) as enhancer:
            # Of the same frames always the same, however fast this machine finds components.
            enhancer._heatmaps = Heatmaps(enhancer._tell, waits=True)
            state, pictures, faces = enhancer.new_state(), [], []
            for index, frame in enumerate(shot):
                detector.blind = index in blind_frames
                result = enhancer.enhance(frame, state)
                pictures.append(result.rgb.astype(np.int16))
                faces.append(len(result.faces))
        return pictures, faces

    seen, _ = run(range(0))
    dropped, faces = run(range(25, 37))  # 25 Hz: 0.48 s
    assert faces == [1] * len(shot)
    jumps = []
    for pictures in (seen, dropped):
        added = [p - plain(f, 2) for p, f in zip(pictures, shot, strict=True)]
        jumps.append([float(np.abs(b - a).mean()) for a, b in pairwise(added)])
    assert dropped[24].tolist() == seen[24].tolist()
    assert max(jumps[1][24:]) < 1.2 * max(jumps[0])


def test_a_picture_by_one_call(enhancer: FaceEnhancer, frames: list[Frame]):
    alone = enhancer.enhance(frames[0], enhancer.new_state())
    assert np.array_equal(enhancer.enhance_picture(frames[0].rgb), alone.rgb)


def test_without_a_preset_the_largest_that_ships_such_weights_is_taken():
    assert checkpoint.largest("webcam", "small") == "small"
    assert checkpoint.largest("clean", "base") == "small"  # none so large ships
    assert checkpoint.largest("webcam", "nano") == "nano"
    assert checkpoint.largest("my.safetensors", "small") == "small"


def test_no_early_frame_of_a_live_run_prepares_anything(
    frames: list[Frame], monkeypatch: pytest.MonkeyPatch
):
    made: list[object] = []
    make = cpu_graph._graph_of  # pyright: ignore[reportPrivateUsage]
    monkeypatch.setattr(cpu_graph, "_graph_of", lambda *a: made.append(a) or make(*a))
    with FaceEnhancer(EnhancerConfig(scale=2, mode="live", device="cpu-float32")) as enhancer:
        assert enhancer.tuning.max_crop_px == 96
        enhancer.warm_up(*frames[0].rgb.shape[:2])
        state, ready = enhancer.new_state(), len(made)
        assert ready > 0
        for frame, limit_px in zip(frames, (96, 96, 64, 64), strict=False):
            tuning = replace(enhancer.tuning, max_crop_px=limit_px)
            assert enhancer.enhance(frame, state, tuning).outcomes == (Outcome.ENHANCED,)
        assert len(made) == ready
        enhancer.load("nano")
        ready = len(made)
        enhancer.enhance(frames[4], state, replace(enhancer.tuning, preset="nano"))
        assert len(made) == ready
