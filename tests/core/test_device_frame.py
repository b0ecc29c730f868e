"""The frame composed on the device equals the one OpenCV composes; here both on the processor."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
import torch

from cagface_core import EnhancerConfig, FaceEnhancer, Frame, Outcome
from cagface_core.crop import cut as crop_of
from cagface_core.device_frame import DeviceFrame
from cagface_core.device_steady import DeviceSteadier, Seen, blur, mix
from cagface_core.paste import upscale_frame
from cagface_core.steady import Steadier
from cagface_core.types import I420, Crop, Enhanced, Image
from tests.core.moved import look_back
from tests.core.plane_pictures import exact_i420

CPU_EXACT = "cpu-float32"


@pytest.fixture(scope="module")
def frames(demo_clip: Path) -> list[Frame]:
    with av.open(str(demo_clip)) as container:
        decoded = [f for f, _ in zip(container.decode(video=0), range(4), strict=False)]
    return [Frame(f.to_ndarray(format="rgb24"), f.pts, f.time_base) for f in decoded]


def make(scale: int, weights: str = "webcam", device: str = CPU_EXACT) -> FaceEnhancer:
    return FaceEnhancer(EnhancerConfig(scale=scale, weights=weights, device=device))


def run(enhancer: FaceEnhancer, frames: list[Frame]) -> list[Enhanced]:
    state = enhancer.new_state()
    return [enhancer.enhance(frame, state) for frame in frames]


def compare(ours: Image, expected: Image) -> None:
    """Bicubic weights in 8 bit, and rounding at another place: one level, rarely two."""
    difference = np.abs(ours.astype(int) - expected)
    assert difference.max() <= 2
    assert (difference > 1).mean() < 1e-4
    assert difference.mean() < 0.3


@pytest.mark.parametrize(("scale", "weights"), [(1, "webcam"), (2, "webcam"), (4, "clean")])
def test_the_device_composes_what_opencv_does(frames: list[Frame], scale: int, weights: str):
    with closing(make(scale, weights)) as enhancer:
        expected = run(enhancer, frames)
        enhancer.on_device = True
        ours = run(enhancer, frames)
    for mine, theirs in zip(ours, expected, strict=True):
        assert mine.outcomes == theirs.outcomes == (Outcome.ENHANCED,)
        assert mine.faces == theirs.faces
        assert mine.counts == theirs.counts
        assert {"device", "download"} <= set(mine.timings_ms)
        compare(mine.rgb, theirs.rgb)


@pytest.mark.parametrize("on_device", [True, False])
@pytest.mark.parametrize("scale", [1, 2, 4])
def test_frames_come_in_planes_where_they_may(frames: list[Frame], scale: int, on_device: bool):
    """Converted, they are what comes in RGB, but for rounding and, of colour, its finest detail."""
    odd = [Frame(frame.rgb[:-1], frame.pts, frame.time_base) for frame in frames[:1]]
    with closing(make(scale)) as enhancer:
        expected = run(enhancer, frames)
        enhancer.on_device = on_device
        enhancer.tuning = replace(enhancer.tuning, planes=True)
        ours, (other,) = run(enhancer, frames), run(enhancer, odd)
    in_planes = on_device or scale > 1
    assert (other.planes is None) == (not in_planes or scale == 1)
    for mine, theirs in zip(ours, expected, strict=True):
        assert (mine.planes is not None) == in_planes
        assert mine.outcomes == theirs.outcomes == (Outcome.ENHANCED,)
        if mine.planes is None:
            assert np.array_equal(mine.rgb, theirs.rgb)
            continue
        assert (mine.planes.layout, mine.rgb.size) == (I420, 0)
        # On the processor brightness and colour are enlarged without RGB's bounds.
        most, mean = (2, 0.27) if on_device else (10, 0.4)
        for plane, exact in zip(mine.planes.planes, exact_i420(theirs.rgb), strict=True):
            assert np.abs(plane - exact).max() < most
            assert np.abs(plane - exact).mean() < mean


@pytest.fixture(scope="module")
def enhancer() -> Iterator[FaceEnhancer]:
    with closing(make(2)) as made:
        yield made


@pytest.mark.parametrize(
    "crops",
    [
        [Crop(60, 0, 96), Crop(100, 30, 64)],  # overlapping, of two buckets, one at the border
        [Crop(10, -8, 256), Crop(200, 100, 64), Crop(20, 150, 64)],  # beyond the frame
    ],
)
def test_overlapping_and_overhanging_faces(
    enhancer: FaceEnhancer, frames: list[Frame], crops: list[Crop]
):
    from cagface_core.crop import cut
    from cagface_core.paste import add_to_rgb, feather, find_changes, upscale_frame

    rgb = frames[0].rgb
    engine, device_frame = enhancer.engine, enhancer.device_frame(enhancer.tuning)
    pictures = [cut(rgb, crop) for crop in crops]
    maps = engine.parse(pictures)
    expected = upscale_frame(rgb, 2)
    residuals = [
        engine.residual([picture], [found], 2, enhancer.tuning.max_crop_px)[0]
        for picture, found in zip(pictures, maps, strict=True)
    ]
    masks = [feather(crop, (crop.x, crop.y, crop.size), *rgb.shape[:2], 2) for crop in crops]
    for change in find_changes(crops, residuals, masks, *rgb.shape[:2], 2):
        add_to_rgb(expected, change)
    begun = device_frame.begin(frames[0])
    reaches = [(crop.x, crop.y, crop.size) for crop in crops]
    ones = [1.0] * len(crops)
    steadier, ids = DeviceSteadier(), range(len(crops))
    moved = look_back(steadier, ids, crops, pictures)
    passed = device_frame.finish(begun, ids, crops, moved, pictures, reaches, maps, ones, steadier)
    assert passed.all()
    compare(begun.canvas.fetch()(), expected)


def test_a_guarded_face_is_plain_and_forgotten(
    enhancer: FaceEnhancer, frames: list[Frame], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(enhancer, "on_device", True)
    added = enhancer.engine.added

    def wild(*arguments: object) -> torch.Tensor:
        return added(*arguments) * float("nan")

    state = enhancer.new_state()
    assert enhancer.enhance(frames[0], state).outcomes == (Outcome.ENHANCED,)
    monkeypatch.setattr(enhancer.engine, "added", wild)
    begun = enhancer.begin(frames[0], state)
    monkeypatch.setattr(enhancer.engine, "added", added)
    begun_next = enhancer.begin(frames[1], state)  # before anybody knows of the guard
    guarded = begun()  # what was shown a frame ago is not shown again
    assert guarded.outcomes == (Outcome.GUARDED,)
    plain = cv2.resize(frames[0].rgb, None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC)
    compare(guarded.rgb, plain)
    following = begun_next()
    assert following.outcomes == (Outcome.ENHANCED,)
    anew = enhancer.new_state()  # nor is what the guard refused
    enhancer.enhance(frames[0], anew)
    anew.device_steadier.clear()
    compare(following.rgb, enhancer.enhance(frames[1], anew).rgb)


def test_a_device_that_fails_leaves_the_frame_to_the_processor(
    enhancer: FaceEnhancer, frames: list[Frame], monkeypatch: pytest.MonkeyPatch
):
    def full(*_: object, **__: object) -> torch.Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")

    expected = enhancer.enhance(frames[0], enhancer.new_state())
    monkeypatch.setattr(enhancer, "on_device", True)
    monkeypatch.setattr(DeviceFrame, "finish", full)
    result = enhancer.enhance(frames[0], enhancer.new_state())
    assert result.outcomes == (Outcome.ENHANCED,)
    assert np.array_equal(result.rgb, expected.rgb)
    monkeypatch.setattr(enhancer.engine, "added", full)
    result = enhancer.enhance(frames[0], enhancer.new_state())
    assert result.outcomes == (Outcome.FAILED,)


@pytest.mark.parametrize("scale", [1, 2])
def test_a_face_is_steadied_on_the_device_as_on_the_processor(scale: int):
    """It stays, moves, changes its bucket both ways, and is found elsewhere."""
    crops = [
        Crop(30, 20, 64), Crop(30, 20, 64), Crop(33, 15, 64), Crop(20, 10, 96), Crop(21, 8, 96),
        Crop(40, 30, 64), Crop(103, 30, 64), Crop(103, 30, 64),
    ]  # fmt: skip
    rng = np.random.default_rng(5)
    still = cv2.GaussianBlur(rng.integers(0, 256, (140, 180, 3), np.uint8), (0, 0), 4)
    here, there = Steadier(), DeviceSteadier()
    mixed = moved = 0
    for number, crop in enumerate(crops):
        if number in (1, 3, 7):  # all moves
            still = np.roll(still, (1, 3), (0, 1))
        noisy = cv2.add(still, rng.normal(0, 2, still.shape), dtype=cv2.CV_8U)
        rgb = np.asarray(noisy, np.uint8)
        rgb[:, 90:] = rgb[:, 90:] // 2 + rng.integers(0, 60)  # a part that is not still
        picture = crop_of(rgb, crop)
        side = scale * crop.size
        noise = rng.normal(0, 12, (side, side, 3)).astype(np.float32)
        residual = np.asarray(cv2.GaussianBlur(noise, (0, 0), 1), np.float32)
        plain = upscale_frame(picture, scale)
        expected = here.steady(here.recall(1, crop, picture, plain), residual)
        pixels = torch.from_numpy(picture).permute(2, 0, 1)[None].float()
        base = torch.from_numpy(plain).permute(2, 0, 1)[None].float()
        enhanced = base + torch.from_numpy(residual).permute(2, 0, 1)[None]
        (looked,) = look_back(there, [1], [crop], [picture])
        last, moves = there.recall(1, crop, looked, scale, pixels.device)
        moved += int(moves[3])
        blurred, numbers = blur(pixels), torch.from_numpy(moves)[None]
        steadied = mix(enhanced, blurred, last.enhanced, last.blurred, numbers)
        there.keep(1, Seen(crop, looked.thumb, blurred, steadied))
        got = (steadied - base)[0].permute(1, 2, 0).numpy()
        mixed += bool(np.abs(expected - residual).max() > 3)
        # OpenCV's luminance is rounded to whole levels, so the weights differ a little.
        assert np.abs(got - expected).max() < 2, crop
        assert np.abs(got - expected).mean() < 0.1, crop
    assert mixed >= 5
    assert moved >= 5


def test_faces_of_one_bucket_are_computed_together(
    enhancer: FaceEnhancer, frames: list[Frame], monkeypatch: pytest.MonkeyPatch
):
    """As a graph would have it: three faces are two and one, and come out as one by one."""

    class Shapes:
        """In the place of graphs: computes the same, and notes the batches."""

        def __init__(self) -> None:
            self.seen = list[tuple[int, ...]]()

        def captured(self, inputs: Sequence[torch.Tensor]) -> bool:
            self.seen.append(tuple(inputs[0].shape))
            return True

        def __call__(self, *inputs: torch.Tensor) -> object:
            return compute(*inputs)

    device_frame = enhancer.device_frame(enhancer.tuning)
    compute = partial(device_frame._compute, run=enhancer.engine.eager)  # pyright: ignore[reportPrivateUsage]
    crops = [Crop(60, 0, 96), Crop(100, 30, 64), Crop(10, 150, 64), Crop(200, 40, 64)]
    pictures = [crop_of(frames[0].rgb, crop) for crop in crops]
    maps = enhancer.engine.parse(pictures)

    def canvas(steadier: DeviceSteadier) -> np.ndarray:
        begun = device_frame.begin(frames[0])
        reaches = [(crop.x, crop.y, crop.size) for crop in crops]
        strengths = [1.0, 0.5, 1.0, 1.0]
        ids = range(4)
        moved = look_back(steadier, ids, crops, pictures)
        passed = device_frame.finish(
            begun, ids, crops, moved, pictures, reaches, maps, strengths, steadier
        )
        assert passed.tolist() == [1] * 4
        return begun.canvas.fetch()()

    graphs = Shapes()
    monkeypatch.setattr(device_frame, "_graph", graphs)
    together = [canvas(steadier) for steadier in [DeviceSteadier()] * 2]
    assert graphs.seen == 2 * [(2, 3, 64, 64), (1, 3, 64, 64), (1, 3, 96, 96)]
    monkeypatch.setattr(device_frame, "_graph", None)
    monkeypatch.setattr("cagface_core.device_frame.batch_sizes", lambda count: [1] * count)
    alone = [canvas(steadier) for steadier in [DeviceSteadier()] * 2]
    for ours, expected in zip(together, alone, strict=True):
        compare(ours, expected)
        assert (ours != expected).mean() < 0.01
    assert not np.array_equal(together[0], upscale_frame(frames[0].rgb, 2))


def test_what_has_no_graph_yet_gets_one_as_it_comes(
    enhancer: FaceEnhancer, frames: list[Frame], monkeypatch: pytest.MonkeyPatch
):
    """In a file at once; live beside, and until then they are computed without."""

    class Graphs(dict[tuple[int, ...], None]):
        """In the place of graphs: computes the same, and notes for what."""

        used = 0

        def captured(self, inputs: Sequence[torch.Tensor]) -> bool:
            return tuple(inputs[0].shape) in self

        def refused(self, inputs: Sequence[torch.Tensor]) -> bool:
            return inputs[0].shape[-1] == 704

        def try_capture(self, *inputs: torch.Tensor, benchmark: bool = True) -> bool:
            assert benchmark is (beside is None)  # or frames beside would try algorithms too
            self[tuple(inputs[0].shape)] = None
            return True

        def __call__(self, *inputs: torch.Tensor) -> object:
            self.used += 1
            return compute(*inputs)

    def never(*_: object) -> object:
        pytest.fail("this one may capture something itself, in the frame")

    class Later(ThreadPoolExecutor):
        """Does it when it is asked to."""

        def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
            self.work, self.future = partial(fn, *args, **kwargs), Future[Any]()
            return self.future

        def do(self) -> None:
            self.future.set_result(self.work())

    device_frame = enhancer.device_frame(enhancer.tuning)
    engine = enhancer.engine
    compute = partial(device_frame._compute, run=engine.eager)  # pyright: ignore[reportPrivateUsage]
    monkeypatch.setattr(engine, "runner", never)
    beside: Later | None = None
    room = [True]
    monkeypatch.setattr("cagface_core.device_frame.has_room", lambda _device, _bytes: room[0])
    monkeypatch.setattr(device_frame, "limit_px", 64)

    def show(*sides: int) -> None:
        crops = [Crop(0, 0, side) for side in sides]
        pictures = [crop_of(frames[0].rgb, crop) for crop in crops]
        maps = [enhancer.engine.no_maps] * len(crops)
        reaches = [(0, 0, side) for side in sides]
        begun, steadier, ids = device_frame.begin(frames[0]), DeviceSteadier(), range(len(sides))
        moved = look_back(steadier, ids, crops, pictures)
        ones = [1.0] * len(sides)
        device_frame.finish(begun, ids, crops, moved, pictures, reaches, maps, ones, steadier)

    def use(beside: Later | None) -> tuple[Graphs, Graphs]:
        small, large = Graphs(), Graphs()
        monkeypatch.setattr(device_frame, "_graph", small)
        monkeypatch.setattr(device_frame, "_large", large)
        monkeypatch.setattr(device_frame, "_beside", beside)
        return small, large

    small, large = use(None)
    show(320, 320, 96)
    assert (list(small), small.used) == ([(1, 3, 96, 96)], 1)
    assert (list(large), large.used) == ([(1, 3, 320, 320)], 2)
    show(1088)  # twice that is beyond what pays
    show(704)  # for which memory was wanting once
    room[0] = False
    show(384)
    assert list(large) == [(1, 3, 320, 320)]
    room[0] = True
    for side in (384, 448, 512, 576):
        show(side)
    assert [shape[-1] for shape in large] == [320, 384, 448, 512]

    beside = Later()
    small, large = use(beside)
    show(320)
    show(384)  # one at a time
    assert (list(large), large.used) == ([], 0)
    beside.do()
    show(320)
    assert ([shape[-1] for shape in large], large.used) == ([320], 1)
    show(64)
    show(384)
    beside.do()
    show(384)
    show(64, 320)  # not while its memory is captured into; the other's is its own
    assert (large.used, small.used) == (1, 1)
    beside.do()
    show(384)
    assert ([shape[-1] for shape in large], large.used) == ([320, 384], 2)
    show(96)  # the governor has changed something: not captured before the first frame
    assert small.used == 1
    beside.do()
    show(96)
    assert ([shape[-1] for shape in small], small.used) == ([64, 96], 2)
