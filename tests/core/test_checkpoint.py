from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from cagface_core import checkpoint
from cagface_core.bisenet import BiSeNet, BiSeNetConfig
from cagface_core.cagface import CAGFace, CAGFaceConfig
from cagface_core.errors import ConfigError, OutputError, WeightsError

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
