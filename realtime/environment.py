"""Whether this Python environment is whole is found out here, before anything else runs."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from contextlib import suppress
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from types import ModuleType

from cagface_core import ConfigError

_DISTRIBUTIONS = (
    "opencv-contrib-python",
    "opencv-python",
    "opencv-contrib-python-headless",
    "opencv-python-headless",
)
"""All of them write into the one folder ``cv2``; the first is the one mediapipe needs."""

_NEEDED = ("resize", "cvtColor", "VideoCapture", "imshow", "FaceDetectorYN")


def package_version() -> str:
    """The version of this package, as it is installed."""
    try:
        return version("cagface-live")
    except PackageNotFoundError:
        return "(not installed)"


def installed_opencv() -> dict[str, str]:
    """The OpenCV packages of this environment: name -> version."""
    found: dict[str, str] = {}
    for name in _DISTRIBUTIONS:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def display_answers(name: str) -> bool:
    """Whether the X server of a ``DISPLAY`` lets us in; also where that cannot be asked."""
    try:
        x11 = ctypes.CDLL("libX11.so.6")
    except OSError:
        return True
    x11.XOpenDisplay.restype, x11.XOpenDisplay.argtypes = ctypes.c_void_p, [ctypes.c_char_p]
    x11.XCloseDisplay.argtypes = [ctypes.c_void_p]
    display = x11.XOpenDisplay(name.encode())
    if display:
        x11.XCloseDisplay(display)
    return bool(display)


RUNTIME = (
    "install Microsoft's Visual C++ runtime: winget install Microsoft.VCRedist.2015+.x64, "
    "then open a new terminal"
)
"""What to do where :func:`lacks_runtime` says so."""


def lacks_runtime(error: Exception) -> bool:
    """Whether a library of torch, OpenCV or MediaPipe found none of Windows' C++ runtime."""
    missing = getattr(error, "winerror", None) == 126  # the specified module could not be found
    return missing or "DLL load failed" in str(error)


def check_cv2() -> None:
    """Make sure that ``cv2`` is whole.

    Several OpenCV packages share its folder; installing one over another mixes two versions, and
    removing one takes files of the other away.

    Raises:
        ConfigError: it is not; says the command that repairs it.
    """
    installed = installed_opencv()
    try:
        module = import_module("cv2")
    except ImportError as error:
        if "libGL" in str(error) or "libgthread" in str(error):
            raise ConfigError(
                f"OpenCV misses a system library ({error}); on Debian or Ubuntu run: "
                "apt-get install libgl1 libglib2.0-0"
            ) from error
        fix = RUNTIME if lacks_runtime(error) else _repair(installed)
        raise ConfigError(f"cv2 cannot be imported ({error}); {fix}") from error
    if problem := cv2_problem(module, installed):
        raise ConfigError(f"{problem}; {_repair(installed)}")


def cv2_problem(module: ModuleType, installed: Mapping[str, str]) -> str | None:
    """What is wrong with an imported ``cv2`` and the packages that made it; None when whole."""
    missing = [name for name in _NEEDED if not hasattr(module, name)]
    if missing:
        return f"cv2 is not whole (it has no {', '.join(missing)})"
    if len(set(installed.values())) > 1:
        found = ", ".join(f"{name} {number}" for name, number in installed.items())
        return f"two OpenCV versions share the folder cv2 ({found})"
    return None


def _repair(installed: Mapping[str, str]) -> str:
    pin = f"=={installed[_DISTRIBUTIONS[0]]}" if _DISTRIBUTIONS[0] in installed else ""
    remove = f"pip uninstall -y {' '.join(installed)}; " if installed else ""
    return f"repair it with: {remove}pip install --no-deps {_DISTRIBUTIONS[0]}{pin}"
