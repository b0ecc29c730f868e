"""One command of the command line each: its arguments, and what it does with them.

Heavy packages are imported when a command runs, so that ``--help`` answers at once.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from cagface_core import ConfigError, EnhancerConfig, Image
from realtime.options import Context, add_enhancer_arguments, enhancer_config
from realtime.partial_file import check_apart, check_output

if TYPE_CHECKING:
    from realtime.run import Started
    from realtime.run_images import ImageResult
    from realtime.stats import Summary


def add_image_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``cagface image``."""
    parser.add_argument(
        "sources", nargs="+", type=Path, metavar="IN",
        help="a picture; several, a folder, a pattern (*.jpg)",
    )  # fmt: skip
    parser.add_argument("output", type=Path, metavar="OUT", help="a picture, or a folder")
    add_enhancer_arguments(parser, weights="auto", scale=4, max_faces=1000)
    parser.add_argument(
        "--aligned",
        action="store_true",
        help="the pictures are face crops: no detection, the whole picture is enhanced, 4x",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace existing files")


def run_image_command(arguments: argparse.Namespace, context: Context) -> int:
    """``cagface image``: 2 when a picture failed, after all others were done."""
    from rich.console import Console

    from realtime.report import image_table, progress_bar
    from realtime.run_images import ImageJob, plan_images, run_images

    if arguments.aligned and arguments.scale not in (None, 4):
        raise ConfigError(f"--aligned always enlarges by 4, not by {arguments.scale}")
    options = enhancer_config(arguments, "image")
    job = ImageJob(
        sources=arguments.sources,
        output=arguments.output,
        scale=options.scale,
        aligned=arguments.aligned,
        overwrite=arguments.overwrite,
    )
    results: list[ImageResult] = []
    total = len(plan_images(job))
    with progress_bar(context.console, total) as bar:
        for result in run_images(job, lambda: context.make_enhancer(options)):
            if total > 1:
                bar.start()
            results.append(result)
            bar.advance(bar.task_ids[0])
    failed = [result for result in results if result.error is not None]
    if len(failed) < len(results):
        Console().print(image_table(results))
    for result in failed:
        context.console.print(f"error: {result.error}", style="red", soft_wrap=True, markup=False)
    if failed and len(results) > 1:
        context.console.print(f"{len(failed)} of {len(results)} pictures failed")
    return 2 if failed else 0


def add_train_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``cagface train``."""
    from cagface_core.train.command import configure

    configure(parser)


def run_train_command(arguments: argparse.Namespace, _context: Context) -> int:
    """``cagface train parser`` and ``cagface train sr``."""
    from cagface_core.train.command import execute

    execute(arguments)
    return 0


def add_eval_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``cagface eval``."""
    from cagface_core.evaluate.command import configure

    configure(parser)


def run_eval_command(arguments: argparse.Namespace, _context: Context) -> int:
    """``cagface eval``."""
    from cagface_core.evaluate.command import execute

    execute(arguments)
    return 0


def add_bench_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``cagface bench``."""
    from cagface_core.bench.command import configure

    configure(parser)


def run_bench_command(arguments: argparse.Namespace, context: Context) -> int:
    """``cagface bench``."""
    from cagface_core.bench.command import execute
    from realtime.process import keep_memory

    keep_memory()  # every part, as every run of the product does

    def live(
        frames: Sequence[Image], config: EnhancerConfig, rate_hz: int, seconds: float
    ) -> Summary:
        from realtime.live_bench import run_frames_live  # loads av

        return run_frames_live(
            frames, lambda: context.make_enhancer(config), config.scale, rate_hz, seconds
        )

    missing = [name for name in ("av", "mediapipe") if find_spec(name) is None]
    reason = f"the live loop is left out: not installed: {', '.join(missing)}; pip install them"
    execute(arguments, None if missing else live, reason)
    return 0


def add_common_output(group: argparse._ArgumentGroup) -> None:  # pyright: ignore[reportPrivateUsage]
    """What every command that makes a video has."""
    group.add_argument("--compare", action="store_true", help="before on the left, after right")
    group.add_argument("--overwrite", action="store_true", help="replace an existing file")


def add_stats_arguments(group: argparse._ArgumentGroup) -> None:  # pyright: ignore[reportPrivateUsage]
    """What every run can tell of itself at its end."""
    group.add_argument("--stats", action="store_true", help="print the time of every stage")
    group.add_argument("--stats-json", type=Path, metavar="FILE", help="write them as JSON")


def print_start(context: Context, started: Started) -> None:
    """Say where frames come from, who enhances them and where they go."""
    source = started.source
    rate = f" at {float(source.rate):.2f} fps" if source.rate else ""
    for line in (
        f"from {source.name}: {source.width}x{source.height}{rate}",
        f"with {started.enhancer}",
        f"to   {started.sink}: {started.width}x{started.height}",
    ):
        context.console.print(line, markup=False, highlight=False, soft_wrap=True)


def check_stats_place(arguments: argparse.Namespace, *others: Path | None) -> None:
    """Find out before a run whether ``--stats-json`` can be written. Raises `OutputError`.

    It may take the place of older ones, but not of ``others``, files of the same run.
    """
    if arguments.stats_json is not None:
        check_apart(arguments.stats_json, *(other for other in others if other is not None))
        check_output(arguments.stats_json, overwrite=True)


def print_summary(arguments: argparse.Namespace, summary: Summary, prefix: str) -> None:
    """Print a run's summary, and what `add_stats_arguments` was asked for."""
    from rich.console import Console

    from realtime.report import latency_line, stats_table, write_stats_json

    console = Console()
    console.print(prefix + summary.line(), markup=False, highlight=False, soft_wrap=True)
    if latency := latency_line(summary):
        console.print(latency, markup=False, highlight=False, soft_wrap=True)
    if arguments.stats:
        console.print(stats_table(summary))
    if arguments.stats_json:
        write_stats_json(arguments.stats_json, summary)
