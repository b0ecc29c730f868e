"""``cagface-live``: its arguments, and one live run made of them."""

from __future__ import annotations

import argparse
import math
import signal
import time
from contextlib import ExitStack, closing
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from rich.markup import escape

from cagface_core import ConfigError
from realtime.commands import add_stats_arguments, check_stats_place, print_start, print_summary
from realtime.interrupts import minded
from realtime.options import Context, add_enhancer_arguments, enhancer_config
from realtime.process import age_s

if TYPE_CHECKING:
    from rich.status import Status

    from realtime.handles import Live
    from realtime.panel.server import Panel
    from realtime.recorder import Recorder
    from realtime.run import Started
    from realtime.stats import Stats, Summary

_LIVE_LINE_S = 0.5

_LEAST_PX, _MOST_PX = 2, 8192
"""What cameras and encoders can do, and memory holds."""


def add_live_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``cagface-live``."""
    parser.add_argument(
        "--webcam",
        nargs="?",
        const="0",
        default="0",
        metavar="SOURCE",
        help="camera number or device, a video file, a URL (rtsp://...), or lavfi:FILTER "
        "(default: 0)",
    )
    parser.add_argument("--size", type=_size, metavar="WxH", help="size asked of the camera")
    parser.add_argument("--fps", type=float, help="rate asked of the camera, in Hz")
    parser.add_argument(
        "--no-governor",
        action="store_true",
        help="keep to preset, faces and sizes asked for even if the frame rate falls",
    )
    parser.add_argument("--loop", action="store_true", help="start a file again when it ends")
    parser.add_argument("--seconds", type=float, help="end after this time")
    add_enhancer_arguments(parser, weights="webcam", scale=2, max_faces=8)
    group = parser.add_argument_group("output")
    group.add_argument("--preview", action="store_true", help="show a window; q or Esc ends")
    group.add_argument("--virtual-camera", metavar="NAME", help="which virtual camera to use")
    group.add_argument(
        "--no-virtual-camera",
        action="store_true",
        help="use none; without --preview too, frames are only measured",
    )
    group.add_argument("--compare", action="store_true", help="before on the left, after right")
    group.add_argument(
        "--output-size",
        type=_size,
        metavar="WxH",
        help="size of what is delivered; the picture is fitted into it (default: the source's, "
        "times the scale)",
    )
    group.add_argument(
        "--output-fps",
        type=_rate,
        metavar="HZ",
        help="rate that the virtual camera announces (default: the source's)",
    )
    group.add_argument(
        "--record", type=Path, metavar="FILE", help="record into a new .mp4 or .mkv file"
    )
    group.add_argument(
        "--stream", metavar="URL", help="send to udp://, tcp://, srt://, rtmp:// or rtmps://"
    )
    group.add_argument(
        "--snapshots",
        type=Path,
        metavar="DIR",
        help="where snapshots and recordings made by a key go (default: Pictures/CAGFace)",
    )
    group.add_argument(
        "--panel",
        nargs="?",
        const=0,
        type=_port,
        metavar="PORT",
        help="a web page on this machine to watch and steer; its address is shown (default: any "
        "free port)",
    )
    group.add_argument("--panel-open", action="store_true", help="--panel, opened in the browser")
    add_stats_arguments(group)


def run_live_command(arguments: argparse.Namespace, context: Context) -> int:
    """``cagface-live``: Ctrl-C, SIGTERM and a closed terminal are its usual ends, and success.

    Not so where ``--record`` asked for a file that broke off.
    """
    for number in minded():
        signal.signal(number, signal.default_int_handler)  # the caller puts it back
    with context.console.status("starting; Ctrl-C ends") as status:
        summary, whole = _run(arguments, context, status)
    print_summary(arguments, summary, "")
    return 0 if whole else 2


def _run(
    arguments: argparse.Namespace, context: Context, status: Status
) -> tuple[Summary, bool]:  # fmt: skip
    """Run; what it did, and whether the file that was asked for is whole."""
    from realtime.report import live_line
    from realtime.run import LiveJob, Watcher, run_live
    from realtime.snapshot import default_folder
    from realtime.source import CameraRequest
    from realtime.stats import Stats

    if arguments.virtual_camera and arguments.no_virtual_camera:
        raise ConfigError("--virtual-camera and --no-virtual-camera contradict each other")
    check_stats_place(arguments, Path(str(arguments.webcam)), arguments.record)
    for name in ("fps", "seconds"):
        value: float | None = getattr(arguments, name)
        if value is not None and not 0 < value < math.inf:
            raise ConfigError(f"--{name} {value:g} is not possible; expected a number above 0")
    options = enhancer_config(arguments, "live")
    if arguments.snapshots is not None and arguments.snapshots.is_file():
        raise ConfigError(f"--snapshots {arguments.snapshots} is a file, expected a folder")
    width, height = arguments.size or (None, None)
    job = LiveJob(
        source=arguments.webcam,
        scale=options.scale,
        camera=CameraRequest(width, height, arguments.fps),
        loop=arguments.loop,
        virtual_camera=not arguments.no_virtual_camera,
        device=arguments.virtual_camera,
        preview=arguments.preview,
        compare=arguments.compare,
        output_size=arguments.output_size,
        output_rate=arguments.output_fps,
        record=arguments.record,
        stream=arguments.stream,
        snapshots=arguments.snapshots or default_folder(),
        seconds=arguments.seconds,
        governor=not arguments.no_governor,
    )
    stats = Stats(time.perf_counter() - age_s())
    next_line_s = 0.0

    def on_progress(doing: str) -> None:
        if context.console.is_terminal:
            status.update(f"{escape(doing)}; Ctrl-C ends")
        else:
            context.console.print(doing, markup=False, highlight=False, soft_wrap=True)

    def on_started(started: Started) -> None:
        print_start(context, started)

    def on_delivered(stats: Stats) -> None:
        nonlocal next_line_s
        if time.monotonic() >= next_line_s:
            next_line_s = time.monotonic() + _LIVE_LINE_S
            status.update(live_line(stats))

    recorder: Recorder | None = None
    with ExitStack() as stack:
        panel = _open_panel(arguments, stack)

        def on_live(live: Live) -> None:
            nonlocal recorder
            recorder = live.recorder
            if panel is not None:
                panel.start(live, job.snapshots)
                _show_address(panel.url, context, in_browser=arguments.panel_open)

        try:
            run_live(
                job,
                lambda: context.make_enhancer(options),
                Watcher(on_started, on_delivered, on_live, on_progress),
                stats,
            )
        except KeyboardInterrupt:
            context.console.print("stopped")
    broken = arguments.record is not None and recorder is not None and recorder.broken
    return stats.summary(), not broken


def _open_panel(arguments: argparse.Namespace, stack: ExitStack) -> Panel | None:
    """The panel that was asked for, its port taken; closed by ``stack``."""
    if arguments.panel is None and not arguments.panel_open:
        return None
    try:
        from realtime.panel.server import Panel
    except ModuleNotFoundError as error:
        if str(error.name).startswith(("realtime", "cagface_core")):
            raise
        raise ConfigError(
            f"--panel needs packages that are not installed ({error.name}): "
            "pip install 'cagface-live[panel]'"
        ) from error
    return stack.enter_context(closing(Panel(arguments.panel or 0)))


def _show_address(url: str, context: Context, *, in_browser: bool) -> None:
    context.console.print(f"panel {url}", markup=False, highlight=False, soft_wrap=True)
    if in_browser:
        import webbrowser

        if not webbrowser.open(url):
            context.console.print("no browser could be opened; open that address yourself")


def _port(text: str) -> int:
    if not (text.isdecimal() and int(text) < 65536):
        raise argparse.ArgumentTypeError(f"{text!r} is not a port: expected 1 to 65535")
    return int(text)


def _rate(text: str) -> Fraction:
    try:
        rate = Fraction(text)
    except (ValueError, ZeroDivisionError):
        rate = Fraction(0)
    if not 1 <= rate <= 1000:
        raise argparse.ArgumentTypeError(f"{text!r} is not a rate in Hz such as 30 or 30000/1001")
    return rate


def _size(text: str) -> tuple[int, int]:
    width, _, height = text.lower().partition("x")
    if not (width.isdecimal() and height.isdecimal()):
        raise argparse.ArgumentTypeError(f"{text!r} is not a size such as 640x480")
    if not all(_LEAST_PX <= int(side) <= _MOST_PX for side in (width, height)):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not possible; expected {_LEAST_PX} to {_MOST_PX} pixels a side"
        )
    return int(width), int(height)
