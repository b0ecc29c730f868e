"""The choice of a path: measured once, remembered, and never broken by what is remembered."""

import json
import time
from pathlib import Path

import pytest
import torch
from torch import Tensor

from cagface_core import checkpoint
from cagface_core.engine import Engine
from cagface_core.errors import DeviceError
from cagface_core.path_choice import fastest
from cagface_core.paths import CPU_PATHS, cpu_paths


class Timed:
    """A runner that takes as long as it is told."""

    precision, device = "float32", torch.device("cpu")

    def __init__(self, path: str, work: int, opened: list[str]) -> None:
        self.path, self.work = path, work
        opened.append(path)

    def __call__(self, block: Tensor, factor: int) -> Tensor:
        for _ in range(self.work):
            torch.ones(300, 300) @ torch.ones(300, 300)
        return block


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "cagface-live" / "paths.json"


def choose(opened: list[str], sha256: str = "a") -> tuple[str, str]:
    """The path that is taken, and why."""
    work = {"slow": 60, "fast": 1}
    runner, why = fastest(("slow", "fast"), lambda p: Timed(p, work[p], opened), 6, sha256)
    return runner.path, why


def test_the_fastest_is_taken_and_remembered(cache: Path):
    opened: list[str] = []
    path, why = choose(opened)
    assert path == "fast"
    assert why.startswith("96 px: fast ")
    assert opened == ["slow", "fast"]  # what was measured is used
    assert choose(opened) == (path, why)
    assert opened == ["slow", "fast", "fast"]
    choose(opened, sha256="b")
    assert len(opened) == 5  # other weights are measured anew
    assert len(json.loads(cache.read_text())) == 2


@pytest.mark.parametrize(("eight_ms", "best"), [(6.0, "cpu-int8"), (7.0, "cpu-bfloat16")])
def test_8_bit_is_taken_where_it_is_faster_by_far(cache: Path, eight_ms: float, best: str):
    choose([])
    held = json.loads(cache.read_text())
    paths = ("cpu-float32", "cpu-bfloat16", "cpu-int8")
    fastest(paths, lambda path: Timed(path, 1, []), 6, "a")
    (key,) = json.loads(cache.read_text()).keys() - held.keys()
    times_ms = {"cpu-float32": 30.0, "cpu-bfloat16": 10.0, "cpu-int8": eight_ms}
    cache.write_text(json.dumps({key: times_ms}))
    runner, _ = fastest(paths, lambda path: Timed(path, 1, []), 6, "a")
    assert runner.path == best


def test_one_disturbance_does_not_decide(cache: Path):
    class Disturbed(Timed):
        calls = 0

        def __call__(self, block: Tensor, factor: int) -> Tensor:
            self.calls += 1
            if self.calls == 2:  # the first that is timed
                time.sleep(1.5)
            return super().__call__(block, factor)

    kinds = {"slow": Timed, "fast": Disturbed}
    work = {"slow": 60, "fast": 1}
    runner, _ = fastest(("slow", "fast"), lambda p: kinds[p](p, work[p], []), 6, "a")
    assert runner.path == "fast"


def test_a_path_that_does_not_work_is_left_out(cache: Path, caplog: pytest.LogCaptureFixture):
    opened: list[str] = []
    broken = {"fast"}

    def open_path(path: str) -> Timed:
        if path in broken:
            raise RuntimeError("its library is broken")
        return Timed(path, 1, opened)

    def taken() -> str:
        return fastest(("slow", "fast"), open_path, 6, "a")[0].path

    assert taken() == "slow"
    assert "fast does not work here and is left out: its library is broken" in caplog.text
    caplog.clear()
    assert taken() == "slow"
    assert caplog.text == "", "which is remembered"
    broken = {"slow"}
    assert taken() == "fast"
    assert "slow works no more" in caplog.text
    broken = {"slow", "fast"}
    with pytest.raises(RuntimeError, match="library is broken"):
        taken()


@pytest.mark.parametrize("held", ["", "{", "[1]", '{"a": 3}', '{"KEY": {"fast": "x"}}', "\xff"])
def test_a_damaged_memory_is_ignored_and_written_anew(cache: Path, held: str):
    choose([])
    key = next(iter(json.loads(cache.read_text())))
    cache.write_text(held.replace("KEY", key), encoding="latin-1")
    opened: list[str] = []
    assert choose(opened)[0] == "fast"
    assert opened == ["slow", "fast"]
    assert choose(opened)[0] == "fast"
    assert opened == ["slow", "fast", "fast"]  # not measured again


def test_a_cache_that_cannot_be_written_is_no_error(cache: Path):
    cache.parent.write_text("a file in place of the folder")
    assert choose([])[0] == "fast"


def test_an_engine_says_what_it_chose_and_why(cache: Path):
    weights = checkpoint.find_sr("pico", "webcam")
    engine = Engine(weights, "cpu")
    assert engine.path in CPU_PATHS
    for path in cpu_paths(engine.facts.facts):
        assert f"{path} " in engine.description
    assert cache.exists()
    assert "(cpu-float32, as asked)" in Engine(weights, "cpu-float32").description


def test_openvino_missing_is_one_clear_line(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(__import__("sys").modules, "openvino", None)
    with pytest.raises(DeviceError, match=r"pip install 'cagface-live\[openvino\]'"):
        Engine(checkpoint.find_sr("pico", "webcam"), "openvino-int8")
