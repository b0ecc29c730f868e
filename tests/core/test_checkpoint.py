from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from cagface_core import EnhancerConfig, FaceEnhancer, checkpoint
from cagface_core.bisenet import BiSeNet, BiSeNetConfig
from cagface_core.cagface import CAGFace, CAGFaceConfig
from cagface_core.errors import ConfigError, OutputError, WeightsError
from cagface_core.fold import fold

CONFIG = CAGFaceConfig(12, 1)


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "mine.safetensors"
    checkpoint.save(path, "sr", CONFIG, CAGFace(CONFIG).state_dict(), {"protocol": "clean"})
    return path


def test_what_was_saved_is_loaded(weights: Path):
    model, found = checkpoint.load_sr(weights)
    assert model.config == CONFIG
    assert found.facts == {"protocol": "clean"}
    assert not model.training
    block = torch.rand(1, 6, 8, 8)
    again, _ = checkpoint.load_sr(weights)
    assert torch.equal(model(block)[1], again(block)[1])


def test_a_parser_is_loaded_and_not_mistaken(tmp_path: Path, weights: Path):
    path = tmp_path / "parser.safetensors"
    config = BiSeNetConfig(width=0.5)
    checkpoint.save(path, "parser", config, BiSeNet(config).state_dict(), {})
    assert checkpoint.load_parser(path)[0].config == config
    with pytest.raises(WeightsError, match="expected 'sr'"):
        checkpoint.load_sr(path)
    with pytest.raises(WeightsError, match="expected 'parser'"):
        checkpoint.load_parser(weights)


def test_damage_is_noticed(weights: Path, tmp_path: Path):
    data = bytearray(weights.read_bytes())
    data[-5] ^= 0xFF
    flipped = tmp_path / "flipped.safetensors"
    flipped.write_bytes(data)
    with pytest.raises(WeightsError, match="damaged"):
        checkpoint.load_sr(flipped)
    short = tmp_path / "short.safetensors"
    short.write_bytes(data[: len(data) // 2])
    with pytest.raises(WeightsError, match="not a readable safetensors"):
        checkpoint.load_sr(short)
    text = tmp_path / "text.safetensors"
    text.write_text("hello")
    with pytest.raises(WeightsError, match="not a readable safetensors"):
        checkpoint.load_sr(text)


def test_foreign_files_are_named(weights: Path, tmp_path: Path):
    foreign = tmp_path / "foreign.safetensors"
    save_file(load_file(weights), foreign)
    with pytest.raises(WeightsError, match="no CAGFace Live header"):
        checkpoint.load_sr(foreign)
    with pytest.raises(WeightsError, match="no weights file"):
        checkpoint.load_sr(tmp_path / "absent.safetensors")


def test_tensors_that_do_not_fit_are_refused(tmp_path: Path):
    path = tmp_path / "odd.safetensors"
    checkpoint.save(path, "sr", CAGFaceConfig(16, 1), CAGFace(CONFIG).state_dict(), {})
    with pytest.raises(WeightsError, match="does not fit"):
        checkpoint.load_sr(path)


def test_a_failed_save_leaves_nothing(tmp_path: Path):
    with pytest.raises(OutputError, match="cannot write"):
        checkpoint.save(tmp_path / "no" / "x.safetensors", "sr", CONFIG, {"a": torch.ones(1)}, {})
    assert list(tmp_path.iterdir()) == []


def test_names_are_resolved():
    assert checkpoint.find_sr("nano", "./own.safetensors") == Path("own.safetensors")
    with pytest.raises(ConfigError, match="unknown preset 'huge'"):
        checkpoint.find_sr("huge", "clean")
    with pytest.raises(ConfigError, match="no weights 'nice'"):
        checkpoint.find_sr("nano", "nice")


def test_between_two_weights_lies_a_mixture(tmp_path: Path):
    config = CAGFaceConfig(features=12, units=1)
    torch.manual_seed(0)
    a, b = CAGFace(config), CAGFace(config)
    for name, model in (("a", a), ("b", b)):
        checkpoint.save(tmp_path / name, "sr", config, model.state_dict(), {"protocol": "webcam"})
    block = torch.rand(1, 6, 8, 8) * 2 - 1
    for share, expected in ((0.0, a), (1.0, b)):
        mixed, found = checkpoint.load_between(tmp_path / "a", tmp_path / "b", share)
        torch.testing.assert_close(mixed(block), fold(expected)(block), rtol=0, atol=1e-5)
        assert found.sha256 == checkpoint.load(tmp_path / "a").sha256
    half, _ = checkpoint.load_between(tmp_path / "a", tmp_path / "b", 0.5)
    torch.testing.assert_close(
        half.stem1.bias, (a.stem1.bias + b.stem1.bias) / 2, rtol=0, atol=1e-6
    )
    other = CAGFaceConfig(features=13, units=1)
    checkpoint.save(tmp_path / "c", "sr", other, CAGFace(other).state_dict(), {})
    with pytest.raises(WeightsError, match="cannot be mixed"):
        checkpoint.load_between(tmp_path / "a", tmp_path / "c", 0.5)


@pytest.mark.parametrize(
    ("preset", "weights", "told"),
    [("nano", "nano-webcam", False), ("pico", "nano-webcam", True), (None, "pico-webcam", False),
     ("pico", "webcam", False)],
)  # fmt: skip
def test_a_preset_that_a_file_makes_nothing_of_is_told(caplog, preset, weights, told):
    file = weights if weights == "webcam" else str(checkpoint.find_named(weights))
    config = EnhancerConfig(preset=preset, weights=file, device="cpu-float32", mode="image")
    with FaceEnhancer(config) as enhancer:
        if weights == "webcam":
            enhancer.load("nano")  # as the governor does
    assert ("is not used" in caplog.text) is told
    assert (f"preset {preset} is not used: {file} holds" in caplog.text) is told
