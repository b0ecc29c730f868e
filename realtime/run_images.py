"""Pictures go in, one or a folder of them; enlarged pictures with enhanced faces come out."""

from __future__ import annotations

import glob
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, TypeVar

from cagface_core import CagfaceError, Frame, Image, InputError, OutputError
from realtime.images import (
    SUFFIXES,
    check_picture_suffix,
    enlarge_alpha,
    only_read,
    read_picture,
    write_picture,
)
from realtime.loop import Resettable
from realtime.partial_file import check_distinct, check_output
from realtime.run import RunEnhancer

StateT = TypeVar("StateT", bound=Resettable)


class PictureEnhancer(RunEnhancer[StateT], Protocol[StateT]):
    """An enhancer that also takes pictures which are face crops already."""

    def enhance_aligned(self, rgb: Image) -> Image:
        """(H, W, 3) to (4*H, 4*W, 3): the whole picture through the network."""
        ...


@dataclass(frozen=True, slots=True)
class ImageJob:
    """Enhance pictures by ``scale`` (1, 2 or 4).

    ``sources`` are pictures, folders of them and patterns such as ``*.jpg``; ``output`` is a file
    for one picture, else a folder.

    With ``aligned`` no face is looked for: the whole picture goes through the network, and
    ``scale`` is 4.
    """

    sources: Sequence[Path]
    output: Path
    scale: int = 4
    aligned: bool = False
    overwrite: bool = False


@dataclass(frozen=True, slots=True)
class ImageResult:
    """What became of one picture: sizes as (width, height) in pixels, or ``error``."""

    source: Path
    output: Path
    size_in: tuple[int, int] | None = None
    size_out: tuple[int, int] | None = None
    faces: int = 0
    enhance_ms: float = 0.0
    notes: tuple[str, ...] = ()
    error: str | None = None


def plan_images(job: ImageJob) -> list[tuple[Path, Path]]:
    """The pictures to read and the files to make.

    Raises:
        InputError: nothing to read.
        OutputError: the place does not work; nothing has been done yet.
    """
    # One that is named twice, by two patterns, is one.
    pictures = list(dict.fromkeys(p for source in job.sources for p in _pictures(source)))
    if not _into_folder(job):
        check_picture_suffix(job.output)
        _refuse_same(job.output, pictures[0])
        check_output(job.output, overwrite=job.overwrite)
        return [(pictures[0], job.output)]
    if job.output.exists() and not job.output.is_dir():
        raise OutputError(f"{job.output} is a file, expected a folder for the results")
    if not job.output.exists() and job.output.suffix.lower() in SUFFIXES:
        raise OutputError(f"{job.output}: expected a folder for {len(pictures)} pictures")
    if not job.output.parent.is_dir():
        raise OutputError(f"{job.output}: the folder {job.output.parent} does not exist")
    taken = {path.name for path in pictures}
    planned = [(path, job.output / _name(path, taken)) for path in pictures]
    for path, output in planned:
        _refuse_same(output, path)
    check_distinct(planned, "pictures")
    return planned


def _name(picture: Path, taken: set[str]) -> str:
    """What a picture's result is called in a folder: PNG where its kind is only read."""
    if picture.suffix.lower() in SUFFIXES:
        return picture.name
    name = picture.with_suffix(".png").name
    return f"{picture.name}.png" if name in taken else name


def _into_folder(job: ImageJob) -> bool:
    first = job.sources[0]
    pattern = not first.exists() and glob.has_magic(str(first))
    return len(job.sources) > 1 or first.is_dir() or pattern or job.output.is_dir()


def _pictures(source: Path) -> list[Path]:
    """What a name on a command line stands for: a file, a folder's pictures, a pattern's."""
    if source.is_dir():
        known = *SUFFIXES, *only_read()
        found = [p for p in source.iterdir() if p.suffix.lower() in known]
        pictures = sorted(p for p in found if p.is_file() and not p.name.startswith("."))
        if not pictures:
            raise InputError(f"{source} holds no pictures; expected {', '.join(known)}")
        return pictures
    if source.exists():
        return [source]
    # Path.glob takes no absolute pattern.
    matches = sorted(Path(name) for name in glob.glob(str(source)))  # noqa: PTH207
    if not (files := [path for path in matches if path.is_file()]):
        raise InputError(f"{source}: no such file or folder; check the name")
    return files


def run_images(
    job: ImageJob, make_enhancer: Callable[[], PictureEnhancer[StateT]]
) -> Iterator[ImageResult]:
    """Enhance picture after picture; one result each, also for those that fail.

    Args:
        job: what to do.
        make_enhancer: loads the network; called once input and output are known to work.

    Raises:
        CagfaceError: nothing can be done at all; no file or folder is left behind.
    """
    plan = plan_images(job)
    with closing(make_enhancer()) as enhancer:
        made_folder = _into_folder(job) and not job.output.exists()
        if made_folder:
            try:
                job.output.mkdir()
            except OSError as error:
                raise OutputError(
                    f"{job.output}: the folder cannot be made ({error.strerror})"
                ) from error
        try:
            for source, output in plan:
                try:
                    yield _enhance_one(job, enhancer, source, output)
                except CagfaceError as error:
                    yield ImageResult(source, output, error=str(error))
        finally:
            if made_folder and not any(job.output.iterdir()):
                job.output.rmdir()


def _enhance_one(
    job: ImageJob, enhancer: PictureEnhancer[StateT], source: Path, output: Path
) -> ImageResult:
    picture = read_picture(source)
    started_s = time.perf_counter()
    faces = 0
    if job.aligned:
        rgb = enhancer.enhance_aligned(picture.rgb)
    else:
        enhanced = enhancer.enhance(Frame(picture.rgb), enhancer.new_state())
        rgb, faces = enhanced.rgb, len(enhanced.faces)
    elapsed_ms = 1000 * (time.perf_counter() - started_s)
    scale = rgb.shape[0] // picture.rgb.shape[0]
    alpha = None if picture.alpha is None else enlarge_alpha(picture.alpha, scale)
    lost = write_picture(replace(picture, rgb=rgb, alpha=alpha), output, overwrite=job.overwrite)
    return ImageResult(
        source,
        output,
        size_in=(picture.rgb.shape[1], picture.rgb.shape[0]),
        size_out=(rgb.shape[1], rgb.shape[0]),
        faces=faces,
        enhance_ms=elapsed_ms,
        notes=picture.notes + lost,
    )


def _refuse_same(output: Path, source: Path) -> None:
    if output.exists() and output.samefile(source):
        raise OutputError(f"{output} is the input itself; choose another name")
