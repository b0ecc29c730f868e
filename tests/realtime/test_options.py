"""The options that every enhancing command shares."""

import argparse
from pathlib import Path

import pytest

from realtime.options import add_enhancer_arguments, enhancer_config


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
