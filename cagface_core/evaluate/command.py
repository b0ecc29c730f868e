"""``cagface eval``: weights in; tables, ``eval.json``, ``eval.md`` and a sheet of pictures out."""

from __future__ import annotations

import argparse
from pathlib import Path

from cagface_core import checkpoint
from cagface_core.evaluate import report
from cagface_core.evaluate.evaluate import Evaluation, evaluate
from cagface_core.evaluate.protocols import PROTOCOLS
from cagface_core.evaluate.sheet import write_sheet
from cagface_core.standalone import open_console


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    names = [protocol.name for protocol in PROTOCOLS]
    parser.add_argument("--data", type=Path, required=True, help="folder of the photo set")
    parser.add_argument("--split", default="val", choices=("train", "val", "test"))
    parser.add_argument("--out", type=Path, default=Path("out/eval"), help="folder to write to")
    parser.add_argument(
        "--weights", nargs="*", default=[*checkpoint.shipped(), "nano-auto"], metavar="NAME",
        help="shipped names, PRESET-auto or .safetensors files (default: all that are shipped, and "
        "nano-auto)",
    )  # fmt: skip
    parser.add_argument(
        "--protocol", nargs="+", default=names, choices=names, metavar="NAME",
        help=f"how the input is made: {', '.join(names)} (default: all)",
    )  # fmt: skip
    parser.add_argument(
        "--limit", type=_positive, metavar="N", help="only N photos, spread over the split"
    )
    parser.add_argument(
        "--peer", type=_peer, action="append", default=[], metavar="NAME=FILE", dest="peers",
        help="a network that spandrel can load, as one more row; may be given more than once",
    )  # fmt: skip
    parser.add_argument(
        "--retrained", type=Path, metavar="FOLDER",
        help="rows for FOLDER/*/weights.safetensors, written by 'cagface train peers'",
    )  # fmt: skip
    parser.add_argument(
        "--landmarks", type=Path, metavar="FILE",
        help="MediaPipe's face_landmarker.task: how far the landmarks lie from the truth's",
    )  # fmt: skip
    parser.add_argument(
        "--parser", type=Path, default=checkpoint.WEIGHTS_DIR / "parser.safetensors",
        metavar="FILE", help="component network whose features are compared (default: shipped)",
    )  # fmt: skip
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or mps")


def execute(arguments: argparse.Namespace) -> None:
    """Measure, write the files, print the tables, and say where the files are."""
    a = arguments
    plan = Evaluation(
        data=a.data, split=a.split, out=a.out, weights=a.weights, protocols=a.protocol,
        limit=a.limit, peers=a.peers, retrained=a.retrained, landmarks=a.landmarks,
        parser=a.parser, device=a.device,
    )  # fmt: skip
    results = evaluate(plan)
    figures = report.as_json(results)
    report.write(a.out, figures)
    write_sheet(a.out, results)
    console = open_console()
    for table in report.tables(figures):
        console.print(table)
    for note in results.notes:
        console.print(note, markup=False, highlight=False, soft_wrap=True)
    console.print(f"wrote eval.json, eval.md and eval.png to {a.out}", soft_wrap=True)


def _positive(text: str) -> int:
    """Read a number of at least 1."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected at least 1, got {text}")
    return number


def _peer(text: str) -> tuple[str, Path]:
    """Read ``NAME=FILE``."""
    name, _, path = text.partition("=")
    if not name or not path:
        raise argparse.ArgumentTypeError(f"expected NAME=FILE, got {text!r}")
    return name, Path(path)
