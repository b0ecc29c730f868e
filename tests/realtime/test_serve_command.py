"""``cagface serve`` as a process, the files that the filter finds it by, and mistakes."""

from __future__ import annotations

import os
import re
import signal
import socket
import stat
import subprocess
import sys
import threading
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
import pytest

from cagface_core import ConfigError, OutputError
from realtime import obs_files
from realtime.cli import main
from realtime.obs_files import COMMAND_NAME, TOKEN_NAME, data_folder, own_token, read_token
from tests.realtime.filters import LONG_S, Filter

SERVE = [sys.executable, "-c", "from realtime.cli import main; raise SystemExit(main())", "serve"]
PICO = ["--preset", "pico", "--device", "cpu-float32"]
SMALL = np.full((32, 48, 4), 255, np.uint8)


@pytest.fixture(autouse=True)
def _own_folder(tmp_path, monkeypatch):
    if sys.platform == "darwin":
        monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("XDG_DATA_HOME", "LOCALAPPDATA"):
        monkeypatch.setenv(name, str(tmp_path / "data"))


@contextmanager
def process(*arguments, **options):
    running = subprocess.Popen(
        [*SERVE, *PICO, *arguments], text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        **options,
    )  # fmt: skip
    try:
        yield running
    finally:
        running.kill()
        running.communicate()


def free_port():
    with closing(socket.socket()) as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def ready_port(line):
    found = re.fullmatch(r"ready at 127\.0\.0\.1:(\d+): CAGFace .*cpu-float32.*\n", line)
    assert found, line
    return int(found[1])


def assert_serves(port):
    with closing(Filter(socket.create_connection(("127.0.0.1", port)), read_token())) as obs:
        np.testing.assert_array_equal(obs.result(SMALL)[1], SMALL)


def test_one_engine_serves_and_a_second_one_is_not_needed():
    address = f"127.0.0.1:{free_port()}"
    with process("--address", address) as first, process("--address", address) as second:
        ready, other = sorted(
            (running.stdout.readline(), running) for running in (first, second)
        )[::-1]  # fmt: skip
        assert other[0] == f"already running at {address}\n"
        assert other[1].wait(LONG_S) == 0
        assert_serves(ready_port(ready[0]))
        ready[1].send_signal(signal.SIGTERM)
        out, err = ready[1].communicate(timeout=LONG_S)
        assert (ready[1].returncode, out, err) == (0, "stopped\n", "")


@pytest.mark.skipif(os.name != "posix", reason="closes the standard streams as a shell does")
def test_an_engine_without_filters_and_without_streams_ends_by_itself():
    port = free_port()
    words = [*SERVE, *PICO, "--address", f"127.0.0.1:{port}", "--idle-seconds", "1"]
    with subprocess.Popen(["/bin/sh", "-c", 'exec "$@" >&- 2>&- <&-', "sh", *words]) as closed:
        assert closed.wait(LONG_S) == 0


@pytest.mark.skipif(os.name != "posix", reason="SIGINT")
def test_nobody_has_to_read_what_it_says_and_ctrl_c_ends_it():
    with process("--address", "127.0.0.1:0") as running:
        port = ready_port(running.stdout.readline())
        running.stdout.close()
        running.stderr.close()
        with closing(Filter(socket.create_connection(("127.0.0.1", port)), read_token())) as obs:
            obs.result(SMALL, preset="huge")  # upon which there would be a line in the log
            obs.result(SMALL, preset="larger")
            np.testing.assert_array_equal(obs.result(SMALL)[1], SMALL)
        running.send_signal(signal.SIGINT)
        assert running.wait(LONG_S) == 0


def test_a_port_that_another_program_has(capsys):
    with closing(socket.create_server(("127.0.0.1", 0))) as other:
        port = other.getsockname()[1]
        assert main(["serve", *PICO, "--address", f"127.0.0.1:{port}"]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert f"127.0.0.1:{port} cannot be used" in err
    assert "choose another port" in err


def test_a_lock_that_cannot_be_had(capsys):
    port = free_port()
    own_token()
    (data_folder() / f"obs-engine-{port}.lock").mkdir()
    assert main(["serve", "--address", f"127.0.0.1:{port}"]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "cannot be locked" in err


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--address", "0.0.0.0:7461"], "0.0.0.0:7461 is not of this machine alone"),
        (["--address", "192.168.1.4:7461"], "is not of this machine alone"),
        (["--address", "example.com:80"], "is not of this machine alone"),
        (["--address", "7461"], "is not of this machine alone; expected 127.0.0.1:PORT"),
        (["--address", "127.0.0.1"], "is not of this machine alone; expected 127.0.0.1:PORT"),
        (["--address", "127.0.0.1:99999"], "has no port"),
        (["--address", "127.0.0.1:x"], "has no port"),
        (["--idle-seconds", "0"], "--idle-seconds 0 is not possible"),
        (["--idle-seconds", "nan"], "--idle-seconds nan is not possible"),
        (["--scale", "2"], "unrecognized arguments: --scale"),
        (["--preset", "huge"], "huge"),
    ],
)
def test_mistakes_are_one_line(capsys, words, line):
    try:
        code = main(["serve", "--address", "127.0.0.1:0", *words])
    except SystemExit as ended:
        code = ended.code
    err = capsys.readouterr().err
    assert code == 2
    assert err.count("\n") == 1
    assert line in err


def test_the_folder_is_where_the_filter_looks():
    home = Path("/home/me")
    local = home / ".local/share/cagface-live"
    assert data_folder({}, "linux", home) == local
    assert data_folder({"XDG_DATA_HOME": ""}, "linux", home) == local
    assert data_folder({"XDG_DATA_HOME": "data"}, "linux", home) == local
    assert data_folder({"XDG_DATA_HOME": "/data"}, "linux", home) == Path("/data/cagface-live")
    library = home / "Library/Application Support/cagface-live"
    assert data_folder({"XDG_DATA_HOME": "/data"}, "darwin", home) == library
    windows = data_folder({"LOCALAPPDATA": "/Users/me/AppData/Local"}, "win32", home)
    assert windows == Path("/Users/me/AppData/Local/cagface-live")
    assert (TOKEN_NAME, COMMAND_NAME) == ("obs-token", "obs-engine")


def test_a_token_is_made_once_and_only_its_owner_reads_it():
    threads, found = [], []
    for _ in range(8):
        threads.append(threading.Thread(target=lambda: found.append(own_token())))
        threads[-1].start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 1
    assert len(found) == 8
    assert re.fullmatch("[0-9a-f]{64}", found[0])
    assert own_token() == read_token() == found[0]
    assert [path.name for path in data_folder().iterdir()] == [TOKEN_NAME]
    if os.name == "posix":
        assert stat.S_IMODE((data_folder() / TOKEN_NAME).stat().st_mode) == 0o600
        assert stat.S_IMODE(data_folder().stat().st_mode) == 0o700


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX's")
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_a_token_that_others_can_read_is_refused(mode, capsys):
    own_token()
    (data_folder() / TOKEN_NAME).chmod(mode)
    assert main(["serve", "--address", "127.0.0.1:0"]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert f"can be read by others (mode {mode:o}, expected 600); remove it" in err


@pytest.mark.parametrize("content", [b"", b"abc", b"g" * 64, b"\xff" * 64, b"0" * 65])
def test_a_damaged_token_is_refused(content):
    own_token()
    (data_folder() / TOKEN_NAME).write_bytes(content)
    with pytest.raises(ConfigError, match="remove it"):
        own_token()


def test_no_token_yet_and_no_place_for_one(tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match="`cagface serve` makes it"):
        read_token()
    (tmp_path / "data").touch()
    with pytest.raises(OutputError, match="cannot be made"):
        own_token()
    monkeypatch.setattr(obs_files, "data_folder", lambda: tmp_path)
    (tmp_path / TOKEN_NAME).mkdir()
    with pytest.raises(ConfigError, match="cannot be read"):
        own_token()
