from dataclasses import replace
from itertools import pairwise

import cv2
import numpy as np
import pytest
import torch

from cagface_core.consistency import resize
from cagface_core.crop import BUCKETS_PX, bucket_of, choose_crop, cut, reach, seen_side
from cagface_core.paste import add_to_rgb, feather, find_changes, upscale_frame
from cagface_core.types import Change, Crop, Face, Image


def picture(height: int, width: int, seed: int = 0) -> Image:
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return np.asarray(cv2.GaussianBlur(noise, (0, 0), 1.2))


def signed(rgb: Image) -> torch.Tensor:
    return torch.from_numpy(rgb).permute(2, 0, 1)[None].float() / 127.5 - 1


def face(x: float, y: float, w: float, h: float) -> Face:
    return Face(1, x, y, w, h, 0.9)


def test_crops_are_buckets_inside_the_frame_around_the_face():
    for x, y, w, h in [(100, 80, 50, 60), (0, 0, 30, 40), (600, 440, 39, 39), (5.3, 7.8, 90, 70)]:
        crop = choose_crop(face(x, y, w, h), 480, 640, 0)
        assert crop.size in BUCKETS_PX
        assert crop.size >= 1.6 * max(w, h) or crop.size == BUCKETS_PX[-1]
        assert 0 <= crop.x <= 640 - crop.size
        assert 0 <= crop.y <= 480 - crop.size
        assert crop.x <= x
        assert crop.x + crop.size >= min(x + w, 640)


def test_a_huge_face_gets_a_multiple_of_64():
    crop = choose_crop(face(500, 500, 700, 900), 3000, 3000, 0)
    assert crop.size % 64 == 0
    assert crop.size >= 1.6 * 900


def test_the_bucket_does_not_flicker():
    sizes = []
    last = 0
    for h in (52, 54, 52, 54, 50, 48, 40, 30):
        last = choose_crop(face(100, 100, h, h), 480, 640, 0, last).size
        sizes.append(last)
    assert sizes == [96, 128, 128, 128, 96, 96, 96, 64] or sizes[1:5] == [sizes[1]] * 4


@pytest.mark.parametrize(
    ("limit_px", "seen_px"), [(64, 64), (96, 128), (192, 256), (256, 256), (384, 384)]
)
def test_of_a_face_that_would_be_shrunk_by_more_less_is_enhanced_around_it(
    limit_px: int, seen_px: int
):
    for side in range(24, 3 * limit_px, 3):
        crop = choose_crop(face(3000, 2000, side, side), 4000, 6000, limit_px)
        wanted = min(1.6 * side, max(1.1 * side, 1.5 * seen_px))
        step = 32 if seen_px < wanted <= 256 else 64
        if wanted <= seen_px:
            assert crop.size == bucket_of(1.6 * side)
        else:
            assert wanted <= crop.size < wanted + step
        assert seen_side(crop.size, limit_px) in (crop.size, seen_px, limit_px)
        left, top, shown = reach(face(3000, 2000, side, side), limit_px)
        assert shown == pytest.approx(wanted - 6)
        # All of the face's box, but for what the network's padding reaches.
        assert left <= 3000 + 3
        assert top <= 2000 + 3
        assert left + shown >= 3000 + side - 3
        assert top + shown >= 2000 + side - 3
        assert crop.x <= left + 2
        assert crop.x + crop.size >= left + shown - 2


def test_a_face_of_a_size_between_two_crops_keeps_its_own():
    last, sizes = 0, []
    for side in (170, 176, 172, 175, 166, 160):
        last = choose_crop(face(200, 100, side, side), 480, 640, 96, last).size
        sizes.append(last)
    assert sizes == [192, 224, 224, 224, 224, 224]
    assert choose_crop(face(200, 100, 140, 140), 480, 640, 96, last).size == 192
    assert choose_crop(face(200, 100, 77, 77), 480, 640, 96, last).size == 128
    assert choose_crop(face(200, 100, 137, 137), 480, 640, 96, 384).size == 192
    assert choose_crop(face(200, 100, 0, 0), 480, 640, 96).size == 64


def test_a_frame_smaller_than_its_crop_is_padded_by_its_border():
    rgb = picture(40, 100)
    crop = choose_crop(face(20, 5, 30, 30), 40, 100, 0)
    pixels = cut(rgb, crop)
    assert pixels.shape == (64, 64, 3)
    assert crop.y == -12
    assert np.array_equal(pixels[0], rgb[0, crop.x : crop.x + 64])
    assert np.array_equal(pixels[12:52], rgb[:, crop.x : crop.x + 64])


@pytest.mark.parametrize("scale", [1, 2, 4])
@pytest.mark.parametrize("crop", [Crop(20, 30, 64), Crop(0, 0, 96), Crop(-10, -4, 128)])
def test_identity_plain_upsampling_in_place_of_the_network(scale: int, crop: Crop):
    """Cut a crop, upscale it alone, put it in its place: it is the upscaled frame, in pixels.

    The picture itself is put there, not a residual, so that a wrong position, padding, kernel or
    pixel centre shows.
    """
    rgb = picture(120, 108)
    lr = signed(cut(rgb, crop))
    alone = (
        resize(lr, scale * crop.size, scale * crop.size)[0].permute(1, 2, 0).numpy() + 1
    ) * 127.5
    expected = upscale_frame(rgb, scale)
    alone = np.clip(alone, 0, 255)
    for moved, least, most in ((0, 0, 1), (1, 20, 255)):
        place = Crop(crop.x + moved, crop.y, crop.size)
        mask = feather(place, whole(place), 120, 108, scale)
        masked = expected.copy()
        # The frame gives way where the mask shows the picture.
        (gap,) = find_changes([place], [np.ones_like(mask)], [mask], 120, 108, scale)
        height, width = gap.levels.shape[:2]
        there = masked[gap.y : gap.y + height, gap.x : gap.x + width].astype(np.float32)
        (change,) = find_changes([place], [alone], [mask], 120, 108, scale)
        add_to_rgb(masked, replace(change, levels=change.levels - gap.levels * there))
        difference = np.abs(masked.astype(int) - expected).max()
        assert least <= difference <= most


def whole(crop: Crop) -> tuple[float, float, float]:
    return crop.x, crop.y, crop.size


@pytest.mark.parametrize("limit_px", [0, 96])
def test_what_is_shown_of_a_face_grows_with_its_box_and_not_with_its_bucket(limit_px: int):
    shown, sizes, last = [], [], 0
    for step in range(120):
        side = 55 + step / 4
        face = Face(1, 200 - side / 2, 150 - side / 2, side, side, 1.0)
        crop = choose_crop(face, 480, 640, limit_px, last)
        last = crop.size
        sizes.append(crop.size)
        mask = np.zeros((480, 640), np.float32)
        rows, columns = np.s_[crop.y : crop.y + crop.size], np.s_[crop.x : crop.x + crop.size]
        mask[rows, columns] = feather(crop, reach(face, limit_px), 480, 640, 1)[..., 0]
        shown.append(mask)
    assert len(set(sizes)) == 3
    changes = [np.abs(b - a).sum() / a.sum() for a, b in pairwise(shown)]
    assert max(changes) < 3 * np.median(changes)
    assert shown[0][150, 200] == shown[-1][150, 200] == 1


def test_the_mask_fades_at_cut_edges_only():
    inside = feather(Crop(10, 10, 64), whole(Crop(10, 10, 64)), 480, 640, 2)[..., 0]
    assert inside.shape == (128, 128)
    assert inside[0].max() == 0
    assert inside[:, 0].max() == 0
    assert inside[64, 64] == 1
    corner = feather(Crop(0, 0, 64), whole(Crop(0, 0, 64)), 480, 640, 2)[..., 0]
    assert corner[0, 0] == 1
    assert corner[-1].max() == 0


def test_overlapping_faces_are_not_enhanced_twice():
    crops = [Crop(0, 0, 64), Crop(10, 0, 64)]
    canvas = np.full((64, 74, 3), 100, np.uint8)
    add = np.full((64, 64, 3), 20, np.float32)
    masks = [feather(crop, whole(crop), 64, 74, 1) for crop in crops]
    for change in find_changes(crops, [add, add], masks, 64, 74, 1):
        add_to_rgb(canvas, change)
    assert canvas.max() == 120
    assert canvas[32, 32, 0] == 120


def test_of_overlapping_faces_the_later_covers_the_earlier():
    crops = [Crop(0, 0, 64), Crop(16, 8, 96)]
    masks = [feather(crop, whole(crop), 200, 300, 2, strength) for crop, strength in
             zip(crops, (1.0, 0.5), strict=True)]  # fmt: skip
    residuals = [np.full((2 * crop.size, 2 * crop.size, 3), level, np.float32)
                 for crop, level in zip(crops, (30, -20), strict=True)]  # fmt: skip
    expected = np.zeros((400, 600, 3), np.float32)
    for crop, residual, mask in zip(crops, residuals, masks, strict=True):
        where = np.s_[2 * crop.y : 2 * (crop.y + crop.size), 2 * crop.x : 2 * (crop.x + crop.size)]
        expected[where] += mask * (residual - expected[where])
    added = np.zeros_like(expected)
    for change in find_changes(crops, residuals, masks, 200, 300, 2):
        height, width = change.levels.shape[:2]
        added[change.y : change.y + height, change.x : change.x + width] += change.levels
    assert np.abs(added - expected).max() < 1e-4
    assert masks[1].max() == 0.5


def test_out_of_range_values_are_clipped():
    canvas = np.full((64, 64, 3), 250, np.uint8)
    add_to_rgb(canvas, Change(0, 0, np.full((64, 64, 3), 50, np.float32)))
    assert canvas.min() == 255
