import itertools

import cv2
import numpy as np
import pytest

from cagface_core.crop import shrunk
from cagface_core.paste import upscale_frame
from cagface_core.steady import Steadier
from cagface_core.types import Crop, Image

SCENE = np.random.default_rng(0).integers(40, 216, (24, 24, 3), np.uint8).repeat(8, 0).repeat(8, 1)


def noisy(seed: int, scene: Image = SCENE) -> Image:
    noise = np.random.default_rng(seed).normal(0, 2.0, scene.shape)
    return np.clip(scene + noise, 0, 255).round().astype(np.uint8)


def sharpened(picture: Image, scale: int) -> np.ndarray:
    noise = picture.astype(np.float32) - SCENE[: picture.shape[0], : picture.shape[1]]
    return noise.repeat(scale, 0).repeat(scale, 1)  # a network that doubles the noise


def steady(
    steadier: Steadier, crop: Crop, picture: Image, residual: np.ndarray, scale: int
) -> np.ndarray:
    face = steadier.recall(1, crop, picture, upscale_frame(picture, scale))
    return steadier.steady(face, residual)


@pytest.mark.parametrize("scale", [1, 2])
def test_a_still_face_flickers_less_than_its_plain_upscale(scale: int):
    steadier, crop = Steadier(), Crop(0, 0, 192)
    plain, raw, calm = [], [], []
    for seed in range(12):
        picture = noisy(seed)
        residual = sharpened(picture, scale)
        plain.append(upscale_frame(picture, scale).astype(np.float32))
        raw.append(plain[-1] + residual)
        calm.append(plain[-1] + steady(steadier, crop, picture, residual, scale))

    def flicker(pictures: list[np.ndarray]) -> float:
        return float(np.mean([np.abs(a - b).mean() for a, b in itertools.pairwise(pictures[4:])]))

    assert flicker(raw) > 1.3 * flicker(plain)
    assert flicker(calm) < 0.75 * flicker(raw)
    assert np.abs(np.mean(calm, 0) - np.mean(raw, 0)).mean() < 0.5  # no drift


def test_the_first_frame_and_a_forgotten_face_stay_as_they_are():
    steadier, crop = Steadier(), Crop(0, 0, 192)
    residual = np.full((384, 384, 3), 5.0, np.float32)
    assert np.allclose(steady(steadier, crop, SCENE, residual, 2), residual, atol=1e-4)
    for forget in (steadier.clear, lambda: steadier.forget_others({7})):
        forget()
        assert np.allclose(steady(steadier, crop, SCENE, -residual, 2), -residual, atol=1e-4)
    steadier.forget_others({1})
    assert np.abs(steady(steadier, crop, SCENE, residual, 2) - residual).mean() > 1
    assert np.allclose(
        steady(steadier, crop, SCENE, residual[:192, :192], 1), residual[:192, :192], atol=1e-4
    )  # another scale


def test_nothing_trails_behind_what_moves():
    steadier, crop = Steadier(), Crop(0, 0, 192)
    zero = np.zeros((384, 384, 3), np.float32)
    before, now = SCENE.copy(), SCENE.copy()
    before[40:80, 40:80], now[40:80, 100:140] = 255, 255
    steady(steadier, crop, before, zero, 2)
    mixed = steady(steadier, crop, now, zero, 2)
    assert np.abs(mixed).max() < 1.5
    assert np.abs(mixed[2 * 40 : 2 * 80, 2 * 40 : 2 * 80]).mean() < 0.2


def test_a_face_is_found_again_where_its_crop_has_moved_to():
    steadier = Steadier()
    frame = noisy(1)
    picture, moved = frame[:128, :128], frame[8:136, 24:152]
    mark = np.zeros((256, 256, 3), np.float32)
    mark[2 * 60 : 2 * 64, 2 * 60 : 2 * 64] = 40
    steady(steadier, Crop(0, 0, 128), np.ascontiguousarray(picture), mark, 2)
    after = steady(steadier, Crop(24, 8, 128), np.ascontiguousarray(moved), 0 * mark, 2)
    rows, columns = np.nonzero(after[..., 0] > 10)
    assert (rows.min(), rows.max()) == (2 * 52, 2 * 56 - 1)
    assert (columns.min(), columns.max()) == (2 * 36, 2 * 40 - 1)
    assert np.abs(after[rows, columns] - 20).max() < 1  # half of it comes from the frame before


@pytest.mark.parametrize("scale", [1, 2])
def test_a_face_that_moves_is_steadied_along_its_way(scale: int):
    """By 1.5 pixels a frame, within its crop: what shimmers is less, what is there stays."""
    steadier, crop, frames = Steadier(), Crop(30, 30, 128), 12
    large = cv2.GaussianBlur(
        np.random.default_rng(3).integers(0, 256, (200, 200, 3), np.uint8), (0, 0), 2.5
    )
    large = cv2.normalize(large, None, 20, 235, cv2.NORM_MINMAX)
    rng = np.random.default_rng(4)
    raw, calm = [], []
    for number in range(frames):
        step = np.array([[1, 0, 1.5 * number], [0, 1, 0.5 * number]])
        moved = cv2.warpAffine(large, step, (200, 200), borderMode=cv2.BORDER_REFLECT)
        picture = np.ascontiguousarray(moved[30:158, 30:158])
        shimmer = rng.normal(0, 6, (128 * scale, 128 * scale, 3)).astype(np.float32)
        got = steady(steadier, crop, picture, shimmer, scale)
        raw.append(shimmer)
        calm.append(got)
    inner = np.s_[20 * scale : -20 * scale, 20 * scale : -20 * scale]

    def strength(residuals: list[np.ndarray]) -> float:
        """Of the shimmer: what is right is no residual at all."""
        return float(np.mean([residual[inner].std() for residual in residuals[4:]]))

    assert strength(calm) < 0.7 * strength(raw)
    smooth = np.mean([cv2.GaussianBlur(r, (0, 0), 4)[inner] for r in calm[4:]], 0)
    assert np.abs(smooth).mean() < 0.5  # no drift


def test_where_time_is_short_only_what_stands_still_is_steadied(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("cagface_core.steady.find_flow", lambda *_: pytest.fail("flow was found"))
    steadier, crop = Steadier(), Crop(0, 0, 192)
    residual = np.full((192, 192, 3), 5.0, np.float32)
    for added in (residual, -residual):
        face = steadier.recall(1, crop, SCENE, SCENE, moving=False)
        mixed = steadier.steady(face, added)
    assert np.abs(mixed).mean() < 0.5


@pytest.mark.parametrize(("size", "coarse", "step"), [(320, 1, 4), (1280, 4, 4), (640, 2, 4)])
def test_a_large_face_is_found_again_where_its_crop_has_moved_to(size: int, coarse: int, step: int):
    """As a still one is; positions are those of the frame."""
    steadier, scene = Steadier(), cv2.resize(SCENE, (2 * size, 2 * size))
    shares: list[float] = []
    for x in (0, 0, step, 2 * step):
        picture = shrunk(np.ascontiguousarray(scene[:size, x : x + size]), coarse)
        crop = Crop(x, 0, size)
        face = steadier.recall(1, crop, picture, picture, coarse=coarse, moving=False)
        steadier.steady(face, np.zeros(picture.shape, np.float32))
        if face.share is not None:
            shares.append(float(face.share.mean()))
    assert shares[0] == pytest.approx(0.5)
    assert min(shares[1:]) > 0.45


def test_a_face_that_grows_beyond_what_is_compared_whole_is_still_steadied():
    steadier, scene = Steadier(), cv2.GaussianBlur(cv2.resize(SCENE, (640, 640)), (0, 0), 4)
    for size in (256, 320, 256):
        picture = np.ascontiguousarray(scene[:size, :size])
        face = steadier.recall(1, Crop(0, 0, size), picture, picture)
        steadier.steady(face, np.zeros(picture.shape, np.float32))
    assert face.share is not None
    assert face.share.mean() > 0.4
