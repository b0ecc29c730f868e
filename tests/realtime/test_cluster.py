"""Films made by workers on a Ray cluster: as if by one machine, whoever dies on the way."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import pytest

from realtime.ahead import Piece
from realtime.cli import main
from realtime.journal import DonePiece, open_journal
from tests.conftest import ROOT
from tests.realtime.helpers import Clip

needs_ray = pytest.mark.skipif(
    find_spec("ray") is None or os.name != "posix",
    reason="Ray is not installed (pip install 'cagface-live[cluster]'), or workers are no POSIX",
)

HEAD = """
import sys, ray
ray.init(address="local", num_cpus=8, include_dashboard=False, logging_level="ERROR")
print(ray.get_runtime_context().gcs_address, flush=True)
sys.stdin.read()
"""
"""A cluster of its own, gone when its standard input is closed."""

PROGRAM = """
import sys
sys.path.insert(0, {root!r})
from tests.realtime import remembering
remembering.shorten_pieces()
from realtime.cli import main
sys.exit(main(sys.argv[1:], make_enhancer=remembering.{maker}))
"""


@pytest.fixture(scope="module")
def address():
    """Of a cluster of our own, with a token of our own, which runs and workers inherit."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "token")
        patch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))
        patch.setenv("PYTHONPATH", str(ROOT))
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        head = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", HEAD], text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        assert head.stdout is not None
        yield head.stdout.readline().strip()
        head.communicate(timeout=60)


def command(source, output, *more, maker="in_short_pieces"):
    code = PROGRAM.format(root=str(ROOT), maker=maker)
    encode = ("--encoder-preset", "ultrafast", "--crf", "12", "--scale", "1")
    words = [sys.executable, "-W", "ignore", "-c", code, "video", source, output, *encode, *more]
    return [str(word) for word in words]


def on(address, workers):
    return "--cluster", address, "--workers", str(workers), "--cpus-per-worker", "1"


def run(words, **more):
    return subprocess.run(words, capture_output=True, text=True, timeout=240, check=False, **more)


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    """Twelve seconds, with sound, and what a run on this machine alone makes of it."""
    folder = tmp_path_factory.mktemp("film")
    options = (("crf", "10"), ("preset", "ultrafast"), ("g", "40"))
    source = Clip(pts=range(0, 300 * 512, 512), options=options, audio=["aac"]).write(
        folder / "in.mp4"
    )
    done = run(command(source, folder / "whole.mp4"))
    assert done.returncode == 0, done.stderr
    return source, folder / "whole.mp4"


@needs_ray
@pytest.mark.parametrize("workers", [1, 2, 4])
def test_it_is_the_film_of_one_machine(film, address, tmp_path, workers):
    source, whole = film
    done = run(command(source, tmp_path / "out.mp4", *on(address, workers)))
    assert done.returncode == 0, done.stderr
    assert f"on {workers} workers" in done.stderr
    assert (tmp_path / "out.mp4").read_bytes() == whole.read_bytes()
    assert [p.name for p in tmp_path.iterdir()] == ["out.mp4"]


@needs_ray
@pytest.mark.slow
def test_it_is_so_with_the_real_network(demo_clip, address, tmp_path):
    real = ("--preset", "pico", "--device", "cpu-float32", "--report")
    one = run(command(demo_clip, tmp_path / "one.mp4", *real, tmp_path / "one.html", maker="real"))
    assert one.returncode == 0, one.stderr
    two = run(
        command(demo_clip, tmp_path / "two.mp4", *real, tmp_path / "two.html", *on(address, 2),
                maker="real")
    )  # fmt: skip
    assert two.returncode == 0, two.stderr
    assert (tmp_path / "one.mp4").read_bytes() == (tmp_path / "two.mp4").read_bytes()
    pictures = [(tmp_path / f"{name}.html").read_text().count("<img") for name in ("one", "two")]
    assert pictures[0] == pictures[1] > 0


@needs_ray
def test_a_film_that_workers_cannot_see_goes_to_them(film, address, tmp_path):
    if not Path("/proc/self/fd").exists():
        pytest.skip("a name that only one process has is made the Linux way")
    source, whole = film
    with source.open("rb") as file:
        name = f"/proc/self/fd/{file.fileno()}"
        words = command(name, tmp_path / "out.mp4", *on(address, 2))
        done = run(words, pass_fds=[file.fileno()])
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out.mp4").read_bytes() == whole.read_bytes()


def wait_for(condition, program=None):
    end_s = time.monotonic() + 180
    while not condition():
        assert time.monotonic() < end_s
        assert program is None or program.poll() is None, program.stderr.read()
        time.sleep(0.02)


def kept(output):
    lines = output.with_name(f".{output.name}.cagface") / "pieces.jsonl"
    return lines.read_text().splitlines() if lines.exists() else []


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def begun(film, address, tmp_path, pieces=2):
    """A run that has so many pieces; and the processes of its workers."""
    output, pids = tmp_path / "out.mp4", tmp_path / "pids"
    pids.mkdir()
    program = subprocess.Popen(
        command(film[0], output, *on(address, 2), "--weights", pids, maker="slow_in_short_pieces"),
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    wait_for(lambda: len(kept(output)) >= pieces and len(list(pids.iterdir())) == 2, program)
    return output, program, [int(p.name) for p in pids.iterdir()]


@needs_ray
def test_a_worker_that_is_killed_costs_its_piece(film, address, tmp_path):
    output, program, pids = begun(film, address, tmp_path)
    os.kill(pids[0], signal.SIGKILL)
    _, said = program.communicate(timeout=240)
    assert program.returncode == 0, said
    assert said.count("a worker is replaced") == 1
    assert output.read_bytes() == film[1].read_bytes()


@needs_ray
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_driver_that_is_ended_goes_on(film, address, tmp_path, number):
    output, program, pids = begun(film, address, tmp_path)
    program.send_signal(number)
    _, said = program.communicate(timeout=120)
    assert program.returncode == {2: 130, 15: 143, 9: -9}[number], said
    wait_for(lambda: not any(alive(pid) for pid in pids))
    assert not output.exists()
    done = sum(len(json.loads(line)["pts"]) for line in kept(output))
    assert 0 < done < 300
    settings = ("--weights", tmp_path / "pids")
    more = on(address, 2) if number == signal.SIGKILL else ()  # or without, on this machine alone
    again = run(command(film[0], output, *settings, *more))
    assert again.returncode == 0, again.stderr
    assert f"going on behind the {done} frames" in again.stderr
    assert output.read_bytes() == film[1].read_bytes()


@needs_ray
def test_a_piece_that_kills_every_worker_is_named(film, address, tmp_path):
    output = tmp_path / "out.mp4"
    done = run(command(film[0], output, *on(address, 2), maker="deadly_in_short_pieces"))
    assert done.returncode == 2
    said = done.stderr.strip().splitlines()[-1]
    assert said.startswith("error: the piece of frames ")
    assert "failed 3 times (its process ended in mid-work)" in said
    assert not output.exists()
    assert kept(output)
    again = run(command(film[0], output, *on(address, 2)))
    assert again.returncode == 0, again.stderr
    assert output.read_bytes() == film[1].read_bytes()


@needs_ray
def test_what_fails_on_the_first_worker_is_one_line(film, address, tmp_path):
    wrong = ("--weights", "gone.safetensors", *on(address, 2))
    done = run(command(film[0], tmp_path / "out.mp4", *wrong, maker="real"))
    assert done.returncode == 2
    errors = [line for line in done.stderr.splitlines() if "error" in line.lower()]
    assert len(errors) == 1
    assert "gone.safetensors" in errors[0]
    assert list(tmp_path.iterdir()) == []


@needs_ray
def test_a_worker_larger_than_any_machine(film, address, tmp_path):
    wish = ("--cluster", address, "--cpus-per-worker", "99")
    done = run(command(film[0], tmp_path / "out.mp4", *wish))
    assert done.returncode == 2
    assert "no machine of the cluster has the 99 CPUs" in done.stderr.splitlines()[-1]
    assert list(tmp_path.iterdir()) == []


@needs_ray
def test_a_cluster_whose_token_is_not_ours_is_one_line(film, address, tmp_path):
    environment = {**os.environ, "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    words = command(film[0], tmp_path / "out.mp4", *on(address, 2))
    done = run(words, env=environment)
    assert done.returncode == 2
    assert done.stderr.splitlines()[0] == "joining the cluster"
    assert len(done.stderr.splitlines()) == 2
    assert "RAY_AUTH_TOKEN" in done.stderr.splitlines()[1]


@needs_ray
@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("127.0.0.1:1", "no Ray cluster answers there (Connection refused)"),
        ("ray://127.0.0.1:1", "no Ray cluster answers there (Connection refused)"),
        ("here", "expected local, auto, HOST:PORT or ray://HOST:PORT"),
    ],
)
def test_a_wrong_address_is_one_line(film, tmp_path, wrong, said, capfd):
    assert main(["video", str(film[0]), str(tmp_path / "out.mp4"), "--cluster", wrong]) == 2
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 1
    assert said in lines[0]
    assert list(tmp_path.iterdir()) == []


def test_without_ray_the_extra_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ray", None)
    source = Clip().write(tmp_path / "in.mp4")
    assert main(["video", str(source), str(tmp_path / "out.mp4"), "--cluster", "local"]) == 2
    assert "pip install 'cagface-live[cluster]'" in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["in.mp4"]


def test_workers_go_with_a_cluster(tmp_path, capsys):
    source = Clip().write(tmp_path / "in.mp4")
    assert main(["video", str(source), str(tmp_path / "out.mp4"), "--workers", "2"]) == 2
    assert "--workers goes with --cluster" in capsys.readouterr().err


def test_a_journal_takes_pieces_in_any_order(tmp_path):
    pieces = [DonePiece(10 * k, list(range(10)), 0, Piece(10 * k + 10)) for k in range(5)]
    pieces[4] = DonePiece(40, list(range(10)), 0, None)
    journal = open_journal(tmp_path / "out.mp4", {})
    for k in (3, 0, 2):
        journal.unfinished().write_bytes(b"piece")
        journal.done(pieces[k])
    assert journal.pieces == [pieces[0]]
    assert journal.next == Piece(10)
    assert journal.frames == 30
    journal.close()
    again = open_journal(tmp_path / "out.mp4", {})
    assert again.pieces == [pieces[0]]
    assert again.has(30)
    assert not again.has(10)
    for k in (1, 4):
        again.unfinished().write_bytes(b"piece")
        again.done(pieces[k])
    assert again.pieces == pieces
    assert again.next is None
    again.remove()
    assert list(tmp_path.iterdir()) == []
