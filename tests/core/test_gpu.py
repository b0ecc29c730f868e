"""What only a CUDA GPU can show; all else of it is tested on the processor, in the other files."""

import importlib.util
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from typing import Literal

import numpy as np
import pytest
import torch

from cagface_core import Enhanced, EnhancerConfig, FaceEnhancer, Frame, Outcome, checkpoint
from cagface_core.bench.scene import KnownDetector, Scene, make_scene
from cagface_core.cagface import CAGFaceConfig
from cagface_core.consistency import resize
from cagface_core.crop import cut
from cagface_core.cuda_graph import Graphed, GraphPool
from cagface_core.device_steady import DeviceSteadier
from cagface_core.engine import Engine
from cagface_core.fold import FoldedCAGFace, fold, place
from cagface_core.fused import CudaBackbone, TritonBackbone, _can_build, fuse
from cagface_core.paths import BATCHES, FACTORS, GraphRunner
from cagface_core.types import I420, Crop, PlaneLayout, Planes
from tests.core.moved import look_back
from tests.core.plane_pictures import exact_i420, ycc

pytestmark = pytest.mark.gpu


@pytest.fixture(scope="module")
def scene() -> Scene:
    return make_scene(320, 240, 1, 60, 4)


@pytest.fixture(scope="module")
def frames(scene: Scene) -> list[Frame]:
    return [Frame(rgb, round(i * 1_000_000 / 30)) for i, rgb in enumerate(scene.frames)]


@pytest.fixture(scope="module")
def runner() -> GraphRunner:
    found = Engine(checkpoint.find_sr("nano", "clean"), "cuda-graph").graphs
    assert found is not None
    return found


@pytest.fixture
def enhancer(scene: Scene) -> Iterator[FaceEnhancer]:
    config = EnhancerConfig(preset="nano", device="cuda")
    with closing(FaceEnhancer(config, KnownDetector(scene))) as made:
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


@pytest.mark.parametrize("features", [16, 24, 32, 64, 128, 256])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_fused_kernels_are_used_and_compute_what_the_network_does(
    dtype: torch.dtype, features: int, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("cagface_core.fused._FASTEST", {})
    torch.manual_seed(0)
    network = place(FoldedCAGFace(CAGFaceConfig(features, 2)).to(dtype).eval(), "cuda")
    faster = place(fold(network), "cuda")
    fuse(faster)
    capable = torch.cuda.get_device_capability() >= (8, 0) and _can_build()
    found = capable and importlib.util.find_spec("triton") is not None
    by_triton = found and dtype != torch.float32 and features != 24
    for backbone in (faster.backbone1, faster.backbone2):
        assert type(backbone) is (TritonBackbone if by_triton else CudaBackbone)
    for shape in ((1, 64), (2, 64), (1, 96), (8, 128), (1, 200), (1, 256)):
        x = block(3, *shape).to(dtype).contiguous(memory_format=torch.channels_last)
        with torch.inference_mode():
            expected = network(x).float()
            made = [faster(x)]
            with monkeypatch.context() as within:
                within.setattr("cagface_core.fused.makes_graph", lambda: True)
                made.append(faster(x))
                for tile in getattr(faster.backbone1, "tiles", ()):
                    within.setitem(faster.backbone1.fastest, shape[0] * shape[1] ** 2, tile)
                    made.append(faster(x))
        assert expected.std() > 0.02
        for got in made:
            assert (got.float() - expected).abs().max() < 0.02 * expected.abs().max()
    if by_triton:
        assert set(faster.backbone1.fastest) >= {64 * 64, 2 * 64 * 64, 96 * 96, 256 * 256}


def test_the_engine_says_why_its_convolutions_are_not_the_fastest(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("cagface_core.fused._can_build", lambda: False)
    description = Engine(checkpoint.find_sr("pico", "clean"), "cuda-graph").description
    assert "without our own convolutions: " in description
    assert "Triton" in description or "triton" in description


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


def test_the_networks_compute_what_the_processor_does(frames: list[Frame]):
    face = frames[0].rgb[72:168, 112:208]
    weights = checkpoint.find_sr("nano", "clean")
    cpu, gpu = Engine(weights, "cpu-float32"), Engine(weights, "cuda")
    a = cpu.residual([face], cpu.parse([face]), 2)
    b = gpu.residual([face], gpu.parse([face]), 2)
    assert np.abs(a).mean() > 0.5
    assert np.abs(a - b).max() < 1.0


def test_the_whole_frame_is_what_the_processor_composes(
    enhancer: FaceEnhancer, scene: Scene, frames: list[Frame]
):
    enhancer.warm_up(*frames[0].rgb.shape[:2])
    options = EnhancerConfig(preset="nano", device="cpu-float32", max_crop_px=256)
    with closing(FaceEnhancer(options, KnownDetector(scene))) as plain:
        states = plain.new_state(), enhancer.new_state()
        for frame in frames:
            expected, ours = plain.enhance(frame, states[0]), enhancer.enhance(frame, states[1])
            assert ours.outcomes == expected.outcomes == (Outcome.ENHANCED,)
            difference = np.abs(ours.rgb.astype(int) - expected.rgb)
            assert difference.max() <= 4
            assert difference.mean() < 0.5


def film(frames: list[Frame], layout: PlaneLayout) -> list[Frame]:
    """The frames as a file would hold them; where its chroma lies is no matter here."""
    across, down = layout.chroma_px
    codes = [np.rint(ycc(f.rgb.astype(float), layout)) for f in frames]
    as_held = np.uint8 if layout.bits == 8 else np.uint16
    return [
        replace(
            f, planes=Planes((c[..., 0], c[::down, ::across, 1], c[::down, ::across, 2]), layout)
        )
        for f, c in zip(frames, (c.clip(0, None).astype(as_held) for c in codes), strict=True)
    ]


@pytest.mark.parametrize("bits", [8, 10])
@pytest.mark.parametrize("scale", [1, 2])
def test_a_film_is_composed_in_planes_as_on_the_processor(
    scene: Scene, frames: list[Frame], bits: int, scale: int
):
    """Also where its frames are begun ahead."""
    options = EnhancerConfig(preset="nano", device="cpu-float32", mode="file", scale=scale)
    there = replace(options, device="cuda")
    shown = film(frames, PlaneLayout(bits=bits))
    with (
        closing(FaceEnhancer(options, KnownDetector(scene))) as plain,
        closing(FaceEnhancer(there, KnownDetector(scene))) as enhancer,
    ):
        state = plain.new_state()
        expected = [plain.enhance(frame, state) for frame in shown]
        state = enhancer.new_state()
        ours = [enhancer.enhance(frame, state) for frame in shown]
        state = enhancer.new_state()
        begun = [enhancer.begin(frame, state) for frame in shown]
        ahead = [finish() for finish in begun]
    unit = ((1 << bits) - 1) / 255
    for wanted, one, other in zip(expected, ours, ahead, strict=True):
        assert one.outcomes == other.outcomes == wanted.outcomes == (Outcome.ENHANCED,)
        assert "device" in one.timings_ms
        assert one.planes is not None
        assert other.planes is not None
        assert wanted.planes is not None
        for a, b, c in zip(
            one.planes.planes, other.planes.planes, wanted.planes.planes, strict=True
        ):
            assert np.abs(a.astype(float) - c).max() <= 4 * unit
            assert np.abs(a.astype(float) - c).mean() < 0.5 * unit
            assert np.abs(a.astype(float) - b).max() <= unit


def test_a_call_s_frames_come_back_as_i420(enhancer: FaceEnhancer, frames: list[Frame]):
    made: list[list[Enhanced]] = []
    for planes in (False, True):
        tuning, state = replace(enhancer.tuning, planes=planes), enhancer.new_state()
        made.append([enhancer.enhance(frame, state, tuning) for frame in frames])
    for rgb, ours in zip(*made, strict=True):
        assert ours.planes is not None
        assert ours.planes.layout == I420
        assert ours.outcomes == rgb.outcomes == (Outcome.ENHANCED,)
        for plane, exact in zip(ours.planes.planes, exact_i420(rgb.rgb), strict=True):
            assert np.abs(plane - exact).max() < 3
            assert np.abs(plane - exact).mean() < 0.5


def test_one_graph_serves_every_position(enhancer: FaceEnhancer, frames: list[Frame]):
    """Of a face that moves, with what is remembered of it, as without graphs."""
    device_frame = enhancer.device_frame(enhancer.tuning)
    device_frame.capture(1)
    graph = device_frame._graph  # pyright: ignore[reportPrivateUsage]
    assert graph is not None
    captured = len(graph._graphs)  # pyright: ignore[reportPrivateUsage]
    maps = enhancer.engine.parse([frames[0].rgb[72:168, 112:208]])
    free = torch.cuda.memory_reserved()

    def canvases() -> list[np.ndarray]:
        steadier = DeviceSteadier()
        made: list[np.ndarray] = []
        for x in (0, 1, 1, 4, *range(25, 200, 25)):
            crops, reaches = [Crop(x, 0, 96)], [(x, 0, 96)]
            pictures = [cut(frames[0].rgb, crops[0])]
            begun = device_frame.begin(frames[0])
            moved = look_back(steadier, [1], crops, pictures)
            passed = device_frame.finish(
                begun, [1], crops, moved, pictures, reaches, maps, [1.0], steadier
            )
            assert passed.all()
            picture = begun.canvas.fetch()()
            assert isinstance(picture, np.ndarray)
            made.append(picture.astype(np.float32))
        return made

    by_graph = canvases()
    plain = by_graph[-1]
    assert len({float(np.abs(canvas - plain).mean()) for canvas in by_graph}) > 6
    assert len(graph._graphs) == captured  # pyright: ignore[reportPrivateUsage]
    assert torch.cuda.memory_reserved() - free < 2**28
    device_frame._graph = None  # pyright: ignore[reportPrivateUsage]
    for ours, expected in zip(by_graph, canvases(), strict=True):
        assert np.abs(ours - expected).max() <= 1


@pytest.mark.parametrize("mode", ["live", "file"])
def test_large_faces_have_graphs_too_which_no_live_frame_waits_for(mode: Literal["live", "file"]):
    scene = make_scene(1280, 720, 1, 300, 60)
    frames = [Frame(rgb, round(i * 1_000_000 / 30)) for i, rgb in enumerate(scene.frames)]
    config = EnhancerConfig(preset="nano", device="cuda", mode=mode, max_crop_px=256)
    made: dict[bool, list[Enhanced]] = {}
    for captures in (True, False):
        with closing(FaceEnhancer(config, KnownDetector(scene))) as enhancer:
            enhancer.warm_up(720, 1280)
            device_frame = enhancer.device_frame(enhancer.tuning)
            large = device_frame._large  # pyright: ignore[reportPrivateUsage]
            assert large is not None
            assert len(large) == 0
            if not captures:
                device_frame._large = None  # pyright: ignore[reportPrivateUsage]
            state = enhancer.new_state()
            made[captures] = [enhancer.enhance(frame, state) for frame in frames]
            enhancer.close()
            assert len(large) == captures
            graphs = enhancer.engine.graphs
            assert graphs is not None
            assert not any(len(by_factor) for by_factor in graphs.graphs.values())
    for ours, expected in zip(made[True], made[False], strict=True):
        assert ours.outcomes == expected.outcomes == (Outcome.ENHANCED,)
        difference = np.abs(ours.rgb.astype(int) - expected.rgb)
        assert difference.max() <= 4
        assert difference.mean() < 0.1


def test_device_memory_is_flat_over_ten_thousand_frames(enhancer: FaceEnhancer, scene: Scene):
    state = enhancer.new_state()
    held: list[tuple[int, int]] = []
    for index in range(10_000):
        rgb = scene.frames[index % len(scene.frames)]
        outcomes = enhancer.enhance(Frame(rgb, round(index * 1_000_000 / 30)), state).outcomes
        assert outcomes == (Outcome.ENHANCED,)
        if index in (999, 9_999):
            torch.cuda.synchronize()
            held.append((torch.cuda.memory_allocated(), torch.cuda.memory_reserved()))
    (used, reserved), (used_later, reserved_later) = held
    assert used_later - used < 2**20
    assert reserved_later == reserved


def test_a_full_device_degrades_and_counts():
    engine = Engine(checkpoint.find_sr("small", "clean"), "cuda-eager")
    pictures = [np.full((256, 256, 3), 90 + i, np.uint8) for i in range(8)]
    maps = engine.parse(pictures)
    expected = engine.residual(pictures, maps, 4)
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    limit = torch.cuda.memory_reserved() + 320 * 2**20  # graphs of other tests hold some of it
    torch.cuda.set_per_process_memory_fraction(limit / total)
    try:
        got = engine.runner(torch.zeros(8, 6, 256, 256, device="cuda"), 4)
        assert np.isfinite(got.cpu().numpy()).all()  # there, for there is no memory left here
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert engine.counts["memory_batches"] > 0
    assert np.isfinite(expected).all()
