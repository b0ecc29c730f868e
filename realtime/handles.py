"""The handles of a live run: what window, panel and command line hold it by."""

from __future__ import annotations

from dataclasses import dataclass

from realtime.controls import Controls
from realtime.governor import Governor
from realtime.monitor import Monitor
from realtime.recorder import Recorder
from realtime.stats import Stats


@dataclass(frozen=True, slots=True)
class Live:
    """The handles of a live run, for whoever watches or steers it."""

    controls: Controls
    governor: Governor
    monitor: Monitor
    stats: Stats
    recorder: Recorder
