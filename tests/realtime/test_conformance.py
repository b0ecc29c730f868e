"""Any clip in, the same out but for its faces: planes, depth, colours, tags, everything beside."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from fractions import Fraction

import av
import numpy as np
import pytest

from realtime.encoders import EncodeOptions
from realtime.planar import Orientation, PlaneReader, PlaneWriter, planar_format
from realtime.run_video import VideoJob, run_video
from realtime.source import ColourTags
from realtime.video_in import VideoSource
from tests.realtime.helpers import Clip, PlainEnhancer, audio_streams, video_times

PIX_FMTS = (
    "yuv420p", "yuv422p", "yuv444p", "yuv440p", "yuv411p", "yuv420p10le", "yuv422p10le",
    "yuv444p10le", "yuv420p12le", "yuv422p12le", "yuv444p12le", "yuv444p16le", "gray", "gray10le",
    "gbrp10le", "gbrp12le", "gbrp16le", "gbrap10le", "yuva420p", "yuva422p", "yuva444p",
    "yuva444p10le",
)  # fmt: skip

needs_ffprobe = pytest.mark.skipif(
    shutil.which("ffprobe") is None, reason="no ffprobe here: apt-get install ffmpeg"
)


def noise(pix_fmt, index, width=96, height=64):
    """A frame whose every code value is drawn by lot."""
    frame = av.VideoFrame(width, height, pix_fmt)
    rng = np.random.default_rng(index)
    bits = frame.format.components[0].bits
    for plane in frame.planes:
        count = plane.buffer_size // (1 if bits <= 8 else 2)
        values = rng.integers(0, 1 << bits, count)
        plane.update(values.astype(np.uint8 if bits <= 8 else "<u2").tobytes())
    return frame


def write(path, pix_fmt, *, codec="ffv1", frames=3, tags=(2, 2, 2, 0), options=None, size=(96, 64)):
    """A clip of noise with these tags: matrix, primaries, transfer, range."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25, options=options or {})
        stream.width, stream.height = size
        stream.pix_fmt = pix_fmt
        context = stream.codec_context
        context.colorspace, context.color_primaries, context.color_trc, context.color_range = tags
        for index in range(frames):
            frame = noise(pix_fmt, index, *size)
            frame.colorspace, frame.color_primaries, frame.color_trc, frame.color_range = tags
            frame.pts = index
            frame.time_base = Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def planes_of(path):
    """The code values of every frame, as FFmpeg decodes them, and its pixel format."""
    with av.open(str(path)) as container:
        decoded = list(container.decode(video=0))
    reader = PlaneReader(decoded[0], ColourTags(1, 1, 1, False), VideoSource(path)._orientation)
    return decoded[0].format.name, [reader.read(frame).planes for frame in decoded]


def enhance(source, output, scale=1, **encode):
    job = VideoJob(source, output, scale, EncodeOptions(**encode))
    return run_video(job, lambda: PlainEnhancer(scale))


def assert_same_values(source, output, most=0):
    before, after = planes_of(source)[1], planes_of(output)[1]
    assert len(before) == len(after)
    for old, new in zip(before, after, strict=True):
        for a, b in zip(old, new, strict=True):
            assert np.abs(a.astype(int) - b).max() <= most


def probe(path):
    """What Debian's ffprobe says of a file's first video stream and of its container."""
    command = ["ffprobe", "-v", "error", "-show_streams", "-show_format", "-show_chapters",
               "-of", "json", str(path)]  # fmt: skip
    return json.loads(subprocess.run(command, capture_output=True, check=True, text=True).stdout)


@pytest.mark.parametrize("pix_fmt", PIX_FMTS)
@pytest.mark.parametrize("full", [False, True])
def test_without_a_face_every_code_value_is_kept(tmp_path, pix_fmt, full):
    matrix = 0 if pix_fmt.startswith("gbr") else 1
    source = write(tmp_path / "in.mkv", pix_fmt, tags=(matrix, 1, 1, 2 if full else 1))
    output = tmp_path / "out.mkv"
    enhance(source, output, codec="ffv1")
    assert planes_of(output)[0] == planes_of(source)[0]
    assert_same_values(source, output)


PACKED = {
    "nv12": "yuv420p", "p010le": "yuv420p10le", "yuyv422": "yuv422p", "rgb24": "gbrp",
    "bgra": "gbrap", "rgb48le": "gbrp16le",
}  # fmt: skip


@pytest.mark.parametrize("pix_fmt", PACKED)
def test_packed_formats_keep_their_values_in_planes(pix_fmt):
    """There and back with FFmpeg's own conversion, which only moves values between such formats."""
    frame = noise(pix_fmt, 0)
    name = planar_format(frame.format)
    assert name == PACKED[pix_fmt]
    picture = PlaneReader(frame, ColourTags(1, 1, 1, False), Orientation()).read(frame)
    back = PlaneWriter(pix_fmt, ColourTags(1, 1, 1, False)).frame(picture)
    bits = frame.format.components[0].bits
    unused = (1 << (16 - bits)) - 1 if pix_fmt == "p010le" else 0
    for old, new in zip(frame.planes, back.planes, strict=True):
        row = 96 * frame.format.padded_bits_per_pixel // 8 if len(frame.planes) == 1 else None
        before, after = (
            np.frombuffer(plane, "<u2" if bits > 8 else np.uint8).reshape(plane.height, -1)
            for plane in (old, new)
        )
        used = np.s_[:, : row // before.itemsize if row else old.width * (96 // old.width)]
        assert np.array_equal(before[used] // (unused + 1) * (unused + 1), after[used])


CODECS = {
    "libx264": ("yuv420p", "yuv422p", "yuv444p", "yuv420p10le", "yuv422p10le"),
    "libx265": ("yuv420p", "yuv420p10le", "yuv422p10le", "yuv444p12le", "gbrp"),
    "libvpx-vp9": ("yuv420p", "yuva420p", "yuv444p", "gbrp"),
    "libsvtav1": ("yuv420p", "yuv420p10le"),
    "prores_ks": ("yuv422p10le", "yuv444p10le", "yuva444p10le"),
}


@pytest.mark.parametrize(
    ("codec", "pix_fmt"), [(codec, p) for codec, formats in CODECS.items() for p in formats]
)
def test_each_codec_gets_the_pixels_as_deep_as_they_were(tmp_path, codec, pix_fmt):
    rgb = pix_fmt == "gbrp"
    source = write(
        tmp_path / ("in.avi" if rgb else "in.mkv"), pix_fmt, codec="utvideo" if rgb else "ffv1",
        tags=(0 if rgb else 1, 1, 1, 1), size=(128, 96),
    )  # fmt: skip
    output = tmp_path / ("out.mov" if codec == "prores_ks" else "out.mkv")
    enhance(source, output, codec=codec)
    with av.open(str(output)) as container:
        found = next(container.decode(video=0))
    # FFmpeg's own VP9 decoder leaves the alpha out.
    expected = {("libvpx-vp9", "yuva420p"): "yuv420p"}
    assert found.format.name == expected.get((codec, pix_fmt), pix_fmt)


TAGS = {
    "BT.709": (1, 1, 1, 1),
    "BT.601, 625 lines": (5, 5, 6, 1),
    "BT.601, 525 lines, full range": (6, 6, 6, 2),
    "BT.2020": (9, 9, 14, 1),
    "PQ": (9, 9, 16, 1),
    "HLG": (9, 9, 18, 1),
}


@needs_ffprobe
@pytest.mark.parametrize("name", TAGS)
@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
@pytest.mark.parametrize("scale", [1, 2])
def test_colour_tags_are_kept(tmp_path, name, suffix, scale):
    source = write(tmp_path / "in.mkv", "yuv420p10le", tags=TAGS[name], codec="libx265",
                   options={"x265-params": "log-level=error"})  # fmt: skip
    output = tmp_path / f"out{suffix}"
    enhance(source, output, scale)
    keys = ("color_space", "color_primaries", "color_transfer", "color_range", "pix_fmt")
    before, after = (probe(path)["streams"][0] for path in (source, output))
    assert [after[key] for key in keys] == [before[key] for key in keys]
    assert after["codec_name"] == "hevc"
    assert (after["width"], after["height"]) == (96 * scale, 64 * scale)


@pytest.mark.parametrize("codec", ["libx265", "libsvtav1"])
def test_hdr_display_metadata_is_kept(tmp_path, codec):
    display = "master-display=G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,50)"
    source = write(
        tmp_path / "in.mkv", "yuv420p10le", tags=TAGS["PQ"], codec="libx265", size=(128, 96),
        options={"x265-params": f"log-level=error:{display}:max-cll=1000,400"},
    )  # fmt: skip
    output = tmp_path / "out.mkv"
    enhance(source, output, codec=codec)
    before, after = (VideoSource(path).info.hdr for path in (source, output))
    assert before is not None
    assert after is not None
    assert before.light == after.light == (1000, 400)
    assert before.luminance == (Fraction(5, 1000), Fraction(1000))
    for old, new in zip(before.primaries, after.primaries, strict=True):
        assert max(abs(float(a - b)) for a, b in zip(old, new, strict=True)) < 2e-4
    assert abs(float(after.luminance[1]) - 1000) < 0.1


def test_what_a_codec_cannot_hold_is_said_before_the_work(tmp_path, caplog):
    source = write(tmp_path / "in.mkv", "yuva444p10le", tags=(1, 1, 1, 1))
    enhance(source, tmp_path / "out.mp4", codec="libsvtav1")
    (told,) = [r.getMessage() for r in caplog.records if "libsvtav1" in r.getMessage()]
    assert "colours get less resolution, transparency is lost in libsvtav1 (yuv420p10le)" in told


def test_hardware_that_is_not_there_is_replaced_and_said(tmp_path, caplog):
    source = Clip().write(tmp_path / "in.mp4")
    output = tmp_path / "out.mp4"
    enhance(source, output, codec="h264_nvenc")
    assert "h264_nvenc does not work here" in caplog.text
    assert "libx264 encodes instead" in caplog.text
    assert len(planes_of(output)[1]) == 12
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.mp4", "out.mp4"]
    for name in ("h264_nvenc", "libx264"):
        enhance(source, tmp_path / f"{name}.mp4", codec=name, crf=51)
    small, same = (tmp_path / f"{name}.mp4" for name in ("h264_nvenc", "libx264"))
    # By x264's own words; its bytes differ now and then from run to run, where it uses AVX-512.
    told = [re.findall(rb"x264 - core .*?\0", path.read_bytes()) for path in (small, same)]
    assert told[0] == told[1]
    assert b" crf=51.0 " in told[0][0]
    assert small.stat().st_size < output.stat().st_size


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="no ffmpeg: apt-get install ffmpeg")
def test_interlaced_fields_become_whole_frames(tmp_path, shared_data, caplog):
    """As the same filter makes them in Debian's ffmpeg; the frames were woven fields before."""
    source, output = shared_data / "videos/derived/interlaced_mpeg2_mp2.ts", tmp_path / "out.mkv"
    summary = enhance(source, output, codec="ffv1")
    assert "interlaced" in caplog.text
    raw = subprocess.run(
        ["ffmpeg", "-v", "error", "-i", source, "-vf", "bwdif=mode=send_frame:deint=interlaced",
         "-fps_mode", "passthrough", "-f", "rawvideo", "-pix_fmt", "yuv420p", "-"],
        capture_output=True, check=True,
    ).stdout  # fmt: skip
    with av.open(str(source)) as a, av.open(str(output)) as b:
        woven = [frame.to_ndarray() for frame in a.decode(video=0)]
        whole = [frame.to_ndarray() for frame in b.decode(video=0)]
    expected = np.frombuffer(raw, np.uint8).reshape(-1, *whole[0].shape)
    assert summary.frames == len(whole) == len(woven) == len(expected)
    # The first has no frame before it, and FFmpeg's versions differ in its last rows.
    assert np.array_equal(np.stack(whole[1:]), expected[1:])
    assert np.abs(np.stack(whole).astype(int) - np.stack(woven)).max() > 20
    assert audio_streams(output)[0][0] == audio_streams(source)[0][0]
    assert np.diff([float(t) for t in video_times(output)]).min() > 0.03


def full_house(path):
    """An MKV with two languages, subtitles, chapters, an attachment, titles."""
    plain = Clip(time_base=Fraction(1, 1000), pts=range(0, 480, 40), audio=["aac", "libmp3lame"])
    plain.write(path.with_name("plain.mkv"))
    text = [(0, 200, b"Hello there"), (240, 200, b"General")]
    with av.open(str(path.with_name("plain.mkv"))) as old, av.open(str(path), "w") as new:
        new.metadata.update({"title": "A film", "artist": "Somebody"})
        places = {}
        for stream, language in zip(old.streams, ("ger", "eng", "fra"), strict=True):
            places[stream.index] = new.add_stream_from_template(stream)
            places[stream.index].metadata.update({"language": language, "title": f"In {language}"})
        words = new.add_mux_stream("subrip")
        words.metadata["language"] = "spa"
        new.add_attachment("font.ttf", "application/x-truetype-font", b"no font " * 40)
        new.set_chapters([
            {"id": n, "start": 200 * n, "end": 200 * (n + 1), "time_base": Fraction(1, 1000),
             "metadata": {"title": f"Part {n}"}} for n in range(2)
        ])  # fmt: skip
        for packet in old.demux():
            if packet.dts is not None:
                packet.stream = places[packet.stream.index]
                new.mux(packet)
        for start, duration, line in text:
            packet = av.Packet(line)
            packet.pts = packet.dts = start
            packet.duration, packet.time_base, packet.stream = duration, Fraction(1, 1000), words
            new.mux(packet)
    path.with_name("plain.mkv").unlink()
    return path


def packets(path, kind):
    with av.open(str(path)) as container:
        streams = [s for s in container.streams if s.type == kind]
        return [(bytes(p), p.pts) for p in container.demux(*streams) if p.dts is not None]


@needs_ffprobe
def test_all_beside_the_picture_is_kept(tmp_path, caplog):
    source, output = full_house(tmp_path / "in.mkv"), tmp_path / "out.mkv"
    enhance(source, output, 2)
    before, after = probe(source), probe(output)
    kinds = ("video", "audio", "audio", "subtitle", "attachment")
    assert [s["codec_type"] for s in after["streams"]] == list(kinds)
    for old, new in zip(before["streams"], after["streams"], strict=True):
        for key in ("language", "title", "filename", "mimetype"):
            assert new.get("tags", {}).get(key) == old.get("tags", {}).get(key)
    assert packets(output, "subtitle") == packets(source, "subtitle")
    assert [c["tags"]["title"] for c in after["chapters"]] == ["Part 0", "Part 1"]
    assert [c["start_time"] for c in after["chapters"]] == ["0.000000", "0.200000"]
    assert after["format"]["tags"]["title"] == "A film"
    assert [r for r in caplog.records if "left out" in r.getMessage()] == []


@needs_ffprobe
def test_what_the_container_cannot_hold_is_named(tmp_path, caplog):
    source, output = full_house(tmp_path / "in.mkv"), tmp_path / "out.mp4"
    enhance(source, output)
    (told,) = [r.getMessage() for r in caplog.records if "left out" in r.getMessage()]
    assert "subtitle srt spa" in told
    assert "attachment font.ttf" in told
    after = probe(output)
    assert [s["codec_type"] for s in after["streams"][:3]] == ["video", "audio", "audio"]
    assert [s["tags"]["language"] for s in after["streams"][:3]] == ["ger", "eng", "fra"]
    assert [c["tags"]["title"] for c in after["chapters"]] == ["Part 0", "Part 1"]
