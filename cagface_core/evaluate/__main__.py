"""``python -m cagface_core.evaluate``: the evaluation where only the core is installed."""

import argparse

from cagface_core.evaluate.command import configure, execute

if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m cagface_core.evaluate")
    configure(parser)
    execute(parser.parse_args())
