"""A function of tensors in; the same, replayed as one CUDA graph per shape, out.

At batch 1 a GPU finishes most kernels of these networks faster than Python launches them; a graph
launches all of them at once.
"""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any, Generic, TypeVar, cast

import torch
from torch import Tensor

log = logging.getLogger(__name__)

_CAPTURING = threading.Lock()
"""A process captures one graph at a time: a capture begins with waiting for the whole device, which
fails in the midst of another one, and what cuDNN is to do meanwhile is set for all threads."""

_WARM_UP_RUNS = 3  # cuDNN tries its algorithms in the first ones, none of which may be captured

_here = threading.local()


def makes_graph() -> bool:
    """Whether this thread makes a graph: warms up for it, where kernels may be tried, or captures.

    Others go on meanwhile, with what is at hand.
    """
    return getattr(_here, "makes_graph", False)


@cache
def _capture_stream(device: torch.device) -> torch.cuda.Stream:
    """One for all captures: torch has 32 a device, and hands them out again and again.

    A stream captured into must be nobody else's.
    """
    return torch.cuda.Stream(device)


Shapes = tuple[tuple[int, ...], ...]
OutputT = TypeVar("OutputT")
"""A tensor, or a named tuple of tensors."""


class GraphPool:
    """Memory that graphs share, and the order in which they use it.

    Graphs of one pool never run at the same time: each waits for the one before, whatever threads
    and streams they are called from. What shall run side by side has a pool of its own.
    """

    def __init__(self, device: torch.device) -> None:
        """Make an empty pool on a CUDA device."""
        self.device = device
        self.lock = threading.RLock()
        self.handle = torch.cuda.graph_pool_handle()
        self.stream = _capture_stream(device)
        self.done = torch.cuda.Event()


class Graphed(Generic[OutputT]):
    """A function whose kernels are captured once per input shape, then replayed."""

    def __init__(self, function: Callable[..., OutputT], pool: GraphPool) -> None:
        """Wrap a function; nothing is captured yet.

        Args:
            function: of tensors on ``pool.device`` only, to one tensor or a named tuple of them;
                the same kernels for the same shapes, nothing read back. What else it uses must
                stay where it is in memory.
            pool: shared with other graphs.
        """
        self.function, self.pool = function, pool
        self._graphs: dict[Shapes, tuple[torch.cuda.CUDAGraph, list[Tensor], OutputT]] = {}
        self._too_many: float = math.inf

    def captured(self, inputs: Sequence[Tensor]) -> bool:
        """Whether there is a graph for inputs of these shapes."""
        return _shapes(inputs) in self._graphs

    def __len__(self) -> int:
        """How many graphs there are."""
        return len(self._graphs)

    def refused(self, inputs: Sequence[Tensor]) -> bool:
        """Whether the device's memory did not hold a graph for as much as these inputs are."""
        return sum(tensor.numel() for tensor in inputs) >= self._too_many

    def try_capture(self, *inputs: Tensor, benchmark: bool = True) -> bool:
        """Tell whether there is a graph for inputs of these shapes; captures it if need be.

        Where the device's memory does not hold it, it is not tried again, nor are larger ones.
        """
        if self.captured(inputs) or self.refused(inputs):
            return self.captured(inputs)
        reason, tries = "", 2  # what other threads do may spoil a capture
        while tries:
            try:
                self.capture(*inputs, benchmark=benchmark)
            except RuntimeError as error:  # out of memory, or what that makes of a capture
                reason = str(error).splitlines()[0]
                tries = 0 if isinstance(error, torch.OutOfMemoryError) else tries - 1
            else:
                return True
            torch.cuda.empty_cache()  # here, where the error no longer holds what was captured
        self._too_many = sum(tensor.numel() for tensor in inputs)
        log.warning("no CUDA graph for %s: such run without (%s)", _shapes(inputs), reason)
        return False

    @torch.inference_mode()
    def capture(self, *inputs: Tensor, benchmark: bool = True) -> None:
        """Capture the function for inputs of these shapes and types, if it is not yet.

        Other threads may use the device meanwhile, though not this pool.

        Args:
            inputs: as for a call.
            benchmark: let cuDNN try its algorithms; all threads do meanwhile, each its own.

        Raises:
            torch.OutOfMemoryError: the device's memory does not hold the graph.
        """
        with _CAPTURING, self.pool.lock:
            if self.captured(inputs):
                return
            stream = self.pool.stream
            stream.wait_stream(torch.cuda.current_stream(self.pool.device))
            with (
                torch.cuda.stream(stream),
                torch.backends.cudnn.flags(enabled=True, benchmark=benchmark),
                _making(),
            ):
                static = [torch.empty_like(tensor).copy_(tensor) for tensor in inputs]
                for _ in range(_WARM_UP_RUNS):
                    self.function(*static)
                graph = torch.cuda.CUDAGraph()
                with torch.cuda.graph(
                    graph, self.pool.handle, stream, capture_error_mode="thread_local"
                ):
                    output = self.function(*static)
            torch.cuda.current_stream(self.pool.device).wait_stream(stream)
            self._graphs[_shapes(inputs)] = graph, static, output

    @torch.inference_mode()
    def __call__(self, *inputs: Tensor) -> OutputT:
        """Replay the graph for these shapes on the caller's stream.

        Returns:
            A copy of the graph's output, the caller's to keep: the output itself lives only until
            any graph of the pool runs again.

        Raises:
            ValueError: no graph of these shapes was captured.
        """
        with self.pool.lock:
            shapes = _shapes(inputs)
            if shapes not in self._graphs:
                there = ", ".join(map(str, self._graphs)) or "none"
                raise ValueError(
                    f"no CUDA graph for inputs of shape {shapes}; there are: {there}; "
                    "call capture with such inputs first"
                )
            graph, static, output = self._graphs[shapes]
            stream = torch.cuda.current_stream(self.pool.device)
            stream.wait_event(self.pool.done)
            _copy(static, inputs)
            graph.replay()
            result = _copied(output)
            self.pool.done.record(stream)
            return result


@contextmanager
def _making() -> Generator[None]:
    """See :func:`makes_graph`."""
    _here.makes_graph = True
    try:
        yield
    finally:
        _here.makes_graph = False


def _copied(output: OutputT) -> OutputT:
    if isinstance(output, Tensor):
        return cast("OutputT", output.clone())
    kind: Any = type(output)
    tensors = list(cast("Iterable[Tensor]", output))
    made = [torch.empty_like(tensor) for tensor in tensors]
    _copy(made, tensors)
    return kind(*made)


def _copy(to: Sequence[Tensor], given: Sequence[Tensor]) -> None:
    """Copy tensors, all in one kernel where they are of one type and laid out alike."""
    torch.ops.aten._foreach_copy_(list(to), list(given), True)


def _shapes(inputs: Sequence[Tensor]) -> Shapes:
    return tuple(tuple(tensor.shape) for tensor in inputs)
