"""A real OBS Studio on a screen of its own, with folders of its own, told what to do by websocket.

Nothing here touches the user's OBS: home, settings and run-time folders are below ``folder``.
"""

from __future__ import annotations

import base64
import itertools
import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from websockets.sync.client import ClientConnection, connect

PATIENCE_S = 30.0
WIDTH, HEIGHT = 640, 480
FILTER = "cagface_enhance"
_NOT_READY = 207

GLOBAL = """\
[General]
FirstRun=true
LastVersion=486539266
EnableAutoUpdates=false
ConfirmOnExit=false
[Basic]
Profile=Test
ProfileDir=Test
SceneCollection=Test
SceneCollectionFile=Test
[BasicWindow]
PreviewEnabled={preview}
SysTrayEnabled=false
ShowContextToolbars=false
[OBSWebSocket]
FirstLoad=false
ServerEnabled=true
ServerPort={port}
AlertsEnabled=false
AuthRequired=false
ServerPassword=
"""
PROFILE = f"""\
[General]
Name=Test
[Video]
BaseCX={WIDTH}
BaseCY={HEIGHT}
OutputCX={WIDTH}
OutputCY={HEIGHT}
FPSType=0
FPSCommon=30
[Output]
Mode=Simple
"""
SCENES = {
    "name": "Test",
    "current_scene": "Scene",
    "current_program_scene": "Scene",
    "scene_order": [{"name": "Scene"}],
    "sources": [
        {
            "id": "scene",
            "name": "Scene",
            "versioned_id": "scene",
            "settings": {"id_counter": 0, "items": []},
        }
    ],
    "modules": {"scripts-tool": []},
}


class RefusedError(Exception):
    """OBS did not do what it was asked."""


def until(found: Callable[[], Any], what: str, seconds: float = PATIENCE_S) -> Any:
    """Ask until the answer is neither None nor False; tell what was waited for if it never is."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        answer = found()
        if answer is not None and not (isinstance(answer, bool | np.bool_) and not answer):
            return answer
        time.sleep(0.02)
    raise AssertionError(f"waited {seconds:g} s for {what}")


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


class Screen:
    """An X server of its own."""

    def __init__(self, width: int = 1280, height: int = 1024) -> None:
        read, write = os.pipe()
        self._server = subprocess.Popen(
            [
                "Xvfb", "-displayfd", str(write), "-screen", "0", f"{width}x{height}x24",
                "-nolisten", "tcp", "-noreset", "+extension", "GLX",
            ],
            pass_fds=[write],
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(write)
        with os.fdopen(read) as number:
            self.name = f":{number.readline().strip()}"

    def close(self) -> None:
        self._server.terminate()
        self._server.wait()


class Studio:
    """One OBS process; started at once, ended by ``close``.

    Without a preview unless wished: OBS 29 ends with a double free where a source goes that its
    preview still lists, with filters of its own as with ours (``python -m tests.obs.churn``).
    """

    def __init__(
        self, folder: Path, screen: Screen, plugin: Path | None, *, preview: bool = False
    ) -> None:
        self.folder = folder
        self.data = folder / "data"
        self._settings = folder / "config" / "obs-studio"
        self._plugin = plugin
        self._numbers = itertools.count()
        self._port = free_port()
        self._screen = screen
        self._preview = preview
        self._furnish()
        self.start()

    def _furnish(self) -> None:
        for name in ("home", "run", "data", "config"):
            (self.folder / name).mkdir(parents=True, exist_ok=True, mode=0o700)
        settings = self._settings
        files = {
            "global.ini": GLOBAL.format(
                port=self._port, preview=str(self._preview).lower()
            ),
            "basic/profiles/Test/basic.ini": PROFILE,
            "basic/scenes/Test.json": json.dumps(SCENES),
            "plugin_config/obs-websocket/config.json": json.dumps(
                {
                    "first_load": False, "server_enabled": True, "server_port": self._port,
                    "alerts_enabled": False, "auth_required": False, "server_password": "",
                }
            ),
        }  # fmt: skip
        for name, text in files.items():
            path = settings / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        if self._plugin is not None:
            shutil.copytree(self._plugin, settings / "plugins" / "cagface-enhance")

    @property
    def environment(self) -> dict[str, str]:
        """What OBS sees; an engine for it must see the same XDG_DATA_HOME."""
        kept = {name: os.environ[name] for name in ("PATH", "TMPDIR") if name in os.environ}
        return kept | {
            "HOME": str(self.folder / "home"),
            "XDG_CONFIG_HOME": str(self.folder / "config"),
            "XDG_DATA_HOME": str(self.data),
            "XDG_RUNTIME_DIR": str(self.folder / "run"),
            "DISPLAY": self._screen.name,
            "QT_QPA_PLATFORM": "xcb",
            "LIBGL_ALWAYS_SOFTWARE": "1",
            "GALLIUM_DRIVER": "llvmpipe",
            "LP_NUM_THREADS": "2",
            "LC_ALL": "C.UTF-8",
        }

    def start(self) -> None:
        """Start the process and wait until it takes requests."""
        self._closing = ExitStack()
        with (self.folder / "obs.log").open("a") as log:
            self.process = subprocess.Popen(
                [
                    "obs", "--multi", "--disable-missing-files-check", "--unfiltered_log",
                    "--verbose",
                ],
                env=self.environment, cwd=self.folder, stdin=subprocess.DEVNULL,
                stdout=log, stderr=subprocess.STDOUT,
            )  # fmt: skip
        try:
            self._socket = until(self._connected, "OBS's websocket")
            self._socket.recv(PATIENCE_S)
            greeting = {"op": 1, "d": {"rpcVersion": 1, "eventSubscriptions": 0}}
            self._socket.send(json.dumps(greeting))
            self._socket.recv(PATIENCE_S)
        except BaseException:
            self._closing.close()
            self.process.kill()
            self.process.wait()
            raise

    def _connected(self) -> ClientConnection | None:
        if self.process.poll() is not None:
            raise AssertionError(f"OBS has ended at once:\n{self.log()[-3000:]}")
        try:
            address = f"ws://127.0.0.1:{self._port}"
            return self._closing.enter_context(
                connect(address, max_size=None, compression=None, proxy=None)
            )
        except OSError:
            return None

    def log(self) -> str:
        return (self.folder / "obs.log").read_text(errors="replace")

    def ask(self, what: str, **data: Any) -> dict[str, Any]:
        """One request of obs-websocket; RefusedError with OBS's own comment."""
        while True:
            number = str(next(self._numbers))
            request = {"requestType": what, "requestId": number, "requestData": data}
            self._socket.send(json.dumps({"op": 6, "d": request}))
            answer = json.loads(self._socket.recv(PATIENCE_S))["d"]
            assert answer["requestId"] == number
            status = answer["requestStatus"]
            if status["result"]:
                return answer.get("responseData") or {}
            if status["code"] != _NOT_READY:
                raise RefusedError(f"{what}: {status['code']} {status.get('comment', '')}")
            time.sleep(0.05)

    def add_input(self, name: str, kind: str, **settings: Any) -> int:
        """An input in the scene; its scene item's number."""
        answer = self.ask(
            "CreateInput", sceneName="Scene", inputName=name, inputKind=kind,
            inputSettings=settings, sceneItemEnabled=True,
        )  # fmt: skip
        return answer["sceneItemId"]

    def add_colour(self, name: str, rgba: int, width: int = WIDTH, height: int = HEIGHT) -> int:
        """``rgba`` is 0xAABBGGRR, as OBS has it."""
        return self.add_input(name, "color_source_v3", color=rgba, width=width, height=height)

    def nest(self, source: str, name: str = "Inner") -> int:
        """The source again, in a scene of its own within the scene; that one's item's number."""
        self.ask("CreateScene", sceneName=name)
        self.ask("CreateSceneItem", sceneName=name, sourceName=source)
        return self.ask("CreateSceneItem", sceneName="Scene", sourceName=name)["sceneItemId"]

    def add_filter(self, source: str, name: str = "Enhance", **settings: Any) -> None:
        """With a hold time that no busy machine exceeds, unless another is given."""
        self.ask(
            "CreateSourceFilter", sourceName=source, filterName=name, filterKind=FILTER,
            filterSettings={"hold_ms": 5000} | settings,
        )  # fmt: skip

    def set_filter(self, source: str, name: str = "Enhance", **settings: Any) -> None:
        self.ask(
            "SetSourceFilterSettings", sourceName=source, filterName=name,
            filterSettings=settings, overlay=True,
        )  # fmt: skip

    def remove_filter(self, source: str, name: str = "Enhance") -> None:
        self.ask("RemoveSourceFilter", sourceName=source, filterName=name)

    def clear(self) -> None:
        """No input is left, and none of their names is taken any more."""
        for item in self.ask("GetInputList")["inputs"]:
            self.ask("RemoveInput", inputName=item["inputName"])
        until(lambda: not self.ask("GetInputList")["inputs"], "the inputs to go")

    def picture(self, source: str = "Scene", **size: int) -> np.ndarray:
        """What a source shows: ``(h, w, 3)`` uint8 RGB, of another size if wished."""
        answer = self.ask("GetSourceScreenshot", sourceName=source, imageFormat="png", **size)
        data = base64.b64decode(answer["imageData"].split(",", 1)[1])
        bgr = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        return cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)

    def size(self, item: int) -> tuple[int, int]:
        """Width and height of a scene item's source, in px."""
        answer = self.ask("GetSceneItemTransform", sceneName="Scene", sceneItemId=item)
        transform = answer["sceneItemTransform"]
        return int(transform["sourceWidth"]), int(transform["sourceHeight"])

    def place(self, item: int, **transform: Any) -> None:
        self.ask(
            "SetSceneItemTransform", sceneName="Scene", sceneItemId=item,
            sceneItemTransform=transform,
        )  # fmt: skip

    def stats(self) -> dict[str, Any]:
        return self.ask("GetStats")

    def frames(self, count: int) -> None:
        """Let OBS make so many frames."""
        first = self.stats()["renderTotalFrames"]
        until(lambda: self.stats()["renderTotalFrames"] >= first + count, f"{count} frames")

    def close(self) -> int:
        """End as its user would; the exit code. OBS 29 crashes at exit with inputs left in it."""
        if self.process.poll() is None:
            self.clear()
            time.sleep(0.3)
            self._closing.close()
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                raise
        return self.process.returncode


def shows(studio: Studio, rgb: tuple[int, int, int], tolerance: int = 4) -> bool:
    """Whether the middle of the scene has this colour."""
    small = studio.picture(imageWidth=16, imageHeight=12)
    middle = small[6, 8].astype(int)
    return bool((abs(middle - rgb) <= tolerance).all())


def wait_for(studio: Studio, rgb: tuple[int, int, int]) -> None:
    until(lambda: shows(studio, rgb), f"the scene's middle to be {rgb}")
