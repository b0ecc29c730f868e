"""CAGFace Live's core: faces of a frame super-resolved 4x by CAGFace and pasted back."""

from cagface_core.config import EnhancerConfig
from cagface_core.enhancer import FaceEnhancer, State
from cagface_core.errors import (
    CagfaceError,
    ConfigError,
    DeviceError,
    InputError,
    OutputError,
    WeightsError,
)
from cagface_core.types import Crop, Detection, Enhanced, Face, Frame, Image, Outcome

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
