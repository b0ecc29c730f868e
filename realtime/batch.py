"""Names on a command line in: files, folders, patterns; which video becomes which file, out."""

from __future__ import annotations

import glob
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cagface_core import InputError, OutputError
from realtime.encoders import SUFFIXES
from realtime.partial_file import check_distinct
from realtime.stats import Summary

_VIDEOS = (
    *SUFFIXES, ".avi", ".ts", ".m2ts", ".mts", ".mpg", ".mpeg", ".wmv", ".flv", ".3gp", ".ogv",
    ".vob", ".mxf", ".asf", ".divx", ".dv", ".mod", ".tod", ".qt", ".3g2", ".m2v", ".f4v",
)  # fmt: skip
"""What is taken for a video in a folder; a file that is named is taken whatever its suffix."""


@dataclass(frozen=True, slots=True)
class Planned:
    """One video and the file to make of it."""

    source: Path
    output: Path


@dataclass(frozen=True, slots=True)
class VideoResult:
    """What became of one video: a summary, or ``error``; neither where it was there already."""

    planned: Planned
    summary: Summary | None = None
    error: str | None = None


def plan_videos(
    sources: Sequence[str], output: Path, *, recursive: bool = False, suffix: str | None = None
) -> list[Planned]:
    """Decide what is made of what.

    Args:
        sources: files, folders, patterns such as ``clips/*.mp4``.
        output: a file for one file, else a folder.
        recursive: take the videos in folders within folders too, into such folders; but those in
            ``output`` are results.
        suffix: of the files in an output folder; None is the source's, ``.mkv`` where that kind
            of file cannot be written.

    Raises:
        InputError: a source is not there, or a folder or pattern holds no video.
        OutputError: several videos, but one file for them, or two with one name.
    """
    several = len(sources) > 1 or Path(sources[0]).is_dir()
    found: list[tuple[Path, Path]] = []
    for source in sources:
        if Path(source).exists():
            found += _in_place(Path(source), output, recursive=recursive)
        elif glob.has_magic(source):
            several = True
            # Path.glob takes no absolute pattern.
            names = glob.glob(source, recursive=recursive)  # noqa: PTH207
            matches = sorted(Path(name) for name in names)
            taken = [
                pair for path in matches for pair in _in_place(path, output, recursive=recursive)
            ]
            if not taken:
                raise InputError(f"{source}: no video has such a name; check the pattern")
            found += taken
        else:
            raise InputError(f"{source}: no such file; check the name")
    if not several and not output.is_dir():
        return [Planned(found[0][0], output)]
    if output.exists() and not output.is_dir():
        raise OutputError(f"{output} is a file, expected a folder for {len(found)} videos")
    if not output.exists() and output.suffix.lower() in SUFFIXES:
        raise OutputError(f"{output}: expected a folder for {len(found)} videos, not a file")
    planned = [
        Planned(path, output / within.with_suffix(suffix or _written_as(path)))
        for path, within in found
    ]
    check_distinct([(item.source, item.output) for item in planned], "videos")
    return planned


def _in_place(path: Path, output: Path, *, recursive: bool) -> list[tuple[Path, Path]]:
    """The videos at a path, each with its place below an output folder."""
    if not path.is_dir():
        if not path.is_file():
            raise InputError(
                f"{path} is a pipe or a device, and a video is read several times; write it to a "
                "file first"
            )
        return [(path, Path(path.name))]
    inside = path.rglob("*") if recursive else path.iterdir()
    base, made = path.resolve(), output.resolve()
    videos = sorted(
        item
        for item in inside
        if item.suffix.lower() in _VIDEOS
        and item.is_file()
        and not any(part.startswith(".") for part in item.relative_to(path).parts)
        and (made == base or not (base / item.relative_to(path)).is_relative_to(made))
    )
    if not videos:
        more = "" if recursive else "; --recursive looks into the folders within"
        raise InputError(f"{path} holds no videos{more}")
    return [(item, item.relative_to(path)) for item in videos]


def _written_as(source: Path) -> str:
    suffix = source.suffix.lower()
    return suffix if suffix in SUFFIXES else ".mkv"
