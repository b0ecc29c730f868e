"""Ctrl-C and SIGTERM come where they do no harm."""

from __future__ import annotations

import signal
import threading
from collections.abc import Generator
from contextlib import suppress
from types import FrameType

import pytest

from realtime.interrupts import signals_wait
from realtime.loop import LoopOptions, run_loop
from realtime.stats import Stats
from tests.realtime.helpers import ListSink, ListSource, PlainEnhancer


class Ended(Exception):  # noqa: N818  what SIGTERM raises here
    """SIGTERM came."""


@pytest.fixture(autouse=True)
def own_handlers() -> Generator[None]:
    def end(_signal: int, _frame: FrameType | None) -> None:
        raise Ended

    before = {
        signal.SIGINT: signal.signal(signal.SIGINT, signal.default_int_handler),
        signal.SIGTERM: signal.signal(signal.SIGTERM, end),
    }
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def signalled(*signals: signal.Signals, let_in_behind: int = 99) -> list[str]:
    """What is done of a block in which signals come, one after the other; whatever they raise."""
    done = []
    try:
        with signals_wait() as let_in:
            let_in()
            for count, number in enumerate(signals, 1):
                signal.raise_signal(number)
                done.append(number.name)
                if count == let_in_behind:
                    let_in()
                    done.append("let in")
            done.append("end")
    except (KeyboardInterrupt, Ended) as raised:
        done.append(type(raised).__name__)
    return done


@pytest.mark.parametrize(
    ("number", "raised"), [(signal.SIGINT, "KeyboardInterrupt"), (signal.SIGTERM, "Ended")]
)
def test_a_signal_waits_to_be_let_in_or_for_the_end(number, raised):
    assert signalled(number, let_in_behind=1) == [number.name, raised]
    assert signalled(number) == [number.name, "end", raised]


@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM])
def test_the_second_signal_does_not_wait(first):
    assert signalled(first, signal.SIGINT) == [first.name, "KeyboardInterrupt"]
    assert signalled(first, signal.SIGTERM) == [first.name, "Ended"]


def test_it_comes_once_where_its_handler_does_not_end_the_block():
    came = []
    signal.signal(signal.SIGTERM, lambda number, _frame: came.append(number))
    with signals_wait() as let_in:
        signal.raise_signal(signal.SIGTERM)
        assert came == []
        let_in()
        let_in()
    assert came == [signal.SIGTERM]


def test_handlers_are_put_back_and_ignored_signals_stay_ignored():
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    term = signal.getsignal(signal.SIGTERM)
    with suppress(ValueError), signals_wait():
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
        assert signal.getsignal(signal.SIGTERM) is not term
        raise ValueError
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    assert signal.getsignal(signal.SIGTERM) is term


def test_in_another_thread_nothing_changes():
    handlers = []

    def work() -> None:
        with signals_wait() as let_in:
            handlers.append(signal.getsignal(signal.SIGINT))
            let_in()

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert handlers == [signal.default_int_handler]


def test_the_loop_is_interrupted_between_two_frames_only():
    """Anywhere else the lock of a mailbox may just have been taken, and is never given back."""
    before = threading.active_count()
    finished = []

    def on_delivered(stats: Stats) -> None:
        if stats.frames == 3:
            signal.raise_signal(signal.SIGINT)
        finished.append(stats.frames)

    with pytest.raises(KeyboardInterrupt):
        run_loop(
            ListSource(range(50)), PlainEnhancer(2), ListSink(), LoopOptions(scale=2), Stats(),
            on_delivered=on_delivered,
        )  # fmt: skip
    assert finished == [1, 2, 3]
    assert threading.active_count() == before
