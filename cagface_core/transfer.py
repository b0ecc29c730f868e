"""Arrays on the host in; tensors on a device out, and back.

On a GPU neither way waits. What goes up is copied into pinned memory by this thread alone: torch's
own copy takes all threads it has for more than some thousand values, and where there are many it
waits for the last to wake. In a profile on sixteen cores copies of 0.1 ms took 1.5 on average while
four faces were followed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def send(values: NDArray[Any], device: torch.device) -> Tensor:
    """Send an array to the device, uint16 as int16; does not wait for it.

    Args:
        values: of any strides; they may change as soon as this returns, unless ``device`` is the
            processor, which takes them as they are where it can.
        device: where to.
    """
    if values.dtype == np.uint16:
        values = values.view(np.int16)
    if device.type != "cuda":
        return torch.from_numpy(np.ascontiguousarray(values)).to(device)
    like = torch.from_numpy(np.empty(0, values.dtype))
    host = torch.empty(values.shape, dtype=like.dtype, pin_memory=True)
    np.copyto(host.numpy(), values)
    return host.to(device, non_blocking=True)


def fetch(values: Tensor) -> Callable[[], NDArray[Any]]:
    """Begin to fetch a tensor as numpy; what is given waits for everything that makes it."""
    if values.device.type != "cuda":
        return values.numpy
    host = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
    host.copy_(values, non_blocking=True)
    done = torch.cuda.Event()
    done.record(torch.cuda.current_stream(values.device))

    def wait() -> NDArray[Any]:
        done.synchronize()
        return host.numpy()

    return wait
