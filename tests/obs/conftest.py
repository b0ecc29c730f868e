"""The filter built once, and OBS started once for each module of tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.obs.engines import write_token
from tests.obs.processes import SOURCES, EngineProcess, build_plugin, missing
from tests.obs.studio import Screen, Studio


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark all tests here ``obs``."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.obs)


@pytest.fixture(scope="session")
def sources() -> Path:
    """The filter's folder in the repository."""
    return SOURCES


@pytest.fixture(scope="session")
def plugin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The plugin's folder as OBS has it, freshly built; a warning of the compiler is an error."""
    if reason := missing("cmake", "cc", "pkg-config"):
        pytest.skip(reason)
    return build_plugin(tmp_path_factory.mktemp("plugin"))


@pytest.fixture(scope="session")
def screen() -> Iterator[Screen]:
    """An X server; skips without OBS."""
    if reason := missing("obs", "Xvfb", headers=False):
        pytest.skip(reason)
    screen = Screen()
    yield screen
    screen.close()


@pytest.fixture(scope="module")
def bare_obs(
    plugin: Path, screen: Screen, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Studio]:
    """OBS as the tests of a module share it; a test asks for ``studio``."""
    studio = Studio(tmp_path_factory.mktemp("obs"), screen, plugin)
    write_token(studio.data)
    yield studio
    studio.close()


@pytest.fixture
def studio(bare_obs: Studio) -> Iterator[Studio]:
    """A running OBS with an empty scene, the filter in it, and a token."""
    yield bare_obs
    bare_obs.clear()


@pytest.fixture
def engine(studio: Studio) -> Iterator[EngineProcess]:
    """An engine that is not started yet."""
    engine = EngineProcess(studio.data)
    yield engine
    engine.end()
