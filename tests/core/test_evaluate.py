import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from cagface_core import checkpoint
from cagface_core.engine import Engine
from cagface_core.errors import ConfigError
from cagface_core.evaluate.evaluate import bicubic, evaluate
from cagface_core.evaluate.metrics import psnr, ssim
from cagface_core.train.degrade import degrade
from cagface_core.train.photos import downsample4, load_square, read_photos
from tests.core.photo_set import write_photo_set


def test_psnr_and_ssim_by_their_definitions():
    rng = np.random.default_rng(0)
    a = rng.integers(20, 230, (64, 64, 3), dtype=np.uint8)
    assert psnr(a, a + np.uint8(10)) == pytest.approx(20 * np.log10(255 / 10))
    assert ssim(a, a) == pytest.approx(1.0)
    smooth = cv2.GaussianBlur(a, (0, 0), 1.0)
    assert ssim(a, np.asarray(smooth)) < 0.9


def test_ssim_agrees_with_the_formula_on_constant_pictures():
    a, b = np.full((32, 32, 3), 100, np.uint8), np.full((32, 32, 3), 120, np.uint8)
    c1 = (0.01 * 255) ** 2
    assert ssim(a, b) == pytest.approx((2 * 100 * 120 + c1) / (100**2 + 120**2 + c1), abs=1e-6)


def test_the_report_has_every_protocol_and_method(tmp_path: Path):
    data = write_photo_set(tmp_path / "data")
    evaluate(data, "val", tmp_path / "out", ["nano-clean"], "cpu")
    report = json.loads((tmp_path / "out" / "eval.json").read_text())
    for name, count in (("whole_face", 2), ("patch", 0), ("webcam", 2)):
        assert report[name]["n"] == count
    whole = report["whole_face"]
    assert set(whole["bicubic"]) == {"psnr", "ssim", "drift"}
    assert whole["nano-clean"]["drift"] < 1.5 * whole["bicubic-opencv"]["drift"] + 0.5
    assert whole["nano-clean"]["psnr"] != whole["bicubic"]["psnr"]
    assert (tmp_path / "out" / "eval.png").stat().st_size > 1000


def test_the_bicubic_row_is_measured_on_the_very_inputs(tmp_path: Path):
    data = write_photo_set(tmp_path / "data")
    evaluate(data, "val", tmp_path / "out", [], "cpu")
    report = json.loads((tmp_path / "out" / "eval.json").read_text())
    values = []
    for photo in read_photos(data, "val"):
        hr = load_square(photo, 256)
        values.append(psnr(bicubic(downsample4(hr)), hr))
    assert report["whole_face"]["bicubic"]["psnr"] == pytest.approx(np.mean(values), abs=1e-3)


def test_unknown_weights_are_named(tmp_path: Path):
    data = write_photo_set(tmp_path / "data")
    with pytest.raises(ConfigError, match="unknown weights 'fine'"):
        evaluate(data, "val", tmp_path / "out", ["fine"], "cpu")


@pytest.mark.parametrize(
    ("weights", "degraded", "least_db"), [("clean", False, 2.8), ("webcam", True, 0.8)]
)
def test_the_shipped_weights_beat_bicubic_on_what_they_were_made_for(
    shared_data: Path, weights: str, degraded: bool, least_db: float
):
    engine = Engine(checkpoint.find_sr("nano", weights), "cpu")
    gains = []
    for index, photo in enumerate(read_photos(shared_data, "val")[::12]):
        hr = load_square(photo, 256)
        lr = degrade(hr, np.random.default_rng([2024, index])) if degraded else downsample4(hr)
        gains.append(psnr(engine.upscale(lr), hr) - psnr(bicubic(lr), hr))
    assert len(gains) == 15
    assert np.mean(gains) > least_db
