"""``python -m cagface_core.train``: the training command where only the core is installed."""

import argparse
import sys

from cagface_core.standalone import run_standalone
from cagface_core.train.command import configure, execute

if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m cagface_core.train")
    configure(parser)
    arguments = parser.parse_args()
    sys.exit(run_standalone(lambda: execute(arguments)))
