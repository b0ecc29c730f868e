"""Videos through the whole file path: times, audio, orientation, sizes, colours, damage."""

from __future__ import annotations

import struct
from fractions import Fraction
from itertools import pairwise

import av
import numpy as np
import pytest

from cagface_core import CagfaceError, ConfigError, InputError, OutputError
from realtime.encoders import EncodeOptions
from realtime.run import Watcher
from realtime.run_video import VideoJob, run_video
from realtime.video_in import VideoSource
from tests.realtime.helpers import (
    Clip,
    PlainEnhancer,
    audio_streams,
    frames_of,
    picture,
    video_times,
)

FAST = EncodeOptions(crf=8, preset="ultrafast")
VFR = (0, 512, 1024, 2560, 3072, 6000, 6001, 9000)
B_FRAMES = (("crf", "10"), ("preset", "ultrafast"), ("bf", "3"), ("b-adapt", "0"))

CLIPS = {
    "mp4": (Clip(audio=["aac"]), ".mp4"),
    "mkv": (Clip(time_base=Fraction(1, 1000), pts=range(0, 480, 40), audio=["aac"]), ".mkv"),
    "webm": (
        Clip(
            codec="libvpx-vp9", time_base=Fraction(1, 1000), pts=range(0, 480, 40),
            options=(("crf", "10"), ("b", "0"), ("cpu-used", "8"), ("deadline", "realtime")),
            audio=["libopus"],
        ),
        ".webm",
    ),
    "vfr": (Clip(pts=VFR, audio=["aac"]), ".mp4"),
    "b-frames": (Clip(options=B_FRAMES), ".mp4"),
    "ntsc": (
        Clip(
            rate=Fraction(30_000, 1001), time_base=Fraction(1, 30_000), pts=range(0, 12_012, 1001)
        ),
        ".mp4",
    ),
    "late start": (Clip(pts=range(25_021, 25_021 + 6000, 500), audio=["aac"]), ".mp4"),
    "two audio, late": (
        Clip(
            time_base=Fraction(1, 1000), pts=range(0, 480, 40), audio=["aac", "libmp3lame"],
            audio_start_s=0.25,
        ),
        ".mkv",
    ),
    "one frame": (Clip(pts=(0,)), ".mp4"),
}  # fmt: skip


def enhance(source, output, scale=1, **options):
    encode = EncodeOptions(preset="8") if output.suffix == ".webm" else FAST
    job = VideoJob(source, output, scale, options.pop("encode", encode), **options)
    return run_video(job, lambda: PlainEnhancer(scale))


def assert_same_stream(source, output):
    assert video_times(output) == video_times(source)
    before, after = audio_streams(source), audio_streams(output)
    assert [digest for digest, _ in after] == [digest for digest, _ in before]
    assert [times for _, times in after] == [times for _, times in before]


@pytest.mark.parametrize("name", CLIPS)
def test_times_and_audio_are_kept(tmp_path, name):
    clip, suffix = CLIPS[name]
    source = clip.write(tmp_path / f"in{suffix}")
    output = tmp_path / f"out{suffix}"
    summary = enhance(source, output)
    assert summary.frames == len(clip.pts)
    assert_same_stream(source, output)
    assert sorted(p.name for p in tmp_path.iterdir()) == [f"in{suffix}", f"out{suffix}"]


def test_the_last_frame_lasts_as_long_as_before(tmp_path):
    source = Clip().write(tmp_path / "in.mp4")
    enhance(source, tmp_path / "out.mp4")
    with av.open(str(source)) as a, av.open(str(tmp_path / "out.mp4")) as b:
        x, y = a.streams.video[0], b.streams.video[0]
        assert x.duration * x.time_base == y.duration * y.time_base
        assert x.average_rate == y.average_rate == 25


@pytest.mark.parametrize(
    ("colorspace", "color_range", "pix_fmt"),
    [
        (1, 1, "yuv420p"),
        (6, 1, "yuv420p"),
        (1, 2, "yuv420p"),
        (6, 2, "yuvj420p"),
        (2, 0, "yuv420p"),
    ],
)
def test_colours_do_not_shift(tmp_path, colorspace, color_range, pix_fmt):
    clip = Clip(colorspace=colorspace, color_range=color_range, pix_fmt=pix_fmt)
    source, output = clip.write(tmp_path / "in.mp4"), tmp_path / "out.mp4"
    enhance(source, output)
    for index, (before, after) in enumerate(zip(frames_of(source), frames_of(output), strict=True)):
        difference = after.astype(float) - before
        assert np.abs(difference).mean() < 1.5
        assert np.abs(difference.mean(axis=(0, 1))).max() < 0.5
        # And the first step is right too: what was drawn is what is read.
        assert np.abs(before.astype(float) - picture(index, 96, 64)).mean() < 3
    tags = [VideoSource(path).info.colour for path in (source, output)]
    assert tags[0] == tags[1]


def test_a_guess_of_the_matrix_is_written_down(tmp_path):
    source, output = Clip().write(tmp_path / "in.mp4"), tmp_path / "out.mp4"
    enhance(source, output)
    with av.open(str(output)) as container:
        assert container.streams.video[0].codec_context.colorspace == 6


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".webm"])
@pytest.mark.parametrize("scale", [1, 2])
def test_odd_sizes_lose_no_pixel(tmp_path, suffix, scale):
    source = Clip(width=97, height=61, pix_fmt="yuv444p").write(tmp_path / "in.mp4")
    output = tmp_path / f"out{suffix}"
    enhance(source, output, scale)
    assert frames_of(output)[0].shape == (61 * scale, 97 * scale, 3)
    assert len(frames_of(output)) == 12


@pytest.mark.parametrize("codec", ["libx264", "libx265", "libvpx-vp9", "ffv1"])
def test_every_codec_works(tmp_path, codec):
    source, output = Clip(pts=VFR).write(tmp_path / "in.mp4"), tmp_path / "out.mkv"
    enhance(source, output, encode=EncodeOptions(codec))
    assert len(frames_of(output)) == len(VFR)
    with av.open(str(output)) as container:
        name = container.streams.video[0].codec_context.name
    assert name in {"libx264": "h264", "libx265": "hevc", "libvpx-vp9": "vp9"}.get(codec, codec)


def test_sample_aspect_ratio_is_kept(tmp_path):
    source = Clip(sar=Fraction(16, 15)).write(tmp_path / "in.mp4")
    enhance(source, tmp_path / "out.mp4", 2)
    assert VideoSource(tmp_path / "out.mp4", planes=True).info.sample_aspect_ratio == Fraction(
        16, 15
    )


MATRICES = {
    "90": ((0, -1, 1, 0), lambda rgb: np.rot90(rgb, 1)),
    "180": ((-1, 0, 0, -1), lambda rgb: np.rot90(rgb, 2)),
    "270": ((0, 1, -1, 0), lambda rgb: np.rot90(rgb, 3)),
    "mirrored": ((-1, 0, 0, 1), lambda rgb: rgb[:, ::-1]),
}


def set_display_matrix(path, a, b, c, d):
    """Write a display matrix into the header of the file's only track."""
    data = bytearray(path.read_bytes())
    unit = struct.pack(">9i", 65536, 0, 0, 0, 65536, 0, 0, 0, 1 << 30)
    where = data.index(unit, data.index(b"tkhd"))
    values = (a * 65536, b * 65536, 0, c * 65536, d * 65536, 0, 0, 0, 1 << 30)
    data[where : where + 36] = struct.pack(">9i", *values)
    path.write_bytes(data)


@pytest.mark.parametrize("name", MATRICES)
def test_output_is_upright_without_a_matrix(tmp_path, name):
    source = Clip(sar=Fraction(2)).write(tmp_path / "in.mp4")
    stored = frames_of(source)[3]
    matrix, turn = MATRICES[name]
    set_display_matrix(source, *matrix)
    output = tmp_path / "out.mp4"
    enhance(source, output)
    assert np.array_equal(frames_of(source)[3], turn(stored))
    after = frames_of(output)[3]
    assert after.shape == turn(stored).shape
    assert np.abs(after.astype(float) - turn(stored)).mean() < 1.5
    with av.open(str(output)) as container:
        assert next(container.decode(video=0)).rotation == 0
    expected = Fraction(1, 2) if name in ("90", "270") else Fraction(2)
    assert VideoSource(output, planes=True).info.sample_aspect_ratio == expected


def test_compare_puts_before_beside_after(tmp_path):
    source, output = Clip().write(tmp_path / "in.mp4"), tmp_path / "out.mp4"
    enhance(source, output, 2, compare=True)
    both = frames_of(output)[0]
    assert both.shape == (128, 2 * 192, 3)
    assert np.abs(both[:, :192].astype(float) - both[:, 192:]).mean() < 1.5


def test_no_audio_leaves_it_out(tmp_path):
    source = Clip(audio=["aac"]).write(tmp_path / "in.mp4")
    enhance(source, tmp_path / "out.mp4", audio=False)
    assert audio_streams(tmp_path / "out.mp4") == []


def test_audio_that_does_not_fit_is_refused_before_the_work(tmp_path):
    source = Clip(audio=["aac"]).write(tmp_path / "in.mp4")
    started = []
    with pytest.raises(OutputError, match=r"aac.*\.mkv.*--no-audio"):
        run_video(
            VideoJob(source, tmp_path / "out.webm", 1),
            lambda: PlainEnhancer(1),
            Watcher(on_started=started.append),
        )
    assert not started
    assert [p.name for p in tmp_path.iterdir()] == ["in.mp4"]


def test_a_cover_picture_is_no_video(tmp_path):
    path = tmp_path / "song.mkv"
    with av.open(str(path), "w") as container:
        tone = container.add_stream("aac", rate=48_000)
        frame = av.AudioFrame.from_ndarray(np.zeros((2, 1024), np.float32), "fltp", "stereo")
        frame.sample_rate = 48_000
        container.mux(tone.encode(frame))
        container.mux(tone.encode(None))
    with pytest.raises(InputError, match=r"no video stream \(found: audio\)"):
        VideoSource(path)


def test_a_cut_file_gives_what_is_there(tmp_path, caplog):
    clip = Clip(time_base=Fraction(1, 1000), pts=range(0, 4000, 40), audio=["aac"])
    whole = clip.write(tmp_path / "whole.mkv")
    cut = tmp_path / "cut.mkv"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size * 6 // 10])
    summary = enhance(cut, tmp_path / "out.mkv")
    assert 20 < summary.frames < 100
    assert video_times(tmp_path / "out.mkv") == video_times(whole)[: summary.frames]


def test_the_last_frame_of_a_cut_file_does_not_last_until_the_end_it_had(tmp_path):
    clip = Clip(codec="mpeg4", options=(), time_base=Fraction(1, 25), pts=range(100))
    cut = clip.write(tmp_path / "in.avi")
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size * 6 // 10])
    with av.open(str(cut)) as container:
        assert container.streams.video[0].frames == 100  # what its header says
    summary = enhance(cut, tmp_path / "out.mp4")
    assert 20 < summary.frames < 100
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert container.duration == summary.frames * av.time_base // 25


def test_a_pause_that_mp4_cannot_hold(tmp_path):
    source = Clip(time_base=Fraction(1, 1000), pts=(0, 40, 2**31 + 40)).write(tmp_path / "in.mkv")
    with pytest.raises(OutputError, match=r"shown for 596.5 hours, longer than mp4 can .*\.mkv$"):
        enhance(source, tmp_path / "out.mp4")
    assert [p.name for p in tmp_path.iterdir()] == ["in.mkv"]
    enhance(source, tmp_path / "out.mkv")
    assert video_times(tmp_path / "out.mkv") == video_times(source)


def test_damaged_packets_are_left_out_and_told(tmp_path, caplog):
    whole = Clip(pts=range(0, 60 * 512, 512), options=(("crf", "1"), ("g", "10"))).write(
        tmp_path / "in.mp4"
    )
    data = bytearray(whole.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 4000] = bytes(4000)
    whole.write_bytes(data)
    summary = enhance(whole, tmp_path / "out.mp4")
    assert 30 < summary.frames <= 60


@pytest.mark.parametrize("seconds", [2, Fraction(48, 100)])
@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
def test_sound_of_films_joined_end_to_end_goes_on_as_their_pictures_do(tmp_path, seconds, suffix):
    pts = range(0, int(seconds * 90_000), 3600)
    clip = Clip(
        time_base=Fraction(1, 90_000), pts=pts, audio=("mp2", "mp2"), audio_s=float(seconds)
    )
    one = clip.write(tmp_path / "one.ts")
    joined = tmp_path / "joined.ts"
    joined.write_bytes(2 * one.read_bytes())
    output = tmp_path / f"out{suffix}"
    enhance(joined, output, 1)
    assert len(video_times(output)) == 2 * len(pts)
    for (_, alone), (_, times) in zip(audio_streams(one), audio_streams(output), strict=True):
        assert len(times) == 2 * len(alone)
        steps = [b - a for a, b in pairwise(times)]
        assert min(steps) > 0
        assert max(steps) < Fraction(1, 20)


def test_a_size_that_changes_is_brought_to_the_first(tmp_path):
    path = tmp_path / "in.ts"
    parts = [
        Clip(width=w, height=h, time_base=Fraction(1, 90_000), pts=range(s, s + 36_000, 3600))
        for w, h, s in ((96, 64, 0), (64, 48, 36_000))
    ]
    pieces = [part.write(tmp_path / f"{i}.ts").read_bytes() for i, part in enumerate(parts)]
    path.write_bytes(b"".join(pieces))
    sizes = {rgb.shape for rgb in frames_of(path)}
    assert sizes == {(64, 96, 3)}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (EncodeOptions("h266"), r"unknown codec 'h266'; usable: libx264"),
        (EncodeOptions(crf=99), r"--crf 99: libx264 takes 0 \(best\) to 51"),
        (EncodeOptions(preset="warp"), r"--encoder-preset 'warp': libx264 takes ultrafast"),
    ],
)
def test_encoder_options_are_checked_first(tmp_path, options, message):
    source = Clip().write(tmp_path / "in.mp4")
    with pytest.raises(ConfigError, match=message):
        enhance(source, tmp_path / "out.mp4", encode=options)
    assert [p.name for p in tmp_path.iterdir()] == ["in.mp4"]


def test_a_codec_the_container_cannot_hold(tmp_path):
    source = Clip().write(tmp_path / "in.mp4")
    with pytest.raises(OutputError, match=r"libx264 at 96x64 .* try another --codec"):
        enhance(source, tmp_path / "out.webm", encode=EncodeOptions("libx264"))
    assert [p.name for p in tmp_path.iterdir()] == ["in.mp4"]


def test_a_video_in_which_every_frame_failed_is_not_written(tmp_path):
    source = Clip().write(tmp_path / "in.mp4")
    job = VideoJob(source, tmp_path / "out.mp4", 2, FAST)
    with pytest.raises(CagfaceError, match="not one frame"):
        run_video(job, lambda: PlainEnhancer(2, fail_at=lambda _index: True))
    assert [p.name for p in tmp_path.iterdir()] == ["in.mp4"]


def test_an_error_in_mid_work_leaves_no_file_and_closes_the_enhancer(tmp_path):
    source = Clip().write(tmp_path / "in.mp4")
    enhancer = PlainEnhancer(1)

    def fail(stats):
        if stats.frames == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_video(
            VideoJob(source, tmp_path / "out.mp4", 1, FAST),
            lambda: enhancer,
            Watcher(on_delivered=fail),
        )
    assert enhancer.closed
    assert [p.name for p in tmp_path.iterdir()] == ["in.mp4"]


def test_overwrite_keeps_the_old_file_until_the_new_one_is_whole(tmp_path):
    source, output = Clip().write(tmp_path / "in.mp4"), tmp_path / "out.mp4"
    output.write_text("old")
    with pytest.raises(OutputError, match="--overwrite"):
        enhance(source, output)
    job = VideoJob(source, output, 1, FAST, overwrite=True)
    with pytest.raises(CagfaceError):
        run_video(job, lambda: PlainEnhancer(1, fail_at=lambda _index: True))
    assert output.read_text() == "old"
    enhance(source, output, overwrite=True)
    assert len(frames_of(output)) == 12


REAL = [
    "derived/anamorphic_sar.mp4",
    "derived/audio_longer_than_video.mp4",
    "derived/hevc_10bit.mp4",
    "derived/noaudio_odd_size_449x333.mp4",
    "derived/rot90_displaymatrix.mp4",
    "derived/single_frame.mp4",
    "derived/two_audio_offset.mkv",
    "derived/vfr_timestamps.mp4",
    "derived/vp9_opus.webm",
    "crowd_cuts_320x180_lowres_aac.mp4",
]


@pytest.mark.parametrize("name", REAL)
def test_real_clips_keep_times_and_audio(tmp_path, shared_data, name):
    source = shared_data / "videos" / name
    # VP9 is encoded in a test of its own; Matroska holds the same times and audio much faster.
    output = tmp_path / f"out{source.suffix.replace('webm', 'mkv')}"
    enhance(source, output)
    assert_same_stream(source, output)


def test_transport_stream_to_mp4(tmp_path, shared_data):
    source = shared_data / "videos" / "derived" / "interlaced_mpeg2_mp2.ts"
    enhance(source, tmp_path / "out.mp4")
    assert video_times(tmp_path / "out.mp4") == video_times(source)
    before, after = audio_streams(source)[0], audio_streams(tmp_path / "out.mp4")[0]
    assert before[0] == after[0]
    # MP4 counts audio time in samples; MPEG-TS in 1/90000 s.
    assert max(abs(a - b) for a, b in zip(before[1], after[1], strict=True)) < Fraction(1, 48_000)
