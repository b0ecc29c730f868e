"""Methods and a split of the photo set in; all figures of all pictures out, and a few pictures."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import track
from torch import Tensor

from cagface_core import checkpoint
from cagface_core.errors import ConfigError
from cagface_core.evaluate import metrics
from cagface_core.evaluate.landmarks import Landmarks, Points, landmark_distance
from cagface_core.evaluate.methods import Method, find_methods, milliseconds
from cagface_core.evaluate.perceptual import (
    Frechet,
    ParserFeatures,
    Seen,
    open_inception,
    open_lpips,
    parser_distance,
)
from cagface_core.evaluate.protocols import PROTOCOLS, Protocol, skin_lightness, spread
from cagface_core.paths import find_device
from cagface_core.standalone import claim_folder
from cagface_core.train.photos import Photo, load_labels, read_photos
from cagface_core.types import Image

Floats = NDArray[np.float64]

_SHEET_FACES = 4
_COMPONENTS = ("hair", "skin", "parts")


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What is to be measured; see ``cagface eval --help``."""

    data: Path
    split: str = "val"
    out: Path = Path("out/eval")
    weights: Sequence[str] = field(default_factory=checkpoint.shipped)
    protocols: Sequence[str] = tuple(protocol.name for protocol in PROTOCOLS)
    limit: int | None = None
    peers: Sequence[tuple[str, Path]] = ()
    retrained: Path | None = None
    landmarks: Path | None = None
    parser: Path = checkpoint.WEIGHTS_DIR / "parser.safetensors"
    device: str = "auto"


@dataclass(frozen=True, slots=True)
class Measured:
    """One protocol's figures: ``scores[method][metric]`` has one number a photo, NaN for none.

    ``frechet[method][metric]`` are distances of the whole set. ``faces`` are rows of the sheet:
    the input and the truth, then each method's picture.
    """

    protocol: Protocol
    photos: list[Photo]
    skin: list[float]
    scores: dict[str, dict[str, Floats]]
    frechet: dict[str, dict[str, float]]
    faces: list[tuple[Image, Image, dict[str, Image]]]


@dataclass(frozen=True, slots=True)
class Results:
    """Everything that was measured; ``notes`` say in one line each what was not, and why."""

    evaluation: Evaluation
    device: torch.device
    methods: list[Method]
    times_ms: dict[str, float]
    measured: list[Measured]
    notes: list[str]


def evaluate(plan: Evaluation) -> Results:
    """Measure every method under every protocol.

    All pictures are compared at 8 bit, whole, no border shaved. The split is by person.

    Raises:
        InputError: no photo set, or no such model. WeightsError: weights missing or unreadable.
        ConfigError: no such weights, or a package is missing. OutputError: cannot write to ``out``.
    """
    try:
        importlib.import_module("torchmetrics.image")
    except (ImportError, RuntimeError) as error:  # RuntimeError: a torchvision of another torch
        raise ConfigError(
            f"cagface eval needs torchmetrics ({str(error).splitlines()[0]}); "
            "pip install 'cagface-live[eval]'"
        ) from error
    photos = spread(read_photos(plan.data, plan.split), plan.limit)
    device = find_device(plan.device)
    methods = find_methods(plan.data, plan.weights, plan.retrained, plan.peers, plan.device)
    notes: list[str] = []
    protocols = [protocol for protocol in PROTOCOLS if protocol.name in plan.protocols]
    if importlib.util.find_spec("av") is None:
        notes += [
            f"protocol {p.name} is left out: its input is compressed by PyAV; pip install av"
            for p in protocols if p.degraded
        ]  # fmt: skip
        protocols = [protocol for protocol in protocols if not protocol.degraded]
    with ExitStack() as stack:
        landmarks = plan.landmarks and stack.enter_context(Landmarks(plan.landmarks))
        judge = _Judge(ParserFeatures(plan.parser, device), landmarks, device, notes)
        claim_folder(plan.out)  # now that nothing of the command can be wrong
        lr, _ = PROTOCOLS[0].pair(photos[0])
        times_ms = {method.name: milliseconds(method, lr) for method in methods}
        measured = [_measure(p, p.photos(photos), methods, judge) for p in protocols]
    return Results(plan, device, methods, times_ms, measured, notes)


@dataclass(frozen=True, slots=True)
class _Truth:
    """A photo, and what is computed of it once for all methods."""

    hr: Image
    lr: Image
    labels: NDArray[np.uint8] | None
    seen: Seen
    points: Points | None
    inception: Tensor | None


class _Judge:
    """All the metrics, those included whose backbones are not always there."""

    def __init__(
        self, features: ParserFeatures, landmarks: Landmarks | None, device: torch.device,
        notes: list[str],
    ) -> None:  # fmt: skip
        self.features = features
        self.landmarks = landmarks
        self.lpips: Callable[[Image, Image], float] | None = None
        self.inception: Callable[[Image], Tensor] | None = None
        for found, name in ((open_lpips(device), "lpips"), (open_inception(device), "inception")):
            if isinstance(found, str):
                notes.append(found)
            else:
                setattr(self, name, found)
        if landmarks is None:
            notes.append("landmark distance is left out: give --landmarks face_landmarker.task")

    def truth(self, photo: Photo, protocol: Protocol) -> _Truth:
        lr, hr = protocol.pair(photo)
        labels = None if photo.mask is None else load_labels(photo, protocol.side_px)
        points = self.landmarks.find(hr) if self.landmarks else None
        inception = self.inception(hr) if self.inception else None
        return _Truth(hr, lr, labels, self.features.see(hr), points, inception)

    def score(self, output: Image, truth: _Truth) -> tuple[dict[str, float], dict[str, Tensor]]:
        """Measure one output: its figures, and the vectors for the distances of whole sets."""
        hr, lr = truth.hr, truth.lr
        seen = self.features.see(output)
        figures = {
            "psnr": metrics.psnr(output, hr),
            "psnr_y": metrics.psnr_y(output, hr),
            "ssim": metrics.ssim(output, hr),
            "ms_ssim": metrics.ms_ssim(output, hr),
            "parser_distance": parser_distance(seen, truth.seen),
            "drift": metrics.drift(output, lr),
            "consistency_db": metrics.consistency(output, lr),
        }
        found = dict.fromkeys(_COMPONENTS, float("nan"))
        if truth.labels is not None:
            found = metrics.component_psnr(output, hr, truth.labels)
        figures |= {f"psnr_{name}": value for name, value in found.items()}
        if self.lpips:
            figures["lpips"] = self.lpips(output, hr)
        if self.landmarks:
            figures["landmarks"] = landmark_distance(self.landmarks.find(output), truth.points)
        vectors = {"parser_frechet": seen.pooled}
        if self.inception:
            vectors["fid"] = self.inception(output)
        return figures, vectors


def _measure(
    protocol: Protocol, photos: list[Photo], methods: list[Method], judge: _Judge
) -> Measured:
    """Measure one protocol, one photo at a time."""
    scores: dict[str, dict[str, list[float]]] = {method.name: {} for method in methods}
    distances: dict[str, dict[str, Frechet]] = {method.name: {} for method in methods}
    skin: list[float] = []
    faces: list[tuple[Image, Image, dict[str, Image]]] = []
    every = max(1, -(-len(photos) // _SHEET_FACES))
    for index, photo in enumerate(track(photos, protocol.name, transient=True)):
        truth = judge.truth(photo, protocol)
        skin.append(skin_lightness(truth.hr, truth.labels))
        shown: dict[str, Image] = {}
        for method in methods:
            output = method.upscale(truth.lr)
            figures, vectors = judge.score(output, truth)
            for name, value in figures.items():
                scores[method.name].setdefault(name, []).append(value)
            for name, vector in vectors.items():
                real = truth.seen.pooled if name == "parser_frechet" else truth.inception
                assert real is not None
                distance = distances[method.name].setdefault(name, Frechet(vector.shape[1]))
                distance.add(real, real=True)
                distance.add(vector, real=False)
            shown[method.name] = metrics.centre(output, 256).copy()
        if index % every == every // 2:
            faces.append((metrics.centre(truth.lr, 64), metrics.centre(truth.hr, 256), shown))
    return Measured(
        protocol,
        photos,
        skin,
        {m: {k: np.array(v) for k, v in found.items()} for m, found in scores.items()},
        {
            m: {k: d.compute() for k, d in found.items()} if len(photos) > 1 else {}
            for m, found in distances.items()
        },
        faces,
    )
