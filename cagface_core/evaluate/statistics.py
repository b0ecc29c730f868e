"""One figure a picture in; its mean with a 95 % confidence interval out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 2000
_SEED = 2024
_BATCH = 200  # resamples drawn at once: 200 x groups of memory


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean over ``n`` pictures, and between what bounds it lies with 95 % confidence.

    The bounds are None where all pictures show one person: nothing can be said of others.
    """

    mean: float
    low: float | None
    high: float | None
    n: int

    def shown(self, digits: int = 2, *, signed: bool = False, bounds: bool = True) -> str:
        """The mean, and the bounds where there are any, for people: ``+1.53 [1.21, 1.84]``."""
        mean = f"{self.mean:{'+' if signed else ''}.{digits}f}"
        if not bounds or self.low is None or self.high is None:
            return mean
        return f"{mean} [{self.low:.{digits}f}, {self.high:.{digits}f}]"


def interval(values: NDArray[np.float64], groups: Sequence[str]) -> Interval | None:
    """Bootstrap the mean over pictures, by person.

    Pictures of one person are not independent, so whole groups are drawn with replacement
    (percentile bootstrap, always the same draws for the same groups).

    Args:
        values: one figure a picture; NaN where there is none, these are left out.
        groups: whom each picture shows.

    Returns:
        The interval, or None where no picture has a figure.
    """
    there = ~np.isnan(values)
    n = int(there.sum())
    if not n:
        return None
    _, index = np.unique(np.asarray(groups)[there], return_inverse=True)
    sums = np.bincount(index, weights=values[there])
    counts = np.bincount(index).astype(np.float64)
    mean = float(values[there].mean())
    if len(sums) < 2:
        return Interval(mean, None, None, n)
    rng = np.random.default_rng(_SEED)
    share = np.full(len(sums), 1 / len(sums))
    means: list[NDArray[np.float64]] = []
    for _ in range(RESAMPLES // _BATCH):
        drawn = rng.multinomial(len(sums), share, size=_BATCH)
        means.append((drawn @ sums) / (drawn @ counts))
    low, high = np.percentile(np.concatenate(means), (2.5, 97.5))
    return Interval(mean, float(low), float(high), n)
