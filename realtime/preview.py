"""Enhanced frames go out to a window here, whose keys and mouse steer the run."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import cv2

from cagface_core import CagfaceError, DeviceError, Frame
from realtime import snapshot
from realtime.environment import display_answers
from realtime.preview_draw import notice, render
from realtime.preview_view import Command, Compare, View, face_at, place, press, split_at, toggle
from realtime.sink import EndOfDelivery

if TYPE_CHECKING:
    from realtime.handles import Live
    from realtime.monitor import Shown

_log = logging.getLogger(__name__)

_TITLE = "CAGFace Live"
_NO_KEY, _LAST_LETTER = -1, 0x7F
_FIRST_PAINT_MS = 50
_LARGEST_PX, _SMALLEST_PX = 1280, 640
"""Across, of the window as it opens; the user makes it any size."""
_SMALLEST_CANVAS_PX = 160
_FIGURES_EVERY_S = 0.5
_NOTE_S = 2.5
_FIRST_NOTE_S = 6.0


class PreviewSink:
    """A window that shows what is delivered, before and after; `HELP` lists its keys.

    It draws at the window's own size. Everything belongs to the thread that delivers; files are
    written by a thread beside it.

    Args:
        folder: where snapshots and recordings go.
        clock: seconds, for notes and figures.

    Raises:
        DeviceError: there is no screen, or this OpenCV was built without windows.
    """

    description = "preview window (h lists its keys, q ends)"

    def __init__(self, folder: Path, clock: Callable[[], float] = time.monotonic) -> None:
        # Qt ends the whole process when it finds no display, so it must not be asked.
        display = os.environ.get("DISPLAY")
        if sys.platform.startswith("linux") and not (display and display_answers(display)):
            what = f"DISPLAY={display} does not answer" if display else "DISPLAY is not set"
            raise DeviceError(
                f"no screen for --preview ({what}); run it in a desktop session, "
                "or leave --preview out"
            )
        try:
            # The bare window: Qt's toolbar and context menu would take keys and clicks.
            cv2.namedWindow(
                _TITLE, cv2.WINDOW_NORMAL | cv2.WINDOW_FREERATIO | cv2.WINDOW_GUI_NORMAL
            )
        except cv2.error as error:
            raise DeviceError(
                "this OpenCV has no windows for --preview (a headless build); install "
                "opencv-contrib-python instead of the headless package, or leave --preview out"
            ) from error
        self._folder, self._clock = folder, clock
        self._live: Live | None = None
        self._view = View()
        self._mouse: tuple[int, int] | None = None
        self._clicks: list[tuple[int, int]] = []
        self._canvas: tuple[int, int] | None = None
        self._figures: tuple[str, ...] = ()
        self._figures_due_s = 0.0
        self._note, self._note_until_s = "h: help    c: before and after", clock() + _FIRST_NOTE_S
        self._beside = ThreadPoolExecutor(1, "preview files")
        self._open = True
        cv2.setMouseCallback(_TITLE, self._on_mouse)
        # The network takes seconds to load; an empty window looks broken.
        cv2.imshow(_TITLE, notice(("starting ...",), (_SMALLEST_PX, _SMALLEST_PX * 3 // 4)))
        cv2.resizeWindow(_TITLE, _SMALLEST_PX, _SMALLEST_PX * 3 // 4)
        cv2.waitKey(_FIRST_PAINT_MS)

    def attach(self, live: Live) -> None:
        """Show and steer this run; before the first frame."""
        self._live = live

    def write(self, frame: Frame) -> None:
        """Show what is newest. Raises `EndOfDelivery` when the user has ended the preview."""
        shown = self._live.monitor.newest if self._live is not None else None
        if self._live is None or shown is None:
            return
        if not _is_open():
            raise EndOfDelivery
        canvas = self._canvas_size(shown)
        picture = render(
            shown,
            self._view,
            self._live.controls.settings.tuning,
            canvas,
            figures=self._newest_figures(self._live) if self._view.figures else (),
            notes=self._notes(self._live),
            recording=self._live.recorder.recording is not None,
        )
        cv2.imshow(_TITLE, cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
        # Not waitKey(1): its millisecond is over before Qt has painted, and the window stays black.
        while (key := cv2.pollKey()) != _NO_KEY:
            if key <= _LAST_LETTER:  # an arrow is 0xFF51, whose last byte would be a Q
                self._press(chr(key), self._live)
        self._use_mouse(self._live, shown, canvas)

    def finish(self) -> None:
        """Nothing to make permanent."""

    def close(self) -> None:
        """Close the window; files that are being written are finished."""
        self._beside.shutdown()
        if self._open:
            self._open = False
            cv2.destroyAllWindows()

    def _canvas_size(self, shown: Shown) -> tuple[int, int]:
        """Pixels across and down of the window, so that text is sharp and the mouse points."""
        if self._canvas is None:
            height, width = shown.after.shape[:2]
            across = max(_SMALLEST_PX, min(width, _LARGEST_PX))
            self._canvas = (across, across * height // width)
            cv2.resizeWindow(_TITLE, *self._canvas)
            return self._canvas
        _, _, width, height = cv2.getWindowImageRect(_TITLE)
        if min(width, height) >= _SMALLEST_CANVAS_PX:  # it has none while it is minimised
            self._canvas = (width, height)
        return self._canvas

    def _press(self, key: str, live: Live) -> None:
        done = press(key, self._view, live.controls.settings)
        self._view = done.view
        if done.changes:
            live.controls.change(**done.changes)
        if done.said:
            self._say(done.said)
        if done.command is Command.END:
            raise EndOfDelivery
        if done.command is Command.SNAPSHOT:
            shown = live.monitor.newest
            if shown is not None:
                self._do_beside(lambda: f"saved {snapshot.save(shown, self._folder)}")
        if done.command is Command.RECORD:
            self._do_beside(lambda: self._record(live))

    def _record(self, live: Live) -> str:
        if live.recorder.recording is not None:
            stopped = live.recorder.stop()
            return f"recorded {stopped}" if stopped else "nothing was recorded: no frame came"
        path = snapshot.new_name(self._folder, ".mp4")
        live.recorder.start(path)
        return f"recording {path}"

    def _do_beside(self, work: Callable[[], str]) -> None:
        """Do what waits for a disk beside the run, and say how it went."""

        def run() -> None:
            try:
                said = work()
            except CagfaceError as error:
                said = str(error)
                _log.warning("%s", error)
            self._say(said)

        self._beside.submit(run)

    def _use_mouse(self, live: Live, shown: Shown, canvas: tuple[int, int]) -> None:
        height, width = shown.frame.rgb.shape[:2]
        rects = place(canvas, (width, height), self._view.compare)
        if self._mouse is not None and self._view.compare is Compare.SPLIT:
            self._view = replace(self._view, split=split_at(self._mouse[0], rects[0]))
        clicks, self._clicks = self._clicks, []
        for x, y in clicks:
            face = face_at(x, y, rects, (width, height), shown.enhanced.faces)
            if face is not None:
                settings = live.controls.change(**toggle(face, live.controls.settings))
                on = settings.tuning.wanted(face.id) > 0
                self._say(f"face {face.id} {'is enhanced' if on else 'is left as it is'}")

    def _on_mouse(self, event: int, x: int, y: int, _flags: int, _parameter: object) -> None:
        self._mouse = (x, y)
        if event == cv2.EVENT_LBUTTONDOWN:
            self._clicks.append((x, y))

    def _say(self, note: str) -> None:
        self._note, self._note_until_s = note, self._clock() + _NOTE_S

    def _notes(self, live: Live) -> list[str]:
        """What must not be forgotten while it lasts, and what a key has just done."""
        settings = live.controls.settings
        lasting = [
            word
            for word, on in (
                ("frozen: f goes on", settings.freeze),
                ("enhance is off: e turns it on", not settings.enhance),
            )
            if on
        ]
        return lasting + ([self._note] if self._clock() < self._note_until_s else [])

    def _newest_figures(self, live: Live) -> tuple[str, ...]:
        if self._clock() >= self._figures_due_s:
            self._figures_due_s = self._clock() + _FIGURES_EVERY_S
            self._figures = figures(live)
        return self._figures


def _is_open() -> bool:
    """Whether the user has left the window open, as of the last look at its keys."""
    try:
        return cv2.getWindowProperty(_TITLE, cv2.WND_PROP_VISIBLE) >= 1
    except cv2.error:  # Qt has taken everything down with its last window
        return False


def figures(live: Live) -> tuple[str, ...]:
    """How the run does at this moment, in a few lines for people."""
    settings, stats, shown = live.controls.settings, live.stats, live.monitor.newest
    tuning = settings.tuning
    latency = stats.recent().get("latency")
    faces = len(shown.enhanced.faces) if shown is not None else 0
    asked = f"{tuning.preset}, {tuning.scale}x, strength {100 * tuning.strength:.0f} %"
    governor = (live.governor.what or "nothing spared") if settings.governor else "off"
    lines = [
        f"{stats.fps_text}, {stats.dropped} dropped",
        f"{faces} {'face' if faces == 1 else 'faces'}, {asked}",
        f"governor: {governor}",
    ]
    if latency is not None:
        lines.insert(1, f"latency {latency.p50_ms:.0f} ms, p95 {latency.p95_ms:.0f} ms")
    if live.recorder.recording is not None and live.recorder.dropped:
        lines.append(f"{live.recorder.dropped} frames missing in the recording")
    return tuple(lines)
