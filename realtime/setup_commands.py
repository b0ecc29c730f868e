"""``cagface doctor``, ``devices``, ``config`` and ``completion``: what is set up, and how.

Heavy packages are imported when a command runs, so that ``--help`` answers at once.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from functools import cache
from typing import TYPE_CHECKING

from rich.console import Console

from cagface_core import ConfigError, EnhancerConfig
from realtime.options import Context
from realtime.settings import Setting, add_settings_arguments, layers_of, merged, near

if TYPE_CHECKING:
    from realtime.doctor import Finding
    from realtime.self_test import SelfTest
    from realtime.settings_file import SettingsFile


def add_config_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``cagface config``."""
    parser.add_argument(
        "sections",
        nargs="*",
        metavar="SECTION",
        help="of which commands (default: live, video, image, and what the file has)",
    )
    add_settings_arguments(parser)
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--json", action="store_true", help="print JSON")
    what.add_argument("--path", action="store_true", help="print where the settings file is")
    what.add_argument(
        "--init", action="store_true", help="write a settings file in which every option is told"
    )


def run_config_command(arguments: argparse.Namespace, context: Context) -> int:
    """``cagface config``."""
    from realtime.cli import SECTIONS, section_parser
    from realtime.config_report import example, settings_json, settings_table, write_example
    from realtime.settings_file import default_file, find_settings_file, read_settings_file

    if unknown := [name for name in arguments.sections if name not in SECTIONS]:
        raise ConfigError(f"no section {unknown[0]!r}; {near(unknown[0], SECTIONS)}")
    file = find_settings_file(arguments.config)
    if arguments.path:
        sys.stdout.write(f"{file or default_file()}\n")
        return 0
    if arguments.init:
        target = file or default_file()
        shown = arguments.sections or _USUAL
        write_example(target, example({name: section_parser(name) for name in shown}))
        context.console.print(f"wrote {target}", markup=False, highlight=False, soft_wrap=True)
        return 0
    held = read_settings_file(file, SECTIONS)
    sections = _merged(held, arguments.sections or _USUAL, arguments.profile)
    if arguments.sections:
        sections = {name: sections[name] for name in arguments.sections}
    if arguments.json:
        told = {
            "file": str(file) if file else None,
            "profile": arguments.profile,
            "profiles": sorted(held.profiles) if held else [],
            "sections": settings_json(sections),
        }
        sys.stdout.write(json.dumps(told, indent=2) + "\n")
        return 0
    console = Console()
    where = f"{file}" if held else f"none yet, it would be {default_file()}"
    lines = [f"settings file: {where}"]
    if held and held.profiles:
        lines.append(f"profiles: {', '.join(sorted(held.profiles))}")
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    console.print(settings_table(sections))
    return 0


def _merged(
    held: SettingsFile | None, shown: Sequence[str], profile: str | None
) -> dict[str, dict[str, Setting]]:
    """What holds, by section; every section of the file is checked, also those not ``shown``."""
    from realtime.cli import SECTIONS, section_parser

    used = held.used_sections() if held is not None else set[str]()
    sections: dict[str, dict[str, Setting]] = {}
    for name in SECTIONS:
        if name in used or name in shown:
            parser = section_parser(name)
            for each in held.profiles if held is not None else ():
                layers_of(held, name, each, parser)
            sections[name] = merged(parser, layers_of(held, name, profile, parser))
    return sections


_USUAL = ("live", "video", "image")
"""The sections that are shown without being asked for: the others' options load torch."""


def add_completion_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``cagface completion``."""
    parser.add_argument("shell", choices=("bash", "zsh", "fish"), help="for which shell")


def run_completion_command(arguments: argparse.Namespace, _context: Context) -> int:
    """``cagface completion``: for ``cagface`` and ``cagface-live``."""
    from realtime.cli import whole_parsers
    from realtime.completion import completion_script

    sys.stdout.write(completion_script(whole_parsers(), arguments.shell))
    return 0


def add_devices_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``cagface devices``."""
    parser.add_argument("--json", action="store_true", help="print JSON")


def run_devices_command(arguments: argparse.Namespace, context: Context) -> int:
    """``cagface devices``."""
    from realtime.devices import find_devices
    from realtime.devices_report import camera_advice, devices_json, devices_table

    found = find_devices()
    if arguments.json:
        sys.stdout.write(json.dumps(devices_json(found), indent=2) + "\n")
        return 0
    if found:
        Console().print(devices_table(found))
    if all(device.virtual for device in found):
        line = f"no camera: {camera_advice()}"
        context.console.print(line, markup=False, highlight=False, soft_wrap=True)
    return 0


def add_doctor_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``cagface doctor``."""
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--quick", action="store_true", help="leave the self-test out")


def run_doctor_command(arguments: argparse.Namespace, context: Context) -> int:
    """``cagface doctor``: 2 when something fails."""
    from platformdirs import user_cache_path

    from realtime import doctor_checks as checks
    from realtime.devices import find_devices
    from realtime.devices_report import camera_advice
    from realtime.doctor import examine, findings_json, findings_table, fixes, verdict

    test: SelfTest | None = None

    def check_self() -> Finding:
        nonlocal test
        load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None  # not on Windows
        test = _self_test(context)
        return checks.speed_finding(test, load)

    devices = cache(find_devices)
    todo: list[tuple[str, Callable[[], Finding]]] = [
        ("python", checks.check_python),
        ("torch", checks.check_torch),
        ("opencv", checks.check_opencv),
        ("mediapipe", checks.check_mediapipe),
        ("video files", checks.check_av),
        ("libraries", checks.check_libraries),
        ("screen", checks.check_screen),
        ("camera", lambda: checks.check_cameras(devices(), camera_advice())),
        ("virtual camera", lambda: checks.check_virtual_camera(devices())),
        ("weights", checks.check_weights),
        ("settings", _check_settings),
        ("disk", checks.check_disk),
        ("cache", lambda: checks.check_cache(user_cache_path() / "cagface-live")),
        ("network", lambda: checks.check_path(context.make_enhancer)),
        ("extras", checks.check_extras),
        ("OBS plugin", _check_obs),
        *(() if arguments.quick else (("self-test", check_self),)),
    ]
    with context.console.status("examining this machine") as status:
        findings = examine(todo, lambda name: status.update(f"checking {name}"))
    if arguments.json:
        sys.stdout.write(json.dumps(findings_json(findings, test), indent=2) + "\n")
    else:
        console = Console()
        console.print(findings_table(findings))
        for line in (*fixes(findings), verdict(findings, test)):
            console.print(line, markup=False, highlight=False, soft_wrap=True)
    return 2 if any(finding.status == "fail" for finding in findings) else 0


def _check_settings() -> Finding:
    """Whatever would stop a command that reads the settings file."""
    from realtime.cli import SECTIONS
    from realtime.doctor import Finding
    from realtime.settings_file import find_settings_file, read_settings_file

    file = find_settings_file(None)
    try:
        _merged(read_settings_file(file, SECTIONS), (), None)
    except ConfigError as error:
        fix = "change the file; `cagface config` tells where it is and what holds"
        return Finding("settings", "fail", str(error), fix)
    return Finding("settings", "pass", str(file) if file else "no file of them")


def _check_obs() -> Finding:
    from realtime.doctor import examine
    from realtime.obs_status import doctor_finding, obs_checks
    from realtime.wire import PORT

    return doctor_finding(examine(obs_checks(("127.0.0.1", PORT))))


def _self_test(context: Context) -> SelfTest:
    """A live run on 640x480 with the demo's face at 100 px, as `cagface bench` measures."""
    from cagface_core.bench.scene import LOOP_FRAMES, make_scene
    from realtime.self_test import run_self_test

    config = EnhancerConfig(mode="live")
    frames = make_scene(640, 480, 1, 100, LOOP_FRAMES).frames
    return run_self_test(frames, lambda: context.make_enhancer(config), config.scale)
