"""A job in; what would be made, and by a trial on some frames how long and how large, out."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import av
from av.container import InputContainer
from rich.filesize import decimal

from cagface_core import Frame
from realtime.ahead import AheadSource
from realtime.encoders import losses
from realtime.loop import LoopOptions, Resettable, run_loop
from realtime.piece_file import PieceFile
from realtime.piece_maker import composed, finder_of
from realtime.process import in_own_thread, keep_memory, leave_a_core
from realtime.run_video import VideoJob, output_size
from realtime.source import SourceInfo
from realtime.stats import Stats
from realtime.video_in import VideoSource
from realtime.video_out import rehearse

if TYPE_CHECKING:
    from realtime.run import RunEnhancer

_TRIED = 48
"""Frames that are made for the estimate, a tenth of the film from its beginning."""

_WARM_UP = 0.25
"""The first of them do not count, this share: tables and buffers are made."""

StateT = TypeVar("StateT", bound=Resettable)


class _Part:
    """Some frames of a film, as a film of their own."""

    def __init__(self, film: VideoSource, first: int, count: int) -> None:
        self.info = film.info
        self._film, self._at, self._count = film, first, count

    def frames(self, first: int = 0) -> Iterator[Frame]:
        return islice(self._film.frames(self._at + first), self._count - first)

    def close(self) -> None:
        self._film.close()


class _Trial:
    """Encodes what it is given into a file that nobody keeps."""

    description = "a trial"

    def __init__(self, piece: PieceFile) -> None:
        self._piece = piece
        self.times_s: list[float] = []

    def write(self, frame: Frame) -> None:
        assert frame.planes is not None
        self._piece.write(frame.planes, frame.pts, frame.time_base)
        self.times_s.append(time.perf_counter())

    def finish(self) -> None:
        self._piece.finish()

    def close(self) -> None:
        """Let go of the file, also where it was broken off."""
        self._piece.discard()


def plan_of(job: VideoJob, make_enhancer: Callable[[], RunEnhancer[StateT]]) -> list[str]:
    """What ``job`` would do, in lines for people.

    Raises:
        CagfaceError: it would fail before it began.
    """
    with ExitStack() as stack:
        film = stack.enter_context(closing(VideoSource(job.source, planes=True)))
        info = film.info
        width, height = output_size(job, info)
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="cagface-")))
        chosen = rehearse(
            job.output, job.encode, info, (width, height), folder, job.source, audio=job.audio
        )
        with av.open(f"file:{job.source}") as container:
            beside = _beside(container, audio=job.audio)
        lost = losses(info.pix_fmt, chosen.pix_fmt)
        keep_memory()
        leave_a_core()
        count = info.frame_count
        first = (count or 0) // 10 if (count or 0) > 2 * _TRIED else 0
        enhancer = stack.enter_context(closing(in_own_thread(make_enhancer)))
        path = folder / "piece.mkv"
        sink = _Trial(PieceFile(path, chosen, info, (width, height)))
        stack.enter_context(closing(sink))
        stats = Stats()
        part = _Part(film, first, _TRIED)
        run_loop(
            AheadSource(part, lambda: finder_of(enhancer), stats), enhancer, sink,
            LoopOptions(scale=job.scale), stats,
            compose=composed(job.scale, None, compare=job.compare),
        )  # fmt: skip
        sink.finish()
        size = path.stat().st_size / max(1, len(sink.times_s))
    tried = len(sink.times_s)
    counted = sink.times_s[round(_WARM_UP * tried) :]
    rate_hz = (len(counted) - 1) / (counted[-1] - counted[0]) if len(counted) > 1 else 0.0
    lines = [
        f"in    {job.source}: {_shown(info)}",
        f"out   {job.output}: {width}x{height}, {chosen.codec} {chosen.pix_fmt}, "
        + ", ".join(f"{key} {value}" for key, value in chosen.options.items() if value),
        f"with  {enhancer.description}",
        f"holds {beside}",
    ]
    if lost:
        lines.append(f"lost  {', '.join(lost)}")
    if count and rate_hz:
        lines.append(
            f"about {_time(count / rate_hz)} at {rate_hz:.1f} fps, {decimal(round(count * size))} "
            f"without sound, by {tried} frames of it"
        )
    return lines


def _shown(info: SourceInfo) -> str:
    rate = f" at {float(info.rate):.2f} fps" if info.rate else ""
    count = f", {info.frame_count} frames" if info.frame_count else ""
    return f"{info.width}x{info.height}{rate}{count}, {info.pix_fmt}"


def _beside(container: InputContainer, *, audio: bool) -> str:
    """What the file holds besides its pictures, and is asked for."""
    counts: dict[str, int] = {}
    for stream in container.streams:
        if stream.type not in ("video", "data") and (audio or stream.type != "audio"):
            counts[stream.type] = counts.get(stream.type, 0) + 1
    chapters: list[Any] = container.chapters()
    if chapters:
        counts["chapters"] = len(chapters)
    return ", ".join(f"{count} {kind}" for kind, count in counts.items()) or "nothing else is in it"


def _time(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
