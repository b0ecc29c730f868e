"""Results in; tables for the terminal and for ``bench.md``, and all files at once, out."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cagface_core.bench.chart import draw
from cagface_core.bench.machine import one_line
from cagface_core.bench.results import FrameRow, NetworkRow, RatioRow, Results, to_json
from cagface_core.errors import OutputError
from cagface_core.standalone import open_console


@dataclass(frozen=True, slots=True)
class Section:
    """One table: texts to the left in the first ``words`` columns, numbers to the right."""

    title: str
    caption: str
    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    words: int = 1


def sections(results: Results) -> list[Section]:
    """Everything that was measured, as tables."""
    found = [
        _roofline(results), _network(results), _ratios(results), *_frames(results), _live(results)
    ]  # fmt: skip
    return [section for section in found if section.rows]


def as_markdown(results: Results) -> str:
    """Machine, tables and notes."""
    lines = ["# Bench", "", one_line(results.machine), "", f"`{results.machine['command']}`", ""]
    for section in sections(results):
        rule = ["---" if i < section.words else "---:" for i in range(len(section.headings))]
        lines += [f"## {section.title}", "", section.caption, ""]
        lines += [f"| {' | '.join(row)} |" for row in (section.headings, rule, *section.rows)]
        lines.append("")
    if results.notes:
        lines += ["## Not measured, and why", "", *(f"- {note}" for note in results.notes), ""]
    return "\n".join(lines)


def show(results: Results) -> None:
    """Print the tables: with rich where it is installed, as Markdown elsewhere."""
    try:
        from rich.table import Table

        console = open_console()
    except ImportError:
        sys.stdout.write(as_markdown(results))
        return
    console.print(one_line(results.machine), markup=False, highlight=False)
    for section in sections(results):
        table = Table(title=section.title, caption=section.caption, title_justify="left")
        for index, heading in enumerate(section.headings):
            table.add_column(heading, justify="left" if index < section.words else "right")
        for row in section.rows:
            table.add_row(*row)
        console.print(table)
    for note in results.notes:
        console.print(note, markup=False, highlight=False, soft_wrap=True)


def write(out: Path, results: Results) -> list[str]:
    """Write ``bench.json``, ``bench.md`` and ``bench.png``, all or none; returns their names.

    The picture shows networks and frames, where there are any. It needs matplotlib: without it a
    line in the notes says so. An older picture of other figures is removed.

    Raises:
        OutputError: the folder cannot be written to.
    """
    drawable = bool(results.network or results.frames)
    picture = draw(results) if drawable else None
    if drawable and picture is None:
        results.notes.append(
            "no picture: matplotlib is not installed; where it is, draw it with --draw bench.json"
        )
    contents = {"bench.json": to_json(results).encode(), "bench.md": as_markdown(results).encode()}
    if picture is not None:
        contents["bench.png"] = picture
    parts = {out / name: out / f".{name}.part" for name in contents}
    try:
        for name, content in contents.items():
            if (out / name).is_dir():
                raise IsADirectoryError(None, f"{name} is a folder there")
            parts[out / name].write_bytes(content)
        for final, part in parts.items():
            part.replace(final)
        if picture is None:
            (out / "bench.png").unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(
            f"cannot write to {out} ({error.strerror}); give --out another folder"
        ) from error
    finally:
        for part in parts.values():
            part.unlink(missing_ok=True)
    return list(contents)


def _roofline(results: Results) -> Section:
    rows = [
        [
            "matrix multiply" if rate.what == "multiply" else "copy", rate.precision, rate.size,
            f"{rate.best:,.1f}", f"{rate.median:,.1f}", rate.unit, str(rate.n),
        ]
        for rate in results.rates
    ]  # fmt: skip
    return Section(
        "Roofline: what this machine can do at most",
        "A multiply-add is two operations; copied bytes count read and written.",
        ["what", "precision", "size", "best", "median", "unit", "n"],
        rows,
        words=3,
    )


def _network(results: Results) -> Section:
    def row(r: NetworkRow) -> list[str]:
        peak = results.peak(r.precision)
        share = f"{100 * r.gflop_per_s / peak:.0f} %" if peak else ""
        name = r.preset if r.sha256 else f"{r.preset}, fresh"
        return [
            name, r.path, r.precision, f"{r.side_px} -> {4 * r.side_px}", str(r.batch),
            f"{r.p50_ms:.2f}", f"{r.p95_ms:.2f}", f"{r.faces_per_s:,.1f}",
            f"{r.gflop_per_s:,.0f}", share, str(r.n),
        ]  # fmt: skip

    made = {f"{r.preset}: F={r.features}, L={r.units}": None for r in results.network}
    return Section(
        "The networks alone",
        f"{'; '.join(made)}. Folded; block in, 4x RGB out, conversions to the precision and back "
        "included. Rate over the best matrix multiply at the same precision. The p95 of a few "
        "calls is their worst.",
        [
            "network", "path", "precision", "px", "batch", "p50 ms", "p95 ms", "faces/s",
            "GFLOP/s", "of roof", "n",
        ],
        [row(r) for r in results.network],
        words=4,
    )  # fmt: skip


def _ratios(results: Results) -> Section:
    rows = [
        [
            r.slower, r.faster, r.precision, f"{r.side_px} -> {4 * r.side_px}",
            f"{r.slower_ms:.2f}", f"{r.faster_ms:.2f}",
            f"{r.ratio:.2f}", f"{r.low:.2f} to {r.high:.2f}",
            _against(r),
            str(r.rounds),
        ]
        for r in results.ratios
    ]  # fmt: skip
    return Section(
        "Ratios, taken in turn",
        "How many times longer the first takes than the second: median over rounds, quartiles, "
        "and the least that is wanted",
        ["this", "over this", "precision", "px", "ms", "ms", "ratio", "quartiles", "goal", "n"],
        rows,
        words=4,
    )


def _against(row: RatioRow) -> str:
    """The goal, and whether the ratio as it is shown reaches it."""
    if row.goal is None:
        return ""
    return f"{row.goal:g}: {'yes' if round(row.ratio, 2) >= row.goal else 'NO'}"


def _frames(results: Results) -> list[Section]:
    """By number, by area, and the stages of both."""
    if not results.frames:
        return []
    stages = list(dict.fromkeys(stage for r in results.frames for stage in r.stages_ms))

    def times(r: FrameRow) -> list[str]:
        return [
            f"{r.width}x{r.height}", str(r.scale), str(r.faces), f"{r.found:.1f}",
            str(r.crop_px), str(r.seen_px), f"{r.p50_ms:.2f}", f"{r.p95_ms:.2f}",
            "" if r.p99_ms is None else f"{r.p99_ms:.2f}", str(r.n),
        ]  # fmt: skip

    def parts(r: FrameRow) -> list[str]:
        return [
            f"{r.width}x{r.height}", str(r.scale), str(r.faces), str(r.crop_px),
            *(f"{r.stages_ms.get(stage, 0):.2f}" for stage in stages),
        ]  # fmt: skip

    headings = [
        "frame",
        "scale",
        "faces",
        "enhanced",
        "crop px",
        "seen px",
        "p50 ms",
        "p95 ms",
        "p99 ms",
        "n",
    ]
    first = results.frames[0]
    return [
        Section(
            "Whole frames, by number of faces",
            f"{first.network}; RGB in, {first.output.upper()} out; detector: {first.detector}; "
            "crops beyond 'seen px' are shown to the network shrunk",
            headings,
            [times(r) for r in results.frames if r.series == "number"],
        ),
        Section(
            "Whole frames, by area of the face",
            "one face, by the side of its crop",
            headings,
            [times(r) for r in results.frames if r.series == "area"],
        ),
        Section(
            "Stages of a frame",
            "medians in ms",
            ["frame", "scale", "faces", "crop px", *stages],
            [parts(r) for r in results.frames],
        ),
    ]


def _live(results: Results) -> Section:
    rows = [
        [
            r.preset, str(r.scale), f"{r.fps:.1f}", "yes" if r.held else "NO", str(r.frames),
            str(r.dropped), str(r.passthrough), f"{r.faces_per_frame:.2f}", f"{r.p50_ms:.0f}",
            f"{r.p95_ms:.0f}", f"{r.p99_ms:.0f}",
        ]
        for r in results.live
    ]  # fmt: skip
    first = results.live[0] if results.live else None
    what = f"{first.width}x{first.height}, face of {first.face_px} px" if first else ""
    rate = f"{first.rate_hz:g}" if first else ""
    return Section(
        f"Live loop at {rate} Hz",
        f"{what}; latency in ms from capture to delivery; held: at least 98 % of the frames arrive",
        [
            "network", "scale", "fps", "held", "frames", "dropped", "passed through", "faces",
            "p50 ms", "p95 ms", "p99 ms",
        ],
        rows,
    )  # fmt: skip
