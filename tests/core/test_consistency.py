"""Back-projection and its kernels: OpenCV's on the processor equal torch's on other devices."""

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from cagface_core import consistency
from cagface_core.attention import luminance
from cagface_core.consistency import as_coloured, hold, resize


def soft_noise(side: int, seed: int = 0) -> torch.Tensor:
    noise = np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)
    soft = np.asarray(cv2.GaussianBlur(noise, (0, 0), 1.2))
    return torch.from_numpy(soft).permute(2, 0, 1)[None].float() / 127.5 - 1


def held(sr: torch.Tensor, lr: torch.Tensor, sigma_px: float) -> torch.Tensor:
    return hold(sr, lr, sigma_px) + resize(lr, *sr.shape[-2:])


def test_consistency_makes_the_shrunk_output_equal_the_input():
    lr = soft_noise(64)
    torch.manual_seed(0)
    wild = resize(lr, 256, 256) + 0.2 * torch.randn(1, 3, 256, 256) + 0.2
    before = (resize(wild, 64, 64) - lr).abs().mean()
    after = (resize(held(wild, lr, 0.0), 64, 64) - lr).abs().mean()
    assert before > 0.15
    assert after < 0.1 * before


def test_smooth_consistency_stops_colour_drift_but_lets_noise_go():
    torch.manual_seed(0)
    clean = torch.full((1, 3, 256, 256), 0.1)
    noisy = resize(clean, 64, 64) + 0.1 * torch.randn(1, 3, 64, 64)
    kept = held(clean + 0.3, noisy, 3.0)  # a network that denoised well but turned brighter
    assert (kept - clean).abs().mean() < 0.02
    assert resize(kept, 64, 64).std() < 0.15 * noisy.std()


def left_over(change: torch.Tensor, lr: torch.Tensor) -> float:
    """The share of a network's change of its input that shows when its picture is shrunk again."""
    sr = resize(lr + change, 256, 256)
    whole = resize(sr, 64, 64) - lr
    left = resize(held(sr, lr, 3.0), 64, 64) - lr
    return float((left * whole).sum() / whole.square().sum())


def test_the_less_a_network_changes_the_more_of_the_input_is_kept():
    checks = torch.ones(1, 3, 64, 64)
    for k in (0, 1):  # squares of two pixels: finer than sigma_px
        checks[..., k::4, :] *= -1
        checks[..., k::4] *= -1
    shares = [left_over(checks * rms / 127.5, soft_noise(64)) for rms in (1, 2.5, 4.3, 6, 20)]
    little, less, middle, much, more = shares
    assert little == pytest.approx(less, abs=0.02)
    assert much == pytest.approx(more, abs=0.02)
    assert less < 0.2
    assert less + 0.15 < middle < much - 0.15


def test_in_a_dark_picture_little_is_much():
    """Its noise is as dark as it is: taken for good detail, a face stays as noisy as it came."""
    checks = torch.ones(1, 3, 64, 64)
    for k in (0, 1):
        checks[..., k::4, :] *= -1
        checks[..., k::4] *= -1
    change = checks * 2.5 / 127.5
    bright, dark = soft_noise(64), (soft_noise(64) + 1) * 0.35 - 1  # 128 and 45 levels on average
    assert left_over(change, bright) < 0.2
    assert left_over(change, dark) > 0.5
    assert left_over(change * 0.35, dark) < 0.2  # what in the bright one would be 2.5 levels


def test_black_and_white_stays_black_and_white():
    added = soft_noise(128)
    grey = luminance(soft_noise(64, 1)).expand(1, 3, 64, 64)
    made = as_coloured(added, grey)
    assert (made - luminance(made)).abs().max() < 1e-6
    torch.testing.assert_close(luminance(made), luminance(added))
    coloured = soft_noise(64, 1)
    assert torch.equal(as_coloured(added, coloured), added)
    some = [torch.cat([grey, coloured]), torch.cat([added, added])]
    both = as_coloured(some[1], some[0])  # each by itself
    torch.testing.assert_close(both, torch.cat([made, added]))


def test_a_finer_network_is_asked_where_the_picture_was_a_good_one():
    lr = soft_noise(64)
    sr, fine = resize(lr, 256, 256), resize(lr, 256, 256) + 0.1 * soft_noise(256, 3)
    asked: list[int] = []

    def finer() -> torch.Tensor:
        asked.append(1)
        return fine

    exact = hold(fine, lr, 0.0)
    torch.testing.assert_close(hold(sr, lr, 3.0, finer=finer), exact, atol=1e-4, rtol=0)
    assert asked == [1]
    noise = soft_noise(64, 5) - resize(resize(soft_noise(64, 5), 16, 16), 64, 64)
    noisy = lr + noise  # which the network takes away
    assert torch.equal(hold(sr, noisy, 3.0, finer=finer), hold(sr, noisy, 3.0))
    assert asked == [1]


def test_what_a_network_sharpens_stays_sharpened():
    lr = soft_noise(64)
    detail = lr - resize(resize(lr, 16, 16), 64, 64)
    detail *= 2.0 / 127.5 / detail.square().mean().sqrt()  # little enough to be given back
    assert left_over(detail, lr) > left_over(-detail, lr) + 0.5


@pytest.mark.parametrize("sigma_px", [0.0, 3.0])
@pytest.mark.parametrize("seen", [None, (24, 24)])
def test_both_forms_of_the_kernels_are_one(
    monkeypatch: pytest.MonkeyPatch, sigma_px: float, seen: tuple[int, int] | None
):
    lr = torch.cat([soft_noise(48), soft_noise(48, 1)])
    sr = torch.cat([soft_noise(96, 2), soft_noise(96, 3)])
    shown = None if seen is None else resize(lr, *seen)
    ours = hold(sr, lr, sigma_px, shown)
    monkeypatch.setattr(consistency, "_on_processor", lambda _x: False)
    torch.testing.assert_close(ours, hold(sr, lr, sigma_px, shown), atol=2e-5, rtol=0)
    assert ours.abs().mean() > 0.01


@pytest.mark.parametrize("times", [2, 4])
@pytest.mark.parametrize(("height", "width"), [(1, 1), (2, 5), (3, 7), (32, 19)])
def test_shrinking_is_torchs_borders_included(times: int, height: int, width: int):
    torch.manual_seed(height)
    x = torch.rand(2, 3, times * height, times * width)
    expected = F.interpolate(x, size=(height, width), mode="bicubic", antialias=True)
    torch.testing.assert_close(resize(x, height, width), expected, atol=2e-6, rtol=0)
