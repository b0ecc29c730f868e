"""Whose heatmaps are found anew, and when; the parser itself is elsewhere."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pytest
import torch

from cagface_core.attention import MAP_PX
from cagface_core.engine import Parsing
from cagface_core.heatmaps import Heatmaps
from cagface_core.looks import Looks
from cagface_core.state import State
from cagface_core.types import Crop, Face

FACES = [Face(i, 10 + 100 * i, 20, 60, 60, 1.0) for i in range(3)]
CROPS = [Crop(round(face.x), 10, 96) for face in FACES]
PICTURES = [np.full((96, 96, 3), 60 + 40 * i, np.uint8) for i in range(3)]


class Engine:
    """Finds the same everywhere, beside only when it is told to."""

    no_maps = torch.zeros(1, 3, MAP_PX, MAP_PX)

    def __init__(self) -> None:
        self.at_once, self.beside, self.ready = 0, 0, False

    def parse(self, pictures: list[Any]) -> list[torch.Tensor]:
        self.at_once += len(pictures)
        return [self.no_maps + 0.5] * len(pictures)

    def parse_aside(self, _picture: object) -> Parsing:
        self.beside += 1
        return Parsing(lambda: self.ready, lambda: self.no_maps + 0.25)


@pytest.mark.parametrize("waits", [False, True])
def test_no_live_frame_finds_those_of_several_faces_anew(waits: bool):
    engine, state = Engine(), State(Looks(0.25, 0.5))
    heatmaps = Heatmaps(lambda what, error: pytest.fail(f"{what}: {error}"), waits=waits)

    def attend(time_s: float) -> list[float]:
        found, _ = heatmaps.attend(
            cast("Any", engine), FACES, CROPS, PICTURES, time_s, 1.0, state
        )  # fmt: skip
        return [float(maps.mean()) for maps in found]

    assert attend(0.0) == [0.5] * 3
    assert attend(0.3) == [0.5] * 3
    assert (engine.at_once, engine.beside) == (3, 0)
    if waits:
        attend(0.7)
        assert (engine.at_once, engine.beside) == (6, 0)
        return
    for frame in range(1, 5):
        assert attend(0.6 + frame / 30) == [0.5] * 3  # the old ones go on
        assert engine.beside == min(frame, 3)
    engine.ready = True
    assert attend(0.8) == [0.25] * 3
    assert (engine.at_once, engine.beside) == (3, 3)
