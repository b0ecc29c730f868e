"""Mailboxes: order, drops, ends and errors, and that nobody waits for ever."""

from __future__ import annotations

import threading
import time

import pytest

from realtime.mailbox import Cancelled, Finished, FrameQueue, LatestFrame

PATIENCE_S = 5.0


def in_thread(work):
    """Run ``work`` in a thread; give a function that waits for its result or exception."""
    result = []

    def run():
        try:
            result.append((work(), None))
        except Exception as error:  # noqa: BLE001  looked at by the test
            result.append((None, error))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()

    def outcome():
        thread.join(PATIENCE_S)
        assert not thread.is_alive(), "a thread hangs"
        return result[0]

    return outcome


@pytest.fixture(params=[lambda: FrameQueue(2), LatestFrame], ids=["queue", "latest"])
def box(request):
    return request.param()


def test_end_comes_after_what_was_put(box):
    box.put(1)
    box.finish()
    assert box.get() == 1
    with pytest.raises(Finished):
        box.get()


def test_error_reaches_the_consumer_at_once(box):
    box.put(1)
    box.finish(ValueError("broken"))
    with pytest.raises(ValueError, match="broken"):
        box.get()


def test_error_wakes_a_waiting_consumer(box):
    outcome = in_thread(box.get)
    time.sleep(0.05)
    box.finish(ValueError("broken"))
    assert isinstance(outcome()[1], ValueError)


def test_cancel_makes_every_put_raise(box):
    box.cancel()
    with pytest.raises(Cancelled):
        box.put(1)


def test_cancel_wakes_a_sleeping_producer(box):
    outcome = in_thread(lambda: box.wait_cancelled(60))
    time.sleep(0.05)
    box.cancel()
    assert outcome() == (True, None)


def test_sleep_ends_by_itself(box):
    assert box.wait_cancelled(0.01) is False


def test_queue_loses_nothing_and_waits_when_full():
    box = FrameQueue(2)
    put = []

    def produce():
        for item in range(50):
            box.put(item)
            put.append(item)
        box.finish()

    outcome = in_thread(produce)
    time.sleep(0.1)
    assert len(put) == 2, "the producer must wait while two lie unread"
    assert [box.get() for _ in range(50)] == list(range(50))
    assert outcome() == (None, None)
    assert box.dropped == 0


def test_consumer_that_leaves_frees_a_blocked_producer():
    box = FrameQueue(1)
    box.put(0)
    outcome = in_thread(lambda: box.put(1))
    time.sleep(0.05)
    box.cancel()
    assert isinstance(outcome()[1], Cancelled)


def test_latest_keeps_the_newest_and_counts_the_rest():
    box = LatestFrame()
    for item in range(5):
        box.put(item)
    assert box.get() == 4
    assert box.dropped == 4


def test_empty_capacity_is_refused():
    with pytest.raises(ValueError, match="at least 1"):
        FrameQueue(0)
