"""What is used where a config leaves it open, and what that may be raised to."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from cagface_core import ConfigError, EnhancerConfig, FaceEnhancer, Rung, Tuning, narrowed
from cagface_core.checkpoint import WEIGHTS_DIR
from cagface_core.config import Mode, usual

LIVE = (
    Rung("pico", 96), Rung("pico", 192), Rung("pico", 384), Rung("nano", 384), Rung("small", 384),
)  # fmt: skip


def test_live_on_a_processor_begins_small_and_may_be_raised_step_by_step():
    assert usual("live", "cpu") == LIVE


@pytest.mark.parametrize("mode", ["file", "image"])
def test_what_is_not_live_is_not_raised(mode: Mode):
    for kind in ("cpu", "cuda", "mps", "another"):
        assert len(usual(mode, kind)) == 1


@pytest.mark.parametrize(
    ("asked", "rungs"),
    [
        ({}, LIVE),
        ({"preset": "pico"}, tuple(Rung("pico", px) for px in (96, 192, 384))),
        ({"preset": "nano"}, tuple(Rung("nano", px) for px in (96, 192, 384))),
        ({"max_crop_px": 0}, (Rung("pico", 0), Rung("nano", 0), Rung("small", 0))),
        ({"preset": "small", "max_crop_px": 64}, (Rung("small", 64),)),
    ],
)
def test_what_is_asked_for_takes_the_place_of_what_is_usual(
    asked: dict[str, Any], rungs: tuple[Rung, ...]
):
    assert narrowed(LIVE, **asked) == rungs
    with FaceEnhancer(EnhancerConfig(device="cpu-float32", **asked)) as enhancer:
        tuning = enhancer.tuning
        assert isinstance(tuning, Tuning)
        assert enhancer.rungs == rungs
        assert (tuning.preset, tuning.max_crop_px) == rungs[0]
        assert enhancer.presets == ("pico", "nano", "small")


def test_weights_of_one_s_own_come_in_one_size(tmp_path: Path):
    own = tmp_path / "own.safetensors"
    shutil.copy(WEIGHTS_DIR / "nano-webcam.safetensors", own)
    with FaceEnhancer(EnhancerConfig(device="cpu-float32", weights=str(own))) as enhancer:
        assert enhancer.rungs == LIVE[:3]  # whatever size it is, there is no other
        assert enhancer.presets == ("pico",)


@pytest.mark.parametrize("mode", ["live", "file"])
def test_weights_that_cost_two_networks_are_for_pictures(mode: Mode):
    with pytest.raises(ConfigError, match="weights auto are for pictures alone"):
        EnhancerConfig(weights="auto", mode=mode)
    with FaceEnhancer(EnhancerConfig(weights="auto", mode="image", device="cpu-float32")) as made:
        assert made.tuning.preset == "nano"
        assert made.presets == ("pico", "nano", "small")
