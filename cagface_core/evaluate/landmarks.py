"""Output and truth in; how far the face's landmarks lie apart out, in % of the eyes' distance.

The stand-in for an identity metric: no recognition network is shipped or downloaded, and whose
face it is shows first in where eyes, nose, mouth and jaw lie.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cagface_core.blazeface import Closing
from cagface_core.errors import ConfigError, InputError
from cagface_core.native_log import native_stderr_to_log
from cagface_core.types import Image

log = logging.getLogger(__name__)

_OUTER_EYE_CORNERS = (33, 263)

Points = NDArray[np.float64]


class Landmarks(Closing):
    """MediaPipe's FaceLandmarker on single pictures."""

    def __init__(self, model: Path) -> None:
        """Load the model.

        Args:
            model: a ``face_landmarker.task`` file.

        Raises:
            InputError: there is no such model. ConfigError: MediaPipe is not installed.
        """
        if not model.is_file():
            raise InputError(f"no landmark model at {model}; give MediaPipe's face_landmarker.task")
        try:
            import mediapipe  # large, and not there where only the core is
        except ImportError as error:
            raise ConfigError("--landmarks needs mediapipe: pip install mediapipe") from error
        self._mediapipe: Any = mediapipe
        vision = self._mediapipe.tasks.vision
        base = self._mediapipe.tasks.BaseOptions(model_asset_path=str(model))
        options = vision.FaceLandmarkerOptions(base_options=base, num_faces=1)
        try:
            with native_stderr_to_log(log):
                self._landmarker: Any = vision.FaceLandmarker.create_from_options(options)
        except (RuntimeError, ValueError) as error:
            reason = str(error).splitlines()[0]
            raise InputError(f"{model} is no face landmark model ({reason})") from error

    def close(self) -> None:
        """Release the model."""
        self._landmarker.close()

    def find(self, rgb: Image) -> Points | None:
        """Landmarks of the face in (H, W, 3) uint8 RGB, (478, 2) in pixels; None without a face."""
        picture = self._mediapipe.Image(
            image_format=self._mediapipe.ImageFormat.SRGB, data=np.ascontiguousarray(rgb)
        )
        with native_stderr_to_log(log):
            faces = self._landmarker.detect(picture).face_landmarks
        if not faces:
            return None
        height, width = rgb.shape[:2]
        return np.array([(p.x * width, p.y * height) for p in faces[0]], np.float64)


def landmark_distance(output: Points | None, truth: Points | None) -> float:
    """Mean distance of the landmarks in % of the distance of the truth's outer eye corners.

    NaN where either has no face.
    """
    if output is None or truth is None:
        return float("nan")
    left, right = truth[list(_OUTER_EYE_CORNERS)]
    apart = float(np.linalg.norm(left - right))
    return float(100 * np.linalg.norm(output - truth, axis=1).mean() / max(apart, 1.0))
