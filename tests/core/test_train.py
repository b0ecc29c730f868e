import copy
import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from cagface_core import checkpoint
from cagface_core.bisenet import CLASSES
from cagface_core.cagface import CAGFace, CAGFaceConfig
from cagface_core.errors import ConfigError, InputError, OutputError
from cagface_core.fold import FoldedCAGFace, fold
from cagface_core.train import ablation, pool
from cagface_core.train import parser as parser_training
from cagface_core.train import sr as sr_training
from cagface_core.train.degrade import degrade, h264, jpeg
from cagface_core.train.photos import IGNORE, downsample4, load_labels, load_square, read_photos
from cagface_core.train.widen import widen
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
    assert isinstance(model, CAGFace)
    assert model.config == checkpoint.PRESETS["nano"]
    shipped, _ = checkpoint.load_sr(tmp_path / "folded.safetensors")
    assert isinstance(shipped, FoldedCAGFace)
    block = torch.rand(1, 6, 8, 8) * 2 - 1
    torch.testing.assert_close(shipped(block), model(block)[1], atol=2e-3, rtol=0)
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
    real, calls = sr_training.loss_of, []

    def interrupted(*arguments: object, **options: object) -> torch.Tensor:
        calls.append(1)
        if len(calls) == 3 + 4:  # in stage 2, after its first saved state
            raise KeyboardInterrupt
        return real(*arguments, **options)

    monkeypatch.setattr(sr_training, "loss_of", interrupted)
    with pytest.raises(KeyboardInterrupt):
        sr_training.run(plan)
    monkeypatch.setattr(sr_training, "loss_of", real)
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


def test_training_lowers_the_loss_and_gains_on_pictures_it_never_saw(data: Path, tmp_path: Path):
    plan = sr_training.SRTraining(
        data, tmp_path, batch=2, patch_px=16, steps1=240, steps2=1, check_every=20
    )
    sr_training.run(plan)
    with (tmp_path / "stage1" / "log.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert float(rows[-1]["loss"]) < 0.8 * float(rows[0]["loss"])
    assert float(rows[-1]["gain_2x_db"]) > float(rows[0]["gain_2x_db"]) + 1.0


def test_the_loss_is_huber_on_both_outputs_and_may_weigh_the_parts(data: Path):
    plan = sr_training.SRTraining(data, data, attention="none")
    hr = torch.zeros(1, 3, 16, 16)
    maps = torch.zeros(1, 3, 4, 4)
    batch = pool.Batch(torch.zeros(1, 3, 4, 4), hr, maps)

    class Constant(torch.nn.Module):
        def forward(self, block: torch.Tensor) -> torch.Tensor:
            return torch.cat([torch.full((1, 3, 16, 8), 0.5), torch.full((1, 3, 16, 8), 2.0)], 3)

    # delta = 1: 0.5^2 / 2 on the left half, 2 - 1/2 on the right one
    assert sr_training.loss_of(plan, Constant(), batch).item() == pytest.approx(0.5 * 0.125 + 0.75)
    maps[:, 2, :, 2:] = 1
    heavy = sr_training.loss_of(replace(plan, parts_weight=3.0), Constant(), batch).item()
    assert 0.5 * 0.125 + 0.75 < heavy < 1.5
    network = CAGFace(CAGFaceConfig(12, 1, "none"))
    both = sr_training.loss_of(plan, network, batch._replace(hr=hr + 0.5)).item()
    assert both == pytest.approx(2 * 0.125, abs=1e-4)  # a fresh network copies its grey input


def test_patches_lie_where_their_targets_lie_in_all_six_turns(data: Path):
    plan = sr_training.SRTraining(data, data, batch=64, patch_px=8, attention="none")
    drawn = pool.Pool(plan, read_photos(data, "train"))
    batch = drawn.batch(5)
    small = torch.nn.functional.interpolate(batch.hr, scale_factor=0.25, mode="area")
    assert (small - batch.block).abs().mean() < 0.05  # a wrong turn is ten times as far off
    assert (small.flip(3) - batch.block).abs().mean() > 0.1
    assert torch.equal(batch.hr, drawn.batch(5).hr)
    assert not torch.equal(batch.hr, drawn.batch(6).hr)
    picture = torch.arange(64, dtype=torch.uint8).reshape(1, 8, 8, 1).expand(1, 8, 8, 3)
    for turn in range(6):
        cut = pool._cut(picture, np.array([0]), np.array([[2, 1]]), np.array([turn]), 4)
        patch = picture[0, 2:6, 1:5, 0].numpy()
        expected = np.rot90(patch, turn) if turn < 4 else np.flip(patch, turn - 4)
        assert np.array_equal(((cut[0, 0] + 1) * 127.5).round().numpy(), expected)


def test_attention_can_be_hard(data: Path):
    photos = read_photos(data, "train")
    soft = pool.Pool(sr_training.SRTraining(data, data, attention="maps"), photos)
    hard = copy.copy(soft)
    hard.plan = replace(soft.plan, maps="hard")
    assert torch.equal(soft.batch(3).hr, hard.batch(3).hr)
    maps = hard.batch(3).maps
    assert set(maps.unique().tolist()) == {0.0, 1.0}
    assert maps.sum(dim=1).max() == 1
    assert torch.equal(hard.batch(3).block[:, 3:], maps * 2 - 1)
    assert 0 < (soft.batch(3).maps - maps).abs().mean() < 0.3


def test_shipped_weights_can_be_trained_on(data: Path, tmp_path: Path):
    plan = sr_training.SRTraining(data, tmp_path / "first", preset="pico", **FAST)
    sr_training.run(plan)
    folded = tmp_path / "first" / "folded.safetensors"
    again = replace(plan, out=tmp_path / "again", preset="nano", init=folded, steps2=2)
    model, found = checkpoint.load_sr(sr_training.run(again))
    assert isinstance(model, FoldedCAGFace)
    assert model.config == checkpoint.PRESETS["nano"]
    assert found.kind == "sr-folded"
    assert not (tmp_path / "again" / "stage1").exists()


@pytest.mark.parametrize("attention", ["paper", "gate"])
def test_a_larger_network_starts_where_a_smaller_one_stands(attention: str):
    torch.manual_seed(3)
    small = CAGFace(CAGFaceConfig(12, 1, attention))
    with torch.no_grad():
        for parameter in small.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    large = widen(small, CAGFaceConfig(20, 3, attention))
    block = torch.rand(1, 6, 9, 11) * 2 - 1
    torch.testing.assert_close(large(block)[1], small(block)[1])
    folded = widen(fold(small), CAGFaceConfig(20, 3, attention))
    torch.testing.assert_close(folded(block), small(block)[1], atol=1e-5, rtol=1e-5)
    large(block)[1].square().mean().backward()
    gradient = large.upsampler2[0].weight.grad
    assert gradient is not None
    assert gradient[:48, 12:20].abs().max() > 0  # old outputs can learn from new features
    with pytest.raises(ConfigError, match="cannot grow"):
        widen(large, small.config)


def test_a_single_stage_has_all_units_and_starts_as_the_two_do():
    block = torch.rand(1, 6, 5, 7) * 2 - 1
    model = ablation.SingleStage(CAGFaceConfig(12, 3))
    assert len(model.backbone1.units) == 6
    two_stages = CAGFace(CAGFaceConfig(12, 3))(block)[1]
    # At the borders the two repeat what was enlarged once, the one what was not.
    inner = (..., slice(8, -8), slice(8, -8))
    torch.testing.assert_close(model(block)[inner], two_stages[inner], atol=1e-4, rtol=0)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    expected = model(block)
    largest = float(expected.detach().abs().max())
    torch.testing.assert_close(model.folded()(block), expected, atol=1e-4 * largest, rtol=0)


def test_the_ablation_measures_every_variant_once(data: Path, tmp_path: Path):
    plan = ablation.Ablation(
        data, tmp_path, steps=2, batch=2, seeds=2, only="none, paper-hard, gate, single-stage"
    )
    ablation.run(plan)
    figures = json.loads((tmp_path / "ablation.json").read_text())["variants"]
    assert list(figures) == ["none", "paper-hard", "gate", "single-stage"]
    assert len(figures["none"]["gain_db"]) == 2
    assert figures["none"]["parameters"][0] < figures["gate"]["parameters"][0]
    for seed in "01":
        scores = json.dumps(dict.fromkeys(figures["none"], 9.0))
        (tmp_path / "none" / seed / "scores.json").write_text(scores)
    assert "| none | +9.000" in ablation.run(plan).read_text()  # kept, not measured again
    with pytest.raises(ConfigError, match="unknown variant 'nose'"):
        ablation.run(replace(plan, only="nose"))


def test_wrong_plans_are_refused(data: Path, tmp_path: Path):
    plan = sr_training.SRTraining(data, tmp_path, **FAST)
    with pytest.raises(ConfigError, match="unknown preset 'tiny': expected one of pico"):
        sr_training.run(replace(plan, preset="tiny"))
    with pytest.raises(ConfigError, match="unknown protocol 'dirty': expected one of clean"):
        sr_training.run(replace(plan, protocol="dirty"))


def test_prepared_photos_serve_the_next_training_of_the_same(data: Path, tmp_path: Path):
    plan = sr_training.SRTraining(data, tmp_path, attention="maps", batch=4, patch_px=16)
    photos = read_photos(data, "train")
    once = pool.Pool(plan, photos).batch(3)
    keeping = replace(plan, prepared=tmp_path / "prepared")
    first = pool.Pool(keeping, photos).batch(3)
    (file,) = (tmp_path / "prepared").glob("*.safetensors")
    made_at = file.stat().st_mtime_ns
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pool, "load_square", None)  # no photo may be read again
        again = pool.Pool(keeping, photos).batch(3)
    for batch in (first, again):
        for got, expected in zip(batch, once, strict=True):
            torch.testing.assert_close(got, expected, rtol=0, atol=0)
    assert file.stat().st_mtime_ns == made_at
    pool.Pool(replace(keeping, seed=1), photos)
    assert len(list((tmp_path / "prepared").glob("*.safetensors"))) == 2


def test_a_folder_that_cannot_be_written_is_named(data: Path, tmp_path: Path):
    (tmp_path / "file").write_text("")
    plan = sr_training.SRTraining(data, tmp_path, prepared=tmp_path / "file")
    with pytest.raises(OutputError, match="give --prepared another folder"):
        pool.Pool(plan, read_photos(data, "train"))


def test_a_training_can_end_by_the_clock(data: Path, tmp_path: Path):
    plan = sr_training.SRTraining(
        data, tmp_path / "out", "pico", batch=2, patch_px=16, steps1=0, steps2=100_000,
        check_every=5, minutes=0.03,
    )  # fmt: skip
    path = sr_training.run(plan)
    with (tmp_path / "out" / "stage2" / "log.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert 0.03 * 60 <= float(rows[-1]["seconds"]) < 30
    steps = checkpoint.load(path).facts["steps"]
    assert steps == [0, int(rows[-1]["step"])]
    assert sr_training.run(plan) == path  # nothing is left to do
    assert checkpoint.load(path).facts["steps"] == steps
