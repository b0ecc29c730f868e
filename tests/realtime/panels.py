"""What the panel's tests share: a run without a loop, whose pictures a test shows itself."""

from __future__ import annotations

import itertools
import json
import struct
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np
from websockets.sync.client import connect

from cagface_core import Enhanced, Face, Frame, Image, Outcome, Tuning
from realtime.controls import Controls, Settings
from realtime.governor import Governor
from realtime.handles import Live
from realtime.monitor import Monitor
from realtime.panel.server import Panel
from realtime.plain import upscale
from realtime.recorder import Recorder
from realtime.stats import Stats
from tests.realtime.helpers import picture

FACES = (Face(3, 16, 12, 24, 30, 1.0), Face(7, 60, 20, 20, 25, 1.0))
WIDTH, HEIGHT = 96, 72


class CountingControls(Controls):
    """Remembers every change."""

    def __init__(self) -> None:
        super().__init__(Settings(Tuning("pico", 2)), ("pico", "nano"))
        self.changes: list[dict[str, Any]] = []

    def change(self, **changes: Any) -> Settings:
        self.changes.append(changes)
        return super().change(**changes)


@dataclass
class Shown:
    """A panel at work, and what a test does with it."""

    panel: Panel
    live: Live
    controls: CountingControls
    folder: Path
    _numbers: itertools.count[int] = field(default_factory=itertools.count)

    def show(self, *, faces: tuple[Face, ...] = FACES) -> None:
        """One more picture is delivered; frozen, it stays the one before."""
        if self.controls.settings.freeze and self.live.monitor.newest is not None:
            return
        rgb = picture(next(self._numbers), WIDTH, HEIGHT)
        wanted = self.controls.settings.tuning.wanted
        outcomes = tuple(
            Outcome.ENHANCED if wanted(face.id) else Outcome.LEFT for face in faces
        )  # fmt: skip
        enhanced = Enhanced(
            upscale(rgb, 2), faces, outcomes, {"network": 4.0}, {"attention_hits": 3}
        )
        self.live.stats.enhanced(enhanced)
        self.live.stats.time("latency", 20.0)
        self.live.stats.delivered()
        self.live.monitor.show(Frame(rgb), enhanced, Frame(enhanced.rgb))

    @property
    def root(self) -> str:
        """The panel's address without its token."""
        return self.panel.url[: self.panel.url.index("/", 8)]

    def post(self, what: str, body: object) -> httpx.Response:
        return httpx.post(
            f"{self.panel.url}api/{what}", json=body, headers={"origin": self.root}, timeout=20
        )

    def watch(self, **options: Any) -> connect:
        """A browser's connection, to be entered."""
        options = {"origin": self.root, "open_timeout": 20} | options
        return connect(self.panel.url.replace("http", "ws", 1) + "ws", **options)


@contextmanager
def shown_panel(folder: Path):
    """A panel over a run that shows what it is told to."""
    controls, stats = CountingControls(), Stats()
    stats.start()
    recorder = Recorder(2 * WIDTH, 2 * HEIGHT, Fraction(25))
    live = Live(controls, Governor(Fraction(25)), Monitor(), stats, recorder)
    panel = Panel()
    try:
        panel.start(live, folder)
        yield Shown(panel, live, controls, folder)
    finally:
        panel.close()
        recorder.close()


def unpack(message: bytes) -> tuple[dict[str, Any], Image, Image]:
    """A binary message as a browser reads it: header, picture before, picture after."""
    (length,) = struct.unpack(">I", message[:4])
    header = json.loads(message[4 : 4 + length])
    middle = 4 + length + header["before"]
    before, after = (
        np.asarray(cv2.imdecode(np.frombuffer(part, np.uint8), cv2.IMREAD_COLOR_RGB), np.uint8)
        for part in (message[4 + length : middle], message[middle:])
    )
    return header, before, after
