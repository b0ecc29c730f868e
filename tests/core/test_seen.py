"""What seeing faces shrunk costs: measured on real networks, as a live frame shows them."""

from __future__ import annotations

import re

import cv2
import numpy as np
import pytest

from cagface_core import checkpoint
from cagface_core.engine import Engine
from cagface_core.evaluate import seen
from cagface_core.paste import upscale_frame
from tests.core.photo_set import write_photo_set


def test_a_crop_is_enhanced_to_twice_its_size():
    engine = Engine(checkpoint.find_named("pico-webcam"), "cpu-float32")
    noise = np.random.default_rng(0).integers(0, 256, (192, 192, 3), np.uint8)
    crop = np.asarray(cv2.GaussianBlur(noise, (0, 0), 2), np.uint8)
    plain = upscale_frame(crop, 2).astype(int)
    for limit_px in (64, 96, 192):
        made = seen.enhance(engine, crop, limit_px)
        assert (made.shape, made.dtype) == ((384, 384, 3), np.uint8)
        assert 0 < np.abs(made - plain).mean() < 10


def test_the_table_has_a_row_for_each_crop_and_limit(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(seen, "_LEAST_SIDE_PX", 64)
    monkeypatch.setattr(seen, "_CROPS_PX", (192,))
    data = write_photo_set(tmp_path / "data")
    out = tmp_path / "out" / "seen.txt"
    words = ["--data", str(data), "--split", "val", "--weights", "pico-webcam", "--out", str(out)]
    assert seen.main(words) == 0
    assert "pico-webcam" in capsys.readouterr().out
    rows = re.findall(r"pico-webcam\D+\d+\D+(\d+)\D+(\d+)\D+(\d+) ", out.read_text("utf-8"))
    assert rows == [
        ("192", "64", "64"), ("192", "96", "128"), ("192", "192", "192"), ("192", "384", "192"),
    ]  # fmt: skip


@pytest.mark.parametrize("made", [False, True])
def test_no_large_photos_is_one_line(tmp_path, capsys, made: bool):
    data = write_photo_set(tmp_path / "data") if made else tmp_path / "none"
    assert seen.main(["--data", str(data)]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_as_live_a_large_face_is_enhanced_and_what_is_around_it_is_not():
    engine = Engine(checkpoint.find_named("pico-webcam"), "cpu-float32")
    noise = np.random.default_rng(0).integers(0, 256, (256, 256, 3), np.uint8)
    head = np.asarray(cv2.GaussianBlur(noise, (0, 0), 2), np.uint8)
    plain = upscale_frame(head, 2).astype(int)
    changed = np.abs(seen.enhance_as_live(engine, head, 96) - plain).sum(2) > 0
    face = seen._face(256)
    rows = slice(round(2 * face.y), round(2 * (face.y + face.h)))
    columns = slice(round(2 * face.x), round(2 * (face.x + face.w)))
    assert changed[rows, columns].sum() > 0.9 * changed.sum() > 100
    assert not changed[:16].any()
    assert not changed[:, :16].any()
    whole = np.abs(seen.enhance_as_live(engine, head, 192) - plain).sum(2) > 0
    assert whole.mean() > 1.3 * changed.mean()  # at its own size, with hair and ears
