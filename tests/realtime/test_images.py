"""Pictures: every kind in, every kind out, alpha, profiles, orientation, damage, folders."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image as Pil
from PIL import ImageCms

from cagface_core import InputError, OutputError
from realtime.images import SUFFIXES, Picture, read_picture, write_picture
from realtime.run_images import ImageJob, run_images
from tests.realtime.helpers import PlainEnhancer, picture

RGB = picture(2, 48, 32)


def save(path, image, **options):
    image.save(path, **options)
    return path


def cmyk_profile():
    """No CMYK profile comes with Pillow; a Lab one is as good a reason to convert."""
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()


def srgb_profile():
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_round_trip(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    write_picture(Picture(RGB, icc=srgb_profile()), path, overwrite=False)
    back = read_picture(path)
    tolerance = 0 if suffix in (".png", ".bmp", ".tif", ".tiff") else 2
    assert np.abs(back.rgb.astype(float) - RGB).mean() <= tolerance
    assert (back.icc is not None) == (suffix != ".bmp")
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("suffix", [".png", ".webp", ".tiff"])
def test_alpha_is_kept(tmp_path, suffix):
    alpha = RGB[..., 0].copy()
    path = tmp_path / f"a{suffix}"
    write_picture(Picture(RGB, alpha), path, overwrite=False)
    back = read_picture(path)
    assert back.alpha is not None
    assert np.abs(back.alpha.astype(int) - alpha).max() <= 1


@pytest.mark.parametrize("suffix", [".jpg", ".bmp"])
def test_transparency_goes_on_white_where_it_cannot_be_kept(tmp_path, suffix):
    alpha = np.zeros(RGB.shape[:2], np.uint8)
    notes = write_picture(Picture(RGB, alpha), tmp_path / f"a{suffix}", overwrite=False)
    assert notes == ("transparency on white",)
    assert read_picture(tmp_path / f"a{suffix}").rgb.min() > 250


def test_exif_orientation_is_applied(tmp_path):
    exif = Pil.Exif()
    exif[0x0112] = 6
    path = save(tmp_path / "a.png", Pil.fromarray(RGB), exif=exif)
    assert np.array_equal(read_picture(path).rgb, np.rot90(RGB, -1))


def kinds():
    image = Pil.fromarray(RGB)
    grey16 = (RGB[..., 0].astype(np.uint16) << 8) + 77
    palette = image.quantize(64)
    return {
        "grey": (image.convert("L"), ".png", "grey to RGB"),
        "grey alpha": (image.convert("LA"), ".png", "grey to RGB"),
        "black and white": (image.convert("1"), ".png", "grey to RGB"),
        "palette": (palette, ".png", "palette to RGB"),
        "cmyk": (image.convert("CMYK"), ".jpg", "CMYK to RGB"),
        "16 bit": (Pil.fromarray(grey16), ".png", "16 bit to 8"),
        "16 bit tiff": (Pil.fromarray(grey16), ".tiff", "16 bit to 8"),
    }


@pytest.mark.parametrize("kind", kinds())
def test_other_kinds_become_rgb_with_a_note(tmp_path, kind):
    image, suffix, note = kinds()[kind]
    back = read_picture(save(tmp_path / f"a{suffix}", image))
    assert note in back.notes
    assert back.rgb.shape == RGB.shape
    assert back.rgb.dtype == np.uint8
    if kind.startswith("16"):
        assert np.array_equal(back.rgb[..., 1], RGB[..., 0])


def test_palette_transparency_becomes_alpha(tmp_path):
    path = save(tmp_path / "a.png", Pil.fromarray(RGB).quantize(8), transparency=0)
    alpha = read_picture(path).alpha
    assert alpha is not None
    assert set(np.unique(alpha)) == {0, 255}


def test_full_alpha_is_none(tmp_path):
    path = save(tmp_path / "a.png", Pil.fromarray(RGB).convert("RGBA"))
    assert read_picture(path).alpha is None


def test_an_rgb_profile_keeps_its_numbers_and_others_are_dropped(tmp_path):
    profile = srgb_profile()
    path = save(tmp_path / "a.png", Pil.fromarray(RGB), icc_profile=profile)
    assert read_picture(path).icc == profile
    assert np.array_equal(read_picture(path).rgb, RGB)
    grey = save(tmp_path / "g.png", Pil.fromarray(RGB).convert("L"), icc_profile=cmyk_profile())
    assert read_picture(grey).icc is None


def test_only_the_first_of_several_frames_is_taken(tmp_path):
    first, second = Pil.fromarray(RGB), Pil.fromarray(255 - RGB)
    path = save(tmp_path / "a.tiff", first, save_all=True, append_images=[second])
    back = read_picture(path)
    assert np.array_equal(back.rgb, RGB)
    assert back.notes == ("first of several frames",)


def zero_by_zero():
    """A PNG whose header says 0x0: no program writes one, so it is cut out of a real one."""
    import struct
    import zlib

    data = io.BytesIO()
    Pil.fromarray(RGB).save(data, "PNG")
    raw = bytearray(data.getvalue())
    raw[16:24] = bytes(8)
    raw[29:33] = struct.pack(">I", zlib.crc32(bytes(raw[12:29])))
    return bytes(raw)


BAD = {
    "text": (b"hello", "not a picture"),
    "empty": (b"", "not a picture"),
    "0x0": (zero_by_zero(), r"0x0 pixels|not a picture|damaged"),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_files_are_one_line(tmp_path, kind):
    data, message = BAD[kind]
    path = tmp_path / "a.png"
    path.write_bytes(data)
    with pytest.raises(InputError, match=message) as caught:
        read_picture(path)
    assert "\n" not in str(caught.value)


def test_one_pixel_is_too_small(tmp_path):
    path = save(tmp_path / "a.png", Pil.new("RGB", (1, 1)))
    with pytest.raises(InputError, match=r"1x1 pixels are too few; expected at least 8x8"):
        read_picture(path)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tiff", ".bmp"])
def test_cut_files_are_one_line(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    write_picture(Picture(picture(0, 200, 150)), path, overwrite=False)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(InputError, match=r"damaged or cut off|not a picture") as caught:
        read_picture(path)
    assert "\n" not in str(caught.value)


def test_a_size_the_format_cannot_hold(tmp_path):
    wide = np.zeros((8, 17_000, 3), np.uint8)
    with pytest.raises(OutputError, match="cannot be written as WEBP"):
        write_picture(Picture(wide), tmp_path / "a.webp", overwrite=False)
    assert list(tmp_path.iterdir()) == []


def job(source, output, **options):
    scale = options.get("scale", 4)
    return list(run_images(ImageJob([source], output, **options), lambda: PlainEnhancer(scale)))


def test_one_picture(tmp_path):
    path = save(tmp_path / "a.png", Pil.fromarray(np.dstack([RGB, RGB[..., 0]])))
    (result,) = job(path, tmp_path / "b.webp", scale=2)
    assert (result.size_in, result.size_out, result.faces) == ((48, 32), (96, 64), 1)
    back = read_picture(tmp_path / "b.webp")
    assert back.rgb.shape == (64, 96, 3)
    assert back.alpha is not None
    assert back.alpha.shape == (64, 96)


def test_aligned_is_exactly_four_times(tmp_path):
    path = save(tmp_path / "a.png", Pil.fromarray(RGB[:31, :47]))
    (result,) = job(path, tmp_path / "b.png", aligned=True)
    assert (result.size_out, result.faces) == ((188, 124), 0)


def test_a_folder_goes_on_past_bad_files(tmp_path):
    source = tmp_path / "in"
    source.mkdir()
    save(source / "a.png", Pil.fromarray(RGB))
    save(source / "b.JPG", Pil.fromarray(RGB), format="JPEG")
    (source / "bad.png").write_text("no picture")
    (source / "notes.txt").write_text("not looked at")
    results = job(source, tmp_path / "out")
    assert [r.source.name for r in results if r.error] == ["bad.png"]
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["a.png", "b.JPG"]
    again = job(source, tmp_path / "out")
    assert all("--overwrite" in (r.error or "") for r in again if r.source.name != "bad.png")
    assert [r.error for r in job(source, tmp_path / "out", overwrite=True)].count(None) == 2


def test_a_folder_of_bad_files_leaves_no_folder(tmp_path):
    source = tmp_path / "in"
    source.mkdir()
    (source / "bad.png").write_text("no picture")
    assert job(source, tmp_path / "out")[0].error
    assert not (tmp_path / "out").exists()


def test_kinds_that_are_only_read_become_png_and_one_named_twice_is_one(tmp_path):
    for name in ("a.gif", "a.png", "b.ppm", "c.tga", "d.jp2", "f.bmp"):
        save(tmp_path / name, Pil.fromarray(RGB))
    (tmp_path / "notes.txt").touch()
    sources = [tmp_path, tmp_path / "*.bmp", tmp_path / "f.bmp"]
    job = ImageJob(sources, tmp_path / "out", 2)
    results = list(run_images(job, lambda: PlainEnhancer(2)))
    assert [result.error for result in results] == [None] * 6
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["a.gif.png", "a.png", "b.png", "c.png", "d.png", "f.bmp"]


def test_several_pictures_a_pattern_and_one_into_a_folder(tmp_path):
    for name in ("a.png", "b.png", "c.jpg", "in/d.png", "other/a.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        save(tmp_path / name, Pil.fromarray(RGB))

    def made(*sources):
        names = [tmp_path / source for source in sources]
        jobs = run_images(ImageJob(names, tmp_path / "out", overwrite=True), PlainEnhancer)
        return sorted(result.output.name for result in jobs if result.error is None)

    assert made("a.png", "c.jpg") == ["a.png", "c.jpg"]
    assert made("*.png") == ["a.png", "b.png"]
    assert made("in", "b.png") == ["b.png", "d.png"]
    assert made("b.png") == ["b.png"]  # the folder is there
    odd = save(tmp_path / "d[1].png", Pil.fromarray(RGB))  # no pattern: there is such a file
    assert job(odd, tmp_path / "d.webp")[0].error is None
    with pytest.raises(OutputError, match=r"2 pictures would get this name .* one after the other"):
        made("a.png", "other")
    with pytest.raises(OutputError, match="is the input itself"):
        list(run_images(ImageJob([tmp_path / "a.png"], tmp_path), PlainEnhancer))


@pytest.mark.parametrize(
    ("source", "output", "error", "message"),
    [
        ("none.png", "out.png", InputError, "no such file"),
        ("a.png", "out.xyz", OutputError, r"unknown kind of picture"),
        ("a.png", "none/out.png", OutputError, "does not exist"),
        ("a.png", "a.png", OutputError, "input itself"),
        ("a.png", "a.png/out.png", OutputError, "is a file, expected a folder"),
        ("*.jpg", "out", InputError, "no such file"),
        ("full", "b.png", OutputError, "expected a folder for 1 pictures"),
        ("empty", "out", InputError, "holds no pictures"),
        ("full", "full", OutputError, "input itself"),
        ("full", "a.png", OutputError, "is a file, expected a folder"),
        ("full", "none/out", OutputError, "does not exist"),
    ],
)
def test_bad_jobs_are_refused_before_the_work(tmp_path, source, output, error, message):
    (tmp_path / "empty").mkdir()
    (tmp_path / "full").mkdir()
    save(tmp_path / "a.png", Pil.fromarray(RGB))
    save(tmp_path / "full" / "b.png", Pil.fromarray(RGB))
    before = sorted(tmp_path.rglob("*"))

    def never():
        raise AssertionError("the network was loaded for nothing")

    with pytest.raises(error, match=message):
        list(run_images(ImageJob([tmp_path / source], tmp_path / output), never))
    assert sorted(tmp_path.rglob("*")) == before


REAL = {
    "derived_cmyk.jpg": "CMYK to RGB",
    "derived_gray8.png": "grey to RGB",
    "derived_rgb16.png": "16 bit to 8",
    "group42_palette_png.png": "palette to RGB",
    "derived_17x23.png": None,
    "derived_rgba.png": None,
    "derived_exif_orientation6.jpg": None,
    "group27_webp_icc.webp": None,
    "iphone_mpo_p3_3024.jpeg": None,
}


@pytest.mark.parametrize("name", REAL)
def test_real_pictures(shared_data, name):
    back = read_picture(shared_data / "test_images" / name)
    assert back.rgb.ndim == 3
    assert back.rgb.std() > 5
    assert REAL[name] is None or REAL[name] in back.notes


def test_a_real_cut_picture(shared_data):
    with pytest.raises(InputError, match="damaged or cut off"):
        read_picture(shared_data / "test_images" / "derived_truncated.jpg")


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".bmp"])
def test_the_resolution_it_is_printed_at_is_kept(tmp_path, suffix):
    given = save(tmp_path / f"in{suffix}", Pil.fromarray(RGB), dpi=(300, 300))
    write_picture(read_picture(given), tmp_path / f"out{suffix}", overwrite=False)
    with Pil.open(tmp_path / f"out{suffix}") as made:
        assert made.info["dpi"] == pytest.approx((300, 300), abs=0.1)
    save(given, Pil.fromarray(RGB))
    assert read_picture(given).dpi in (None, pytest.approx((96, 96), abs=1))  # as Pillow has BMP's


def test_a_compressed_tiff_of_eight_bits_is_of_eight_bits(tmp_path):
    """Where in the file its description lies is told beside, and may look like sixteen."""
    looked_like_sixteen = False
    for noise in range(0, 6000, 60):
        rgb = np.zeros((48, 64, 3), np.uint8)
        rgb.ravel()[:noise] = np.random.default_rng(0).integers(0, 256, noise)
        path = save(tmp_path / "a.tif", Pil.fromarray(rgb), compression="tiff_lzw")
        with Pil.open(path) as opened:
            looked_like_sixteen |= "16" in str(opened.tile[0][3])
        assert read_picture(path).notes == ()
    assert looked_like_sixteen
