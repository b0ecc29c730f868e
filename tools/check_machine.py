"""This machine in, exit code out: 0, or 2 after one line that says what to install.

``python`` looks at the interpreter that is to make the environment, so this file keeps to what
Python 3.6 can read; ``libraries`` looks, from inside the environment, at the system libraries
that OpenCV and MediaPipe load.
"""

import ctypes
import importlib.util
import pathlib
import sys

SYSTEM_PACKAGES = "libgl1 libegl1 libgles2 libglib2.0-0"


def python_problem() -> str:
    """Say what keeps this interpreter from making the environment; empty if nothing does."""
    major, minor = sys.version_info[:2]
    if not (3, 11) <= (major, minor) <= (3, 14):
        return (
            f"{sys.executable} is Python {major}.{minor}, expected 3.11 to 3.14: install one and "
            "name it, as in: make PYTHON=python3.12"
        )
    if sys.maxsize < 2**32:
        return f"{sys.executable} is a 32-bit Python, expected 64 bits: install a 64-bit one"
    if not all(importlib.util.find_spec(name) for name in ("ensurepip", "venv")):
        return (
            f"{sys.executable} cannot make environments, its venv package is missing: on Debian "
            f"and Ubuntu, apt-get install python{major}.{minor}-venv"
        )
    return ""


def libraries_problem() -> str:
    """Say which system library OpenCV or MediaPipe lacks; empty if none."""
    try:
        importlib.import_module("cv2")
        package = importlib.util.find_spec("mediapipe")
        for folder in package.submodule_search_locations or [] if package else []:
            for library in pathlib.Path(folder).glob("tasks/c/libmediapipe.*"):
                ctypes.CDLL(str(library))
    except (ImportError, OSError) as error:
        if "cannot open shared object" not in str(error):
            raise
        return (
            f"a system library is missing ({error}): on Debian and Ubuntu, "
            f"apt-get install {SYSTEM_PACKAGES}"
        )
    return ""


if __name__ == "__main__":
    problem = {"python": python_problem, "libraries": libraries_problem}[sys.argv[1]]()
    if problem:
        sys.stderr.write(f"error: {problem}\n")
        sys.exit(2)
