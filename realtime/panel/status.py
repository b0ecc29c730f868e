"""What is known of a live run goes out as one JSON object for browsers here."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from realtime.controls import Settings
from realtime.panel.pictures import faces_of

if TYPE_CHECKING:
    from realtime.handles import Live
    from realtime.stats import StageTime

_KEPT_S = 0.4
_DECISIONS = 20
_COUNTS = ("frames", "dropped", "passthrough", "attention_hits", "attention_misses")


class Statuses:
    """Looks at a run at most every 0.4 s, however many browsers ask.

    Args:
        live: the run.
        clock: seconds that only rise.
    """

    def __init__(self, live: Live, clock: Callable[[], float] = time.monotonic) -> None:
        self._live, self._clock = live, clock
        self._looked_s = float("-inf")
        self._text = ""

    @property
    def text(self) -> str:
        """The newest status as JSON."""
        now_s = self._clock()
        if now_s - self._looked_s >= _KEPT_S:
            self._looked_s, self._text = now_s, json.dumps(status_of(self._live))
        return self._text


def status_of(live: Live) -> dict[str, Any]:
    """Everything that the page shows besides the picture; see `realtime.panel.app`."""
    shown, recording = live.monitor.newest, live.recorder.recording
    return {
        "settings": settings_of(live.controls.settings),
        "presets": live.controls.presets,
        "stats": _stats_of(live),
        "faces": faces_of(shown) if shown else [],
        "governor": {
            "level": live.governor.level,
            "what": live.governor.what,
            "decisions": [
                {"time_s": one.time_s, "level": one.level, "reason": one.reason, "what": one.what}
                for one in live.governor.decisions[-_DECISIONS:]
            ],
        },
        "recording": recording.name if recording else None,
    }


def settings_of(settings: Settings) -> dict[str, Any]:
    """The settings by the names under which they are changed; own strengths as ``faces``."""
    tuning = settings.tuning
    return {
        "enhance": settings.enhance,
        "freeze": settings.freeze,
        "governor": settings.governor,
        "preset": tuning.preset,
        "scale": tuning.scale,
        "strength": tuning.strength,
        "max_faces": tuning.max_faces,
        "faces": {str(face): strength for face, strength in tuning.strength_of.items()},
    }


def _stats_of(live: Live) -> dict[str, Any]:
    stats, counts = live.stats, live.stats.counts()
    return {
        "seconds": round(stats.elapsed_s, 1),
        "fps": round(stats.current_fps, 2),
        "rate": round(live.governor.rate_hz, 2),
        "captured_fps": round(stats.captured_fps, 2),
        **{name: counts[name] for name in _COUNTS},
        "stages": {name: _times_of(time) for name, time in stats.recent().items()},
    }


def _times_of(time: StageTime) -> Mapping[str, float]:
    """Milliseconds of a stage, of its newest values."""
    return {
        "p50": round(time.p50_ms, 2),
        "p95": round(time.p95_ms, 2),
        "p99": round(time.p99_ms, 2),
    }
