"""Weights in 8 bit: what is rounded, what it costs; and OpenVINO itself where it is installed."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import conv2d

from cagface_core import checkpoint
from cagface_core.cagface import CAGFace, CAGFaceConfig
from cagface_core.consistency import resize
from cagface_core.engine import Engine
from cagface_core.errors import WeightsError
from cagface_core.evaluate.metrics import psnr
from cagface_core.fold import fold, halved
from cagface_core.quantise import (
    FACT,
    LAST,
    find_ranges,
    quantised,
    smooth_levels,
    weight_levels,
    weight_scales,
)
from cagface_core.train.ranges import add_ranges, main
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
    assert len(ranges) == 2 * (2 * 2 + 1) + 1
    assert all(low <= 0 <= high for low, high in ranges.values())
    assert all(low == 0 for name, (low, _) in ranges.items() if name.endswith("conv2"))
    with torch.inference_mode():
        stem = network.stem1(soft_block())
    assert ranges["backbone1.units.0.conv1"][1] == pytest.approx(1.2 * stem.max().item())


def test_weights_are_rounded_so_that_smooth_pictures_lose_little():
    """Against rounding each by itself, on features that change slowly, and on noise."""
    generator = torch.Generator().manual_seed(1)
    weight = torch.randn(8, 16, 5, 5, generator=generator)
    scales = weight_scales(weight)
    alone, together = weight_levels(weight, scales), smooth_levels(weight, scales)
    assert together.dtype == torch.float32
    assert torch.equal(together, together.round())
    assert together.abs().max() == 127
    assert (together - alone).abs().max() <= 2
    noise = torch.randn(1, 16, 64, 64, generator=generator)
    smooth = resize(noise[..., :16, :16], 64, 64)

    def lost(levels: torch.Tensor, features: torch.Tensor) -> float:
        rounded = levels * scales[:, None, None, None]
        return float((conv2d(features, rounded) - conv2d(features, weight)).square().mean())

    assert lost(together, smooth) < 0.2 * lost(alone, smooth)
    assert lost(together, noise) < 3 * lost(alone, noise)
    exact = torch.randint(-127, 128, weight.shape, generator=generator).float()
    exact[:, 0, 0, 0] = 127
    assert torch.equal(smooth_levels(exact * 0.5, torch.full((8,), 0.5)), exact)


@pytest.mark.parametrize("most", [-1.0, 100.0])
def test_the_last_upsampler_is_rounded_only_where_that_costs_little(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: float
):
    path = tmp_path / "own.safetensors"
    path.write_bytes(checkpoint.find_sr("pico", "clean").read_bytes())
    data = write_photo_set(tmp_path / "data")
    monkeypatch.setattr("cagface_core.train.ranges.MOST_LOSS_DB", most)
    assert -1 < add_ranges(path, data, 2) < 0.5
    ranges = checkpoint.load(path).facts[FACT]
    assert (LAST in ranges) is (most > 0)
    with torch.inference_mode():
        network = fold(checkpoint.load_sr(path)[0])
        exact, got = network(soft_block()), quantised(network, ranges)(soft_block())
    assert 10 * torch.log10(4 / (exact - got).square().mean()) > 38


def test_the_range_of_the_last_upsampler_leaves_out_what_is_rare():
    network = fold(CAGFace(CAGFaceConfig(12, 1)))
    seen = list[torch.Tensor]()
    network.upsampler2.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    torch.manual_seed(2)
    low, high = find_ranges(network, [torch.rand(1, 6, 96, 96) * 2 - 1 for _ in range(50)])[LAST]
    values = torch.cat(seen).transpose(0, 1).flatten(1)
    assert values.min() < low < 0 < high < values.max()
    assert ((values < low) | (values > high)).float().mean(dim=1).max() < 3e-4


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
    assert set(after.facts[FACT]) - {LAST} == set(held.facts[FACT]) - {LAST}
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
