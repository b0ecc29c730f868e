"""A name and a number in; that many threads, in each of which torch computes with it alone, out.

And how many OpenCV may use, which has one pool of them for all.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TypeVar

import cv2
import torch

from cagface_core.cores import usable_cores

_MOST_NETWORKS = 8  # the frame of each is held, enlarged
_MOST_OF_OPENCV = 4

ResultT = TypeVar("ResultT")


def networks_at_once(kind: str) -> int:
    """How many frames of a file to compute at a time, by what computes them.

    A network alone on a processor waits for each of its threads at every layer; several, each with
    one thread, wait for nobody. A GPU computes and composes one after the other, in order, while
    the next is looked at.
    """
    if kind != "cpu":
        return 1
    return min(torch.get_num_threads() + 1, usable_cores(), _MOST_NETWORKS)


def limit_opencv() -> None:
    """Let OpenCV use no more threads than large pictures need; it takes one for each core.

    It wakes all of them for whatever it does, be it a face in 80 x 80 px: following that takes 0.16
    ms with one thread, 0.19 with four, 0.22 with sixty-four, on two cores; with more of them the
    others, too, do nothing but wake and wait.
    """
    cv2.setNumThreads(min(cv2.getNumThreads(), usable_cores(), _MOST_OF_OPENCV))


def later(work: Callable[[], ResultT], beside: ThreadPoolExecutor | None) -> Callable[[], ResultT]:
    """Begin some work beside, and give what waits for it; or the work itself, for later."""
    return beside.submit(work).result if beside else work


def single_threaded(name: str, count: int = 1) -> ThreadPoolExecutor:
    """Start threads whose torch computes with that thread alone, all of them at once.

    torch keeps a pool of OpenMP threads for each thread that calls it: several pools have more
    threads than there are cores, and all of them slow down.
    """
    executor = ThreadPoolExecutor(count, name)
    all_there = threading.Barrier(count)

    def begin() -> None:
        all_there.wait()  # or one thread would do it for all
        torch.get_num_threads()  # a thread's first call takes over what holds for all
        torch.set_num_threads(1)

    threads = torch.get_num_threads()
    wait([executor.submit(begin) for _ in range(count)])
    torch.set_num_threads(threads)  # that had set it for all threads to come
    return executor
