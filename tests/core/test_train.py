import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from cagface_core import checkpoint
from cagface_core.bisenet import CLASSES
from cagface_core.errors import ConfigError, InputError
from cagface_core.train import parser as parser_training
from cagface_core.train import sr as sr_training
from cagface_core.train.degrade import degrade, h264, jpeg
from cagface_core.train.photos import IGNORE, downsample4, load_labels, load_square, read_photos
from tests.core.photo_set import write_photo_set

FAST = {"batch": 2, "patch_px": 16, "steps1": 3, "steps2": 4, "check_every": 2}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_photo_set(tmp_path_factory.mktemp("data"))


def test_photos_are_split_by_group(data: Path):
    assert {p.group for p in read_photos(data, "train")} == {"g0", "g1"}
    assert {p.group for p in read_photos(data, "val")} == {"g2", "g3"}
    with pytest.raises(InputError, match="no photos of split 'test'"):
        read_photos(data, "test")


def test_a_person_in_two_splits_is_refused(tmp_path: Path):
    data = write_photo_set(tmp_path)
    manifest = data / "train_photos" / "manifest.csv"
    manifest.write_text(manifest.read_text().replace(",g2,", ",g0,"))
    with pytest.raises(InputError, match="'g0' stands in two splits"):
        read_photos(data, "train")


def test_a_missing_photo_set_is_named(tmp_path: Path):
    with pytest.raises(InputError, match="no photo set"):
        read_photos(tmp_path, "train")


def test_labels_are_our_classes(data: Path):
    labels = load_labels(read_photos(data, "train")[0], 64)
    found = {CLASSES[k] for k in np.unique(labels) if k != IGNORE}
    assert found == {"background", "hair", "skin", "eyes", "mouth"}


def test_downsampling_is_pillows_antialiased_bicubic():
    hr = np.zeros((64, 64, 3), np.uint8)
    hr[:, ::2] = 255  # finer than the result can show: antialiasing makes it grey
    assert abs(int(downsample4(hr)[8, 8, 0]) - 128) <= 1
    assert downsample4(hr).shape == (16, 16, 3)


def test_degradation_is_seeded_varied_and_sane(data: Path):
    hr = load_square(read_photos(data, "train")[0], 256)
    clean = downsample4(hr).astype(float)
    results = [degrade(hr, np.random.default_rng(seed)) for seed in range(12)]
    assert np.array_equal(results[3], degrade(hr, np.random.default_rng(3)))
    errors = [float(np.abs(lr - clean).mean()) for lr in results]
    assert all(lr.shape == (64, 64, 3) and lr.dtype == np.uint8 for lr in results)
    assert min(errors) < 8 < max(errors) < 40
    assert abs(np.mean([lr.mean() for lr in results]) - clean.mean()) < 3  # no colour drift


def test_codecs_lose_more_at_lower_quality(data: Path):
    picture = load_square(read_photos(data, "train")[0], 64)

    def error(other: np.ndarray) -> float:
        return float(np.abs(picture.astype(float) - other).mean())

    assert error(jpeg(picture, 95)) < error(jpeg(picture, 30))
    assert error(h264([picture] * 3, 18)) < error(h264([picture] * 3, 40))
    odd = picture[:33, :35]
    assert h264([odd], 20).shape == (33, 35, 3)


def weights_of(path: Path) -> dict[str, torch.Tensor]:
    return checkpoint.load(path).tensors


def test_two_phase_training_writes_weights_log_and_curve(data: Path, tmp_path: Path):
    plan = sr_training.SRTraining(data, tmp_path, **FAST)
    path = sr_training.run(plan)
    model, found = checkpoint.load_sr(path)
    assert model.config == checkpoint.PRESETS["nano"]
    assert found.facts["protocol"] == "clean"
    for stage, steps in (("stage1", 3), ("stage2", 4)):
        assert (tmp_path / stage / "curve.png").stat().st_size > 1000
        with (tmp_path / stage / "log.csv").open() as file:
            assert int(float(list(csv.DictReader(file))[-1]["step"])) == steps


def test_an_interrupted_training_goes_on_as_if_it_had_not_been(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    whole = sr_training.run(sr_training.SRTraining(data, tmp_path / "whole", **FAST))
    plan = sr_training.SRTraining(data, tmp_path / "broken", **FAST)
    real, calls = sr_training._loss, []

    def interrupted(*arguments: object, **options: object) -> torch.Tensor:
        calls.append(1)
        if len(calls) == 3 + 4:  # in stage 2, after its first saved state
            raise KeyboardInterrupt
        return real(*arguments, **options)

    monkeypatch.setattr(sr_training, "_loss", interrupted)
    with pytest.raises(KeyboardInterrupt):
        sr_training.run(plan)
    monkeypatch.setattr(sr_training, "_loss", real)
    resumed = sr_training.run(plan)
    for name, value in weights_of(whole).items():
        torch.testing.assert_close(value, weights_of(resumed)[name], rtol=0, atol=1e-6)


def test_webcam_weights_start_from_others_and_use_a_parser(data: Path, tmp_path: Path):
    parser = parser_training.run(
        parser_training.ParserTraining(
            data, tmp_path / "parser", steps=2, batch=2, width=0.5, check_every=2
        )
    )
    assert checkpoint.load_parser(parser)[1].facts["classes"] == list(CLASSES)
    clean = sr_training.run(sr_training.SRTraining(data, tmp_path / "clean", **FAST))
    path = sr_training.run(
        sr_training.SRTraining(
            data, tmp_path / "webcam", protocol="webcam", parser=parser, init=clean,
            variants=1, **FAST,
        )
    )  # fmt: skip
    facts = checkpoint.load(path).facts
    assert facts["protocol"] == "webcam"
    assert facts["init"] == "weights.safetensors"
    assert not (tmp_path / "webcam" / "stage1").exists()


def test_training_lowers_the_loss(data: Path, tmp_path: Path):
    plan = sr_training.SRTraining(
        data, tmp_path, batch=2, patch_px=16, steps1=40, steps2=1, check_every=20
    )
    sr_training.run(plan)
    with (tmp_path / "stage1" / "log.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert float(rows[-1]["loss"]) < 0.8 * float(rows[0]["loss"])


def test_wrong_plans_are_refused(data: Path, tmp_path: Path):
    plan = sr_training.SRTraining(data, tmp_path, **FAST)
    with pytest.raises(ConfigError, match="unknown preset or protocol"):
        sr_training.run(replace(plan, preset="tiny"))
    with pytest.raises(ConfigError, match="unknown preset or protocol"):
        sr_training.run(replace(plan, protocol="dirty"))
