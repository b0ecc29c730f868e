"""The options that every enhancing command shares, and the enhancer they make."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from rich.console import Console

from cagface_core import EnhancerConfig
from realtime.environment import package_version

if TYPE_CHECKING:
    from realtime.run_images import PictureEnhancer

Mode = Literal["live", "file", "image"]


MakeEnhancer: TypeAlias = "Callable[[EnhancerConfig], PictureEnhancer[Any]]"


@dataclass(frozen=True, slots=True)
class Context:
    """What a command gets besides its arguments."""

    console: Console
    """For progress and remarks: standard error."""
    make_enhancer: MakeEnhancer


def load_enhancer(config: EnhancerConfig) -> PictureEnhancer[Any]:
    """Load the network. Raises `WeightsError`, `ConfigError` or `DeviceError`."""
    from cagface_core import FaceEnhancer

    return FaceEnhancer(config)


def add_enhancer_arguments(
    parser: argparse.ArgumentParser, *, weights: str, scale: int, max_faces: int,
    per_frame: bool = False,
) -> None:  # fmt: skip
    """Add the options, from --preset to --device, that say how faces are enhanced.

    Their values are read by `enhancer_config`. With ``per_frame`` scale and strength come with
    each frame, and have no options.
    """
    group = parser.add_argument_group("enhancement")
    group.add_argument(
        "--preset",
        help="size of the network: pico, nano or small (default: small on a CUDA GPU, nano on a "
        "processor; live there pico, and larger ones where there is time)",
    )
    group.add_argument(
        "--weights",
        default=weights,
        metavar=("auto|" if weights == "auto" else "") + "clean|webcam|detail|FILE",
        help=f"what the network was trained for, or a weights file (default: {weights})",
    )
    group.add_argument(
        "--detail",
        type=_share,
        default=1.0,
        metavar="0..1",
        help="with --weights detail: 0 is webcam, in between a mixture (default: 1)",
    )
    group.add_argument(
        "--parser",
        type=Path,
        metavar="FILE",
        help="another component network: one of your own training (.safetensors), or a 19-class "
        "face-parsing checkpoint on ResNet-18 (.pth)",
    )
    if not per_frame:
        group.add_argument(
            "--scale",
            type=int,
            choices=(1, 2, 4),
            default=None,
            help=f"how much larger the result is (default: {scale})",
        )
        group.add_argument(
            "--strength",
            type=_share,
            default=1.0,
            metavar="0..1",
            help="0 keeps the face as it is, 1 is all the network gives (default: 1)",
        )
    group.add_argument(
        "--max-faces",
        type=positive,
        default=max_faces,
        metavar="N",
        help=f"enhance at most the N largest faces (default: {max_faces})",
    )
    group.add_argument(
        "--max-crop-px",
        type=int,
        metavar="PX",
        help="the network sees larger face crops shrunk to this: 64 or more, smaller is faster, "
        "0 is no limit (default: by mode and device)",
    )
    group.add_argument(
        "--device",
        default="auto",
        help="auto, cpu, cuda, cuda:N, mps, or a path by name: cuda-graph, cuda-eager, "
        "cpu-float32, cpu-bfloat16, cpu-int8, openvino-bfloat16, openvino-int8 (default: auto)",
    )
    parser.set_defaults(default_scale=scale)
    if per_frame:
        parser.set_defaults(scale=None, strength=1.0)


def enhancer_config(arguments: argparse.Namespace, mode: Mode) -> EnhancerConfig:
    """Read what `add_enhancer_arguments` added. Raises `ConfigError` for a value out of range."""
    return EnhancerConfig(
        mode=mode,
        preset=arguments.preset,
        weights=arguments.weights,
        detail=arguments.detail,
        parser=arguments.parser,
        scale=arguments.scale or arguments.default_scale,
        strength=arguments.strength,
        max_faces=arguments.max_faces,
        max_crop_px=arguments.max_crop_px,
        device=arguments.device,
    )


def one_line(error: BaseException) -> str:
    """An error's message, for people, in one line."""
    return " ".join(str(error).split())


def settings_of(config: EnhancerConfig) -> dict[str, object]:
    """How faces are enhanced, as JSON has it; the device is no part of it.

    With it goes what it stands for: this program's version, and what is in files of one's own.
    """
    found: dict[str, object] = {"version of cagface-live": package_version()}
    for key, value in asdict(config).items():
        if key != "device":
            kept = value if isinstance(value, int | float) else str(value)
            found[f"--{key.replace('_', '-')}"] = kept
    for option, name in (("--weights", config.weights), ("--parser", config.parser)):
        if name is not None and Path(name).is_file():
            found[f"the file of {option}"] = sha256(Path(name).read_bytes()).hexdigest()
    return found


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 to 1")
    return value


def positive(text: str) -> int:
    """Read a whole number of at least 1, for argparse."""
    if not (text.isdecimal() and int(text)):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)
