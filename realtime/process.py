"""Settings of the whole process, for frames at a steady pace: where its memory and threads go."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

ResultT = TypeVar("ResultT")

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_LARGEST_KEPT_BYTES = 32 << 20
_KEPT_BYTES = 256 << 20


def keep_memory() -> bool:
    """Keep freed memory in the process instead of giving it back after every frame.

    glibc gives large blocks back to the system when they are freed and gets them anew, zeroed
    page by page, for the next frame: 1,300 to 2,100 page faults and a fifth of the network's time
    for one face. Blocks of up to 32 MiB (a 3840x2160 picture) now come from the heap, which keeps
    up to 256 MiB at hand. Other allocators are left as they are.

    Returns:
        Whether the allocator took the settings.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return bool(
        mallopt(_M_MMAP_THRESHOLD, _LARGEST_KEPT_BYTES)
        and mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)
    )  # fmt: skip


def leave_a_core() -> int:
    """Compute with one thread less than there are cores, unless OMP_NUM_THREADS says otherwise.

    The threads of one operation wait for the slowest, awake. Where decoder, encoder or the call
    itself takes a core from one of them, all stand still: on two busy cores a network of 70 ms took
    800 with two threads. Alone on them, the second thread saves 3 of 22 ms a frame.

    Returns:
        With how many threads torch computes.
    """
    import torch  # takes a second, which --help does not have

    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, min(torch.get_num_threads(), (os.cpu_count() or 2) - 1)))
    return torch.get_num_threads()


def in_own_thread(work: Callable[[], ResultT]) -> ResultT:
    """Do what uses the network outside of the thread that enhances; give or raise what it does.

    torch computes with one pool of OpenMP threads for each thread that calls it, kept as long as
    that thread lives. With a second pool there are more threads than cores, upon which GNU OpenMP
    puts its threads to sleep between any two operations: on two cores a parse of 14 ms took 40.
    """
    with ThreadPoolExecutor(1, "setup") as executor:
        return executor.submit(work).result()
