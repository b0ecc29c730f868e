"""The command line: every mistake is one clear line and exit code 2, and leaves no file."""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image as Pil

from realtime import live_command
from realtime.cli import live, main
from tests.realtime.helpers import Clip, PlainEnhancer, frames_of, picture

ROOT = Path(__file__).resolve().parents[2]


def plain(options):
    return PlainEnhancer(options.scale)


def never(_options):
    raise AssertionError("the network was loaded for nothing")


@pytest.fixture
def folder(tmp_path):
    """A folder with one good clip, one good picture, and several bad ones."""
    clip = Clip(audio=["aac"]).write(tmp_path / "good.mp4")
    data = clip.read_bytes()
    (tmp_path / "no_moov.mp4").write_bytes(data[: data.index(b"moov") - 4])
    (tmp_path / "half.mp4").write_bytes(data[: len(data) // 2])
    (tmp_path / "text.mp4").write_text("this is no video\n" * 100)
    (tmp_path / "notes.txt").write_text("this is no video\n" * 100)
    (tmp_path / "empty.mp4").write_bytes(b"")
    Clip(codec="mpeg4", options=()).write(tmp_path / "other.mkv")
    import av

    with av.open(str(tmp_path / "sound.mp4"), "w") as container, av.open(str(clip)) as source:
        copy = container.add_stream_from_template(source.streams.audio[0])
        for packet in source.demux(source.streams.audio[0]):
            if packet.dts is not None:
                packet.stream = copy
                container.mux(packet)
    Pil.fromarray(picture(0, 48, 32)).save(tmp_path / "good.png")
    Pil.new("RGB", (1, 1)).save(tmp_path / "dot.png")
    (tmp_path / "text.png").write_text("this is no picture")
    (tmp_path / "pictures").mkdir()
    return tmp_path


BAD = {
    "missing file": (["video", "none.mp4", "out.mp4"], "no such file"),
    "text named mp4": (["video", "text.mp4", "out.mp4"], "not a video that can be read"),
    "text file": (["video", "notes.txt", "out.mp4"], "not a video"),
    "empty file": (["video", "empty.mp4", "out.mp4"], "not a video that can be read"),
    "no moov": (["video", "no_moov.mp4", "out.mp4"], "not a video that can be read"),
    "half": (["video", "half.mp4", "out.mp4"], "not a video that can be read"),
    "no video stream": (["video", "sound.mp4", "out.mp4"], "no video stream"),
    "a folder": (["video", "pictures", "out.mp4"], "holds no videos.*--recursive"),
    "a picture": (["video", "good.png", "out.mp4"], "cagface image"),
    "input is output": (["video", "good.mp4", "good.mp4", "--overwrite"], "input itself"),
    "existing output": (["video", "good.mp4", "other.mkv"], "--overwrite"),
    "missing folder": (["video", "good.mp4", "none/out.mp4"], "does not exist"),
    # Whoever runs the tests may be root, who can write in a read-only folder; nobody can write
    # below a file.
    "file as folder": (["video", "good.mp4", "good.png/out.mp4"], "expected a folder"),
    "one file for two": (["video", "good.mp4", "half.mp4", "out.mp4"], "expected a folder for 2"),
    "a pattern": (["video", "nothing*.mp4", "results"], "no video has such a name"),
    "unknown suffix": (["video", "good.mp4", "out.xyz"], "unknown kind of video file"),
    "unknown codec": (["video", "good.mp4", "out.mp4", "--codec", "h266"], "usable: libx264"),
    "figures nowhere": (
        ["video", "good.mp4", "out.mp4", "--stats-json", "none/s.json"],
        "none/s.json: the folder none does not exist; make it first",
    ),
    "bad crf": (["video", "good.mp4", "out.mp4", "--crf", "99"], "--crf 99"),
    "audio for webm": (["video", "good.mp4", "out.webm"], "--no-audio"),
    "missing picture": (["image", "none.png", "out.png"], "no such file"),
    "1x1 picture": (["image", "dot.png", "out.png"], "1x1 pixels are too few"),
    "text named png": (["image", "text.png", "out.png"], "not a picture"),
    "picture in missing folder": (["image", "good.png", "none/out.png"], "does not exist"),
    "picture below a file": (["image", "good.png", "good.mp4/out.png"], "expected a folder"),
    "unknown picture": (["image", "good.png", "out.xyz"], "unknown kind of picture"),
    "empty folder": (["image", "pictures", "out"], "holds no pictures"),
    "aligned at 2": (["image", "good.png", "o.png", "--aligned", "--scale", "2"], "by 4"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_line_and_exit_code_2(folder, name, capfd, monkeypatch):
    arguments, message = BAD[name]
    monkeypatch.chdir(folder)
    before = sorted(folder.rglob("*"))
    assert main(arguments, make_enhancer=plain) == 2
    captured = capfd.readouterr()
    (line,) = captured.err.splitlines()
    assert line.startswith("error: ")
    assert re.search(message, line), line
    assert captured.out == ""
    assert sorted(folder.rglob("*")) == before


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root can write everywhere"
)
def test_a_read_only_folder(folder, capfd):
    (folder / "pictures").chmod(0o555)
    assert (
        main(
            ["video", str(folder / "good.mp4"), str(folder / "pictures" / "out.mp4")],
            make_enhancer=never,
        )
        == 2
    )
    assert "cannot write in" in capfd.readouterr().err


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc is Linux's own")
def test_a_folder_that_not_even_root_can_write(folder, capfd):
    code = main(["video", str(folder / "good.mp4"), "/proc/out.mp4"], make_enhancer=never)
    assert code == 2
    assert "cannot write in /proc" in capfd.readouterr().err


def test_weights_that_do_not_load_leave_no_file(folder, capfd):
    from cagface_core import WeightsError

    def broken(_options):
        raise WeightsError("corrupt.safetensors: damaged\nin two lines")

    before = sorted(folder.rglob("*"))
    source, output = str(folder / "good.mp4"), str(folder / "out.mp4")
    assert main(["video", source, output], make_enhancer=broken) == 2
    assert capfd.readouterr().err == "error: corrupt.safetensors: damaged in two lines\n"
    assert sorted(folder.rglob("*")) == before


def test_video(folder, capsys):
    source, output = str(folder / "good.mp4"), folder / "out.mp4"
    report = folder / "stats.json"
    asked = []

    def make(options):
        asked.append(options)
        return plain(options)

    arguments = ["video", source, str(output), "--stats", "--stats-json", str(report)]
    assert main([*arguments, "--strength", "0.5", "--max-faces", "3"], make_enhancer=make) == 0
    assert frames_of(output)[0].shape == (128, 192, 3)
    (options,) = asked
    assert (options.mode, options.weights, options.preset) == ("file", "webcam", None)
    assert (options.scale, options.strength, options.max_faces) == (2, 0.5, 3)
    captured = capsys.readouterr()
    assert "enhance.network" in captured.out
    summary = json.loads(report.read_text())
    assert summary["frames"] == 12
    assert summary["attention_hit_rate"] == 0.75
    assert summary["stages"]["deliver"]["n"] == 12


def test_image_of_a_folder_with_a_bad_one(folder, capsys):
    Pil.fromarray(picture(0, 48, 32)).save(folder / "pictures" / "a.png")
    (folder / "pictures" / "b.png").write_text("no picture")
    arguments = ["image", str(folder / "pictures"), str(folder / "out")]
    assert main(arguments, make_enhancer=plain) == 2
    captured = capsys.readouterr()
    assert "a.png" in captured.out
    assert "192x128" in captured.out
    assert "1 of 2 pictures failed" in captured.err
    assert [p.name for p in (folder / "out").iterdir()] == ["a.png"]


def test_one_image(folder, capsys):
    asked = []
    arguments = ["image", str(folder / "good.png"), str(folder / "out.jpg")]
    assert main(arguments, make_enhancer=lambda o: asked.append(o) or plain(o)) == 0
    assert "192x128" in capsys.readouterr().out
    assert (asked[0].mode, asked[0].weights, asked[0].scale) == ("image", "auto", 4)


def test_live_without_a_camera_is_one_line(capfd):
    assert live(["--webcam", "97", "--no-virtual-camera"], make_enhancer=never) == 2
    captured = capfd.readouterr()
    doing, error = captured.err.splitlines()
    assert doing == "opening camera 97"
    assert error.startswith("error: no camera 97")


@pytest.mark.parametrize(
    ("words", "source"), [([], "0"), (["--webcam"], "0"), (["--webcam", "2"], "2")]
)
def test_webcam_alone_is_the_first_camera(words, source):
    parser = argparse.ArgumentParser()
    live_command.add_live_arguments(parser)
    assert parser.parse_args(words).webcam == source


@pytest.mark.parametrize("entry", [main, live])
@pytest.mark.parametrize("option", ["--help", "--version"])
def test_help_and_version(entry, option, capsys):
    with pytest.raises(SystemExit) as caught:
        entry([option])
    assert caught.value.code == 0
    assert "cagface" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["video", "a.mp4", "b.mp4", "--strength", "abc"],
            "--strength: 'abc' is not a number from 0 to 1",
        ),
        (["video", "a.mp4", "b.mp4", "--scale", "3"], "--scale: invalid choice: 3"),
        (["video", "a.mp4"], "the following arguments are required: OUT"),
        (["vidoe"], "invalid choice: 'vidoe'"),
    ],
)
def test_a_mistake_in_the_words_is_one_line(words, said, capsys):
    with pytest.raises(SystemExit) as caught:
        main(words)
    assert caught.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert said in line
    assert "--help" in line


SLOW = """
import sys, time
sys.path.insert(0, {root!r})
from realtime.cli import main, live
from tests.realtime.helpers import PlainEnhancer
class Slow(PlainEnhancer):
    def enhance(self, frame, state, tuning=None):
        print("working", flush=True)
        time.sleep(0.05)
        return super().enhance(frame, state, tuning)
sys.exit({entry}(sys.argv[1:], make_enhancer=lambda options: Slow(options.scale)))
"""


@pytest.mark.skipif(os.name != "posix", reason="signals are sent the POSIX way")
@pytest.mark.parametrize(("number", "code"), [("SIGINT", 130), ("SIGTERM", 143), ("SIGHUP", 129)])
def test_a_signal_in_mid_work_leaves_no_file(tmp_path, number, code):
    clip = Clip(pts=range(0, 600 * 512, 512), audio=["aac"]).write(tmp_path / "in.mp4")
    program = subprocess.Popen(
        [
            sys.executable,
            "-c",
            SLOW.format(root=str(ROOT), entry="main"),
            "video",
            clip,
            tmp_path / "out.mp4",
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert program.stdout is not None
        for _ in range(8):
            assert program.stdout.readline() == "working\n"
        assert (tmp_path / ".out.mp4.cagface" / "unfinished.mkv").exists()
        started_s = time.perf_counter()
        program.send_signal(getattr(signal, number))
        _, err = program.communicate(timeout=30)
    finally:
        program.kill()
        program.communicate()
    assert program.returncode == code
    assert time.perf_counter() - started_s < 10
    assert "Traceback" not in err
    assert [p.name for p in tmp_path.iterdir()] == ["in.mp4"]


@pytest.mark.skipif(os.name != "posix", reason="signals are sent the POSIX way")
def test_ctrl_c_is_the_usual_end_of_live(tmp_path):
    program = subprocess.Popen(
        [
            *(sys.executable, "-c", SLOW.format(root=str(ROOT), entry="live")),
            *("--webcam", "lavfi:testsrc=size=64x48:rate=30", "--no-virtual-camera"),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert program.stdout is not None
        for _ in range(4):
            assert program.stdout.readline() == "working\n"
        program.send_signal(signal.SIGINT)
        out, err = program.communicate(timeout=30)
    finally:
        program.kill()
        program.communicate()
    assert program.returncode == 0
    assert "stopped" in err
    assert "Traceback" not in err
    assert " fps; " in out


@pytest.mark.skipif(os.name != "posix", reason="signals are sent the POSIX way")
@pytest.mark.parametrize("number", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_call_that_is_ended_tells_of_itself_and_its_recording_plays(tmp_path, number):
    clip = Clip(pts=range(0, 50 * 512, 512)).write(tmp_path / "in.mp4")
    words = ["--webcam", clip, "--loop", "--no-virtual-camera", "--stats-json", tmp_path / "s.json"]
    code = SLOW.format(root=str(ROOT), entry="live")
    program = subprocess.Popen(
        [sys.executable, "-c", code, *words, "--record", tmp_path / "r.mp4", "--scale", "1"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert program.stdout is not None
        for _ in range(20):
            assert program.stdout.readline() == "working\n"
        program.send_signal(getattr(signal, number))
        _, err = program.communicate(timeout=30)
    finally:
        program.kill()
        program.communicate()
    assert program.returncode == 0, err
    assert json.loads((tmp_path / "s.json").read_text())["frames"] > 5
    assert len(frames_of(tmp_path / "r.mp4")) > 5


@pytest.mark.parametrize(
    ("entry", "words"),
    [("video", ["IN", "LONG.mp4"]), ("video", ["LONG.mp4", "out.mp4"]),
     ("image", ["IN", "LONG.png"]), ("image", ["LONG.png", "out.png"]),
     ("", ["--webcam", "LONG.mp4", "--no-virtual-camera"]),
     ("", ["--webcam", "IN", "--no-virtual-camera", "--record", "LONG.mp4"]),
     ("", ["--webcam", "IN", "--no-virtual-camera", "--stats-json", "LONG.json"])],
)  # fmt: skip
def test_a_name_that_the_system_does_not_take_is_one_line(
    tmp_path, monkeypatch, capsys, entry: str, words: list[str]
):
    monkeypatch.chdir(tmp_path)
    Clip(pts=range(0, 5 * 512, 512)).write(tmp_path / "in.mp4")
    words = [w.replace("IN", "in.mp4").replace("LONG", "n" * 300) for w in words]
    code = main([entry, *words]) if entry else live(words)
    err = capsys.readouterr().err
    assert code == 2
    assert [line for line in err.splitlines() if line.startswith("error:") and "n" * 300 in line]
    assert "Traceback" not in err
    assert [path.name for path in tmp_path.iterdir()] == ["in.mp4"]


@pytest.mark.parametrize("source", ["", " ", "-1"])
def test_a_source_that_cannot_be_one_is_told_what_can(capsys, source: str):
    assert live([f"--webcam={source}", "--no-virtual-camera"]) == 2
    assert f"there is no source {source!r}: expected" in capsys.readouterr().err


@pytest.mark.skipif(os.name != "posix", reason="limits the size of files")
def test_a_recording_that_broke_off_is_no_success(tmp_path):
    import resource

    clip = Clip(pts=range(0, 50 * 512, 512)).write(tmp_path / "in.mp4")
    words = ["--webcam", clip, "--no-virtual-camera", "--scale", "1", "--stats-json"]
    code = SLOW.format(root=str(ROOT), entry="live")
    ended = subprocess.run(
        [sys.executable, "-c", code, *words, tmp_path / "s.json", "--record", tmp_path / "r.mp4"],
        capture_output=True, text=True, timeout=60,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000)),
    )  # fmt: skip
    assert ended.returncode == 2, ended.stderr
    assert "the recording has ended" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert json.loads((tmp_path / "s.json").read_text())["frames"] > 5


def test_statistics_never_take_the_place_of_what_is_seen_or_recorded(tmp_path, capsys):
    clip = Clip().write(tmp_path / "in.mp4")
    before, record = clip.read_bytes(), str(tmp_path / "r.mp4")

    def run(*words):
        arguments = ["--webcam", str(clip), "--no-virtual-camera", *words]
        code = live(arguments, make_enhancer=lambda options: PlainEnhancer(options.scale))
        return code, capsys.readouterr().err

    for words in (["--stats-json", str(clip)], ["--record", record, "--stats-json", record]):
        code, err = run(*words)
        assert code == 2
        assert "is read or made by this run itself" in err
    assert clip.read_bytes() == before
    code, err = run("--record", str(clip))
    assert code == 2
    assert "exists already; choose another name" in err
