"""``cagface eval``: weights in; a table, ``eval.json`` and a sheet of pictures out."""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console

from cagface_core import checkpoint
from cagface_core.evaluate.evaluate import evaluate


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("--data", type=Path, required=True, help="folder of the photo set")
    parser.add_argument("--split", default="val", choices=("train", "val", "test"))
    parser.add_argument("--out", type=Path, default=Path("out/eval"), help="folder to write to")
    parser.add_argument(
        "--weights", nargs="+", default=checkpoint.shipped(), metavar="NAME",
        help="shipped names or .safetensors files (default: all that are shipped)",
    )  # fmt: skip
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or mps")


def execute(arguments: argparse.Namespace) -> None:
    """Measure, print the table, and say where the files are."""
    a = arguments
    table = evaluate(a.data, a.split, a.out, a.weights, a.device)
    console = Console()
    console.print(table)
    console.print(f"wrote {a.out / 'eval.json'} and {a.out / 'eval.png'}")
