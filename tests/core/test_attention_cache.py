from dataclasses import replace

import numpy as np
import pytest
import torch

from cagface_core.attention_cache import AttentionCache, CacheRules
from cagface_core.types import Crop, Face

FACE = Face(7, 130, 130, 60, 60, 0.9)
CROP = Crop(100, 100, 128)
RNG = np.random.default_rng(0)
PICTURE = RNG.integers(0, 256, (128, 128, 3), dtype=np.uint8)


@pytest.fixture
def maps() -> torch.Tensor:
    spot = torch.zeros(1, 3, 64, 64)
    spot[:, :, 20:44, 20:44] = 1.0
    return spot


@pytest.fixture
def cache(maps: torch.Tensor) -> AttentionCache:
    filled = AttentionCache(CacheRules(max_age_s=0.5))
    filled.keep(FACE, CROP, PICTURE, 10.0, maps)
    return filled


def test_an_unmoved_face_gets_the_very_same_maps(cache: AttentionCache, maps: torch.Tensor):
    assert cache.find(FACE, CROP, PICTURE, 10.4) is maps


@pytest.mark.parametrize("time_s", [10.6, 9.9])
def test_old_maps_and_maps_from_the_future_are_not_used(cache: AttentionCache, time_s: float):
    assert cache.find(FACE, CROP, PICTURE, time_s) is None


def test_another_face_finds_nothing(cache: AttentionCache):
    assert cache.find(replace(FACE, id=8), CROP, PICTURE, 10.1) is None


def test_a_face_that_moved_far_or_grew_is_parsed_again(cache: AttentionCache):
    assert cache.find(replace(FACE, x=130 + 20), CROP, PICTURE, 10.1) is None
    assert cache.find(replace(FACE, w=70, h=70), CROP, PICTURE, 10.1) is None


def test_a_changed_appearance_is_parsed_again_but_brightness_alone_is_not(cache: AttentionCache):
    darker = (PICTURE * 0.6).astype(np.uint8)
    assert cache.find(FACE, CROP, darker, 10.1) is not None
    assert cache.find(FACE, CROP, np.ascontiguousarray(PICTURE[::-1]), 10.1) is None


def test_maps_travel_with_the_face(cache: AttentionCache):
    """The box moves 8 px in a crop that stays: so do the maps, by 8 / 128 of their side."""
    quiet = AttentionCache(CacheRules(max_change=9.0))
    quiet.keep(FACE, CROP, PICTURE, 10.0, cache.find(FACE, CROP, PICTURE, 10.0))
    moved = quiet.find(replace(FACE, x=FACE.x + 8), CROP, PICTURE, 10.1)
    weight = moved[0, 0].sum(dim=0)
    centre = (weight * (torch.arange(64) + 0.5)).sum() / weight.sum()
    assert centre.item() == pytest.approx(32 + 4, abs=0.1)


def test_a_crop_that_follows_the_face_keeps_the_maps_in_place(cache: AttentionCache):
    quiet = AttentionCache(CacheRules(max_change=9.0))
    maps = cache.find(FACE, CROP, PICTURE, 10.0)
    quiet.keep(FACE, CROP, PICTURE, 10.0, maps)
    follows = quiet.find(replace(FACE, x=FACE.x + 9), replace(CROP, x=CROP.x + 9), PICTURE, 10.1)
    assert torch.equal(follows, maps)


def test_a_larger_bucket_shrinks_the_maps(cache: AttentionCache):
    quiet = AttentionCache(CacheRules(max_change=9.0))
    quiet.keep(FACE, CROP, PICTURE, 10.0, cache.find(FACE, CROP, PICTURE, 10.0))
    wide = quiet.find(FACE, Crop(68, 68, 192), np.zeros((192, 192, 3), np.uint8), 10.1)
    assert wide[0, 0].sum().item() == pytest.approx(24**2 / 1.5**2, rel=0.03)


def test_tracks_that_ended_are_forgotten(cache: AttentionCache):
    cache.forget_others({1, 2})
    assert cache.find(FACE, CROP, PICTURE, 10.1) is None
