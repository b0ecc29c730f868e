"""The runtime: frames go from a source through the enhancer to a sink, in three threads.

::

    capture thread          enhance thread              calling thread
    source.frames() ──box──▶ enhancer.begin() ────queue──▶ sink.write()

The first box is a `LatestFrame` for live (the newest frame wins, nothing piles up) and a bounded
`FrameQueue` for files (every frame arrives). Order is kept throughout. Delivery runs in the
calling thread because windows want the main thread, and because Ctrl-C arrives there.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Protocol, TypeVar

from cagface_core import Enhanced, Frame
from realtime.interrupts import signals_wait
from realtime.mailbox import Cancelled, Finished, FrameQueue, LatestFrame, Mailbox
from realtime.pacer import Pacer
from realtime.plain import untouched
from realtime.sink import EndOfDelivery, Sink
from realtime.source import Source
from realtime.stats import Stats

_log = logging.getLogger(__name__)

_FILE_QUEUE = 4
_OUTPUT_QUEUE = 2
"""Small on purpose: an enlarged 1080p frame is 25 to 100 MB."""


class Resettable(Protocol):
    """The enhancer's state: tracks, caches and smoothing."""

    def reset(self) -> None:
        """Forget everything; the next frame starts afresh."""
        ...


StateT = TypeVar("StateT", bound=Resettable)


class Enhancer(Protocol[StateT]):
    """What the loop asks of an enhancer; `cagface_core.FaceEnhancer` is one."""

    def new_state(self) -> StateT:
        """A fresh state for one stream."""
        ...

    @property
    def frames_ahead(self) -> int:
        """How many frames may be begun before the first of them is finished; 0 live."""
        ...

    def begin(self, frame: Frame, state: StateT) -> Callable[[], Enhanced]:
        """Begin the next frame; updates ``state``.

        What is returned finishes it and gives it, enlarged by the enhancer's own scale; frames are
        finished in order.
        """
        ...


class OnError(StrEnum):
    """What happens to a frame whose enhancement raises."""

    PASSTHROUGH = "passthrough"
    """It goes out enlarged without enhancement; counted, logged once per kind of error."""
    STOP = "stop"
    """The run ends with that error."""


@dataclass(frozen=True, slots=True)
class LoopOptions:
    """How frames flow: ``scale`` is the enhancer's, used for passthrough.

    ``newest_only`` drops frames that come faster than they are enhanced; ``pace`` holds a source
    that is not live to its own timestamps: its frames count as captured when they are due.
    """

    scale: int
    newest_only: bool = False
    pace: bool = False
    on_error: OnError = OnError.PASSTHROUGH


@dataclass(frozen=True, slots=True)
class _Begun:
    frame: Frame
    finish: Callable[[], Enhanced]
    spent_ms: float


@dataclass(frozen=True, slots=True)
class _Ready:
    frame: Frame
    enhanced: Enhanced


def enhanced_only(frame: Frame, enhanced: Enhanced) -> Frame:
    """The usual composition: what is delivered is the enhanced frame."""
    return replace(frame, rgb=enhanced.rgb, planes=enhanced.planes)


def run_loop(
    source: Source,
    enhancer: Enhancer[StateT],
    sink: Sink,
    options: LoopOptions,
    stats: Stats,
    *,
    compose: Callable[[Frame, Enhanced], Frame] = enhanced_only,
    on_delivered: Callable[[Stats], None] | None = None,
) -> None:
    """Run until the source ends, the sink is closed by its user, or something fails.

    Every thread has ended when this returns or raises. Ctrl-C and SIGTERM come between two frames,
    and only a second one in the midst of things. Finishing the sink, and closing source,
    sink and enhancer, is the caller's part.

    Args:
        source: an open source.
        enhancer: used from one thread only.
        sink: an open sink.
        options: see `LoopOptions`.
        stats: filled as the run goes.
        compose: makes the frame that is delivered from that which came and its enhanced version.
        on_delivered: called after each delivered frame, in the calling thread; what it raises
            ends the run.

    Raises:
        Whatever the source or the sink raises; with `OnError.STOP` also what the enhancer raises.
    """
    captured: Mailbox[Frame] = LatestFrame() if options.newest_only else FrameQueue(_FILE_QUEUE)
    ready: Mailbox[_Ready] = FrameQueue(_OUTPUT_QUEUE)

    def capture() -> None:
        pacer = Pacer()
        frames = source.frames()
        while True:
            started_s = time.perf_counter()
            frame = next(frames, None)
            if frame is None:
                return
            stats.time("capture", _ms_since(started_s))
            if options.pace:
                due_s = pacer.due_s(frame.time_s)
                if captured.wait_cancelled(max(0.0, due_s - time.perf_counter())):
                    raise Cancelled
                frame = replace(frame, captured_s=due_s)
            if frame.captured_s is not None:
                stats.captured(frame.captured_s)
            captured.put(frame)

    def enhance() -> None:
        stage = _EnhanceStage(enhancer, options, stats)
        begun: deque[_Begun] = deque()

        def finish() -> None:
            first = begun.popleft()
            enhanced = stage.finish(first)
            if first.frame.foreseen is None or first.frame.foreseen.shown:
                stats.enhanced(enhanced)
                ready.put(_Ready(first.frame, enhanced))

        with suppress(Finished):
            while True:
                begun.append(stage.begin(captured.get()))
                if len(begun) > enhancer.frames_ahead:
                    finish()
        while begun:
            finish()

    def deliver(item: _Ready) -> None:
        started_s = time.perf_counter()
        sink.write(compose(item.frame, item.enhanced))
        stats.time("deliver", _ms_since(started_s))
        if item.frame.captured_s is not None:
            stats.time("latency", _ms_since(item.frame.captured_s))
        stats.lost(captured.dropped)
        stats.delivered()
        if on_delivered is not None:
            on_delivered(stats)

    with signals_wait() as let_signals_in, ExitStack() as threads:
        stats.start()
        threads.callback(lambda: stats.lost(captured.dropped))
        threads.enter_context(_thread("capture", capture, outbox=captured))
        threads.enter_context(_thread("enhance", enhance, inbox=captured, outbox=ready))
        try:
            while True:
                deliver(ready.get(let_signals_in))
        except (Finished, EndOfDelivery):
            pass


class _EnhanceStage:
    """Enhances frame after frame and makes the named decision when one fails."""

    def __init__(self, enhancer: Enhancer[StateT], options: LoopOptions, stats: Stats) -> None:
        state = enhancer.new_state()
        self._begin: Callable[[Frame], Callable[[], Enhanced]] = lambda f: enhancer.begin(f, state)
        self._reset = state.reset
        self._options = options
        self._stats = stats
        self._logged: set[str] = set()

    def begin(self, frame: Frame) -> _Begun:
        started_s = time.perf_counter()
        try:
            finish = self._begin(frame)
        except Exception as error:  # noqa: BLE001  what becomes of it is decided there
            plain = self._pass_through(frame, error)
            return _Begun(frame, lambda: plain, _ms_since(started_s))
        return _Begun(frame, finish, _ms_since(started_s))

    def finish(self, begun: _Begun) -> Enhanced:
        started_s = time.perf_counter()
        try:
            result = begun.finish()
        except Exception as error:  # noqa: BLE001  what becomes of it is decided there
            result = self._pass_through(begun.frame, error)
        self._stats.time("enhance", begun.spent_ms + _ms_since(started_s))
        return result

    def _pass_through(self, frame: Frame, error: Exception) -> Enhanced:
        if self._options.on_error is OnError.STOP:
            raise error
        kind = type(error).__name__
        self._stats.count("passthrough")
        if kind not in self._logged:
            self._logged.add(kind)
            _log.warning(
                "a frame could not be enhanced and passes through (%s: %s); "
                "further errors of this kind are only counted",
                kind,
                error,
                exc_info=_log.isEnabledFor(logging.DEBUG),
            )
        # What failed may have left tracks and caches half changed.
        self._reset()
        return untouched(frame, self._options.scale)


def _ms_since(started_s: float) -> float:
    return 1000 * (time.perf_counter() - started_s)


@contextmanager
def _thread(
    name: str,
    work: Callable[[], None],
    *,
    inbox: Mailbox[Frame] | None = None,
    outbox: Mailbox[Frame] | Mailbox[_Ready],
) -> Generator[None]:
    """Run ``work`` in a thread that always says how it ended; end and join it on the way out."""

    def run() -> None:
        error: BaseException | None = None
        try:
            work()
        except (Finished, Cancelled):
            pass
        except BaseException as caught:  # noqa: BLE001  handed to the consumer, who raises it
            error = caught
        finally:
            outbox.finish(error)
            if inbox is not None:
                inbox.cancel()

    # A daemon, so that a driver that hangs in a read cannot keep the program alive after a
    # second Ctrl-C; in every other case the thread is joined here.
    thread = threading.Thread(target=run, name=name, daemon=True)
    try:  # Ctrl-C may come while it starts
        thread.start()
        yield
    finally:
        outbox.cancel()
        if inbox is not None:
            inbox.cancel()
        if thread.ident is not None:
            thread.join()
