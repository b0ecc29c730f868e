"""What no training can be asked for is refused before a photo is read."""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cagface_core.errors import ConfigError, InputError, OutputError
from cagface_core.train.claim import check, claim
from cagface_core.train.command import configure, execute
from cagface_core.train.parser import ParserTraining
from cagface_core.train.plan import SRTraining


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"batch": 0}, "--batch 0 is not possible; expected at least 1"),
        ({"steps1": -1}, "--steps1 -1 is not possible; expected at least 0"),
        ({"learning_rate": float("nan")}, "--learning-rate nan is no number"),
        ({"learning_rate": 0.0}, "--learning-rate 0 is not possible; expected a number above 0"),
        ({"patch_px": 100_000}, "--patch-px 100000 is not possible; expected 8 to 64"),
        ({"parts_weight": -1.0}, "expected a number above 0"),
        ({"minutes": float("inf")}, "is no number"),
    ],
)
def test_numbers(tmp_path: Path, change: dict[str, Any], words: str):
    plan = SRTraining(data=tmp_path, out=tmp_path / "out")
    check(plan)
    with pytest.raises(ConfigError, match=words):
        check(replace(plan, **change))


def test_a_folder_belongs_to_one_training(tmp_path: Path):
    out = tmp_path / "out"
    plan = SRTraining(data=tmp_path, out=out, init=Path("a.safetensors"))
    claim(out, "sr", replace(plan, preset="pico"))
    claim(out, "sr", plan)  # nothing has come of the other
    (out / "stage1").mkdir()
    (out / "stage1" / "state.pt").touch()
    claim(out, "sr", replace(plan, steps2=9, minutes=3.0, device="cuda", learning_rate=1e-4))
    for change, words in (
        ({"batch": 4}, "batch was 16, not 4"),
        ({"seed": 7}, "seed was 0, not 7"),
        ({"protocol": "webcam"}, "protocol was clean, not webcam"),
        ({"init": None}, "init was a.safetensors, not None"),
    ):
        with pytest.raises(ConfigError, match=words):
            claim(out, "sr", replace(plan, **change))
    with pytest.raises(ConfigError, match="training was sr, not parser; give --out another"):
        claim(out, "parser", ParserTraining(data=tmp_path, out=out))
    assert json.loads((out / "training.json").read_text())["batch"] == 16
    (out / "stage1" / "state.pt").rename(out / "weights.safetensors")
    with pytest.raises(ConfigError, match="batch was 16"):
        claim(out, "sr", replace(plan, batch=4))
    (out / "training.json").write_text("{")
    with pytest.raises(ConfigError, match="is damaged; give --out another folder"):
        claim(out, "sr", plan)


def test_a_folder_that_cannot_be_one(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="give --out another folder"):
        claim(tmp_path / "file", "sr", SRTraining(data=tmp_path, out=tmp_path / "file"))


@pytest.mark.parametrize("what", ["sr", "parser", "ablation", "peers"])
def test_a_mistake_in_the_data_leaves_no_folder(tmp_path: Path, what: str):
    out = tmp_path / "out"
    parser = argparse.ArgumentParser()
    configure(parser)
    words = [what, "--data", str(tmp_path / "none"), "--out", str(out)]
    with pytest.raises(InputError, match="no photo set"):
        execute(parser.parse_args(words))
    assert not out.exists()
