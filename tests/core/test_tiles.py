from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F

from cagface_core.cagface import CAGFace, CAGFaceConfig
from cagface_core.fold import fold
from cagface_core.tiles import spans, tiled


def plain(block: torch.Tensor) -> torch.Tensor:
    return F.interpolate(block, scale_factor=4)


@pytest.mark.parametrize("length", [1, 63, 64, 65, 100, 333])
def test_tiles_cover_everything_with_overlap(length: int):
    starts = spans(length, 64, 16)
    assert starts[0] == 0
    assert starts[-1] + 64 >= length
    assert all(b - a <= 48 for a, b in pairwise(starts))


def test_tiles_equal_the_whole_for_a_local_function():
    torch.manual_seed(0)
    block = torch.rand(1, 3, 90, 133)
    torch.testing.assert_close(tiled(plain, block, 64, 16), plain(block))


def test_tiles_of_a_network_stay_close_to_the_whole():
    torch.manual_seed(0)
    model = fold(CAGFace(CAGFaceConfig(12, 2)))
    block = torch.rand(1, 6, 80, 100)
    with torch.no_grad():
        difference = (tiled(model, block, 48, 24) - model(block)).abs()
    assert difference.max() < 0.02
