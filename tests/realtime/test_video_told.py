"""What a made file tells of itself: its rate and time code; and where reports may not go."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.stream import Disposition
from PIL import Image as Pil

from realtime.cli import main
from realtime.video_in import VideoSource
from tests.realtime.helpers import Clip, PlainEnhancer, video_times

FILM = Clip(time_base=Fraction(1, 1000), pts=range(0, 480, 40))


def run(*words):
    arguments = ["video", *map(str, words), "--scale", "1", "--encoder-preset", "ultrafast"]
    return main(arguments, make_enhancer=lambda options: PlainEnhancer(options.scale))


@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
def test_a_file_tells_the_rate_of_its_frames(tmp_path, suffix):
    source, output = FILM.write(tmp_path / "in.mkv"), tmp_path / f"out{suffix}"
    assert run(source, output) == 0
    with av.open(str(output)) as container:
        assert container.streams.video[0].average_rate == 25


def test_a_rate_that_its_frames_do_not_have_is_not_told(tmp_path):
    """One of ten frames in a second, told as the time base's."""
    clip = Clip(pts=range(0, 12 * 1280, 1280), rate=Fraction(12_800))
    source, output = clip.write(tmp_path / "in.mkv"), tmp_path / "out.mkv"
    assert run(source, output) == 0
    with av.open(str(output)) as container:
        assert container.streams.video[0].average_rate == 10


@pytest.mark.parametrize("suffix", [".mov", ".mp4", ".mkv"])
def test_a_time_code_goes_along(tmp_path, suffix):
    source, output = tmp_path / "in.mov", tmp_path / f"out{suffix}"
    plain = FILM.write(tmp_path / "plain.mkv")
    with av.open(str(plain)) as old, av.open(str(source), "w") as new:
        stream = new.add_stream_from_template(old.streams.video[0], opaque=True)
        stream.codec_context.framerate = 25
        stream.metadata["timecode"] = "10:00:00:00"
        for packet in old.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                new.mux(packet)
    assert run(source, output) == 0
    assert video_times(output) == video_times(source)
    with av.open(str(output)) as container:
        told = {k.lower(): v for k, v in container.streams.video[0].metadata.items()}
        assert told["timecode"] == "10:00:00:00"


@pytest.mark.parametrize("option", ["--stats-json", "--report"])
@pytest.mark.parametrize("place", ["in.mkv", "out.mkv", "deep/../in.mkv", "link.json"])
def test_a_report_never_takes_the_place_of_the_film(tmp_path, capsys, option, place):
    source, output = FILM.write(tmp_path / "in.mkv"), tmp_path / "out.mkv"
    (tmp_path / "deep").mkdir()
    (tmp_path / "link.json").symlink_to(source)
    before = source.read_bytes()
    assert run(source, output, option, tmp_path / place) == 2
    assert "is read or made by this run itself; choose another name" in capsys.readouterr().err
    assert source.read_bytes() == before
    assert not output.exists()


def test_nor_of_another_file_unless_asked(tmp_path, capsys):
    source, page = FILM.write(tmp_path / "in.mkv"), tmp_path / "page.html"
    page.write_text("precious")
    assert run(source, tmp_path / "out.mkv", "--report", page) == 2
    assert "exists already; pass --overwrite" in capsys.readouterr().err
    assert page.read_text() == "precious"
    assert run(source, tmp_path / "out.mkv", "--report", page, "--overwrite") == 0
    assert "<html" in page.read_text()


def covers(path):
    """The cover pictures of a file: name, if it has one, and bytes."""
    with av.open(str(path)) as container:
        found = [s for s in container.streams.video if s.disposition & Disposition.attached_pic]
        return [
            (stream.metadata.get("filename", ""), bytes(packet))
            for packet in container.demux(*found)
            for stream in [packet.stream]
            if packet.size
        ]


def test_a_cover_picture_goes_along(tmp_path):
    picture, source = tmp_path / "cover.png", tmp_path / "in.mp4"
    Pil.new("RGB", (60, 40), "orange").save(picture)
    plain = FILM.write(tmp_path / "plain.mkv")
    with (
        av.open(str(plain)) as film,
        av.open(str(picture)) as cover,
        av.open(str(source), "w") as new,
    ):
        to = {}
        for number, old in enumerate((film, cover)):
            to[old] = new.add_stream_from_template(old.streams.video[0], opaque=True)
            to[old].disposition = (Disposition.default, Disposition.attached_pic)[number]
        for old in (cover, film):
            for packet in old.demux(video=0):
                if packet.dts is not None:
                    packet.stream = to[old]
                    new.mux(packet)
    expected = picture.read_bytes()
    assert [data for _, data in covers(source)] == [expected]
    for first, second in [("a.mp4", "b.mkv"), ("c.mkv", "d.mp4"), ("e.mkv", "f.mkv")]:
        assert run(source, tmp_path / first) == run(tmp_path / first, tmp_path / second) == 0
        for name in (first, second):
            called = "cover.png" if name.endswith("mkv") else ""
            assert covers(tmp_path / name) == [(called, expected)]
            assert video_times(tmp_path / name) == video_times(source)


def sound(path):
    """All samples of a file's audio, (N, channels) in -1..1, when they begin, and their coding."""
    with av.open(str(path)) as container:
        frames = list(container.decode(audio=0))
        resampler = av.AudioResampler("fltp")
        parts = [part.to_ndarray() for frame in frames for part in resampler.resample(frame)]
        coding = container.streams.audio[0].codec_context.name
    return np.concatenate(parts, 1).T, frames[0].time, coding


@pytest.mark.parametrize(
    ("coding", "suffix"),
    [("wmav2", ".wmv"), ("adpcm_ms", ".avi"), ("pcm_mulaw", ".avi"), ("pcm_alaw", ".mov")],
)
def test_sound_that_matroska_cannot_hold_becomes_flac(tmp_path, capsys, coding, suffix):
    source, output = tmp_path / f"in{suffix}", tmp_path / "out.mkv"
    replace(FILM, codec="mpeg4", audio=[coding]).write(source)
    assert run(source, output) == 0
    assert capsys.readouterr().err.count(f"the {coding} audio becomes FLAC, which loses noth") == 1
    (before, begins, _), (after, begun, now) = sound(source), sound(output)
    assert now == "flac"
    assert after.shape == before.shape
    assert np.abs(after - before).max() < 2**-22
    assert begun == pytest.approx(begins, abs=0.001)
    assert run(source, tmp_path / "out.mp4") == 2
    assert f"cannot hold the {coding} audio of the input; use a name" in capsys.readouterr().err
    assert run(source, tmp_path / "out.mp4", "--no-audio") == 0


@pytest.mark.parametrize("kind", ["mkv", "webm", "mp4"])
def test_a_film_cut_off_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture, kind: str):
    codec = "libvpx-vp9" if kind == "webm" else "libx264"
    options = () if kind == "webm" else (("crf", "10"), ("preset", "ultrafast"))
    path = Clip(codec=codec, options=options, pts=range(0, 200 * 512, 512)).write(
        tmp_path / f"whole.{kind}"
    )
    if kind == "mp4":  # the index first, or nothing of it could be read
        with av.open(str(path)) as given:
            path = tmp_path / "fast.mp4"
            with av.open(str(path), "w", options={"movflags": "faststart"}) as made:
                stream = made.add_stream_from_template(given.streams.video[0])
                for packet in given.demux(video=0):
                    if packet.dts is not None:
                        packet.stream = stream
                        made.mux(packet)
    cut = tmp_path / f"cut.{kind}"
    data = path.read_bytes()
    cut.write_bytes(data[: len(data) // 2])
    with closing(VideoSource(path)) as source:
        assert sum(1 for _ in source.frames()) == 200
    assert caplog.text == ""
    with closing(VideoSource(cut)) as source:
        assert 50 < sum(1 for _ in source.frames()) < 150
    assert "and it says 8.0 s; was it cut off?" in caplog.text


def test_a_second_picture_is_named_and_lends_the_first_nothing(tmp_path, capsys):
    one = Clip().write(tmp_path / "one.mkv")
    two = tmp_path / "two.mkv"
    with av.open(str(one)) as source, av.open(str(two), "w") as container:
        streams = [container.add_stream_from_template(source.streams.video[0]) for _ in range(2)]
        streams[1].metadata.update(title="second camera", language="fra")
        for packet in source.demux(video=0):
            if packet.dts is not None:
                for stream in streams:
                    copy = av.Packet(bytes(packet))
                    copy.pts, copy.dts, copy.time_base = packet.pts, packet.dts, packet.time_base
                    copy.is_keyframe, copy.stream = packet.is_keyframe, stream
                    container.mux(copy)
    output = tmp_path / "out.mkv"
    assert run(two, output) == 0
    told = capsys.readouterr().err
    assert "the first picture is enhanced, others are left out: video h264 fra" in told
    with av.open(str(output)) as container:
        (picture,) = container.streams.video
        assert "title" not in picture.metadata
        assert picture.metadata.get("language", "und") == "und"


def test_the_text_of_quicktimes_chapters_is_not_missed(tmp_path, capsys):
    source = Clip().write(tmp_path / "in.mp4")
    with_chapters = tmp_path / "chapters.mp4"
    with av.open(str(source)) as film, av.open(str(with_chapters), "w") as container:
        stream = container.add_stream_from_template(film.streams.video[0])
        chapter = {"id": 1, "start": 0, "end": 200, "time_base": Fraction(1, 1000)}
        container.set_chapters([chapter | {"metadata": {"title": "One"}}])
        for packet in film.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                container.mux(packet)
    with av.open(str(with_chapters)) as container:
        assert any(stream.type == "data" for stream in container.streams)
    assert run(with_chapters, tmp_path / "out.mp4") == 0
    assert "left out" not in capsys.readouterr().err
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert len(container.chapters()) == 1


def test_subtitles_that_begin_together_stay_together(tmp_path):
    film = Clip().write(tmp_path / "film.mkv")
    source = tmp_path / "in.mkv"
    starts_ms = [0, 100, 100, 100, 2000, 5000, 20_000, 22_000]
    with av.open(str(film)) as pictures, av.open(str(source), "w") as container:
        video = container.add_stream_from_template(pictures.streams.video[0])
        texts: Any = container.add_stream("ass")
        packets = [packet for packet in pictures.demux(video=0) if packet.dts is not None]
        for packet in packets:
            packet.stream = video
            container.mux(packet)
        for number, start_ms in enumerate(starts_ms):
            line = av.Packet(f"{number},0,Default,,0,0,0,,line {number}".encode())
            line.pts = line.dts = start_ms
            line.duration, line.time_base, line.stream = 10_000, Fraction(1, 1000), texts
            container.mux(line)
    assert run(source, tmp_path / "out.mkv") == 0
    with av.open(str(tmp_path / "out.mkv")) as container:
        found = [(p.pts, bytes(p)) for p in container.demux(subtitles=0) if p.size]
    assert [pts for pts, _ in found] == starts_ms
    assert all(text.endswith(b"line %d" % k) for k, (_, text) in enumerate(found))
