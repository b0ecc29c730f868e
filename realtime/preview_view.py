"""Keys and clicks of the preview window go in; what they change comes out. No window here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from cagface_core import Face
from realtime.controls import Settings

_STRENGTH_STEP = 0.1

HELP = (
    ("c", "compare: off, split (follows the mouse), side by side"),
    ("b", "boxes and ids of faces"),
    ("click", "on a face: leave it as it is, or enhance it again"),
    ("e", "enhance on or off"),
    ("+  -", "strength"),
    ("1  2  4", "scale"),
    ("g", "governor on or off"),
    ("f", "freeze: everybody sees a still"),
    ("s", "snapshot, before and after"),
    ("r", "record, start or stop"),
    ("i", "figures"),
    ("h", "this help"),
    ("q", "end"),
)
"""Every key and what it does."""


class Compare(StrEnum):
    """How before and after are seen together."""

    OFF = "off"
    SPLIT = "split"
    SIDE_BY_SIDE = "side by side"


class Command(StrEnum):
    """What a key asks of the window itself."""

    SNAPSHOT = "snapshot"
    RECORD = "record"
    END = "end"


@dataclass(frozen=True, slots=True)
class View:
    """What the window shows beside the picture; ``split`` is where, of the picture's width."""

    compare: Compare = Compare.OFF
    split: float = 0.5
    boxes: bool = False
    figures: bool = False
    help: bool = False


@dataclass(frozen=True, slots=True)
class Pressed:
    """What a key does: the view after it, settings to change, a command, words to show."""

    view: View
    changes: Mapping[str, object] = field(default_factory=dict[str, object])
    command: Command | None = None
    said: str = ""


@dataclass(frozen=True, slots=True)
class Rect:
    """Where a picture lies on the canvas: left, top, width, height in pixels."""

    x: int
    y: int
    w: int
    h: int


def press(key: str, view: View, settings: Settings) -> Pressed:
    """What a key does; nothing for one that has no meaning.

    Args:
        key: one character, in any case.
        view: as it is now.
        settings: as they are now.
    """
    tuning = settings.tuning
    match key.lower():
        case "c":
            kinds = list(Compare)
            compare = kinds[(kinds.index(view.compare) + 1) % len(kinds)]
            return Pressed(replace(view, compare=compare), said=f"compare: {compare}")
        case "b":
            return Pressed(replace(view, boxes=not view.boxes))
        case "i":
            return Pressed(replace(view, figures=not view.figures))
        case "h" | "?":
            return Pressed(replace(view, help=not view.help))
        case "e":
            return Pressed(view, {"enhance": not settings.enhance})
        case "f":
            return Pressed(view, {"freeze": not settings.freeze})
        case "g":
            said = f"governor {'off' if settings.governor else 'on'}"
            return Pressed(view, {"governor": not settings.governor}, said=said)
        case "+" | "=" | "-" | "_":
            step = _STRENGTH_STEP if key in "+=" else -_STRENGTH_STEP
            strength = min(1.0, max(0.0, round(tuning.strength + step, 2)))
            return Pressed(view, {"strength": strength}, said=f"strength {100 * strength:.0f} %")
        case "1" | "2" | "4":
            return Pressed(view, {"scale": int(key)}, said=f"scale {key}")
        case "s":
            return Pressed(view, command=Command.SNAPSHOT)
        case "r":
            return Pressed(view, command=Command.RECORD)
        case "q" | "\x1b":
            return Pressed(view, command=Command.END)
        case _:
            return Pressed(view)


def toggle(face: Face, settings: Settings) -> dict[str, object]:
    """The settings that leave an enhanced face as it is, or enhance one that was left."""
    tuning = settings.tuning
    if tuning.wanted(face.id) > 0:
        return {"strength_of": {**tuning.strength_of, face.id: 0.0}}
    others = {key: own for key, own in tuning.strength_of.items() if key != face.id}
    changes: dict[str, object] = {"strength_of": others}
    if tuning.only is not None:
        changes["only"] = tuning.only | {face.id}
    return changes


def place(
    canvas: tuple[int, int], picture: tuple[int, int], compare: Compare
) -> tuple[Rect, ...]:  # fmt: skip
    """Where pictures lie on the canvas, whole and in proportion: one, or before and after.

    Args:
        canvas: width and height in pixels.
        picture: its proportions: width and height.
        compare: `Compare.SIDE_BY_SIDE` gives two, left and right.
    """
    columns = 2 if compare is Compare.SIDE_BY_SIDE else 1
    room = canvas[0] // columns
    factor = min(room / picture[0], canvas[1] / picture[1])
    w, h = (max(1, round(factor * side)) for side in picture)
    y = (canvas[1] - h) // 2
    return tuple(Rect(room * n + (room - w) // 2, y, w, h) for n in range(columns))


def face_at(
    x: int, y: int, rects: tuple[Rect, ...], frame: tuple[int, int], faces: tuple[Face, ...]
) -> Face | None:
    """The face under a point of the canvas, the smallest where several lie there.

    Args:
        x: of the point, in pixels of the canvas.
        y: of the point.
        rects: where the pictures lie, see `place`.
        frame: width and height in pixels in which the faces' boxes are.
        faces: to look for.
    """
    for rect in rects:
        u = (x - rect.x) * frame[0] / rect.w
        v = (y - rect.y) * frame[1] / rect.h
        hit = [f for f in faces if f.x <= u < f.x + f.w and f.y <= v < f.y + f.h]
        if hit:
            return min(hit, key=lambda face: face.w * face.h)
    return None


def split_at(x: int, rect: Rect) -> float:
    """Where a point of the canvas divides the picture, 0 (all after) to 1 (all before)."""
    return min(1.0, max(0.0, (x - rect.x) / rect.w))
