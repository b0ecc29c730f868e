"""One run of each kind: a job goes in, source, enhancer and sink are put together, stats come out.

Cheap checks come first: the input is opened before the output, the output before the network is
loaded, so that a mistake costs a second and not a minute.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

from cagface_core import NO_RGB, Enhanced, Face, Frame, Rung
from realtime.controls import Controls, Settings
from realtime.governed import Governable, Governed
from realtime.governor import Governor
from realtime.handles import Live
from realtime.loop import Enhancer, LoopOptions, Resettable, run_loop
from realtime.monitor import Monitor
from realtime.plain import fit, rgb_of, side_by_side
from realtime.process import (
    Loading,
    claim_memory,
    in_own_thread,
    interruptibly,
    keep_memory,
    leave_a_core,
)
from realtime.recorder import Recorder
from realtime.reopening import ReopeningSink
from realtime.sink import FanOut, NullSink, Sink
from realtime.snapshot import default_folder
from realtime.source import (
    CameraRequest,
    Source,
    SourceInfo,
    is_camera,
    open_source,
    shown_as,
)
from realtime.stats import Stats, Summary

if TYPE_CHECKING:
    from realtime.preview import PreviewSink

StateT = TypeVar("StateT", bound=Resettable)

_FASTEST_HZ = 240

_PATIENCE_S = 30.0
"""How long a lost virtual camera that is the only sink is waited for."""


class FaceSeer(Protocol[StateT]):
    """What finds faces ahead of their being enhanced."""

    def new_state(self, *, ahead: bool = False) -> StateT:
        """A fresh state for one stream: to enhance with, or ``ahead`` to look with."""
        ...

    def look(self, frame: Frame, state: StateT) -> tuple[Face, ...]:
        """Find and track the faces of the next frame, with unsmoothed boxes."""
        ...


class RunEnhancer(FaceSeer[StateT], Governable[StateT], Enhancer[StateT], Protocol[StateT]):
    """An enhancer as a run uses it: `Enhancer`, and how it starts and ends."""

    @property
    def description(self) -> str:
        """The network, its weights, the device, for people."""
        ...

    @property
    def path(self) -> str:
        """By which path it computes: ``EnhancerConfig.device`` takes it, to do just the same."""
        ...

    @property
    def presets(self) -> tuple[str, ...]:
        """The presets that a tuning may name."""
        ...

    @property
    def rungs(self) -> tuple[Rung, ...]:
        """Preset and largest crop of ``tuning``, and what they may be raised to, for a governor."""
        ...

    def warm_up(self, height: int, width: int) -> None:
        """Prepare for frames of this size, in pixels, so that the first one is not slow."""
        ...

    def close(self) -> None:
        """Release models and devices."""
        ...


@dataclass(frozen=True, slots=True)
class Started:
    """What is known when everything is open and the first frame is about to come."""

    source: SourceInfo
    sink: str
    enhancer: str
    width: int
    height: int
    done: int = 0
    """Frames that an earlier run of the same command has made."""


@dataclass(frozen=True, slots=True)
class Watcher:
    """How a run tells of itself; all are called in the calling thread.

    ``on_live`` comes once, after ``on_started`` and before the first frame.
    """

    on_started: Callable[[Started], None] = lambda _started: None
    on_delivered: Callable[[Stats], None] = lambda _stats: None
    on_live: Callable[[Live], None] = lambda _live: None
    on_progress: Callable[[str], None] = lambda _doing: None
    """What is done now until the start, in words."""


@dataclass(frozen=True, slots=True)
class LiveJob:
    """Enhance a camera, file or stream live, into a virtual camera and/or a window.

    ``source`` is what `open_source` takes, or open already. ``governor`` is False to keep to the
    preset and all else that was asked for, whatever it costs. ``virtual_camera`` is False for none;
    ``device`` names one. ``output_size`` is (width, height) in pixels of what is delivered, None
    the source's times ``scale``; ``output_rate`` what the virtual camera announces, in Hz, None the
    source's. ``record`` is a file to record into from the start, ``stream`` a URL to send to,
    ``snapshots`` the folder of what is kept by a key of the window. ``seconds`` ends the run by
    itself, None runs until the source ends or Ctrl-C.
    """

    source: str | Source
    scale: int
    camera: CameraRequest = field(default_factory=CameraRequest)
    loop: bool = False
    virtual_camera: bool = True
    device: str | None = None
    preview: bool = False
    compare: bool = False
    output_size: tuple[int, int] | None = None
    output_rate: Fraction | None = None
    record: Path | None = None
    stream: str | None = None
    snapshots: Path = field(default_factory=default_folder)
    seconds: float | None = None
    governor: bool = True


class _TimeIsUp(Exception):  # noqa: N818  a signal, no error
    """The seconds asked for are over."""


def run_live(
    job: LiveJob,
    make_enhancer: Callable[[], RunEnhancer[StateT]],
    watcher: Watcher | None = None,
    stats: Stats | None = None,
) -> Summary:
    """Enhance live until the source ends, the window is closed, the time is up or Ctrl-C.

    Args:
        job: what to do.
        make_enhancer: loads the network; called in another thread while a camera that takes its
            time is opened, else once camera and sinks are known to work.
        watcher: told of the start and of each frame.
        stats: filled as the run goes; pass one to have it after Ctrl-C.

    Raises:
        CagfaceError: camera, sink or network does not work.
        KeyboardInterrupt: Ctrl-C; everything is closed.
    """
    watcher = watcher or Watcher()
    stats = stats or Stats()

    def load() -> RunEnhancer[StateT]:
        keep_memory()
        leave_a_core()
        return make_enhancer()

    with ExitStack() as stack, ExitStack() as undo:
        loading = Loading(load)
        undo.callback(loading.give_up)
        source = job.source
        if isinstance(source, str):
            watcher.on_progress(f"opening {shown_as(source)}")
            opened = partial(open_source, source, loop=job.loop, camera=job.camera)
            # Some cameras' drivers want to be opened by the main thread.
            source = opened() if is_camera(source) else interruptibly(opened)
        stack.enter_context(closing(source))
        info = source.info
        width, height = info.width * job.scale, info.height * job.scale
        if job.compare:
            width *= 2
        width, height = job.output_size or (width, height)
        rate = _plausible(info.rate)
        recorder = stack.enter_context(closing(Recorder(width, height, rate)))
        if job.record is not None:
            recorder.start(job.record)
        preview = stack.enter_context(closing(_open_preview(job))) if job.preview else None
        sinks = [sink for sink in (preview, recorder) if sink is not None]
        # Windows show RGB, and pictures that are put together or fitted are made of it; at scale 1
        # planes would spare little.
        in_rgb = job.preview or job.compare or job.output_size is not None or job.scale == 1
        sink = stack.enter_context(
            closing(_open_live_sinks(job, width, height, rate, sinks, planes=not in_rgb))
        )
        watcher.on_progress("loading the network")
        enhancer = stack.enter_context(closing(loading.result()))
        undo.pop_all()
        watcher.on_progress("warming up")
        in_own_thread(lambda: enhancer.warm_up(info.height, info.width))
        tuning = replace(enhancer.tuning, planes=not in_rgb)
        controls = Controls(Settings(tuning, governor=job.governor), enhancer.presets)
        governor = Governor(rate, enhancer.presets, enhancer.rungs)
        governed = stack.enter_context(closing(Governed(enhancer, controls, governor)))
        monitor = Monitor()
        # Fitting a picture that the governor made smaller; one is on show while the next is made.
        claim_memory(width, height, 2)
        watcher.on_started(Started(info, sink.description, enhancer.description, width, height))
        live = Live(controls, governor, monitor, stats, recorder)
        if preview is not None:
            preview.attach(live)
        watcher.on_live(live)

        def on_delivered(stats: Stats) -> None:
            watcher.on_delivered(stats)
            if job.seconds is not None and stats.elapsed_s >= job.seconds:
                raise _TimeIsUp

        with suppress(_TimeIsUp):
            run_loop(
                source,
                governed,
                sink,
                LoopOptions(scale=job.scale, newest_only=True, pace=not info.live),
                stats,
                compose=_live_picture(job, width, height, controls, monitor),
                on_delivered=on_delivered,
            )
        sink.finish()
    return stats.summary()


def _plausible(rate: Fraction | None) -> Fraction | None:
    """A nominal rate that a live source can have; None where it is only its clock's."""
    # Browsers' WebM says 1000, some RTSP cameras 90000: a governor would hold them to it.
    return rate if rate is not None and 1 <= rate <= _FASTEST_HZ else None


def _open_preview(job: LiveJob) -> PreviewSink:
    from realtime.preview import PreviewSink

    return PreviewSink(job.snapshots)


def _open_live_sinks(
    job: LiveJob, width: int, height: int, rate: Fraction | None, opened: Sequence[Sink], *,
    planes: bool,
) -> Sink:  # fmt: skip
    """Open what the job asks for and put it before those opened already.

    One that fails closes those before it.
    """
    sinks: list[Sink] = []
    with ExitStack() as undo:
        if job.stream is not None:
            from realtime.stream import StreamSink

            stream = StreamSink(job.stream, width, height, rate)
            sinks.append(undo.enter_context(closing(stream)))
        if job.virtual_camera:
            from realtime.virtualcam import VirtualCameraSink

            others = sinks or job.preview or job.record
            camera = ReopeningSink(
                lambda: VirtualCameraSink(
                    width, height, job.output_rate or rate, job.device, planes=planes
                ),
                patience_s=None if others else _PATIENCE_S,
            )
            sinks.insert(0, undo.enter_context(closing(camera)))
        undo.pop_all()
    if not (sinks or job.preview or job.record):
        sinks.append(NullSink())
    return FanOut([*sinks, *opened])


def _live_picture(
    job: LiveJob, width: int, height: int, controls: Controls, monitor: Monitor
) -> Callable[[Frame, Enhanced], Frame]:
    """What a live run delivers: always of one size, whatever came in; the same while frozen."""
    frozen: Frame | None = None

    def picture(frame: Frame, enhanced: Enhanced) -> Frame:
        planes = enhanced.planes
        if planes is not None and (planes.width, planes.height) == (width, height):
            return replace(frame, rgb=NO_RGB, planes=planes)
        rgb = rgb_of(enhanced)
        if job.compare:
            before = fit(frame.rgb, rgb.shape[1], rgb.shape[0])
            rgb = side_by_side(before, rgb)
        return replace(frame, rgb=fit(rgb, width, height))

    def compose(frame: Frame, enhanced: Enhanced) -> Frame:
        nonlocal frozen
        if not controls.settings.freeze:
            frozen = None
        elif frozen is not None:
            return replace(frame, rgb=frozen.rgb, planes=frozen.planes)
        delivered = picture(frame, enhanced)
        monitor.show(frame, enhanced, delivered)
        frozen = delivered if controls.settings.freeze else None
        return delivered

    return compose
