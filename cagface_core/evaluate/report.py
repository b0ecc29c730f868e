"""What was measured in; ``eval.json``, ``eval.md`` and the console's tables out."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.table import Table

from cagface_core.errors import OutputError
from cagface_core.evaluate.evaluate import Floats, Measured, Results
from cagface_core.evaluate.methods import BASELINE
from cagface_core.evaluate.metrics import WINDOW_PX
from cagface_core.evaluate.protocols import groups
from cagface_core.evaluate.statistics import RESAMPLES, Interval, interval

_CENTRE = f"centre of {WINDOW_PX} px"

COLUMNS: dict[str, tuple[str, int, str]] = {
    "psnr": ("PSNR", 2, "dB over RGB"),
    "psnr_y": ("PSNR-Y", 2, "dB of the BT.601 luminance"),
    "ssim": ("SSIM", 4, "of the luminance"),
    "ms_ssim": ("MS-SSIM", 4, f"of the luminance, five scales; {_CENTRE}"),
    "lpips": ("LPIPS", 4, f"AlexNet's; {_CENTRE}; lower is better"),
    "parser_distance": (
        "parser distance", 4, f"as LPIPS, by our component network; {_CENTRE}; lower is better",
    ),
    "landmarks": (
        "landmarks", 2,
        "MediaPipe's: distance from the truth's, % of the eyes' distance; where both show a face",
    ),
    "psnr_hair": ("hair", 2, "PSNR over the hair of the photo's own mask"),
    "psnr_skin": ("skin", 2, "PSNR over its skin"),
    "psnr_parts": ("parts", 2, "PSNR over its eyes, brows, nose, mouth and ears"),
    "consistency_db": ("consistency", 2, "PSNR between the output, shrunk again, and its input"),
    "drift": ("drift", 2, "the same as mean absolute difference in levels of 255"),
    "fid": ("FID", 1, "Frechet distance of Inception's features; lower is better"),
    "parser_frechet": (
        "parser Frechet", 4, f"as FID, by our component network; {_CENTRE}; lower is better",
    ),
}  # fmt: skip
"""Metrics in the tables' order: heading, digits, what it is."""


def as_json(results: Results) -> dict[str, Any]:
    """All figures, with intervals, as plain dictionaries."""
    plan = results.evaluation
    return {
        "split": plan.split,
        "limit": plan.limit,
        "machine": _machine(results),
        "versions": _versions(),
        "notes": results.notes,
        "interval": f"95 %, bootstrap over persons, {RESAMPLES} resamples",
        "metrics": {name: text for name, (_, _, text) in COLUMNS.items()},
        "methods": {
            m.name: {
                "origin": m.origin, "sha256": m.sha256, "parameters": m.parameters,
                "ms_64_to_256": round(results.times_ms[m.name], 2),
            }
            for m in results.methods
        },
        "protocols": {m.protocol.name: _protocol(m) for m in results.measured},
    }  # fmt: skip


def tables(report: Mapping[str, Any]) -> list[Table]:
    """A short table a protocol for the console; the files have more."""
    shown = ("psnr", "gain", "ssim", "lpips", "parser_distance", "consistency_db")
    found: list[Table] = []
    for name, part in report["protocols"].items():
        if not part["n"]:
            continue
        there = {c for figures in part["methods"].values() for c in figures}
        columns = [c for c in shown if c in there]
        table = Table(
            title=f"{name}, split {report['split']}, {part['n']} photos", caption=part["text"]
        )
        table.add_column("method", no_wrap=True)
        for heading in (*(_heading(c) for c in columns), "ms"):
            table.add_column(heading, justify="right")
        for method, figures in part["methods"].items():
            cells = [_cell(c, figures[c]) for c in columns]
            table.add_row(method, *cells, f"{report['methods'][method]['ms_64_to_256']:.1f}")
        found.append(table)
    return found


def as_markdown(report: Mapping[str, Any]) -> str:
    """All tables as Markdown: quality, groups, and what every word means."""
    machine = report["machine"]
    limit = f", {report['limit']} photos spread over it" if report["limit"] else ""
    lines = [f"# Evaluation, split `{report['split']}`{limit}", ""]
    for name, part in report["protocols"].items():
        lines += [
            f"## {name}: {part['text']}",
            "",
            f"{part['n']} photos, {part['persons']} persons",
            "",
        ]
        if part["n"]:
            lines += [*_quality(part), "", *_groups(part), ""]
    lines += [
        "## Speed", "",
_speed(machine), "",
        *_rows(
            ["method", "ms", "parameters", "what"],
            [
                [m, f"{f['ms_64_to_256']:.1f}", _count(f["parameters"]), f["origin"]]
                for m, f in report["methods"].items()
            ],
        ), "",
        "## Legend", "",
        f"[low, high]: {report['interval']}. gain: PSNR over {BASELINE}'s on the same photo.", "",
    ]  # fmt: skip
    there = {k for p in report["protocols"].values() for f in p["methods"].values() for k in f}
    lines += [f"- {COLUMNS[c][0]}: {COLUMNS[c][2]}" for c in COLUMNS if c in there]
    lines += ["", *(f"- {note}" for note in report["notes"]), ""]
    return "\n".join(lines)


def write(out: Path, report: Mapping[str, Any]) -> None:
    """Write ``eval.json`` and ``eval.md``.

    Raises:
        OutputError: the folder cannot be written.
    """
    try:
        text = json.dumps(report, indent=1, allow_nan=False)
        (out / "eval.json").write_text(text + "\n", encoding="utf-8")
        (out / "eval.md").write_text(as_markdown(report), encoding="utf-8")
    except OSError as error:
        raise OutputError(
            f"cannot write to {out} ({error.strerror}); give --out another folder"
        ) from error


def _protocol(measured: Measured) -> dict[str, Any]:
    """One protocol's figures: over all photos, then for each group."""
    photos = measured.photos
    persons = [photo.group for photo in photos]
    entry: dict[str, Any] = {
        "text": measured.protocol.text, "n": len(photos), "persons": len(set(persons)),
        "methods": {}, "groups": {},
    }  # fmt: skip
    if not photos:
        return entry
    base = measured.scores[BASELINE]["psnr"]
    everyone = np.ones(len(photos), bool)
    for method, scores in measured.scores.items():
        figures = {name: _interval(values, persons, everyone) for name, values in scores.items()}
        figures["gain"] = _interval(scores["psnr"] - base, persons, everyone)
        distances = {name: round(v, 6) for name, v in measured.frechet[method].items()}
        entry["methods"][method] = figures | distances
    for group in groups(photos):
        inside = np.array(
            [group.holds(p, s) for p, s in zip(photos, measured.skin, strict=True)], bool
        )
        if not inside.any():
            continue
        entry["groups"][group.name] = {
            "definition": group.definition,
            "n": int(inside.sum()),
            "methods": {
                method: {
                    "psnr": _interval(scores["psnr"], persons, inside),
                    "gain": _interval(scores["psnr"] - base, persons, inside),
                }
                for method, scores in measured.scores.items()
            },
        }
    return entry


def _interval(values: Floats, persons: list[str], inside: Any) -> dict[str, Any] | None:
    """Bootstrap some of the photos; None where none of them has the figure."""
    chosen = [person for person, is_in in zip(persons, inside, strict=True) if is_in]
    found = interval(values[inside], chosen)
    if found is None:
        return None
    return {k: round(v, 5) if isinstance(v, float) else v for k, v in asdict(found).items()}


def _quality(part: Mapping[str, Any]) -> list[str]:
    """One row a method, one column a metric; bounds for PSNR and gain."""
    there = {name for figures in part["methods"].values() for name in figures}
    columns = ["psnr", "gain", *(c for c in COLUMNS if c in there and c != "psnr")]
    rows = [
        [method, *(_cell(c, figures.get(c), bounds=c in ("psnr", "gain")) for c in columns)]
        for method, figures in part["methods"].items()
    ]
    return _rows(["method", *(_heading(c) for c in columns)], rows)


def _groups(part: Mapping[str, Any]) -> list[str]:
    """One row a group, one column a method: the gain over bicubic, and how groups are defined."""
    methods = [method for method in part["methods"] if method != BASELINE]
    rows = [
        [
            name, str(group["n"]), _cell("psnr", group["methods"][BASELINE]["psnr"]),
            *(_cell("gain", group["methods"][m]["gain"], bounds=True) for m in methods),
        ]
        for name, group in part["groups"].items()
    ]  # fmt: skip
    table = _rows(["group", "n", f"{BASELINE}, PSNR", *(f"{m}, gain" for m in methods)], rows)
    return [*table, "", *(f"- {n}: {g['definition']}" for n, g in part["groups"].items())]


def _speed(machine: Mapping[str, Any]) -> str:
    """How the times were taken."""
    return (
        f"64x64 -> 256x256, median of five after one to warm up, on {machine['device']}, "
        f"{machine['processor']}, {machine['torch_threads']} torch threads; parameters without "
        "the component network."
    )


def _rows(headings: list[str], rows: list[list[str]]) -> list[str]:
    """A Markdown table, numbers to the right."""
    rule = ["---", *("---:" for _ in headings[1:])]
    return [f"| {' | '.join(cells)} |" for cells in (headings, rule, *rows)]


def _heading(column: str) -> str:
    return "gain" if column == "gain" else COLUMNS[column][0]


def _cell(column: str, figure: Any, *, bounds: bool = False) -> str:
    """Show a figure: an interval, a number, or nothing."""
    if figure is None:
        return ""
    if isinstance(figure, float):
        return f"{figure:.{COLUMNS[column][1]}f}"
    gain = column == "gain"
    digits = 2 if gain else COLUMNS[column][1]
    return Interval(**figure).shown(digits, signed=gain, bounds=bounds)


def _count(parameters: int | None) -> str:
    return "not told" if parameters is None else f"{parameters:,}"


def _machine(results: Results) -> dict[str, Any]:
    """What the times were taken on."""
    cpu = Path("/proc/cpuinfo")
    lines = cpu.read_text(encoding="utf-8").splitlines() if cpu.is_file() else []
    model = next((x.split(":", 1)[1].strip() for x in lines if x.startswith("model name")), "")
    on_cuda = results.device.type == "cuda"
    return {
        "system": platform.platform(),
        "processor": model or platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name(results.device) if on_cuda else str(results.device),
    }


def _versions() -> dict[str, str]:
    """Versions of what the figures depend on."""
    found = {"python": platform.python_version(), "torch": str(torch.__version__)}
    for name in (
        "cagface-live", "torchmetrics", "numpy", "pillow", "opencv-contrib-python",
        "mediapipe", "av", "spandrel",
    ):  # fmt: skip
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found
