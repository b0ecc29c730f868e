"""What figures depend on besides the program: the machine, its load, and versions."""

from __future__ import annotations

import os
import platform
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, cast

import cv2
import torch

from cagface_core import checkpoint

_PACKAGES = (
    "cagface-live", "numpy", "mediapipe", "openvino", "safetensors", "pillow", "av",
)  # fmt: skip
_INSTRUCTIONS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8", "asimd")
_MIB = 1 << 20


def describe(device: torch.device, command: str) -> dict[str, Any]:
    """The machine as plain values, before the run; `finish` adds what is known after it."""
    cpu = _cpu()
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": command,
        "system": platform.platform(),
        "cpu": cpu.get("model name") or platform.processor() or platform.machine(),
        "cpu_family_model": f"{cpu.get('cpu family', '?')}/{cpu.get('model', '?')}",
        "cpu_instructions": [i for i in _INSTRUCTIONS if i in cpu.get("flags", "").split()],
        "cores": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "opencv_threads": cv2.getNumThreads(),
        "load_before": _load(),
        "device": str(device),
        "gpu": _gpu(device),
        "versions": {"python": platform.python_version(), **_versions()},
        "weights": {name: _digest(name) for name in checkpoint.shipped()},
    }


def finish(machine: dict[str, Any], device: torch.device) -> None:
    """Add the load after the run, and the most memory that it took."""
    machine["load_after"] = _load()
    machine["peak_memory_mib"] = _peak_memory_mib()
    if device.type == "cuda":
        machine["peak_gpu_memory_mib"] = torch.cuda.max_memory_reserved(device) // _MIB


def one_line(machine: dict[str, Any]) -> str:
    """The machine, for people."""
    versions = machine["versions"]
    gpu = machine["gpu"]["name"] + ", " if machine["gpu"] else ""
    return (
        f"{gpu}{machine['cpu']} (family/model {machine['cpu_family_model']}), "
        f"{machine['cores']} cores, {machine['torch_threads']} torch threads, "
        f"load {machine['load_before']} before and {machine.get('load_after')} after, "
        f"torch {versions['torch']}, Python {versions['python']}, {machine['date']}"
    )


def _cpu() -> dict[str, str]:
    """The first processor of /proc/cpuinfo; nothing where there is none."""
    path = Path("/proc/cpuinfo")
    if not path.is_file():
        return {}
    lines = path.read_text(encoding="utf-8").split("\n\n")[0].splitlines()
    return {name.strip(): value.strip() for name, _, value in (x.partition(":") for x in lines)}


def _load() -> float | None:
    """How many processes wanted to run over the last minute, ours among them."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None


def _gpu(device: torch.device) -> dict[str, Any] | None:
    if device.type != "cuda":
        return None
    properties = cast(Any, torch.cuda.get_device_properties(device))
    return {
        "name": properties.name,
        "memory_mib": properties.total_memory // _MIB,
        "capability": f"{properties.major}.{properties.minor}",
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
    }


def _peak_memory_mib() -> int | None:
    try:
        import resource  # not on Windows
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak // (_MIB if sys.platform == "darwin" else 1024)


def _versions() -> dict[str, str]:
    # OpenCV's is one of four packages; torch's own version tells which build it is.
    found = {"opencv": cv2.__version__, "torch": str(torch.__version__)}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def _digest(name: str) -> str:
    return checkpoint.load(checkpoint.find_named(name)).sha256
