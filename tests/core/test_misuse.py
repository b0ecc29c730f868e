"""What a program may give the core by mistake: refused in one line, or taken as it is meant."""

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cagface_core import ConfigError, EnhancerConfig, FaceEnhancer, Frame, InputError


@pytest.fixture(scope="module")
def enhancer() -> Iterator[FaceEnhancer]:
    with closing(FaceEnhancer(EnhancerConfig(preset="pico"))) as made:
        yield made


@pytest.mark.parametrize(
    ("picture", "said"),
    [
        (np.zeros((64, 64, 3)), r"got an array of shape \(64, 64, 3\), float64"),
        (np.zeros((64, 64, 3), np.uint16), "uint16"),
        (np.zeros((64, 64), np.uint8), r"shape \(64, 64\)"),
        (np.zeros((64, 64, 4), np.uint8), r"shape \(64, 64, 4\)"),
        (np.zeros((1, 64, 64, 3), np.uint8), r"shape \(1, 64"),
        (torch.zeros(64, 64, 3), "got Tensor"),
        ([[1, 2, 3]], "got list"),
        (None, "got NoneType"),
    ],
)
def test_what_is_no_picture_is_refused_in_one_line(enhancer: FaceEnhancer, picture: Any, said: str):
    ways: list[Callable[[], object]] = [
        lambda: enhancer.enhance_picture(picture),
        lambda: enhancer.enhance_aligned(picture),
        lambda: enhancer.enhance(Frame(picture), enhancer.new_state()),
    ]
    for way in ways:
        with pytest.raises(InputError, match=f"^expected an RGB picture.*{said}"):
            way()


def test_paths_may_be_text_and_text_a_path(tmp_path: Path):
    config = EnhancerConfig(weights=tmp_path / "w.safetensors", parser="p.pth")  # pyright: ignore[reportArgumentType]
    assert config.weights == str(tmp_path / "w.safetensors")
    assert config.parser == Path("p.pth")
    with pytest.raises(ConfigError, match="leave it out"):
        EnhancerConfig(preset="")
