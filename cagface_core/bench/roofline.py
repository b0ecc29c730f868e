"""A device in; the most it multiplies and copies in a second, measured here and now, out.

The network's rate is shown against these: they are the machine's as it is at this moment, with
its neighbours and its clock, and no figure of a data sheet.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from cagface_core.bench.results import Rate
from cagface_core.bench.timing import Budget, milliseconds, percentile

_SIDES = {"cpu": (1024, 2048), "mps": (2048, 4096), "cuda": (4096, 8192)}
_COPIED_MIB = {"cpu": 256, "mps": 512, "cuda": 2048}  # beyond any cache
_QUIET = 0.75  # of the best, at least, if nothing else ran
_DTYPES = {
    "float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16,
    "int8": torch.int8,
}  # fmt: skip


def measure_roofline(device: torch.device, budget: Budget, notes: list[str]) -> list[Rate]:
    """Measure the matrix-multiply rate at each precision, and the copy bandwidth.

    Args:
        device: where.
        budget: for each of them.
        notes: what this torch cannot do is added here, a line each, once.
    """
    todo: dict[str, Callable[[], Rate]] = {
        f"matrix-multiply rate at {precision}": partial(_multiply, device, precision, budget)
        for precision in _DTYPES
        if device.type != "cpu" or precision != "float16"  # no path of ours uses it there
    }
    todo["copy rate"] = partial(_copy, device, budget)
    rates: list[Rate] = []
    for what, measure in todo.items():
        try:
            rates.append(measure())
        except (AttributeError, KeyError, RuntimeError) as error:
            note = f"no {what}: {str(error).splitlines()[0]}"
            notes += [note] if note not in notes else []
    return rates


def combined(before: list[Rate], after: list[Rate], notes: list[str]) -> list[Rate]:
    """The better of two measurements of each rate; notes say where the machine was not quiet."""
    found: list[Rate] = []
    for rate in before:
        again = next(
            (r for r in after if (r.what, r.precision) == (rate.what, rate.precision)), rate
        )
        better, worse = sorted((rate, again), key=lambda r: r.best, reverse=True)
        found.append(better)
        if min(better.median, worse.best) < _QUIET * better.best:
            notes.append(
                f"the machine was not quiet: {rate.what} at {rate.precision} varied between "
                f"{min(rate.median, again.median):,.0f} and {better.best:,.0f} {rate.unit}"
            )
    return found


def _multiply(device: torch.device, precision: str, budget: Budget) -> Rate:
    """The best over square matrices of a few sizes: which one is fastest differs by machine."""
    rates: list[Rate] = []
    sides = _SIDES[device.type]
    share = Budget(budget.seconds / len(sides), budget.least, budget.most)
    for side in sides:
        a, b = (_matrix(side, precision, device) for _ in range(2))
        work: Callable[[], object] = partial(torch.mm, a, b)
        if precision == "int8":
            work = _int8_product(a, b)
        per_s = _rates(work, device, share, 2 * side**3)
        rates.append(
            Rate(
                "multiply", precision, "GFLOP/s", max(per_s) / 1e9,
                percentile(per_s, 0.5) / 1e9, len(per_s), f"{side} x {side} x {side}",
            )
        )  # fmt: skip
    return max(rates, key=lambda rate: rate.best)


def _int8_product(a: Tensor, b: Tensor) -> Callable[[], object]:
    """Multiply two square matrices of 8 bit; none of torch's operators for it is public yet."""
    if a.device.type != "cpu":
        return partial(vars(torch)["_int_mm"], a, b)
    # That lays out b anew each time and gives 32 bit: on a processor half as fast as a network's.
    operators: Any = torch.ops.onednn
    laid_out = operators.qlinear_prepack(b, list(a.shape))
    scales, zeros = torch.full((len(b),), 0.01), torch.zeros(len(b), dtype=torch.int32)
    return partial(
        operators.qlinear_pointwise, a.view(torch.uint8), 1.0, 0, laid_out, scales, zeros, None,
        1.0, 0, torch.uint8, "none", [], "",
    )  # fmt: skip


def _copy(device: torch.device, budget: Budget) -> Rate:
    mebibytes = _COPIED_MIB[device.type]
    source = torch.ones(mebibytes << 20, dtype=torch.uint8, device=device)
    target = torch.zeros_like(source)
    per_s = _rates(lambda: target.copy_(source), device, budget, 2 * source.numel())
    best, median = max(per_s) / 1e9, percentile(per_s, 0.5) / 1e9
    return Rate("copy", "bytes", "GB/s", best, median, len(per_s), f"{mebibytes} MiB")


def _rates(
    work: Callable[[], object], device: torch.device, budget: Budget, amount: int
) -> list[float]:
    """``amount`` over the seconds of each call."""
    milliseconds(work, device)
    per_s: list[float] = []
    spent_ms = 0.0
    while len(per_s) < budget.most and (
        len(per_s) < budget.least or spent_ms < budget.seconds * 1000
    ):
        taken_ms = milliseconds(work, device)
        spent_ms += taken_ms
        per_s.append(amount / taken_ms * 1000)
    return per_s


def _matrix(side: int, precision: str, device: torch.device) -> Tensor:
    if precision == "int8":
        return torch.randint(-127, 128, (side, side), dtype=torch.int8, device=device)
    return torch.randn(side, side, device=device).to(_DTYPES[precision])
