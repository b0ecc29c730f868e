"""A video file in; another with its faces enhanced and all else as it was, out.

Cheap checks come first: the input is opened before the output, the output before the network is
loaded, so that a mistake costs a second and not a minute.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

from cagface_core import CagfaceError, EnhancerConfig, OutputError
from realtime.ahead import AheadSource, Film
from realtime.encoders import EncodeOptions
from realtime.film_notes import FilmNotes
from realtime.film_report import write_report
from realtime.journal import Journal, open_journal
from realtime.loop import LoopOptions, Resettable, run_loop
from realtime.options import settings_of
from realtime.partial_file import PartialFile, check_apart, check_output
from realtime.piece_maker import FilmWork, composed, finder_of
from realtime.process import in_own_thread, keep_memory, leave_a_core
from realtime.run import RunEnhancer, Started, Watcher
from realtime.source import SourceInfo
from realtime.stats import Stats, Summary
from realtime.video_in import VideoSource
from realtime.video_out import VideoSink

if TYPE_CHECKING:
    from cagface_core import FaceEnhancer

StateT = TypeVar("StateT", bound=Resettable)


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
    report: Path | None = None
    """A page about what became of the faces, to be written too."""
    settings: Mapping[str, object] = field(default_factory=dict[str, object])
    """How faces are enhanced, as JSON has it: work that was begun otherwise is not gone on with."""

    def __post_init__(self) -> None:
        """Take paths as text, too."""
        for name in ("source", "output", "report"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, Path(getattr(self, name)))


class Crew(Protocol):
    """Makes a film's pieces elsewhere, several at a time."""

    def make(
        self, work: FilmWork, film: Film, journal: Journal, stats: Stats,
        on_started: Callable[[str], None], watcher: Watcher,
    ) -> str:  # fmt: skip
        """Put all pieces that are missing into the journal; give who enhanced them.

        ``on_started`` is told that once, before the first piece is made. Raises `CagfaceError`
        where a piece cannot be made.
        """
        ...


def check_places(job: VideoJob) -> None:
    """Refuse places where nothing can be made. Raises `OutputError`."""
    if job.output.exists() and job.source.exists() and job.output.samefile(job.source):
        raise OutputError(f"{job.output} is the input itself; choose another name")
    check_output(job.output, overwrite=job.overwrite)
    if job.report is not None:
        check_apart(job.report, job.source, job.output)
        check_output(job.report, overwrite=job.overwrite)


def output_size(job: VideoJob, info: SourceInfo) -> tuple[int, int]:
    """Width and height of what is made of a film, in pixels."""
    return info.width * job.scale * (2 if job.compare else 1), info.height * job.scale


def run_video(
    job: VideoJob,
    make_enhancer: Callable[[], RunEnhancer[StateT]],
    watcher: Watcher | None = None,
    crew: Crew | None = None,
) -> Summary:
    """Enhance a video file: every frame, its exact times, its audio.

    Args:
        job: what to do.
        make_enhancer: loads the network; called once input and output are known to work, and not
            at all where only joining is left. Its scale is ``job.scale``.
        watcher: told of the start and of each frame.
        crew: makes the pieces, in place of this process and of ``make_enhancer``'s network.

    Raises:
        CagfaceError: input, output or network does not work, or every single frame failed. No
            file is left behind.
    """
    check_places(job)
    watcher = watcher or Watcher()
    with ExitStack() as stack:
        film = stack.enter_context(closing(VideoSource(job.source, planes=True)))
        info = film.info
        width, height = output_size(job, info)
        journal = open_journal(job.output, _facts(job, info))
        notes = FilmNotes(job.scale) if job.report is not None else None
        sink = stack.enter_context(
            closing(
                VideoSink(
                    job.output,
                    info,
                    width,
                    height,
                    journal=journal,
                    options=job.encode,
                    copy_from=job.source,
                    audio=job.audio,
                    note=notes.take if notes else None,
                )
            )
        )
        stats = Stats()
        stats.start()
        enhanced_by = "a run before this one"
        if journal.next is not None:
            done = journal.frames

            def on_started(enhancer: str) -> None:
                watcher.on_started(Started(info, sink.description, enhancer, width, height, done))

            if crew is not None:
                work = FilmWork(
                    job.source.absolute(), info, width, height, sink.chosen, job.scale, job.compare,
                    notes is not None,
                )  # fmt: skip
                enhanced_by = crew.make(work, film, journal, stats, on_started, watcher)
            else:
                keep_memory()
                leave_a_core()
                enhancer = stack.enter_context(closing(in_own_thread(make_enhancer)))
                enhanced_by = enhancer.description
                on_started(enhanced_by)
                run_loop(
                    AheadSource(film, lambda: finder_of(enhancer), stats, journal.next),
                    enhancer,
                    sink,
                    LoopOptions(scale=job.scale),
                    stats,
                    compose=composed(job.scale, notes, compare=job.compare),
                    on_delivered=watcher.on_delivered,
                )
        summary = stats.summary()
        if summary.frames and summary.passthrough >= summary.frames:
            journal.remove()
            raise CagfaceError(
                "not one frame could be enhanced (see the warning above); no file was written"
            )
        sink.end()
        part = None
        if job.report is not None:
            facts = {
                "input": str(job.source),
                "output": str(job.output),
                "enhanced by": enhanced_by,
            }
            part = PartialFile(job.report, overwrite=True, through=True)
            stack.callback(part.discard)
            write_report(part.path, facts, [n for n in journal.notes() if n], summary)
        sink.finish()
        if part is not None:  # only now: the same command has to go on where this failed
            part.commit()
        return summary


def enhance_video(job: VideoJob, config: EnhancerConfig | None = None) -> Summary:
    """Enhance a video file with the networks that ship with the package.

    Args:
        job: what to do; ``scale`` counts, that of ``config`` does not.
        config: how faces are enhanced; None is as ``cagface video`` does it.

    Raises:
        CagfaceError: as `run_video`.
    """
    config = replace(config or EnhancerConfig(mode="file", weights="webcam"), scale=job.scale)

    def make() -> FaceEnhancer:
        from cagface_core import FaceEnhancer

        return FaceEnhancer(config)

    return run_video(replace(job, settings=settings_of(config)), make)


def _facts(job: VideoJob, info: SourceInfo) -> dict[str, object]:
    """All that the result depends on."""
    source = job.source.stat()
    return {
        "input": job.source.name,
        "input size": source.st_size,
        "input's date": source.st_mtime_ns,
        "picture": [info.width, info.height, info.pix_fmt],
        "--scale": job.scale,
        "encoder": asdict(job.encode),
        "--compare": job.compare,
        **job.settings,
    }
