"""What there is of filter and engine on this machine, as findings with the fix for each."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from cagface_core import CagfaceError, ConfigError
from realtime.doctor import Finding
from realtime.environment import package_version
from realtime.obs_compile import digest, source_folder
from realtime.obs_files import COMMAND_NAME, TOKEN_NAME, data_folder, read_token
from realtime.obs_plugin import (
    damage,
    find_obs,
    flatpak_folder,
    plugin_folder,
    read_installed,
)
from realtime.options import one_line
from realtime.peer import Address, ask_engine

INSTALL = "cagface obs install"

_NONE = "not installed"


def obs_checks(address: Address) -> list[tuple[str, Callable[[], Finding]]]:
    """One check of each part; ``address`` is the engine's."""
    return [
        ("OBS Studio", check_obs),
        ("plugin", check_plugin),
        ("token", check_token),
        ("command", check_command),
        ("engine", lambda: check_engine(address)),
    ]


def check_obs() -> Finding:
    """There is one that can take the filter."""
    if found := find_obs():
        return Finding("OBS Studio", "pass", f"{found.version}, {found.program}")
    if folder := flatpak_folder():
        return Finding(
            "OBS Studio", "warn", f"only as a Flatpak, which cannot take the plugin: {folder}",
            "install OBS Studio as a package of your system",
        )  # fmt: skip
    return Finding("OBS Studio", "warn", "none found", "install it: obsproject.com/download")


def check_plugin() -> Finding:
    """The filter is installed, whole, and of this version."""
    try:
        folder = plugin_folder()
    except ConfigError as error:  # a system that it is not installed on
        return Finding("plugin", "pass", _NONE, one_line(error))
    made = read_installed(folder)
    if made is None:
        if not folder.exists():
            return Finding("plugin", "warn", _NONE, INSTALL)
        return Finding("plugin", "warn", f"{folder} is not ours", f"move it away, then {INSTALL}")
    if problem := damage(folder, made):
        return Finding("plugin", "fail", f"{folder}: {problem}", INSTALL)
    if (made.version, made.sources) != (package_version(), digest(source_folder())):
        told = f"{folder}: of another version ({made.version}, this is {package_version()})"
        return Finding("plugin", "warn", told, f"{INSTALL}, and start OBS Studio again")
    return Finding("plugin", "pass", f"{made.version}, {folder}")


def check_token() -> Finding:
    """There is one, and only its owner can read it."""
    path = data_folder() / TOKEN_NAME
    if not path.exists():
        return Finding("token", "pass", f"{path} is not there yet; the engine makes it")
    read_token()
    return Finding("token", "pass", str(path))


def check_command() -> Finding:
    """The filter can start the engine."""
    path = data_folder() / COMMAND_NAME
    if not path.exists():
        return Finding("command", "warn", f"{path} is not there: the filter cannot start the "
                       "engine", INSTALL)  # fmt: skip
    command = Path(path.read_text(encoding="utf-8").strip())
    if not (command.is_file() and os.access(command, os.X_OK)):
        return Finding("command", "fail", f"{path} names {command}, which is not there", INSTALL)
    return Finding("command", "pass", str(command))


def check_engine(address: Address) -> Finding:
    """Whether it runs now; it need not, for the filter starts it."""
    where = f"{address[0]}:{address[1]}"
    try:
        return Finding("engine", "pass", f"runs at {where} on {ask_engine(address, read_token())}")
    except CagfaceError as error:
        told = one_line(error)
    if told.startswith("no engine runs") or not (data_folder() / TOKEN_NAME).exists():
        return Finding("engine", "pass", f"does not run at {where}; the filter starts it")
    return Finding("engine", "warn", told, "end what listens there, or choose another port")


def status_json(findings: Sequence[Finding]) -> dict[str, Any]:
    """The findings by name, as plain values, and whether the filter is ready to be used."""
    return {
        "ready": all(finding.status == "pass" for finding in findings),
        **{finding.name: asdict(finding) for finding in findings},
    }


def doctor_finding(findings: Sequence[Finding]) -> Finding:
    """The one line of ``cagface doctor``, for whom OBS Studio is one use of several.

    Args:
        findings: of `obs_checks`.
    """
    by_name = {finding.name: finding for finding in findings}
    obs, plugin = by_name["OBS Studio"], by_name["plugin"]
    if plugin.found == _NONE:
        fix = f"for the filter in OBS Studio: {INSTALL}" if obs.status == "pass" else ""
        return Finding("OBS plugin", "pass", f"OBS Studio: {obs.found}; plugin: none", fix)
    worst = max(findings, key=lambda finding: ("pass", "warn", "fail").index(finding.status))
    if worst.status == "pass":
        return Finding("OBS plugin", "pass", f"OBS Studio {obs.found}; plugin {plugin.found}")
    # No call needs it, so it is nothing that fails.
    return Finding("OBS plugin", "warn", f"{worst.name}: {worst.found}", worst.fix)
