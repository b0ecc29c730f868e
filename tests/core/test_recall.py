"""The recall report: figures from two real pictures, and errors in one line."""

from __future__ import annotations

import json

import pytest

from cagface_core.detect import open_detector
from cagface_core.errors import InputError
from cagface_core.evaluate import recall


def test_recall_of_two_pictures(shared_data, tmp_path):
    pictures = tmp_path / "test_images"
    pictures.mkdir()
    (pictures / "manifest.csv").write_text(
        "file,faces\nlowres_group25.jpg,25\nnasa_astronaut.png,1\nleft_out.png,\n", encoding="utf-8"
    )
    for name in ("lowres_group25.jpg", "nasa_astronaut.png"):
        (pictures / name).write_bytes((shared_data / "test_images" / name).read_bytes())
    yunet = shared_data / "models" / "yunet" / "face_detection_yunet_2023mar.onnx"
    with open_detector("live") as live, open_detector("file") as tiled:
        finders = {"live": live.detect, "tiled": tiled.detect, "none": lambda _: []}
        found = recall.measure(tmp_path, finders, yunet=yunet)
    assert {sum(r.faces) for r in found.values()} == {26}
    assert sum(found["tiled"].found) >= 24
    assert 1 <= sum(found["live"].found) < 24
    assert found["tiled"].false_boxes <= 2
    assert (sum(found["none"].found), found["none"].false_boxes) == (0, 0)
    written = json.loads(recall.to_json(found))
    assert written["detectors"]["tiled"]["faces"] == list(found["tiled"].faces)


def test_a_missing_folder_is_one_line_and_exit_code_2(tmp_path, capsys):
    assert recall.main(["--data", str(tmp_path / "none")]) == 2
    output = capsys.readouterr().err
    assert output.startswith("error: no YuNet model")
    assert output.count("\n") == 1


def test_a_manifest_without_the_columns_is_refused(tmp_path):
    (tmp_path / "test_images").mkdir()
    (tmp_path / "test_images" / "manifest.csv").write_text("name\nx.png\n", encoding="utf-8")
    model = tmp_path / "model.onnx"
    model.write_bytes(b"")
    with pytest.raises(InputError, match="columns file and faces"):
        recall.measure(tmp_path, {}, yunet=model)
