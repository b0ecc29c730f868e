"""Filters added and removed by the hundred, several at once, kept in the scene collection."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.obs.engines import write_token
from tests.obs.processes import EngineProcess
from tests.obs.studio import FILTER, Studio, shows, until, wait_for

COLOUR, SHOWN, INVERTED = 0xFF2040C0, (192, 64, 32), (63, 191, 223)
CYCLES = 200


def threads(studio):
    return len(list(Path(f"/proc/{studio.process.pid}/task").iterdir()))


def files(studio):
    return len(list(Path(f"/proc/{studio.process.pid}/fd").iterdir()))


def test_two_hundred_times_added_and_removed(studio, engine):
    studio.add_colour("colour", COLOUR)
    studio.add_filter("colour", address=engine.start().address, start_engine=False)
    wait_for(studio, INVERTED)
    studio.remove_filter("colour")
    studio.frames(5)
    before = threads(studio), files(studio)
    for number in range(CYCLES):
        studio.add_filter("colour", address=engine.address, scale=(1, 2, 4)[number % 3])
        if number % 20 == 0:
            wait_for(studio, INVERTED)
        studio.remove_filter("colour")
    until(lambda: threads(studio) <= before[0], "every worker to be gone")
    until(lambda: files(studio) <= before[1] + 2, "every socket to be closed")
    assert shows(studio, SHOWN)


def test_two_filters_on_one_source(studio, engine):
    """Inverted twice, and the size is four times the source's in all."""
    item = studio.add_colour("colour", COLOUR, 160, 120)
    studio.place(item, boundsType="OBS_BOUNDS_STRETCH", boundsWidth=640.0, boundsHeight=480.0)
    engine.start()
    for name in ("first", "second"):
        studio.add_filter("colour", name, address=engine.address, scale=2, start_engine=False)
    until(lambda: studio.size(item) == (640, 480), "the size")
    assert until(lambda: connections(studio, engine) == 2, "both connections")
    studio.remove_filter("colour", "second")
    wait_for(studio, INVERTED)
    studio.add_filter("colour", "second", address=engine.address, scale=2, start_engine=False)
    wait_for(studio, SHOWN)


def connections(studio, engine):
    return studio.log().count(f"connected to the engine at {engine.address}")


def test_a_filter_on_each_of_three_sources(studio, engine):
    engine.start()
    colours = {"a": 0xFF0000FF, "b": 0xFF00FF00, "c": 0xFFFF0000}
    for number, (name, colour) in enumerate(colours.items()):
        item = studio.add_colour(name, colour, 200, 480)
        studio.place(item, positionX=200.0 * number, positionY=0.0)
        studio.add_filter(name, address=engine.address, start_engine=False)

    def all_inverted():
        row = studio.picture()[240].astype(int)
        wanted = {100: (0, 255, 255), 300: (255, 0, 255), 500: (255, 255, 0)}
        return all(abs(row[x] - rgb).max() <= 4 for x, rgb in wanted.items())

    until(all_inverted, "three inverted sources")


def test_a_filter_on_a_scene(studio, engine):
    studio.add_colour("colour", COLOUR)
    studio.add_filter("Scene", address=engine.start().address, start_engine=False)
    try:
        wait_for(studio, INVERTED)
    finally:
        studio.remove_filter("Scene")


def test_its_dialog_lives_with_it(studio, engine):
    """Open while the engine comes, goes and is waited for, and when the filter is removed."""
    studio.add_colour("colour", COLOUR)
    studio.add_filter("colour", address=engine.address, start_engine=False)
    studio.ask("OpenInputFiltersDialog", inputName="colour")
    for _ in range(2):
        engine.start()
        wait_for(studio, INVERTED)
        studio.frames(70)  # the status line is made anew after 2 s
        engine.end()
        wait_for(studio, SHOWN)
    studio.remove_filter("colour")
    studio.frames(10)
    assert studio.process.poll() is None


@pytest.fixture
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("own")


def test_settings_are_kept_and_obs_ends_well(plugin, screen, folder):
    """There again with the scene collection; OBS ends with 0, and leaks what it does alone."""
    studio = Studio(folder, screen, plugin)
    try:
        write_token(studio.data)
        engine = EngineProcess(studio.data)
        kept = {
            "address": engine.address, "preset": "nano", "strength": 0.25, "scale": 2, "faces": 1,
            "split_percent": 10, "hold_ms": 900, "start_engine": False,
        }  # fmt: skip
        studio.add_colour("colour", COLOUR)
        studio.add_filter("colour", **kept)
        leave_and_come_back(studio)
        found = until(lambda: filters(studio), "the filter to be there again")
        assert found[0]["filterKind"] == FILTER
        assert found[0]["filterSettings"] == kept
        engine.start()
        wait_for(studio, INVERTED)
    finally:
        code = studio.close()
        engine.end()
    assert code == 0
    assert leaks(studio) <= leaks_alone(screen, folder / "alone")


def leave_and_come_back(studio):
    studio.ask("CreateSceneCollection", sceneCollectionName="Other")
    studio.ask("SetCurrentSceneCollection", sceneCollectionName="Test")


def filters(studio):
    inputs = [item["inputName"] for item in studio.ask("GetInputList")["inputs"]]
    if "colour" not in inputs:
        return None
    return studio.ask("GetSourceFilterList", sourceName="colour")["filters"] or None


def leaks(studio):
    line = next(line for line in studio.log().splitlines() if "Number of memory leaks" in line)
    return int(line.rsplit(":", 1)[1])


def leaks_alone(screen, folder):
    alone = Studio(folder, screen, None)
    leave_and_come_back(alone)
    alone.close()
    return leaks(alone)
