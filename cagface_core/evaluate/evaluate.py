"""Weights and a split of the photo set in; a table of PSNR and SSIM beside bicubic out."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image as Pillow
from rich.progress import track
from rich.table import Table

from cagface_core import checkpoint
from cagface_core.engine import Engine
from cagface_core.errors import ConfigError, OutputError
from cagface_core.evaluate.metrics import psnr, ssim
from cagface_core.paste import upscale_frame
from cagface_core.train.degrade import degrade
from cagface_core.train.photos import downsample4, load_square, read_photos
from cagface_core.types import Image

Scores = dict[str, float]
"""Means over the pictures: ``psnr`` in dB over RGB, ``ssim`` of the luminance, and ``drift``: the
mean absolute difference in levels of 255 between the output, shrunk again, and its input."""


@dataclass(frozen=True, slots=True)
class Protocol:
    """How inputs are made.

    Photos of at least ``least_side_px`` are brought to ``side_px``, then shrunk to a quarter,
    plainly or ``degraded``.
    """

    name: str
    side_px: int
    least_side_px: int
    degraded: bool
    text: str


PROTOCOLS = (
    Protocol("whole_face", 256, 0, False, "whole face, 64x64 -> 256x256, antialiased bicubic"),
    Protocol("patch", 1024, 1020, False, "256x256 -> 1024x1024, antialiased bicubic"),
    Protocol("webcam", 256, 0, True, "whole face, 64x64 -> 256x256, blur, noise, JPEG or H.264"),
)


def evaluate(data: Path, split: str, out: Path, names: list[str], device: str) -> Table:
    """Measure every network under every protocol; write ``eval.json`` and ``eval.png``.

    All pictures are compared at 8 bit, whole, no border shaved. The split is by person.

    Args:
        data: the photo set's folder.
        split: ``train``, ``val`` or ``test``.
        out: the folder to write to.
        names: shipped names (``nano-clean``) or ``.safetensors`` files.
        device: as in :class:`cagface_core.EnhancerConfig`.

    Returns:
        The table, for printing.

    Raises:
        InputError: no photo set. WeightsError, ConfigError: no such weights.
        OutputError: ``out`` cannot be written.
    """
    methods: dict[str, Callable[[Image], Image]] = {
        "bicubic": bicubic,
        "bicubic-opencv": partial(upscale_frame, scale=4),
    }
    for name in names:
        path = Path(name) if name.endswith(".safetensors") else _shipped(name)
        methods[name] = Engine(path, device).upscale
    photos = read_photos(data, split)
    report: dict[str, object] = {"split": split}
    table = Table(
        title=f"PSNR (RGB, dB), SSIM (luminance), drift (levels), split {split!r}",
        caption="\n".join(f"{protocol.name}: {protocol.text}" for protocol in PROTOCOLS),
    )
    for column in ("protocol", "n", "method", "PSNR", "gain", "SSIM", "drift"):
        table.add_column(column, justify="left" if column in ("protocol", "method") else "right")
    sheet: list[Image] = []
    for protocol in PROTOCOLS:
        chosen = [p for p in photos if p.side >= protocol.least_side_px]
        scores: dict[str, list[Scores]] = {name: [] for name in methods}
        for index, photo in enumerate(track(chosen, protocol.name, transient=True)):
            hr = load_square(photo, protocol.side_px)
            rng = np.random.default_rng([2024, index])
            lr = degrade(hr, rng) if protocol.degraded else downsample4(hr)
            outputs = {name: method(lr) for name, method in methods.items()}
            for name, output in outputs.items():
                scores[name].append(_score(output, hr, lr))
            if protocol.side_px == 256 and index % max(1, len(chosen) // 6) == 0:
                sheet.append(np.hstack([*outputs.values(), hr]))
        if not chosen:
            report[protocol.name] = {"n": 0, "protocol": protocol.text}
            continue
        means = {name: _mean(values) for name, values in scores.items()}
        report[protocol.name] = {"n": len(chosen), "protocol": protocol.text, **means}
        for name, mean in means.items():
            gain = mean["psnr"] - means["bicubic"]["psnr"]
            figures = (f"{mean['psnr']:.2f}", f"{gain:+.2f}", f"{mean['ssim']:.4f}")
            table.add_row(protocol.name, str(len(chosen)), name, *figures, f"{mean['drift']:.2f}")
    _write(out, report, sheet)
    return table


def bicubic(lr: Image) -> Image:
    """Bicubic upscale of (H, W, 3) uint8 by four, Pillow's kernel (a = -0.5)."""
    size = (4 * lr.shape[1], 4 * lr.shape[0])
    return np.asarray(Pillow.fromarray(lr).resize(size, Pillow.Resampling.BICUBIC))


def _shipped(name: str) -> Path:
    """The path of a shipped network, ``PRESET-WEIGHTS``."""
    preset, dash, weights = name.partition("-")
    if not dash:
        raise ConfigError(f"unknown weights {name!r}; shipped: {', '.join(checkpoint.shipped())}")
    return checkpoint.find_sr(preset, weights)


def _score(output: Image, hr: Image, lr: Image) -> Scores:
    """Measure one output against the truth and against its input."""
    drift = np.abs(downsample4(output).astype(np.float64) - lr).mean()
    return {"psnr": psnr(output, hr), "ssim": ssim(output, hr), "drift": float(drift)}


def _mean(values: list[Scores]) -> Scores:
    """Means over the pictures."""
    return {key: round(float(np.mean([v[key] for v in values])), 5) for key in values[0]}


def _write(out: Path, report: Mapping[str, object], sheet: list[Image]) -> None:
    """Write the figures, and a sheet of pictures: one row a face, the methods, then the truth."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / "eval.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
        Pillow.fromarray(np.vstack(sheet)).save(out / "eval.png")
    except OSError as error:
        raise OutputError(f"cannot write to {out}: {error}; give --out another folder") from error
