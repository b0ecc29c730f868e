"""``cagface bench``: what this machine reaches; tables, ``bench.json``, ``bench.md``, a picture."""

from __future__ import annotations

import argparse
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path

from cagface_core import checkpoint
from cagface_core.bench import machine, report
from cagface_core.bench.frames import SIZES, FramePlan, measure_frames
from cagface_core.bench.live import LivePlan, RunLive, measure_live
from cagface_core.bench.network import NetworkPlan, measure_networks, presets
from cagface_core.bench.ratios import compare_folded, compare_paths, compare_peers
from cagface_core.bench.results import Results, from_json, joined
from cagface_core.bench.roofline import combined, measure_roofline
from cagface_core.bench.timing import Budget
from cagface_core.errors import ConfigError, InputError
from cagface_core.paths import BATCHES, PATHS, find_device
from cagface_core.standalone import claim_folder

PARTS = ("roofline", "network", "ratios", "frame", "live")


@dataclass(frozen=True, slots=True)
class Plan:
    """How much of each part is measured, and for how long."""

    roofline: Budget
    network: NetworkPlan
    ratios: Budget
    frames: FramePlan
    live: LivePlan


def make_plan(*, quick: bool, names: list[str], on_gpu: bool = False) -> Plan:
    """The whole plan, a few minutes on two cores or on a GPU; ``quick`` is about one."""
    if on_gpu:
        few = quick or len(names) > 1
        return Plan(
            roofline=Budget(0.8),
            network=NetworkPlan(names, Budget(0.1), (64, 128, 256), (1, 8) if few else BATCHES),
            ratios=Budget(0.4, 10),
            frames=FramePlan(
                SIZES[1:], (0, 1, 4), (2,) if quick else (1, 2, 4), n=60 if quick else 150,
                warm_ups=10,
            ),
            live=LivePlan(("small",), (1, 2), 5.0),
        )  # fmt: skip
    if not quick:
        return Plan(
            Budget(2.0), NetworkPlan(names, Budget(0.25, 3)), Budget(2.0), FramePlan(), LivePlan()
        )
    return Plan(
        roofline=Budget(0.8),
        network=NetworkPlan(names, Budget(0.2, 3), (64, 96, 128), (1, 2), 300.0),
        ratios=Budget(0.6, 4),
        frames=FramePlan(((320, 240), (640, 480), (1280, 720)), (0, 1, 2), (2,), n=8, warm_ups=2),
        live=LivePlan(("pico",), (1, 2), 5.0),
    )


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument(
        "--quick", action="store_true", help="about one minute instead of several: fewer sizes"
    )
    parser.add_argument(
        "--only", type=_parts, default=PARTS, metavar="PART,...",
        help=f"some of the parts: {', '.join(PARTS)}; network brings the roofline with it",
    )  # fmt: skip
    parser.add_argument(
        "--device", default="auto",
        help=f"auto, cpu, cuda, cuda:N, mps, or one path: {', '.join(PATHS)} (default: auto)",
    )  # fmt: skip
    parser.add_argument(
        "--all", action="store_true", dest="everything",
        help="also presets without weights, freshly initialised (always on a GPU)",
    )  # fmt: skip
    parser.add_argument(
        "--presets", nargs="+", choices=tuple(checkpoint.PRESETS), metavar="NAME",
        help=f"networks of the part 'network': {', '.join(checkpoint.PRESETS)}",
    )  # fmt: skip
    parser.add_argument(
        "--data", type=Path, metavar="DIR",
        help="compare with OpenCV's networks, DIR/peers/FSRCNN_x4.pb and ESPCN_x4.pb",
    )  # fmt: skip
    parser.add_argument(
        "--out", type=Path, default=Path("out/bench"), metavar="DIR",
        help="folder to write to (default: out/bench)",
    )  # fmt: skip
    parser.add_argument(
        "--draw", type=Path, nargs="+", metavar="FILE",
        help="measure nothing: tables and picture of an earlier bench.json, or of several parts",
    )  # fmt: skip


def execute(arguments: argparse.Namespace, live: RunLive | None, no_live: str) -> None:
    """Measure, print the tables, write the files, and say where they are.

    Args:
        arguments: what `configure` added.
        live: the live loop, None where it cannot run.
        no_live: why not, one line for the notes.

    Raises:
        CagfaceError: an option makes no sense, or a device, file or folder does not work.
    """
    a = arguments
    if a.draw is not None:
        results = joined([from_json(path) for path in a.draw])
        claim_folder(a.out)
    else:
        results = _measure(a, live, no_live)
    names = report.write(a.out, results)
    report.show(results)
    sys.stdout.write(f"wrote {', '.join(names)} to {a.out}\n")


def _measure(a: argparse.Namespace, live: RunLive | None, no_live: str) -> Results:
    """Check everything that can be wrong, then measure the parts that are wanted."""
    if a.data is not None and not a.data.is_dir():
        raise InputError(f"no folder {a.data}; give --data a folder with peers/ in it")
    if live is None and tuple(a.only) == ("live",):
        raise ConfigError(no_live)
    device = find_device(a.device)
    claim_folder(a.out)
    results = Results(machine.describe(device, _command(a)))
    names = a.presets or presets(everything=a.everything or device.type == "cuda")
    plan = make_plan(quick=a.quick, names=names, on_gpu=device.type == "cuda")
    if "live" in a.only and live is None:
        results.notes.append(no_live)
    elif "live" in a.only and live is not None:
        # First: once this thread has computed, torch keeps a pool of threads for it for ever,
        # beside the one of the loop's own thread, and `cagface-live` has no such pool.
        measure_live(plan.live, live, a.device, results, _say)
    if {"roofline", "network"} & set(a.only):
        _say("roofline")
        results.rates = measure_roofline(device, plan.roofline, results.notes)
    if "network" in a.only:
        measure_networks(plan.network, a.device, results, _say)
    if "ratios" in a.only:
        _say("ratios")
        compare_folded(device, plan.ratios, results)
        compare_paths(a.device, plan.ratios, results)
        compare_peers(a.device, a.data, plan.ratios, results)
    if results.rates:  # again, for a neighbour may have had the machine the first time
        again = measure_roofline(device, plan.roofline, results.notes)
        results.rates = combined(results.rates, again, results.notes)
    if "frame" in a.only:
        measure_frames(plan.frames, a.device, results, _say)
    machine.finish(results.machine, device)
    return results


def _say(what: str) -> None:
    """Tell people what is being measured."""
    sys.stderr.write(f"measuring: {what}\n")
    sys.stderr.flush()


def _command(a: argparse.Namespace) -> str:
    """The command again, as it was meant."""
    words = ["cagface", "bench", "--device", a.device]
    words += ["--quick"] * a.quick + ["--all"] * a.everything
    words += ["--only", ",".join(a.only)] if tuple(a.only) != PARTS else []
    words += ["--presets", *a.presets] if a.presets else []
    words += ["--data", str(a.data)] if a.data is not None else []
    return shlex.join(words)


def _parts(text: str) -> tuple[str, ...]:
    """Read ``network,frame``."""
    words = [word.strip() for word in text.split(",")]
    if unknown := [word for word in words if word not in PARTS]:
        raise argparse.ArgumentTypeError(
            f"unknown part {unknown[0]!r}; expected some of {', '.join(PARTS)}"
        )
    return tuple(part for part in PARTS if part in words)
