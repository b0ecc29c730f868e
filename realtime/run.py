"""One run of each kind: a job goes in, source, enhancer and sink are put together, stats come out.

Cheap checks come first: the input is opened before the output, the output before the network is
loaded, so that a mistake costs a second and not a minute.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeVar

from cagface_core import CagfaceError, Enhanced, Frame, Image, OutputError
from realtime.loop import Enhancer, LoopOptions, Resettable, enhanced_only, run_loop
from realtime.plain import side_by_side, upscale
from realtime.process import in_own_thread, keep_memory, leave_a_core
from realtime.sink import FanOut, NullSink, Sink
from realtime.source import CameraRequest, Source, SourceInfo, open_source
from realtime.stats import Stats, Summary
from realtime.video_in import VideoSource
from realtime.video_out import EncodeOptions, VideoSink

StateT = TypeVar("StateT", bound=Resettable)


class RunEnhancer(Enhancer[StateT], Protocol[StateT]):
    """An enhancer as a run uses it: `Enhancer`, and how it starts and ends."""

    @property
    def description(self) -> str:
        """The network, its weights, the device, for people."""
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


@dataclass(frozen=True, slots=True)
class Watcher:
    """How a run tells of itself; both are called in the calling thread."""

    on_started: Callable[[Started], None] = lambda _started: None
    on_delivered: Callable[[Stats], None] = lambda _stats: None


@dataclass(frozen=True, slots=True)
class VideoJob:
    """Enhance a video file into another, by ``scale`` (1, 2 or 4)."""

    source: Path
    output: Path
    scale: int
    encode: EncodeOptions = field(default_factory=EncodeOptions)
    overwrite: bool = False
    compare: bool = False
    audio: bool = True


@dataclass(frozen=True, slots=True)
class LiveJob:
    """Enhance a camera, file or stream live, into a virtual camera and/or a window.

    ``source`` is what `open_source` takes, or open already. ``virtual_camera`` is False for none;
    ``device`` names one. ``seconds`` ends the run by itself, None runs until the source ends or
    Ctrl-C.
    """

    source: str | Source
    scale: int
    camera: CameraRequest = field(default_factory=CameraRequest)
    loop: bool = False
    virtual_camera: bool = True
    device: str | None = None
    preview: bool = False
    compare: bool = False
    seconds: float | None = None


class _TimeIsUp(Exception):  # noqa: N818  a signal, no error
    """The seconds asked for are over."""


def run_video(
    job: VideoJob, make_enhancer: Callable[[], RunEnhancer[StateT]], watcher: Watcher | None = None
) -> Summary:
    """Enhance a video file: every frame, its exact times, its audio.

    Args:
        job: what to do.
        make_enhancer: loads the network; called once input and output are known to work. Its
            scale is ``job.scale``.
        watcher: told of the start and of each frame.

    Raises:
        CagfaceError: input, output or network does not work, or every single frame failed. No
            file is left behind.
    """
    if job.output.exists() and job.source.exists() and job.output.samefile(job.source):
        raise OutputError(f"{job.output} is the input itself; choose another name")
    watcher = watcher or Watcher()
    with ExitStack() as stack:
        source = stack.enter_context(closing(VideoSource(job.source)))
        info = source.info
        width, height = info.width * job.scale, info.height * job.scale
        if job.compare:
            width *= 2
        sink = stack.enter_context(
            closing(
                VideoSink(
                    job.output,
                    info,
                    width,
                    height,
                    options=job.encode,
                    overwrite=job.overwrite,
                    audio_from=job.source if job.audio else None,
                )
            )
        )
        keep_memory()
        leave_a_core()
        enhancer = stack.enter_context(closing(in_own_thread(make_enhancer)))
        watcher.on_started(Started(info, sink.description, enhancer.description, width, height))
        stats = Stats()
        run_loop(
            source,
            enhancer,
            sink,
            LoopOptions(scale=job.scale),
            stats,
            compose=_before_and_after(job.scale) if job.compare else enhanced_only,
            on_delivered=watcher.on_delivered,
        )
        summary = stats.summary()
        if summary.frames and summary.passthrough == summary.frames:
            raise CagfaceError(
                "not one frame could be enhanced (see the warning above); no file was written"
            )
        sink.finish()
        return summary


def run_live(
    job: LiveJob,
    make_enhancer: Callable[[], RunEnhancer[StateT]],
    watcher: Watcher | None = None,
    stats: Stats | None = None,
) -> Summary:
    """Enhance live until the source ends, the window is closed, the time is up or Ctrl-C.

    Args:
        job: what to do.
        make_enhancer: loads the network; called once camera and sinks are known to work.
        watcher: told of the start and of each frame.
        stats: filled as the run goes; pass one to have it after Ctrl-C.

    Raises:
        CagfaceError: camera, sink or network does not work.
        KeyboardInterrupt: Ctrl-C; everything is closed.
    """
    watcher = watcher or Watcher()
    stats = stats or Stats()
    with ExitStack() as stack:
        source = job.source
        if isinstance(source, str):
            source = open_source(source, loop=job.loop, camera=job.camera)
        stack.enter_context(closing(source))
        info = source.info
        width, height = info.width * job.scale, info.height * job.scale
        if job.compare:
            width *= 2
        sink = stack.enter_context(closing(_open_live_sinks(job, width, height, info)))
        keep_memory()
        leave_a_core()
        enhancer = stack.enter_context(closing(in_own_thread(make_enhancer)))
        in_own_thread(lambda: enhancer.warm_up(info.height, info.width))
        watcher.on_started(Started(info, sink.description, enhancer.description, width, height))

        def on_delivered(stats: Stats) -> None:
            watcher.on_delivered(stats)
            if job.seconds is not None and stats.elapsed_s >= job.seconds:
                raise _TimeIsUp

        with suppress(_TimeIsUp):
            run_loop(
                source,
                enhancer,
                sink,
                LoopOptions(scale=job.scale, newest_only=True, pace=not info.live),
                stats,
                compose=_before_and_after(job.scale) if job.compare else enhanced_only,
                on_delivered=on_delivered,
            )
        sink.finish()
    return stats.summary()


def _open_live_sinks(job: LiveJob, width: int, height: int, info: SourceInfo) -> Sink:
    """Open what the job asks for; one that fails closes those before it."""
    with ExitStack() as undo:
        sinks: list[Sink] = []
        if job.virtual_camera:
            from realtime.virtualcam import VirtualCameraSink

            sinks.append(
                undo.enter_context(closing(VirtualCameraSink(width, height, info.rate, job.device)))
            )
        if job.preview:
            from realtime.preview import PreviewSink

            sinks.append(undo.enter_context(closing(PreviewSink())))
        undo.pop_all()
    return FanOut(sinks or [NullSink()])


def _before_and_after(scale: int) -> Callable[[Frame, Enhanced], Image]:
    """Plain bicubic on the left, enhanced on the right."""
    return lambda frame, enhanced: side_by_side(upscale(frame.rgb, scale), enhanced.rgb)
