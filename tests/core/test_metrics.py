import cv2
import numpy as np
import pytest
from PIL import Image as Pillow

from cagface_core.evaluate.metrics import (
    centre,
    component_psnr,
    consistency,
    drift,
    ms_ssim,
    psnr,
    psnr_y,
    ssim,
)
from cagface_core.train.photos import IGNORE, downsample4


def noise(side=64, seed=0):
    return np.random.default_rng(seed).integers(20, 230, (side, side, 3), dtype=np.uint8)


def blurred(picture, sigma):
    return np.asarray(cv2.GaussianBlur(picture, (0, 0), sigma))


def test_psnr_and_ssim_by_their_definitions():
    a = noise()
    assert psnr(a, a + np.uint8(10)) == pytest.approx(20 * np.log10(255 / 10))
    assert ssim(a, a) == pytest.approx(1.0)
    assert ssim(a, blurred(a, 1.0)) < 0.9


def test_psnr_y_weighs_the_channels_as_luminance_does():
    a, b = np.full((8, 8, 3), 100, np.uint8), np.full((8, 8, 3), 100, np.uint8)
    b[..., 1] += 10
    assert psnr_y(a, b) == pytest.approx(20 * np.log10(255 / 5.87))


def test_ssim_agrees_with_the_formula_on_constant_pictures():
    a, b = np.full((32, 32, 3), 100, np.uint8), np.full((32, 32, 3), 120, np.uint8)
    c1 = (0.01 * 255) ** 2
    assert ssim(a, b) == pytest.approx((2 * 100 * 120 + c1) / (100**2 + 120**2 + c1), abs=1e-6)


def test_ms_ssim_falls_with_blur_and_forgives_more_than_ssim():
    a = blurred(noise(192), 2.0)
    slightly, much = blurred(a, 1.0), blurred(a, 4.0)
    assert ms_ssim(a, a) == pytest.approx(1.0, abs=1e-5)
    assert 1 > ms_ssim(a, slightly) > ms_ssim(a, much) > 0
    assert ms_ssim(a, slightly) > ssim(a, slightly)


def test_consistency_and_drift_look_at_the_output_shrunk_again():
    hr = blurred(noise(128), 2.0)
    lr = downsample4(hr)
    assert drift(hr, lr) == 0
    assert consistency(hr, lr) > 100
    brighter = hr + np.uint8(5)
    assert drift(brighter, lr) == pytest.approx(5, abs=0.1)
    assert consistency(brighter, lr) == pytest.approx(20 * np.log10(255 / 5), abs=0.2)


def test_each_component_is_scored_on_its_own_pixels():
    a = np.full((32, 32, 3), 100, np.uint8)
    b = a.copy()
    labels = np.zeros((32, 32), np.uint8)
    labels[:16], labels[16:, :16] = 1, 2  # hair, skin; no parts
    b[:16] += 10
    b[16:, :16] += 2
    labels[0], b[0] = IGNORE, 0
    found = component_psnr(a, b, labels)
    assert found["hair"] == pytest.approx(20 * np.log10(255 / 10))
    assert found["skin"] == pytest.approx(20 * np.log10(255 / 2))
    assert np.isnan(found["parts"])


def test_downsampling_is_antialiased_bicubic():
    """A single bright row spreads by the cubic of a = -0.5, stretched four times."""
    hr = np.zeros((64, 64, 3), np.uint8)
    hr[30] = 240
    t = np.abs((30.5 - 4 * (np.arange(16) + 0.5)) / 4)
    near, far = 1.5 * t**3 - 2.5 * t**2 + 1, -0.5 * t**3 + 2.5 * t**2 - 4 * t + 2
    weight = np.where(t < 1, near, np.where(t < 2, far, 0)) / 4
    expected = np.clip(240 * weight, 0, 255)
    assert np.abs(downsample4(hr)[:, 8, 0] - expected).max() <= 0.51


def test_downsampling_differs_from_one_without_antialiasing():
    hr = noise(64)
    plain = cv2.resize(hr, (16, 16), interpolation=cv2.INTER_CUBIC)
    box = np.asarray(Pillow.fromarray(hr).resize((16, 16), Pillow.Resampling.BOX))
    assert downsample4(hr).std() < 0.5 * plain.std()
    assert np.abs(downsample4(hr).astype(int) - box).mean() > 2


def test_the_centre_of_a_picture():
    picture = np.arange(10 * 8 * 3, dtype=np.uint8).reshape(10, 8, 3)
    assert np.array_equal(centre(picture, 4), picture[3:7, 2:6])
    assert np.array_equal(centre(picture, 20), picture)
