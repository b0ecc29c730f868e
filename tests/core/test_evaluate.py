import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as Pillow

from cagface_core import checkpoint
from cagface_core.bisenet import BiSeNet, BiSeNetConfig
from cagface_core.engine import Engine
from cagface_core.errors import ConfigError, InputError, OutputError, WeightsError
from cagface_core.evaluate import report
from cagface_core.evaluate.evaluate import Evaluation, evaluate
from cagface_core.evaluate.landmarks import Landmarks, landmark_distance
from cagface_core.evaluate.methods import bicubic
from cagface_core.evaluate.metrics import psnr
from cagface_core.evaluate.perceptual import Frechet, ParserFeatures, parser_distance
from cagface_core.evaluate.sheet import write_sheet
from cagface_core.train.degrade import degrade
from cagface_core.train.photos import downsample4, load_square, read_photos
from tests.core.photo_set import write_photo_set


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_photo_set(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def parser(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small component network that was never trained."""
    torch.manual_seed(0)
    config = BiSeNetConfig(width=0.5)
    path = tmp_path_factory.mktemp("parser") / "parser.safetensors"
    checkpoint.save(path, "parser", config, BiSeNet(config).state_dict(), {})
    return path


@pytest.fixture(scope="module")
def measured(data: Path, parser: Path, tmp_path_factory: pytest.TempPathFactory):
    out = tmp_path_factory.mktemp("out")
    plan = Evaluation(data=data, out=out, weights=(), parser=parser, device="cpu")
    results = evaluate(plan)
    figures = report.as_json(results)
    report.write(out, figures)
    write_sheet(out, results)
    return out, results, figures


def test_the_report_has_every_protocol_method_and_metric(measured):
    out, _, figures = measured
    assert json.loads((out / "eval.json").read_text()) == json.loads(json.dumps(figures))
    counts = {name: part["n"] for name, part in figures["protocols"].items()}
    assert counts == {"whole_face": 2, "patch": 0, "webcam": 2}
    whole = figures["protocols"]["whole_face"]["methods"]
    assert list(whole) == ["bicubic", "lanczos", "bicubic-opencv"]
    for scores in whole.values():
        assert set(scores) - {"lpips", "fid"} == {
            "psnr", "gain", "psnr_y", "ssim", "ms_ssim", "parser_distance", "drift",
            "consistency_db", "psnr_hair", "psnr_skin", "psnr_parts", "parser_frechet",
        }  # fmt: skip
    assert whole["bicubic"]["gain"]["mean"] == 0
    assert whole["lanczos"]["gain"]["mean"] != 0
    assert all(method["ms_64_to_256"] > 0 for method in figures["methods"].values())
    assert any("landmark" in note for note in figures["notes"])


def test_the_bicubic_row_is_measured_on_the_very_inputs(measured, data: Path):
    values = []
    for photo in read_photos(data, "val"):
        hr = load_square(photo, 256)
        values.append(psnr(bicubic(downsample4(hr)), hr))
    figure = measured[2]["protocols"]["whole_face"]["methods"]["bicubic"]["psnr"]
    assert figure["mean"] == pytest.approx(np.mean(values), abs=1e-4)
    assert figure["low"] == pytest.approx(min(values), abs=1e-4)  # two persons: one, the other
    assert figure["high"] == pytest.approx(max(values), abs=1e-4)


def test_groups_say_how_they_are_defined(measured):
    groups = measured[2]["protocols"]["whole_face"]["groups"]
    assert groups["synthetic"]["n"] == groups["source: drawn"]["n"] == 2
    assert "real" not in groups
    skin = [name for name in groups if name.startswith("skin")]
    assert len(skin) == 1  # both are drawn in one colour
    assert "CIE L*" in groups[skin[0]]["definition"]


def test_the_markdown_shows_what_the_json_holds(measured):
    out, _, figures = measured
    text = (out / "eval.md").read_text()
    mean = figures["protocols"]["whole_face"]["methods"]["lanczos"]["psnr"]["mean"]
    assert f"| lanczos | {mean:.2f} [" in text
    assert "0 photos" in text
    assert "| synthetic | 2 |" in text


def test_the_sheet_has_a_row_a_face_and_a_column_a_method(measured):
    _, results, _ = measured
    shown = sum(len(part.faces) for part in results.measured)
    with Pillow.open(measured[0] / "eval.png") as sheet:
        assert sheet.width == 260 * 5
        assert sheet.height == 260 * shown + 38 * 2
        truth = np.asarray(sheet)[38 : 38 + 256, 260 * 4 : 260 * 4 + 256]
    assert np.array_equal(truth, results.measured[0].faces[0][1])


def test_a_photo_is_degraded_alike_however_many_are_measured(data: Path, parser: Path, tmp_path):
    plan = Evaluation(
        data=data, out=tmp_path, weights=(), parser=parser, device="cpu", limit=1,
        protocols=("webcam",),
    )  # fmt: skip
    one = evaluate(plan).measured
    assert [part.protocol.name for part in one] == ["webcam"]
    whole = evaluate(
        Evaluation(
            data=data, out=tmp_path, weights=(), parser=parser, device="cpu",
            protocols=("webcam",),
        )
    ).measured  # fmt: skip
    assert len(one[0].photos) == 1
    assert one[0].scores["bicubic"]["psnr"][0] == whole[0].scores["bicubic"]["psnr"][0]


def test_bad_input_is_one_clear_error(data: Path, parser: Path, tmp_path: Path):
    def run(**options):
        plan = {"data": data, "out": tmp_path / "out", "weights": (), "parser": parser}
        evaluate(Evaluation(**(plan | {"device": "cpu"} | options)))

    with pytest.raises(InputError, match="no photo set"):
        run(data=tmp_path)
    with pytest.raises(ConfigError, match="unknown weights 'fine'"):
        run(weights=("fine",))
    with pytest.raises(WeightsError, match="no weights file"):
        run(parser=tmp_path / "none.safetensors")
    with pytest.raises(InputError, match="no landmark model"):
        run(landmarks=tmp_path / "none.task")
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot write"):
        run(out=tmp_path / "file")


def test_the_parser_distance_grows_with_the_difference(parser: Path, data: Path):
    features = ParserFeatures(parser, torch.device("cpu"))
    hr = load_square(read_photos(data, "val")[0], 256)
    truth = features.see(hr)
    noisy = [
        np.clip(hr + np.random.default_rng(0).normal(0, sigma, hr.shape), 0, 255).astype(np.uint8)
        for sigma in (4, 40)
    ]
    near, far = (parser_distance(features.see(picture), truth) for picture in noisy)
    assert parser_distance(truth, truth) == 0
    assert 0 < near < far < 4


def test_the_frechet_distance_of_shifted_gaussians():
    rng = torch.Generator().manual_seed(0)
    vectors = torch.randn(500, 4, generator=rng)
    distance = Frechet(4)
    distance.add(vectors, real=True)
    distance.add(vectors + torch.tensor([3.0, 0.0, 0.0, 0.0]), real=False)
    assert distance.compute() == pytest.approx(9.0, abs=1e-3)  # equal spread: the means' alone


def test_landmarks_of_a_face_and_of_none(shared_data: Path):
    model = shared_data / "models" / "mediapipe" / "face_landmarker_v2_with_blendshapes.task"
    photo = next(p for p in read_photos(shared_data, "val") if p.path.parent.name == "london_set")
    hr = load_square(photo, 256)
    with Landmarks(model) as landmarks:
        truth = landmarks.find(hr)
        assert truth is not None
        soft = landmark_distance(landmarks.find(bicubic(downsample4(hr))), truth)
        assert landmarks.find(np.full((256, 256, 3), 128, np.uint8)) is None
    assert 0 < soft < 10
    assert landmark_distance(truth, truth) == 0
    apart = np.linalg.norm(truth[33] - truth[263])
    assert landmark_distance(truth + np.array([apart, 0]), truth) == pytest.approx(100)
    assert np.isnan(landmark_distance(None, truth))


@pytest.mark.parametrize(
    ("weights", "degraded", "least_db"), [("clean", False, 2.8), ("webcam", True, 0.8)]
)
def test_the_shipped_weights_beat_bicubic_on_what_they_were_made_for(
    shared_data: Path, weights: str, degraded: bool, least_db: float
):
    engine = Engine(checkpoint.find_sr("nano", weights), "cpu-float32")
    gains = []
    for index, photo in enumerate(read_photos(shared_data, "val")[::12]):
        hr = load_square(photo, 256)
        lr = degrade(hr, np.random.default_rng([2024, index])) if degraded else downsample4(hr)
        gains.append(psnr(engine.upscale(lr), hr) - psnr(bicubic(lr), hr))
    assert len(gains) == 15
    assert np.mean(gains) > least_db
