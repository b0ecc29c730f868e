"""oneDNN graphs compute what the functions compute, or are not used."""

from __future__ import annotations

import platform
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor

from cagface_core import checkpoint, cpu_graph
from cagface_core.attention import component_maps
from cagface_core.bisenet import INPUT_PX
from cagface_core.cpu_graph import CpuGraphed
from cagface_core.fold import by_pixel, fold, halved, place, spread
from cagface_core.fused import fold_norms
from cagface_core.paths import CpuGraphRunner, Place, TorchRunner
from tests.core.test_fold import random_network

needs_graphs = pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() != "x86_64", reason="torch brings no oneDNN graph"
)
CPU = torch.device("cpu")


def _graphs(runner: CpuGraphRunner) -> list[CpuGraphed]:
    return [v for v in vars(runner).values() if isinstance(v, CpuGraphed)] + [
        v for held in vars(runner).values() if isinstance(held, dict) for v in held.values()
    ]


@needs_graphs
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("attention", ["paper", "none", "twice", "gate"])
def test_a_face_is_what_the_network_makes_of_it(attention: str, dtype: torch.dtype):
    network = fold(random_network(16, 3, attention))
    where = Place("cpu-float32", CPU)
    plain, faster = TorchRunner(network, where, dtype), CpuGraphRunner(network, where, dtype)
    block = torch.rand(3, network.config.in_channels, 64, 64) * 2 - 1
    before = block.clone()
    for factor in (2, 4):
        expected = plain(block, factor)
        assert expected.std() > 0.05
        for _ in range(2):
            got = faster(block, factor)
            assert got.dtype == torch.float32
            assert got.shape == expected.shape
            error = (got - expected).abs().max() / expected.abs().max()
            assert error < (0.02 if dtype == torch.bfloat16 else 1e-5)
    assert torch.equal(block, before)
    graphs = _graphs(faster)
    assert len(graphs) == 4
    for graphed in graphs:
        assert len(graphed._graphs) == 1  # pyright: ignore[reportPrivateUsage]
        assert None not in graphed._graphs.values()  # pyright: ignore[reportPrivateUsage]


def test_a_size_that_no_crop_has_runs_without_a_graph(monkeypatch: pytest.MonkeyPatch):
    network = fold(random_network(12, 1))
    where = Place("cpu-float32", CPU)
    runner = CpuGraphRunner(network, where, torch.float32)
    monkeypatch.setattr(cpu_graph, "_graph_of", lambda *_: pytest.fail("a graph was made"))
    block = torch.rand(1, 6, 64, 40) * 2 - 1
    assert torch.equal(runner(block, 4), runner.eager(block, 4))


@needs_graphs
def test_the_component_network_is_computed_as_it_is():
    parser = checkpoint.load_parser(checkpoint.WEIGHTS_DIR / "parser.safetensors")[0]
    parser = place(fold_norms(parser), CPU).requires_grad_(False)

    def maps(x: Tensor) -> Tensor:
        return component_maps(parser, x)

    graphed = CpuGraphed(maps)
    picture = torch.rand(1, 3, INPUT_PX, INPUT_PX, generator=torch.Generator().manual_seed(3))
    with torch.inference_mode():
        torch.testing.assert_close(graphed(picture), maps(picture), atol=1e-5, rtol=0)
    assert graphed.by_graph(picture)


@needs_graphs
def test_a_graph_that_oneDNN_computes_wrongly_is_not_used():
    """The long skip from a layer within the graph: oneDNN adds in place to what it brings."""
    network = place(fold(random_network(16, 2)), CPU).requires_grad_(False)

    def long_skip(block: Tensor) -> Tensor:
        return network.backbone1(network.stem1(block))

    block = (torch.rand(1, 6, 64, 64) * 2 - 1).to(memory_format=torch.channels_last)
    whole, split = CpuGraphed(long_skip), CpuGraphed(network.backbone1)
    with torch.inference_mode():
        expected = long_skip(block)
        torch.testing.assert_close(whole(block), expected, atol=1e-5, rtol=1e-5)
        features = network.stem1(block)
        torch.testing.assert_close(split(features), expected, atol=1e-5, rtol=1e-5)
    assert split.by_graph(features)


def _scaled(_made: object, example: tuple[Tensor, ...], **_: object) -> Callable[..., Tensor]:
    class Wrong:
        def __call__(self, x: Tensor) -> Tensor:
            return 1.05 * torch.relu(x)

        def graph_for(self, x: Tensor) -> str:
            return f"prim::oneDNNFusionGroup {self(x).shape}"

    assert example
    return Wrong()


def _writing(_made: object, example: tuple[Tensor, ...], **_: object) -> Callable[..., Tensor]:
    class Writing:
        def __call__(self, x: Tensor) -> Tensor:
            result = torch.relu(x)
            x.add_(1e-3)
            return result

        def graph_for(self, x: Tensor) -> str:
            return f"prim::oneDNNFusionGroup {x.shape}"

    assert example
    return Writing()


def _missing(*_arguments: object, **_: object) -> Callable[..., Tensor]:
    raise AttributeError("module 'torch.jit' has no attribute 'trace'")


@pytest.mark.parametrize("trace", [_scaled, _writing, _missing])
def test_without_a_graph_that_is_right_the_function_computes(
    trace: Callable[..., object], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(torch.jit, "trace", trace)
    monkeypatch.setattr(torch.jit, "freeze", lambda made: made)
    graphed = CpuGraphed(torch.relu)
    x = torch.tensor([[-1.0, 2.0, 3.0]])
    assert graphed(x).tolist() == graphed(x).tolist() == [[0, 2, 3]]
    assert x.tolist() == [[-1, 2, 3]]
    assert not graphed.by_graph(x)


@needs_graphs
@pytest.mark.parametrize("before", [False, True])
def test_torch_s_own_setting_is_as_it_was(before: bool):
    had = torch.jit.onednn_fusion_enabled()
    torch.jit.enable_onednn_fusion(before)
    try:
        network = place(fold(random_network(12, 1)), CPU).requires_grad_(False)
        features = torch.rand(1, 12, 8, 8).to(memory_format=torch.channels_last)
        graphed = CpuGraphed(network.backbone1)
        graphed(features)
        assert graphed.by_graph(features)
        assert torch.jit.onednn_fusion_enabled() is before
    finally:
        torch.jit.enable_onednn_fusion(had)


@needs_graphs
def test_threads_share_a_graph_and_other_numbers_of_threads_have_their_own():
    network = place(fold(random_network(16, 2)), CPU).requires_grad_(False)
    graphed = CpuGraphed(network.backbone1)
    inputs = [
        torch.rand(1, 16, 64, 64, generator=torch.Generator().manual_seed(k)).to(
            memory_format=torch.channels_last
        )
        for k in range(16)
    ]
    with torch.inference_mode():
        expected = [network.backbone1(x) for x in inputs]
    threads = torch.get_num_threads()
    made = graphed._graphs  # pyright: ignore[reportPrivateUsage]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(3):
            for got, wanted in zip(pool.map(graphed, inputs), expected, strict=True):
                torch.testing.assert_close(got, wanted, atol=1e-5, rtol=1e-5)
        assert len(made) == 1
        try:
            torch.set_num_threads(threads + 1)
            torch.testing.assert_close(graphed(inputs[0]), expected[0], atol=1e-5, rtol=1e-5)
        finally:
            torch.set_num_threads(threads)
    assert len(made) == 2


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("factor", [2, 4])
def test_pixels_in_their_order_are_the_picture(factor: int, dtype: torch.dtype):
    network = fold(random_network(12, 1))
    network = place((network if factor == 4 else halved(network)).to(dtype), CPU)
    before = network.upsampler2.weight.clone()
    ordered = by_pixel(network)
    block = torch.rand(2, 6, 9, 14).to(dtype).to(memory_format=torch.channels_last) * 2 - 1
    with torch.inference_mode():
        features1 = network.enter(block)
        _, features2 = network.cross(features1, block)
        picture = spread(ordered.leave(features1, features2), factor)
        expected = network(block)
    assert picture.dtype == torch.float32
    assert picture.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(picture, expected.float(), atol=1e-6, rtol=0.01)
    assert torch.equal(network.upsampler2.weight, before)
    shared = ordered.backbone2.tail.weight.data_ptr()
    assert shared == network.backbone2.tail.weight.data_ptr()
