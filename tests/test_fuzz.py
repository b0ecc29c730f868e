"""A few damaged files of every kind; tools/fuzz.py runs thousands."""

import subprocess
import sys

import pytest

from tools import fuzz


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits memory the Linux way")
@pytest.mark.parametrize("seed", ["7", "8"])
def test_damaged_files_end_in_one_line_or_in_a_whole_result(tmp_path, repository, seed):
    # In a process of its own, as it forks, which one with threads should not.
    program = [sys.executable, str(repository / "tools" / "fuzz.py"), "--cases", "40"]
    run = subprocess.run(
        [*program, "--seed", seed, "--out", str(tmp_path / "kept")],
        capture_output=True, text=True, timeout=280, check=False,
    )  # fmt: skip
    assert run.stdout.endswith("40 cases, 0 did not pass\n"), run.stdout + run.stderr
    assert run.returncode == 0


def test_a_case_that_fails_is_told(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(fuzz, "run_case", lambda _path, _limits: "ended by SIGSEGV")
    monkeypatch.setattr(sys, "argv", ["fuzz", "--cases", "2", "--out", str(tmp_path / "kept")])
    assert fuzz.main() == 1
    assert "2: ended by SIGSEGV" in capsys.readouterr().out
    assert len(list((tmp_path / "kept").iterdir())) == 2
