"""Engines that are slow, stuck, gone or lying: OBS goes on as without the filter, and recovers."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import pytest

from tests.obs.engines import write_token
from tests.obs.studio import PATIENCE_S, shows, until, wait_for

COLOUR, SHOWN, INVERTED = 0xFF2040C0, (192, 64, 32), (63, 191, 223)
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def coloured(studio):
    studio.add_colour("colour", COLOUR)
    return studio


def skipped_share(studio, seconds=0.7):
    """Of the frames that were due in this time, how many OBS did not make in time."""
    before = studio.stats()
    time.sleep(seconds)
    after = studio.stats()
    due = after["renderTotalFrames"] - before["renderTotalFrames"]
    assert due > 0, "OBS stands still"
    return (after["renderSkippedFrames"] - before["renderSkippedFrames"]) / due


def holds_its_rate(studio, usual):
    """Waiting for an engine would skip nearly all frames; a busy machine skips some."""
    return skipped_share(studio) <= usual + 0.4


@pytest.fixture(scope="module")
def usual(bare_obs):
    """What this machine skips without a filter."""
    return skipped_share(bare_obs)


def test_killed_and_started_again(coloured, engine, usual):
    coloured.add_filter("colour", address=engine.start().address, start_engine=False)
    wait_for(coloured, INVERTED)
    for _ in range(2):
        engine.end()
        wait_for(coloured, SHOWN)
        assert holds_its_rate(coloured, usual)
        engine.start()
        wait_for(coloured, INVERTED)


def test_stuck_and_going_on(coloured, engine, usual):
    coloured.add_filter("colour", address=engine.start().address, start_engine=False)
    wait_for(coloured, INVERTED)
    engine.signal(signal.SIGSTOP)
    wait_for(coloured, SHOWN)
    assert holds_its_rate(coloured, usual)
    before = time.monotonic()
    coloured.remove_filter("colour")
    coloured.frames(1)
    assert time.monotonic() - before < 1.0, "the filter waited for the engine"
    coloured.add_filter("colour", address=engine.address, start_engine=False)
    engine.signal(signal.SIGCONT)
    wait_for(coloured, INVERTED)


def test_slow_is_steady(coloured, engine, usual):
    """Slower than OBS, faster than the hold time: always enhanced."""
    engine.start("--delay-ms", "200")
    coloured.add_filter("colour", address=engine.address, start_engine=False)
    wait_for(coloured, INVERTED)
    assert holds_its_rate(coloured, usual)
    assert all(shows(coloured, INVERTED) for _ in range(30))


def test_slower_than_the_hold_time_is_steady_too(coloured, engine):
    """Results that come too late are not shown: no flicker between the two."""
    engine.start("--delay-ms", "400")
    coloured.add_filter("colour", address=engine.address, hold_ms=200, start_engine=False)
    until(lambda: "connected to the engine" in coloured.log(), "the connection")
    end = time.monotonic() + 1.5
    while time.monotonic() < end:
        assert shows(coloured, SHOWN)


def test_absent_changes_nothing(coloured, engine, usual):
    coloured.add_filter("colour", address=engine.address, start_engine=False)
    until(lambda: f"no engine listens at {engine.address}" in coloured.log(), "the log's line")
    assert holds_its_rate(coloured, usual)
    assert shows(coloured, SHOWN)


@pytest.mark.parametrize("lie", ["sequence", "short", "refuse-frame"])
def test_a_lie_is_never_shown(coloured, engine, lie):
    engine.start("--lie", lie)
    coloured.add_filter("colour", address=engine.address, start_engine=False)
    words = "refused by" if lie.startswith("refuse") else "lost"
    until(lambda: f"{words} the engine at {engine.address}" in coloured.log(), "the log's line")
    assert all(shows(coloured, SHOWN) for _ in range(5))
    engine.end()
    engine.start()
    wait_for(coloured, INVERTED)


def test_another_address_is_another_engine(coloured, engine):
    coloured.add_filter("colour", address="10.0.0.1:7461", start_engine=False)
    until(lambda: "not an address on this machine: 10.0.0.1:7461" in coloured.log(), "the line")
    assert shows(coloured, SHOWN)
    coloured.set_filter("colour", address=engine.start().address)
    wait_for(coloured, INVERTED)


def test_a_new_token_is_read(coloured, engine):
    """The engine made one anew while OBS runs."""
    coloured.add_filter("colour", address=engine.start().address, start_engine=False)
    wait_for(coloured, INVERTED)
    engine.end()
    write_token(coloured.data)
    engine.start()
    wait_for(coloured, INVERTED)


def test_the_filter_starts_the_engine(coloured, engine, tmp_path):
    command = tmp_path / "cagface"
    command.write_text(
        f"#!/bin/sh\necho $$ >> '{tmp_path}/pid'\nexport PYTHONPATH='{ROOT}'\n"
        f"exec '{sys.executable}' -m tests.obs.engines \"$@\"\n"
    )
    command.chmod(0o755)
    installed = coloured.data / "cagface-live" / "obs-engine"
    installed.write_text(f"{command}\n")
    try:
        coloured.add_filter("colour", address=engine.address)
        until(lambda: shows(coloured, INVERTED), "the started engine's picture", PATIENCE_S)
    finally:
        installed.unlink()
        pids = (tmp_path / "pid").read_text().split()
        for pid in pids:
            engine_of(int(pid))
    assert len(pids) == 1


def engine_of(pid):
    """End one that the filter started."""
    os.kill(pid, signal.SIGKILL)
    until(lambda: not Path(f"/proc/{pid}/fd/0").exists(), "the engine to be gone")
