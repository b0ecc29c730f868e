"""One check each of ``cagface doctor``: facts of this machine in, a `Finding` out.

Every fact is a parameter whose default is this machine's own. The digests of the shipped files are
in ``cagface_core/weights/SHA256SUMS``, made anew, in ``cagface_core``, by::

    sha256sum weights/*.safetensors models/*.tflite > weights/SHA256SUMS
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from cagface_core import EnhancerConfig
from realtime.devices import Device
from realtime.doctor import Finding
from realtime.environment import RUNTIME, check_cv2, display_answers, lacks_runtime
from realtime.options import MakeEnhancer
from realtime.process import in_own_thread, leave_a_core

# Nothing above may load what is to be checked: OpenCV, MediaPipe, PyAV.
if TYPE_CHECKING:
    from realtime.self_test import SelfTest

_LEAST_FREE_BYTES = 1 << 30
_FLUENT_FPS = 24
"""Of films; a call below it looks jerky."""

_BUSY = 0.5
"""A load below this slows nothing down."""

_GL_LIBRARIES = ("libGL.so.1", "libEGL.so.1", "libGLESv2.so.2", "libglib-2.0.so.0")
_SYSTEM_PACKAGES = "libgl1 libegl1 libgles2 libglib2.0-0"
_EXTRAS = {
    "openvino": ("openvino",),
    "panel": ("fastapi", "uvicorn"),
    "eval": ("torchmetrics",),
    "peers": ("spandrel",),
}


def check_python(
    found: tuple[int, int] = sys.version_info[:2], largest_int: int = sys.maxsize
) -> Finding:
    """3.11 to 3.14, 64 bits."""
    bits = 64 if largest_int > 2**32 else 32
    told = f"Python {found[0]}.{found[1]}, {bits} bits, {platform.system()} {platform.machine()}"
    if (3, 11) <= found <= (3, 14) and bits == 64:
        return Finding("python", "pass", told)
    fix = "install a 64-bit Python 3.11 to 3.14, and the package in an environment of it"
    return Finding("python", "fail", told, fix)


def check_torch() -> Finding:
    """Which devices torch has; a GPU that it cannot use is a warning."""
    import torch

    devices = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        devices.append("Apple GPU (mps)")
    fast = torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()  # pyright: ignore[reportPrivateUsage]
    bfloat16 = "with bfloat16" if fast else "without bfloat16"
    devices.append(f"processor with {torch.get_num_threads()} threads, {bfloat16}")
    unused = not torch.cuda.is_available() and nvidia_gpu_present()
    return torch_finding(str(torch.__version__), devices, gpu_unused=unused)


def torch_finding(number: str, devices: Sequence[str], *, gpu_unused: bool) -> Finding:
    """What torch's version and devices mean."""
    told = f"torch {number}: {'; '.join(devices)}"
    if not gpu_unused:
        return Finding("torch", "pass", told)
    return Finding(
        "torch", "warn", f"{told}; there is an NVIDIA GPU that it does not use",
        "install NVIDIA's driver, and the torch build for CUDA that pytorch.org names",
    )  # fmt: skip


def nvidia_gpu_present(proc: Path = Path("/proc")) -> bool:
    """Whether NVIDIA's driver is loaded or installed."""
    return (proc / "driver/nvidia/version").exists() or shutil.which("nvidia-smi") is not None


def check_opencv() -> Finding:
    """Whole, of one version, and with windows."""
    check_cv2()
    import cv2

    return opencv_finding(str(cv2.__version__), cv2.currentUIFramework() or "")


def opencv_finding(number: str, windows: str) -> Finding:
    """What OpenCV's version and window system mean; ``windows`` is empty for none."""
    if windows:
        return Finding("opencv", "pass", f"OpenCV {number}, whole, windows by {windows}")
    return Finding(
        "opencv", "warn", f"OpenCV {number} has no windows: --preview cannot work",
        "pip uninstall -y opencv-contrib-python-headless opencv-python-headless; "
        "pip install --force-reinstall --no-deps opencv-contrib-python",
    )  # fmt: skip


def check_mediapipe() -> Finding:
    """It can be loaded; whether it finds faces, the self-test tells."""
    try:
        import_module("mediapipe")
    except (ImportError, OSError) as error:
        fix = "pip install 'mediapipe>=1.2,<2'"
        if "cannot open shared object" in str(error):
            fix = f"on Debian and Ubuntu: apt-get install {_SYSTEM_PACKAGES}"
        if lacks_runtime(error):
            fix = RUNTIME
        return Finding("mediapipe", "fail", f"it cannot be loaded ({error})", fix)
    return Finding("mediapipe", "pass", f"mediapipe {_version('mediapipe')}")


def check_av() -> Finding:
    """FFmpeg's encoders of this program, and those of a GPU."""
    import av

    from realtime.encoders import usable_codecs

    hardware = [
        name for name in sorted(av.codecs_available)
        if name.startswith(("h264_", "hevc_")) and name.endswith(_HARDWARE)
    ]  # fmt: skip
    return av_finding(
        av.__version__, [name for name in usable_codecs() if name not in hardware], hardware
    )


_HARDWARE = ("_nvenc", "_qsv", "_vaapi", "_videotoolbox", "_amf", "_mf")


def av_finding(number: str, encoders: Sequence[str], hardware: Sequence[str]) -> Finding:
    """What PyAV's version and FFmpeg's encoders mean."""
    told = f"PyAV {number}, encoders: {', '.join(encoders) or 'none'}"
    if hardware:
        told += f"; where a GPU has them: {', '.join(hardware)}"
    if "libx264" in encoders:
        return Finding("video files", "pass", told)
    fix = "pip install --force-reinstall --no-deps av: its wheels hold libx264"
    return Finding("video files", "fail" if not encoders else "warn", told, fix)


def check_libraries(
    load: Callable[[str], object] = ctypes.CDLL, system: str = sys.platform
) -> Finding:
    """The system libraries that OpenCV and MediaPipe load; other systems bring them along."""
    missing: list[str] = []
    for name in _GL_LIBRARIES if system.startswith("linux") else ():
        try:
            load(name)
        except OSError:
            missing.append(name)
    if missing:
        fix = f"on Debian and Ubuntu: apt-get install {_SYSTEM_PACKAGES}"
        return Finding("libraries", "fail", f"missing: {', '.join(missing)}", fix)
    return Finding("libraries", "pass", "OpenGL, EGL and GLib are there")


def check_screen(
    environment: Mapping[str, str] | None = None, system: str = sys.platform,
    answers: Callable[[str], bool] = display_answers,
) -> Finding:  # fmt: skip
    """Whether a window can be shown. OpenCV's windows speak X11, on Wayland through XWayland."""
    environment = os.environ if environment is None else environment
    if not system.startswith("linux"):
        return Finding("screen", "pass", "the system's own")
    if display := environment.get("DISPLAY"):
        if answers(display):
            return Finding("screen", "pass", f"DISPLAY={display}")
        fix = "start from a desktop, or with `ssh -X`; or unset DISPLAY, all else works without"
        return Finding("screen", "warn", f"DISPLAY={display} does not answer", fix)
    if environment.get("WAYLAND_DISPLAY"):
        fix = "install XWayland (package xwayland) and log in again"
        return Finding("screen", "warn", "Wayland without XWayland: --preview cannot work", fix)
    return Finding(
        "screen", "warn", "none: --preview cannot work",
        "start from a desktop, or with `ssh -X`; all else works without",
    )  # fmt: skip


def check_cameras(devices: Sequence[Device], fix: str) -> Finding:
    """A camera that can be used; ``fix`` is the advice where there is none."""
    cameras = [device for device in devices if device.captures and not device.takes_output]
    usable = [device for device in cameras if not device.problem]
    if usable:
        told = "; ".join(f"{device.id} {device.name}" for device in usable)
        busy = [f"{d.id} is in use by {', '.join(d.used_by)}" for d in usable if d.used_by]
        if len(busy) == len(usable):
            return Finding("camera", "warn", "; ".join(busy), "close that program before a call")
        return Finding("camera", "pass", told)
    if cameras:
        told = "; ".join(f"{device.id} {device.name}" for device in cameras)
        return Finding("camera", "fail", told, cameras[0].problem)
    return Finding("camera", "warn", "none", fix)


def check_virtual_camera(
    devices: Sequence[Device], system: str = sys.platform, root: Path = Path("/"),
    release: str = platform.release(),
) -> Finding:  # fmt: skip
    """A virtual camera that frames can be given to.

    Args:
        devices: what `find_devices` found.
        system: ``sys.platform``.
        root: where /sys and /lib are.
        release: the kernel's.
    """
    try:
        import_module("pyvirtualcam")
    except (ImportError, OSError) as error:
        return Finding("virtual camera", "fail", f"no pyvirtualcam ({error})",
                       "pip install --force-reinstall --no-deps pyvirtualcam")  # fmt: skip
    there = [device for device in devices if device.takes_output]
    if not system.startswith("linux"):
        return _virtual_camera_elsewhere(there, system)
    start = 'sudo modprobe v4l2loopback devices=1 exclusive_caps=1 card_label="CAGFace Live"'
    loaded = root / "sys/module/v4l2loopback"
    if there:
        told = "; ".join(f"{device.id} {device.name}" for device in there)
        caps = loaded / "parameters/exclusive_caps"
        if caps.is_file() and "Y" not in caps.read_text(encoding="utf-8"):
            return Finding("virtual camera", "warn", f"{told}: Chrome and Teams do not list it",
                           f"sudo modprobe -r v4l2loopback && {start}")  # fmt: skip
        return Finding("virtual camera", "pass", told)
    if loaded.is_dir():
        return Finding(
            "virtual camera", "warn", "v4l2loopback is loaded, but no device is free",
            f"end the program that feeds it; or: sudo modprobe -r v4l2loopback && {start}",
        )  # fmt: skip
    modules = root / "lib/modules" / release
    if any(modules.rglob("v4l2loopback.ko*")):
        return Finding("virtual camera", "warn", "v4l2loopback is installed, but not loaded", start)
    fix = f"on Debian and Ubuntu: sudo apt-get install v4l2loopback-dkms && {start}"
    return Finding("virtual camera", "warn", "v4l2loopback is not installed", fix)


def _virtual_camera_elsewhere(there: Sequence[Device], system: str) -> Finding:
    if there:
        told = "; ".join(device.name for device in there)
        return Finding("virtual camera", "pass", told)
    fix = "install OBS Studio 30 or newer, start its virtual camera once and close OBS"
    if system == "darwin":
        fix += "; allow its extension in System Settings"
    return Finding("virtual camera", "warn", "none", fix)


def check_weights(package: Path | None = None) -> Finding:
    """Every shipped file is there, and is what was shipped."""
    package = package or Path(str(files("cagface_core")))
    again = "install the package again: pip install --force-reinstall --no-deps cagface-live"
    sums = package / "weights" / "SHA256SUMS"
    if not sums.is_file():
        return Finding("weights", "fail", f"{sums} is missing", again)
    lines = [line.split(maxsplit=1) for line in sums.read_text(encoding="utf-8").splitlines()]
    wrong: list[str] = []
    for digest, name in lines:
        file = package / name
        if not file.is_file():
            wrong.append(f"{name} is missing")
        elif hashlib.sha256(file.read_bytes()).hexdigest() != digest:
            wrong.append(f"{name} is damaged")
    if wrong:
        return Finding("weights", "fail", "; ".join(wrong), again)
    return Finding("weights", "pass", f"{len(lines)} files are there and whole")


def check_disk(folder: Path | None = None, free_bytes: int | None = None) -> Finding:
    """Room for results in the current folder."""
    folder = folder or Path.cwd()
    free = shutil.disk_usage(folder).free if free_bytes is None else free_bytes
    told = f"{free / (1 << 30):.1f} GiB free in {folder}"
    problem = _write_problem(folder)
    if problem:
        return Finding("disk", "warn", f"{folder}: {problem}", "work in a folder of your own")
    if free < _LEAST_FREE_BYTES:
        return Finding("disk", "warn", told, "free some space, or write to another disk")
    return Finding("disk", "pass", told)


def check_cache(folder: Path) -> Finding:
    """Measurements of this machine can be kept, so that the next start is quick."""
    nearest = next(path for path in (folder, *folder.parents) if path.exists())
    if problem := _write_problem(nearest):
        return Finding("cache", "warn", f"{folder}: {problem}; every start measures anew",
                       f"make it yours: sudo chown -R $USER {nearest}")  # fmt: skip
    kept = folder / "paths.json"
    told = "measured; delete paths.json to measure anew" if kept.is_file() else "nothing yet"
    return Finding("cache", "pass", f"{folder}: {told}")


def check_path(make_enhancer: MakeEnhancer) -> Finding:
    """The networks load, and how they will be computed: with the threads of a live run."""
    leave_a_core()
    enhancer = in_own_thread(lambda: make_enhancer(EnhancerConfig(mode="live")))
    with closing(enhancer):
        return Finding("network", "pass", enhancer.description)


def check_extras(
    there: Callable[[str], bool] = lambda name: find_spec(name) is not None,
) -> Finding:
    """Which optional parts are installed; none of them is needed."""
    present = [extra for extra, names in _EXTRAS.items() if all(map(there, names))]
    absent = [extra for extra in _EXTRAS if extra not in present]
    told = f"installed: {', '.join(present) or 'none'}"
    fix = f"for more: pip install 'cagface-live[{','.join(absent)}]'" if absent else ""
    return Finding("extras", "pass", told, fix)


def speed_finding(test: SelfTest, load: float | None = None) -> Finding:
    """What the self-test's figures mean for a call.

    Args:
        test: the figures.
        load: how many programs wanted a core before the test; None where the system does not tell.
    """
    told = (
        f"{test.fps:.1f} of {test.asked_hz} fps, {test.width}x{test.height} to "
        f"{test.width * test.scale}x{test.height * test.scale}, one face; latency "
        f"{test.latency_p50_ms:.0f} ms (p95 {test.latency_p95_ms:.0f}), without camera and call"
    )
    if test.fps >= _FLUENT_FPS:
        return Finding("self-test", "pass", told)
    if load is not None and load > _BUSY:
        told += f"; other programs were busy: load {load:.1f} on {os.cpu_count()} cores"
    return Finding("self-test", "warn", told, "close other programs; or: cagface-live --preset "
                   "pico --max-crop-px 64 --scale 1")  # fmt: skip


def _write_problem(folder: Path) -> str:
    """Why nothing can be written in a folder; empty where it can."""
    try:
        with tempfile.TemporaryFile(dir=folder):
            return ""
    except OSError as error:
        return f"cannot be written in ({error.strerror})"


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "of unknown version"
