"""Picture files become RGB arrays here, upright and 8 bit, and enhanced arrays become files."""

from __future__ import annotations

import io
import logging
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pil
from PIL import ImageCms, UnidentifiedImageError

from cagface_core import Image, InputError, OutputError
from realtime.exif import fit_exif, read_exif, upright
from realtime.partial_file import PartialFile

_log = logging.getLogger(__name__)

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp")
"""Suffixes read from folders and accepted for results."""

_ONLY_READ = (".avif", ".gif", ".jp2", ".ppm", ".tga")

MIN_SIDE_PX = 8
"""Smaller pictures hold nothing that could be enhanced."""

_SAVE: dict[str, tuple[str, dict[str, Any]]] = {
    ".png": ("PNG", {}),
    ".jpg": ("JPEG", {"quality": 95, "subsampling": 0}),
    ".jpeg": ("JPEG", {"quality": 95, "subsampling": 0}),
    ".webp": ("WEBP", {"quality": 95, "method": 4}),
    ".tif": ("TIFF", {"compression": "tiff_lzw"}),
    ".tiff": ("TIFF", {"compression": "tiff_lzw"}),
    ".bmp": ("BMP", {}),
}
_WITHOUT_ALPHA = ("JPEG", "BMP")


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture: ``rgb`` (H, W, 3) uint8; ``alpha`` (H, W) uint8 or None.

    ``icc`` is the embedded RGB colour profile, None for sRGB; the numbers of ``rgb`` are in it.
    ``exif`` is what shall be kept of the EXIF data, ``dpi`` the resolution it is printed at, across
    and down. ``notes`` say in a few words what was converted on reading.
    """

    rgb: Image
    alpha: NDArray[np.uint8] | None = None
    icc: bytes | None = None
    exif: Pil.Exif | None = None
    dpi: tuple[float, float] | None = None
    notes: tuple[str, ...] = ()


def read_picture(path: Path) -> Picture:
    """Read PNG, JPEG (MPO too), WebP, TIFF, BMP and whatever else Pillow knows.

    The EXIF orientation is applied. Grey, palette, CMYK and 16-bit pictures become 8-bit RGB. An
    RGB profile is kept with its numbers; profiles of other kinds are converted to sRGB.

    Raises:
        InputError: no such file, not a picture, cut off, too small, too large.
    """
    if not path.exists():
        raise InputError(f"{path}: no such file; check the name")
    try:
        with warnings.catch_warnings(record=True) as remarks:
            warnings.simplefilter("always")
            with Pil.open(path) as opened:
                picture = _decode(path, opened)
    except UnidentifiedImageError as error:
        raise InputError(
            f"{path}: not a picture that can be read; expected PNG, JPEG, WebP, TIFF or BMP"
        ) from error
    except Pil.DecompressionBombError as error:
        most = 2 * (Pil.MAX_IMAGE_PIXELS or 0) // 1_000_000
        raise InputError(
            f"{path}: has more than {most} million pixels; scale it down or cut it first"
        ) from error
    except (OSError, SyntaxError, ValueError, EOFError, TypeError) as error:
        # Pillow reports damage as any of these, depending on the format.
        raise InputError(
            f"{path}: damaged or cut off ({error}); copy it again from its origin"
        ) from error
    for remark in remarks:
        # Large pictures are what an enlarger is for; Pillow's hard limit stays in force.
        if not issubclass(remark.category, Pil.DecompressionBombWarning):
            _log.warning("%s: %s", path, remark.message)
    return picture


def _decode(path: Path, opened: Pil.Image) -> Picture:
    notes: list[str] = []
    if min(opened.size) < MIN_SIDE_PX:
        raise InputError(
            f"{path}: {opened.width}x{opened.height} pixels are too few; expected at least "
            f"{MIN_SIDE_PX}x{MIN_SIDE_PX}"
        )
    if getattr(opened, "n_frames", 1) > 1 and opened.format != "MPO":
        notes.append("first of several frames")
    sixteen_bit = any("16" in _raw_mode(tile[3]) for tile in getattr(opened, "tile", ()))
    opened.load()
    icc: bytes | None = opened.info.get("icc_profile")
    exif = None
    try:
        exif = read_exif(opened)
    except ValueError:
        notes.append("EXIF data damaged")
    picture = upright(opened)

    alpha = None
    if "A" in picture.getbands() or "transparency" in picture.info:
        alpha = np.array(picture.convert("RGBA").getchannel("A"), dtype=np.uint8)
        if alpha.min() == 255:
            alpha = None
    if picture.mode in ("I", "F") or picture.mode.startswith("I;16"):
        picture = _eight_bit(path, picture)
        sixteen_bit = True
    if sixteen_bit:
        notes.append("16 bit to 8")
    if picture.mode in ("P", "PA"):
        notes.append("palette to RGB")
    elif picture.mode in ("L", "LA", "La", "1"):
        notes.append("grey to RGB")
    elif picture.mode not in ("RGB", "RGBA", "RGBX", "RGBa"):
        notes.append(f"{picture.mode} to RGB")
    picture, icc = _to_rgb(picture, icc)
    return Picture(np.array(picture, dtype=np.uint8), alpha, icc, exif, _dpi(opened), tuple(notes))


def _raw_mode(told: Any) -> str:
    """How a picture's file holds its pixels, of what Pillow's decoder of it is told."""
    return str(told[0] if isinstance(told, tuple) and told else told)  # pyright: ignore[reportUnknownArgumentType]


def _dpi(opened: Pil.Image) -> tuple[float, float] | None:
    """The resolution a picture says it is printed at, where that is one."""
    try:
        across, down = (float(value) for value in opened.info["dpi"])
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return None
    return (across, down) if 2 <= across < 1e5 and 2 <= down < 1e5 else None


def _eight_bit(path: Path, picture: Pil.Image) -> Pil.Image:
    """Grey with 16 bits: Pillow's own conversion would clip at 255 instead of scaling."""
    values = np.array(picture)
    if picture.mode == "F" or int(values.min()) < 0 or int(values.max()) > 65535:
        raise InputError(f"{path}: floating-point or 32-bit grey; save it with 8 or 16 bits")
    return Pil.fromarray((values.astype(np.uint32) >> 8).astype(np.uint8))


def _to_rgb(picture: Pil.Image, icc: bytes | None) -> tuple[Pil.Image, bytes | None]:
    """The picture in mode RGB, and the profile its numbers are in (None: sRGB)."""
    if icc is not None and picture.mode in ("CMYK", "L", "LAB"):
        try:
            converted = ImageCms.profileToProfile(
                picture,
                ImageCms.ImageCmsProfile(io.BytesIO(icc)),
                _srgb(),
                outputMode="RGB",
            )
        except ImageCms.PyCMSError:
            converted = None  # A broken profile: the plain conversion below is the best guess.
        if converted is not None:
            return converted, None
        icc = None
    if picture.mode in ("RGB", "RGBA", "RGBX", "P", "PA"):
        return picture.convert("RGB"), icc
    return picture.convert("RGB"), None


def _srgb() -> ImageCms.ImageCmsProfile:
    return ImageCms.ImageCmsProfile(cast(Any, ImageCms.createProfile("sRGB")))


def only_read() -> list[str]:
    """Suffixes read from folders, as far as this Pillow can, of kinds that are not made."""
    known = Pil.registered_extensions()
    return [suffix for suffix in _ONLY_READ if suffix in known]


def check_picture_suffix(path: Path) -> None:
    """Raise `OutputError` for a name whose suffix no picture can be written to."""
    if path.suffix.lower() not in _SAVE:
        raise OutputError(
            f"{path}: unknown kind of picture; use a name that ends in one of {', '.join(SUFFIXES)}"
        )


def write_picture(picture: Picture, path: Path, *, overwrite: bool) -> tuple[str, ...]:
    """Write the file, whole or not at all.

    Args:
        picture: what to write; ``alpha`` of the size of ``rgb``.
        path: the file to make; its suffix chooses the format.
        overwrite: replace an existing file.

    Returns:
        Notes on what the format could not hold.

    Raises:
        OutputError: the place, the suffix or the size does not work.
    """
    check_picture_suffix(path)
    pil_format, options = _SAVE[path.suffix.lower()]
    notes: list[str] = []
    image = Pil.fromarray(picture.rgb)
    icc = picture.icc
    if pil_format == "BMP" and icc is not None:
        image, icc = _from_profile_to_srgb(image, icc)
        notes.append("converted to sRGB")
    if picture.alpha is not None:
        image.putalpha(Pil.fromarray(picture.alpha))
        if pil_format in _WITHOUT_ALPHA:
            white = Pil.new("RGBA", image.size, "white")
            image = Pil.alpha_composite(white, image).convert("RGB")
            notes.append("transparency on white")
    if picture.exif is not None:
        exif, left_out = fit_exif(picture.exif, *image.size, pil_format)
        notes += [] if left_out is None else [left_out]
        options = options if exif is None else options | {"exif": exif}
    if picture.dpi is not None:
        options = options | {"dpi": picture.dpi}
    file = PartialFile(path, overwrite=overwrite)
    try:
        try:
            image.save(file.path, pil_format, icc_profile=icc, **options)
        except (OSError, ValueError) as error:
            full = isinstance(error, OSError) and error.errno is not None
            hint = "choose another place" if full else "try .png or a smaller --scale"
            raise OutputError(
                f"{path}: {image.width}x{image.height} cannot be written as {pil_format} "
                f"({error}); {hint}"
            ) from error
        file.commit()
    finally:
        file.discard()
    return tuple(notes)


def _from_profile_to_srgb(image: Pil.Image, icc: bytes) -> tuple[Pil.Image, None]:
    try:
        converted = ImageCms.profileToProfile(
            image, ImageCms.ImageCmsProfile(io.BytesIO(icc)), _srgb()
        )
    except ImageCms.PyCMSError:
        converted = None  # A broken profile is no profile.
    return converted or image, None


def enlarge_alpha(alpha: NDArray[np.uint8], scale: int) -> NDArray[np.uint8]:
    """(H, W) uint8 to (scale*H, scale*W) by bicubic interpolation."""
    size = (alpha.shape[1] * scale, alpha.shape[0] * scale)
    return np.array(Pil.fromarray(alpha).resize(size, Pil.Resampling.BICUBIC), dtype=np.uint8)
