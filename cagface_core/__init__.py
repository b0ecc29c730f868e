"""CAGFace Live's core: faces of a frame super-resolved 4x by CAGFace and pasted back."""

from typing import TYPE_CHECKING

from cagface_core.config import EnhancerConfig, Tuning
from cagface_core.errors import (
    CagfaceError,
    ConfigError,
    DeviceError,
    InputError,
    OutputError,
    WeightsError,
)
from cagface_core.types import Crop, Detection, Enhanced, Face, Frame, Image, Outcome

if TYPE_CHECKING:
    from cagface_core.enhancer import FaceEnhancer
    from cagface_core.state import State

__all__ = [
    "CagfaceError",
    "ConfigError",
    "Crop",
    "Detection",
    "DeviceError",
    "Enhanced",
    "EnhancerConfig",
    "Face",
    "FaceEnhancer",
    "Frame",
    "Image",
    "InputError",
    "Outcome",
    "OutputError",
    "State",
    "Tuning",
    "WeightsError",
]


def __getattr__(name: str) -> object:
    """Import the enhancer, and torch with it, only where it is used: ``--help`` is fast."""
    if name == "FaceEnhancer":
        from cagface_core.enhancer import FaceEnhancer

        return FaceEnhancer
    if name == "State":
        from cagface_core.state import State

        return State
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
