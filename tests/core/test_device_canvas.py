"""A film's frames composed on the device are those composed in planes on the processor."""

from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from cagface_core import Enhanced, EnhancerConfig, FaceEnhancer, Foreseen, Frame, Outcome
from cagface_core.device_canvas import PlanesCanvas, RgbCanvas
from cagface_core.device_frame import DeviceFrame
from cagface_core.planes import add_to_planes, standard, upscale_planes
from cagface_core.types import I420, Change, PlaneLayout, Planes
from realtime.video_in import VideoSource
from tests.core.plane_pictures import LAYOUTS, TURNED, drawn, exact_i420

HERE = torch.device("cpu")
ALL = LAYOUTS | TURNED
SHOTS = (True, False, False, True, False)
"""Whether each frame begins a shot."""


def worst(ours: Planes, expected: Planes) -> float:
    """The largest difference, in levels of 8 bits; deeper ones count in full."""
    assert ours.layout == expected.layout
    found = 0.0
    for mine, theirs in zip(ours.planes, expected.planes, strict=True):
        assert mine.shape == theirs.shape
        assert mine.dtype == theirs.dtype
        found = max(found, float(np.abs(mine.astype(float) - theirs).max()))
    return found * 255 / ((1 << ours.layout.bits) - 1)


def mean(ours: Planes, expected: Planes) -> float:
    """The mean difference of the first planes, in levels of 8 bits."""
    difference = np.abs(ours.planes[0].astype(float) - expected.planes[0]).mean()
    return float(difference) * 255 / ((1 << ours.layout.bits) - 1)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("scale", [1, 2, 4])
@pytest.mark.parametrize("size", [(128, 96), (127, 95)])
def test_a_picture_is_enlarged_as_on_the_processor(name: str, scale: int, size: tuple[int, int]):
    picture = drawn(*size, ALL[name])
    ours = PlanesCanvas.upscale(picture, scale, HERE).fetch()()
    expected = upscale_planes(picture, scale)
    if scale == 1 and name in LAYOUTS:
        assert worst(ours, expected) == 0
    else:  # OpenCV places samples of turned chroma to 1/32 of a pixel
        assert worst(ours, expected) <= (1 if name in LAYOUTS else 2)


@pytest.mark.parametrize("scale", [1, 2, 4])
def test_rgb_comes_back_as_i420(scale: int):
    """Of noise, in which every code value of both ends comes; by ITU-R BT.601's own words."""
    pixels = np.random.default_rng(0).integers(0, 256, (48, 62, 3), np.uint8)
    pixels[:4], pixels[4:8] = 0, 255
    canvas = RgbCanvas.upscale(torch.from_numpy(pixels), scale, as_planes=True)
    canvas.add(2, 6, torch.full((3, 8, 8), 9.0))
    ours = canvas.fetch()()
    rgb = canvas.rgb.permute(1, 2, 0).numpy()
    assert isinstance(ours, Planes)
    assert ours.layout == I420
    for plane, exact in zip(ours.planes, exact_i420(rgb), strict=True):
        assert plane.dtype == np.uint8
        assert np.abs(plane - exact).max() < 0.501
    assert (ours.planes[0].min(), ours.planes[0].max()) == (16, 235)


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize("place", [(20, 14), (21, 13), (63, 47), (0, 0)])
def test_a_face_is_added_as_on_the_processor(name: str, place: tuple[int, int]):
    """One that is bright and hard at its edges; up to the frame's corner, and odd in size."""
    picture = drawn(128, 96, LAYOUTS[name])
    x, y = place
    rng = np.random.default_rng(3)
    levels = rng.uniform(-90, 200, (49, 65, 3)).astype(np.float32)
    expected = upscale_planes(picture, 1)
    add_to_planes(expected, Change(x, y, levels))
    canvas = PlanesCanvas.upscale(picture, 1, HERE)
    canvas.add(x, y, torch.from_numpy(levels).permute(2, 0, 1))
    unit = 255 / ((1 << picture.layout.bits) - 1)
    assert worst(canvas.fetch()(), expected) <= unit
    assert worst(canvas.fetch()(), upscale_planes(picture, 1)) > 60


def test_the_last_code_values_are_not_lost():
    """Those of 16 bits that int16 has no name for."""
    layout = PlaneLayout("grey", 16, False, (1, 1), (0, 0), full_range=True)
    plane = np.array([[0, 1, 32767, 32768, 40000, 65535]] * 2, np.uint16)
    canvas = PlanesCanvas.upscale(Planes((plane,), layout), 1, HERE)
    assert np.array_equal(canvas.fetch()().planes[0], plane)


def film(clip: Path, layout: PlaneLayout | None = None) -> list[Frame]:
    """The first frames of a clip as a file gives them, or drawn anew in another layout."""
    with closing(VideoSource(clip, planes=True)) as source:
        frames = [frame for frame, _ in zip(source.frames(), SHOTS, strict=False)]
    if layout is None:
        return frames
    return [replace(frame, planes=in_layout(frame, layout)) for frame in frames]


def in_layout(frame: Frame, layout: PlaneLayout) -> Planes:
    """A frame's RGB in a full-range layout of green, blue and red."""
    unit = ((1 << layout.bits) - 1) / 255
    planes = (np.rint(frame.rgb[..., c] * unit).astype(np.uint16) for c in (1, 2, 0))
    return Planes(tuple(planes), layout)


def made(enhancer: FaceEnhancer, frames: list[Frame]) -> list[Enhanced]:
    state = enhancer.new_state()
    return [enhancer.enhance(frame, state) for frame in frames]


@pytest.mark.parametrize("scale", [1, 2])
@pytest.mark.parametrize(
    "layout", [None, PlaneLayout("gbr", 12, False, (1, 1), (0, 0), full_range=True)]
)
def test_a_film_is_composed_as_on_the_processor(
    demo_clip: Path, layout: PlaneLayout | None, scale: int
):
    frames = film(demo_clip, layout)
    config = EnhancerConfig(mode="file", device="cpu-float32", preset="pico", scale=scale)
    with closing(FaceEnhancer(config)) as enhancer:
        expected = made(enhancer, frames)
        enhancer.on_device = True
        ours = made(enhancer, frames)
    for mine, theirs, frame in zip(ours, expected, frames, strict=True):
        assert mine.outcomes == theirs.outcomes == (Outcome.ENHANCED,)
        assert mine.counts == theirs.counts
        assert {"device", "download"} <= set(mine.timings_ms)
        assert "recall" not in mine.timings_ms
        assert mine.planes is not None
        assert theirs.planes is not None
        assert frame.planes is not None
        # OpenCV's luminance is rounded to whole levels, so what is steadied differs a little.
        assert worst(mine.planes, theirs.planes) < 2.5
        assert mean(mine.planes, theirs.planes) < 0.2
        assert mine.planes.layout == standard(frame.planes.layout)
        assert worst(mine.planes, upscale_planes(frame.planes, scale)) > 10


def test_frames_begun_ahead_are_composed_in_order(demo_clip: Path, monkeypatch: pytest.MonkeyPatch):
    """Each with what is remembered of its own shot."""
    monkeypatch.setattr("cagface_core.enhancer.networks_at_once", lambda _kind: 1)  # as on a GPU
    frames = [
        replace(frame, foreseen=Foreseen((), begins, 0, runs_in=False, shown=True))
        for frame, begins in zip(film(demo_clip), SHOTS, strict=True)
    ]
    config = EnhancerConfig(mode="file", device="cpu-float32", preset="pico", scale=2)
    with closing(FaceEnhancer(config)) as enhancer:
        looking = enhancer.new_state(ahead=True)
        plain = [replace(frame, foreseen=None) for frame in frames]
        faces = [enhancer.look(frame, looking) for frame in plain]
        frames = [
            replace(f, foreseen=replace(f.foreseen, faces=found))
            for f, found in zip(frames, faces, strict=True)
            if f.foreseen
        ]
        enhancer.on_device = True
        expected = made(enhancer, frames)
        state, begun = enhancer.new_state(), list[Callable[[], Enhanced]]()
        for frame in frames:
            begun.append(enhancer.begin(frame, state))
        ours = [finish() for finish in begun]
    for mine, theirs in zip(ours, expected, strict=True):
        assert mine.outcomes == theirs.outcomes == (Outcome.ENHANCED,)
        assert mine.planes is not None
        assert theirs.planes is not None
        assert worst(mine.planes, theirs.planes) <= 1


def test_a_film_s_frame_that_the_device_cannot_hold_is_made_on_the_processor(
    demo_clip: Path, monkeypatch: pytest.MonkeyPatch
):
    def full(*_: object) -> object:
        raise torch.OutOfMemoryError("CUDA out of memory")

    frames = film(demo_clip)[:2]
    config = EnhancerConfig(mode="file", device="cpu-float32", preset="pico")
    for where in ((PlanesCanvas, "upscale"), (DeviceFrame, "finish"), (PlanesCanvas, "fetch")):
        with closing(FaceEnhancer(config)) as enhancer, monkeypatch.context() as patched:
            expected = made(enhancer, frames)
            enhancer.on_device = True
            patched.setattr(*where, full)
            ours = made(enhancer, frames)
        for mine, theirs in zip(ours, expected, strict=True):
            assert mine.outcomes == (Outcome.ENHANCED,)
            assert mine.planes is not None
            assert theirs.planes is not None
            assert worst(mine.planes, theirs.planes) == 0
