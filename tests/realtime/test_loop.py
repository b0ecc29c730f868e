"""The loop: order, errors from every side, passthrough, pacing, and that all threads end."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import replace

import numpy as np
import pytest

from cagface_core import InputError
from realtime.loop import LoopOptions, OnError, run_loop
from realtime.plain import upscale
from realtime.sink import EndOfDelivery
from realtime.stats import Stats
from tests.realtime.helpers import ListSink, ListSource, PlainEnhancer, picture

SCALE_2 = LoopOptions(scale=2)


@pytest.fixture(autouse=True)
def _all_threads_end():
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) == before


def test_every_frame_arrives_in_order_with_its_time():
    sink, stats = ListSink(), Stats()
    pts = [0, 40, 41, 300, 1000]
    run_loop(ListSource(pts), PlainEnhancer(2), sink, SCALE_2, stats)
    assert [frame.pts for frame in sink.frames] == pts
    for index, frame in enumerate(sink.frames):
        assert np.array_equal(frame.rgb, upscale(picture(index, 32, 16), 2))
    summary = stats.summary()
    assert (summary.frames, summary.faces, summary.dropped) == (5, 5, 0)
    assert summary.attention_hit_rate == 0.75
    assert {"capture", "enhance", "enhance.network", "deliver"} <= set(summary.stages)
    assert summary.stages["enhance.network"].mean_ms == 1.0


@pytest.mark.parametrize("newest_only", [False, True])
def test_source_error_reaches_the_caller(newest_only):
    source = ListSource(range(3), error=InputError("unplugged"))
    options = LoopOptions(scale=2, newest_only=newest_only)
    with pytest.raises(InputError, match="unplugged"):
        run_loop(source, PlainEnhancer(2), ListSink(), options, Stats())


def test_sink_error_reaches_the_caller_while_all_queues_are_full():
    with pytest.raises(OSError, match="disk full"):
        run_loop(
            ListSource(range(10_000)), PlainEnhancer(2), ListSink(error_at=3), SCALE_2, Stats()
        )


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_interrupt_in_delivery_ends_all(error):
    def interrupt(stats):
        if stats.frames == 3:
            raise error

    with pytest.raises(error):
        run_loop(
            ListSource(range(10_000)), PlainEnhancer(2), ListSink(), SCALE_2, Stats(),
            on_delivered=interrupt,
        )  # fmt: skip


def test_closing_the_window_ends_the_run_without_error():
    sink = ListSink(error_at=4, error=EndOfDelivery())
    run_loop(ListSource(range(10_000)), PlainEnhancer(2), sink, SCALE_2, Stats())
    assert len(sink.frames) == 4


def test_failed_frames_pass_through_counted_and_logged_once(caplog):
    enhancer = PlainEnhancer(2, fail_at=lambda index: index in (1, 2))
    sink, stats = ListSink(), Stats()
    with caplog.at_level(logging.WARNING, "realtime.loop"):
        run_loop(ListSource(range(5)), enhancer, sink, SCALE_2, stats)
    assert len(sink.frames) == 5
    assert np.array_equal(sink.frames[1].rgb, upscale(picture(1, 32, 16), 2))
    assert stats.summary().passthrough == 2
    assert enhancer.states[0].resets == 2
    assert [r.message for r in caplog.records] == [caplog.records[0].message]
    assert "the network tripped" in caplog.records[0].message


def test_stop_is_the_other_decision():
    enhancer = PlainEnhancer(2, fail_at=lambda index: index == 1)
    options = LoopOptions(scale=2, on_error=OnError.STOP)
    with pytest.raises(RuntimeError, match="tripped"):
        run_loop(ListSource(range(5)), enhancer, ListSink(), options, Stats())


def test_pace_holds_a_file_to_its_times():
    sink, stats = ListSink(), Stats()
    arrived_s = []
    options = LoopOptions(scale=2, newest_only=True, pace=True)
    run_loop(
        ListSource([1000, 1050, 1100, 1250]), PlainEnhancer(2), sink, options, stats,
        on_delivered=lambda _stats: arrived_s.append(time.perf_counter()),
    )  # fmt: skip
    assert [frame.pts for frame in sink.frames] == [1000, 1050, 1100, 1250]
    # A frame is never early; how late it may be depends on the machine.
    assert arrived_s[-1] - arrived_s[0] > 0.2


def test_latency_is_from_when_a_frame_was_captured():
    class Stamped(ListSource):
        def frames(self):
            now_s = time.perf_counter()
            for index, frame in enumerate(super().frames()):
                yield replace(frame, captured_s=None if index == 2 else now_s - 10)

    sink, stats = ListSink(), Stats()
    run_loop(Stamped(range(5)), PlainEnhancer(2), sink, SCALE_2, stats)
    latency = stats.latency
    assert latency is not None
    assert latency.n == 4, "a picture that no camera has seen has none"
    assert 10_000 <= latency.p50_ms < 12_000
    unstamped = Stats()
    run_loop(ListSource(range(5)), PlainEnhancer(2), sink, SCALE_2, unstamped)
    assert unstamped.latency is None


def test_an_interrupt_does_not_wait_for_a_paced_frame():
    def interrupt(_stats):
        raise KeyboardInterrupt

    started_s = time.perf_counter()
    with pytest.raises(KeyboardInterrupt):
        run_loop(
            ListSource([0, 9_000]), PlainEnhancer(2), ListSink(),
            LoopOptions(scale=2, newest_only=True, pace=True), Stats(), on_delivered=interrupt,
        )  # fmt: skip
    assert time.perf_counter() - started_s < 5


def test_live_drops_what_comes_too_fast_and_keeps_the_order():
    class Slow(PlainEnhancer):
        def enhance(self, frame, state, tuning=None):
            time.sleep(0.03)
            return super().enhance(frame, state, tuning)

    sink, stats = ListSink(), Stats()
    options = LoopOptions(scale=2, newest_only=True, pace=True)
    run_loop(ListSource(range(0, 400, 5)), Slow(2), sink, options, stats)
    pts = [frame.pts for frame in sink.frames]
    assert pts == sorted(set(pts))
    assert pts[-1] == 395, "the newest frame always arrives"
    assert stats.summary().dropped == 80 - len(pts) > 0


class Overlapping(PlainEnhancer):
    """Finishes a frame only when it is asked for it; fails at some in the beginning or the end."""

    def __init__(self, ahead: int, *, begin_fails=(), finish_fails=()):
        super().__init__(2)
        self.frames_ahead = ahead
        self.begin_fails, self.finish_fails = begin_fails, finish_fails
        self.under_way = self.most = 0

    def begin(self, frame, state):
        if frame.pts in self.begin_fails:
            raise RuntimeError("it tripped")
        self.under_way += 1
        self.most = max(self.most, self.under_way)

        def finish():
            self.under_way -= 1
            if frame.pts in self.finish_fails:
                raise RuntimeError("it tripped")
            return self.enhance(frame, state)

        return finish


@pytest.mark.parametrize(("ahead", "most"), [(0, 1), (3, 4), (50, 9)])
def test_frames_that_are_begun_ahead_all_arrive_in_order(ahead: int, most: int):
    sink, stats = ListSink(), Stats()
    enhancer = Overlapping(ahead, begin_fails={2, 5}, finish_fails={0, 5, 8})
    run_loop(ListSource(range(11)), enhancer, sink, SCALE_2, stats)
    assert [frame.pts for frame in sink.frames] == list(range(11))
    assert (enhancer.under_way, enhancer.most) == (0, most)
    assert stats.summary().passthrough == 4
    assert enhancer.states[0].resets == 4
    for index, frame in enumerate(sink.frames):
        assert np.array_equal(frame.rgb, upscale(picture(index, 32, 16), 2))


@pytest.mark.parametrize("fails", ["begin_fails", "finish_fails"])
def test_stop_on_error_ends_a_run_that_is_ahead(fails: str):
    sink = ListSink()
    options = LoopOptions(scale=2, on_error=OnError.STOP)
    with pytest.raises(RuntimeError, match="tripped"):
        run_loop(ListSource(range(9)), Overlapping(2, **{fails: {6}}), sink, options, Stats())
    assert [frame.pts for frame in sink.frames] == list(range(len(sink.frames)))
