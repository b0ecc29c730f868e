"""Films as they come: clocks that wrap, edit lists, transparency, grey; pipes, closed outputs."""

from __future__ import annotations

import os
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from cagface_core import ConfigError, InputError, OutputError
from realtime.batch import plan_videos
from realtime.cli import main
from realtime.settings_file import read_settings_file
from realtime.video_out import VideoSink
from tests.realtime.helpers import Clip, PlainEnhancer, video_times

FILM = Clip(time_base=Fraction(1, 1000), pts=range(0, 480, 40))


def run(*words):
    arguments = ["video", *map(str, words), "--scale", "1"]
    return main(arguments, make_enhancer=lambda options: PlainEnhancer(options.scale))


def decoded(path: Path) -> list[av.VideoFrame]:
    with av.open(str(path)) as container:
        return list(container.decode(video=0))


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_frames_before_time_zero_are_not_hidden(tmp_path, suffix):
    """As of a recorded broadcast whose clock wraps soon after its start."""
    source, output = tmp_path / "in.ts", tmp_path / f"out{suffix}"
    whole = FILM.write(tmp_path / "whole.mkv")
    late = {"output_ts_offset": "95443.5"}  # of 2**33 / 90,000 s
    with av.open(str(whole)) as old, av.open(str(source), "w", options=late) as new:
        stream = new.add_stream_from_template(old.streams.video[0], opaque=True)
        for packet in old.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                new.mux(packet)
    assert min(video_times(source)) < 0 < max(video_times(source))
    assert run(source, output) == 0
    assert len(decoded(output)) == 12
    assert np.allclose(np.diff([float(t) for t in video_times(output)]), 0.04, atol=1e-3)


@pytest.mark.parametrize(("suffix", "kept"), [(".mp4", "yuv444p"), (".webm", "yuv420p")])
def test_transparency_that_an_encoder_only_claims_to_hold_does_not_stop_a_film(
    tmp_path, capsys, suffix, kept
):
    source, output = tmp_path / "in.mov", tmp_path / f"out{suffix}"
    with av.open(str(source), "w") as container:
        stream = container.add_stream("prores_ks", rate=25)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuva444p10le"
        for k in range(4):
            frame = av.VideoFrame.from_ndarray(np.full((64, 96, 4), 60 + k, np.uint8), "rgba")
            container.mux(stream.encode(frame.reformat(format="yuva444p10le")))
        container.mux(stream.encode(None))
    assert run(source, output) == 0, capsys.readouterr().err
    with av.open(str(output)) as container:
        codec = container.streams.video[0].codec_context
        assert codec.pix_fmt.startswith(kept)
        assert len(list(container.demux(video=0))) - 1 == 4
    assert ("transparency is lost" in capsys.readouterr().err) == (suffix == ".mp4")


def with_edit_list(source: Path, path: Path, cut_s: float) -> Path:
    """Its first part hidden by an edit list, as phones trim."""
    with av.open(str(source)) as old, av.open(str(path), "w") as new:
        streams = {s: new.add_stream_from_template(s, opaque=True) for s in old.streams}
        for packet in old.demux():
            if packet.dts is not None:
                shift = round(cut_s / packet.time_base)
                packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
                packet.stream = streams[packet.stream]
                new.mux(packet)
    return path


@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
def test_sound_that_an_edit_list_hides_does_not_come_back(tmp_path, suffix):
    clip = Clip(audio=("aac",), audio_s=0.48)
    source = with_edit_list(clip.write(tmp_path / "whole.mp4"), tmp_path / "in.mp4", 0.24)
    output = tmp_path / f"out{suffix}"
    assert run(source, output) == 0
    with av.open(str(output)) as container:
        first = next(container.decode(audio=0))
        heard_s = float(first.pts * first.time_base)
    with av.open(str(output)) as container:
        length_s = container.duration / av.time_base
    shown_s = float(video_times(output)[0])
    assert abs(heard_s - shown_s) < 0.07  # a packet of AAC primes the decoder
    assert length_s < 0.36


@pytest.mark.parametrize("tagged", [False, True])
def test_grey_without_a_range_keeps_its_contrast(tmp_path, tagged):
    source, output = tmp_path / "in.mkv", tmp_path / "out.mp4"
    ramp = np.tile(np.arange(0, 256, 2, dtype=np.uint8), (64, 1))
    with av.open(str(source), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 128, 64, "gray"
        stream.codec_context.color_range = 2 if tagged else 0
        for _ in range(3):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(ramp, "gray")))
        container.mux(stream.encode(None))
    assert run(source, output, "--crf", "8") == 0
    shown = decoded(output)[0].to_ndarray(format="rgb24")[..., 0].astype(int)
    assert np.abs(shown - ramp).mean() < 2


def test_a_report_waits_until_the_film_is_there(tmp_path, monkeypatch, capsys):
    source, output, page = FILM.write(tmp_path / "in.mkv"), tmp_path / "o.mkv", tmp_path / "r.html"

    def fail(self: VideoSink) -> None:
        raise OutputError("the disk is full")

    with monkeypatch.context() as context:
        context.setattr(VideoSink, "finish", fail)
        assert run(source, output, "--report", page) == 2
    assert not page.exists()
    assert run(source, output, "--report", page) == 0, capsys.readouterr().err
    assert page.read_text("utf-8").startswith("<!doctype html>")
    assert {p.name for p in tmp_path.iterdir()} == {"in.mkv", "o.mkv", "r.html"}


@pytest.mark.skipif(sys.platform in {"win32", "darwin"}, reason="names are text there")
def test_a_name_that_is_no_text_stands_in_a_report_somehow(tmp_path):
    source = tmp_path / os.fsdecode(b"f\xff.mkv")
    FILM.write(tmp_path / "in.mkv").rename(source)
    page = tmp_path / "r.html"
    assert run(source, tmp_path / "o.mkv", "--report", page) == 0
    assert "f?.mkv" in page.read_text("utf-8")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes")
def test_a_pipe_is_refused_in_one_line(tmp_path):
    os.mkfifo(tmp_path / "pipe.mkv")
    with pytest.raises(InputError, match="is a pipe or a device"):
        plan_videos([str(tmp_path / "pipe.mkv")], tmp_path / "o.mkv")
    with pytest.raises(InputError, match="is a pipe or a device"):
        plan_videos([str(tmp_path / "*.mkv")], tmp_path / "o")


@pytest.mark.parametrize("text", ["scale = " + 5000 * "9", "a = " + 100_000 * "["])
def test_settings_that_tomllib_trips_over_are_one_line(tmp_path, text):
    file = tmp_path / "settings.toml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match="is not valid TOML"):
        read_settings_file(file, ())


def test_a_closed_standard_output_is_no_traceback():
    words = ["-c", "from realtime.cli import main; raise SystemExit(main(['completion', 'bash']))"]
    ended = subprocess.run(
        ["sh", "-c", 'exec "$@" >&-', "sh", sys.executable, *words], stderr=subprocess.PIPE,
        text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (ended.returncode, ended.stderr) == (0, "")
