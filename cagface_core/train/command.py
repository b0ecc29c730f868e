"""``cagface train WHAT``: options in, weights or a table out."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from cagface_core.errors import ConfigError
from cagface_core.paths import find_device
from cagface_core.train import ablation
from cagface_core.train import detail as detail_training
from cagface_core.train import parser as parser_training
from cagface_core.train import peers as peers_training
from cagface_core.train import sr as sr_training
from cagface_core.train.claim import check
from cagface_core.train.photos import find_manifest
from cagface_core.train.ranks import joined, rank

log = logging.getLogger(__name__)

_HELP = {
    "data": "folder of the photo set (train_photos/, parsing_pseudo/ ...)",
    "out": "folder for state.pt, log.csv, curve.png and weights.safetensors",
    "preset": "size of the network: pico, nano, small, base, paper",
    "protocol": "clean (antialiased bicubic) or webcam (degraded input)",
    "parser": "weights of the component network; without, the photos' own masks",
    "init": "start from these weights, of this preset or a smaller one",
    "steps": "training steps",
    "steps1": "steps of stage 1",
    "steps2": "steps of both stages together",
    "batch": "pictures or patches a step",
    "patch_px": "side of a patch, in low-resolution pixels",
    "learning_rate": "highest learning rate",
    "width": "multiplier of the network's channels",
    "seed": "of every random choice",
    "check_every": "steps between validations and saved states",
    "device": "cpu, cuda or auto",
    "precision": "what the network computes with: float32, or bfloat16, faster where supported",
    "attention": "none, paper, maps, twice or gate; without, the preset's",
    "maps": "soft heatmaps, or hard: the most likely component",
    "parts_weight": "how many times eyes, brows, nose, mouth and ears count in the loss",
    "feature_share": "strength of the feature loss's gradient against the pixel loss's",
    "adversarial_share": "strength of the discriminator's gradient against the pixel loss's",
    "only": "some of the variants or networks, separated by commas",
    "seeds": "trainings of each variant",
    "minutes": "end after so many minutes, the learning rate falling until then; 0 is no limit",
    "prepared": "folder that keeps the photos as the network is shown them, for the next training",
    "variants": "degraded versions kept of each picture",
}


_TRAININGS: dict[str, tuple[str, Any, Callable[[Any], Path]]] = {
    "parser": ("the component network (BiSeNet)", parser_training.ParserTraining,
               parser_training.run),
    "sr": ("the super-resolution network (CAGFace)", sr_training.SRTraining, sr_training.run),
    "detail": ("sharper weights with a discriminator, from webcam weights",
               detail_training.DetailTraining, detail_training.run),
    "ablation": ("small variants of CAGFace, for a table", ablation.Ablation, ablation.run),
    "peers": ("the networks of the paper's comparison", peers_training.PeersTraining,
              peers_training.run),
}  # fmt: skip

_SHARED = ("sr",)
"""What several processes can train together: batch statistics and discriminators are of one."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add every training's options, straight from their dataclasses."""
    commands = parser.add_subparsers(dest="what", required=True, metavar="WHAT")
    for name, (text, plan, _) in _TRAININGS.items():
        command = commands.add_parser(name, help=text, description=f"Train {text}.")
        for item in fields(plan):
            kind = Path if "Path" in str(item.type) else {"int": int, "float": float}.get(
                str(item.type), str
            )  # fmt: skip
            required = item.default is MISSING
            shown = f" (default {item.default})" if item.default not in (MISSING, None, "") else ""
            command.add_argument(
                f"--{item.name.replace('_', '-')}", type=kind, required=required,
                default=None if required else item.default, help=_HELP[item.name] + shown,
            )  # fmt: skip
        command.add_argument("--threads", type=int, help="processor threads to use")


def execute(arguments: argparse.Namespace) -> None:
    """Run the training that was asked for and say where its weights are.

    Raises:
        ConfigError: torchrun started several processes for a training that takes one, or a
            number is not possible.
        CagfaceError: as the training's ``run``.
    """
    options = dict(vars(arguments))
    what, threads = options["what"], options["threads"]
    if threads:
        torch.set_num_threads(threads)
    with joined(find_device(options["device"])) as device:
        if rank().count > 1 and what not in _SHARED:
            raise ConfigError(
                f"'train {what}' takes one process; torchrun is for: {', '.join(_SHARED)}"
            )
        level = logging.INFO if rank().leads else logging.WARNING
        if not logging.getLogger("cagface_core").handlers:  # as it is where only the core is
            logging.basicConfig(level=level, format="%(asctime)s %(message)s")
        logging.getLogger("cagface_core.train").setLevel(level)
        options["device"] = str(device)
        _, kind, run = _TRAININGS[what]
        plan = kind(**{item.name: options[item.name] for item in fields(kind)})
        check(plan)
        find_manifest(plan.data)  # before its folder is taken
        try:
            path = run(plan)
        except KeyboardInterrupt:
            log.info("the same command goes on from the last check")
            raise
        if rank().leads:
            Console().print(f"wrote {path}")
