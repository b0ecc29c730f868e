"""Several processes at one training, as torchrun starts them: who this one is, and how they agree.

Each draws its share of every batch; torch's own data parallel averages the gradients. So the
result is that of one process, but for the order in which numbers are added up.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from cagface_core.errors import ConfigError, DeviceError


@dataclass(frozen=True, slots=True)
class Rank:
    """A process of a training: its number, and how many there are."""

    number: int = 0
    count: int = 1

    @property
    def leads(self) -> bool:
        """Whether it is the one that validates, logs and writes files."""
        return self.number == 0

    def share(self, batch: int) -> slice:
        """Which of a batch's pictures are its own.

        Raises:
            ConfigError: they cannot be shared out evenly.
        """
        if batch % self.count:
            raise ConfigError(
                f"a batch of {batch} cannot be shared by {self.count} processes; "
                "give --batch a multiple of them"
            )
        return slice(self.number, None, self.count)


def rank() -> Rank:
    """Which process this is."""
    if not distributed.is_initialized():
        return Rank()
    return Rank(distributed.get_rank(), distributed.get_world_size())


@contextmanager
def joined(device: torch.device) -> Generator[torch.device]:
    """Meet the other processes, if torchrun started any; part from them at the end.

    Args:
        device: what the training was asked to compute on.

    Returns:
        What this process is to compute on: each of a machine has a GPU of its own.

    Raises:
        DeviceError: there are more processes than GPUs.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield device
        return
    cuda = device.type == "cuda"
    if cuda:
        local, there = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
        if local >= there:
            raise DeviceError(
                f"process {local} of this machine has no GPU, there are {there}; "
                "give torchrun --nproc-per-node at most that, or --device cpu"
            )
        device = torch.device("cuda", local)
        torch.cuda.set_device(device)
    distributed.init_process_group("nccl" if cuda else "gloo")
    try:
        yield device
        # The one that leads is later, it validates: who parts before is aborted, now and then.
        distributed.barrier()
    finally:
        distributed.destroy_process_group()


def together(model: nn.Module, loss_of: Callable[[nn.Module, int], Tensor]) -> nn.Module:
    """Give a module that maps a step to the loss, with gradients averaged over all processes."""
    loss = _Loss(model, loss_of)
    if rank().count == 1:
        return loss
    # Static: while stage 1 is trained, stage 2 has no gradient.
    return DistributedDataParallel(loss, static_graph=True)


def mean_of_all(value: Tensor) -> Tensor:
    """The mean of what the processes have; asked for by all of them."""
    if rank().count == 1:
        return value
    value = value.clone()
    distributed.all_reduce(value)
    return value / rank().count


def agree(step: int, what: str) -> None:
    """Refuse to go on where the processes found different steps in ``what``."""
    if rank().count == 1:
        return
    steps: list[int] = [0] * rank().count
    distributed.all_gather_object(steps, step)
    if len(set(steps)) > 1:
        raise ConfigError(
            f"the processes find different states in {what} (steps {steps}); "
            "--out must be one folder that all of them see"
        )


class _Loss(nn.Module):
    """A loss as a module's forward pass, which is what data parallel wraps."""

    def __init__(self, model: nn.Module, loss_of: Callable[[nn.Module, int], Tensor]) -> None:
        super().__init__()
        self.model = model
        self._loss_of = loss_of

    def forward(self, step: int) -> Tensor:
        return self._loss_of(self.model, step)
