"""``python -m cagface_core.bench``: the bench where only the core is installed."""

import argparse
import sys

from cagface_core.bench.command import configure, execute
from cagface_core.errors import CagfaceError

if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m cagface_core.bench")
    configure(parser)
    try:
        execute(
            parser.parse_args(), None, "the live loop belongs to the runtime: run 'cagface bench'"
        )
    except CagfaceError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(2)
