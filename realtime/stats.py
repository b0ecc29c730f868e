"""Times and counts of a run go in, frame by frame; one `Summary` comes out."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass

from cagface_core import Enhanced

_WINDOW = 4096
"""Percentiles look at this many newest values, so that a run of days stays small."""


@dataclass(frozen=True, slots=True)
class StageTime:
    """Milliseconds of one stage: mean of all ``n``, percentiles of the newest."""

    n: int
    mean_ms: float
    p50_ms: float
    p95_ms: float
    p99_ms: float


@dataclass(frozen=True, slots=True)
class Summary:
    """What a run did: frames, rate, times per stage, events by name."""

    frames: int
    seconds: float
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


class _Times:
    """Running mean over everything and the newest values for percentiles."""

    def __init__(self) -> None:
        self.n = 0
        self.total_ms = 0.0
        self.newest: deque[float] = deque(maxlen=_WINDOW)

    def add(self, value_ms: float) -> None:
        self.n += 1
        self.total_ms += value_ms
        self.newest.append(value_ms)

    def result(self) -> StageTime:
        ordered = sorted(self.newest)

        def percentile(share: float) -> float:
            return ordered[min(len(ordered) - 1, round(share * (len(ordered) - 1)))]

        p50, p95, p99 = (percentile(share) for share in (0.5, 0.95, 0.99))
        return StageTime(self.n, self.total_ms / self.n, p50, p95, p99)


class Stats:
    """Collects from all three threads of a run; every method may be called from any of them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stages: dict[str, _Times] = {}
        self._counts: Counter[str] = Counter()
        self._first_s: float | None = None
        self._last_s = 0.0
        self._newest_deliveries_s: deque[float] = deque(maxlen=61)

    def start(self) -> None:
        """The clock of the run starts; called once, before the first frame is asked for."""
        with self._lock:
            self._first_s = self._last_s = time.perf_counter()

    def time(self, stage: str, value_ms: float) -> None:
        """One measurement of ``stage``, in milliseconds."""
        with self._lock:
            self._stages.setdefault(stage, _Times()).add(value_ms)

    def count(self, event: str, n: int = 1) -> None:
        """``event`` happened ``n`` times."""
        with self._lock:
            self._counts[event] += n

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

    def delivered(self) -> None:
        """One frame has left through the sink."""
        with self._lock:
            self._counts["frames"] += 1
            self._last_s = time.perf_counter()
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
    def current_fps(self) -> float:
        """Frames per second over the newest 60 deliveries; 0 before the second one."""
        with self._lock:
            times = self._newest_deliveries_s
            if len(times) < 2 or times[-1] <= times[0]:
                return 0.0
            return (len(times) - 1) / (times[-1] - times[0])

    def summary(self) -> Summary:
        """Everything so far."""
        with self._lock:
            counts = Counter(self._counts)
            seconds = self._last_s - self._first_s if self._first_s is not None else 0.0
            stages = {name: times.result() for name, times in self._stages.items()}
        frames = counts.pop("frames", 0)
        faces = counts.pop("faces", 0)
        hits, misses = counts["attention_hits"], counts["attention_misses"]
        return Summary(
            frames=frames,
            seconds=seconds,
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
