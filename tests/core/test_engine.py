"""The engine with the shipped weights, on a face cut from the demo clip."""

from dataclasses import asdict
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import torch

from cagface_core import checkpoint
from cagface_core.attention import LUMA
from cagface_core.cagface import CAGFace, CAGFaceConfig
from cagface_core.crop import shrunk
from cagface_core.engine import Engine
from cagface_core.errors import DeviceError, WeightsError
from cagface_core.evaluate.metrics import psnr
from cagface_core.paths import find_device
from cagface_core.train.photos import downsample4
from cagface_core.types import Image


@pytest.fixture(scope="module")
def face(demo_clip: Path) -> Image:
    with av.open(str(demo_clip)) as container:
        frame = next(iter(container.decode(video=0))).to_ndarray(format="rgb24")
    return np.ascontiguousarray(frame[:96, 60:156])


@pytest.fixture(scope="module", params=["clean", "webcam"])
def engine(request: pytest.FixtureRequest) -> Engine:
    return Engine(checkpoint.find_sr("nano", request.param), "cpu")


@pytest.mark.parametrize("name", checkpoint.shipped())
def test_the_shipped_weights_say_what_they_are(name: str):
    preset, _, weights = name.partition("-")
    engine = Engine(checkpoint.find_sr(preset, weights), "cpu-float32")
    config = checkpoint.PRESETS[preset]
    assert f"F={config.features} L={config.units} {weights}" in engine.description
    assert engine.facts.config == asdict(config)
    assert engine.facts.kind == "sr-folded"
    assert {t.dtype for t in engine.facts.tensors.values()} == {torch.float16}
    assert {"protocol", "licence", "steps", "photos", "attention"} <= set(engine.facts.facts)
    assert engine.facts.facts["attention"] == engine.parser_facts.sha256
    card = (checkpoint.WEIGHTS_DIR / f"{name}.md").read_text(encoding="utf-8")
    assert card.startswith(f"# `{name}.safetensors`: CAGFace F={config.features}, L={config.units}")


def test_faces_in_one_batch_equal_faces_one_by_one(engine: Engine, face: Image):
    pictures = [face, np.ascontiguousarray(face[:, ::-1])]
    maps = engine.parse(pictures)
    together = engine.residual(pictures, maps, 2)
    for index, picture in enumerate(pictures):
        alone = engine.residual([picture], [maps[index]], 2)[0]
        assert np.abs(together[index] - alone).max() < 0.01
    assert np.abs(together).mean() > 0.5


@pytest.mark.parametrize("scale", [1, 2, 4])
def test_the_residual_comes_at_the_output_scale(engine: Engine, face: Image, scale: int):
    residual = engine.residual([face], engine.parse([face]), scale)
    assert residual.shape == (1, 96 * scale, 96 * scale, 3)


def test_clean_weights_keep_the_input_and_webcam_weights_its_colours(engine: Engine, face: Image):
    shrunk = downsample4(engine.upscale(face)).astype(float)
    difference = shrunk - face
    assert np.abs(difference.mean(axis=(0, 1))).max() < 0.3
    if engine.sigma_px == 0:
        assert np.abs(difference).mean() < 0.6


@pytest.mark.parametrize("kind", ["clean", "webcam", "detail"])
def test_a_picture_in_black_and_white_gets_no_colour(face: Image, kind: str):
    engine = Engine(checkpoint.find_sr("pico", kind), "cpu-float32")
    grey = np.repeat(face[..., 1:2], 3, 2)
    maps = engine.parse([grey])
    for limit_px in (0, 64):
        residual = engine.residual([grey], maps, 2, limit_px)[0]
        assert np.abs(residual).max() > 5
        assert np.ptp(residual, axis=2).max() < 0.01


def test_auto_is_clean_for_a_clean_picture_and_webcam_for_a_damaged_one(
    face: Image, demo_clip: Path
):
    first, second = checkpoint.find_pair("pico", "auto")
    auto = Engine(first, "cpu-float32", finer=second)
    webcam, clean = Engine(first, "cpu-float32"), Engine(second, "cpu-float32")
    assert (webcam.facts.facts["protocol"], clean.facts.facts["protocol"]) == ("webcam", "clean")
    with av.open(str(demo_clip)) as container:
        frame = next(iter(container.decode(video=0))).to_ndarray(format="rgb24")
    small = downsample4(np.ascontiguousarray(frame[:224, 30:254]))
    nearest = {e: np.abs(auto.upscale(small).astype(int) - e.upscale(small)).mean()
               for e in (clean, webcam)}  # fmt: skip
    assert nearest[clean] < 0.5 * nearest[webcam]
    _, jpeg = cv2.imencode(".jpg", face[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 20])
    damaged = np.ascontiguousarray(cv2.imdecode(jpeg, cv2.IMREAD_COLOR)[..., ::-1])
    assert np.array_equal(auto.upscale(damaged), webcam.upscale(damaged))
    assert np.abs(auto.upscale(damaged).astype(int) - clean.upscale(damaged)).mean() > 1


def test_a_large_face_may_be_seen_shrunk(engine: Engine, face: Image):
    maps = engine.parse([face])
    whole = engine.residual([face], maps, 2)[0]
    shrunk = engine.residual([face], maps, 2, limit_px=64)[0]
    assert shrunk.shape == whole.shape
    assert 0.1 < np.abs(shrunk).mean() < 3 * np.abs(whole).mean() + 3
    assert np.array_equal(engine.residual([face], maps, 2, limit_px=96)[0], whole)


def test_a_sharp_face_seen_shrunk_keeps_its_detail(engine: Engine, face: Image):
    large = np.kron(face, np.ones((4, 4, 1), np.uint8))  # 384 px, with edges as sharp as can be
    checks = (np.indices(large.shape[:2]).sum(0) // 2 % 2 * 12)[..., None].astype(np.uint8)
    large = np.where(large < 240, large + checks, large)
    residual = engine.residual([large], engine.parse([large]), 1, limit_px=96)[0]
    enhanced = large + residual

    def detail(picture: np.ndarray) -> float:
        return float(np.abs(picture - cv2.GaussianBlur(picture, (0, 0), 1.5)).mean())

    assert detail(enhanced) > 0.9 * detail(large.astype(np.float32))
    assert np.abs(residual).mean() < 6


@pytest.mark.parametrize(("scale", "coarse"), [(1, 1), (2, 1), (1, 2)])
def test_what_is_coarse_keeps_its_colour_however_small_it_is_seen(scale: int, coarse: int):
    """White stars on a flag beside a large face turned peach."""
    engine = Engine(checkpoint.find_sr("pico", "webcam"), "cpu")
    rgb = np.full((384, 384, 3), (38, 38, 80), np.uint8)
    for place in np.ndindex(5, 5):
        cv2.circle(rgb, (40 + 76 * place[0], 40 + 76 * place[1]), 17, (217, 232, 230), -1)
    rgb = np.asarray(cv2.GaussianBlur(rgb, (0, 0), 3), np.uint8)
    picture = shrunk(rgb, coarse)
    (added,) = engine.residual([picture], engine.parse([picture]), scale, 96, coarse)
    drift = cv2.GaussianBlur(added, (0, 0), 6 * scale / coarse)
    assert np.abs(added).max() > 10  # edges are sharper
    grey = drift @ np.float32(LUMA)
    assert np.abs(drift - grey[..., None]).max() < 1.5
    assert np.abs(grey).max() < 5


def test_tiles_and_whole_agree_on_a_large_face(engine: Engine, face: Image):
    clean = np.tile(face, (3, 3, 1))[:270, :270]
    noise = np.random.default_rng(0).normal(
        0, 3, clean.shape
    )  # or webcam weights do next to nothing
    large = np.clip(clean + noise, 0, 255).astype(np.uint8)
    maps = engine.parse([large])
    tiled = engine.residual([large], maps, 2)[0][:320, :320]
    inner = engine.residual([np.ascontiguousarray(large[:256, :256])], maps, 2)[0][:320, :320]
    assert np.abs(inner).mean() > 0.5
    assert (
        np.abs(tiled - inner).mean() < 0.5
    )  # the heatmaps are stretched over slightly different crops
    assert psnr(
        np.clip(tiled + 128, 0, 255).astype(np.uint8),
        np.clip(inner + 128, 0, 255).astype(np.uint8),
    ) > 40  # fmt: skip


def test_a_network_without_attention_and_one_of_unknown_protocol(tmp_path: Path, face: Image):
    config = CAGFaceConfig(12, 1, attention="none")
    model = CAGFace(config).state_dict()
    checkpoint.save(tmp_path / "plain.safetensors", "sr", config, model, {"protocol": "clean"})
    engine = Engine(tmp_path / "plain.safetensors", "cpu")
    assert engine.upscale(face).shape == (384, 384, 3)
    checkpoint.save(tmp_path / "odd.safetensors", "sr", config, model, {})
    with pytest.raises(WeightsError, match="was trained for None; expected clean or webcam"):
        Engine(tmp_path / "odd.safetensors", "cpu")


def test_unknown_devices_are_refused():
    with pytest.raises(DeviceError, match="use --device cpu"):
        find_device("cuda:7" if not torch.cuda.is_available() else "quantum")
