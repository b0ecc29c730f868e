"""The newest picture of a run goes out to browsers here, as JPEG, before and after."""

from __future__ import annotations

import asyncio
import json
import struct
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from cagface_core import Image
from realtime.monitor import Monitor, Shown

_WAIT_S = 0.25
"""How long the thread waits for a picture before it looks whether it is still wanted."""

_QUALITY = 82


@dataclass(frozen=True, slots=True)
class Picture:
    """One picture as a browser gets it; `pack` says how ``message`` is laid out."""

    number: int
    message: bytes


class Pictures:
    """Encodes only what a browser waits for, once for all of them, in a thread of its own.

    Args:
        monitor: where the pictures come from.
        max_hz: at most so many pictures a second.
        max_width_px: wider ones are shrunk to this.
    """

    def __init__(self, monitor: Monitor, max_hz: float = 15.0, max_width_px: int = 960) -> None:
        self._monitor = monitor
        self._interval_s = 1 / max_hz
        self._max_width_px = max_width_px
        self._thread = ThreadPoolExecutor(1, "panel-pictures")
        self._closing = threading.Event()
        self._next_s = 0.0
        self._newest: Picture | None = None
        self._work: asyncio.Future[None] | None = None

    async def newer(self, number: int) -> Picture:
        """Wait for the newest picture after ``number``; called in the server's event loop.

        Who asks late gets the newest one then, and never learns of those between; nor gets the one
        that is being encoded for another, if a newer one is there already.
        """
        shown = self._monitor.newest
        least = max(number + 1, shown.number if shown is not None else 0)
        while True:
            if self._newest is not None and self._newest.number >= least:
                return self._newest
            if self._work is None or self._work.done():
                loop = asyncio.get_running_loop()
                self._work = loop.run_in_executor(self._thread, self._encode_next)
            await asyncio.shield(self._work)  # a browser that leaves does not end it for others

    async def close(self) -> None:
        """End the thread, as the last thing that the event loop does."""
        self._closing.set()
        if self._work is not None:
            await asyncio.wait([self._work])
        self._thread.shutdown()

    def _encode_next(self) -> None:
        if self._closing.wait(max(0.0, self._next_s - time.monotonic())):
            return
        number = self._newest.number if self._newest else 0
        shown = self._monitor.wait_for_newer(number, _WAIT_S)
        if shown is not None:
            self._next_s = time.monotonic() + self._interval_s
            self._newest = Picture(shown.number, pack(shown, self._max_width_px))


def pack(shown: Shown, max_width_px: int) -> bytes:
    """One delivered picture as a binary message.

    Returns:
        The length of a JSON header (4 bytes, big-endian), the header, the picture before and the
        picture after, both JPEG. The header has ``number``, ``width`` and ``height`` of the frame
        as captured, in pixels, the length ``before`` of the first JPEG in bytes, and ``faces``.
    """
    before = _jpeg(shown.frame.rgb, max_width_px)
    after = _jpeg(shown.after, max_width_px)
    height, width = shown.frame.rgb.shape[:2]
    header = json.dumps(
        {
            "number": shown.number,
            "width": width,
            "height": height,
            "before": len(before),
            "faces": faces_of(shown),
        }
    ).encode()
    return b"".join((struct.pack(">I", len(header)), header, before, after))


def faces_of(shown: Shown) -> list[Mapping[str, Any]]:
    """The faces of a picture: ``id``, ``box`` (left, top, width, height; 1 is the whole picture).

    ``outcome`` says what became of it, see `cagface_core.Outcome`.
    """
    height, width = shown.frame.rgb.shape[:2]
    outcomes = dict(zip(shown.enhanced.faces, shown.enhanced.outcomes, strict=False))
    return [
        {
            "id": face.id,
            "box": [
                round(part, 4)
                for part in (face.x / width, face.y / height, face.w / width, face.h / height)
            ],
            "outcome": outcomes.get(face, "enhanced"),
        }
        for face in shown.enhanced.faces
    ]


def _jpeg(rgb: Image, max_width_px: int) -> bytes:
    height, width = rgb.shape[:2]
    if width > max_width_px:
        size = (max_width_px, max(1, round(height * max_width_px / width)))
        rgb = np.asarray(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
    bgr = cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR)
    _, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    return data.tobytes()
