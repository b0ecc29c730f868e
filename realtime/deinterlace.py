"""Decoded frames come in here; those of two interlaced fields go out whole, at the same times."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction

import av
import av.error
from av.filter import Graph

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Deinterlacer:
    """FFmpeg's bwdif, one frame for two fields, put to work at the first interlaced frame.

    Frames that are progressive pass it unchanged. ``name`` is the video's, for people.
    """

    name: str
    time_base: Fraction
    aspect: Fraction
    _told: bool = False

    def frames(self, decoded: Iterable[av.VideoFrame]) -> Iterator[av.VideoFrame]:
        """All frames, in order, with the times they came with."""
        graph: Graph | None = None
        kind: tuple[object, ...] = ()
        for frame in decoded:
            if graph is not None and _kind(frame) != kind:
                yield from self._flush(graph)
                graph = None
            if graph is None:
                if not frame.interlaced_frame:
                    yield frame
                    continue
                self._tell()
                graph, kind = self._graph(frame), _kind(frame)
            graph.vpush(frame)
            yield from self._ready(graph)
        if graph is not None:
            yield from self._flush(graph)

    def _tell(self) -> None:
        if not self._told:
            self._told = True
            _log.warning("%s: interlaced; each two fields become one whole frame", self.name)

    def _graph(self, frame: av.VideoFrame) -> Graph:
        graph = Graph()
        source = graph.add(
            "buffer",
            f"video_size={frame.width}x{frame.height}:pix_fmt={frame.format.name}:"
            f"time_base={self.time_base}:pixel_aspect={self.aspect}:"
            f"colorspace={int(frame.colorspace)}:range={int(frame.color_range)}",
        )
        bwdif = graph.add("bwdif", "mode=send_frame:deint=interlaced")
        graph.link_nodes(source, bwdif, graph.add("buffersink")).configure()
        return graph

    def _flush(self, graph: Graph) -> Iterator[av.VideoFrame]:
        graph.vpush(None)
        yield from self._ready(graph)

    def _ready(self, graph: Graph) -> Iterator[av.VideoFrame]:
        while True:
            try:
                frame = graph.vpull()
            except (av.error.BlockingIOError, av.error.EOFError):
                return
            if frame.pts is not None and frame.time_base is not None:
                # It counts in half units, to have a place between two frames.
                frame.pts = round(frame.pts * frame.time_base / self.time_base)
                frame.time_base = self.time_base
            yield frame


def _kind(frame: av.VideoFrame) -> tuple[object, ...]:
    return frame.width, frame.height, frame.format.name
