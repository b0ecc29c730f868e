"""What only a CUDA GPU can show; all else of it is tested on the processor, in the other files."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from cagface_core import EnhancerConfig, FaceEnhancer, Frame, Outcome, checkpoint
from cagface_core.consistency import resize
from cagface_core.cuda_graph import Graphed, GraphPool
from cagface_core.device_steady import DeviceSteadier
from cagface_core.engine import Engine
from cagface_core.paths import BATCHES, FACTORS, GraphRunner
from cagface_core.types import Crop

pytestmark = pytest.mark.gpu


@pytest.fixture(scope="module")
def frames(demo_clip: Path) -> list[Frame]:
    with av.open(str(demo_clip)) as container:
        decoded = [f for f, _ in zip(container.decode(video=0), range(4), strict=False)]
    return [Frame(f.to_ndarray(format="rgb24"), f.pts, f.time_base) for f in decoded]


@pytest.fixture(scope="module")
def runner() -> GraphRunner:
    found = Engine(checkpoint.find_sr("nano", "clean"), "cuda-graph").graphs
    assert found is not None
    return found


@pytest.fixture
def enhancer() -> Iterator[FaceEnhancer]:
    with closing(FaceEnhancer(EnhancerConfig(preset="nano", device="cuda"))) as made:
        yield made


def block(seed: int, batch: int = 1, side: int = 96) -> torch.Tensor:
    torch.manual_seed(seed)
    coarse = torch.rand(batch, 6, side // 4, side // 4) * 2 - 1
    return resize(coarse, side, side).clamp(-1, 1).cuda()


@pytest.mark.parametrize("factor", FACTORS)
@pytest.mark.parametrize("batch", [*BATCHES, 7])
def test_the_graph_computes_what_single_operations_do(runner: GraphRunner, factor: int, batch: int):
    first, second = block(1, batch), block(2, batch)
    kept = runner(first, factor)
    runner(second, factor)  # must not overwrite what was given before
    torch.testing.assert_close(kept, runner.eager(first, factor), atol=4e-3, rtol=0)


def test_an_unknown_shape_says_what_to_do():
    pool = GraphPool(torch.device("cuda"))
    graphed = Graphed(lambda x: x * 2, pool)
    graphed.capture(torch.ones(2, device="cuda"))
    assert graphed(torch.full((2,), 3.0, device="cuda")).tolist() == [6.0, 6.0]
    with pytest.raises(ValueError, match=r"no CUDA graph .* call capture"):
        graphed(torch.ones(3, device="cuda"))


def test_threads_do_not_overwrite_each_other(runner: GraphRunner):
    blocks = [block(seed, 1 + seed % 2, (64, 96, 128)[seed % 3]) for seed in range(12)]
    expected = [runner.eager(b, 4) for b in blocks]
    torch.cuda.synchronize()

    def work(index: int) -> torch.Tensor:
        with torch.cuda.stream(torch.cuda.Stream()):
            result = runner(blocks[index % 12], 4)
            torch.cuda.current_stream().synchronize()
        return result

    with ThreadPoolExecutor(4) as threads:
        results = list(threads.map(work, range(96)))
    for index, result in enumerate(results):
        torch.testing.assert_close(result, expected[index % 12], atol=4e-3, rtol=0)


def test_the_whole_frame_is_what_the_processor_composes(
    enhancer: FaceEnhancer, frames: list[Frame]
):
    enhancer.warm_up(*frames[0].rgb.shape[:2])
    options = EnhancerConfig(preset="nano", device="cpu-float32", max_crop_px=256)
    with closing(FaceEnhancer(options)) as plain:
        states = plain.new_state(), enhancer.new_state()
        for frame in frames:
            expected, ours = plain.enhance(frame, states[0]), enhancer.enhance(frame, states[1])
            assert ours.outcomes == expected.outcomes == (Outcome.ENHANCED,)
            difference = np.abs(ours.rgb.astype(int) - expected.rgb)
            assert difference.max() <= 4
            assert difference.mean() < 0.5


def test_one_graph_serves_every_position(enhancer: FaceEnhancer, frames: list[Frame]):
    device_frame = enhancer.device_frame(enhancer.tuning)
    device_frame.capture(1)
    begun = device_frame.begin(frames[0].rgb)
    maps = enhancer.engine.parse([frames[0].rgb[:96, 60:156]])
    free = torch.cuda.memory_reserved()
    seen = set[float]()
    for x in range(0, 200, 25):
        crops, reaches = [Crop(x, 0, 96)], [(x, 0, 96)]
        canvas, passed = device_frame.finish(
            begun, [1], crops, reaches, maps, [1.0], DeviceSteadier()
        )
        assert passed.all()
        seen.add(float((canvas - begun.base).abs().mean()))
    assert len(seen) > 4
    assert torch.cuda.memory_reserved() - free < 2**28


def test_a_full_device_degrades_and_counts():
    engine = Engine(checkpoint.find_sr("small", "clean"), "cuda-eager")
    pictures = [np.full((256, 256, 3), 90 + i, np.uint8) for i in range(8)]
    maps = engine.parse(pictures)
    expected = engine.residual(pictures, maps, 4)
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    limit = torch.cuda.memory_allocated() + 256 * 2**20
    torch.cuda.set_per_process_memory_fraction(limit / total)
    try:
        got = engine.runner(torch.zeros(8, 6, 256, 256, device="cuda"), 4)
        assert torch.isfinite(got).all()
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert engine.counts["memory_batches"] > 0
    assert np.isfinite(expected).all()
