"""Checks go in; findings with the fix for each, and a verdict, come out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from rich.table import Table
from rich.text import Text

from realtime.environment import RUNTIME, lacks_runtime
from realtime.options import one_line

if TYPE_CHECKING:
    from realtime.self_test import SelfTest

Status = Literal["pass", "warn", "fail"]

_COLOURS = {"pass": "green", "warn": "yellow", "fail": "red"}


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found: ``fix`` says what to do, in one line; empty where nothing is wrong."""

    name: str
    status: Status
    found: str
    fix: str = ""


Check = Callable[[], Finding]


def examine(
    checks: Iterable[tuple[str, Check]], say: Callable[[str], None] = lambda _name: None
) -> list[Finding]:
    """Run every check; one that trips is a finding itself, and the others go on.

    Args:
        checks: each with its name.
        say: told each name before its check.
    """
    findings: list[Finding] = []
    for name, check in checks:
        say(name)
        findings.append(_examine(name, check))
    return findings


def _examine(name: str, check: Check) -> Finding:
    try:
        return check()
    except Exception as error:  # noqa: BLE001  it becomes the finding
        told = one_line(error) or type(error).__name__
        problem, _, fix = told.partition("; ")  # our own errors end in what to do
        otherwise = RUNTIME if lacks_runtime(error) else "report it with this line"
        return Finding(name, "fail", problem, fix or otherwise)


def verdict(findings: Sequence[Finding], test: SelfTest | None) -> str:
    """One line: whether a call will run, and how fast."""
    failed = [finding.name for finding in findings if finding.status == "fail"]
    if failed:
        return f"not ready: mend {', '.join(failed)} first"
    warned = [finding.name for finding in findings if finding.status == "warn"]
    ready = f"ready, but for: {', '.join(warned)}" if warned else "ready"
    if test is None:
        return f"{ready} (speed not measured)"
    return (
        f"{ready}; a live call at {test.width}x{test.height} should run at about "
        f"{test.fps:.0f} fps, {test.latency_p50_ms:.0f} ms behind the camera"
    )


def findings_table(findings: Sequence[Finding]) -> Table:
    """One row each."""
    table = Table("check", "", "found")
    for finding in findings:
        status = Text(finding.status, style=_COLOURS[finding.status])
        table.add_row(Text(finding.name), status, Text(finding.found, overflow="fold"))
    return table


def fixes(findings: Sequence[Finding]) -> list[str]:
    """What to do, a line each: below the table, where no column breaks a command in two."""
    return [f"{finding.name}: {finding.fix}" for finding in findings if finding.fix]


def findings_json(findings: Sequence[Finding], test: SelfTest | None) -> dict[str, Any]:
    """The same as plain values."""
    return {
        "verdict": verdict(findings, test),
        "failed": any(finding.status == "fail" for finding in findings),
        "checks": [asdict(finding) for finding in findings],
        "self_test": None if test is None else asdict(test),
    }
