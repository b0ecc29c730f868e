"""Pictures in planes: upscaled where their samples lie, to RGB, and with faces added."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from cagface_core.planes import (
    add_to_planes,
    rgb_levels,
    standard,
    upscale_planes,
    upscale_to_i420,
)
from cagface_core.types import I420, Change, Crop, Plane, PlaneLayout, Planes
from tests.core.plane_pictures import LAYOUTS, TURNED, drawn, exact_i420, waves, ycc


def worst(a: Planes, b: Planes, border: int = 8) -> float:
    """The largest difference within, in levels of 8 bits."""
    unit = (1 << a.layout.bits) / 256
    found = 0.0
    for x, y in zip(a.planes, b.planes, strict=True):
        assert x.shape == y.shape
        assert x.dtype == y.dtype
        difference = np.abs(x.astype(float) - y)[border:-border, border:-border]
        found = max(found, difference.max() / unit)
    return found


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize("size", [(96, 64), (97, 61)])
def test_at_scale_1_every_value_is_kept(name: str, size: tuple[int, int]):
    picture = drawn(*size, LAYOUTS[name])
    same = upscale_planes(picture, 1)
    assert same.layout == picture.layout
    for before, after in zip(picture.planes, same.planes, strict=True):
        assert np.array_equal(before, after)
        assert not np.shares_memory(before, after)


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize("scale", [2, 4])
@pytest.mark.parametrize("size", [(128, 96), (127, 95)])
def test_an_upscale_lies_where_the_picture_does(name: str, scale: int, size: tuple[int, int]):
    """Against the same picture drawn larger: half a pixel off would be 5 levels."""
    layout = LAYOUTS[name]
    large = upscale_planes(drawn(*size, layout), scale)
    assert (large.width, large.height) == (scale * size[0], scale * size[1])
    assert worst(large, drawn(*size, layout, scale), 8 * scale) < (3.5 if "411" in name else 1.5)


@pytest.mark.parametrize("name", TURNED)
@pytest.mark.parametrize("scale", [1, 2])
def test_chroma_of_turned_pictures_goes_where_codecs_have_it(name: str, scale: int):
    layout = TURNED[name]
    wanted = standard(layout)
    assert wanted.chroma_px in ((2, 2), (2, 1))
    assert wanted.chroma_at == (0, 0.5 * (wanted.chroma_px[1] - 1))
    large = upscale_planes(drawn(128, 96, layout), scale)
    assert large.layout == wanted
    assert worst(large, drawn(128, 96, wanted, scale), 16) < 1.5


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_crop_in_rgb(name: str):
    layout = LAYOUTS[name]
    levels = rgb_levels(drawn(128, 96, layout), Crop(23, 11, 64))
    assert levels.dtype == np.float32
    expected = waves(*np.meshgrid(np.arange(23, 87), np.arange(11, 75)))
    if layout.kind == "grey":
        k_r, k_b = layout.weights
        grey = expected @ np.array([k_r, 1 - k_r - k_b, k_b])
        expected = np.repeat(grey[..., None], 3, axis=2)
    # Two roundings of chroma to 8 bits, and what that is in blue; deeper, a fraction of it.
    most = 4 if "411" in name else 3 if layout.bits == 8 else 1
    assert np.abs(levels - expected).max() < most
    beyond = rgb_levels(drawn(128, 96, layout), Crop(-10, -4, 64))
    assert np.abs(beyond[:4] - beyond[4]).max() < 4
    assert np.abs(beyond[:, :10] - beyond[:, 10:11]).max() < 4


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize("place", [(20, 14), (21, 13), (60, 42), (0, 0)])
def test_what_is_added_is_what_rgb_would_have_gained(name: str, place: tuple[int, int]):
    """A smooth patch, anywhere: against the picture drawn with the patch in it."""
    layout = LAYOUTS[name]
    picture = drawn(128, 96, layout)
    x, y = place
    fade = np.hanning(48)[:, None] * np.hanning(64)[None, :]
    levels = (fade[..., None] * np.array([40, -8, 30])).astype(np.float32)
    gained = upscale_planes(picture, 1)
    add_to_planes(gained, Change(x, y, levels))
    rgb = np.zeros((96, 128, 3))
    rgb[y : y + 48, x : x + 64] = levels
    centre = np.zeros_like(rgb) + 128
    for index, (before, after) in enumerate(zip(picture.planes, gained.planes, strict=True)):
        difference = after.astype(float) - before
        unit = ((1 << layout.bits) - 1) / 255
        if layout.alpha and index == len(picture.planes) - 1:
            assert not difference.any()
            continue
        if layout.kind == "gbr":
            expected = rgb[..., (1, 2, 0)[index]] * unit
        else:
            expected = (ycc(centre + rgb, layout) - ycc(centre, layout))[..., index]
        if index and layout.kind == "yuv":
            (across, down), (right, below) = layout.chroma_px, layout.chroma_at
            columns, rows = np.meshgrid(
                np.arange(128 // across) * across + right, np.arange(96 // down) * down + below
            )
            expected = cv2.remap(
                expected, columns.astype(np.float32), rows.astype(np.float32), cv2.INTER_LINEAR
            )
        assert np.abs(difference - expected).max() < 1.2 * unit + 0.5
        assert np.abs(difference).max() > 4 * unit


def test_added_values_stay_within_the_code():
    layout = replace(LAYOUTS["422, 10 bits"])
    picture = upscale_planes(drawn(64, 64, layout), 1)
    add_to_planes(picture, Change(0, 0, np.full((64, 64, 3), 300, np.float32)))
    assert max(plane.max() for plane in picture.planes) <= 1023
    add_to_planes(picture, Change(0, 0, np.full((64, 64, 3), -900, np.float32)))
    assert picture.planes[0].min() == 0


def test_bicubic_overshoot_stays_within_the_code():
    plane = np.zeros((32, 32), np.uint16)
    plane[:, 16:] = 1023
    layout = PlaneLayout("grey", 10, False, (1, 1), (0, 0))
    assert upscale_planes(Planes((plane,), layout), 4).planes[0].max() == 1023


@pytest.mark.parametrize("scale", [2, 4])
@pytest.mark.parametrize("chroma_px", [(2, 2), (2, 1), (1, 1), (4, 1)])
@pytest.mark.parametrize("bits", [8, 10])
def test_chroma_is_sampled_where_opencv_would(
    scale: int, chroma_px: tuple[int, int], bits: int
) -> None:
    # Odd sides; the picture is smooth, for OpenCV places its samples to 1/32 pixel only.
    across, down = chroma_px
    height, width = 37, 51
    rng = np.random.default_rng(7)
    dtype = np.uint8 if bits == 8 else np.uint16
    most = (1 << bits) - 1

    def noise(h: int, w: int) -> Plane:
        small = rng.uniform(0, most, (h // 6 + 2, w // 6 + 2)).astype(np.float32)
        return np.asarray(cv2.resize(small, (w, h), interpolation=cv2.INTER_CUBIC)).clip(
            0, most
        ).astype(dtype)  # fmt: skip

    chroma_size = -(-height // down), -(-width // across)
    layout = PlaneLayout("yuv", bits, False, chroma_px, (0.0, (down - 1) / 2))
    picture = Planes((noise(height, width), noise(*chroma_size), noise(*chroma_size)), layout)
    found = upscale_planes(picture, scale)
    size = -(-scale * width // across), -(-scale * height // down)
    # The first sample lies where the new layout has it, seen from the old one's first.
    starts = [
        ((at + 0.5) / scale - 0.5 - at) / px
        for at, px in zip(layout.chroma_at, chroma_px, strict=True)
    ]
    matrix = np.array([[1 / scale, 0, starts[0]], [0, 1 / scale, starts[1]]])
    for plane, new in zip(picture.planes[1:], found.planes[1:], strict=True):
        expected = cv2.warpAffine(
            plane.astype(np.float32), matrix, size, borderMode=cv2.BORDER_REPLICATE,
            flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP,
        )  # fmt: skip
        assert new.shape == size[::-1]
        assert np.abs(new - np.clip(expected, 0, most)).max() <= 0.5 + most * 1e-3


@pytest.mark.parametrize("place", [(0, 0), (7, 4), (8, 5), (21, 13)])
@pytest.mark.parametrize("size", [(24, 16), (23, 15)])
def test_a_change_of_i420_is_that_of_rgb(place: tuple[int, int], size: tuple[int, int]):
    """Up to the edges of a picture that is odd before it is enlarged, and faint at its own."""
    (x, y), (width, height) = place, size
    rgb = np.full((47, 63, 3), (90, 120, 140), np.uint8)
    canvas = upscale_to_i420(rgb, 2)
    levels = np.zeros((2 * height, 2 * width, 3), np.float32)
    levels[4:-4, 4:-4] = np.random.default_rng(0).uniform(-40, 40, (3,))
    add_to_planes(canvas, Change(2 * x + 1, 2 * y + 1, levels))
    expected = np.full((94, 126, 3), rgb[0, 0], np.float64)
    expected[2 * y + 1 :, 2 * x + 1 :][: 2 * height, : 2 * width] += levels
    for plane, exact in zip(canvas.planes, exact_i420(expected), strict=True):
        assert np.abs(plane - exact).max() < 1.01


@pytest.mark.parametrize("scale", [2, 4])
def test_rgb_is_enlarged_into_i420(scale: int):
    """As its bicubic upscale converted, of a picture that stays within bounds."""
    y, x = np.mgrid[0:48, 0:62] / 10
    rgb = np.stack([128 + 90 * np.sin(x), 128 + 90 * np.sin(y), 128 + 60 * np.cos(x + y)], 2)
    large = upscale_to_i420(rgb.astype(np.uint8), scale)
    assert large.layout == I420
    size = 62 * scale, 48 * scale
    expected = cv2.resize(
        rgb.astype(np.uint8).astype(np.float32), size, interpolation=cv2.INTER_CUBIC
    )
    for plane, exact in zip(large.planes, exact_i420(expected), strict=True):
        assert np.abs(plane - exact).max() < 2
