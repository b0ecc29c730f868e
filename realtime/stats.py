"""Times and counts of a run go in, frame by frame; one `Summary` comes out."""

from __future__ import annotations

import threading
import time
from array import array
from collections import Counter, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from cagface_core import Enhanced

_WINDOW = 4096
"""Percentiles look at this many newest values, so that a run of days stays small."""

_RECENT = 150
"""What `Stats.recent` looks at: five seconds at 30 Hz."""

_RATE_WINDOW = 61
"""Rates are those over 60 intervals."""

_GONE_S = 1.0
"""A source that gave nothing for so long was gone, and has no rate meanwhile."""


@dataclass(frozen=True, slots=True)
class StageTime:
    """Milliseconds of one stage: ``n`` values and their mean, percentiles of the newest."""

    n: int
    mean_ms: float
    p50_ms: float
    p95_ms: float
    p99_ms: float


@dataclass(frozen=True, slots=True)
class Summary:
    """What a run did: frames, rate, times per stage, events by name.

    ``first_frame_s`` is from the command (see `Stats`) to the first delivered frame, None before
    it; ``latency_ms`` the median from captured to delivered, by which audio is to be delayed,
    None where nothing was captured live.
    """

    frames: int
    seconds: float
    first_frame_s: float | None
    latency_ms: float | None
    fps: float
    faces: int
    faces_per_frame: float
    frames_without_face: int
    dropped: int
    passthrough: int
    attention_hit_rate: float | None
    counts: Mapping[str, int]
    stages: Mapping[str, StageTime]

    def line(self) -> str:
        """One line for people."""
        parts = [
            f"{self.frames} frames in {self.seconds:.1f} s, {self.fps:.2f} fps",
            f"{self.faces_per_frame:.2f} faces a frame",
        ]
        if self.attention_hit_rate is not None:
            parts.append(f"attention cache {100 * self.attention_hit_rate:.1f} % hits")
        if self.dropped:
            parts.append(f"{self.dropped} frames dropped")
        if self.passthrough:
            parts.append(f"{self.passthrough} frames passed through without enhancement")
        return "; ".join(parts)


StageShare = tuple[int, float, "array[float]"]
"""How many values of a stage, their sum, and the newest of them, in milliseconds."""


@dataclass(frozen=True, slots=True)
class StatsShare:
    """What another process measured: how often what happened, and the times of each stage."""

    counts: Counter[str]
    stages: Mapping[str, StageShare]


class _Times:
    """Running mean over everything and the newest values for percentiles."""

    def __init__(self) -> None:
        self.n = 0
        self.total_ms = 0.0
        # Full size from the start: a long run is to be no larger than a short one.
        self._newest = array("d", bytes(8 * _WINDOW))

    def add(self, value_ms: float) -> None:
        self._newest[self.n % _WINDOW] = value_ms
        self.n += 1
        self.total_ms += value_ms

    def taken(self) -> StageShare:
        return self.n, self.total_ms, self._newest[: self.n]

    def join(self, share: StageShare) -> None:
        n, total_ms, newest_ms = share
        for value_ms in newest_ms:
            self.add(value_ms)
        self.n += n - len(newest_ms)
        self.total_ms += total_ms - sum(newest_ms)

    def result(self) -> StageTime:
        return _stage_time(self.n, self.total_ms, self._newest[: self.n])

    def recent(self) -> StageTime:
        first = max(0, self.n - _RECENT)
        values = [self._newest[k % _WINDOW] for k in range(first, self.n)]
        return _stage_time(len(values), sum(values), values)


def _stage_time(n: int, total_ms: float, newest_ms: Iterable[float]) -> StageTime:
    ordered = sorted(newest_ms)

    def percentile(share: float) -> float:
        return ordered[round(share * (len(ordered) - 1))]

    return StageTime(n, total_ms / n, *(percentile(share) for share in (0.5, 0.95, 0.99)))


def _rate_hz(times_s: deque[float]) -> float:
    if len(times_s) < 2 or times_s[-1] <= times_s[0]:
        return 0.0
    return (len(times_s) - 1) / (times_s[-1] - times_s[0])


class Stats:
    """Collects from all threads of a run; every method may be called from any of them.

    Args:
        begun_s: when the command began, in seconds of `time.perf_counter`; None is now.
    """

    def __init__(self, begun_s: float | None = None) -> None:
        self._begun_s = time.perf_counter() if begun_s is None else begun_s
        self._first_frame_s: float | None = None
        self._lock = threading.Lock()
        self._stages: dict[str, _Times] = {}
        self._counts: Counter[str] = Counter()
        self._first_s: float | None = None
        self._last_s = 0.0
        self._newest_deliveries_s: deque[float] = deque(maxlen=_RATE_WINDOW)
        self._newest_captures_s: deque[float] = deque(maxlen=_RATE_WINDOW)

    def start(self) -> None:
        """The clock of the run starts; called once, before the first frame is asked for."""
        with self._lock:
            self._first_s = self._last_s = time.perf_counter()

    def time(self, stage: str, value_ms: float) -> None:
        """One measurement of ``stage``, in milliseconds."""
        with self._lock:
            self._stages.setdefault(stage, _Times()).add(value_ms)

    def count(self, event: str, n: int = 1) -> int:
        """``event`` happened ``n`` times; how often so far."""
        with self._lock:
            self._counts[event] += n
            return self._counts[event]

    def enhanced(self, result: Enhanced) -> None:
        """Take the times per stage, the faces and the events of one enhanced frame."""
        with self._lock:
            for stage, value_ms in result.timings_ms.items():
                self._stages.setdefault(f"enhance.{stage}", _Times()).add(value_ms)
            self._counts.update(result.counts)
            self._counts["faces"] += len(result.faces)
            self._counts["frames_without_face"] += not result.faces
            for outcome in result.outcomes:
                self._counts[f"faces_{outcome.value}"] += 1

    def captured(self, at_s: float) -> None:
        """One frame was captured, at ``at_s`` seconds of `time.perf_counter`."""
        with self._lock:
            if self._newest_captures_s and at_s - self._newest_captures_s[-1] > _GONE_S:
                self._newest_captures_s.clear()
            self._newest_captures_s.append(at_s)

    def lost(self, dropped: int) -> None:
        """So many frames were dropped since the start."""
        with self._lock:
            self._counts["dropped"] = dropped

    def delivered(self) -> None:
        """One frame has left through the sink."""
        with self._lock:
            self._counts["frames"] += 1
            self._last_s = time.perf_counter()
            if self._first_frame_s is None:
                self._first_frame_s = self._last_s - self._begun_s
            self._newest_deliveries_s.append(self._last_s)

    @property
    def elapsed_s(self) -> float:
        """Seconds from the start to the newest delivery."""
        with self._lock:
            return self._last_s - self._first_s if self._first_s is not None else 0.0

    @property
    def frames(self) -> int:
        """Frames delivered so far."""
        with self._lock:
            return self._counts["frames"]

    @property
    def dropped(self) -> int:
        """Frames dropped so far because newer ones came."""
        with self._lock:
            return self._counts["dropped"]

    @property
    def current_fps(self) -> float:
        """Frames per second over the newest 60 deliveries; 0 before the second one."""
        with self._lock:
            return _rate_hz(self._newest_deliveries_s)

    @property
    def captured_fps(self) -> float:
        """The rate that the source really has, over its newest 60 frames; 0 where unknown.

        Cameras give half of what they say in dim light. Frames that were dropped count, pictures
        that wait for a lost camera do not.
        """
        with self._lock:
            return _rate_hz(self._newest_captures_s)

    @property
    def fps_text(self) -> str:
        """The rate now, of what the source gives, for people: ``14.9 of 15.0 fps``."""
        comes = self.captured_fps
        return f"{self.current_fps:.1f}{f' of {comes:.1f}' if comes else ''} fps"

    @property
    def latency(self) -> StageTime | None:
        """From captured to delivered; None before the first frame that was captured live.

        It begins with the camera's own time stamp where its driver gives one, else when the
        picture was read; it ends when the last sink has taken the frame. Not in it: exposure and
        readout, without a driver's stamp the transfer over USB or network and its decoding, and
        what the receiving program and its screen add.
        """
        with self._lock:
            times = self._stages.get("latency")
            return times.result() if times is not None else None

    def counts(self) -> Counter[str]:
        """How often each event happened so far: ``frames``, ``dropped``, ``attention_hits``..."""
        with self._lock:
            return Counter(self._counts)

    def recent(self) -> dict[str, StageTime]:
        """Each stage over its newest 150 values, cheap enough to ask for several times a second."""
        with self._lock:
            return {name: times.recent() for name, times in self._stages.items()}

    def share(self) -> StatsShare:
        """What was counted and timed so far, for `join` in another process."""
        with self._lock:
            stages = {name: times.taken() for name, times in self._stages.items()}
            return StatsShare(Counter(self._counts), stages)

    def join(self, share: StatsShare) -> None:
        """Take what another process measured; its frames are delivered now."""
        with self._lock:
            self._counts.update(share.counts)
            for stage, times in share.stages.items():
                self._stages.setdefault(stage, _Times()).join(times)
            self._last_s = time.perf_counter()
            if self._first_frame_s is None and share.counts["frames"]:
                self._first_frame_s = self._last_s - self._begun_s

    def summary(self) -> Summary:
        """Everything so far."""
        with self._lock:
            counts = Counter(self._counts)
            seconds = self._last_s - self._first_s if self._first_s is not None else 0.0
            stages = {name: times.result() for name, times in self._stages.items()}
            first_frame_s = self._first_frame_s
        frames = counts.pop("frames", 0)
        faces = counts.pop("faces", 0)
        hits, misses = counts["attention_hits"], counts["attention_misses"]
        return Summary(
            frames=frames,
            seconds=seconds,
            first_frame_s=first_frame_s,
            latency_ms=stages["latency"].p50_ms if "latency" in stages else None,
            fps=frames / seconds if seconds > 0 else 0.0,
            faces=faces,
            faces_per_frame=faces / frames if frames else 0.0,
            frames_without_face=counts.pop("frames_without_face", 0),
            dropped=counts.pop("dropped", 0),
            passthrough=counts.pop("passthrough", 0),
            attention_hit_rate=hits / (hits + misses) if hits + misses else None,
            counts={name: n for name, n in sorted(counts.items()) if n},
            stages=stages,
        )
