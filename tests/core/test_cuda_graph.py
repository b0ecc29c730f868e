"""What of CUDA graphs needs no GPU: what is done where the memory does not hold one."""

import threading
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from cagface_core.cuda_graph import _CAPTURING, Graphed


@pytest.fixture
def graphed(monkeypatch: pytest.MonkeyPatch) -> Graphed:
    """A function on a device that holds graphs of up to 100 numbers."""
    pool: Any = SimpleNamespace(lock=threading.RLock())
    made = Graphed(lambda x: x, pool)
    made.tried = []

    def capture(*inputs: torch.Tensor, benchmark: bool) -> None:
        assert benchmark
        made.tried.append(inputs[0].numel())
        if inputs[0].numel() > 100:
            raise torch.OutOfMemoryError("CUDA out of memory.\nMore")
        made._graphs[(tuple(inputs[0].shape),)] = None

    monkeypatch.setattr(made, "capture", capture)
    return made


def test_what_does_not_fit_is_said_once_and_runs_without(graphed: Any, caplog: Any):
    assert graphed.try_capture(torch.zeros(50))
    assert not graphed.try_capture(torch.zeros(200))
    assert not graphed.try_capture(torch.zeros(200))
    assert not graphed.try_capture(torch.zeros(300))  # larger: not even tried
    assert graphed.try_capture(torch.zeros(80))  # smaller ones still are
    assert graphed.try_capture(torch.zeros(50))  # and those that are there go on
    assert graphed.tried == [50, 200, 80]
    assert caplog.messages == [
        "no CUDA graph for ((200,),): such run without (CUDA out of memory.)"
    ]  # fmt: skip


def test_a_capture_that_others_spoil_is_tried_once_more(
    graphed: Any, monkeypatch: Any, caplog: Any
):
    capture, spoilt = graphed.capture, [True, False, True, True]

    def spoil(*inputs: torch.Tensor, benchmark: bool) -> None:
        if spoilt.pop(0):
            raise RuntimeError("operation failed due to a previous error during capture")
        capture(*inputs, benchmark=benchmark)

    monkeypatch.setattr(graphed, "capture", spoil)
    assert graphed.try_capture(torch.zeros(50))
    assert not graphed.try_capture(torch.zeros(60))
    assert graphed.refused([torch.zeros(60)])
    assert len(caplog.messages) == 1


def test_a_process_captures_one_graph_at_a_time():
    pools: list[Any] = [SimpleNamespace(lock=threading.RLock()) for _ in range(2)]
    some = torch.zeros(3)
    ended = threading.Event()

    def capture() -> None:
        graphed = Graphed(lambda x: x, pools[1])
        graphed._graphs[((3,),)] = None  # pyright: ignore[reportArgumentType]
        graphed.capture(some)
        ended.set()

    with _CAPTURING, pools[0].lock:
        thread = threading.Thread(target=capture)
        thread.start()
        assert not ended.wait(0.2)
    assert ended.wait(10)
    thread.join()
