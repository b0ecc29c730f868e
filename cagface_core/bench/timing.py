"""Functions to call in; how long they take, and how many times longer one takes than another, out.

A machine is noisy: nothing is told from one call. What is compared runs in turn, forwards and
backwards, and ratios are medians over the rounds, so that a slow minute slows both alike.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import TypeVar

import torch

Work = Callable[[], object]

ResultT = TypeVar("ResultT")

_DISTURBED, _TRIES = 1.6, 3
_WARM_UPS = 2  # the first call compiles, packs weights and fills caches; the second finds them


@dataclass(frozen=True, slots=True)
class Timing:
    """Milliseconds over ``n`` calls: the best, the median, the 95th and the 99th percentile."""

    n: int
    best_ms: float
    p50_ms: float
    p95_ms: float
    p99_ms: float


@dataclass(frozen=True, slots=True)
class Budget:
    """How long to measure one thing: ``seconds``, but at least ``least`` and at most ``most``."""

    seconds: float
    least: int = 5
    most: int = 1000


@dataclass(frozen=True, slots=True)
class Quotient:
    """How many times longer one takes than the other: the median and quartiles over rounds."""

    median: float
    low: float
    high: float


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest of ``values`` that at least ``share`` (0..1) of them do not exceed.

    Raises:
        ValueError: there are no values, or the share is out of range.
    """
    if not values or not 0 <= share <= 1:
        raise ValueError(f"need values and a share in 0..1; got {len(values)} values, {share}")
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def summarise(times_ms: Sequence[float]) -> Timing:
    """Make a `Timing` of milliseconds, at least one."""
    p50, p95, p99 = (percentile(times_ms, share) for share in (0.5, 0.95, 0.99))
    return Timing(len(times_ms), min(times_ms), p50, p95, p99)


def milliseconds(work: Work, device: torch.device) -> float:
    """Call once; on a GPU until the device is done as well."""
    wait_for(device)
    begin = time.perf_counter()
    work()
    wait_for(device)
    return (time.perf_counter() - begin) * 1000


def sample(work: Work, device: torch.device, budget: Budget) -> Timing:
    """Warm up, then call until the budget is spent."""
    for _ in range(_WARM_UPS):
        milliseconds(work, device)
    times_ms: list[float] = []
    while len(times_ms) < budget.most and (
        len(times_ms) < budget.least or sum(times_ms) < budget.seconds * 1000
    ):
        times_ms.append(milliseconds(work, device))
    return summarise(times_ms)


def undisturbed(measure: Callable[[], tuple[ResultT, Timing]]) -> ResultT:
    """Measure; again, at most twice, where the median is far from the best call.

    Something else then had the machine. The quietest of the measurements counts, whole.
    """
    found = [measure()]
    while len(found) < _TRIES and found[-1][1].p50_ms > _DISTURBED * found[-1][1].best_ms:
        found.append(measure())
    return min(found, key=lambda pair: pair[1].p50_ms)[0]


def race(works: Mapping[str, Work], device: torch.device, budget: Budget) -> dict[str, list[float]]:
    """Call all in turn, forwards and backwards, until the budget is spent.

    Returns:
        For each name the milliseconds of every round; the n-th of all belong together.
    """
    for work in works.values():
        for _ in range(_WARM_UPS):
            milliseconds(work, device)
    times_ms: dict[str, list[float]] = {name: [] for name in works}
    order = list(works)
    begin = time.perf_counter()
    rounds = 0
    while rounds < budget.most and (
        rounds < budget.least or time.perf_counter() - begin < budget.seconds
    ):
        for name in order:
            times_ms[name].append(milliseconds(works[name], device))
        order.reverse()
        rounds += 1
    return times_ms


def quotient(slower_ms: Sequence[float], faster_ms: Sequence[float]) -> Quotient:
    """Compare two that raced, round by round; below 1, the other way round is above 1."""
    ratios = [a / b for a, b in zip(slower_ms, faster_ms, strict=True)]
    return Quotient(median(ratios), percentile(ratios, 0.25), percentile(ratios, 0.75))


def wait_for(device: torch.device) -> None:
    """Wait until the device has done all that it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
