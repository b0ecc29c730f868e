"""A headless Chromium over its DevTools protocol: pages opened, scripts run, pictures taken."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import urlopen

from websockets.sync.client import connect

NAMES = ("chromium", "chromium-browser", "google-chrome")
_TIMEOUT_S = 20.0


def found() -> str | None:
    """The browser's program; None where there is none."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class Chromium:
    """The browser's process, with a profile of its own in ``folder``."""

    def __init__(self, folder: Path) -> None:
        program = found()
        assert program is not None
        self._process = subprocess.Popen(
            [
                program,
                "--headless=new",
                "--no-sandbox",  # tests run as root in containers
                "--disable-gpu",
                "--disable-dev-shm-usage",
                "--hide-scrollbars",
                "--no-first-run",
                "--remote-debugging-port=0",
                f"--user-data-dir={folder}",
                "about:blank",
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self._process.stderr is not None
        for line in self._process.stderr:
            if match := re.search(r"DevTools listening on (ws://\S+)", line):
                self._address = urlsplit(match[1]).netloc
                break
        else:
            raise AssertionError("chromium has ended at once")

    def tab(self) -> Tab:
        """The tab that is open already."""
        with urlopen(f"http://{self._address}/json/list", timeout=_TIMEOUT_S) as answer:
            tabs = json.load(answer)
        return Tab(next(tab for tab in tabs if tab["type"] == "page")["webSocketDebuggerUrl"])

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(_TIMEOUT_S)
        assert self._process.stderr is not None
        self._process.stderr.close()


class Tab:
    """One tab; ``troubles`` are the errors that its console was told."""

    def __init__(self, address: str) -> None:
        self._open = ExitStack()
        self._socket = self._open.enter_context(
            connect(address, max_size=None, open_timeout=_TIMEOUT_S)
        )
        self._last = 0
        self.troubles: list[str] = []
        for domain in ("Page", "Runtime", "Log"):
            self._call(f"{domain}.enable")

    def open(self, url: str, width: int = 1200, height: int = 900, *, dark: bool = False) -> None:
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self._call("Emulation.setDeviceMetricsOverride", **size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._call("Emulation.setEmulatedMedia", features=[scheme])
        self._call("Page.navigate", url=url)
        self.wait_for("document.readyState === 'complete'")

    def run(self, script: str) -> Any:
        """The value of an expression, awaited if it is a promise."""
        answer = self._call(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait_for(self, condition: str, timeout_s: float = 10.0) -> Any:
        """Wait in the page until an expression is true; what raises is not yet."""
        script = f"""new Promise((done, fail) => {{
            const end = performance.now() + {1000 * timeout_s};
            let error = "";
            const look = () => {{
                let value = false;
                try {{ value = {condition}; }} catch (raised) {{ error = raised; }}
                if (value) done(value);
                else if (performance.now() > end) fail(new Error(`not in time ${{error}}`));
                else setTimeout(look, 20);
            }};
            look();
        }})"""
        answer = self._call(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in answer, f"not within {timeout_s} s: {condition}"
        return answer["result"].get("value")

    def click(self, selector: str) -> None:
        """Press and release the mouse in the middle of an element."""
        self.press(*self.middle(selector))
        self._mouse("mouseReleased", *self.middle(selector))

    def drag(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        self.press(*start)
        for share in (0.3, 0.7, 1.0):
            self._mouse(
                "mouseMoved", *(a + share * (b - a) for a, b in zip(start, end, strict=True))
            )
        self._mouse("mouseReleased", *end)

    def middle(self, selector: str) -> tuple[float, float]:
        x, y = self.run(f"""(() => {{
            const element = document.querySelector({json.dumps(selector)});
            element.scrollIntoView({{block: "nearest", behavior: "instant"}});
            const area = element.getBoundingClientRect();
            return [area.x + area.width / 2, area.y + area.height / 2];
        }})()""")
        return x, y

    def press(self, x: float, y: float) -> None:
        self._mouse("mouseMoved", x, y)
        self._mouse("mousePressed", x, y)

    def key(self, key: str) -> None:
        for kind in ("keyDown", "keyUp"):
            code = {"ArrowRight": 39, "ArrowLeft": 37, "Tab": 9, "Home": 36, "End": 35}[key]
            self._call("Input.dispatchKeyEvent", type=kind, key=key, windowsVirtualKeyCode=code)

    def screenshot(self, path: Path, *, whole: bool = False) -> None:
        answer = self._call("Page.captureScreenshot", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(answer["data"]))

    def close(self) -> None:
        self._open.close()

    def _mouse(self, kind: str, x: float, y: float) -> None:
        button = "none" if kind == "mouseMoved" else "left"
        buttons = 0 if kind == "mouseReleased" else 1
        self._call(
            "Input.dispatchMouseEvent", type=kind, x=x, y=y, button=button, buttons=buttons,
            clickCount=1,
        )  # fmt: skip

    def _call(self, method: str, **params: Any) -> dict[str, Any]:
        self._last += 1
        self._socket.send(json.dumps({"id": self._last, "method": method, "params": params}))
        while True:
            message = json.loads(self._socket.recv(timeout=_TIMEOUT_S))
            if message.get("id") == self._last:
                assert "error" not in message, message["error"]
                return message["result"]
            self._note(message)

    def _note(self, message: dict[str, Any]) -> None:
        params = message.get("params", {})
        if message.get("method") == "Runtime.exceptionThrown":
            self.troubles.append(params["exceptionDetails"]["text"])
        elif message.get("method") == "Log.entryAdded" and params["entry"]["level"] == "error":
            self.troubles.append(f"{params['entry']['text']} {params['entry'].get('url')}")
        elif message.get("method") == "Runtime.consoleAPICalled" and params["type"] == "error":
            self.troubles.append(str(params["args"]))
