"""Contracts: what every source and every sink keeps to, run over each that can run here."""

from __future__ import annotations

import sys
from contextlib import closing
from ctypes.util import find_library
from dataclasses import replace
from fractions import Fraction
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from cagface_core import DeviceError, Frame, Image, InputError
from realtime.journal import open_journal
from realtime.preview import PreviewSink
from realtime.sink import FanOut, NullSink
from realtime.source import open_source
from realtime.video_out import VideoSink
from realtime.virtualcam import VirtualCameraSink
from tests.realtime.helpers import Clip, ListSink, picture


@pytest.fixture(params=["file", "vfr file", "file that loops", "lavfi", "lavfi odd"])
def source(request, tmp_path):
    clip = Clip(pts=(0, 512, 2000, 2001, 9000) if "vfr" in request.param else Clip().pts)
    opened = {
        "lavfi": lambda: open_source("lavfi:testsrc=size=96x64:rate=30:duration=1"),
        "lavfi odd": lambda: open_source("lavfi:testsrc2=size=33x17:rate=30000/1001:duration=1"),
    }.get(
        request.param,
        lambda: open_source(
            str(clip.write(tmp_path / "in.mp4")), loop=request.param == "file that loops"
        ),
    )()
    yield opened
    opened.close()


def test_source_contract(source):
    info = source.info
    frames = list(islice(source.frames(), 40))
    assert frames
    for frame in frames:
        assert frame.rgb.shape == (info.height, info.width, 3)
        assert frame.rgb.dtype == np.uint8
        assert frame.rgb.flags["C_CONTIGUOUS"]
        assert frame.time_base == info.time_base
    assert all(a.pts < b.pts for a, b in pairwise(frames))
    assert isinstance(info.rate, Fraction)
    source.close()
    source.close()


def test_a_loop_goes_on_with_rising_times(tmp_path):
    source = open_source(str(Clip().write(tmp_path / "in.mp4")), loop=True)
    frames = list(islice(source.frames(), 30))
    source.close()
    assert [frame.pts for frame in frames] == [512 * i for i in range(30)]
    assert np.array_equal(frames[0].rgb, frames[12].rgb)
    assert source.info.frame_count is None


def test_names_and_rates_are_exact(tmp_path):
    source = open_source("lavfi:testsrc=size=64x48:rate=30000/1001:duration=1")
    source.close()
    assert source.info.rate == Fraction(30_000, 1001)
    assert (source.info.width, source.info.height, source.info.live) == (64, 48, False)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("missing.mp4", "no such file"),
        ("lavfi:nonsense=1", "cannot be opened"),
        ("lavfi: ", "lacks a filter"),
        ("http://127.0.0.1:9/none.mp4", "cannot be opened"),
        (".", "is a folder"),
    ],
)
def test_sources_that_do_not_open(spec, message):
    with pytest.raises(InputError, match=message):
        open_source(spec)


def live_pictures(path: Path) -> list[Image]:
    """As a live run takes them: to be looked at, not to be kept in planes."""
    source = open_source(str(path))
    with closing(source):
        assert source.info.sample_aspect_ratio == 1
        pictures = [frame.rgb for frame in source.frames()]
    assert pictures[0].shape == (source.info.height, source.info.width, 3)
    return pictures


@pytest.mark.parametrize(
    ("sar", "size"), [((2, 1), (64, 192)), ((3, 4), (85, 96)), ((1, 500), (64, 96))]
)
def test_pixels_that_are_looked_at_are_square(tmp_path, sar, size):
    """None of them is lost: a narrow one is made higher, not narrower still."""
    path = Clip(sar=Fraction(*sar)).write(tmp_path / "in.mp4")
    assert {rgb.shape for rgb in live_pictures(path)} == {(*size, 3)}


def test_pixels_may_become_square(tmp_path):
    """As on television, where the film is wide and what comes after it is not."""
    parts = [
        Clip(96, 64, sar=sar, time_base=Fraction(1, 90_000), pts=range(s, s + 36_000, 3600))
        for sar, s in ((Fraction(2), 0), (Fraction(1), 36_000))
    ]
    parts[1] = replace(parts[1], width=192)
    pieces = [part.write(tmp_path / f"{i}.ts").read_bytes() for i, part in enumerate(parts)]
    path = tmp_path / "in.ts"
    path.write_bytes(b"".join(pieces))
    assert {rgb.shape for rgb in live_pictures(path)} == {(64, 192, 3)}


def test_a_live_file_may_change_its_size_and_is_not_stretched(tmp_path):
    parts = [
        Clip(width=w, height=h, time_base=Fraction(1, 90_000), pts=range(s, s + 36_000, 3600))
        for w, h, s in ((96, 64, 0), (64, 96, 36_000))
    ]
    pieces = [part.write(tmp_path / f"{i}.ts").read_bytes() for i, part in enumerate(parts)]
    path = tmp_path / "in.ts"
    path.write_bytes(b"".join(pieces))
    assert {rgb.shape for rgb in live_pictures(path)} == {(64, 96, 3), (96, 64, 3)}


def combing(pictures: list[Image]) -> float:
    """How much more each row differs from the next one than from the next but one."""
    levels = np.stack(pictures).astype(float)
    near, far = (np.abs(levels[:, k:] - levels[:, :-k]).mean() for k in (1, 2))
    return float(near - far)


def test_interlaced_frames_are_looked_at_whole(tmp_path, caplog):
    path = tmp_path / "in.mkv"
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("mpeg2video", rate=25, options={"flags": "+ildct+ilme"})
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for index in range(12):
            fields = [picture(3 * index + late, 96, 64) for late in (0, 1)]
            rgb = fields[0].copy()
            rgb[1::2] = fields[1][1::2]
            frame: Any = av.VideoFrame.from_ndarray(rgb, format="rgb24").reformat(format="yuv420p")
            frame.pts, frame.time_base = index, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    combed = [f.to_ndarray(format="rgb24") for f in av.open(str(path)).decode(video=0)]
    whole = live_pictures(path)
    assert len(whole) == len(combed) == 12
    assert "interlaced" in caplog.text
    assert combing(whole) < 0.5 * combing(combed)


def test_a_packet_of_a_stream_that_damage_made_is_left_out(tmp_path, monkeypatch, caplog):
    """PyAV knows only the streams that a file had when it was opened."""
    source = open_source(str(Clip().write(tmp_path / "in.mp4")))
    container = source._container

    class Damaged:
        """The same, where every third packet is of an unknown stream."""

        number = 0

        def demux(self, stream):
            for packet in container.demux(stream):
                self.number += 1
                yield packet
                if self.number % 3 == 0:
                    raise IndexError("list index out of range")

        def __getattr__(self, name):
            return getattr(container, name)

    with closing(source):
        source._container, source._first = Damaged(), None
        container.seek(0)
        source._decoder = source._decode(source._stream)
        assert len(list(source.frames())) == 12
    assert "damaged packets left out" in caplog.text


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="names Linux's own fix")
@pytest.mark.parametrize("spec", ["97", "/dev/video97"])
def test_a_missing_camera_is_one_line_with_the_fix(spec, capfd):
    with pytest.raises(DeviceError, match=r"V4L2: does not open.*ls /dev/video") as caught:
        open_source(spec)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def video_sink(path, info):
    return VideoSink(path, info, 64, 48, journal=open_journal(path, {}))


@pytest.fixture(params=["null", "video", "virtual camera", "fan-out"])
def sink(request, tmp_path, cameras):
    info = open_source("lavfi:testsrc=size=64x48:rate=25:duration=1").info
    made = {
        "null": NullSink,
        "video": lambda: video_sink(tmp_path / "out.mp4", info),
        "virtual camera": lambda: VirtualCameraSink(64, 48, Fraction(25)),
        "fan-out": lambda: FanOut([NullSink(), VirtualCameraSink(64, 48, None), ListSink()]),
    }[request.param]()
    yield made
    made.close()


def test_sink_contract(sink):
    assert sink.description
    for index in range(5):
        sink.write(Frame(picture(index, 64, 48), index, Fraction(1, 25)))
    sink.finish()
    sink.close()
    sink.close()


def test_sinks_that_care_refuse_another_size(tmp_path, cameras):
    info = open_source("lavfi:testsrc=size=64x48:rate=25:duration=1").info
    video = video_sink(tmp_path / "out.mp4", info)
    camera = VirtualCameraSink(64, 48, None)
    for sink in (video, camera):
        with pytest.raises(ValueError, match="frame of"):
            sink.write(Frame(picture(0, 32, 16)))
        sink.close()
    assert list(tmp_path.iterdir()) == []


def test_fan_out_closes_all_also_when_one_raises():
    closed = []

    class Sink(ListSink):
        def close(self):
            closed.append(self)
            if len(closed) == 1:
                raise OSError("first")

    with pytest.raises(OSError, match="first"):
        FanOut([Sink(), Sink(), Sink()]).close()
    assert len(closed) == 3


def test_virtual_camera_cuts_odd_rows_and_columns(cameras):
    sink = VirtualCameraSink(65, 49, None)
    rgb = picture(0, 65, 49)
    sink.write(Frame(rgb))
    sink.close()
    (camera,) = cameras
    assert (camera.width, camera.height, camera.fps) == (64, 48, 30.0)
    assert np.array_equal(camera.frames[0], rgb[:48, :64])
    assert camera.closed


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="names Linux's own fix")
def test_a_missing_virtual_camera_is_one_line_with_the_fix():
    with pytest.raises(DeviceError, match=r"modprobe v4l2loopback .*exclusive_caps=1") as caught:
        VirtualCameraSink(64, 48, None, device="/dev/video97")
    assert "\n" not in str(caught.value)
    assert "--no-virtual-camera" in str(caught.value)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only there DISPLAY is needed")
def test_a_missing_screen_is_one_line(monkeypatch, tmp_path):
    monkeypatch.delenv("DISPLAY", raising=False)
    with pytest.raises(DeviceError, match=r"no screen for --preview .DISPLAY is not set"):
        PreviewSink(tmp_path)


@pytest.mark.skipif(find_library("X11") is None, reason="the X library is asked")
def test_so_is_one_that_does_not_answer(monkeypatch, tmp_path):
    monkeypatch.setenv("DISPLAY", ":987")
    with pytest.raises(DeviceError, match="DISPLAY=:987 does not answer"):
        PreviewSink(tmp_path)


def test_the_file_has_the_first_word_on_its_pixels(tmp_path):
    """As where somebody has corrected it, and not coded the film anew."""
    coded = Clip(sar=Fraction(1)).write(tmp_path / "coded.mkv")
    path = tmp_path / "in.mp4"
    with av.open(str(coded)) as film, av.open(str(path), "w") as container:
        stream: Any = container.add_stream_from_template(film.streams.video[0])
        stream.codec_context.sample_aspect_ratio = Fraction(2)
        for packet in film.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                container.mux(packet)
    with av.open(str(path)) as container:
        assert container.streams.video[0].sample_aspect_ratio == 2
    assert {rgb.shape for rgb in live_pictures(path)} == {(64, 192, 3)}
