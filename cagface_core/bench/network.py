"""Presets, crop sizes and batches in; what the networks alone reach on every path here, out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from cagface_core import checkpoint
from cagface_core.bench.flops import multiply_adds
from cagface_core.bench.results import NetworkRow, Results
from cagface_core.bench.timing import Budget, Timing, sample, undisturbed
from cagface_core.crop import BUCKETS_PX
from cagface_core.errors import CagfaceError, DeviceError
from cagface_core.fold import FoldedCAGFace, fold
from cagface_core.paths import (
    CPU_PATHS,
    PATHS,
    Place,
    Runner,
    find_place,
    knows_bfloat16,
    open_runner,
)


@dataclass(frozen=True, slots=True)
class NetworkPlan:
    """Which networks are timed, on which crops; a call that would last over ``most_ms`` is not."""

    presets: Sequence[str]
    budget: Budget
    sides_px: Sequence[int] = BUCKETS_PX
    batches: Sequence[int] = (1, 2, 4, 8)
    most_ms: float = 500.0


def presets(*, everything: bool) -> list[str]:
    """The presets that ship with weights; with ``everything`` also the others."""
    with_weights = {name.rsplit("-", 1)[0] for name in checkpoint.shipped()}
    return [name for name in checkpoint.PRESETS if everything or name in with_weights]


@dataclass(frozen=True, slots=True)
class Opened:
    """A preset's folded network, and of its weights the facts and the sha256, None without."""

    folded: FoldedCAGFace
    facts: Mapping[str, Any]
    sha256: str | None


def open_network(preset: str) -> Opened:
    """Load a preset's shipped weights for video, or others; of them depends what 8 bit computes.

    A preset without any is freshly initialised.
    """
    names = [name for name in checkpoint.shipped() if name.rsplit("-", 1)[0] == preset]
    if names:
        name = next((name for name in names if name.endswith("-webcam")), names[0])
        model, found = checkpoint.load_sr(checkpoint.find_named(name))
        return Opened(fold(model), found.facts, found.sha256)
    torch.manual_seed(0)
    return Opened(FoldedCAGFace(checkpoint.PRESETS[preset]).eval(), {}, None)


def open_runners(network: Opened, device: str, notes: list[str]) -> list[Runner]:
    """Make a network ready on every path of a device that works here, or on the one path named.

    Args:
        network: what to run.
        device: as ``--device`` takes it.
        notes: paths that do not work here are added, a line each, once.
    """
    where = find_place(device)
    wanted = [device] if device in PATHS else [p for p in PATHS if _computes_on(p, where.device)]
    found: list[Runner] = []
    for path in wanted:
        try:
            if path == "cpu-bfloat16" and not knows_bfloat16():
                raise DeviceError("this processor would emulate it")
            found.append(open_runner(network.folded, Place(path, where.device), network.facts))
        except CagfaceError as error:
            note = f"path {path} is left out: {error}"
            notes += [note] if note not in notes else []
    return found


def _computes_on(path: str, device: torch.device) -> bool:
    return (path in CPU_PATHS) if device.type == "cpu" else path.startswith(device.type)


def block_for(network: FoldedCAGFace, batch: int, side_px: int, device: torch.device) -> Tensor:
    """A block of noise in [-1, 1] that the network can be given."""
    torch.manual_seed(0)
    shape = (batch, network.config.in_channels, side_px, side_px)
    return torch.rand(shape, device=device) * 2 - 1


def measure_networks(
    plan: NetworkPlan, device: str, results: Results, say: Callable[[str], None]
) -> None:
    """Time every preset on every path, crop size and batch; adds ``network`` rows and notes."""
    for preset in plan.presets:
        network = open_network(preset)
        say(f"network {preset}")
        for runner in open_runners(network, device, results.notes):
            left_out: list[str] = []
            rate = 0.0  # GFLOP/s, the best so far
            for side_px in plan.sides_px:
                for batch in plan.batches:
                    block = block_for(network.folded, batch, side_px, runner.device)
                    gflop = 2e-9 * multiply_adds(network.folded, tuple(block.shape))  # pyright: ignore[reportArgumentType]
                    if rate and gflop / rate * 1000 > plan.most_ms:
                        left_out.append(f"{batch} of {side_px} px")
                        continue
                    try:
                        row = _row(preset, network, runner, block, gflop, plan.budget)
                    except RuntimeError as error:  # for want of memory, most of the time
                        reason = f"no {batch} of {side_px} px: {str(error).splitlines()[0]}"
                        results.notes.append(f"{preset} on {runner.path}: {reason}")
                        continue
                    results.network.append(row)
                    rate = max(rate, gflop / row.best_ms * 1000)
            if left_out:
                results.notes.append(
                    f"{preset} on {runner.path}: left out {', '.join(left_out)}: a call would last "
                    f"more than {plan.most_ms / 1000:g} s"
                )


def _row(
    preset: str, network: Opened, runner: Runner, block: Tensor,
    gflop: float, budget: Budget,
) -> NetworkRow:  # fmt: skip
    def measure() -> tuple[Timing, Timing]:
        timing = sample(lambda: runner(block, 4), block.device, budget)
        return timing, timing

    timing = undisturbed(measure)
    batch, _, _, side_px = block.shape
    return NetworkRow(
        preset=preset, features=network.folded.config.features,
        units=network.folded.config.units, sha256=network.sha256,
        path=runner.path, precision=runner.precision, side_px=side_px, batch=batch,
        n=timing.n, best_ms=timing.best_ms, p50_ms=timing.p50_ms, p95_ms=timing.p95_ms,
        faces_per_s=batch / timing.p50_ms * 1000, gflop=gflop,
        gflop_per_s=gflop / timing.p50_ms * 1000,
    )  # fmt: skip
