"""What the project promises as a ratio, measured in one run: folded, paths, and other networks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import nn

from cagface_core import checkpoint
from cagface_core.bench.network import block_for, open_network, open_runners
from cagface_core.bench.results import RatioRow, Results
from cagface_core.bench.timing import Budget, Work, percentile, quotient, race
from cagface_core.cagface import CAGFace
from cagface_core.engine import Engine
from cagface_core.evaluate.methods import bicubic, opencv_peers
from cagface_core.evaluate.peers import build_peer
from cagface_core.fold import FoldedCAGFace, fold, place
from cagface_core.paste import upscale_frame
from cagface_core.paths import (
    CpuGraphRunner,
    Place,
    Runner,
    TorchRunner,
    find_device,
    knows_bfloat16,
)

FOLDED_GOAL = 2.5
EDSR_GOAL = 4.0
PATH_GOALS: Mapping[tuple[str, str], float] = {
    ("cuda-eager", "cuda-graph"): 1.5,
    ("cpu-bfloat16", "cpu-int8"): 1.8,
    ("cpu-bfloat16", "openvino-int8"): 1.8,
}
"""At least so many times as long as the second path takes the first one."""

_PEER_SIDE_PX = 64


def compare_folded(
    device: torch.device, budget: Budget, results: Results,
    presets: Sequence[str] = ("pico", "nano", "small"), sides_px: Sequence[int] = (64, 128),
) -> None:  # fmt: skip
    """Each network as trained against itself folded, and that against itself as the engine runs it.

    The engine's has what surrounds its convolutions fused into them, on a processor as a graph.
    The goal is of folding alone, and of the presets that are large enough; on a GPU, where Python's
    launching of single operations is what is timed here, there is none.
    """
    for preset in presets:
        torch.manual_seed(0)
        unfolded = CAGFace(checkpoint.PRESETS[preset]).eval()
        folded = fold(unfolded)
        for side_px in sides_px:
            for precision in _precisions(device):
                dtype = getattr(torch, precision)
                given = block_for(folded, 1, side_px, device)
                block = given.to(dtype, memory_format=torch.channels_last)
                works = [
                    (f"{preset} unfolded", _call(place(unfolded, device).to(dtype), block)),
                    (f"{preset}, not fused", _call(place(folded, device).to(dtype), block)),
                    (preset, partial(_as_it_runs(folded, device, dtype), given, 4)),
                ]
                with torch.inference_mode():
                    times_ms = race(dict(works), device, budget)
                wanted = preset != "pico" and device.type == "cpu"
                goals = FOLDED_GOAL if wanted else None, None
                for ((slower, _), (faster, _)), goal in zip(pairwise(works), goals, strict=True):
                    times = times_ms[slower], times_ms[faster]
                    results.ratios.append(_row(slower, faster, precision, side_px, *times, goal))


def _precisions(device: torch.device) -> tuple[str, ...]:
    """Those that the device computes in by itself."""
    if device.type == "cpu" and not knows_bfloat16():
        return ("float32",)
    return "float32", "bfloat16"


def _as_it_runs(network: FoldedCAGFace, device: torch.device, dtype: torch.dtype) -> Runner:
    kind = CpuGraphRunner if device.type == "cpu" else TorchRunner
    return kind(network, Place(device.type, device), dtype)


def compare_paths(
    device: str, budget: Budget, results: Results, presets: Sequence[str] = ("nano", "small")
) -> None:
    """Each path of a network against the fastest one, and those with a goal against each other."""
    for preset in presets:
        network = open_network(preset)
        runners = open_runners(network, device, results.notes)
        for side_px in (64, 128):
            works: dict[str, Work] = {}
            for runner in runners:
                block = block_for(network.folded, 1, side_px, runner.device)
                works[runner.path] = partial(runner, block, 4)
            times_ms = race(works, runners[0].device, budget)
            fastest = min(times_ms, key=lambda name: percentile(times_ms[name], 0.5))
            pairs = {(name, fastest) for name in times_ms if name != fastest}
            pairs |= {pair for pair in PATH_GOALS if times_ms.keys() >= set(pair)}
            for slower, faster in sorted(pairs):
                results.ratios.append(
                    _row(
                        f"{preset} {slower}", f"{preset} {faster}", "own", side_px,
                        times_ms[slower], times_ms[faster], PATH_GOALS.get((slower, faster)),
                    )
                )  # fmt: skip


def compare_peers(where: str, data: Path | None, budget: Budget, results: Results) -> None:
    """Others' networks and bicubic against `nano`, 64 px to 256.

    EDSR runs as torch runs it and ours as the engine does, network against network at one
    precision. OpenCV's networks and bicubic take a picture of 8 bit and give one, on the processor;
    beside them `nano` does so too, held to its input, with its components known as on most frames
    of a video, and found anew.
    """
    side_px, device = _PEER_SIDE_PX, find_device(where)
    network = open_network("nano").folded
    edsr = build_peer("edsr-baseline").eval()
    for precision in _precisions(device):
        dtype = getattr(torch, precision)
        block = block_for(network, 1, side_px, device)
        rgb = block[:, :3].to(dtype).contiguous(memory_format=torch.channels_last)
        works = {
            "EDSR-baseline": _call(place(edsr, device).to(dtype), rgb),
            "nano": partial(_as_it_runs(network, device, dtype), block, 4),
        }
        goals = {"EDSR-baseline": EDSR_GOAL} if device.type == "cpu" else {}
        _compare(works, "nano", precision, side_px, device, budget, results, goals)
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, (side_px, side_px, 3), np.uint8)
    engine = Engine(checkpoint.find_sr("nano", "webcam"), where)
    maps = engine.parse([picture])
    ours = "nano, pictures"
    works: dict[str, Work] = {
        ours: lambda: engine.residual([picture], maps, 4),
        "nano, pictures, with components": lambda: engine.upscale(picture),
        "bicubic of OpenCV": lambda: upscale_frame(picture, 4),
        "bicubic of Pillow": lambda: bicubic(picture),
    }
    peers = opencv_peers(data) if data else []
    if not peers:
        results.notes.append(
            "FSRCNN_x4 and ESPCN_x4 are left out: give --data DIR with peers/*_x4.pb"
        )
    for peer in peers:
        works[peer.name] = lambda peer=peer: peer.upscale(picture)
    _compare(works, ours, engine.path, side_px, device, budget, results, {})


def _call(network: nn.Module, block: torch.Tensor) -> Work:
    return lambda: network(block)


def _compare(
    works: Mapping[str, Work], ours: str, precision: str, side_px: int, device: torch.device,
    budget: Budget, results: Results, goals: Mapping[str, float],
) -> None:  # fmt: skip
    """Race all; one row for each of the others over ``ours``."""
    with torch.inference_mode():
        times_ms = race(works, device, budget)
    results.ratios += [
        _row(name, ours, precision, side_px, times_ms[name], times_ms[ours], goals.get(name))
        for name in works
        if name != ours
    ]


def _row(
    slower: str, faster: str, precision: str, side_px: int, slower_ms: list[float],
    faster_ms: list[float], goal: float | None,
) -> RatioRow:  # fmt: skip
    found = quotient(slower_ms, faster_ms)
    if goal is None and found.median < 1:
        slower, faster, slower_ms, faster_ms = faster, slower, faster_ms, slower_ms
        found = quotient(slower_ms, faster_ms)
    return RatioRow(
        slower, faster, precision, side_px, found.median, found.low, found.high,
        percentile(slower_ms, 0.5), percentile(faster_ms, 0.5), len(slower_ms), goal,
    )  # fmt: skip
