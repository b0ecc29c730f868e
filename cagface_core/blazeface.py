"""One RGB picture in, the faces one BlazeFace model sees in one look at it out."""

from __future__ import annotations

import importlib
import logging
import sys
import threading
import weakref
from abc import ABC, abstractmethod
from collections.abc import Generator, Sequence
from contextlib import contextmanager, nullcontext
from itertools import count
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any, Literal, Self, TypeAlias

import cv2
import numpy as np

from cagface_core.errors import ConfigError, DeviceError, WeightsError
from cagface_core.native_log import native_stderr_to_log
from cagface_core.types import Detection, Face, Image, checked_picture

log = logging.getLogger(__name__)

Range: TypeAlias = Literal["short", "full"]
"""Which BlazeFace model: ``short`` for faces that fill the picture, ``full`` for smaller ones."""

MODELS_DIR = Path(__file__).parent / "models"
MODEL_FILES: dict[Range, str] = {
    "short": "face_detection_short_range.tflite",
    "full": "face_detection_full_range_sparse.tflite",
}

# MediaPipe rounds boxes to whole pixels of what it is given, and shrinks that to 128 or 192 px
# without averaging. So small pictures are enlarged (a 30 px face would else jitter by 3%) and
# large ones are averaged down first, which is also several times faster for 9 megapixels.
MIN_LOOK_PX = 384
MAX_LOOK_PX = 768

# The short range draws its box smaller and lower than the full range. Grown by the first and moved
# up by the second (of its width) it is the same box: medians over seven clips of single faces.
_SHORT_GROW = 1.09
_SHORT_UP = 0.05

# Once per process, and only when the allocator happens to give it such memory, MediaPipe prints
# that a tensor is not aligned: seen at the second look in one start of six, once at the eleventh.
_CHATTY_LOOKS = 60
_looks_made = count()


class Closing(ABC):
    """Something with ``close()``, for ``with`` blocks."""

    @abstractmethod
    def close(self) -> None:
        """Free what it holds; closing twice is fine."""

    def __enter__(self) -> Self:
        """Give itself, to be closed at the end of the ``with`` block."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close."""
        self.close()


class Gate:
    """Many at a time, or one alone, who is let in before further ones of the many."""

    def __init__(self) -> None:
        """Let everybody in."""
        self._changed = threading.Condition()
        self._inside = 0
        self._closed = False

    @contextmanager
    def among_others(self) -> Generator[None]:
        """Be inside, with others; never within itself."""
        with self._changed:
            self._changed.wait_for(lambda: not self._closed)
            self._inside += 1
        try:
            yield
        finally:
            with self._changed:
                self._inside -= 1
                self._changed.notify_all()

    @contextmanager
    def alone(self) -> Generator[None]:
        """Be inside once everybody else has left."""
        with self._changed:
            self._changed.wait_for(lambda: not self._closed)
            self._closed = True
            self._changed.wait_for(lambda: not self._inside)
        try:
            yield
        finally:
            with self._changed:
                self._closed = False
                self._changed.notify_all()


# MediaPipe declares its C functions' arguments anew, those of images for each image and those of
# detectors for each detector, while another thread may be calling them: "'cell' object is not
# callable", for what was declared before is gone.
_MAKING_IMAGES = threading.Lock()
_DETECTORS = Gate()


class BlazeFaceDetector(Closing):
    """One BlazeFace model on MediaPipe Tasks. Not thread-safe: one thread at a time."""

    def __init__(
        self, range: Range = "full", min_score: float = 0.5, model_path: Path | None = None
    ) -> None:
        """Load the model and run it once, so that the first picture is not slower.

        Args:
            range: which of the two shipped models.
            min_score: detections below are dropped, in [0, 1].
            model_path: another BlazeFace ``.tflite`` file instead of the shipped one.

        Raises:
            ConfigError: ``range`` or ``min_score`` is not one of those.
            DeviceError: MediaPipe is missing or cannot be loaded.
            WeightsError: the model file is missing or damaged.
        """
        if range not in MODEL_FILES:
            raise ConfigError(f"unknown detector range {range!r}: expected 'short' or 'full'")
        check_score(min_score)
        self._grow, self._up = (_SHORT_GROW, _SHORT_UP) if range == "short" else (1.0, 0.0)
        path = model_path or MODELS_DIR / MODEL_FILES[range]
        with native_stderr_to_log(log):
            self._mediapipe, task = _load(path, min_score)
            self._task: Any | None = task
            # left open until the interpreter ends, MediaPipe prints a traceback of its own
            self._close = weakref.finalize(self, task.close)
        self._run(np.zeros((128, 128, 3), np.uint8))

    def detect(
        self, rgb: Image, known: Sequence[Detection | Face] = (), *, search: bool = True
    ) -> list[Detection]:
        """Find faces in one look, best first, clipped to the picture.

        Args:
            rgb: (H, W, 3) uint8 RGB, any size from 1x1.
            known: does nothing here; see `cagface_core.detect.Detector`.
            search: does nothing here.

        Raises:
            InputError: ``rgb`` is not such a picture.
            ValueError: the detector was closed.
        """
        del known, search
        return clipped(self.look(checked_picture(rgb)), rgb)

    def look(self, rgb: Image) -> list[Detection]:
        """Find faces in one look at a checked picture; boxes may reach beyond its border."""
        height, width = rgb.shape[:2]
        longest = max(height, width)
        scale = min(max(longest, MIN_LOOK_PX), MAX_LOOK_PX) / longest
        if scale != 1.0:
            size = (max(1, round(width * scale)), max(1, round(height * scale)))
            kernel = cv2.INTER_AREA if scale < 1.0 else cv2.INTER_LINEAR
            rgb = np.asarray(cv2.resize(rgb, size, interpolation=kernel), np.uint8)
        # Rounding makes the two scales differ in very thin pictures.
        scale_x, scale_y = rgb.shape[1] / width, rgb.shape[0] / height
        found: list[Detection] = []
        for face in sorted(self._run(rgb), key=lambda face: -face.categories[0].score):
            box = face.bounding_box
            w, h = box.width * self._grow, box.height * self._grow
            x = box.origin_x - (w - box.width) / 2
            y = box.origin_y - (h - box.height) / 2 - box.height * self._up
            keypoints = tuple((k.x * width, k.y * height) for k in face.keypoints)
            score = float(face.categories[0].score)
            found.append(
                Detection(x / scale_x, y / scale_y, w / scale_x, h / scale_y, score, keypoints)
            )
        return found

    def close(self) -> None:
        """Free the model; closing twice is fine."""
        if self._task is not None:
            with native_stderr_to_log(log), _DETECTORS.among_others():
                self._close()
            self._task = None

    def _run(self, rgb: Image) -> list[Any]:
        if self._task is None:
            raise ValueError("the face detector was closed: open a new one")
        with _MAKING_IMAGES:
            image = self._mediapipe.Image(
                image_format=self._mediapipe.ImageFormat.SRGB, data=np.ascontiguousarray(rgb)
            )
        chatty = next(_looks_made) < _CHATTY_LOOKS
        with native_stderr_to_log(log) if chatty else nullcontext(), _DETECTORS.among_others():
            return self._task.detect(image).detections


def check_score(min_score: float) -> None:
    """Raise ConfigError for a score outside [0, 1]."""
    if not 0.0 <= min_score <= 1.0:
        raise ConfigError(f"detector min_score is {min_score}: expected 0 to 1")


def clipped(found: Sequence[Detection], rgb: Image) -> list[Detection]:
    """Cut boxes at the picture's border; those entirely outside are dropped."""
    height, width = rgb.shape[:2]
    inside: list[Detection] = []
    for d in found:
        left, top = max(0.0, d.x), max(0.0, d.y)
        w, h = min(float(width), d.x + d.w) - left, min(float(height), d.y + d.h) - top
        if w > 0 and h > 0:
            inside.append(Detection(left, top, w, h, d.score, d.keypoints))
    return inside


@contextmanager
def _put_off(name: str) -> Generator[None]:
    """Have what is imported meanwhile load a module only once it uses something in it.

    MediaPipe's drawing functions, which nothing here calls, import pyplot: most of MediaPipe's own
    time to load.
    """
    if name in sys.modules:
        yield
        return
    stand_in: Any = ModuleType(name)

    def load(attribute: str) -> Any:
        return getattr(importlib.import_module(name), attribute)

    stand_in.__getattr__ = load
    sys.modules[name] = stand_in
    try:
        yield
    finally:
        del sys.modules[name]


def _load(path: Path, min_score: float) -> tuple[Any, Any]:
    """Import MediaPipe and open the model: (mediapipe, task)."""
    # It warns of folders that it cannot make, and draws nothing here.
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    try:
        # By name: its packages declare no types, and importing it takes seconds.
        with _put_off("matplotlib.pyplot"):
            mediapipe: Any = importlib.import_module("mediapipe")
            tasks: Any = importlib.import_module("mediapipe.tasks.python")
    except ImportError as error:
        raise DeviceError(
            f"face detection needs MediaPipe, which cannot be imported ({error}): "
            "run 'pip install mediapipe>=1.2'"
        ) from error
    try:
        # Handing over bytes keeps MediaPipe from opening the path itself, which fails for
        # letters outside the code page on Windows.
        model = path.read_bytes()
    except OSError as error:
        raise WeightsError(
            f"cannot read the face detection model {path} ({error.strerror}): reinstall the package"
        ) from error
    try:
        options: Any = tasks.vision.FaceDetectorOptions(
            base_options=tasks.BaseOptions(model_asset_buffer=model),
            min_detection_confidence=min_score,
        )
        with _DETECTORS.alone():
            return mediapipe, tasks.vision.FaceDetector.create_from_options(options)
    except (ValueError, RuntimeError) as error:
        raise WeightsError(
            f"{path} is not a working BlazeFace model: expected the .tflite file shipped with "
            "this package, reinstall it"
        ) from error
    except OSError as error:
        reason = str(error).splitlines()[0]
        raise DeviceError(
            f"MediaPipe's native library does not load ({reason}): install the system library "
            "it names (on Debian and Ubuntu usually libegl1 and libgles2)"
        ) from error
