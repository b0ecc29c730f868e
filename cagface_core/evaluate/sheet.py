"""What was measured in; ``eval.png`` out: one row a face, one labelled column a method."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image as Pillow
from PIL import ImageDraw, ImageFont

from cagface_core.errors import OutputError
from cagface_core.evaluate.evaluate import Results
from cagface_core.types import Image

_CELL_PX = 256
_GAP_PX = 4
_HEADER_PX = 34
_FONT_PX = 17


def write_sheet(out: Path, results: Results) -> None:
    """Draw faces of every protocol at 100 %: the input in large pixels, the methods, the truth.

    Of pictures larger than 256 px the centre is shown.

    Raises:
        OutputError: the folder cannot be written.
    """
    names = [method.name for method in results.methods]
    rows: list[Pillow.Image] = []
    for measured in results.measured:
        if not measured.faces:
            continue
        rows.append(_header([f"input, {measured.protocol.name}", *names, "truth"]))
        for lr, hr, outputs in measured.faces:
            side = _CELL_PX // lr.shape[0]
            pixels = np.repeat(np.repeat(lr, side, axis=0), side, axis=1)
            rows.append(_row([pixels, *(outputs[name] for name in names), hr]))
    if not rows:
        return
    height = sum(row.height + _GAP_PX for row in rows)
    sheet = Pillow.new("RGB", (rows[0].width, height), "white")
    top = 0
    for row in rows:
        sheet.paste(row, (0, top))
        top += row.height + _GAP_PX
    try:
        sheet.save(out / "eval.png")
    except OSError as error:
        raise OutputError(f"cannot write to {out} ({error}); give --out another folder") from error


def _row(cells: list[Image]) -> Pillow.Image:
    """Set pictures of one size side by side."""
    row = Pillow.new("RGB", (len(cells) * (_CELL_PX + _GAP_PX), _CELL_PX), "white")
    for index, cell in enumerate(cells):
        row.paste(Pillow.fromarray(cell), (index * (_CELL_PX + _GAP_PX), 0))
    return row


def _header(labels: list[str]) -> Pillow.Image:
    """Write the labels over their columns; long ones are cut."""
    row = Pillow.new("RGB", (len(labels) * (_CELL_PX + _GAP_PX), _HEADER_PX), "white")
    draw, font = ImageDraw.Draw(row), ImageFont.load_default(_FONT_PX)
    for index, label in enumerate(labels):
        text = label
        while draw.textlength(text, font) > _CELL_PX:
            text = f"{text[:-2]}\N{HORIZONTAL ELLIPSIS}"
        draw.text((index * (_CELL_PX + _GAP_PX) + 2, 8), text, fill="black", font=font)
    return row
