"""Several looks at a time."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor, wait
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from cagface_core.blazeface import BlazeFaceDetector, Gate


def test_mediapipes_images_are_made_one_after_the_other(monkeypatch: pytest.MonkeyPatch):
    """Made at a time they undo each other's declarations of C functions."""
    at_once, most = 0, 0
    counting = threading.Lock()

    def make(**options: Any) -> object:
        nonlocal at_once, most
        with counting:
            at_once += 1
            most = max(most, at_once)
        time.sleep(0.02)
        image = mediapipe.Image(**options)
        with counting:
            at_once -= 1
        return image

    picture = np.zeros((64, 64, 3), np.uint8)
    with BlazeFaceDetector("short") as one, BlazeFaceDetector("short") as other:
        mediapipe = one._mediapipe
        for detector in (one, other):
            stand_in = SimpleNamespace(Image=make, ImageFormat=mediapipe.ImageFormat)
            monkeypatch.setattr(detector, "_mediapipe", stand_in)
        with ThreadPoolExecutor(2) as threads:
            looks = [threads.submit(d.detect, picture) for d in (one, other) * 4]
            assert [look.result() for look in looks] == [[]] * 8
    assert most == 1


def test_mediapipes_detectors_are_not_made_while_others_look(monkeypatch: pytest.MonkeyPatch):
    """A detector that is made declares the functions anew that others are calling."""
    picture = np.zeros((64, 64, 3), np.uint8)
    looking, go_on = threading.Event(), threading.Event()
    with BlazeFaceDetector("short") as one, ThreadPoolExecutor(2) as threads:
        real: Any = one._task

        def detect(image: object) -> Any:
            looking.set()
            go_on.wait(20)
            return real.detect(image)

        monkeypatch.setattr(one, "_task", SimpleNamespace(detect=detect))
        monkeypatch.setattr("cagface_core.blazeface._CHATTY_LOOKS", 0)  # which wait anyway
        look = threads.submit(one.detect, picture)
        assert looking.wait(20)
        made = threads.submit(BlazeFaceDetector, "short")
        assert not wait([made], 0.5).done
        go_on.set()
        assert look.result(20) == []
        made.result(20).close()
        monkeypatch.setattr(one, "_task", real)


def test_a_gate_lets_in_many_at_a_time():
    gate, together = Gate(), threading.Barrier(3)

    def look(_: int) -> None:
        with gate.among_others():
            together.wait(20)

    with ThreadPoolExecutor(3) as threads:
        assert list(threads.map(look, range(3))) == [None] * 3


def test_a_gate_lets_in_nobody_beside_one_alone():
    gate = Gate()
    looking: list[int] = []
    making: list[int] = []

    def look(number: int) -> None:
        with gate.among_others():
            looking.append(number)
            time.sleep(0.001)
            assert not making
            looking.remove(number)

    def make(number: int) -> None:
        with gate.alone():
            making.append(number)
            time.sleep(0.001)
            assert (looking, making) == ([], [number])
            making.remove(number)

    with ThreadPoolExecutor(4) as threads:
        jobs = [threads.submit(make if n % 4 == 0 else look, n) for n in range(80)]
        for job in jobs:
            job.result(20)


def test_a_gate_is_open_after_an_error():
    gate = Gate()
    for way in (gate.among_others, gate.alone):
        with pytest.raises(ValueError, match="no model"), way():
            raise ValueError("no model")
    with gate.alone():
        pass
    with gate.among_others():
        pass
