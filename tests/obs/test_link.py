"""The filter's connection without OBS, under the sanitizers: what is said, and what is believed."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.obs.engines import LIES, Behaviour, serving, write_token
from tests.obs.studio import free_port, until

HERE = Path(__file__).parent
PARTS = ("link", "mailbox", "net", "message", "engine")


@pytest.fixture(scope="module", params=["thread", "address,undefined"])
def program(request, sources, tmp_path_factory):
    if shutil.which("cc") is None:
        pytest.skip("not installed: cc")
    path = tmp_path_factory.mktemp("link") / "link_program"
    done = subprocess.run(
        [
            "cc", "-std=gnu11", "-g", "-O1", "-Wall", "-Wextra", "-Wpedantic", "-Werror",
            f"-fsanitize={request.param}", "-fno-sanitize-recover=all", "-pthread",
            f"-I{sources / 'src'}", HERE / "link_program.c",
            *(sources / "src" / f"{part}.c" for part in PARTS), "-o", path,
        ],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if "cannot find" in done.stderr and "san" in done.stderr:
        pytest.skip(f"this compiler has no -fsanitize={request.param}")
    assert done.returncode == 0, done.stderr
    return path


@pytest.fixture
def token(tmp_path):
    return write_token(tmp_path)


@pytest.fixture
def run(program, tmp_path):
    def run(address, *, start=0, frames=20, width=64, height=48, scale=1):
        done = subprocess.run(
            [program, address, *map(str, (start, frames, width, height, scale))],
            env={"XDG_DATA_HOME": str(tmp_path), "PATH": os.environ["PATH"]},
            capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stderr == ""
        return done.stdout

    return run


@pytest.mark.parametrize("scale", [1, 2, 4])
def test_frames_come_back_whole(run, token, scale):
    with serving(token, Behaviour()) as address:
        told = run(address, scale=scale)
    assert f"connected to the engine at {address}" in told
    assert "results 20 wrong 0" in told
    assert "failures 0 device 'test, inverts'" in told


def test_the_newest_frame_wins(run, token):
    with serving(token, Behaviour(delay_s=0.05)) as address:
        assert "results 5 wrong 0 replaced 1" in run(address, frames=5)


SAID = {
    "magic": "no CAGFace engine",
    "version": "the engine speaks version 2, this filter 1: install both of one version",
    "kind": "message 99, expected 4",
    "sequence": "a result of another frame than the one sent",
    "captured": "a result of another frame than the one sent",
    "scale": "a result of another frame than the one sent",
    "size": "a result of 48x64, expected 64x48",
    "bytes": "12284 bytes for a picture of 64x48",
    "huge": "a result of 2147483648x2147483648, expected 64x48",
    "unasked": "lost the engine",
    "http": "no CAGFace engine",
    "short": "lost the engine",
    "greeting": "message 4, expected 2",
    "device": "a device without an end",
    "refuse": "refused by the engine at .*: this engine is full: close another filter",
    "refuse-frame": "refused by the engine at .*: no network named pico: pico, nano or small",
}


@pytest.mark.parametrize("lie", LIES)
def test_no_lie_is_believed(run, token, lie):
    with serving(token, Behaviour(lie=lie)) as address:
        told = run(address)
    assert re.search(SAID[lie], told)
    assert "results 0 wrong 0" in told
    assert "failures 1" in told


@pytest.mark.parametrize(
    "address",
    ["", ":7461", "127.0.0.1", "127.0.0.1:", "127.0.0.1:0", "127.0.0.1:65536", "127.0.0.1:7461x",
     "127.0.0.1: 7461", "192.168.1.4:7461", "0.0.0.0:7461", "engine.example:7461", "::1:7461",
     "x" * 200],
)  # fmt: skip
def test_only_this_machine_is_spoken_to(run, token, address):
    told = run(address)
    assert f"not an address on this machine: {address[:63]}\n" in told
    assert "results 0" in told


@pytest.mark.parametrize("text", [None, "", "short\n", "g" * 64 + "\n"])
def test_no_token_no_word(run, tmp_path, text):
    if text is not None:
        (tmp_path / "cagface-live").mkdir()
        (tmp_path / "cagface-live/obs-token").write_text(text)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        told = run(f"127.0.0.1:{listener.getsockname()[1]}")
        connection, _ = listener.accept()
        with connection:
            assert connection.recv(1) == b""
    assert "no token to show to the engine" in told


def test_a_result_is_waited_for_two_seconds(run, token):
    with serving(token, Behaviour(delay_s=3.0)) as address:
        told = run(address)
    assert f"lost the engine at {address}\n" in told
    assert "results 0 wrong 0" in told


def test_a_busy_engine_is_left_at_once(run, token):
    """With a frame on its way whose result would take a second."""
    with serving(token, Behaviour(delay_s=1.0)) as address:
        told = run(address, frames=1)
    assert float(re.search(r"closed_ms ([\d.]+)", told)[1]) < 500


def test_the_engine_is_started_once(run, tmp_path, token):
    """By the absolute path in the file, detached, with a log, and without OBS's open files."""
    port = free_port()
    script = tmp_path / "an engine"
    script.write_text(
        f"#!/bin/sh\necho \"$$ $@\" >> '{tmp_path}/started'\nls /proc/$$/fd >'{tmp_path}/files'\n"
        "echo said\n"
        f"export PYTHONPATH='{HERE.parents[1]}'\n"
        f"exec '{sys.executable}' -m tests.obs.engines \"$@\"\n"
    )
    script.chmod(0o755)
    (tmp_path / "cagface-live/obs-engine").write_text(f"{script}\n")
    told = run(f"localhost:{port}", start=1, frames=5)
    assert f"the engine is starting at localhost:{port}" in told
    assert "results 5 wrong 0" in told
    number, words = (tmp_path / "started").read_text().splitlines()[0].split(" ", 1)
    assert words == f"serve --address 127.0.0.1:{port} --idle-seconds 60"
    assert len((tmp_path / "started").read_text().splitlines()) == 1
    stat = Path(f"/proc/{number}/stat").read_text().rsplit(")", 1)[1].split()
    assert int(stat[3]) != os.getsid(0)  # Ctrl-C to OBS does not reach it
    os.kill(int(number), signal.SIGKILL)
    until(lambda: not Path(f"/proc/{number}/fd/0").exists(), "the engine to be gone")
    assert (tmp_path / "cagface-live/obs-engine.log").read_text().startswith("said\n")
    # The shell's own: in, out, errors, the script itself, and where its output goes meanwhile.
    assert set((tmp_path / "files").read_text().split()) <= {"0", "1", "2", "10", "11", "255"}


@pytest.mark.parametrize(
    ("line", "said"),
    [(None, "none is installed (cagface obs install)"), ("/no/such/program", "cannot be started")],
)
def test_an_engine_that_cannot_be_started_is_said_so(program, tmp_path, line, said):
    (tmp_path / "cagface-live").mkdir()
    if line is not None:
        (tmp_path / "cagface-live/obs-engine").write_text(f"{line}\n")
    with subprocess.Popen(
        [program, f"127.0.0.1:{free_port()}", "1", "1", "64", "48", "1"],
        env={"XDG_DATA_HOME": str(tmp_path)}, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert said in process.stdout.readline()
        process.kill()
