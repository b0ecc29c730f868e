"""A shown picture and a view go in; the canvas of the preview window comes out. No window here."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import cv2
import numpy as np
from PIL import Image as Pillow
from PIL import ImageDraw, ImageFont

from cagface_core import Enhanced, Face, Image, Outcome, Tuning
from realtime.monitor import Shown
from realtime.preview_view import HELP, Compare, Rect, View, place

_MARGIN = 0.6
"""Around text, in heights of its letters."""
_LEGIBLE_PX, _SMALLEST_PX, _LARGEST_PX = 8, 11, 30
_LINES_PER_CANVAS = 32
_DIM = 0.3
"""How much of the picture is left behind text."""

_ENHANCED, _LEFT, _REFUSED = (90, 230, 130), (190, 190, 190), (255, 170, 60)
_RED = (255, 70, 60)


def render(
    shown: Shown,
    view: View,
    tuning: Tuning,
    size: tuple[int, int],
    *,
    figures: Sequence[str] = (),
    notes: Sequence[str] = (),
    recording: bool = False,
) -> Image:
    """Draw everything.

    Args:
        shown: what is delivered, and what it was made of.
        view: what to show of it, and beside it.
        tuning: what is asked for, for the boxes' labels.
        size: of the canvas: width and height in pixels.
        figures: lines for the upper left corner, where the view has them.
        notes: lines for the lower left corner: what one must not forget, what a key has done.
        recording: show that.

    Returns:
        (height, width, 3) uint8 RGB, new; black where the proportions differ.
    """
    frame = shown.frame.rgb
    rects = place(size, (frame.shape[1], frame.shape[0]), view.compare)
    canvas = np.zeros((size[1], size[0], 3), np.uint8)
    if view.compare is Compare.SIDE_BY_SIDE:
        _put(canvas, frame, rects[0])
    _put(canvas, shown.after, rects[-1])
    px = text_px(*size)
    if view.compare is Compare.SPLIT:
        _split(canvas, frame, rects[0], view.split)
    if view.compare is not Compare.OFF and not notes:  # which lie there too
        _name_sides(canvas, rects, view, px)
    if view.boxes:
        for rect in rects:
            _boxes(canvas, shown.enhanced, tuning, rect, (frame.shape[1], frame.shape[0]), px)
    if view.figures:
        _panel(canvas, tuple(figures), px, left=True, top=True)
    if view.help:
        _help(canvas, px)
    if recording:
        _recording(canvas, px)
    if notes:
        _panel(canvas, tuple(notes), px, left=True, top=False)
    return canvas


def notice(lines: Sequence[str], size: tuple[int, int]) -> Image:
    """Lines in the middle of a black canvas, (height, width, 3) uint8, for ``size`` (w, h)."""
    canvas = np.zeros((size[1], size[0], 3), np.uint8)
    mask = _text(tuple(lines), text_px(*size))
    _stamp(canvas, mask, (size[0] - mask.shape[1]) // 2, (size[1] - mask.shape[0]) // 2)
    return canvas


def text_px(width: int, height: int) -> int:
    """How high text is on a canvas of this size, in pixels."""
    return max(_SMALLEST_PX, min(_LARGEST_PX, min(width, height) // _LINES_PER_CANVAS))


def _put(canvas: Image, rgb: Image, rect: Rect) -> None:
    canvas[rect.y : rect.y + rect.h, rect.x : rect.x + rect.w] = _resized(rgb, rect)


def _resized(rgb: Image, rect: Rect) -> Image:
    if rgb.shape[:2] == (rect.h, rect.w):
        return rgb
    kernel = cv2.INTER_CUBIC if rect.w > rgb.shape[1] else cv2.INTER_AREA
    return np.asarray(cv2.resize(rgb, (rect.w, rect.h), interpolation=kernel), np.uint8)


def _split(canvas: Image, before: Image, rect: Rect, split: float) -> None:
    at = round(split * rect.w)
    canvas[rect.y : rect.y + rect.h, rect.x : rect.x + at] = _resized(before, rect)[:, :at]
    x, rows = rect.x + at, slice(rect.y, rect.y + rect.h)
    canvas[rows, max(0, x - 1) : x + 1] = 255
    canvas[rows, x + 1 : x + 2] = 0


def _name_sides(canvas: Image, rects: Sequence[Rect], view: View, px: int) -> None:
    """Write "before" and "after" at the lower edge, to the left and right of where they meet."""
    last = rects[-1]
    meeting = last.x + round(view.split * last.w) if view.compare is Compare.SPLIT else last.x
    bottom = last.y + last.h
    before, after = _text(("before",), px), _text(("after",), px)
    top = bottom - before.shape[0] - px // 2
    if meeting - before.shape[1] - px >= rects[0].x:
        _stamp(canvas, before, meeting - before.shape[1] - px // 2, top)
    if meeting + after.shape[1] + px <= last.x + last.w:
        _stamp(canvas, after, meeting + px // 2, top)


def _boxes(
    canvas: Image, enhanced: Enhanced, tuning: Tuning, rect: Rect, frame: tuple[int, int], px: int
) -> None:
    thickness = max(1, px // 9)
    outcomes = (*enhanced.outcomes, *[Outcome.LEFT] * len(enhanced.faces))
    for face, outcome in zip(enhanced.faces, outcomes, strict=False):
        colour = {Outcome.ENHANCED: _ENHANCED, Outcome.LEFT: _LEFT}.get(outcome, _REFUSED)
        x, y = rect.x + face.x * rect.w / frame[0], rect.y + face.y * rect.h / frame[1]
        w, h = face.w * rect.w / frame[0], face.h * rect.h / frame[1]
        corner = (round(x), round(y))
        cv2.rectangle(canvas, corner, (round(x + w), round(y + h)), colour, thickness)
        label = _text((_label(face, outcome, tuning),), px)
        _stamp(canvas, label, corner[0], corner[1] - label.shape[0], colour)


def _label(face: Face, outcome: Outcome, tuning: Tuning) -> str:
    if tuning.wanted(face.id) == 0:
        return f"{face.id}  off"
    if outcome in (Outcome.GUARDED, Outcome.FAILED):
        return f"{face.id}  {outcome}"
    own = tuning.strength_of.get(face.id)
    return f"{face.id}" if own is None else f"{face.id}  {100 * own:.0f} %"


def _help(canvas: Image, px: int) -> None:
    """Keys and their meaning in two columns, in the middle; smaller where they would not fit."""
    height, width = canvas.shape[:2]
    keys, meanings = (tuple(line[column] for line in HELP) for column in (0, 1))
    mask = np.concatenate([_text(keys, px), _text(meanings, px)], axis=1)
    while px > _LEGIBLE_PX and (mask.shape[1] > width or mask.shape[0] > height):
        px -= 1
        mask = np.concatenate([_text(keys, px), _text(meanings, px)], axis=1)
    _stamp(canvas, mask, (width - mask.shape[1]) // 2, (height - mask.shape[0]) // 2)


def _recording(canvas: Image, px: int) -> None:
    word = _text(("REC",), px)
    dot = np.zeros((word.shape[0], px + px // 2), np.uint8)
    cv2.circle(dot, (dot.shape[1] * 2 // 3, dot.shape[0] // 2), px // 2, 255, -1, cv2.LINE_AA)
    both = np.concatenate([dot, word], axis=1)
    _stamp(canvas, both, canvas.shape[1] - both.shape[1], 0, _RED)


def _panel(canvas: Image, lines: tuple[str, ...], px: int, *, left: bool, top: bool) -> None:
    """Lines in a corner; in smaller letters where they would not fit."""
    height, width = canvas.shape[:2]
    mask = _text(lines, px)
    while px > _LEGIBLE_PX and (mask.shape[1] > width or mask.shape[0] > height):
        px -= 1
        mask = _text(lines, px)
    x = 0 if left else width - mask.shape[1]
    _stamp(canvas, mask, x, 0 if top else height - mask.shape[0])


def _stamp(
    canvas: Image, mask: Image, x: int, y: int, colour: tuple[int, int, int] = (255, 255, 255)
) -> None:
    """Darken the canvas under a mask of letters (0 to 255) and write them; moved to be inside."""
    height, width = (min(side, room) for side, room in zip(mask.shape, canvas.shape, strict=False))
    x = max(0, min(x, canvas.shape[1] - width))
    y = max(0, min(y, canvas.shape[0] - height))
    part = canvas[y : y + height, x : x + width]
    letters = cv2.merge([cv2.convertScaleAbs(mask[:height, :width], alpha=c / 255) for c in colour])
    # The brighter of the two: letters are brighter than what is left of the picture.
    part[:] = cv2.max(cv2.convertScaleAbs(part, alpha=_DIM), letters)


@lru_cache(maxsize=64)
def _text(lines: tuple[str, ...], px: int) -> Image:
    """Letters as a mask (h, w), 0 to 255, with room around. Kept: figures change twice a second."""
    font = ImageFont.load_default(px)
    margin, step = round(_MARGIN * px), round(1.35 * px)
    width = max(round(font.getlength(line)) for line in lines) + 2 * margin
    sheet = Pillow.new("L", (width, step * len(lines) + margin))
    draw = ImageDraw.Draw(sheet)
    for number, line in enumerate(lines):
        draw.text((margin, margin // 2 + step * number), line, fill=255, font=font)
    return np.asarray(sheet, np.uint8)
