"""What a camera wrote beside a picture: what is kept in which format, and what damage does."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pil
from PIL.ExifTags import IFD, Base
from PIL.TiffImagePlugin import IFDRational

from realtime.images import read_picture, write_picture
from realtime.run_images import ImageJob, run_images
from tests.realtime.helpers import PlainEnhancer, picture

RGB = picture(2, 48, 32)
TAKEN = "2004:05:06 07:08:09"


def camera(**more: bytes) -> Pil.Exif:
    """What a camera writes; ``more`` are further tags by name."""
    exif = Pil.Exif()
    exif[Base.Make], exif[Base.Orientation], exif[Base.DateTime] = "ACME", 6, TAKEN
    exif[Base.XPTitle] = "Grüße".encode("utf-16le")
    exif[Base.XResolution] = IFDRational(72)
    exif[IFD.Exif] = {
        Base.DateTimeOriginal: TAKEN,
        Base.ExposureTime: IFDRational(1, 60),
        Base.ColorSpace: 65535,
        Base.MakerNote: b"offsets",
        Base.ExifImageWidth: 48,
        IFD.Interop: {1: "R03", 2: b"0100"},
        **{Base[name]: value for name, value in more.items()},
    }
    exif[IFD.GPSInfo] = {1: "N", 2: (IFDRational(48), IFDRational(8), IFDRational(61, 2))}
    return exif


def enlarged(
    tmp_path: Path, exif: Pil.Exif | bytes, suffix: str
) -> tuple[Pil.Exif, tuple[str, ...]]:
    """What a JPEG's EXIF data become when it is made twice as large; and what was noted."""
    source, output = tmp_path / "a.jpg", tmp_path / f"b{suffix}"
    Pil.fromarray(RGB).save(source, exif=exif)
    (result,) = run_images(ImageJob([source], output, scale=2), PlainEnhancer)
    assert result.error is None
    with Pil.open(output) as opened:
        assert opened.size == (64, 96)
        return opened.getexif(), result.notes


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
def test_when_where_and_with_what_a_picture_was_taken_is_kept(tmp_path, suffix):
    kept, notes = enlarged(tmp_path, camera(), suffix)
    assert notes == ()
    assert (kept[Base.Make], kept[Base.DateTime]) == ("ACME", TAKEN)
    assert bytes(kept[Base.XPTitle]).decode("utf-16le") == "Grüße"
    taken, place = kept.get_ifd(IFD.Exif), kept.get_ifd(IFD.GPSInfo)
    assert (taken[Base.DateTimeOriginal], taken[Base.ExposureTime]) == (TAKEN, IFDRational(1, 60))
    assert (place[1], place[2]) == ("N", (48, 8, 30.5))
    assert (taken[Base.ColorSpace], kept.get_ifd(IFD.Interop)[1]) == (65535, "R03")


def test_what_is_true_of_the_first_file_only_is_not(tmp_path):
    kept, _ = enlarged(tmp_path, camera(), ".jpg")
    taken = kept.get_ifd(IFD.Exif)
    assert Base.Orientation not in kept
    assert Base.MakerNote not in taken
    assert (taken[Base.ExifImageWidth], taken[Base.ExifImageHeight]) == (64, 96)


def test_tiff_keeps_a_part_and_bmp_nothing_which_is_said(tmp_path):
    kept, notes = enlarged(tmp_path, camera(), ".tif")
    assert (kept[Base.Make], kept[Base.DateTime]) == ("ACME", TAKEN)
    assert notes == ("EXIF data kept in part",)
    kept, notes = enlarged(tmp_path, camera(), ".bmp")
    assert len(kept) == 0
    assert notes == ("EXIF data left out",)


def test_a_tiff_s_own_layout_is_not_taken_for_data_of_the_picture(tmp_path):
    source, output = tmp_path / "a.tif", tmp_path / "b.jpg"
    Pil.fromarray(RGB).save(source, exif={Base.Artist: "Oma"}, compression="tiff_lzw")
    write_picture(read_picture(source), output, overwrite=False)
    with Pil.open(output) as opened:
        assert dict(opened.getexif()).keys() == {Base.Artist, IFD.Exif}


def test_more_than_a_jpeg_holds_is_left_out(tmp_path):
    source = tmp_path / "a.png"
    Pil.fromarray(RGB).save(source, exif=camera(UserComment=bytes(70_000)))
    taken = read_picture(source)
    assert write_picture(taken, tmp_path / "b.png", overwrite=False) == ()
    (note,) = write_picture(taken, tmp_path / "b.jpg", overwrite=False)
    assert note == "EXIF data left out: too many for JPEG"
    assert read_picture(tmp_path / "b.jpg").exif is None


def test_a_picture_without_such_data_gets_none(tmp_path):
    Pil.fromarray(RGB).save(tmp_path / "a.png")
    write_picture(read_picture(tmp_path / "a.png"), tmp_path / "b.jpg", overwrite=False)
    with Pil.open(tmp_path / "b.jpg") as opened:
        assert len(opened.getexif()) == 0


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
def test_damaged_data_never_cost_the_picture(tmp_path, suffix):
    """Of some 250 damaged ones; what cannot be kept is left out, and said."""
    generator, whole = random.Random(0), camera().tobytes()
    seen: Counter[tuple[str, ...]] = Counter()
    source = tmp_path / f"a{suffix}"
    for _ in range(250):
        data = bytearray(whole)
        for _ in range(generator.choice([1, 2, 5, 20])):
            data[generator.randrange(6, len(data))] = generator.choice([0, 1, 255])
        Pil.fromarray(RGB).save(source, exif=bytes(data))
        taken = read_picture(source)
        seen[taken.notes] += 1
        write_picture(taken, tmp_path / "b.jpg", overwrite=True)
        write_picture(taken, tmp_path / "b.tif", overwrite=True)
        shape = read_picture(tmp_path / "b.tif").rgb.shape
        assert shape == taken.rgb.shape
        assert shape in ((32, 48, 3), (48, 32, 3))
    assert seen.keys() == {(), ("EXIF data damaged",)}
    assert seen[()] > 50


def test_a_picture_with_damaged_data_is_upright_all_the_same(tmp_path):
    """A text whose type says number: Pillow reads it, and cannot write it."""
    exif = camera().tobytes()
    order = "big" if exif[6:8] == b"MM" else "little"
    text, number = (Base.Make.to_bytes(2, order) + kind.to_bytes(2, order) for kind in (2, 12))
    assert exif.count(text) == 1
    exif = exif.replace(text, number)
    Pil.fromarray(RGB).save(tmp_path / "a.png", exif=exif)
    taken = read_picture(tmp_path / "a.png")
    assert taken.notes == ("EXIF data damaged",)
    assert np.array_equal(taken.rgb, np.rot90(RGB, -1))
