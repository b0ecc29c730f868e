"""What Windows and macOS do otherwise, played here: none of them was at hand."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from cagface_core import ConfigError, DeviceError, OutputError
from realtime import camera, cli, devices, obs_files, obs_plugin, peer
from realtime.camera import CameraSource
from realtime.doctor import examine
from realtime.encoders import EncodeOptions
from realtime.environment import RUNTIME, lacks_runtime
from realtime.source import CameraRequest, SourceInfo
from realtime.video_out import rehearse
from tests.realtime.fake_camera import FakeCamera

pty = pytest.importorskip("pty", reason="systems play others only here")

FOURCC, WIDTH, HEIGHT, FPS = (
    cv2.CAP_PROP_FOURCC, cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT, cv2.CAP_PROP_FPS,
)  # fmt: skip


@pytest.mark.parametrize(
    ("backend", "order"),
    [
        (cv2.CAP_V4L2, [FOURCC, WIDTH, HEIGHT, FPS]),
        # OpenCV's DirectShow sets up size and rate anew without the format that was set before.
        (cv2.CAP_DSHOW, [WIDTH, HEIGHT, FPS, FOURCC]),
    ],
)
def test_a_camera_is_asked_for_mjpg_when_it_is_not_forgotten_again(monkeypatch, backend, order):
    fake = FakeCamera([[(64, 48)] * 9])
    monkeypatch.setattr("cv2.VideoCapture", fake)
    monkeypatch.setitem(camera._BACKENDS, sys.platform, (("this one", backend),))
    CameraSource("0", CameraRequest(1280, 720, 30)).close()
    asked = dict(fake.opened[0].settings)
    assert [key for key, _ in fake.opened[0].settings] == order
    assert asked[FOURCC] == cv2.VideoWriter.fourcc(*"MJPG")
    assert (asked[WIDTH], asked[HEIGHT], asked[FPS]) == (1280, 720, 30)


@dataclass
class Listed:
    """What FFmpeg tells of a device."""

    description: str
    media_types: list[str] = field(default_factory=list)
    name: str = "@device_pnp_{860BB310-5D01-11D0-BD3B-00A0C911CE86}"


def test_directshows_cameras_that_tell_no_type_are_cameras(monkeypatch):
    microphone = Listed("Some microphone", name="@device_cm_{33D9A762-90C8-11D0-BD43-00A0C911CE86}")
    listed = [
        Listed("HD Webcam", ["video"]), Listed("Microphone", ["audio"]), microphone,
        Listed("OBS Virtual Camera"), Listed("Capture screen 0", ["video"]),
    ]  # fmt: skip
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(av, "enumerate_input_devices", lambda _system: listed)
    assert devices._enumerated() == ["HD Webcam", "OBS Virtual Camera"]


def test_a_console_of_windows_keeps_a_descriptor_that_nothing_swaps(monkeypatch):
    """Its stream asks at each write of what console descriptor 2 is, and fails while it is none."""
    program = """
import logging, os, sys
from cagface_core import native_stderr_to_log
from realtime import cli
class Console:  # as CPython's _WindowsConsoleIO
    closed = False
    def isatty(self): return True
    def fileno(self): return 2
    def flush(self): pass
    def write(self, text):
        if not os.isatty(2): raise OSError(6, "The handle is invalid")
        return os.write(2, text.encode())
sys.platform, sys.stderr = "win32", Console()
log = logging.getLogger("test")
with native_stderr_to_log(log):  # a program of somebody's own
    print("first", file=sys.stderr)
cli._make_streams_sure()
with native_stderr_to_log(log):
    os.write(2, b"INFO: noise\\n")
    print("second: \\u2588\\udc80", file=sys.stderr)
"""
    ours, theirs = pty.openpty()
    try:
        ended = subprocess.run(
            [sys.executable, "-c", program], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=theirs, timeout=120, check=False,
        )  # fmt: skip
        said = os.read(ours, 10_000).decode().splitlines()
    finally:
        os.close(ours)
        os.close(theirs)
    assert (ended.returncode, said) == (0, ["first", "second: \u2588\\udc80"])


def test_names_that_a_code_page_does_not_hold_are_told_somehow(tmp_path: Path):
    odd = tmp_path / "\u5bb6\u65cf.png"
    assert cv2.imwrite(str(tmp_path / "a.png"), np.full((48, 64, 3), 90, np.uint8))
    (tmp_path / "a.png").rename(odd)
    ended = subprocess.run(
        [sys.executable, "-c", "from realtime.cli import main; raise SystemExit(main())",
         "image", str(odd), str(tmp_path / "\u5927.png"), "--preset", "pico", "--scale", "1"],
        env={**os.environ, "PYTHONIOENCODING": "cp1252"}, capture_output=True, timeout=120,
        check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    assert rb"\u5bb6\u65cf.png" in ended.stdout
    assert b"Traceback" not in ended.stderr


def _without_runtime() -> OSError:
    error = OSError("The specified module could not be found. Error loading c10.dll")
    error.winerror = 126  # as Windows has it
    return error


@pytest.mark.parametrize(
    "error", [_without_runtime(), ImportError("DLL load failed while importing cv2: ...")]
)
def test_a_missing_runtime_of_windows_is_named_with_what_to_do(monkeypatch, capsys, error):
    def fail(*_: object) -> int:
        raise error

    commands = tuple(
        cli.Command(c.name, c.help, c.add_arguments, fail if c.name == "config" else c.run,
                    c.settings, c.needs_cv2) for c in cli.COMMANDS
    )  # fmt: skip
    monkeypatch.setattr(cli, "COMMANDS", commands)
    assert cli.main(["config"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert said.rstrip().endswith(RUNTIME)
    (finding,) = examine([("network", fail)])
    assert finding.fix == RUNTIME
    assert not lacks_runtime(ImportError("No module named cv2"))
    assert not lacks_runtime(OSError(2, "No such file or directory"))


def test_where_nobody_listens_windows_may_say_so_too_late(monkeypatch):
    def late(*_: object):
        raise TimeoutError

    monkeypatch.setattr(peer.socket, "create_connection", late)
    with pytest.raises(DeviceError, match=r"no engine runs at 127.0.0.1:7461"):
        peer.ask_engine(("127.0.0.1", 7461), "0" * 64)


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="open files are counted there")
def test_a_trial_that_fails_leaves_no_open_file(tmp_path: Path):
    """Windows removes none that is open: PyAV never closes its own if a header is refused."""
    source = tmp_path / "in.mkv"
    with av.open(str(source), "w") as container:
        sound = container.add_stream("libopus", rate=48000)
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 4 * 960), np.float32), "flt", "mono")
        silence.sample_rate = 48000
        for packet in [*sound.encode(silence), *sound.encode(None)]:
            container.mux(packet)

    def open_there() -> list[str]:
        entries = [path for path in Path("/proc/self/fd").iterdir() if path.is_symlink()]
        return [str(path.readlink()) for path in entries if tmp_path in path.readlink().parents]

    info = SourceInfo("a clip", 64, 48, Fraction(1, 30), Fraction(30))
    with pytest.raises(OutputError, match=r"the sound of .*in\.mkv does not go into this"):
        rehearse(
            tmp_path / "out.mov", EncodeOptions(), info, (64, 48), tmp_path, source, audio=True
        )
    assert open_there() == []
    assert [path.name for path in tmp_path.iterdir()] == ["in.mkv"]


def test_where_the_filter_is_put_in_by_hand_the_engine_tells_it_where_it_is(monkeypatch, tmp_path):
    command = tmp_path / "cagface"
    monkeypatch.setattr(obs_plugin, "engine_command", lambda: command)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    noted = tmp_path / "data" / "cagface-live" / obs_files.COMMAND_NAME
    with pytest.raises(ConfigError, match="run `cagface serve` once"):
        obs_plugin.plugin_folder(system="darwin")
    obs_plugin.note_engine()
    assert noted.read_text(encoding="utf-8") == f"{command}\n"
    monkeypatch.setattr(obs_plugin, "engine_command", lambda: tmp_path / "another")
    obs_plugin.note_engine()  # what is there is the user's choice
    assert noted.read_text(encoding="utf-8") == f"{command}\n"
