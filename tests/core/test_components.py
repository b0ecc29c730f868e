"""The component scores against figures worked out by hand, and the command on a drawn photo set."""

import csv
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cagface_core import checkpoint
from cagface_core.bisenet import CLASSES, INPUT_PX, BiSeNet, BiSeNetConfig
from cagface_core.errors import ConfigError
from cagface_core.evaluate import components
from cagface_core.evaluate.component_scores import BINS, Reliability, Tally, markdown
from cagface_core.evaluate.components import SIZES_PX, hard_cases, measure, shrunk
from cagface_core.train.photos import IGNORE, load_labels, load_square, read_photos
from tests.core.photo_set import write_photo_set


def _sure(found: np.ndarray, certainty: float = 1.0) -> np.ndarray:
    """Probabilities of labels that are found with this certainty, the rest on the background."""
    one_hot = (found == np.arange(len(CLASSES))[:, None, None]).astype(np.float32)
    p = one_hot * certainty
    p[0] += 1 - p.sum(axis=0)
    return p


def test_iou_and_f1_of_a_worked_example():
    true = np.zeros((4, 8), np.uint8)
    true[:, 4:] = CLASSES.index("skin")
    true[0, 4:] = IGNORE
    found = np.zeros((4, 8), np.uint8)
    found[:, 6:] = CLASSES.index("skin")  # 6 of 12 valid pixels, none wrong
    found[:2, :2] = CLASSES.index("eyes")  # 4 pixels that are none
    tally = Tally(CLASSES)
    tally.add(_sure(found), true)
    report = tally.report()
    assert report["classes"]["skin"]["iou"] == pytest.approx(6 / 12)
    assert report["classes"]["skin"]["f1"] == pytest.approx(2 * 6 / 18, abs=1e-4)
    assert report["classes"]["background"]["iou"] == pytest.approx(12 / 22, abs=1e-4)
    assert report["classes"]["eyes"]["iou"] == 0
    assert report["classes"]["hair"]["iou"] is None
    assert report["groups"]["skin"]["iou"] == pytest.approx(6 / 12)
    assert report["groups"]["parts"]["iou"] == 0
    assert report["top_label_ece"] == pytest.approx(10 / 28, abs=1e-4)  # always sure, 10 wrong


def test_what_the_labels_do_not_know_is_background():
    found = np.full((2, 4), CLASSES.index("ears"), np.uint8)
    true = np.zeros((2, 4), np.uint8)
    knowing, unknowing = Tally(CLASSES), Tally(CLASSES[:-1])
    for tally in (knowing, unknowing):
        tally.add(_sure(found), true)
    assert knowing.report()["classes"]["background"]["iou"] == 0
    report = unknowing.report()
    assert report["classes"]["background"] == {"iou": 1, "f1": 1, "ece": 0}
    assert report["groups"]["parts"]["ece"] == 0
    assert "ears" not in report["classes"]


def test_calibration_is_the_gap_between_stated_and_happened():
    rng = np.random.default_rng(0)
    p = rng.random((2, 100_000), np.float32)
    events = rng.random(p.shape) < p
    events[1] = rng.random(100_000) < p[1] ** 2  # overconfident by p - p^2, 1/6 on average
    reliability = Reliability(2)
    for half in (np.s_[:, :50_000], np.s_[:, 50_000:]):
        reliability.add(p[half], events[half])
    honest, boastful = reliability.error()
    assert honest < 0.01
    assert boastful == pytest.approx(1 / 6, abs=0.01)
    edge = Reliability(1)
    edge.add(np.ones((1, 3), np.float32), np.array([[True, True, False]]))
    assert edge.count[0, BINS - 1] == 3
    assert edge.error()[0] == pytest.approx(1 / 3)


class _Oracle(nn.Module):
    """Knows the drawn faces: it labels by colour. What a perfect parser would give."""

    def __init__(self, data: Path) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))
        photos = read_photos(data, "val")
        self.pictures = [torch.tensor(load_square(p, INPUT_PX)).float() for p in photos]
        self.labels = [torch.tensor(load_labels(p, INPUT_PX)).long() for p in photos]

    def forward(self, x: Tensor) -> Tensor:
        picture = (x[0].permute(1, 2, 0) + 1) * 127.5
        errors = [float((picture - known).abs().mean()) for known in self.pictures]
        labels = self.labels[int(np.argmin(errors))]
        return 20.0 * nn.functional.one_hot(labels, len(CLASSES)).permute(2, 0, 1)[None].float()


def test_a_perfect_parser_scores_one_and_a_blind_one_does_not(tmp_path: Path):
    data = write_photo_set(tmp_path / "data")
    report = measure(data, "val", _Oracle(data), "oracle")
    assert set(report["references"]) == {"a teacher's masks"}
    part = report["references"]["a teacher's masks"]
    assert (part["pictures"], part["people"]) == (2, 2)
    for condition in ("clean", "degraded"):
        assert list(part["conditions"][condition]) == [str(s) for s in SIZES_PX]
        scores = part["conditions"][condition]["64"]
        assert scores["classes"]["eyes"]["iou"] == 1
        assert scores["classes"]["brows"]["iou"] is None
        assert all(scores["groups"][g]["iou"] == 1 for g in ("hair", "skin", "parts"))
        assert scores["top_label_ece"] < 1e-3
    torch.manual_seed(0)
    blind = measure(data, "val", BiSeNet(BiSeNetConfig(width=0.5)).eval(), "blind")
    scores = blind["references"]["a teacher's masks"]["conditions"]["clean"]["256"]
    assert scores["classes"]["eyes"]["iou"] < 0.2
    assert scores["top_label_ece"] > 0
    table = markdown(report)
    assert "| clean | 32 | 1.000 / 1.000 |" in table
    assert "-" in table


def test_hand_made_masks_are_scored_apart_and_know_ears(tmp_path: Path):
    data = write_photo_set(tmp_path / "data")
    mask = np.zeros((256, 256), np.uint8)
    mask[100:140, 40:60] = 7
    (data / "parsing_gt_london").mkdir()
    assert cv2.imwrite(str(data / "parsing_gt_london" / "face_2.png"), mask)
    report = measure(data, "val", BiSeNet(BiSeNetConfig(width=0.5)).eval(), "blind")
    by_hand, taught = report["references"].values()
    assert by_hand["pictures"] == taught["pictures"] == 1
    assert "ears" in by_hand["conditions"]["clean"]["128"]["classes"]
    assert "ears" not in taught["conditions"]["clean"]["128"]["classes"]


def test_nobody_is_scored_on_the_training_people(tmp_path: Path):
    with pytest.raises(ConfigError, match="expected val or test"):
        measure(write_photo_set(tmp_path / "data"), "train", nn.Identity(), "x")


def test_pictures_are_shrunk_the_same_each_time():
    picture = np.random.default_rng(0).integers(0, 256, (256, 256, 3), np.uint8)
    for condition in ("clean", "degraded"):
        small = shrunk(picture, 32, condition, 5)
        assert small.shape == (32, 32, 3)
        assert np.array_equal(small, shrunk(picture, 32, condition, 5))
    assert not np.array_equal(shrunk(picture, 32, "degraded", 5), shrunk(picture, 32, "clean", 5))
    assert abs(float(shrunk(picture, 32, "clean", 0).mean()) - float(picture.mean())) < 2


def test_hard_cases_are_chosen_by_tag_turn_and_hair(tmp_path: Path):
    data = write_photo_set(tmp_path / "data")
    path = data / "parsing_pseudo" / "drawn" / "face_3.png"
    mask = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    mask[mask == 17] = 0
    assert cv2.imwrite(str(path), mask)

    def found() -> list[tuple[str, str]]:
        return [(case, photo.path.stem) for case, photo in hard_cases(data, "val")]

    assert found() == [("bald", "face_3"), ("bald", "face_2")]
    manifest = data / "train_photos" / "manifest.csv"
    with manifest.open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row, tag, yaw in zip(rows, ("", "", "", "Hats"), (0, 0, 0, -0.7), strict=True):
        row.update(tag=tag, yaw=yaw)
    with manifest.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    assert found() == [("hat", "face_3"), ("profile", "face_3"), ("bald", "face_2")]


def test_the_command_writes_figures_tables_and_the_sheet(tmp_path: Path, capsys):
    data = write_photo_set(tmp_path / "data")
    config = BiSeNetConfig(width=0.5)
    parser = tmp_path / "parser.safetensors"
    checkpoint.save(parser, "parser", config, BiSeNet(config).state_dict(), {})
    out = tmp_path / "out"
    arguments = ["--data", str(data), "--parser", str(parser), "--out", str(out)]
    assert components.main([*arguments, "--device", "cpu"]) == 0
    report = json.loads((out / "components.json").read_text())
    assert report["parser"].startswith("parser.safetensors (")
    assert report["hard_cases"] == [["bald", "face_2.png"], ["bald", "face_3.png"]]
    assert (out / "components.md").read_text() == markdown(report)
    sheet = cv2.imread(str(out / "components.png"))
    assert sheet.shape == (2 * 192, 7 * 192, 3)
    assert len(np.unique(sheet)) > 50
    assert components.main(["--data", str(tmp_path / "none"), "--parser", str(parser)]) == 2
    assert capsys.readouterr().err.startswith("error: no photo set in")
