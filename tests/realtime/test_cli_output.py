"""A standard output that takes nothing more: no traceback, and no success that was none."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

COMMAND = [sys.executable, "-c", "from realtime.cli import main; raise SystemExit(main())"]


def test_a_reader_that_has_gone_is_no_traceback():
    read, write = os.pipe()
    os.close(read)
    ended = subprocess.run(
        [*COMMAND, "completion", "bash"],
        stdout=write,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
    )
    os.close(write)
    assert (ended.returncode, ended.stderr) == (141, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a disk that is always full")
@pytest.mark.parametrize("words", [["completion", "bash"], ["config"]])
def test_a_full_disk_behind_it_is_one_line(words: list[str]):
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        ended = subprocess.run(
            [*COMMAND, *words], stdout=full, stderr=subprocess.PIPE, text=True, timeout=60
        )
    assert ended.returncode != 0
    assert ended.stderr.splitlines()[0] == "error: the output: No space left on device"
    assert "Traceback" not in ended.stderr
