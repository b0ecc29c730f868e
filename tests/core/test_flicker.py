"""The flicker figures on drawn streams whose answer is known, and on the demo clip."""

import json
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest

from cagface_core import checkpoint
from cagface_core.bisenet import BiSeNet, BiSeNetConfig
from cagface_core.errors import ConfigError, InputError
from cagface_core.evaluate import flicker
from cagface_core.evaluate.flicker import FIGURES, Meter, measure, read_clip
from cagface_core.paste import upscale_frame
from cagface_core.types import Enhanced, Face, Frame, Image

FACE = Face(1, 16, 16, 64, 64, 0.9)


def _texture(seed: int = 0) -> Image:
    rng = np.random.default_rng(seed)
    blurred = cv2.GaussianBlur(rng.integers(0, 256, (140, 140, 3), np.uint8), (0, 0), 2.0)
    return np.asarray(cv2.normalize(blurred, None, 20, 230, cv2.NORM_MINMAX), np.uint8)


def _noisy(shift: int = 0, count: int = 5) -> list[Image]:
    """A texture under sensor noise, moving to the left by ``shift`` pixels a frame."""
    rng = np.random.default_rng(1)
    clean = _texture()
    crops = [clean[:96, shift * i : 96 + shift * i] for i in range(count)]
    noisy = [crop + rng.normal(0, 2, crop.shape) for crop in crops]
    return [np.clip(picture, 0, 255).astype(np.uint8) for picture in noisy]


def _report(inputs: list[Image], outputs: list[Image], face: Face = FACE) -> dict:
    meter = Meter(2)
    for rgb, out in zip(inputs, outputs, strict=True):
        meter.add(rgb, Enhanced(out, (face,)))
    return meter.report()


def _plain(inputs: list[Image]) -> list[Image]:
    return [upscale_frame(rgb, 2) for rgb in inputs]


@pytest.mark.parametrize("shift", [0, 2])
def test_the_bicubic_upscale_scores_one(shift: int):
    inputs = _noisy(shift)
    report = _report(inputs, _plain(inputs))
    assert report["faces"] == 4
    for name in FIGURES:
        assert report[name]["ratio"] == 1
    assert report["static"]["bicubic"] > 0.5
    assert report["warped"]["bicubic"] > 0.5


def test_added_shimmer_scores_more_and_a_calm_face_less():
    inputs = _noisy()
    rng = np.random.default_rng(2)
    plain = _plain(inputs)
    shimmer = [np.clip(p + rng.normal(0, 4, p.shape), 0, 255).astype(np.uint8) for p in plain]
    worse, calm = _report(inputs, shimmer), _report(inputs, [plain[0]] * len(plain))
    for name in ("static", "fine", "warped"):
        assert worse[name]["ratio"] > 1.5
    assert calm["static"]["ratio"] == 0
    assert calm["fine"]["ratio"] == 0
    assert calm["detail"]["ratio"] == pytest.approx(1, abs=0.2)


def test_only_the_face_is_looked_at():
    inputs = _noisy()
    outputs = _plain(inputs)
    for index, out in enumerate(outputs):
        out[:30], out[162:] = index * 20, index * 20
    assert _report(inputs, outputs)["static"]["ratio"] == 1


def test_moving_pixels_are_not_static_and_are_followed():
    clean = _texture()
    inputs = [np.ascontiguousarray(clean[:96, 3 * i : 96 + 3 * i]) for i in range(5)]
    plain = _plain(inputs)
    report = _report(inputs, plain)
    moved = float(np.mean([np.abs(b.astype(int) - a) for a, b in pairwise(plain)]))
    assert moved > 10
    assert report["warped"]["bicubic"] < moved / 5
    still = _report(inputs[:1] * 3, plain[:1] * 3)
    assert still["static"] == {"ratio": None, "enhanced": 0, "bicubic": 0}
    # a texture fixed to the screen stays while the face moves on: it is seen
    grain = np.random.default_rng(3).normal(0, 10, plain[0].shape)
    stuck = [np.clip(p + grain, 0, 255).astype(np.uint8) for p in plain]
    assert _report(inputs, stuck)["warped"]["ratio"] > 2


def test_new_faces_and_cuts_are_not_compared():
    inputs = _noisy()
    meter = Meter(2)
    for index, rgb in enumerate(inputs):
        meter.add(rgb, Enhanced(upscale_frame(rgb, 2), (Face(index, 16, 16, 64, 64, 0.9),)))
    report = meter.report()
    assert report == {"faces": 0, **{name: {"ratio": None} for name in FIGURES}}


def test_frames_are_read_and_enhanced_in_order(demo_clip: Path):
    frames = list(read_clip(demo_clip, 0.2))
    assert [round(frame.time_s, 3) for frame in frames] == [0, 0.04, 0.08, 0.12, 0.16]
    seen: list[Frame] = []

    def enhance(frame: Frame) -> Enhanced:
        seen.append(frame)
        return Enhanced(upscale_frame(frame.rgb, 2), (Face(1, 90, 40, 90, 110, 1.0),))

    report = measure(iter(frames), enhance, 2)
    assert seen == frames
    assert report["faces"] == 4
    assert report["static"]["ratio"] == 1


def test_the_command_measures_the_shipped_weights(demo_clip: Path, tmp_path: Path, capsys):
    out = tmp_path / "out"
    config = BiSeNetConfig(width=0.5)
    parser = tmp_path / "parser.safetensors"
    checkpoint.save(parser, "parser", config, BiSeNet(config).state_dict(), {})
    arguments = [str(demo_clip), "--seconds", "0.12", "--max-crop-px", "64", "--device", "cpu"]
    assert flicker.main([*arguments, "--parser", str(parser), "--out", str(out)]) == 0
    (row,) = json.loads((out / "flicker.json").read_text())
    assert (row["clip"], row["weights"], row["scale"]) == ("demo.mp4", "nano-webcam", 2)
    assert row["faces"] == 2
    assert all(row[name]["ratio"] > 0 for name in FIGURES)
    assert row["detail"]["ratio"] != 1
    table = (out / "flicker.md").read_text()
    assert f"| demo.mp4 | nano-webcam | 2x | 2 | {row['static']['ratio']:.2f} |" in table
    assert table in capsys.readouterr().out


def test_what_cannot_be_measured_is_one_line(tmp_path: Path, capsys):
    (tmp_path / "x.mp4").write_text("no video")
    with pytest.raises(InputError, match=r"x\.mp4 cannot be read"):
        list(read_clip(tmp_path / "x.mp4", 1))
    with pytest.raises(InputError, match="cannot be read"):
        list(read_clip(tmp_path / "absent.mp4", 1))
    with pytest.raises(ConfigError, match="unknown weights 'fine'; shipped: "):
        checkpoint.find_named("fine")
    assert flicker.main([str(tmp_path / "x.mp4"), "--weights", "fine"]) == 2
    output = capsys.readouterr().err
    assert output.startswith("error: unknown weights")
    assert output.count("\n") == 1
