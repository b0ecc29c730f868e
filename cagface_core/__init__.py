"""CAGFace Live's core: faces of a frame super-resolved 4x by CAGFace and pasted back."""

from importlib import import_module
from typing import TYPE_CHECKING

from cagface_core.config import EnhancerConfig, Rung, Tuning, narrowed
from cagface_core.cores import usable_cores
from cagface_core.errors import (
    CagfaceError,
    ConfigError,
    DeviceError,
    InputError,
    OutputError,
    WeightsError,
)
from cagface_core.types import (
    I420,
    NO_RGB,
    Crop,
    Detection,
    Enhanced,
    Face,
    Foreseen,
    Frame,
    Image,
    Outcome,
    Plane,
    PlaneLayout,
    Planes,
)

if TYPE_CHECKING:
    from cagface_core.crop import seen_face
    from cagface_core.cuts import CutDetector
    from cagface_core.enhancer import FaceEnhancer
    from cagface_core.hindsight import REACH_S, steadied
    from cagface_core.native_log import is_console_2, native_stderr_to_log
    from cagface_core.planes import rgb_levels, upscale_planes
    from cagface_core.state import State
    from cagface_core.workers import limit_opencv

__all__ = [
    "I420",
    "NO_RGB",
    "REACH_S",
    "CagfaceError",
    "ConfigError",
    "Crop",
    "CutDetector",
    "Detection",
    "DeviceError",
    "Enhanced",
    "EnhancerConfig",
    "Face",
    "FaceEnhancer",
    "Foreseen",
    "Frame",
    "Image",
    "InputError",
    "Outcome",
    "OutputError",
    "Plane",
    "PlaneLayout",
    "Planes",
    "Rung",
    "State",
    "Tuning",
    "WeightsError",
    "is_console_2",
    "limit_opencv",
    "narrowed",
    "native_stderr_to_log",
    "rgb_levels",
    "seen_face",
    "steadied",
    "upscale_planes",
    "usable_cores",
]


_LATE = {
    "CutDetector": "cuts",
    "FaceEnhancer": "enhancer",
    "REACH_S": "hindsight",
    "State": "state",
    "limit_opencv": "workers",
    "is_console_2": "native_log",
    "native_stderr_to_log": "native_log",
    "rgb_levels": "planes",
    "seen_face": "crop",
    "steadied": "hindsight",
    "upscale_planes": "planes",
}


def __getattr__(name: str) -> object:
    """Import what needs torch or OpenCV only where it is used.

    So ``--help`` is fast, and a broken OpenCV is found by the check for it.
    """
    if name in _LATE:
        return getattr(import_module(f"cagface_core.{_LATE[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
