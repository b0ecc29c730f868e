"""Names and files of networks in; functions that enlarge a picture four times out."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image as Pillow
from torch import Tensor, nn

from cagface_core import checkpoint
from cagface_core.attention import to_signed
from cagface_core.engine import Engine
from cagface_core.errors import ConfigError, InputError, WeightsError
from cagface_core.evaluate.peers import load_peer
from cagface_core.paste import upscale_frame
from cagface_core.paths import find_device
from cagface_core.types import Image

log = logging.getLogger(__name__)

BASELINE = "bicubic"
"""The method that gains are measured against."""

_TIMED_RUNS = 5


@dataclass(frozen=True, slots=True)
class Method:
    """A way to enlarge: its name, (H, W, 3) uint8 RGB to (4H, 4W, 3), and what it is made of.

    ``parameters`` are the network's own (without our component network); None where the file
    does not tell. ``sha256`` is of the weights, None where there are none.
    """

    name: str
    upscale: Callable[[Image], Image]
    origin: str
    parameters: int | None = 0
    sha256: str | None = None


def find_methods(
    data: Path, weights: Sequence[str], retrained: Path | None, peers: Sequence[tuple[str, Path]],
    name: str,
) -> list[Method]:  # fmt: skip
    """Open everything that becomes a row: classical, ours, OpenCV's, retrained, given.

    Args:
        data: the data folder, for OpenCV's in its ``peers``.
        weights: as for :func:`our_weights`.
        retrained: as for :func:`retrained_peers`, or None.
        peers: names and files for :func:`open_spandrel`.
        name: what networks run on, as ``--device`` takes it; OpenCV's run on the processor.

    Raises:
        ConfigError: no such shipped weights, a package is missing, or two rows of one name.
        InputError: no retrained peer. WeightsError: a file is missing or unreadable.
    """
    device = find_device(name)
    methods = [*classical(), *our_weights(weights, name), *opencv_peers(data)]
    if retrained is not None:
        methods += retrained_peers(retrained, device)
    methods += [open_spandrel(name, path, device) for name, path in peers]
    names = [method.name for method in methods]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ConfigError(f"two methods are named {', '.join(twice)}; give each its own name")
    return methods


def bicubic(lr: Image) -> Image:
    """Bicubic upscale of (H, W, 3) uint8 by four, Pillow's kernel (a = -0.5)."""
    return _resized(lr, Pillow.Resampling.BICUBIC)


def lanczos(lr: Image) -> Image:
    """Lanczos upscale of (H, W, 3) uint8 by four, Pillow's kernel (a = 3)."""
    return _resized(lr, Pillow.Resampling.LANCZOS)


def classical() -> list[Method]:
    """The upscales without a network, :data:`BASELINE` first."""
    return [
        Method(BASELINE, bicubic, "Pillow, a = -0.5"),
        Method("lanczos", lanczos, "Pillow, a = 3"),
        Method("bicubic-opencv", partial(upscale_frame, scale=4), "OpenCV, a = -0.75"),
    ]


def our_weights(names: Sequence[str], device: str) -> list[Method]:
    """Our networks with their consistency step, by shipped name or ``.safetensors`` file.

    Raises:
        ConfigError: no such shipped name. WeightsError: no such file, or it does not fit.
    """
    found: list[Method] = []
    for name in names:
        path, finer = checkpoint.find_named_pair(name)
        engine = Engine(path, device, finer=finer)
        facts = engine.facts
        found.append(
            Method(name, engine.upscale, engine.description, _size(facts.tensors), facts.sha256)
        )
    return found


def retrained_peers(folder: Path, device: torch.device) -> list[Method]:
    """Every ``FOLDER/*/weights.safetensors`` of ``cagface train peers``, by the folder's name.

    Raises:
        InputError: there is none. WeightsError: one is damaged or of another kind.
    """
    paths = sorted(folder.glob("*/weights.safetensors"))
    if not paths:
        raise InputError(f"no */weights.safetensors in {folder}; make them: cagface train peers")
    found: list[Method] = []
    for path in paths:
        network, facts = load_peer(path)
        upscale = partial(_run_signed, network.to(device), device)
        origin = f"retrained {facts.config['name']}"
        found.append(Method(path.parent.name, upscale, origin, _size(facts.tensors), facts.sha256))
    return found


def opencv_peers(data: Path) -> list[Method]:
    """OpenCV's ready FSRCNN and ESPCN, those of ``DATA/peers/*_x4.pb`` that it reads: 5.0 does."""
    found: list[Method] = []
    for path in sorted((data / "peers").glob("*_x4.pb")):
        try:
            found.append(open_opencv(path))
        except WeightsError as error:
            log.warning("left out: %s", error)
    return found


def open_opencv(path: Path) -> Method:
    """Open a network of OpenCV's dnn_superres, ``NAME_x4.pb``.

    Raises:
        WeightsError: OpenCV cannot read it.
    """
    network: Any = cv2.dnn_superres.DnnSuperResImpl.create()
    try:
        network.readModel(str(path))
        network.setModel(path.stem.removesuffix("_x4").lower(), 4)
    except cv2.error as error:
        reason = str(error).splitlines()[0]
        raise WeightsError(
            f"OpenCV {cv2.__version__} cannot read {path} ({reason}); copy it again, or take 5.0"
        ) from error

    def upscale(rgb: Image) -> Image:
        bgr = network.upsample(np.ascontiguousarray(rgb[..., ::-1]))
        return np.ascontiguousarray(np.asarray(bgr, np.uint8)[..., ::-1])

    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return Method(f"{path.stem}-opencv", upscale, f"OpenCV's {path.name}", None, digest)


def open_spandrel(name: str, path: Path, device: torch.device) -> Method:
    """Open any network that spandrel knows: Real-ESRGAN, SwinIR, GFPGAN ...

    A network of another scale than four sees its input enlarged or gives its output resized, by
    bicubic; one that needs larger pictures than it is given (GFPGAN: 512 px) sees them enlarged.

    Raises:
        ConfigError: spandrel is not installed or cannot be loaded.
        WeightsError: spandrel cannot read the file, or it holds no upscaler of RGB pictures.
    """
    if not path.is_file():
        raise WeightsError(f"no weights file at {path}; give --peer NAME=FILE")
    try:
        import spandrel  # pyright: ignore[reportMissingImports]  # only the extra `peers` brings it
    except (ImportError, RuntimeError) as error:  # torchvision of another torch: RuntimeError
        reason = str(error).splitlines()[0]
        raise ConfigError(
            f"--peer needs spandrel, with the torchvision made for this torch ({reason}); "
            "pip install 'cagface-live[peers]'"
        ) from error
    package: Any = spandrel
    try:
        model: Any = package.ModelLoader(device).load_from_file(str(path))
    except Exception as error:  # pickle, zip and torch raise whatever they like
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise WeightsError(f"spandrel cannot read {path} ({reason})") from error
    if not isinstance(model, package.ImageModelDescriptor) or model.input_channels != 3:
        raise WeightsError(f"{path} holds no network from RGB picture to RGB picture")
    upscale = partial(_run_descriptor, model, device)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    parameters = sum(p.numel() for p in model.model.parameters())
    return Method(name, upscale, f"{model.architecture.name}, {path.name}", parameters, digest)


def milliseconds(method: Method, lr: Image) -> float:
    """Time a method on one picture: the median of five runs after one to warm up."""
    method.upscale(lr)
    times_ms: list[float] = []
    for _ in range(_TIMED_RUNS):
        begin = time.perf_counter()
        method.upscale(lr)
        times_ms.append((time.perf_counter() - begin) * 1000)
    return float(np.median(times_ms))


@torch.inference_mode()
def _run_signed(network: nn.Module, device: torch.device, rgb: Image) -> Image:
    """Run a network that maps [-1, 1] to [-1, 1]."""
    return _to_image((network(to_signed([rgb], device)) + 1) / 2)


@torch.inference_mode()
def _run_descriptor(model: Any, device: torch.device, rgb: Image) -> Image:
    """Run a network of spandrel's, which maps [0, 1] to [0, 1] at its own scale."""
    height, width = rgb.shape[:2]
    x = (to_signed([rgb], device) + 1) / 2
    # A restorer of scale 1 is given the plain upscale; one with a least size at least that.
    wanted = max(4 // model.scale if model.scale < 4 else 1, 1)
    least = model.size_requirements.minimum
    factor = max(wanted, least / min(height, width))
    if factor > 1:
        x = _bicubic(x, round(height * factor), round(width * factor)).clamp(0, 1)
    y = model(x)
    if y.shape[-2:] != (4 * height, 4 * width):
        y = _bicubic(y, 4 * height, 4 * width)
    return _to_image(y)


def _bicubic(x: Tensor, height: int, width: int) -> Tensor:
    """Resize (N, C, H, W), antialiased where it shrinks."""
    return F.interpolate(x, (height, width), mode="bicubic", antialias=height < x.shape[-2])


def _to_image(y: Tensor) -> Image:
    """Turn (1, 3, H, W) in [0, 1] into (H, W, 3) uint8."""
    levels = (y[0] * 255).round().clamp(0, 255).byte()
    return levels.permute(1, 2, 0).contiguous().cpu().numpy()


def _resized(lr: Image, kernel: Pillow.Resampling) -> Image:
    return np.asarray(Pillow.fromarray(lr).resize((4 * lr.shape[1], 4 * lr.shape[0]), kernel))


def _size(tensors: dict[str, Tensor]) -> int:
    return sum(value.numel() for value in tensors.values())
