"""``python -m cagface_core.bench``: where only the core is installed, and with bad input."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest

BLOCKED = """
import runpy, sys
sys.modules.update(dict.fromkeys({blocked!r}))
sys.argv[1:] = {arguments!r}
import cagface_core.bench.command as command
from cagface_core.bench.frames import FramePlan
from cagface_core.bench.network import NetworkPlan
from cagface_core.bench.timing import Budget
brief = Budget(0.0, 2, 2)
whole = command.make_plan
def tiny(**asked):
    plan = whole(**asked)
    frames = FramePlan(((320, 240),), (1,), (1,), (64,), n=2, warm_ups=1)
    return command.Plan(brief, NetworkPlan(["pico"], brief, (64,), (1,)), brief, frames, plan.live)
command.make_plan = tiny
runpy.run_module("cagface_core.bench", run_name="__main__")
"""


def test_the_core_alone_runs_without_detector_video_and_tables(repository, tmp_path):
    blocked = ["mediapipe", "av", "pyvirtualcam", "rich", "matplotlib", "torchmetrics"]
    arguments = ["--only", "roofline,frame,live", "--device", "cpu", "--out", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", BLOCKED.format(blocked=blocked, arguments=arguments)],
        cwd=repository,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "bench.json").read_text())
    assert {row["detector"] for row in found["frames"]} == {"known"}
    assert all(row["found"] == row["faces"] for row in found["frames"])
    notes = "\n".join(found["notes"])
    for word in ("MediaPipe is not installed", "run 'cagface bench'", "matplotlib"):
        assert word in notes
    assert "## Whole frames" in done.stdout
    assert found["live"] == []


BAD = {
    "unknown part": (["--only", "networks"], "unknown part 'networks'"),
    "no such device": (["--device", "abacus"], "cannot compute on device 'abacus'"),
    "no data": (["--data", "none"], "no folder none"),
    "out is a file": (["--out", "file"], "cannot write to file"),
    "nothing to draw": (["--draw", "none.json"], "none.json cannot be read"),
    "not drawn from this": (["--draw", "file"], "file is no bench.json"),
    "live alone": (["--only", "live"], "run 'cagface bench'"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_line_and_exit_code_2(name, repository, tmp_path):
    arguments, message = BAD[name]
    (tmp_path / "file").write_text("no json")
    done = subprocess.run(
        [sys.executable, "-m", "cagface_core.bench", *arguments],
        cwd=tmp_path,
        env={"PYTHONPATH": str(repository), "PATH": ""},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 2
    line = done.stderr.splitlines()[-1]
    assert re.search(message, line), done.stderr
    assert "Traceback" not in done.stderr
    assert "measuring" not in done.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
