"""Results in; one picture out: the networks under the roofline, and what a frame costs."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

from cagface_core.bench.machine import one_line
from cagface_core.bench.results import FrameRow, NetworkRow, Results

_PRECISION_COLOURS = {
    "float32": "#8da0cb", "bfloat16": "#fc8d62", "float16": "#fc8d62", "int8": "#66c2a5",
}  # fmt: skip
_SIZE_COLOURS = ("#4c78a8", "#f58518", "#54a24b", "#b279a2", "#e45756")
_GREY = "#444444"


def draw(results: Results) -> bytes | None:
    """Draw what there is of networks and frames, at least one, as PNG; None without matplotlib.

    Above: each network's rate at batch 1 on each path, and as lines the machine's own
    matrix-multiply rates. Below: whole frames by number of faces, and by the area of one face.
    """
    try:
        from matplotlib.figure import Figure  # slow to import, and only needed here
    except ImportError:
        return None
    bars = [row for row in results.network if row.batch == 1]
    by_number = [row for row in results.frames if row.series == "number"]
    by_area = [row for row in results.frames if row.series == "area"]
    lower = bool(by_number) + bool(by_area)
    rows = bool(bars) + bool(lower)
    figure = Figure(figsize=(12, 1.2 + 4.6 * rows), layout="constrained")
    figure.suptitle("\n".join(_title(results)), fontsize=9, color=_GREY)
    grid = figure.add_gridspec(rows, max(lower, 1))
    if bars:
        _bars(figure.add_subplot(grid[0, :]), bars, results)
    place = iter(range(lower))
    if by_number:
        _by_number(figure.add_subplot(grid[rows - 1, next(place)]), by_number)
    if by_area:
        _by_area(figure.add_subplot(grid[rows - 1, next(place)]), by_area)
    target = io.BytesIO()
    figure.savefig(target, format="png", dpi=110)
    return target.getvalue()


def _title(results: Results) -> list[str]:
    """The machine, broken before its line is too long for the picture."""
    words, lines = one_line(results.machine).split(", "), [""]
    for word in words:
        joined = f"{lines[-1]}, {word}" if lines[-1] else word
        if len(joined) > 120:
            lines.append(word)
        else:
            lines[-1] = joined
    return lines


def _bars(axes: Any, rows: Sequence[NetworkRow], results: Results) -> None:
    """Rates at batch 1: a group a network and crop size, a bar a path."""
    groups = list(dict.fromkeys((row.preset, row.side_px) for row in rows))
    paths = list(dict.fromkeys(row.path for row in rows))
    width = 0.8 / len(paths)
    found = {(row.preset, row.side_px, row.path): row for row in rows}
    hatches = ("", "//", "..", "xx")
    same: dict[str, int] = {}
    for number, path in enumerate(paths):
        there = [(i, found[*g, path]) for i, g in enumerate(groups) if (*g, path) in found]
        precision = there[0][1].precision
        offset = (number - (len(paths) - 1) / 2) * width
        axes.bar(
            [i + offset for i, _ in there], [row.gflop_per_s for _, row in there], width,
            label=path, color=_PRECISION_COLOURS.get(precision, "#bbbbbb"),
            hatch=hatches[same.get(precision, 0) % len(hatches)], edgecolor="white",
        )  # fmt: skip
        same[precision] = same.get(precision, 0) + 1
        for i, row in there:
            axes.annotate(
                _three_digits(row.p50_ms), (i + offset, 0), (0, 4), textcoords="offset points",
                fontsize=8, rotation=90, ha="center", va="bottom", color="black",
            )  # fmt: skip
    for precision in dict.fromkeys(row.precision for row in rows):
        peak = results.peak(precision)
        if peak is not None:
            axes.axhline(
                peak, linestyle="--", color=_PRECISION_COLOURS.get(precision, _GREY),
                label=f"{precision} matrix multiply here: {peak:,.0f}",
            )  # fmt: skip
    copies = [rate for rate in results.rates if rate.what == "copy"]
    bandwidth = f"; copies at {copies[0].best:,.1f} GB/s" if copies else ""
    axes.set_title(f"Networks alone, one face at a time (numbers: ms a face){bandwidth}")
    axes.set_xticks(range(len(groups)), [f"{preset}\n{side} px" for preset, side in groups])
    axes.set_ylabel("GFLOP/s")
    axes.set_xlim(-0.6, len(groups) - 0.4)
    axes.set_ylim(0, 1.25 * axes.get_ylim()[1])
    axes.legend(fontsize=8, ncols=3, loc="upper left")
    _tidy(axes)


def _three_digits(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _by_number(axes: Any, rows: Sequence[FrameRow]) -> None:
    """A line a frame size, at the scale that most rows have nearest to 2."""
    scale = min((row.scale for row in rows), key=lambda s: abs(s - 2))
    sizes = list(dict.fromkeys((row.width, row.height) for row in rows))
    for size, colour in zip(sizes, _SIZE_COLOURS, strict=False):
        line = [r for r in rows if (r.width, r.height, r.scale) == (*size, scale)]
        axes.plot(
            [r.faces for r in line], [r.p50_ms for r in line], "o-", color=colour,
            label=f"{size[0]}x{size[1]}",
        )  # fmt: skip
    axes.set_title(f"Whole frame by number of faces ({rows[0].seen_px or 96} px, scale {scale})")
    axes.set_xlabel("faces in the frame")
    axes.set_ylabel("ms a frame (median)")
    axes.set_xticks(sorted({r.faces for r in rows}))
    axes.set_ylim(bottom=0)
    axes.legend(fontsize=8, loc="upper left")
    _tidy(axes)


def _by_area(axes: Any, rows: Sequence[FrameRow]) -> None:
    """Time over the crop's area, and the part that the network took."""
    areas = [row.crop_px**2 / 1000 for row in rows]
    axes.plot(areas, [row.p50_ms for row in rows], "o-", color=_SIZE_COLOURS[0], label="whole")
    axes.plot(
        areas, [row.stages_ms.get("network", 0) for row in rows], "s--", color=_SIZE_COLOURS[1],
        label="of which network",
    )  # fmt: skip
    for area, row in zip(areas, rows, strict=True):
        axes.annotate(
            f"{row.crop_px} px", (area, row.p50_ms), (7, -9), textcoords="offset points",
            fontsize=8, color=_GREY,
        )  # fmt: skip
    first = rows[0]
    axes.set_title(f"{first.width}x{first.height}, one face, by its area (scale {first.scale})")
    axes.set_xlabel("area of the crop (thousand pixels)")
    axes.set_ylabel("ms a frame (median)")
    axes.set_xlim(0, 1.12 * max(areas))
    axes.set_ylim(0, 1.12 * max(row.p50_ms for row in rows))
    axes.legend(fontsize=8, loc="lower right")
    _tidy(axes)


def _tidy(axes: Any) -> None:
    axes.grid(axis="y", color="#dddddd", linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
