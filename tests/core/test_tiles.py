from itertools import pairwise
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from cagface_core import checkpoint
from cagface_core.cagface import CAGFace, CAGFaceConfig
from cagface_core.engine import Engine
from cagface_core.fold import fold
from cagface_core.tiles import spans, tile_px, tiled

ROOT = Path(__file__).parents[2]


def plain(block: torch.Tensor) -> torch.Tensor:
    return F.interpolate(block, scale_factor=4)


@pytest.mark.parametrize("length", [1, 63, 64, 65, 100, 333])
def test_tiles_cover_everything_with_overlap(length: int):
    starts = spans(length, 64, 16)
    assert starts[0] == 0
    assert starts[-1] + 64 >= length
    assert all(b - a <= 48 for a, b in pairwise(starts))


@pytest.mark.parametrize("length", [385, 448, 512, 640, 1024, 1333])
def test_tiles_are_as_few_and_as_small_as_can_be(length: int):
    side = tile_px(length, 384)
    count = len(spans(length, side))
    assert side <= 384
    assert count == len(spans(length, 384))
    assert count * (side - 16) - 32 * (count - 1) < length  # 16 less would not do


@pytest.mark.parametrize("size", [(90, 133), (64, 65), (64, 200), (40, 333)])
def test_tiles_equal_the_whole_for_a_local_function(size: tuple[int, int]):
    torch.manual_seed(0)
    block = torch.rand(2, 3, *size)
    torch.testing.assert_close(tiled(plain, block, 64, 16), plain(block))


def test_tiles_of_a_network_stay_close_to_the_whole():
    torch.manual_seed(0)
    model = fold(CAGFace(CAGFaceConfig(12, 2)))
    block = torch.rand(1, 6, 80, 100)
    with torch.no_grad():
        difference = (tiled(model, block, 48, 24) - model(block)).abs()
    assert difference.max() < 0.02


@pytest.mark.parametrize("weights", ["nano-clean", "nano-webcam"])
def test_a_large_face_in_tiles_is_the_whole_within_two_levels(
    weights: str, monkeypatch: pytest.MonkeyPatch
):
    """What docs/video.md states: on the output's scale of 0..255."""
    with av.open(str(ROOT / "assets" / "demo.mp4")) as clip:
        frame = next(clip.decode(video=0)).to_ndarray(format="rgb24")
    face = cv2.resize(frame[:200, 40:240], (400, 400), interpolation=cv2.INTER_CUBIC)
    engine = Engine(checkpoint.find_sr(*weights.split("-")), "cpu-float32")
    maps = engine.parse([face])
    in_tiles = engine.residual([face], maps, 4)
    monkeypatch.setattr(engine, "_whole_px", 400)
    whole = engine.residual([face], maps, 4)
    difference = np.abs(in_tiles - whole)
    assert difference.max() > 0  # it did go through in tiles
    assert difference.max() < 2
    assert difference.mean() < 0.01
    assert np.abs(whole).mean() > 20 * difference.mean()
