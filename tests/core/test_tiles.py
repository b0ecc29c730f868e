from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F

from cagface_core.cagface import CAGFace, CAGFaceConfig
from cagface_core.fold import fold
from cagface_core.tiles import spans, tiled


def plain(lr: torch.Tensor, maps: torch.Tensor) -> torch.Tensor:
    return F.interpolate(lr + maps, scale_factor=4)


@pytest.mark.parametrize("length", [1, 63, 64, 65, 100, 333])
def test_tiles_cover_everything_with_overlap(length: int):
    starts = spans(length, 64, 16)
    assert starts[0] == 0
    assert starts[-1] + 64 >= length
    assert all(b - a <= 48 for a, b in pairwise(starts))


def test_tiles_equal_the_whole_for_a_local_function():
    torch.manual_seed(0)
    lr, maps = torch.rand(1, 3, 90, 133), torch.rand(1, 3, 90, 133)
    torch.testing.assert_close(tiled(plain, lr, maps, 64, 16), plain(lr, maps))


def test_tiles_of_a_network_stay_close_to_the_whole():
    torch.manual_seed(0)
    model = fold(CAGFace(CAGFaceConfig(12, 2)))
    lr, maps = torch.rand(1, 3, 80, 100), torch.rand(1, 3, 80, 100)

    def run(x: torch.Tensor, m: torch.Tensor) -> torch.Tensor:
        return model(torch.cat([x, m], dim=1))

    with torch.no_grad():
        difference = (tiled(run, lr, maps, 48, 24) - run(lr, maps)).abs()
    assert difference.max() < 0.02
