"""Run live for an hour on a looping clip and watch what must not grow: memory, threads, latency.

    .venv/bin/python tools/soak.py clip.mp4 --minutes 60

The clip is paced by its timestamps, as a camera is by its clock; frames go nowhere. Prints a line
a minute; exits with 1 if memory grew by 2 % or more after the first minute, a thread was left, the
last minute's p99 latency was more than 10 % above the first's, or a frame came out of order.
"""

from __future__ import annotations

import argparse
import json
import sys
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path

# First of all: it sets the allocator.
import realtime  # isort: skip  # noqa: F401  # pyright: ignore[reportUnusedImport]
import numpy as np

from cagface_core import EnhancerConfig, FaceEnhancer
from realtime.handles import Live
from realtime.run import LiveJob, Watcher, run_live
from realtime.stats import Stats

GROWTH = 0.02
SLOWER = 0.10


@dataclass(frozen=True)
class Minute:
    """One minute of the run."""

    minute: int
    fps: float
    dropped: int
    p50_ms: float
    p99_ms: float
    memory_mib: float
    threads: int
    governor: int


def memory_mib() -> float:
    """What the process holds of the memory (Linux)."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


class Watch:
    """Collects the minutes as frames are delivered."""

    def __init__(self, minute_s: float) -> None:
        """Count minutes of ``minute_s`` seconds, fewer than 60 for a trial."""
        self.minute_s = minute_s
        self.minutes: list[Minute] = []
        self.disorder = 0
        self.live: Live | None = None
        self._latencies_ms: list[float] = []
        self._begin_s = time.perf_counter()
        self._dropped = 0
        self._last_pts = -1

    def begin(self, live: Live) -> None:
        """Take the handles of the run."""
        self.live = live
        self._begin_s = time.perf_counter()

    def delivered(self, stats: Stats) -> None:
        """Note one delivered frame."""
        assert self.live is not None
        shown = self.live.monitor.newest
        assert shown is not None
        now_s = time.perf_counter()
        if shown.frame.captured_s is not None:
            self._latencies_ms.append(1e3 * (now_s - shown.frame.captured_s))
        self.disorder += shown.frame.pts <= self._last_pts
        self._last_pts = shown.frame.pts
        if now_s - self._begin_s >= self.minute_s:
            self._close(now_s, stats)

    def _close(self, now_s: float, stats: Stats) -> None:
        assert self.live is not None
        lost = stats.dropped
        p50, p99 = np.percentile(self._latencies_ms, (50, 99))
        minute = Minute(
            len(self.minutes) + 1,
            len(self._latencies_ms) / (now_s - self._begin_s),
            lost - self._dropped,
            float(p50),
            float(p99),
            memory_mib(),
            threading.active_count(),
            self.live.governor.level,
        )
        self.minutes.append(minute)
        print(
            f"{minute.minute:3}  {minute.fps:5.2f} fps  {minute.dropped:4} dropped  "
            f"p50 {minute.p50_ms:5.1f}  p99 {minute.p99_ms:5.1f} ms  "
            f"{minute.memory_mib:7.1f} MiB  {minute.threads} threads  "
            f"governor {minute.governor}",
            flush=True,
        )
        self._latencies_ms, self._begin_s, self._dropped = [], now_s, lost

    def faults(self) -> list[str]:
        """What was not as it must be."""
        first, last = self.minutes[0], self.minutes[-1]
        found = [f"{self.disorder} frames out of order"] if self.disorder else []
        if last.memory_mib > first.memory_mib * (1 + GROWTH):
            found.append(f"memory grew from {first.memory_mib:.1f} to {last.memory_mib:.1f} MiB")
        if last.threads > first.threads:
            found.append(f"threads grew from {first.threads} to {last.threads}")
        if last.p99_ms > first.p99_ms * (1 + SLOWER):
            found.append(f"p99 grew from {first.p99_ms:.1f} to {last.p99_ms:.1f} ms")
        return found


def main() -> int:
    """Run, report; 1 if something grew."""
    parser = argparse.ArgumentParser(description="A long live run, watched.")
    parser.add_argument("clip", help="a video file, or lavfi:...")
    parser.add_argument("--minutes", type=int, default=60)
    parser.add_argument("--minute-s", type=float, default=60.0, help="shorter for a trial")
    parser.add_argument("--scale", type=int, default=2, choices=(1, 2, 4))
    parser.add_argument("--preset", help="default: as for live")
    parser.add_argument("--json", type=Path, help="write the minutes here")
    options = parser.parse_args()
    config = EnhancerConfig(mode="live", scale=options.scale, preset=options.preset)
    watch = Watch(options.minute_s)
    # The last minute must be over before the run is.
    seconds = (options.minutes + 0.5) * options.minute_s
    job = LiveJob(options.clip, options.scale, loop=True, virtual_camera=False, seconds=seconds)
    before = threading.active_count()
    summary = run_live(
        job,
        lambda: FaceEnhancer(config),
        Watcher(on_delivered=watch.delivered, on_live=watch.begin),
    )
    print(summary.line())
    faults = watch.faults()
    if threading.active_count() > before:
        faults.append(f"{threading.active_count() - before} threads are left after the end")
    for fault in faults:
        print(f"fault: {fault}")
    if options.json:
        rows = [asdict(minute) for minute in watch.minutes]
        text = json.dumps({"minutes": rows, "faults": faults}, indent=1)
        options.json.write_text(text + "\n", encoding="utf-8")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
