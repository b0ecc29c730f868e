"""The options that every enhancing command shares."""

import argparse
from pathlib import Path

import pytest

from cagface_core import EnhancerConfig
from realtime.options import add_enhancer_arguments, enhancer_config, settings_of


@pytest.mark.parametrize(
    ("words", "parser"),
    [([], None), (["--parser", "my/79999_iter.pth"], Path("my/79999_iter.pth"))],
)
def test_another_component_network_is_passed_on(words, parser):
    command = argparse.ArgumentParser()
    add_enhancer_arguments(command, weights="webcam", scale=2, max_faces=8)
    config = enhancer_config(command.parse_args(words), "file")
    assert config.parser == parser
    assert (config.weights, config.scale, config.mode) == ("webcam", 2, "file")


@pytest.mark.parametrize("option", ["weights", "parser"])
def test_other_contents_of_ones_own_file_are_another_setting(tmp_path, option):
    file = tmp_path / "own.safetensors"
    file.write_bytes(b"one")
    config = EnhancerConfig(mode="file", **{option: str(file) if option == "weights" else file})
    before = settings_of(config)
    assert settings_of(config) == before
    file.write_bytes(b"two")
    after = settings_of(config)
    assert {k for k in after if after[k] != before[k]} == {f"the file of --{option}"}


def test_another_version_is_another_setting(monkeypatch):
    before = settings_of(EnhancerConfig())
    monkeypatch.setattr("realtime.options.package_version", lambda: "0.0.0")
    assert settings_of(EnhancerConfig()) == {**before, "version of cagface-live": "0.0.0"}
