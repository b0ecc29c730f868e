"""A thing before the face: covered where it says, measured on real networks."""

from __future__ import annotations

import numpy as np

from cagface_core.evaluate import occlusion
from tests.core.photo_set import write_photo_set


def test_the_thing_covers_what_it_says():
    face, other = np.full((256, 256, 3), 10, np.uint8), np.full((256, 256, 3), 200, np.uint8)
    covered, inside = occlusion.cover(face, other, np.random.default_rng(1))
    assert 0.08 < inside.mean() < 0.13
    assert (covered[inside] == 200).all()
    assert (covered[~inside] == 10).all()


def test_the_table_has_a_row_for_each_network(tmp_path, capsys):
    data = write_photo_set(tmp_path / "data")
    out = tmp_path / "out" / "occlusion.txt"
    words = ["--data", str(data), "--split", "val", "--weights", "pico-webcam", "--out", str(out)]
    assert occlusion.main(words) == 0
    assert "pico-webcam" in capsys.readouterr().out
    assert "on the thing" in out.read_text(encoding="utf-8")


def test_no_photos_is_one_line(tmp_path, capsys):
    assert occlusion.main(["--data", str(tmp_path / "none")]) == 2
    assert capsys.readouterr().err.count("\n") == 1
