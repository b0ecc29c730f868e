"""What concerns the whole process: its memory, its threads, what is loaded while, its age."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Generic, Protocol, TypeVar

import numpy as np

from cagface_core import usable_cores
from realtime.heaps import set_allocator
from realtime.interrupts import signals_wait


class Closable(Protocol):
    """What is released by ``close``."""

    def close(self) -> None:
        """Release it."""
        ...


ResultT = TypeVar("ResultT")
ClosableT = TypeVar("ClosableT", bound=Closable)

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3
_LARGEST_KEPT_BYTES = 32 << 20
_KEPT_BYTES = 256 << 20
_HEAP_BYTES = 64 << 20
"""As large as the parts of which all heaps but the first are made."""

_HEAD_START_S = 0.3
"""Mistakes in what is to be opened are mostly found sooner, and then nothing was loaded in vain."""

_LOOK_UP_S = 0.2

_LEFT_BEHIND = "left behind"

_IMPORTED_S = time.perf_counter()


def keep_memory() -> bool:
    """Keep freed memory in the process instead of giving it back after every frame.

    glibc gives large blocks back to the system when they are freed and gets them anew, zeroed
    page by page, for the next frame: 1,300 to 2,100 page faults and a fifth of the network's time
    for one face. Blocks of up to 32 MiB (a 3840x2160 picture) now come from the heap, which keeps
    up to 256 MiB at hand. Where threads share further heaps, these are made of parts that are given
    back once they are empty, up to 2,300 page faults a frame of 3840x2160, unless as much as a part
    is to be at hand in advance; of that nothing is used before it is written to. Other allocators
    are left as they are.

    Returns:
        Whether the allocator took the settings.
    """
    return set_allocator(
        (_M_MMAP_THRESHOLD, _LARGEST_KEPT_BYTES),
        (_M_TRIM_THRESHOLD, _KEPT_BYTES),
        (_M_TOP_PAD, _HEAP_BYTES),
    )


def claim_memory(width: int, height: int, count: int) -> None:
    """Take the memory of ``count`` RGB pictures, and let go of it.

    With `keep_memory` it stays with the process, which then does not grow on the day it needs
    them. Each thread has memory of its own, so call it in the one that makes the pictures.
    """
    pictures = [np.empty((height, width, 3), np.uint8) for _ in range(count)]
    for picture in pictures:
        picture.fill(0)  # what was never written to is not there yet


def leave_a_core(cores: int | None = None) -> int:
    """Compute with one thread less than it may use cores, unless OMP_NUM_THREADS says otherwise.

    ``cores`` are those that this process has for itself, whatever that says: Ray sets it to all.

    The threads of one operation wait for the slowest, awake. Where decoder, encoder or the call
    itself takes a core from one of them, all stand still: on two busy cores a network of 70 ms took
    800 with two threads. Alone on them, the second thread saves 3 of 22 ms a frame.
    OpenCV's threads become few as well, see :func:`cagface_core.limit_opencv`.

    Returns:
        With how many threads torch computes.
    """
    import torch  # takes a second, which --help does not have

    from cagface_core import limit_opencv  # so does this

    limit_opencv()
    if cores is not None:
        torch.set_num_threads(max(1, cores - 1))
    elif "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, min(torch.get_num_threads(), usable_cores() - 1)))
    return torch.get_num_threads()


def in_own_thread(work: Callable[[], ResultT]) -> ResultT:
    """Do what uses the network outside of the thread that enhances; give or raise what it does.

    torch computes with one pool of OpenMP threads for each thread that calls it, kept as long as
    that thread lives. With a second pool there are more threads than cores, upon which GNU OpenMP
    puts its threads to sleep between any two operations: on two cores a parse of 14 ms took 40.
    """
    with signals_wait(), ThreadPoolExecutor(1, "setup") as executor:
        return executor.submit(work).result()


def interruptibly(work: Callable[[], ResultT]) -> ResultT:
    """Do what does not heed Ctrl-C in another thread, where Ctrl-C leaves it behind.

    Gives or raises what it does.
    """
    done = Future[ResultT]()

    def run() -> None:
        try:
            done.set_result(work())
        except BaseException as error:  # noqa: BLE001 - it is raised where it is waited for
            done.set_exception(error)

    threading.Thread(target=run, name=_LEFT_BEHIND, daemon=True).start()
    while not done.done():
        wait([done], _LOOK_UP_S)  # without an end Windows would not tell of Ctrl-C here
    return done.result()


def left_behind() -> bool:
    """Whether Ctrl-C has left something of :func:`interruptibly` that still goes on."""
    return any(thread.name == _LEFT_BEHIND for thread in threading.enumerate())


class Loading(Generic[ClosableT]):
    """Something that takes seconds to load, in a thread of its own beside other preparations.

    ``load`` is called once other things have had a moment to fail, or when `result` is asked for.
    """

    def __init__(self, load: Callable[[], ClosableT], head_start_s: float = _HEAD_START_S) -> None:
        self._load = load
        self._head_start_s = head_start_s
        self._wanted = threading.Event()
        self._given_up = False
        self._executor = ThreadPoolExecutor(1, "setup")
        self._future = self._executor.submit(self._begin)

    def _begin(self) -> ClosableT | None:
        self._wanted.wait(self._head_start_s)
        return None if self._given_up else self._load()

    def result(self) -> ClosableT:
        """Wait for it; the caller closes it. Raises what ``load`` raises."""
        with signals_wait():
            self._wanted.set()
            loaded = self._future.result()
        self._executor.shutdown()  # the thread's OpenMP pool goes with it, see `in_own_thread`
        assert loaded is not None  # only `give_up` makes it so
        return loaded

    def give_up(self) -> None:
        """It is not wanted any more; what is being loaded is closed as soon as it is there."""
        self._given_up = True
        self._wanted.set()
        self._executor.shutdown(wait=False)
        self._future.add_done_callback(_close)


def _close(future: Future[ClosableT | None]) -> None:
    if future.exception() is None and (loaded := future.result()) is not None:
        loaded.close()


def age_s() -> float:
    """How long this program has been running; not on Linux, since this module was imported."""
    try:
        # After the name in brackets, which may hold anything: the 22nd value, in ticks since boot.
        values = Path("/proc/self/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        begun_s = int(values[19]) / os.sysconf("SC_CLK_TCK")
        return max(0.0, time.clock_gettime(time.CLOCK_BOOTTIME) - begun_s)
    except (OSError, AttributeError):
        return time.perf_counter() - _IMPORTED_S
