"""The preview in a real window, on a screen of its own: what is painted, what keys and mouse do."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
import time
from ctypes.util import find_library

import numpy as np
import pytest

NEEDED = ("Xvfb", "xdotool", "xwd")
MISSING = [name for name in NEEDED if shutil.which(name) is None]
pytestmark = pytest.mark.skipif(
    bool(MISSING), reason=f"not installed: {', '.join(MISSING)} (xvfb, xdotool, x11-apps)"
)

RUN = """
import sys
sys.path.insert(0, {root!r})
from dataclasses import asdict
from pathlib import Path
from realtime.run import LiveJob, Watcher, run_live
from tests.realtime.helpers import PlainEnhancer

def watch(live):
    change = live.controls.change

    def told(**changes):
        with Path({folder!r}, "changes").open("a") as file:
            print(changes, file=file)
        return change(**changes)

    live.controls.change = told

job = LiveJob(
    "lavfi:color=c=red:size=320x240:rate=30", 2, virtual_camera=False, preview=True,
    snapshots=Path({folder!r}), seconds=60,
)
summary = run_live(job, lambda: PlainEnhancer(2), Watcher(on_live=watch))
print("ended", summary.frames > 10, flush=True)
"""


@pytest.fixture
def screen():
    """The name of a screen without a window manager."""
    read, write = os.pipe()
    with subprocess.Popen(
        # Without -noreset the screen starts anew when xdotool leaves it, and Qt finds none.
        [
            "Xvfb", "-displayfd", str(write), "-screen", "0", "1024x768x24",
            "-nolisten", "tcp", "-noreset",
        ],
        pass_fds=[write],
        stderr=subprocess.DEVNULL,
    ) as server:  # fmt: skip
        os.close(write)
        with os.fdopen(read) as number:
            name = f":{number.readline().strip()}"
        yield name
        server.terminate()


class ClientMessage(ctypes.Structure):
    """Xlib's XClientMessageEvent, padded to the size of an XEvent."""

    _fields_ = (
        ("type", ctypes.c_int),
        ("serial", ctypes.c_ulong),
        ("send_event", ctypes.c_int),
        ("display", ctypes.c_void_p),
        ("window", ctypes.c_ulong),
        ("message_type", ctypes.c_ulong),
        ("format", ctypes.c_int),
        ("data", ctypes.c_long * 5),
        ("padding", ctypes.c_long * 12),
    )


class Window:
    """The program's window, seen and used from outside."""

    def __init__(self, screen, process, told):
        self.told = told
        self.environment = {**os.environ, "DISPLAY": screen}
        self.process = process
        self.id = self.until(lambda: self.tool("search", "--name", "CAGFace Live").strip())

    def tool(self, *words):
        done = subprocess.run(
            ["xdotool", *words],
            env=self.environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        return done.stdout

    def key(self, name):
        self.tool("key", "--window", self.id, name)

    def mouse(self, x, y, *more):
        self.tool("mousemove", "--window", self.id, str(x), str(y), *more)

    def picture(self):
        """What the screen shows of it, (height, width, 3) uint8 RGB."""
        done = subprocess.run(
            ["xwd", "-silent", "-id", self.id],
            env=self.environment, capture_output=True, check=True,
        )  # fmt: skip
        head = np.frombuffer(done.stdout[:100], ">u4")
        size, width, height, colours = head[0], head[4], head[5], head[19]
        bgrx = np.frombuffer(done.stdout[size + 12 * colours :], np.uint8)
        return bgrx.reshape(height, width, 4)[..., 2::-1]

    def wait_for_paint(self):
        """Wait until it shows anything; it is shown again where Qt has missed its exposure.

        On a loaded machine without a window manager, one in five windows of OpenCV stays black
        for good (a script of `namedWindow`, `imshow` and `pollKey` alone shows it too).
        """
        try:
            self.until(self.is_painted, timeout_s=10.0)
        except AssertionError:
            self.tool("windowunmap", "--sync", self.id, "windowmap", "--sync", self.id)
            self.until(self.is_painted)

    def is_painted(self):
        try:
            return self.picture().max() > 0
        except subprocess.CalledProcessError:  # it is not on the screen yet
            return False

    def changes(self):
        """The settings that were changed, in order."""
        return self.told.read_text().splitlines() if self.told.exists() else []

    def ended(self):
        """What the program printed, once it has ended well."""
        out, errors = self.process.communicate(timeout=30)
        assert self.process.returncode == 0, errors
        return out

    def line(self):
        """The columns that are white in the middle row: the line between before and after."""
        return np.flatnonzero(self.picture()[240].min(axis=1) > 200).tolist()

    def ask_to_close(self):
        """Send what a window manager sends when its close button is pressed."""
        x11 = ctypes.CDLL(find_library("X11"))
        x11.XOpenDisplay.restype = ctypes.c_void_p
        x11.XInternAtom.restype = ctypes.c_ulong
        display = ctypes.c_void_p(x11.XOpenDisplay(self.environment["DISPLAY"].encode()))
        protocols, delete = (
            x11.XInternAtom(display, name, 0) for name in (b"WM_PROTOCOLS", b"WM_DELETE_WINDOW")
        )
        message = ClientMessage(
            type=33, window=int(self.id), message_type=protocols, format=32, data=(delete, 0)
        )
        x11.XSendEvent(display, ctypes.c_ulong(int(self.id)), 0, 0, ctypes.byref(message))
        x11.XCloseDisplay(display)

    @staticmethod
    def until(look, timeout_s=30.0):
        """What ``look`` gives as soon as it gives something."""
        end_s = time.monotonic() + timeout_s
        while time.monotonic() < end_s:
            if found := look():
                return found
            time.sleep(0.05)
        raise AssertionError("it never came to be")


@pytest.fixture
def window(screen, repository, tmp_path):
    kept = tmp_path / "kept"
    kept.mkdir()
    code = RUN.format(root=str(repository), folder=str(kept))
    with subprocess.Popen(
        [sys.executable, "-c", code],
        env={**os.environ, "DISPLAY": screen},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        yield Window(screen, process, kept / "changes")
        process.kill()


def test_the_window_paints_and_obeys(window, tmp_path):
    red = (255, 0, 0)

    def all_red():
        rgb = window.picture()
        return rgb.shape == (480, 640, 3) and np.abs(rgb[::8, ::8].astype(int) - red).max() < 40

    def dark_share():
        return float((window.picture().max(axis=2) < 120).mean())

    window.wait_for_paint()
    window.until(all_red)  # the first note goes by itself
    for key in ("Left", "Up", "Right", "Insert"):  # which are no q, r, s and c
        window.key(key)
        time.sleep(0.1)
    window.key("h")
    window.until(lambda: dark_share() > 0.15)
    window.key("h")
    window.until(lambda: dark_share() < 0.01)
    window.key("c")
    window.mouse(160, 240)
    window.until(lambda: window.line() == [159, 160])  # under the mouse
    window.mouse(480, 240)
    window.until(lambda: window.line() == [479, 480])
    window.mouse(5, 5, "click", "1")  # the face that `PlainEnhancer` reports
    window.until(lambda: window.changes() == ["{'strength_of': {0: 0.0}}"])
    window.key("e")
    window.until(lambda: window.changes()[1:] == ["{'enhance': False}"])
    window.until(
        lambda: window.picture()[450:, :200].max(axis=2).min() < 120
    )  # says that it is off
    window.key("s")
    window.until(lambda: len(list((tmp_path / "kept").glob("*.png"))) == 2)
    window.key("r")
    window.until(lambda: window.picture()[10:20, 600:].max(axis=2).min() < 120)  # REC
    window.key("r")
    window.until(lambda: window.picture()[10:20, 630:].max(axis=2).min() > 200)
    window.tool("windowsize", window.id, "800", "300")
    window.until(lambda: window.picture().shape == (300, 800, 3))
    window.until(lambda: window.picture()[150, 100].max() < 50)  # black beside the picture
    window.key("q")
    assert "ended True" in window.ended()
    assert window.changes() == ["{'strength_of': {0: 0.0}}", "{'enhance': False}"]
    assert len(list((tmp_path / "kept").glob("*.mp4"))) == 1


def test_closing_the_window_ends_the_run(window):
    window.wait_for_paint()
    window.until(lambda: (window.picture()[240, ::8] == (254, 0, 0)).all())
    window.ask_to_close()
    assert "ended" in window.ended()


def test_closing_the_window_while_it_starts_ends_the_run(window):
    window.ask_to_close()
    assert "ended" in window.ended()
