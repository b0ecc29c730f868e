"""Nothing in; how many of the processor's cores this process may use, out."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath


def usable_cores(root: Path = Path("/")) -> int:
    """Count the cores that are there for this process.

    Those that it is bound to (``taskset``, a container's set of cores), and no more than its share
    of their time (``docker run --cpus``, a limit of Kubernetes), rounded up. With more threads than
    that the share is used up early in each tenth of a second, and until the next all stand still.

    Args:
        root: where ``proc`` and ``sys`` are.
    """
    affinity = getattr(os, "sched_getaffinity", None)  # not on Windows, not on macOS
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    return max(1, min(cores, math.ceil(min(_shares(root), default=cores))))


def _shares(root: Path) -> Iterator[float]:
    """The limits, in cores, of this process's control groups and of those that these are in.

    In a container the group's own path may lead nowhere; then what is mounted is the container's.
    """
    groups, mounted = root / "proc/self/cgroup", root / "sys/fs/cgroup"
    for line in _read(groups).splitlines():
        _, kinds, path = line.split(":", 2)
        if kinds and "cpu" not in kinds.split(","):
            continue
        inside = PurePosixPath(path.lstrip("/"))
        for group in (inside, *inside.parents):
            if kinds:  # version 1
                folder = mounted / "cpu" / group
                quota = _read(folder / "cpu.cfs_quota_us")
                period = _read(folder / "cpu.cfs_period_us")
            else:
                quota, _, period = _read(mounted / group / "cpu.max").partition(" ")
            if quota.strip().isdecimal():  # without a limit it is "max", or -1
                yield int(quota) / max(1, int(period))


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""
