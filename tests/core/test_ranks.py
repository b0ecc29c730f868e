"""A training by two processes that torchrun starts, held against the same by one."""

import csv
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from cagface_core.errors import ConfigError
from cagface_core.train.ranks import Rank, rank
from tests.conftest import ROOT
from tests.core.photo_set import write_photo_set

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="torchrun needs libuv there")

TINY = {"preset": "pico", "patch-px": 8, "batch": 4, "steps1": 3, "steps2": 4, "check-every": 2}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_photo_set(tmp_path_factory.mktemp("data"))


def trained(
    data: Path, out: Path, processes: int, what: str = "sr", **options: object
) -> subprocess.CompletedProcess[str]:
    words = [f"--{k}={v}" for k, v in (TINY | options).items()] if what == "sr" else []
    launch = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    return subprocess.run(
        [
            sys.executable, *(launch if processes > 1 else ()), "-m", "cagface_core.train",
            what, f"--data={data}", f"--out={out}", "--device=cpu", "--threads=1", *words,
        ],
        cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True,
        timeout=240, check=False,
    )  # fmt: skip


def state(out: Path, stage: str) -> dict[str, object]:
    return torch.load(out / stage / "state.pt", weights_only=True)


def gradients(out: Path, stage: str) -> torch.Tensor:
    """Adam's running mean of all gradients, as one vector."""
    moments = state(out, stage)["optimiser"]["state"]
    return torch.cat([moments[k]["exp_avg"].flatten() for k in sorted(moments)])


def losses(out: Path, stage: str) -> list[float]:
    with (out / stage / "log.csv").open() as file:
        return [float(row["loss"]) for row in csv.DictReader(file)]


@pytest.fixture(scope="module")
def alone(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("one")
    done = trained(data, out, 1)
    assert done.returncode == 0, done.stderr
    return out


def assert_same(out: Path, alone: Path) -> None:
    for stage in ("stage1", "stage2"):
        assert losses(out, stage) == pytest.approx(losses(alone, stage), rel=1e-4)
    ours, theirs = gradients(out, "stage2"), gradients(alone, "stage2")
    assert (ours - theirs).norm() < 1e-3 * theirs.norm()


def test_two_processes_train_what_one_does(data: Path, alone: Path, tmp_path: Path):
    done = trained(data, tmp_path, 2)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("wrote") == 1
    assert_same(tmp_path, alone)
    assert (tmp_path / "weights.safetensors").is_file()


def test_it_goes_on_with_another_number_of_processes(data: Path, alone: Path, tmp_path: Path):
    """From where one process stood, two come to where one would have come."""
    for processes in (1, 2):
        shutil.copytree(alone, tmp_path / str(processes))
        done = trained(data, tmp_path / str(processes), processes, steps2=6)
        assert done.returncode == 0, done.stderr
        assert done.stderr.count("going on from step 4") == 1
    assert state(tmp_path / "2", "stage2")["step"] == 6
    assert_same(tmp_path / "2", tmp_path / "1")
    before, after = gradients(alone, "stage2"), gradients(tmp_path / "2", "stage2")
    assert (before - after).norm() > 0.1 * after.norm()


@pytest.mark.parametrize(
    ("what", "options", "said"),
    [
        ("sr", {"batch": 3}, "a batch of 3 cannot be shared by 2 processes"),
        ("parser", {}, "'train parser' takes one process"),
    ],
)
def test_what_cannot_be_shared_is_said(data: Path, tmp_path: Path, what, options, said):
    done = trained(data, tmp_path, 2, what, **options)
    assert done.returncode != 0
    assert said in done.stderr
    assert not any(tmp_path.iterdir())


def test_a_batch_is_shared_out_whole():
    batch = list(range(12))
    shares = [batch[Rank(number, 3).share(12)] for number in range(3)]
    assert sorted(item for share in shares for item in share) == batch
    assert {len(share) for share in shares} == {4}
    with pytest.raises(ConfigError, match="multiple of them"):
        Rank(0, 3).share(13)
    assert rank() == Rank(0, 1)
    assert batch[rank().share(12)] == batch
