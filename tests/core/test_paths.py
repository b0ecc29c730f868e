"""The ways to run CAGFace: one picture whatever the path, in pieces where memory is short."""

import logging
import re
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from cagface_core import checkpoint, paths
from cagface_core.consistency import resize
from cagface_core.errors import DeviceError
from cagface_core.fold import FoldedCAGFace, fold, halved
from cagface_core.paths import (
    ANY_CPU_PATH,
    FACTORS,
    PATHS,
    Place,
    TorchRunner,
    batch_sizes,
    cpu_paths,
    find_device,
    find_place,
)
from cagface_core.sparing import Sparing

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def network() -> FoldedCAGFace:
    return fold(checkpoint.load_sr(checkpoint.find_sr("pico", "clean"))[0])


@pytest.fixture(scope="module")
def block() -> Tensor:
    torch.manual_seed(0)
    return resize(torch.rand(2, 6, 16, 16) * 2 - 1, 64, 64).clamp(-1, 1)


def test_half_the_size_costs_less_and_is_the_whole_shrunk(network: FoldedCAGFace, block: Tensor):
    half = halved(network)
    with torch.inference_mode():
        expected = resize(network(block), 128, 128)
        got = half(block)
    inner = (..., slice(6, -6), slice(6, -6))
    torch.testing.assert_close(got[inner], expected[inner], atol=2e-5, rtol=0)
    assert (got - expected).abs().max() < 0.2  # at the border the features are continued further
    assert half.upsampler2.weight.numel() < 0.5 * network.upsampler2.weight.numel()
    assert half.stem1.weight.data_ptr() == network.stem1.weight.data_ptr()


@pytest.fixture
def asked_anew() -> Iterator[None]:
    """What GPUs can is found out in this test, and forgotten after it."""
    paths._computes.cache_clear()
    yield
    paths._computes.cache_clear()


@pytest.mark.parametrize("kind", ["cuda", "mps"])
@pytest.mark.usefixtures("asked_anew")
def test_a_gpu_that_cannot_compute_is_told_once_and_left_alone(
    kind: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    if getattr(torch, kind).is_available():
        pytest.skip("it computes")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: kind == "cuda")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: kind == "mps")
    assert [find_device("auto").type for _ in range(2)] == ["cpu", "cpu"]
    assert len(caplog.messages) == 1
    assert re.search("the GPU is not used (.+); computing on the processor", caplog.text)


@pytest.mark.usefixtures("asked_anew")
def test_an_apple_gpu_is_taken_where_it_makes_the_same_faces(monkeypatch: pytest.MonkeyPatch):
    """The processor stands in for it: what it is asked is computed for real."""
    wrong = 0.0

    class Elsewhere(TorchRunner):
        def __call__(self, block: Tensor, factor: int) -> Tensor:
            return super().__call__(block, factor) + (wrong if self.path == "mps" else 0)

    device = torch.device
    monkeypatch.setattr(paths, "TorchRunner", Elsewhere)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    with monkeypatch.context() as here:
        ones = torch.ones
        here.setattr(torch, "ones", lambda n, device: ones(n))
        here.setattr(torch, "device", lambda kind: device("cpu" if kind == "mps" else kind))
        assert paths._computes("mps")
        paths._computes.cache_clear()
        wrong = 0.1
        assert not paths._computes("mps")
    assert find_device("auto") == CPU  # as it was found
    monkeypatch.setattr(paths, "_computes", lambda _kind: True)
    assert find_device("auto").type == "mps"


@pytest.mark.parametrize("factor", FACTORS)
def test_apples_path_takes_and_gives_what_lies_with_the_processor(
    network: FoldedCAGFace, block: Tensor, factor: int
):
    expected = TorchRunner(network, Place("cpu-float32", CPU), torch.float32)(block, factor)
    runner = TorchRunner(network, Place("mps", CPU), torch.float32)
    assert (runner.path, runner.precision, runner.device) == ("mps", "float32", CPU)
    torch.testing.assert_close(runner(block, factor), expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("factor", FACTORS)
def test_bfloat16_is_close_to_float32(network: FoldedCAGFace, block: Tensor, factor: int):
    exact = TorchRunner(network, Place("cpu-float32", CPU), torch.float32)(block, factor)
    half = TorchRunner(network, Place("cpu-bfloat16", CPU), torch.bfloat16)(block, factor)
    assert exact.shape == half.shape == (2, 3, 64 * factor, 64 * factor)
    assert exact.dtype == half.dtype == torch.float32
    assert 10 * torch.log10(4 / (exact - half).square().mean()) > 50


def test_a_path_is_a_device_name_too():
    assert find_place("cpu-float32") == Place("cpu-float32", CPU)
    assert find_place("openvino-int8") == Place("openvino-int8", CPU)
    assert find_place("cpu").path == ANY_CPU_PATH
    assert {"cpu-float32"} <= set(cpu_paths({})) <= set(PATHS) - {"openvino-int8"}
    with pytest.raises(DeviceError, match=re.escape("a path may be named as well: cuda-graph")):
        find_device("cuda-grph")


def test_batches_are_powers_of_two():
    assert [batch_sizes(n) for n in (1, 3, 7, 8, 19)] == [[1], [2, 1], [4, 2, 1], [8], [8, 8, 2, 1]]


class Small(TorchRunner):
    """A runner whose memory holds so many pixels; a real network otherwise."""

    most_px = 0
    refused = 0

    def __call__(self, block: Tensor, factor: int) -> Tensor:
        if block.shape[0] * block.shape[2] * block.shape[3] > self.most_px:
            self.refused += 1
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return super().__call__(block, factor)


@pytest.mark.parametrize("factor", FACTORS)
def test_what_memory_does_not_hold_goes_in_pieces_and_is_counted(
    network: FoldedCAGFace, caplog: pytest.LogCaptureFixture, factor: int
):
    torch.manual_seed(1)
    block = resize(torch.rand(3, 6, 24, 24) * 2 - 1, 96, 96).clamp(-1, 1)
    inner = Small(network, Place("cpu-float32", CPU), torch.float32)
    inner.most_px = 3 * 96 * 96
    expected = inner(block, factor)
    inner.most_px = 96 * 96
    runner = Sparing(inner)
    with caplog.at_level(logging.WARNING):
        assert torch.allclose(runner(block, factor), expected, atol=1e-4)
        assert runner.counts == {"memory_batches": 2}
        refused = inner.refused
        runner(block, factor)
        assert inner.refused == refused  # what did not fit once is not tried again
        inner.most_px = 72 * 72
        tiled = runner(block[:1], factor)
    assert runner.counts == {"memory_batches": 4, "memory_tiles": 1}
    assert (tiled - expected[:1]).abs().mean() < 0.01
    assert len(caplog.records) == 2  # one of each kind
    inner.most_px = 0
    with pytest.raises(torch.OutOfMemoryError, match="choose --device cpu"):
        runner(block[:1], factor)
