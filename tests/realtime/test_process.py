"""The process's settings, each in a process of its own: what the system says before and after."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from cagface_core import usable_cores
from realtime.process import Loading, age_s, in_own_thread

ROOT = Path(__file__).parents[2]

FAULTS = """
import json, resource
import numpy as np
from realtime.process import keep_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        np.ones(8 << 20, np.uint8)
    return (resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) / 20

print(json.dumps([keep_memory() and faults(), faults()]))
"""

RESIDENT = """
import json, os
import numpy as np
from realtime.heaps import give_back
from realtime.process import keep_memory

def resident_mib():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20

keep_memory()
before = resident_mib()
blocks = [np.ones(8 << 20, np.uint8) for _ in range(20)]
kept = blocks[-1]  # above what is freed, as pieces of a graph are
del blocks
freed = resident_mib()
print(json.dumps([freed - before, give_back() and resident_mib() - before]))
"""

POOLS = """
import json, os, time, torch
from realtime.process import in_own_thread

torch.set_num_threads(2)
work = lambda: torch.rand(512, 512) @ torch.rand(512, 512) + torch.rand(1 << 20).sum()


def count():
    time.sleep(0.5)  # threads that were told to end take a moment
    return len(os.listdir("/proc/self/task"))


before = count()
in_own_thread(work)
between = count()
work()
print(json.dumps([between - before, count() - before]))
"""


THREADS = """
import json
from realtime.process import in_own_thread, leave_a_core

left = leave_a_core()
import torch

print(json.dumps([left, in_own_thread(torch.get_num_threads), leave_a_core()]))
"""


def run(code: str, **variables: str) -> list[float]:
    here = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
        env=here | variables,
    )
    return json.loads(done.stdout)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's allocator")
def test_memory_freed_is_kept_for_the_next_frame():
    first, later = run(FAULTS)
    assert first < 300, "8 MiB are 2048 pages, faulted once and not twenty times"
    assert later < 10


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's allocator")
def test_what_is_free_goes_back_to_the_system_when_it_is_told_to():
    held_mib, left_mib = run(RESIDENT)
    assert held_mib > 140
    assert left_mib < 40


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts threads in /proc")
def test_a_thread_of_its_own_leaves_no_pool_behind():
    left_by_own_thread, left_by_this_one = run(POOLS)
    assert left_by_own_thread == 0
    assert left_by_this_one > 0, "this is what it is for"


def test_a_core_is_left_to_others_in_every_thread_unless_the_user_says_otherwise():
    most = max(1, usable_cores() - 1)
    first, in_other_thread, again = run(THREADS)
    assert 1 <= first <= most
    assert first == in_other_thread == again
    assert run(THREADS, OMP_NUM_THREADS="2") == [2, 2, 2]


def test_opencv_wakes_few_threads_for_what_is_small():
    (there,) = run(
        "import cv2; from realtime.process import leave_a_core; cv2.setNumThreads(64); "
        "leave_a_core(); print([cv2.getNumThreads()])"
    )
    assert there == min(4, usable_cores())


def test_results_and_errors_come_back():
    assert in_own_thread(lambda: 7) == 7

    def fail() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        in_own_thread(fail)


class Loaded:
    closed = False

    def close(self):
        self.closed = True


def test_loading_begins_beside_other_work_and_its_thread_ends():
    before, began = set(threading.enumerate()), threading.Event()
    loaded = Loaded()

    def load():
        began.set()
        return loaded

    loading = Loading(load, head_start_s=0.0)
    assert began.wait(10), "nobody had to ask for it"
    assert loading.result() is loaded
    assert not loaded.closed
    assert set(threading.enumerate()) == before


def test_what_is_asked_for_is_not_kept_waiting_and_errors_come_through():
    with pytest.raises(ZeroDivisionError):
        Loading(lambda: 1 // 0, head_start_s=3600).result()


def test_after_a_quick_mistake_nothing_is_loaded():
    calls = []
    loading = Loading(lambda: calls.append(1), head_start_s=3600)
    loading.give_up()
    loading._executor.shutdown()
    assert calls == []


def test_after_a_late_mistake_what_was_loaded_is_closed():
    loaded, began, go_on = Loaded(), threading.Event(), threading.Event()

    def load():
        began.set()
        go_on.wait(10)
        return loaded

    loading = Loading(load, head_start_s=0.0)
    assert began.wait(10)
    loading.give_up()
    assert not loaded.closed
    go_on.set()
    loading._executor.shutdown()
    assert loaded.closed


def test_the_programs_age():
    code = "import time; time.sleep(0.3); from realtime.process import age_s; print(age_s())"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert (0.3 if sys.platform.startswith("linux") else 0) <= float(done.stdout) < 60
    assert age_s() > 0


HEAPS = """
{first}
import ctypes, threading
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
there = threading.Barrier(7)
def work():
    libc.malloc(1000)
    there.wait()
for _ in range(6):
    threading.Thread(target=work, daemon=True).start()
there.wait()
out = ctypes.c_void_p.in_dll(libc, "stdout")
libc.malloc_info(0, out)
libc.fflush(out)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="a setting of glibc's")
def test_threads_share_two_heaps():
    def heaps(first: str) -> int:
        words = [sys.executable, "-c", HEAPS.format(first=first)]
        done = subprocess.run(words, capture_output=True, text=True, check=True, cwd=ROOT)
        return done.stdout.count("<heap nr=")

    assert heaps("import realtime") == 2
    assert heaps("import realtime.cli") == 2  # numpy and all else come after
    if heaps("") == 1:
        pytest.skip("another allocator than glibc's")
    assert heaps("") > 2
