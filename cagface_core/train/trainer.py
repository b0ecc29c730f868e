"""A model and a loss in; a trained model out: the one loop both trainings share.

Seeded and resumable: batch k depends on (seed, k) alone, and ``state.pt`` holds the model, its
moving average, the optimiser and the step, so an interrupted run goes on as if it had not been,
with another number of processes too (see `cagface_core.train.ranks`).
"""

from __future__ import annotations

import copy
import csv
import logging
import math
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor, nn

from cagface_core.errors import ConfigError
from cagface_core.train.ranks import agree, mean_of_all, rank, together

log = logging.getLogger(__name__)

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}

_EMA_DECAY = 0.999
_WARM_UP_STEPS = 100
_CLIP_AT_USUAL = 2.0


@dataclass(frozen=True, slots=True)
class Run:
    """One training run: where it writes, how long, how fast.

    ``out`` receives ``state.pt``, ``log.csv`` and ``curve.png``; the learning rate rises over
    100 steps, then falls by a half cosine to 2% at ``steps``, or after ``minutes`` of training,
    those of earlier calls included, if that is sooner; 0 is no limit. Gradients are clipped at
    twice their usual norm: one wild batch at a high rate once threw a network 2 dB back.
    """

    out: Path
    steps: int
    learning_rate: float
    check_every: int
    device: str = "cpu"
    minutes: float = 0.0


class Companion(Protocol):
    """What learns beside the model, inside the loss, and is saved and resumed with it."""

    def state_dict(self) -> dict[str, Any]:
        """Everything that goes on from here: tensors, numbers, and dictionaries of them."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a :meth:`state_dict`."""
        ...


def train(
    model: nn.Module,
    run: Run,
    loss_of: Callable[[nn.Module, int], Tensor],
    score_of: Callable[[nn.Module], float],
    score_name: str,
    companion: Companion | None = None,
) -> nn.Module:
    """Train, or go on where ``run.out`` left off; returns the moving average of the weights.

    Args:
        model: already on ``run.device``.
        run: the plan.
        loss_of: model and step to a scalar loss.
        score_of: the averaged model to a validation figure, higher is better.
        score_name: its name in log and curve.
        companion: a discriminator, for example.

    Raises:
        ConfigError: ``run.out`` holds the state of another network.
    """
    run.out.mkdir(parents=True, exist_ok=True)
    on_gpu = torch.device(run.device).type == "cuda"
    optimiser = torch.optim.Adam(
        model.parameters(), lr=run.learning_rate, betas=(0.9, 0.99), fused=on_gpu or None
    )
    average = copy.deepcopy(model).eval()
    first, usual_norm = _resume(run, model, average, optimiser, companion)
    agree(first, str(run.out))
    step_loss, leads = together(model, loss_of), rank().leads
    rows = _read_log(run.out / "log.csv", first)
    before = rows[-1]["seconds"] if rows else 0.0
    steps = range(first, 0 if run.minutes and before >= 60 * run.minutes else run.steps)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
               TimeRemainingColumn())  # fmt: skip
    parameters = list(model.parameters())
    begin, losses = time.perf_counter(), list[Tensor]()
    with (
        Progress(*columns, disable=not (leads and os.isatty(2))) as progress,
        torch.backends.cudnn.flags(enabled=True, benchmark=on_gpu),
    ):
        task = progress.add_task("training", total=run.steps, completed=first)
        for step in steps:
            seconds = before + time.perf_counter() - begin
            done = max(step / run.steps, seconds / (60 * run.minutes) if run.minutes else 0.0)
            last = step + 1 == run.steps or done >= 1
            for group in optimiser.param_groups:
                group["lr"] = run.learning_rate * _schedule(step, min(done, 1.0))
            model.train()
            loss: Tensor = step_loss(step)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            usual_norm = _clip(parameters, usual_norm)
            optimiser.step()
            _follow(average, model, step)
            losses.append(loss.detach())
            progress.advance(task)
            if (step + 1) % run.check_every == 0 or last:
                mean_loss = float(mean_of_all(torch.stack(losses).mean()))
                losses.clear()
                if not leads:
                    continue
                score = score_of(average)
                rows.append({"step": step + 1, "loss": mean_loss, score_name: score,
                             "seconds": seconds})  # fmt: skip
                log.info("step %d: loss %.5f, %s %.4f, %.0f s",
                         step + 1, mean_loss, score_name, score, seconds)  # fmt: skip
                _write_log(run.out / "log.csv", rows)
                _save(run, model, average, optimiser, companion, step + 1, usual_norm)
            if last:
                break
    if leads:
        draw_curve(rows, score_name, run.out / "curve.png")
    return average


def autocast(device: str, precision: str) -> torch.autocast:
    """Make the context in which a forward pass computes at a ``--precision``.

    Raises:
        ConfigError: the precision is unknown.
    """
    if precision not in PRECISIONS:
        raise ConfigError(
            f"unknown precision {precision!r}: expected one of {', '.join(PRECISIONS)}"
        )
    dtype = PRECISIONS[precision]
    return torch.autocast(torch.device(device).type, dtype, enabled=dtype != torch.float32)


def _clip(parameters: list[nn.Parameter], usual_norm: Tensor) -> Tensor:
    """Clip the gradients at twice their usual norm, 0 if not known yet; the new usual norm.

    All on the device: a figure read back at every step would make a GPU wait.
    """
    gradients = [p.grad for p in parameters if p.grad is not None]
    norm = nn.utils.get_total_norm(gradients)
    usual_norm = torch.where(usual_norm > 0, usual_norm, norm)
    kept = torch.minimum(norm, _CLIP_AT_USUAL * usual_norm)
    scale: Any = vars(torch)["_foreach_mul_"]  # one by one, a GPU waits for Python
    scale(gradients, kept / (norm + 1e-12))
    return usual_norm + 0.02 * (kept - usual_norm)


def _schedule(step: int, done: float) -> float:
    """Rise linearly, then fall by a half cosine to 2% where ``done``, 0 to 1, is 1."""
    if step < _WARM_UP_STEPS:
        return (step + 1) / _WARM_UP_STEPS
    return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * done))


@torch.no_grad()
def _follow(average: nn.Module, model: nn.Module, step: int) -> None:
    """Move the average towards the model; buffers (batch statistics) are copied."""
    decay = min(_EMA_DECAY, (step + 1) / (step + 10))
    move: Any = vars(torch)["_foreach_lerp_"]
    move(list(average.parameters()), list(model.parameters()), 1 - decay)
    for kept, new in zip(average.buffers(), model.buffers(), strict=True):
        kept.copy_(new)


def _save(
    run: Run,
    model: nn.Module,
    average: nn.Module,
    optimiser: torch.optim.Optimizer,
    companion: Companion | None,
    step: int,
    usual_norm: Tensor,
) -> None:
    """Write the state whole or not at all."""
    temporary = run.out / ".state.pt.part"
    state = {"model": model.state_dict(), "average": average.state_dict(),
             "optimiser": optimiser.state_dict(), "step": step,
             "usual_norm": usual_norm,
             "companion": companion.state_dict() if companion else {}}  # fmt: skip
    torch.save(state, temporary)
    temporary.replace(run.out / "state.pt")


def _resume(
    run: Run, model: nn.Module, average: nn.Module, optimiser: torch.optim.Optimizer,
    companion: Companion | None,
) -> tuple[int, Tensor]:  # fmt: skip
    """Load the state if there is one; the step to go on with, and the usual gradient norm."""
    path = run.out / "state.pt"
    if not path.is_file():
        return 0, torch.zeros((), device=run.device)
    state = torch.load(path, map_location=run.device, weights_only=True)
    try:
        model.load_state_dict(state["model"])
        average.load_state_dict(state["average"])
        optimiser.load_state_dict(state["optimiser"])
        if companion:
            companion.load_state_dict(state["companion"])
    except (KeyError, RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(
            f"{path} belongs to another network ({reason}); use a new --out"
        ) from error
    log.info("going on from step %d of %s", state["step"], path)
    return int(state["step"]), state["usual_norm"]


def steps_done(out: Path) -> int:
    """How many steps the training in a folder took: with ``minutes``, nobody knows before."""
    rows = _read_log(out / "log.csv", 1 << 62)
    return int(rows[-1]["step"]) if rows else 0


def _read_log(path: Path, first: int) -> list[dict[str, float]]:
    """Read the rows up to the step the run goes on with."""
    if not first or not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        rows = [{k: float(v) for k, v in row.items()} for row in csv.DictReader(file)]
    return [row for row in rows if row["step"] <= first]


def _write_log(path: Path, rows: list[dict[str, float]]) -> None:
    """Write the whole log."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def draw_curve(rows: list[dict[str, float]], score_name: str, path: Path) -> None:
    """Draw loss and score over the steps."""
    from matplotlib.figure import Figure  # slow to import, and only needed here

    figure = Figure(figsize=(8, 4.5))
    axes = figure.subplots()
    steps = [row["step"] for row in rows]
    axes.semilogy(steps, [row["loss"] for row in rows], color="tab:gray", label="loss")
    axes.set_xlabel("step")
    axes.set_ylabel("training loss")
    other = axes.twinx()
    other.plot(steps, [row[score_name] for row in rows], color="tab:blue")
    other.set_ylabel(f"{score_name} (validation)", color="tab:blue")
    figure.tight_layout()
    figure.savefig(path)
