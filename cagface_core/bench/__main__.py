"""``python -m cagface_core.bench``: the bench where only the core is installed."""

import argparse
import sys

from cagface_core.bench.command import configure, execute
from cagface_core.standalone import run_standalone

if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m cagface_core.bench")
    configure(parser)
    arguments = parser.parse_args()
    reason = "the live loop belongs to the runtime: run 'cagface bench'"
    sys.exit(run_standalone(lambda: execute(arguments, None, reason)))
