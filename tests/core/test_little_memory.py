"""A device whose memory is full: at the start, for a moment, and in the midst of a frame."""

import re
from collections.abc import Iterator
from contextlib import closing

import numpy as np
import pytest
import torch
from torch import Tensor

from cagface_core import (
    DeviceError,
    EnhancerConfig,
    FaceEnhancer,
    Frame,
    Outcome,
    attention_cache,
    engine,
    paths,
)
from cagface_core.bench.scene import KnownDetector, Scene, make_scene
from cagface_core.paths import find_device
from cagface_core.sparing import Sparing

FULL = "CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total capacity of 8 GiB"


def full(*_: object, **__: object) -> Tensor:
    raise torch.OutOfMemoryError(FULL)


@pytest.fixture(scope="module")
def scene() -> Scene:
    return make_scene(320, 240, 1, 60, 4)


@pytest.fixture
def asked_anew() -> Iterator[None]:
    """What GPUs can is found out in this test, and forgotten after it."""
    paths._computes.cache_clear()
    yield
    paths._computes.cache_clear()


def test_no_memory_for_the_networks_is_one_error(monkeypatch: pytest.MonkeyPatch, scene: Scene):
    monkeypatch.setattr(engine, "place", full)
    with pytest.raises(DeviceError, match=r"no memory left for the networks; .* --device cpu"):
        FaceEnhancer(EnhancerConfig(preset="pico", device="cpu-float32"), KnownDetector(scene))


def test_another_failure_is_not_taken_for_it(monkeypatch: pytest.MonkeyPatch, scene: Scene):
    def broken(*_: object) -> Tensor:
        raise RuntimeError("the operator is not there")

    monkeypatch.setattr(engine, "place", broken)
    with pytest.raises(RuntimeError, match="the operator is not there"):
        FaceEnhancer(EnhancerConfig(preset="pico", device="cpu-float32"), KnownDetector(scene))


@pytest.mark.usefixtures("asked_anew")
def test_a_gpu_that_others_fill_is_not_taken_unasked(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    ones, free = torch.ones, [100 << 20]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch, "ones", lambda n, device: ones(n))
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (free[0], 8 << 30))
    assert find_device("auto").type == "cpu"
    assert re.search("the GPU is not used .*only 100 MiB are left.*on the processor", caplog.text)
    paths._computes.cache_clear()
    free[0] = 4 << 30
    assert find_device("auto").type == "cuda"


class Filled:
    """A runner that says at times what it is told to say."""

    path = precision = "x"
    device = torch.device("cpu")
    says = ""
    calls = 0

    def __call__(self, block: Tensor, factor: int) -> Tensor:
        self.calls += 1
        if self.says:
            raise RuntimeError(self.says)
        return torch.zeros(len(block), 3, factor * block.shape[2], factor * block.shape[3])


@pytest.mark.parametrize(
    "words",
    [
        FULL,
        "GET was unable to find an engine to execute this computation",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes",
    ],
)
def test_want_of_memory_is_known_by_its_words_and_passes(words: str):
    runner = Filled()
    sparing = Sparing(runner)
    runner.says = words
    with pytest.raises(torch.OutOfMemoryError, match="choose --device cpu"):
        sparing(torch.zeros(2, 6, 96, 96), 4)
    assert sparing.counts["memory_batches"] == 1
    runner.says, runner.calls = "", 0
    assert sparing(torch.zeros(2, 6, 96, 96), 4).shape == (2, 3, 384, 384)
    assert runner.calls == 1


def test_other_failures_are_told_at_once():
    runner = Filled()
    runner.says = "CUDA error: an illegal memory access was encountered"
    with pytest.raises(RuntimeError, match="illegal"):
        Sparing(runner)(torch.zeros(2, 6, 96, 96), 4)
    assert runner.calls == 1


def test_heatmaps_that_cannot_be_moved_are_done_without(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, scene: Scene
):
    options = EnhancerConfig(preset="pico", device="cpu-float32")
    with closing(FaceEnhancer(options, KnownDetector(scene))) as enhancer:
        state = enhancer.new_state()
        enhancer.enhance(Frame(scene.frames[0], 0), state)
        monkeypatch.setattr(attention_cache, "_move", full)
        became = [enhancer.enhance(Frame(rgb, 33_333 * k), state) for k, rgb in _later(scene)]
    assert {outcome for one in became for outcome in one.outcomes} == {Outcome.ENHANCED}
    assert [m for m in caplog.messages if "components cannot be found" in m] == [caplog.messages[0]]


def _later(scene: Scene) -> Iterator[tuple[int, np.ndarray]]:
    yield from enumerate(scene.frames[1:], 1)
