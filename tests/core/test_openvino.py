"""Weights in 8 bit: what is rounded, what it costs; and OpenVINO itself where it is installed."""

from pathlib import Path

import numpy as np
import pytest
import torch

from cagface_core import checkpoint
from cagface_core.cagface import CAGFace, CAGFaceConfig
from cagface_core.consistency import resize
from cagface_core.engine import Engine
from cagface_core.errors import WeightsError
from cagface_core.evaluate.metrics import psnr
from cagface_core.fold import fold, halved
from cagface_core.quantise import FACT, find_ranges, quantised
from cagface_core.train.ranges import main
from tests.core.photo_set import write_photo_set


def soft_block(side: int = 64) -> torch.Tensor:
    torch.manual_seed(0)
    return resize(torch.rand(1, 6, side // 4, side // 4) * 2 - 1, side, side).clamp(-1, 1)


@pytest.mark.parametrize("name", checkpoint.shipped())
def test_shipped_weights_lose_little_in_8_bit(name: str):
    model, held = checkpoint.load_sr(checkpoint.find_named(name))
    network, block = fold(model), soft_block()
    rounded = quantised(network, held.facts[FACT])
    with torch.inference_mode():
        exact, got = network(block), rounded(block)
    assert not torch.equal(exact, got)
    assert 10 * torch.log10(4 / (exact - got).square().mean()) > 40
    assert quantised(halved(network), held.facts[FACT]).factor == 2


def test_ranges_are_what_went_in():
    torch.manual_seed(0)
    network = fold(CAGFace(CAGFaceConfig(12, 2)))
    ranges = find_ranges(network, [soft_block(), 0.5 * soft_block()])
    assert len(ranges) == 2 * (2 * 2 + 1)
    assert all(low <= 0 <= high for low, high in ranges.values())
    assert all(low == 0 for name, (low, _) in ranges.items() if name.endswith("conv2"))
    with torch.inference_mode():
        stem = network.stem1(soft_block())
    assert ranges["backbone1.units.0.conv1"][1] == pytest.approx(stem.max().item())


def test_ranges_go_into_the_header_only(tmp_path: Path):
    source = checkpoint.find_sr("pico", "clean")
    path = tmp_path / "own.safetensors"
    held = checkpoint.load(source)
    facts = {key: value for key, value in held.facts.items() if key != FACT}
    checkpoint.save(path, held.kind, CAGFaceConfig(**held.config), held.tensors, facts)
    assert (
        main([str(path), "--data", str(write_photo_set(tmp_path / "data")), "--photos", "2"]) == 0
    )
    after = checkpoint.load(path)
    assert after.sha256 == held.sha256
    assert {k: v for k, v in after.facts.items() if k != FACT} == facts
    assert set(after.facts[FACT]) == set(held.facts[FACT])
    assert main([str(path), "--data", str(tmp_path / "none")]) == 2


@pytest.mark.parametrize("path", ["openvino-bfloat16", "openvino-int8"])
def test_openvino_gives_the_same_picture(path: str):
    pytest.importorskip("openvino", reason="OpenVINO is not installed")
    weights = checkpoint.find_sr("pico", "webcam")
    exact, ours = Engine(weights, "cpu-float32"), Engine(weights, path)
    assert ours.path == path
    rng = np.random.default_rng(0)
    for height, width in ((64, 64), (40, 70)):
        coarse = rng.integers(60, 200, (2, height // 8, width // 8, 3))
        faces = [
            np.ascontiguousarray(np.kron(c, np.ones((8, 8, 1))).astype(np.uint8)) for c in coarse
        ]
        maps = exact.parse(faces)
        shape = faces[0].shape
        a, b = (
            np.clip(e.residual(faces, maps, 2) + 128, 0, 255).astype(np.uint8)
            for e in (exact, ours)
        )
        assert a.shape == b.shape == (2, 2 * shape[0], 2 * shape[1], 3)
        assert psnr(a[0], b[0]) > 40


def test_int8_without_ranges_says_how_to_get_them(tmp_path: Path):
    pytest.importorskip("openvino", reason="OpenVINO is not installed")
    path, config = tmp_path / "own.safetensors", CAGFaceConfig(12, 1)
    checkpoint.save(path, "sr", config, CAGFace(config).state_dict(), {"protocol": "clean"})
    with pytest.raises(WeightsError, match=r"cagface_core.train.ranges --data DIR FILE"):
        Engine(path, "openvino-int8")
