"""Summaries go in; what people and programs read comes out: tables, progress bars, JSON."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from cagface_core import OutputError
from realtime.batch import VideoResult
from realtime.partial_file import PartialFile
from realtime.run_images import ImageResult
from realtime.stats import Stats, Summary


class _FpsColumn(ProgressColumn):
    """Frames per second over the newest frames."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.fields.get('fps', 0.0):.1f} fps")


@contextmanager
def progress_bar(console: Console, total: int | None) -> Generator[Progress]:
    """A bar with frames, fps and time left; its one task has the id 0.

    It shows from ``start()`` on, so that a mistake found before the work is one line alone.
    """
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _FpsColumn(),
        TimeRemainingColumn(),
        TextColumn("left"),
        console=console,
    )
    bar.add_task("enhancing", total=total)
    try:
        yield bar
    finally:
        if bar.live.is_started:  # stopping prints an empty line otherwise
            bar.stop()


def live_line(stats: Stats) -> str:
    """How a live run does at this moment, in one line."""
    summary, latency = stats.summary(), stats.recent().get("latency")
    parts = [stats.fps_text]
    if latency is not None:
        parts.append(f"latency {latency.p50_ms:.0f} ms (p95 {latency.p95_ms:.0f})")
    parts.append(f"{summary.faces_per_frame:.1f} faces")
    parts.append(f"{summary.passthrough} passed through")
    return "  ".join(parts)


def latency_line(summary: Summary) -> str:
    """How late a live run's pictures are, and what to do for the sound; empty where unknown."""
    latency = summary.stages.get("latency")
    if latency is None:
        return ""
    return (
        f"latency from captured to delivered: p50 {latency.p50_ms:.0f} ms, "
        f"p95 {latency.p95_ms:.0f} ms, p99 {latency.p99_ms:.0f} ms; to keep lips in sync delay the "
        f"audio by {latency.p50_ms:.0f} ms (OBS: Advanced Audio Properties, Sync Offset)"
    )


def stats_table(summary: Summary) -> Table:
    """Time per stage and all counts, to go below ``summary.line()``."""
    table = Table()
    for heading in ("stage", "n", "mean ms", "p50 ms", "p95 ms"):
        table.add_column(heading, justify="left" if heading == "stage" else "right")
    for name, stage in summary.stages.items():
        table.add_row(
            name, str(stage.n), *(f"{value:.2f}" for value in
                                  (stage.mean_ms, stage.p50_ms, stage.p95_ms)),
        )  # fmt: skip
    table.add_section()
    if summary.first_frame_s is not None:
        table.add_row("command to first frame, s", f"{summary.first_frame_s:.2f}")
    table.add_row("faces", str(summary.faces))
    table.add_row("frames without a face", str(summary.frames_without_face))
    table.add_row("dropped", str(summary.dropped))
    table.add_row("passed through", str(summary.passthrough))
    for name, n in summary.counts.items():
        table.add_row(name, str(n))
    return table


def image_table(results: Iterable[ImageResult]) -> Table:
    """One line per picture."""
    table = Table()
    table.add_column("picture", overflow="fold")
    for heading in ("size", "result", "faces", "ms"):
        table.add_column(heading, justify="right")
    table.add_column("notes", overflow="fold")
    for result in results:
        if result.error is not None:
            table.add_row(result.source.name, "", "failed", "", "", result.error, style="red")
            continue
        table.add_row(
            result.source.name,
            _size(result.size_in),
            _size(result.size_out),
            str(result.faces),
            f"{result.enhance_ms:.0f}",
            "; ".join(result.notes),
        )
    return table


def video_table(results: Iterable[VideoResult]) -> Table:
    """One line per video."""
    table = Table()
    table.add_column("video", overflow="fold")
    for heading in ("frames", "fps", "faces a frame"):
        table.add_column(heading, justify="right")
    table.add_column("result", overflow="fold")
    for result in results:
        name, summary = result.planned.source.name, result.summary
        if result.error is not None:
            table.add_row(name, "", "", "", "failed", style="red")
        elif summary is None:
            table.add_row(name, "", "", "", f"{result.planned.output} is there already")
        else:
            table.add_row(
                name, str(summary.frames), f"{summary.fps:.1f}", f"{summary.faces_per_frame:.1f}",
                str(result.planned.output),
            )  # fmt: skip
    return table


def write_stats_json(path: Path, summary: Summary) -> None:
    """Write the summary as JSON, whole or not at all. Raises `OutputError`."""
    text = json.dumps(dataclasses.asdict(summary), indent=2) + "\n"
    part = PartialFile(path, overwrite=True, through=True)
    try:
        part.path.write_text(text, encoding="utf-8")
        part.commit()
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror})") from error
    finally:
        part.discard()


def _size(size: tuple[int, int] | None) -> str:
    return "" if size is None else f"{size[0]}x{size[1]}"
