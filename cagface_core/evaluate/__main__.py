"""``python -m cagface_core.evaluate``: the evaluation where only the core is installed."""

import argparse
import sys

from rich.console import Console

from cagface_core.errors import CagfaceError
from cagface_core.evaluate.command import configure, execute

if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m cagface_core.evaluate")
    configure(parser)
    try:
        execute(parser.parse_args())
    except CagfaceError as error:
        Console(stderr=True).print(f"error: {error}", markup=False, soft_wrap=True)
        sys.exit(2)
