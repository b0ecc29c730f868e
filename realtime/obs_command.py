"""``cagface obs``: the filter into OBS Studio, how it is there, and out again."""

from __future__ import annotations

import argparse
import json
import sys

from realtime.options import Context
from realtime.serve_command import add_address_argument


def add_obs_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``cagface obs``."""
    whats = parser.add_subparsers(dest="what", required=True, metavar="WHAT")
    install = whats.add_parser(
        "install",
        help="install the filter for this user, and tell it where the engine is",
        description="Install the filter for this user, and tell it where the engine is.",
    )
    install.add_argument(
        "--build", action="store_true", help="build it here, also where a built one is shipped"
    )
    status = whats.add_parser(
        "status",
        help="tell what there is of OBS Studio, filter and engine",
        description="Tell what there is of OBS Studio, filter and engine.",
    )
    add_address_argument(status)
    status.add_argument("--json", action="store_true", help="print JSON")
    whats.add_parser(
        "uninstall",
        help="remove what install has put there",
        description="Remove what install has put there.",
    )


def run_obs_command(arguments: argparse.Namespace, context: Context) -> int:
    """``cagface obs``; ``status`` is 2 when something fails."""
    if arguments.what == "status":
        return _status(arguments)
    from realtime.obs_plugin import find_obs, install, uninstall

    def say(line: str) -> None:
        context.console.print(line, markup=False, highlight=False, soft_wrap=True)

    if arguments.what == "install":
        with context.console.status("installing"):
            folder = install(build=arguments.build)
        say(f"installed in {folder}")
        if find_obs() is None:
            say("OBS Studio was not found; where it is elsewhere, it looks there too")
        say("start OBS Studio (again); a source's filters offer CAGFace Enhance")
        return 0
    removed = uninstall()
    for path in removed:
        say(f"kept {path}: it holds other files" if path.exists() else f"removed {path}")
    if not removed:
        say("nothing is installed")
    return 0


def _status(arguments: argparse.Namespace) -> int:
    from rich.console import Console

    from realtime.doctor import examine, findings_table, fixes
    from realtime.obs_status import obs_checks, status_json

    findings = examine(obs_checks(arguments.address))
    if arguments.json:
        sys.stdout.write(json.dumps(status_json(findings), indent=2) + "\n")
    else:
        console = Console()
        console.print(findings_table(findings))
        for line in fixes(findings):
            console.print(line, markup=False, highlight=False, soft_wrap=True)
    return 2 if any(finding.status == "fail" for finding in findings) else 0
