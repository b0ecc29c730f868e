"""Layers in 8 bit compute what the network does, but for rounding, or are not used."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from cagface_core import checkpoint, int8
from cagface_core.cagface import CAGFace, CAGFaceConfig
from cagface_core.consistency import resize
from cagface_core.engine import Engine
from cagface_core.errors import DeviceError, WeightsError
from cagface_core.evaluate.metrics import psnr
from cagface_core.fold import FoldedCAGFace, fold, halved, place
from cagface_core.int8 import Int8Backbone, Int8Upsampler, computes_int8, quantise
from cagface_core.paths import Int8Runner, Place, cpu_paths, open_runner
from cagface_core.quantise import FACT, LAST, find_ranges, quantised
from tests.core.test_fold import random_network

CPU = torch.device("cpu")
needs_int8 = pytest.mark.skipif(not computes_int8(), reason="no 8-bit operators here")


def soft(batch: int, channels: int, height: int, width: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(batch, channels, height // 4, width // 4, generator=generator) * 2 - 1
    picture = resize(coarse, height, width).clamp(-1, 1)
    return picture.contiguous(memory_format=torch.channels_last)


def decibels(exact: Tensor, got: Tensor) -> float:
    return float(10 * torch.log10(4 / (exact - got).square().mean()))


@needs_int8
@pytest.mark.parametrize("name", checkpoint.shipped())
def test_shipped_weights_lose_little(name: str):
    model, held = checkpoint.load_sr(checkpoint.find_named(name))
    network, block = place(fold(model), CPU), soft(1, 6, 64, 96)
    eight = place(fold(model), CPU)
    quantise(eight, held.facts[FACT])
    assert isinstance(eight.backbone1, Int8Backbone)
    assert isinstance(eight.backbone2, Int8Backbone)
    before = block.clone()
    with torch.inference_mode():
        exact, got = network(block), eight(block)
        features = network.enter(block)
        given = features.clone()
        eight.backbone1(features)
        assert torch.equal(eight(block), got)
    assert torch.equal(block, before)
    assert torch.equal(features, given)
    assert decibels(exact, got) > 40
    assert not torch.equal(exact, got)


@needs_int8
def test_a_backbone_rounds_as_it_says():
    """Units and sums of 8 bit, computed in floating point; the same but where a half is rounded."""
    network = place(fold(random_network(16, 3)), CPU).requires_grad_(False)
    block = soft(2, 6, 24, 40)
    ranges = find_ranges(network, [block])
    backbone, eight = network.backbone1, Int8Backbone(network.backbone1, "backbone1", ranges)

    def rounded(x: Tensor, name: str) -> Tensor:
        low, high = ranges[name]
        scale = (high - low) / 255
        zero = round(-low / scale)
        return ((x / scale + zero).round().clamp(0, 255) - zero) * scale

    with torch.inference_mode():
        x = network.enter(block)
        layers = quantised(network, ranges).backbone1  # its weights are rounded; its inputs too
        y = rounded(x, "backbone1.units.0.conv1")
        for k in range(3):
            unit, rough = backbone.units[k], layers.units[k]
            hidden = torch.relu(plain(rough.conv1, unit.conv1, y))
            hidden = rounded(hidden, f"backbone1.units.{k}.conv2")
            after = f"backbone1.units.{k + 1}.conv1" if k < 2 else "backbone1.tail"
            y = rounded(y + plain(rough.conv2, unit.conv2, hidden), after)
        expected = x + plain(layers.tail, backbone.tail, y)
        got = eight(x)
    assert expected.std() > 0.05
    low, high = ranges["backbone1.tail"]
    assert (got - expected).abs().mean() < 0.2 * (high - low) / 255
    assert (got - expected).abs().max() < 0.05 * expected.abs().max()


def plain(rounded: torch.nn.Module, layer: torch.nn.Conv2d, x: Tensor) -> Tensor:
    """Convolve with the weights in 8 bit, and nothing else rounded."""
    return torch.nn.functional.conv2d(x, rounded.get_buffer("weight"), layer.bias, padding=1)


@needs_int8
@pytest.mark.parametrize(("features", "whole"), [(16, False), (16, True), (15, True)])
def test_a_face_is_what_the_network_makes_of_it(features: int, whole: bool):
    network = place(fold(random_network(features, 3, "gate")), CPU)
    block = soft(3, network.config.in_channels, 64, 64)
    found = find_ranges(network, [block])
    ranges = {name: limits for name, limits in found.items() if whole or name != LAST}
    runner = Int8Runner(network, Place("cpu-int8", CPU), torch.float32, ranges)
    assert runner.precision == "int8"
    for factor in (2, 4):
        with torch.inference_mode():
            expected = runner.eager(block, factor)  # the same, outside of graphs
        for _ in range(2):
            difference = (runner(block, factor) - expected).abs()
            if whole:  # what lies between two steps may go to either
                assert (difference > 1e-4).float().mean() < 0.03
                assert difference.max() < 0.1 * expected.std()
            else:
                assert difference.max() <= 1e-4
        assert runner(block[..., :40], factor).shape == (3, 3, 64 * factor, 40 * factor)
    with torch.inference_mode():
        exact = network(block)
    if whole:  # of a network that is not trained, and whose features are not smooth
        assert (expected - exact).square().mean().sqrt() < 0.05 * exact.std()
    else:
        assert (expected - exact).abs().max() < 0.1 * exact.std()


@needs_int8
@pytest.mark.parametrize("factor", [2, 4])
def test_the_last_upsampler_rounds_as_it_says(factor: int):
    network = fold(random_network(16, 3))
    block = soft(2, 6, 24, 40)
    ranges = find_ranges(network, [block])
    layer = (halved(network) if factor == 2 else network).upsampler2
    low, high = ranges["upsampler2"]
    scale = (high - low) / 255
    zero = round(-low / scale)
    with torch.inference_mode():
        generator = torch.Generator().manual_seed(4)
        x = soft(2, 32, 24, 40) * min(-low, high)
        x = x + 0.02 * torch.randn(x.shape, generator=generator)
        seen = ((x / scale + zero).round().clamp(0, 255) - zero) * scale
        rounded = quantised(halved(network) if factor == 2 else network, ranges).upsampler2
        expected = torch.nn.functional.conv2d(seen, rounded.get_buffer("weight"), layer.bias)
        eight = Int8Upsampler(layer, ranges["upsampler2"])
        got = eight(x.contiguous(memory_format=torch.channels_last))
        halves = x[:, :16].contiguous(), x[:, 16:].contiguous()
        whole = eight.leave_with(*halves)
        reach = layer.kernel_size[0] // 2
    assert expected.std() > 0.05
    assert (got - expected).abs().max() < 2e-2 * expected.abs().max()
    assert (got - expected).abs().mean() < 2e-3 * expected.abs().max()
    assert torch.equal(whole[..., reach:-reach, reach:-reach], got)
    assert whole.shape[-2:] == x.shape[-2:]


@needs_int8
@pytest.mark.parametrize("softer", [None, 0.5])
def test_an_engine_gives_the_same_picture(softer: float | None):
    weights = checkpoint.find_sr("pico", "webcam" if softer is None else "detail")
    mixed = None if softer is None else (checkpoint.find_sr("pico", "webcam"), softer)
    exact, ours = (Engine(weights, path, softer=mixed) for path in ("cpu-float32", "cpu-int8"))
    assert ours.path == "cpu-int8"
    assert " int8 on cpu (cpu-int8, as asked)" in ours.description
    rng = np.random.default_rng(0)
    for height, width in ((64, 64), (40, 72)):
        coarse = rng.integers(60, 200, (2, height // 8, width // 8, 3))
        faces = [np.kron(c, np.ones((8, 8, 1))).astype(np.uint8) for c in coarse]
        maps = exact.parse(faces)
        a, b = (
            np.clip(e.residual(faces, maps, 2) + 128, 0, 255).astype(np.uint8)
            for e in (exact, ours)
        )
        assert a.shape == b.shape == (2, 2 * height, 2 * width, 3)
        assert psnr(a[0], b[0]) > 40


def test_without_ranges_it_says_how_to_get_them(tmp_path: Path):
    path, config = tmp_path / "own.safetensors", CAGFaceConfig(12, 1)
    checkpoint.save(path, "sr", config, CAGFace(config).state_dict(), {"protocol": "clean"})
    with pytest.raises(WeightsError, match=r"cagface_core.train.ranges --data DIR FILE"):
        Engine(path, "cpu-int8")
    assert Engine(path, "cpu").path != "cpu-int8"


def wrong(*arguments: object, **_: object) -> Tensor:
    raise RuntimeError(f"not built with it ({len(arguments)} arguments)")


def test_where_it_is_not_to_be_had_it_is_not_used(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(int8._Conv, "rectified", wrong)  # pyright: ignore[reportPrivateUsage]
    computes_int8.cache_clear()
    try:
        assert not computes_int8()
        assert "cpu-int8" not in cpu_paths({FACT: {}})
        network = FoldedCAGFace(CAGFaceConfig(12, 1)).eval()
        with pytest.raises(DeviceError, match="cpu-int8: this torch has no 8-bit operators here"):
            open_runner(network, Place("cpu-int8", CPU), {FACT: {}})
    finally:
        monkeypatch.undo()
        computes_int8.cache_clear()


@needs_int8
def test_a_processor_whose_sums_overflow_is_not_given_it():
    """Without VNNI 8-bit products are added in 16 bit, too few for some weights."""
    code = "from cagface_core.int8 import computes_int8; print(computes_int8())"
    for known, expected in (("AVX2", "False"), ("DEFAULT", "True")):
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True,
            env=os.environ | {"ONEDNN_MAX_CPU_ISA": known},
        )  # fmt: skip
        assert done.stdout.strip() == expected
