"""What stands around a real OBS: the plugin's build, and engines as processes."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

from tests.obs.studio import free_port

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ROOT / "plugins" / "obs"
_ROOTS = [*os.environ.get("PYTHONPATH", "").split(os.pathsep), str(ROOT)]
ENGINE_ROOT = next((one for one in _ROOTS if one and Path(one, "realtime/serve.py").exists()), None)
_SERVE = "import sys; from realtime.cli import main; sys.exit(main())"


def missing(*programs: str, headers: bool = True) -> str:
    """Which programs, or libobs' headers, this machine lacks, as the reason of a skip."""
    names = [name for name in programs if shutil.which(name) is None]
    if headers and shutil.which("pkg-config") is not None:
        found = subprocess.run(["pkg-config", "--exists", "libobs"], check=False)
        names += ["libobs-dev"] if found.returncode else []
    return f"not installed: {', '.join(names)}" if names else ""


def build_plugin(folder: Path, *options: str) -> Path:
    """The plugin's folder as OBS has it, built and installed below ``folder``."""
    installed = folder / "cagface-enhance"
    for words in (
        ["cmake", "-S", SOURCES, "-B", folder / "build", "-DCMAKE_C_FLAGS=-Werror", *options],
        ["cmake", "--build", folder / "build", "--parallel", "2"],
        ["cmake", "--install", folder / "build", "--prefix", installed],
    ):
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    return installed


class EngineProcess:
    """An engine that can be stopped, killed and started again at its address."""

    def __init__(self, data: Path) -> None:
        self.address = f"127.0.0.1:{free_port()}"
        self.data = data
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *words: str) -> EngineProcess:
        """Start the one of `tests.obs.engines`, with words of its command line."""
        self._process = subprocess.Popen(
            [
                sys.executable, "-m", "tests.obs.engines", "--address", self.address, "--announce",
                *words,
            ],
            env={"XDG_DATA_HOME": str(self.data), "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
        )  # fmt: skip
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"ready\n"
        return self

    def serve(self, preset: str) -> EngineProcess:
        """Start the real engine, ``cagface serve``, instead."""
        assert ENGINE_ROOT is not None
        self._process = subprocess.Popen(
            [
                sys.executable, "-c", _SERVE, "serve", "--address", self.address,
                "--preset", preset, "--device", "cpu-float32", "--no-governor",
            ],
            env=os.environ | {"XDG_DATA_HOME": str(self.data), "PYTHONPATH": ENGINE_ROOT},
            cwd=ENGINE_ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        assert self._process.stdout is not None
        said = self._process.stdout.readline()
        assert said.startswith(b"ready"), said
        return self

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None
