"""CAGFace Live's core: faces of a frame super-resolved 4x by CAGFace and pasted back."""

from typing import TYPE_CHECKING

from cagface_core.config import EnhancerConfig
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
    from cagface_core.enhancer import FaceEnhancer, State

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
    "WeightsError",
]


def __getattr__(name: str) -> object:
    """Import the enhancer, and torch with it, only where it is used: ``--help`` is fast."""
    if name in ("FaceEnhancer", "State"):
        from cagface_core import enhancer

        return getattr(enhancer, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
