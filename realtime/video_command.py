"""``cagface video``: its arguments, and what it does with them."""

from __future__ import annotations

import argparse
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING

from cagface_core import CagfaceError, ConfigError, EnhancerConfig
from realtime.options import (
    Context,
    add_enhancer_arguments,
    enhancer_config,
    one_line,
    positive,
    settings_of,
)

if TYPE_CHECKING:
    from realtime.batch import Planned, VideoResult
    from realtime.cluster import ClusterCrew
    from realtime.run import Started
    from realtime.run_video import VideoJob
    from realtime.stats import Stats, Summary


def add_video_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``cagface video``."""
    from realtime.commands import add_common_output, add_stats_arguments

    parser.add_argument(
        "sources", nargs="+", metavar="IN", help="a video; several, a folder, a pattern (*.mp4)"
    )
    parser.add_argument(
        "output", type=Path, metavar="OUT", help=".mp4, .mov, .mkv, .webm; a folder for several"
    )
    add_enhancer_arguments(parser, weights="webcam", scale=2, max_faces=64)
    group = parser.add_argument_group("output")
    group.add_argument(
        "--codec",
        help="h264, h265, av1, vp9, prores, ffv1, or an encoder of FFmpeg, h264_nvenc for one "
        "(default: by suffix and depth: h264, h265 beyond 8 bits, vp9 for .webm)",
    )
    group.add_argument("--crf", type=int, help="quality: lower is better and larger")
    group.add_argument("--encoder-preset", help="speed of the encoder (default: by codec)")
    group.add_argument(
        "--pix-fmt",
        metavar="FORMAT",
        help="pixel format, as FFmpeg calls it: yuv420p plays everywhere (default: the source's)",
    )
    group.add_argument("--no-audio", action="store_true", help="leave the audio out")
    group.add_argument(
        "--recursive", action="store_true", help="take the videos in folders within folders too"
    )
    group.add_argument(
        "--suffix", choices=(".mp4", ".mov", ".mkv", ".webm"),
        help="what files in a folder become (default: what they were, .mkv if that cannot be)",
    )  # fmt: skip
    group.add_argument(
        "--dry-run", action="store_true", help="say what would be made, how long and how large"
    )
    add_common_output(group)
    group.add_argument(
        "--report", type=Path, metavar="FILE.html",
        help="write a page about what became of the faces: before and after, when, how fast",
    )  # fmt: skip
    add_stats_arguments(group)
    group = parser.add_argument_group("many machines, or processes")
    group.add_argument(
        "--cluster", metavar="local|auto|ADDRESS",
        help="let workers on a Ray cluster make the pieces of the video: one started here, the one "
        "that runs here, HOST:PORT, or ray://HOST:PORT",
    )  # fmt: skip
    group.add_argument("--workers", type=positive, metavar="N", help="(default: as many as fit)")
    group.add_argument(
        "--cpus-per-worker", type=positive, metavar="N",
        help="cores of each (default: 4, 1 beside a GPU)",
    )  # fmt: skip
    group.add_argument(
        "--gpus-per-worker", type=int, choices=(0, 1), help="(default: 1 where there are any)"
    )


def run_video_command(arguments: argparse.Namespace, context: Context) -> int:
    """``cagface video``: 2 when a video failed, after all others were done."""
    from rich.console import Console

    from realtime.batch import plan_videos
    from realtime.commands import check_stats_place, print_summary
    from realtime.report import video_table

    sources = [Path(source) for source in arguments.sources]
    check_stats_place(arguments, *sources, arguments.output, arguments.report)
    options = enhancer_config(arguments, "file")
    planned = plan_videos(
        arguments.sources, arguments.output, recursive=arguments.recursive, suffix=arguments.suffix
    )
    single = planned[0].output == arguments.output
    for name in ("workers", "cpus_per_worker", "gpus_per_worker"):
        if arguments.cluster is None and getattr(arguments, name) is not None:
            raise ConfigError(
                f"--{name.replace('_', '-')} goes with --cluster; add --cluster local, for example"
            )
    for name in ("stats_json", "report"):
        if not single and getattr(arguments, name):
            raise ConfigError(
                f"--{name.replace('_', '-')} takes one video; leave it out for several"
            )
    if arguments.dry_run:
        return _dry_run(planned, arguments, options, context, single=single)
    with ExitStack() as stack:
        crew = None
        if arguments.cluster is not None:
            crew = stack.enter_context(closing(_crew(arguments, options, context)))
        if single:
            summary = _enhance(planned[0], arguments, options, context, crew)
            print_summary(arguments, summary, f"{arguments.output}: ")
            return 0
        results: list[VideoResult] = []
        for number, item in enumerate(planned, 1):
            context.console.print(
                f"{number} of {len(planned)}: {item.source}", markup=False, highlight=False
            )
            results.append(_enhance_one(item, arguments, options, context, crew))
    Console().print(video_table(results))
    failed = [result for result in results if result.error is not None]
    for result in failed:
        context.console.print(f"error: {result.error}", style="red", soft_wrap=True, markup=False)
    return 2 if failed else 0


def _enhance_one(
    item: Planned, arguments: argparse.Namespace, options: EnhancerConfig, context: Context,
    crew: ClusterCrew | None,
) -> VideoResult:  # fmt: skip
    """One of several: what is there already stays, and what fails stops nobody else."""
    from cagface_core import OutputError
    from realtime.batch import VideoResult

    if item.output.exists() and not arguments.overwrite:
        return VideoResult(item)
    try:
        try:
            item.output.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(
                f"{item.output.parent}: the folder cannot be made ({error.strerror})"
            ) from error
        return VideoResult(item, _enhance(item, arguments, options, context, crew))
    except CagfaceError as error:
        return VideoResult(item, error=one_line(error))


def _crew(arguments: argparse.Namespace, options: EnhancerConfig, context: Context) -> ClusterCrew:
    from realtime.cluster import ClusterCrew
    from realtime.ray_link import ClusterOptions

    cluster = ClusterOptions(
        arguments.cluster, arguments.workers, arguments.cpus_per_worker, arguments.gpus_per_worker
    )
    return ClusterCrew(cluster, context.make_enhancer, options)


def _job(item: Planned, arguments: argparse.Namespace, options: EnhancerConfig) -> VideoJob:
    from realtime.encoders import EncodeOptions
    from realtime.run_video import VideoJob

    return VideoJob(
        source=item.source,
        output=item.output,
        scale=options.scale,
        encode=EncodeOptions(
            arguments.codec, arguments.crf, arguments.encoder_preset, arguments.pix_fmt
        ),
        overwrite=arguments.overwrite,
        compare=arguments.compare,
        audio=not arguments.no_audio,
        report=arguments.report,
        settings=settings_of(options),
    )


def _enhance(
    item: Planned, arguments: argparse.Namespace, options: EnhancerConfig, context: Context,
    crew: ClusterCrew | None,
) -> Summary:  # fmt: skip
    """Make one video, with a bar that shows how far it is."""
    from realtime.commands import print_start
    from realtime.report import progress_bar
    from realtime.run import Watcher
    from realtime.run_video import run_video

    with progress_bar(context.console, None) as bar:
        task = bar.task_ids[0]
        done = 0

        def on_started(started: Started) -> None:
            nonlocal done
            done = started.done
            print_start(context, started)
            if done:
                context.console.print(f"going on behind the {done} frames that are done already")
            bar.update(task, total=started.source.frame_count, completed=done)
            bar.start()

        def on_delivered(stats: Stats) -> None:
            rate = stats.current_fps if crew is None else stats.frames / (stats.elapsed_s or 1)
            bar.update(task, completed=done + stats.frames, fps=rate)

        def on_progress(doing: str) -> None:
            if not bar.live.is_started:
                context.console.print(doing)
            bar.update(task, description=doing)

        return run_video(
            _job(item, arguments, options),
            lambda: context.make_enhancer(options),
            Watcher(on_started, on_delivered, on_progress=on_progress),
            crew,
        )


def _dry_run(
    planned: list[Planned], arguments: argparse.Namespace, options: EnhancerConfig,
    context: Context, *, single: bool,
) -> int:  # fmt: skip
    """Say what would be made: 2 where one of them would fail."""
    from rich.console import Console

    from realtime.estimate import plan_of
    from realtime.run_video import check_places

    console, failed = Console(), False
    for item in planned:
        if not single and item.output.exists() and not arguments.overwrite:
            console.print(f"{item.output}: is there already", markup=False, highlight=False)
            continue
        try:
            job = _job(item, arguments, options)
            if single or job.output.parent.is_dir():  # for several it is made
                check_places(job)
            lines = plan_of(job, lambda: context.make_enhancer(options))
        except CagfaceError as error:
            failed = True
            lines = [f"error: {one_line(error)}"]
        for line in lines:
            console.print(line, markup=False, highlight=False, soft_wrap=True)
    return 2 if failed else 0
