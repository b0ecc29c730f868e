"""The time each frame took goes in; what the next may spend, so that the rate holds, comes out.

A late frame helps nobody in a call, so quality gives way and latency does not. What is spared
first is what is seen least: how often components are looked for and the steadying of what moves,
then the size of the network, faces far from the camera, the size at which it sees a face, how many
faces, the size of the picture; last the enhancement. Where there is much room, it is spent:
first the network sees faces larger than was asked for, which shows most, then a larger one does.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise
from statistics import median

from cagface_core import Enhanced, Outcome, Rung, Tuning, narrowed, seen_face

_log = logging.getLogger(__name__)

_DEFAULT_RATE_HZ = 30.0

_FULL = 0.95
"""Of the time between two frames: more than this on average, and frames are lost."""

_ROOM = 0.65
"""At most this much is spent where something costlier is tried."""

_FULL_OF_MORE = 0.75
"""The same where more than is asked for is spent: nobody shall have a late frame for it."""

_LARGER_NETWORK = 3.5
"""So many times as long as a network takes the next larger one, on a processor."""

_LARGER_FACE = 1.6
"""A network's time grows with the side at which it sees a face to this power, more or less: from 96
to 192 px two and a half times, where resampling falls away, from 192 to 384 three and a half."""

_WINDOW = 30
_ENOUGH = 12
_ENOUGH_MS = 500.0
"""Frames looked at, at most and at least; fewer where they are this slow."""

_SLOWEST = 5
"""The slowest of so many frames does not count: a system that stalls now and then is no load."""

_LAST_MS = 1500.0
"""Too much for this long, and there is no enhancement at all: not sooner, as people notice that."""

_WORST = 4.0
"""No frame counts as more than this many times the time there is, so that a hang is forgotten."""

_WAIT_S = 3.0
_LONGEST_WAIT_S = 60.0
_LONGEST_WAIT_FOR_MORE_S = 1800.0
"""Before something costlier is tried; doubled for this level each time it was too much."""

_PROVEN_S = 10.0
"""A step up that holds this long was right."""

_PATIENCE = 3.0
_NEAR = 0.5
"""A face below this share of the largest one's height is far from the camera."""

_CROPS_PX = (384, 256, 192, 96, 64)
"""Not 128: a crop of 256 is seen at that where 96 is the limit, and one of 192 costs as much so as
at its own size, for resampling takes what it saves."""

_KEPT_DECISIONS = 200


@dataclass(frozen=True, slots=True)
class Decision:
    """One step of the governor.

    Attributes:
        time_s: when, in seconds of ``time.time``.
        level: after it; 0 spends all that is asked for, below is more.
        what: is spared now, or spent, for people; empty at level 0.
        reason: why.
    """

    time_s: float
    level: int
    what: str
    reason: str


@dataclass(frozen=True, slots=True)
class _Level:
    what: str
    tuning: Tuning | None


class Governor:
    """Holds the rate of a source. Used by the thread that enhances; any thread may read it."""

    def __init__(
        self, rate: Fraction | None, presets: Sequence[str] = (), rungs: Sequence[Rung] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        """Start with all that is asked for.

        Args:
            rate: to be held, in Hz; None is 30.
            presets: that may be used in place of a larger one, smallest first.
            rungs: what is usual, then what it may be raised to, one after another; a tuning that
                asks for another preset or crop than is usual keeps that.
            clock: seconds that never go back.
        """
        self.rate_hz = float(rate) if rate else _DEFAULT_RATE_HZ
        self._presets, self._rungs = tuple(presets), tuple(rungs)
        self._clock = clock
        self._loads: deque[float] = deque(maxlen=_WINDOW)
        self._network_loads: deque[float] = deque(maxlen=_WINDOW)
        self._spent_ms = self._over_ms = 0.0
        self._decisions: deque[Decision] = deque(maxlen=_KEPT_DECISIONS)
        self._asked: Tuning | None = None
        self._levels: list[_Level] = []
        self._level = self._asked_at = 0
        self._faces = self._far = 0
        self._largest_px = 0.0
        self._waits_s: dict[int, float] = {}
        self._changed_s = clock()
        self._raised_s: float | None = None

    @property
    def level(self) -> int:
        """How far it has gone down its ladder; 0 spends all that is asked for, below is more."""
        return self._level - self._asked_at

    @property
    def decisions(self) -> tuple[Decision, ...]:
        """The newest decisions, newest last."""
        return tuple(self._decisions)

    @property
    def what(self) -> str:
        """What is spared or spent now, for people; empty where all that is asked for is given."""
        return self._levels[self._level].what if self._levels else ""

    def limit(self, asked: Tuning) -> Tuning | None:
        """What the next frame may spend; None: pass it through."""
        if asked != self._asked:
            # The level stays: what was too much is hardly less now, and if it is, it rises.
            self._asked = asked
            more = _more(asked, self._rungs)
            levels = [*more, *_ladder(asked, self._presets)]
            if len(levels) != len(self._levels):
                self._waits_s.clear()
            level = min(max(0, self.level + len(more)), len(levels) - 1)
            # In this order, as other threads read both: a level must never be beyond its ladder.
            self._level = min(self._level, level)
            self._levels, self._asked_at, self._level = levels, len(more), level
        self._rise()
        return self._levels[self._level].tuning

    def took(self, enhance_ms: float, enhanced: Enhanced) -> None:
        """A frame was enhanced in this time, in milliseconds."""
        self._faces = sum(outcome is not Outcome.LEFT for outcome in enhanced.outcomes)
        self._largest_px = max((max(face.w, face.h) for face in enhanced.faces), default=0.0)
        nearest_px = max((face.h for face in enhanced.faces), default=0.0)
        self._far = sum(face.h < _NEAR * nearest_px for face in enhanced.faces)
        self._loads.append(min(enhance_ms * self.rate_hz / 1e3, _WORST))
        network_ms = enhanced.timings_ms.get("network", enhance_ms)
        self._network_loads.append(network_ms * self.rate_hz / 1e3)
        self._spent_ms += enhance_ms
        load, full = self._load, _FULL if self.level >= 0 else _FULL_OF_MORE
        self._over_ms = self._over_ms + enhance_ms if load > full else 0.0
        below = self._below(int(load) or 1)
        enough_ms = _LAST_MS if self._levels[below].tuning is None else 0.0
        if load <= full or not self._sure or self._over_ms < enough_ms:
            return
        if self._raised_s is not None:
            longest_s = _LONGEST_WAIT_S if self.level >= 0 else _LONGEST_WAIT_FOR_MORE_S
            self._waits_s[self._level] = min(2 * self._wait_s(self._level), longest_s)
        self._go(below, f"a frame takes {self._spent(load)}")
        self._raised_s = None

    def _rise(self) -> None:
        """Try what costs more, where there has been room for long enough."""
        now_s = self._clock()
        if self._raised_s is not None and now_s - self._raised_s >= _PROVEN_S:
            self._raised_s = None
            self._waits_s.pop(self._level, None)
        above = self._above()
        wait_s = self._wait_s(above)
        if above == self._level or now_s - self._changed_s < wait_s:
            return
        if self._levels[self._level].tuning is None:
            reason = f"after {wait_s:.0f} s without, to see whether it can be held again"
        elif self._sure and self._has_room(above):
            reason = f"a frame takes only {self._spent(self._load)}"
        else:
            return
        self._go(above, reason)
        self._raised_s = now_s

    def _has_room(self, above: int) -> bool:
        """Whether there is time enough to try what costs more."""
        if above >= self._asked_at:
            return self._load <= _ROOM
        lower, upper = self._levels[self._level].tuning, self._levels[above].tuning
        assert lower is not None
        assert upper is not None
        longer = 1.0 if lower.preset == upper.preset else _LARGER_NETWORK
        seen_px = [seen_face(self._largest_px, t.max_crop_px) for t in (lower, upper)]
        longer *= (seen_px[1] / seen_px[0]) ** _LARGER_FACE
        return self._load + (longer - 1) * median(self._network_loads) <= _FULL_OF_MORE

    def _wait_s(self, level: int) -> float:
        return self._waits_s.get(level, _WAIT_S)

    @property
    def _sure(self) -> bool:
        """Whether enough was seen at this level."""
        return len(self._loads) >= _ENOUGH or (
            len(self._loads) > 1 and self._spent_ms >= _ENOUGH_MS
        )

    @property
    def _load(self) -> float:
        """Time spent over time there is, on average; the slowest frames do not count."""
        count = len(self._loads) - max(1, len(self._loads) // _SLOWEST)
        return sum(sorted(self._loads)[:count]) / max(1, count)

    def _spent(self, load: float) -> str:
        period_ms = 1e3 / self.rate_hz
        return f"{load * period_ms:.0f} of {period_ms:.0f} ms"

    def _below(self, steps: int) -> int:
        """The level so many effective steps down; the last only where no other is left."""
        reached, last = self._level, len(self._levels) - 1
        for level in range(self._level + 1, last + 1):
            if not steps or (level == last and reached > self._level):
                break
            if self._matters(level):
                reached, steps = level, steps - 1
        return reached

    def _above(self) -> int:
        """The level one effective step up; more than is asked for only where it matters now."""
        for level in range(self._level - 1, -1, -1):
            if level == self._asked_at or self._matters(level + 1):
                return level
        return self._level

    def _matters(self, level: int) -> bool:
        """Whether a level spares anything against the one above, with the faces there are."""
        lower, upper = self._levels[level].tuning, self._levels[level - 1].tuning
        if lower is None or upper is None:
            return True
        if lower.least != upper.least:
            return self._far > 0
        if lower.max_crop_px != upper.max_crop_px:
            limits_px = upper.max_crop_px, lower.max_crop_px
            return len({seen_face(self._largest_px, limit_px) for limit_px in limits_px}) > 1
        if lower.preset != upper.preset:
            return self._faces > 0
        if lower.max_faces == upper.max_faces:
            return True
        return lower.max_faces < self._faces or upper.max_faces <= self._faces

    def _go(self, level: int, reason: str) -> None:
        if level == self._level:
            return
        self._level, self._changed_s = level, self._clock()
        self._loads.clear()
        self._network_loads.clear()
        self._spent_ms = self._over_ms = 0.0
        decision = Decision(time.time(), self.level, self._levels[level].what, reason)
        self._decisions.append(decision)
        _log.info("governor: %s: %s", reason, decision.what or "all that is asked for")


def _more(asked: Tuning, rungs: Sequence[Rung]) -> list[_Level]:
    """Everything that room can be spent on beyond what is asked for, costliest first."""
    if not rungs:
        return []
    usual = rungs[0]
    from_own_up = narrowed(
        rungs,
        asked.preset if asked.preset != usual.preset else None,
        asked.max_crop_px if asked.max_crop_px != usual.max_crop_px else None,
    )
    levels: list[_Level] = []
    for lower, rung in pairwise(from_own_up):
        what = f"faces seen at up to {rung.max_crop_px} px"
        if rung.preset != lower.preset:
            what = f"network {rung.preset} instead of {asked.preset}"
        tuning = replace(asked, preset=rung.preset, max_crop_px=rung.max_crop_px)
        levels.insert(0, _Level(what, tuning))
    return levels


def _ladder(asked: Tuning, presets: Sequence[str]) -> list[_Level]:
    """Everything that can be spared, what is seen least first; each level keeps those before."""
    levels = [_Level("", asked)]
    tuning = replace(asked, patience=asked.patience * _PATIENCE)
    levels.append(_Level("components are looked for less often", tuning))
    at = presets.index(asked.preset) if asked.preset in presets else 0
    for preset in reversed(presets[:at]):
        tuning = replace(tuning, preset=preset)
        levels.append(_Level(f"network {preset} instead of {asked.preset}", tuning))
    if tuning.least < _NEAR and tuning.max_faces > 1:
        tuning = replace(tuning, least=_NEAR)
        levels.append(_Level("faces far from the camera are left", tuning))
    for crop_px in _CROPS_PX:
        if crop_px < tuning.max_crop_px or tuning.max_crop_px == 0:
            tuning = replace(tuning, max_crop_px=crop_px)
            levels.append(_Level(f"faces seen at {crop_px} px", tuning))
    faces = tuning.max_faces
    while faces > 1:
        faces //= 2
        tuning = replace(tuning, max_faces=faces)
        levels.append(_Level(f"the {faces} largest faces" if faces > 1 else "one face", tuning))
    while tuning.scale > 1:
        tuning = replace(tuning, scale=tuning.scale // 2)
        levels.append(_Level(f"composed at {tuning.scale}x", tuning))
    return [*levels, _Level("no enhancement", None)]
