"""The repository in; whether what its README, its licences and its clip say of it is true, out."""

from __future__ import annotations

import re
import tomllib
from itertools import pairwise

import av
import pytest


def _house(repository):
    """The README's picture: the folder a line stands in, and the names on the line."""
    text = (repository / "README.md").read_text(encoding="utf-8")
    picture = text[text.index("\n## The house") :].split("```")[3]
    named, room = set(), ""
    for line in picture.strip().splitlines():
        inside = line.startswith("  ")
        names = re.match(r"\s*((?:[\w./]+(?:\.py|/) ?)+)", line)
        for name in names[1].split() if names else []:
            named.add(f"{room}{name}" if inside else name)
            room = room if inside else name
    return named


def test_the_readme_names_what_exists(repository):
    named = _house(repository)
    assert len(named) > 30
    assert {name for name in named if not (repository / name).exists()} == set()


def test_the_readme_leaves_no_module_out(repository):
    modules = {
        str(path.relative_to(repository))
        for package in ("cagface_core", "realtime")
        for path in (repository / package).glob("*.py")
        if path.name != "__init__.py"
    }
    assert modules - _house(repository) == set()


@pytest.mark.parametrize("package", ["opencv-python", "opencv-contrib-python"])
def test_both_opencvs_are_pinned_to_one_version(repository, package):
    lines = (repository / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = dict(line.split("==") for line in lines if "==" in line and not line.startswith("#"))
    assert pins[package] == pins["opencv-contrib-python"]


def test_every_dependency_is_pinned(repository):
    project = tomllib.loads((repository / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = project["dependencies"] + project["optional-dependencies"]["dev"]
    names = {re.match(r"[\w.-]+", line)[0] for line in wanted}
    lines = (repository / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = {line.split("==")[0].lower() for line in lines if not line.startswith("#")}
    assert names - pinned == set()


def test_the_demo_clip_is_what_it_is_said_to_be(demo_clip):
    assert demo_clip.stat().st_size < 600_000
    with av.open(str(demo_clip)) as clip:
        video, audio = clip.streams.video[0], clip.streams.audio[0]
        assert (video.width, video.height, video.average_rate) == (320, 240, 25)
        assert (video.codec_context.name, audio.codec_context.name) == ("h264", "aac")
        frames = list(clip.decode(video=0))
    assert len(frames) == 150
    assert all(later.pts - earlier.pts == frames[1].pts for earlier, later in pairwise(frames))
    with av.open(str(demo_clip)) as clip:
        loudest = max(abs(part.to_ndarray()).max() for part in clip.decode(audio=0))
    assert 0.2 < loudest < 0.99
