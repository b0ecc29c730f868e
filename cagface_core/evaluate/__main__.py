"""``python -m cagface_core.evaluate``: the evaluation where only the core is installed."""

import argparse
import sys

from cagface_core.evaluate.command import configure, execute
from cagface_core.standalone import run_standalone

if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m cagface_core.evaluate")
    configure(parser)
    arguments = parser.parse_args()
    sys.exit(run_standalone(lambda: execute(arguments)))
