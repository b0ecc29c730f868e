"""Fused convolutions compute what the network computes."""

from __future__ import annotations

import subprocess

import pytest
import torch
from torch import nn

from cagface_core.bisenet import BiSeNet, BiSeNetConfig
from cagface_core.fold import fold, halved, place
from cagface_core.fused import FusedBackbone, _can_build, fold_norms, fuse
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
    fuse(network)
    assert type(network.backbone1) is type(network.backbone2) is FusedBackbone


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
