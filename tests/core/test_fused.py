"""Fused convolutions compute what the network computes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from types import ModuleType
from typing import ClassVar

import pytest
import torch
from torch import Tensor, nn

from cagface_core.bisenet import BiSeNet, BiSeNetConfig
from cagface_core.fold import fold, halved, place
from cagface_core.fused import (
    CudaBackbone,
    FusedBackbone,
    TritonBackbone,
    _can_build,
    fold_norms,
    fuse,
)
from tests.core.test_fold import random_network

needs_onednn = pytest.mark.skipif(
    not torch.backends.mkldnn.is_available(), reason="this torch has no oneDNN"
)


@needs_onednn
@pytest.mark.parametrize("factor", [2, 4])
@pytest.mark.parametrize("attention", ["paper", "none", "twice", "gate"])
def test_fused_equals_the_network_and_leaves_its_input_alone(attention: str, factor: int):
    network = fold(random_network(16, 3, attention))
    network = place(network if factor == 4 else halved(network), "cpu")
    faster = fold(network)
    fuse(faster)
    assert isinstance(faster.backbone1, FusedBackbone)
    assert isinstance(faster.backbone2, FusedBackbone)
    block = torch.rand(2, network.config.in_channels, 13, 22) * 2 - 1
    before = block.clone()
    with torch.inference_mode():
        expected = network(block)
        assert expected.std() > 0.05
        for _ in range(2):
            torch.testing.assert_close(faster(block), expected, atol=2e-5, rtol=1e-5)
    assert torch.equal(block, before)


@needs_onednn
def test_in_half_precision_fused_is_as_near_to_the_truth():
    network = fold(random_network(32, 4))
    block = torch.rand(1, 6, 48, 32) * 2 - 1
    half, faster = (place(fold(network).to(torch.bfloat16), "cpu") for _ in range(2))
    fuse(faster)
    with torch.inference_mode():
        truth = network(block)
        block = block.bfloat16().to(memory_format=torch.channels_last)
        plain_error = (half(block).float() - truth).square().mean()
        fused_error = (faster(block).float() - truth).square().mean()
    assert 0 < fused_error < 1.1 * plain_error


@needs_onednn
def test_what_fails_or_computes_anything_else_is_passed_over(monkeypatch):
    class Missing(FusedBackbone):
        def __init__(self, _backbone: object) -> None:
            raise ModuleNotFoundError("No module named 'triton'")

    class Uncompiled(FusedBackbone):
        def forward(self, _x: torch.Tensor) -> torch.Tensor:
            raise subprocess.CalledProcessError(1, "gcc")

    class Wrong(FusedBackbone):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x) * 1.1

    kinds = Missing, Uncompiled, Wrong, FusedBackbone
    monkeypatch.setattr("cagface_core.fused._KINDS", {"cpu": kinds})
    network = place(fold(random_network(16, 2)), "cpu")
    assert fuse(network) == "No module named 'triton'"
    assert type(network.backbone1) is type(network.backbone2) is FusedBackbone
    monkeypatch.undo()
    assert fuse(place(fold(random_network(16, 2)), "cpu")) == ""


class TritonHere(TritonBackbone):
    """On the processor, with stand-ins for the GPU's operations and for what they take there."""

    tried: ClassVar[list[str]] = []

    def _plain_unit(self, x: Tensor, conv1: nn.Conv2d, conv2: nn.Conv2d) -> Tensor:
        self.tried.append("cudnn")
        return conv2(conv1(x).relu()) + x


@pytest.fixture
def triton(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A stand-in for ``triton_conv``, of whose tiles one is wrong and one too large."""
    module = ModuleType("cagface_core.triton_conv")

    def convolve(x: Tensor, layer: nn.Conv2d, added: Tensor | None, tile: str) -> Tensor:
        TritonHere.tried.append(tile)
        if tile == "too large":
            raise RuntimeError("Triton: out of resource: shared memory")
        made = layer(x).relu() if added is None else layer(x) + added
        return made * 1.5 if tile == "wrong" else made

    vars(module).update(convolve=convolve, tiles=lambda _: ("wrong", "small", "too large", "large"))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr("cagface_core.triton_conv", module, raising=False)
    monkeypatch.setattr("cagface_core.fused._FASTEST", {})
    monkeypatch.setattr("cagface_core.fused._can_build", lambda: True)
    monkeypatch.setattr("cagface_core.fused._total", lambda _: lambda x, layer, y: layer(y) + x)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (8, 6))
    return module


def test_the_fastest_kernel_is_found_by_trying_where_graphs_are_made(triton, monkeypatch):
    """Where they are not, nothing is tried, and cuDNN's are used, which take less to tell."""
    network = place(fold(random_network(16, 2)), "cpu").to(torch.bfloat16)
    backbone, other = TritonHere(network.backbone1), TritonHere(network.backbone2)
    assert backbone.tiles == other.tiles == ["small", "large"]
    took_ms = {
        64: {"small": 1, "large": 2, "cudnn": 3},
        96: {"small": 5, "large": 4, "cudnn": 6},
        256: {"small": 9, "large": 8, "cudnn": 7},
    }
    timed, making, capturing = 0, False, False

    def time_ms(work: Callable[[], Tensor]) -> float:
        nonlocal timed
        timed += 1
        side, way = work().shape[-1], TritonHere.tried[-1]
        return took_ms[side][way] + (10 if timed % 4 == 0 else 0)  # other work comes between

    def used(backbone: TritonBackbone, side: int) -> str:
        x = torch.rand(1, 16, side, side, dtype=torch.bfloat16)
        with torch.inference_mode():
            made, way = backbone(x), TritonHere.tried[-1]
            torch.testing.assert_close(made, CudaBackbone.forward(backbone, x), atol=0.1, rtol=0.1)
        return way

    monkeypatch.setattr("cagface_core.fused._time_ms", time_ms)
    monkeypatch.setattr("cagface_core.fused.makes_graph", lambda: making)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: capturing)
    assert (used(backbone, 64), timed) == ("cudnn", 0)
    making = True
    wanted = {64: "small", 96: "large", 256: "cudnn"}
    assert {side: used(backbone, side) for side in wanted} == wanted
    assert timed == 3 * 3 * 5
    capturing = True
    assert used(backbone, 64) == used(other, 64) == "small", "of one width, one GPU"
    assert used(other, 128) == "cudnn", "a capture may not wait for anything"
    making = False
    assert used(backbone, 64) == "cudnn"
    assert timed == 3 * 3 * 5


def test_without_a_tile_that_works_triton_is_of_no_use(triton):
    backbone = place(fold(random_network(16, 2)), "cpu").to(torch.bfloat16).backbone1
    vars(triton)["tiles"] = lambda _: ("wrong", "too large")
    with pytest.raises(RuntimeError, match="shared memory"):
        TritonHere(backbone)
    vars(triton)["tiles"] = lambda _: ()
    with pytest.raises(RuntimeError, match="width"):
        TritonHere(backbone)


def test_triton_is_not_asked_where_it_would_fail_aloud(monkeypatch, tmp_path):
    compilers = {"gcc": "/usr/bin/gcc"}
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr("cagface_core.fused.which", compilers.get)
    monkeypatch.setattr("sysconfig.get_path", lambda *_: str(tmp_path))
    assert not _can_build()
    (tmp_path / "Python.h").touch()
    assert _can_build()
    compilers.clear()
    assert not _can_build()


@needs_onednn
def test_without_the_operators_the_network_stays_as_it_was(monkeypatch):
    network = place(fold(random_network(12, 1)), "cpu")
    backbones = network.backbone1, network.backbone2

    def no_such_operator(*_arguments: object) -> None:
        raise AttributeError("'_OpNamespace' 'mkldnn' object has no attribute")

    monkeypatch.setattr(FusedBackbone, "forward", no_such_operator)
    fuse(network)
    assert (network.backbone1, network.backbone2) == backbones


@needs_onednn
def test_operators_that_compute_anything_else_are_not_used(monkeypatch):
    network = place(fold(random_network(12, 1)), "cpu")
    backbones = network.backbone1, network.backbone2
    plain = FusedBackbone.forward
    monkeypatch.setattr(FusedBackbone, "forward", lambda self, x: plain(self, x) * 1.05)
    fuse(network)
    assert (network.backbone1, network.backbone2) == backbones


def test_normalisation_folds_into_the_component_network():
    torch.manual_seed(1)
    parser = BiSeNet(BiSeNetConfig()).eval()
    for module in parser.modules():
        if isinstance(module, nn.BatchNorm2d):
            for values in (module.running_mean, module.running_var, module.weight, module.bias):
                values.data = torch.rand_like(values) + 0.5
    picture = torch.rand(1, 3, 64, 96) * 2 - 1
    with torch.inference_mode():
        expected = parser(picture)
        got = fold_norms(parser)(picture)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in parser.modules())
    torch.testing.assert_close(got, expected, atol=1e-4 * float(expected.abs().max()), rtol=1e-4)
