"""``python -m cagface_core.train``: the training command where only the core is installed."""

import argparse

from cagface_core.train.command import configure, execute

if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m cagface_core.train")
    configure(parser)
    execute(parser.parse_args())
