"""Devices go in; the table, the JSON and the advice of ``cagface devices`` come out."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from rich.table import Table
from rich.text import Text

from realtime.devices import Device
from realtime.v4l2 import Mode

_NO_CAMERA = {
    "linux": "plug one in; in a virtual machine or container pass /dev/video0 to it",
    "win32": "plug one in, and allow desktop apps under Settings > Privacy & security > Camera",
    "darwin": "plug one in, and allow your terminal under System Settings > Privacy & Security > "
    "Camera",
}


def devices_table(devices: Sequence[Device]) -> Table:
    """One row for each device, its modes one line for each pixel format and size."""
    table = Table(show_lines=True)
    for heading in ("use with", "name", "modes", "remarks"):
        table.add_column(heading, overflow="fold")
    for device in devices:
        # One that another program feeds is, to us, a camera like any other.
        use = f"--webcam {device.id.removeprefix('/dev/video')}"
        if device.takes_output:
            name = device.id if device.id.startswith("/") else f'"{device.name}"'
            use = f"--virtual-camera {name}"
        lines = "\n".join(map(mode_line, _grouped(device.modes)))
        table.add_row(*map(Text, (use, device.name, lines, _remarks(device))))
    return table


def mode_line(mode: Mode) -> str:
    """``MJPG 1280x720 at 30, 15 Hz``."""
    size = f"{mode.width}x{mode.height}"
    if mode.least is not None:
        size = f"{mode.least[0]}x{mode.least[1]} to {size}"
    rates = ", ".join(map(_rate, mode.rates_hz))
    return f"{mode.pixel_format} {size}".strip() + (f" at {rates} Hz" if rates else "")


def devices_json(devices: Sequence[Device]) -> list[dict[str, Any]]:
    """Every fact as plain values; rates are numbers in Hz."""
    return [
        {
            "id": device.id,
            "name": device.name,
            "kind": "virtual camera" if device.virtual else "camera",
            "captures": device.captures,
            "takes_output": device.takes_output,
            "driver": device.driver,
            "modes": [
                {
                    "pixel_format": mode.pixel_format,
                    "width": mode.width,
                    "height": mode.height,
                    "rates_hz": [round(float(rate), 3) for rate in mode.rates_hz],
                    "least_size": mode.least,
                }
                for mode in device.modes
            ],
            "problem": device.problem,
            "used_by": device.used_by,
        }
        for device in devices
    ]


def camera_advice(system: str = sys.platform) -> str:
    """What to do where there is no camera, in one line."""
    fix = _NO_CAMERA.get(system, "plug one in")
    return f"{fix}; without one, `cagface-live --webcam FILE` takes a video"


def _remarks(device: Device) -> str:
    parts = [device.problem] if device.problem else []
    if device.used_by:
        parts.append(f"in use by {', '.join(device.used_by)}")
    if device.virtual:
        parts.append(
            "virtual camera" if device.takes_output else "virtual camera, fed by another program"
        )
    return "; ".join(parts)


def _grouped(modes: Sequence[Mode]) -> list[Mode]:
    """Without repetitions, which some drivers make, in the driver's order."""
    return list(dict.fromkeys(modes))


def _rate(rate_hz: Fraction) -> str:
    return f"{float(rate_hz):.2f}".rstrip("0").rstrip(".")
