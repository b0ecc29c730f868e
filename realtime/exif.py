"""What a camera wrote beside a picture, kept beside the enlarged one: when, where, with what.

Of EXIF data everything that stays true of the enlarged picture is kept. Left out are the
orientation, for pictures come out upright; the thumbnail; a maker's own notes, whose inner offsets
do not outlive a move; and what tells how the file was laid out.
"""

from __future__ import annotations

import struct

from PIL import Image as Pil
from PIL.ExifTags import IFD, Base

_IN_TIFF = (
    Base.ImageDescription, Base.Make, Base.Model, Base.Software, Base.DateTime, Base.Artist,
    Base.HostComputer, Base.Copyright,
)  # fmt: skip
"""What Pillow writes into a compressed TIFF file."""

_OF_THE_PICTURE = (
    *_IN_TIFF, Base.Rating, Base.XPTitle, Base.XPComment, Base.XPAuthor, Base.XPKeywords,
    Base.XPSubject,
)  # fmt: skip
_OF_THE_FILE = (
    Base.MakerNote, Base.ExifImageWidth, Base.ExifImageHeight, Base.ComponentsConfiguration,
    Base.CompressedBitsPerPixel,
)  # fmt: skip

_JPEG_BYTES = 65_533
"""The most that a segment of a JPEG file holds."""

_TURNS = {
    2: Pil.Transpose.FLIP_LEFT_RIGHT,
    3: Pil.Transpose.ROTATE_180,
    4: Pil.Transpose.FLIP_TOP_BOTTOM,
    5: Pil.Transpose.TRANSPOSE,
    6: Pil.Transpose.ROTATE_270,
    7: Pil.Transpose.TRANSVERSE,
    8: Pil.Transpose.ROTATE_90,
}
# Pillow reports damage as any of these, depending on the tag.
_DAMAGE = (
    ArithmeticError, AttributeError, LookupError, OSError, RuntimeError, SyntaxError, TypeError,
    ValueError, struct.error,
)  # fmt: skip


def upright(opened: Pil.Image) -> Pil.Image:
    """Turn a picture as its EXIF orientation, if it has a readable one, says.

    Pillow's own function writes all EXIF data anew for that, and fails where some are damaged.
    """
    try:
        turn = _TURNS.get(opened.getexif().get(Base.Orientation, 1))
    except _DAMAGE:
        turn = None
    return opened if turn is None else opened.transpose(turn)


def read_exif(opened: Pil.Image) -> Pil.Exif | None:
    """What shall be kept of a picture's EXIF data, None if there is nothing.

    Raises:
        ValueError: there are such data, and they are damaged.
    """
    kept = Pil.Exif()
    try:
        found = opened.getexif()
        for tag in _OF_THE_PICTURE:
            if tag in found:
                kept[tag] = found[tag]
        taken, place = found.get_ifd(IFD.Exif), found.get_ifd(IFD.GPSInfo)
        taken = {tag: value for tag, value in taken.items() if tag not in _OF_THE_FILE}
        if IFD.Interop in taken:  # tells Adobe RGB from sRGB
            taken[IFD.Interop] = found.get_ifd(IFD.Interop)
        for tag, values in ((IFD.Exif, taken), (IFD.GPSInfo, place)):
            if values:
                kept[tag] = values
        kept.tobytes()
    except _DAMAGE as error:
        raise ValueError(str(error)) from error
    return kept if len(kept) else None


def fit_exif(
    exif: Pil.Exif, width: int, height: int, pil_format: str
) -> tuple[bytes | None, str | None]:
    """EXIF data of :func:`read_exif` for a file.

    Args:
        exif: as read.
        width: of the picture in the file, in pixels.
        height: likewise.
        pil_format: Pillow's name of the format.

    Returns:
        What the format holds of them, and a note on what it does not hold.
    """
    if pil_format == "BMP":
        return None, "EXIF data left out"
    fitted = Pil.Exif()
    if pil_format == "TIFF":
        fitted.update({tag: exif[tag] for tag in _IN_TIFF if tag in exif})
        return fitted.tobytes(), None if len(fitted) == len(exif) else "EXIF data kept in part"
    fitted.update(exif)
    size = {Base.ExifImageWidth: width, Base.ExifImageHeight: height}
    fitted[IFD.Exif] = exif.get(IFD.Exif, {}) | size
    data = fitted.tobytes()
    if pil_format == "JPEG" and len(data) > _JPEG_BYTES:
        return None, "EXIF data left out: too many for JPEG"
    return data, None
