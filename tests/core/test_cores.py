"""The cores of a process: those it is bound to, and no more than its container's share of them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cagface_core.cores import usable_cores


@pytest.fixture(autouse=True)
def many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(64)), raising=False)


def machine(root: Path, groups: str, **files: str) -> int:
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(groups)
    for name, text in files.items():
        path = root / "sys/fs/cgroup" / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    return usable_cores(root)


def test_without_limits_all_cores_that_it_is_bound_to(tmp_path: Path, monkeypatch):
    assert machine(tmp_path, "0::/user\n", **{"cpu.max": "max 100000"}) == 64
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {3, 5}, raising=False)
    assert usable_cores(tmp_path) == 2


def test_where_nothing_is_told_of_groups_all_there_are(tmp_path: Path, monkeypatch):
    assert usable_cores(tmp_path) == 64
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 12)
    assert usable_cores(tmp_path) == 12
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert usable_cores(tmp_path) == 1


@pytest.mark.parametrize(
    ("limit", "cores"), [("200000 100000", 2), ("250000 100000", 3), ("10000 100000", 1)]
)
def test_a_containers_share_rounded_up(tmp_path: Path, limit: str, cores: int):
    assert machine(tmp_path, "0::/\n", **{"cpu.max": limit}) == cores


def test_the_tightest_of_the_groups_that_it_is_in(tmp_path: Path):
    files = {"a__cpu.max": "300000 100000", "a__b__cpu.max": "max 100000", "cpu.max": "8000 1000"}
    assert machine(tmp_path, "0::/a/b\n", **files) == 3


def test_a_path_that_leads_nowhere_as_in_a_container(tmp_path: Path):
    groups = "5:memory:/docker/1f\n4:cpu,cpuacct:/docker/1f\n0::/docker/1f\n"
    files = {"cpu__cpu.cfs_quota_us": "400000", "cpu__cpu.cfs_period_us": "100000"}
    assert machine(tmp_path, groups, **files) == 4


def test_the_first_version_of_groups(tmp_path: Path):
    groups = "3:cpuset:/\n1:cpu:/lab\n0::/\n"
    files = {
        "cpu__cpu.cfs_quota_us": "-1", "cpu__cpu.cfs_period_us": "100000",
        "cpu__lab__cpu.cfs_quota_us": "150000", "cpu__lab__cpu.cfs_period_us": "50000",
    }  # fmt: skip
    assert machine(tmp_path, groups, **files) == 3


def test_this_machine_has_some():
    assert 1 <= usable_cores() <= 64
