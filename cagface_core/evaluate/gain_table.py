"""What measures networks on the photo set in; a command line that prints its table, out."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.table import Table

from cagface_core.standalone import open_console, run_standalone, write_files

Measure = Callable[[Path, str, Sequence[str], str], Table]
"""Of the data's folder, the split, the weights' names and the device."""


def run_gain_table(description: str, measure: Measure, arguments: Sequence[str] | None) -> int:
    """Run the command line of a module that measures; 2 after a user's error, as everywhere."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--data", type=Path, required=True, help="folder with train_photos")
    parser.add_argument("--split", default="test", choices=("val", "test"))
    parser.add_argument("--weights", nargs="+", default=["pico-webcam", "nano-webcam"])
    parser.add_argument("--device", default="auto")
    parser.add_argument("--out", type=Path, help="write the table as text too")
    options = parser.parse_args(arguments)

    def run() -> None:
        """Measure, print the table, write it if asked to."""
        console = open_console()
        table = measure(options.data, options.split, options.weights, options.device)
        console.print(table)
        if options.out is not None:
            with console.capture() as text:
                console.print(table)
            write_files(options.out.parent, {options.out.name: text.get()})

    return run_standalone(run)
