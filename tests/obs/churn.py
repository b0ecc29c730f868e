"""Let inputs with a filter come and go, sixty times or until OBS ends: whose crash is it?

``python -m tests.obs.churn --filter color_filter_v2`` does with a filter of OBS's own what
``--filter cagface_enhance`` does with ours and ``--filter none`` without any; with ``--nested`` the
filter is on a scene inside the scene. Put an ``obs`` that preloads a strict allocator (Scudo)
before the real one in PATH to see what else would pass unseen.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from subprocess import TimeoutExpired

import cv2
import numpy as np
from websockets.exceptions import ConnectionClosed

from tests.obs.engines import write_token
from tests.obs.processes import EngineProcess, build_plugin
from tests.obs.studio import FILTER, HEIGHT, WIDTH, Screen, Studio

CYCLES = 60


def churn(studio: Studio, kind: str, address: str, picture: Path, nested: bool) -> int:
    """Add two inputs and a filter, look, remove all: how many times OBS took it."""
    name = "Inner" if nested else "half"
    for cycle in range(CYCLES):
        try:
            studio.add_colour("below", 0xFFFFFFFF)
            studio.add_input("half", "image_source", file=str(picture))
            if nested:
                studio.nest("half", name)
            if kind == FILTER:
                studio.add_filter(name, address=address, split_percent=50)
            elif kind != "none":
                # What the scaling filter, and no other, asks for: twice the size, as ours makes it.
                studio.ask(
                    "CreateSourceFilter", sourceName=name, filterName="Enhance", filterKind=kind,
                    filterSettings={"resolution": f"{2 * WIDTH}x{2 * HEIGHT}"},
                )  # fmt: skip
            for _ in range(cycle % 4):
                studio.picture()
            if nested:
                if kind != "none":
                    studio.remove_filter(name)
                studio.ask("RemoveScene", sceneName=name)
            studio.clear()
        except (ConnectionClosed, AssertionError):  # it has ended, or removes nothing any more
            return cycle
    return CYCLES


def ended_as(studio: Studio) -> int:
    """The exit code of an OBS that failed; one that hangs is killed."""
    try:
        return studio.process.wait(5)
    except TimeoutExpired:
        studio.process.kill()
        return studio.process.wait()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.obs.churn", description=__doc__)
    parser.add_argument("--filter", default=FILTER, metavar="KIND")
    parser.add_argument("--nested", action="store_true", help="the filter on a nested scene")
    parser.add_argument("--no-preview", action="store_true", help="OBS without its preview")
    parser.add_argument("--starts", type=int, default=4, help="of OBS (default 4)")
    words = parser.parse_args()
    ended = 0
    screen = Screen()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        plugin = build_plugin(folder) if words.filter == FILTER else None
        picture = folder / "half.png"
        cv2.imwrite(str(picture), np.full((HEIGHT, WIDTH, 4), (32, 64, 192, 128), np.uint8))
        for start in range(words.starts):
            studio = Studio(folder / f"obs{start}", screen, plugin, preview=not words.no_preview)
            write_token(studio.data)
            engine = EngineProcess(studio.data)
            if plugin is not None:
                engine.start("--plain")
            begin = time.monotonic()
            taken = churn(studio, words.filter, engine.address, picture, words.nested)
            engine.end()
            ended += taken < CYCLES
            how = ended_as(studio) if taken < CYCLES else studio.close()
            seconds = time.monotonic() - begin
            said = [f"start {start + 1}: {taken} of {CYCLES} in {seconds:.0f} s, exit code {how}"]
            if how:
                said += [f"  {line}" for line in studio.log().splitlines()[-3:]]
            sys.stdout.write("\n".join(said) + "\n")
            sys.stdout.flush()
    screen.close()
    return 1 if ended else 0


if __name__ == "__main__":
    sys.exit(main())
