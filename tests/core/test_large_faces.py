"""Faces larger than the network is to see: at which size it does, and how large they are made."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest

from cagface_core import EnhancerConfig, FaceEnhancer, Frame
from cagface_core.crop import choose_crop, cut, seen_side, shrunk, work_grid
from cagface_core.paste import upscale_frame
from cagface_core.types import Crop, Face, Image


@pytest.fixture
def enhancer() -> Iterator[FaceEnhancer]:
    with closing(FaceEnhancer(EnhancerConfig(scale=2, mode="live", max_crop_px=96))) as made:
        yield made


@pytest.fixture
def frames(demo_clip: Path) -> list[Frame]:
    with av.open(str(demo_clip)) as container:
        decoded = [f for f, _ in zip(container.decode(video=0), range(3), strict=False)]
    return [Frame(f.to_ndarray(format="rgb24"), f.pts, f.time_base) for f in decoded]


@pytest.mark.parametrize(
    ("side", "limit_px", "seen"),
    [
        (64, 96, 64), (96, 96, 96), (128, 96, 128), (192, 96, 128), (256, 96, 128), (320, 96, 128),
        (384, 96, 96), (512, 96, 128),
        (128, 64, 64), (192, 64, 64), (192, 128, 128), (256, 128, 128),
        (256, 192, 256), (320, 192, 256), (384, 192, 256), (448, 192, 256), (800, 192, 192),
        (512, 192, 256), (256, 256, 256), (320, 256, 256), (384, 256, 256),
        (512, 256, 256), (640, 0, 640),
    ],
)  # fmt: skip
def test_the_network_sees_a_crop_at_a_size_worth_resampling_to(side: int, limit_px: int, seen: int):
    assert seen_side(side, limit_px) == seen


@pytest.mark.parametrize(
    ("side", "limit_px", "scale", "grid"),
    [
        (192, 96, 1, (1, 1)), (192, 96, 2, (1, 2)), (192, 96, 4, (1, 4)), (128, 96, 4, (1, 4)),
        (256, 96, 4, (1, 2)), (320, 96, 2, (1, 2)), (384, 96, 2, (2, 1)), (384, 96, 4, (2, 1)),
        (512, 96, 2, (2, 1)), (768, 96, 1, (4, 1)), (704, 96, 2, (2, 1)), (640, 0, 4, (1, 4)),
    ],
)  # fmt: skip
def test_a_face_is_enhanced_in_about_as_many_pixels_as_the_network_makes(
    side: int, limit_px: int, scale: int, grid: tuple[int, int]
):
    assert work_grid(side, limit_px, scale, coarse=True) == grid
    coarse, work = grid
    assert work_grid(side, limit_px, scale) == (1, work)
    seen = seen_side(side, limit_px)
    assert side // coarse * work == scale * side or side // coarse * work >= 2 * seen
    assert coarse == 1 or side >= 4 * seen


def test_large_crops_move_by_what_they_may_be_shrunk_by():
    for step in range(20):
        crop = choose_crop(Face(1, 300.3 + step, 200.7 + step / 3, 240, 240, 1.0), 900, 1200, 0)
        assert (crop.size, crop.x % 4, crop.y % 4) == (384, 0, 0)


@pytest.mark.parametrize("coarse", [2, 4])
def test_a_crop_can_be_shrunk_as_it_is_cut(coarse: int):
    rgb = np.random.default_rng(0).integers(0, 256, (90, 120, 3), np.uint8)
    for crop in (Crop(8, 12, 64), Crop(-20, 40, 96), Crop(100, -8, 64), Crop(200, 300, 64)):
        blocks = cut(rgb, crop).reshape(crop.size // coarse, coarse, crop.size // coarse, coarse, 3)
        difference = np.abs(shrunk(cut(rgb, crop), coarse) - blocks.mean((1, 3)))
        assert difference.max() <= 0.5 + 1e-6


def test_a_large_face_seen_small_is_made_in_less_and_looks_the_same(
    enhancer: FaceEnhancer, frames: list[Frame], monkeypatch: pytest.MonkeyPatch
):
    large = [replace(frame, rgb=upscale_frame(frame.rgb, 6)) for frame in frames]

    def run(patience: float = 1.0) -> tuple[list[Image], int]:
        tuning, state = replace(enhancer.tuning, patience=patience), enhancer.new_state()
        made = [enhancer.enhance(frame, state, tuning).rgb for frame in large]
        (seen,) = state.steadier._seen.values()
        return made, seen.enhanced.shape[0]

    (ours, side), (coarse, coarse_side) = run(), run(3.0)
    monkeypatch.setattr("cagface_core.enhancer.work_grid", lambda *at, coarse: (1, at[2]))
    whole, whole_side = run()
    assert (side, coarse_side) == (whole_side / 2, whole_side / 4)
    for one, other in [*zip(ours, whole, strict=True), *zip(coarse, whole, strict=True)]:
        difference = np.abs(one.astype(int) - other)
        assert difference.max() <= 6
        assert difference.mean() < 0.1
        assert np.abs(one.astype(int) - upscale_frame(large[0].rgb, 2)).max() > 10
