"""What the enhancer can be told, checked as soon as it is said."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple, get_args

from cagface_core.errors import ConfigError

Mode = Literal["live", "file", "image"]
"""``live``: every frame as fast as it can be; ``file``: video files, small faces too and large
faces at full detail; ``image``: pictures without a past."""

SCALES = (1, 2, 4)


@dataclass(frozen=True, slots=True)
class EnhancerConfig:
    """Everything :class:`cagface_core.FaceEnhancer` can be told.

    Attributes:
        preset: size of the network, see ``cagface_core.checkpoint.PRESETS``. None chooses by mode
            and device: ``small`` on a CUDA GPU, ``pico`` for live on a processor, else ``nano``;
            live a governor may choose a larger one where there is time for it.
        weights: ``clean``, ``webcam``, ``detail``, or the path of a ``.safetensors`` file. For
            images also ``auto``: each face by ``clean`` as far as its picture is that, else by
            ``webcam``.
        detail: with weights ``detail``: 1 is all of them, 0 is ``webcam``, in between a mixture.
        parser: the component network: a ``.safetensors`` file that ``cagface train parser`` wrote,
            or a ``.pth`` file of the 19-class face-parsing layout; None is the shipped one.
        scale: output size over input size: 1, 2 or 4.
        strength: 0 shows the plain upscale, 1 the whole enhancement.
        mode: what kind of stream it serves. ``live``: no frame waits for new heatmaps while old
            ones are there, so the result depends on the machine's speed; ``file`` and ``image``:
            the same every time.
        max_faces: the largest faces of a frame that are enhanced, at most this many.
        max_crop_px: the largest crop the network sees at native resolution; a larger one it sees
            shrunk to this, and what is finer than that comes from the frame. 0 means no limit:
            large faces go through in tiles. None chooses by mode and device: 384 for files
            on a processor and live on a CUDA GPU, live 96 on a processor and 256 on Apple's GPU, no
            limit otherwise.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N``, ``mps``, or a path by its name, see
            ``cagface_core.paths.PATHS``.
    """

    preset: str | None = None
    weights: str = "webcam"
    detail: float = 1.0
    parser: Path | None = None
    scale: int = 2
    strength: float = 1.0
    mode: Mode = "live"
    max_faces: int = 8
    max_crop_px: int | None = None
    device: str = "auto"

    def __post_init__(self) -> None:
        """Refuse what makes no sense, with ``ConfigError``; paths may be text and text a path."""
        object.__setattr__(self, "weights", str(self.weights))
        object.__setattr__(self, "parser", None if self.parser is None else Path(self.parser))
        _check(self.scale, (self.strength,), self.max_crop_px)
        if self.preset == "":
            raise ConfigError("preset '' is none; leave it out, and one is chosen")
        if not 0.0 <= self.detail <= 1.0:
            raise ConfigError(f"detail {self.detail} is out of range; expected 0 to 1")
        if self.detail < 1 and self.weights != "detail":
            raise ConfigError(f"detail {self.detail} needs weights detail; got {self.weights!r}")
        if self.mode not in get_args(Mode):
            raise ConfigError(f"unknown mode {self.mode!r}; expected {', '.join(get_args(Mode))}")
        if self.weights == "auto" and self.mode != "image":
            raise ConfigError("weights auto are for pictures alone; choose webcam, clean or detail")
        if self.max_faces < 1:
            raise ConfigError(f"max_faces {self.max_faces} is too small; expected 1 or more")


@dataclass(frozen=True, slots=True)
class Tuning:
    """What may change from one frame to the next: what its user or a governor turns.

    ``dataclasses.replace(enhancer.tuning, strength=0.5)`` makes one; it is checked like
    :class:`EnhancerConfig`, whose words it shares.

    Attributes:
        preset: size of the network; another than the last is loaded at its first frame, or ahead by
            :meth:`cagface_core.FaceEnhancer.load`.
        scale: output size over input size: 1, 2 or 4.
        strength: of every face that ``strength_of`` does not name, 0 to 1.
        max_faces: the largest faces that are enhanced, at most this many; 0 enhances none.
        least: faces below this share of the largest one's height are left as they are, 0 to 1.
        max_crop_px: 64 or more, or 0 for no limit.
        patience: heatmaps may get this many times as old as usual, 1 or more; above 1 time is
            short, and on the processor only what stands still is steadied, and of large faces only
            what is coarse.
        only: the ids of the faces that are enhanced; None is all.
        strength_of: by a face's id, its own strength; 0 leaves it as it is.
        planes: the frame may come out as ``I420`` instead of RGB, which is half as much: so it
            does, where its size is even, from a CUDA GPU, and from a processor above scale 1.
    """

    preset: str
    scale: int
    strength: float = 1.0
    max_faces: int = 8
    max_crop_px: int = 0
    least: float = 0.0
    patience: float = 1.0
    only: frozenset[int] | None = None
    strength_of: Mapping[int, float] = field(default_factory=dict[int, float])
    planes: bool = False

    def __post_init__(self) -> None:
        """Refuse what makes no sense, with ``ConfigError``."""
        _check(self.scale, (self.strength, *self.strength_of.values()), self.max_crop_px)
        if self.max_faces < 0:
            raise ConfigError(f"max_faces {self.max_faces} is too small; expected 0 or more")
        if not 0.0 <= self.least <= 1.0:
            raise ConfigError(f"least {self.least} is out of range; expected 0 to 1")
        if not self.patience >= 1.0:
            raise ConfigError(f"patience {self.patience} is too small; expected 1 or more")

    def wanted(self, id: int) -> float:
        """The strength that a face is to have, 0 to 1, by its id."""
        if self.only is not None and id not in self.only:
            return 0.0
        return self.strength_of.get(id, self.strength)


class Rung(NamedTuple):
    """How much a face is worth: the network's size, and the largest crop it sees, 0 for no limit.

    The two as :class:`Tuning` has them.
    """

    preset: str
    max_crop_px: int


_USUAL = {
    "live": {
        "cpu": (
            Rung("pico", 96),
            Rung("pico", 192),
            Rung("pico", 384),
            Rung("nano", 384),
            Rung("small", 384),
        ),
        "cuda": (Rung("small", 384),),
        "mps": (Rung("nano", 256), Rung("nano", 384), Rung("small", 384)),
    },
    "file": {"cpu": (Rung("nano", 384),), "cuda": (Rung("small", 0),), "mps": (Rung("nano", 0),)},
    "image": {"cpu": (Rung("nano", 0),), "cuda": (Rung("small", 0),), "mps": (Rung("nano", 0),)},
}


def usual(mode: Mode, kind: str) -> tuple[Rung, ...]:
    """What is used where a config leaves it open.

    Args:
        mode: see :class:`EnhancerConfig`.
        kind: what it computes on, ``cpu``, ``cuda`` or ``mps``.

    Returns:
        First what is used; then what is worth more, one after another, live, where time allows.
    """
    return _USUAL[mode].get(kind, _USUAL[mode]["mps"])


def narrowed(
    rungs: Iterable[Rung], preset: str | None = None, max_crop_px: int | None = None
) -> tuple[Rung, ...]:
    """The rungs with what is asked for in place of theirs, each once; None asks for nothing."""
    asked = (
        Rung(preset or rung.preset, rung.max_crop_px if max_crop_px is None else max_crop_px)
        for rung in rungs
    )
    return tuple(dict.fromkeys(asked))


def _check(scale: int, strengths: Iterable[float], max_crop_px: int | None) -> None:
    """Refuse what makes no sense at the start or later, with ``ConfigError``."""
    if scale not in SCALES:
        raise ConfigError(f"scale {scale} is not possible; expected 1, 2 or 4")
    for strength in strengths:
        if not 0.0 <= strength <= 1.0:
            raise ConfigError(f"strength {strength} is out of range; expected 0 to 1")
    if max_crop_px is not None and 0 != max_crop_px < 64:
        raise ConfigError(
            f"max_crop_px {max_crop_px} is too small; expected 64 or more, or 0: no limit"
        )
