"""Words from the command line become one run; its errors become one line and an exit code.

Exit codes: 0 done, 2 something the user can mend (one line on standard error), 130 Ctrl-C.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import TextIOWrapper
from typing import NoReturn

from rich.console import Console

from cagface_core import CagfaceError, is_console_2
from realtime import (
    commands,
    live_command,
    obs_command,
    serve_command,
    setup_commands,
    video_command,
)
from realtime.environment import RUNTIME, check_cv2, lacks_runtime, package_version
from realtime.interrupts import minded
from realtime.note import NOTE
from realtime.options import Context, MakeEnhancer, load_enhancer, one_line
from realtime.process import left_behind
from realtime.settings import add_settings_arguments, parse_with_settings


@dataclass(frozen=True, slots=True)
class Command:
    """A subcommand of ``cagface``.

    ``settings``: the settings file has a section of its name. ``needs_cv2``: it is refused where
    OpenCV is not whole.
    """

    name: str
    help: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace, Context], int]
    settings: bool = True
    needs_cv2: bool = True


COMMANDS = (
    Command(
        "video",
        "enhance the faces of a video file, or of many",
        video_command.add_video_arguments,
        video_command.run_video_command,
    ),
    Command(
        "image",
        "enhance the faces of a picture or of a folder of pictures",
        commands.add_image_arguments,
        commands.run_image_command,
    ),
    Command(
        "serve",
        "enhance for the filter in OBS Studio",
        serve_command.add_serve_arguments,
        serve_command.run_serve_command,
    ),
    Command(
        "obs",
        "install the filter in OBS Studio, tell how it is there, or remove it",
        obs_command.add_obs_arguments,
        obs_command.run_obs_command,
        settings=False,
        needs_cv2=False,
    ),
    Command(
        "train",
        "train the component network or the super-resolution network",
        commands.add_train_arguments,
        commands.run_train_command,
        settings=False,
    ),
    Command(
        "eval",
        "measure weights beside bicubic on a photo set",
        commands.add_eval_arguments,
        commands.run_eval_command,
    ),
    Command(
        "bench",
        "measure what this machine reaches",
        commands.add_bench_arguments,
        commands.run_bench_command,
    ),
    Command(
        "doctor",
        "check this machine, and say how to mend what is wrong",
        setup_commands.add_doctor_arguments,
        setup_commands.run_doctor_command,
        settings=False,
        needs_cv2=False,
    ),
    Command(
        "devices",
        "list cameras with their modes, and virtual cameras",
        setup_commands.add_devices_arguments,
        setup_commands.run_devices_command,
        settings=False,
        needs_cv2=False,
    ),
    Command(
        "config",
        "show the settings, and where each comes from",
        setup_commands.add_config_arguments,
        setup_commands.run_config_command,
        settings=False,
        needs_cv2=False,
    ),
    Command(
        "completion",
        "print the completion script of a shell",
        setup_commands.add_completion_arguments,
        setup_commands.run_completion_command,
        settings=False,
        needs_cv2=False,
    ),
)

LIVE = "live"
"""The settings file's section of ``cagface-live``."""

SECTIONS = (LIVE, *(command.name for command in COMMANDS if command.settings))
"""Every section that the settings file may have."""


def main(argv: Sequence[str] | None = None, *, make_enhancer: MakeEnhancer = load_enhancer) -> int:
    """``cagface``: the toolbox. Returns the exit code."""
    argv = sys.argv[1:] if argv is None else argv
    chosen = next((word for word in argv if not word.startswith("-")), None)
    parser, built = _toolbox([chosen] if chosen else [])

    def parse() -> argparse.Namespace:
        if chosen not in SECTIONS or chosen not in built:
            return parser.parse_args(argv)
        return parse_with_settings(parser, argv, chosen, SECTIONS, built[chosen])

    return _run(parse, make_enhancer)


def live(argv: Sequence[str] | None = None, *, make_enhancer: MakeEnhancer = load_enhancer) -> int:
    """``cagface-live``: camera in, virtual camera out. Returns the exit code.

    Without ``argv`` it is this process's command, and ends the process where something was left
    behind.
    """
    words = sys.argv[1:] if argv is None else argv
    parser = _live_parser()
    code = _run(
        lambda: parse_with_settings(parser, words, LIVE, SECTIONS),
        make_enhancer,
    )
    if argv is None and left_behind():
        # A thread that comes back from FFmpeg while Python is taken down crashes it now and then.
        for stream in filter(None, (sys.stdout, sys.stderr)):
            with suppress(OSError, ValueError):
                stream.flush()
        os._exit(code)
    return code


def whole_parsers() -> tuple[argparse.ArgumentParser, argparse.ArgumentParser]:
    """The parsers of ``cagface`` and ``cagface-live`` with everything in them, which takes time."""
    return _toolbox([command.name for command in COMMANDS])[0], _live_parser()


def section_parser(section: str) -> argparse.ArgumentParser:
    """The parser whose options a section of the settings file may set."""
    return _live_parser() if section == LIVE else _toolbox([section])[1][section]


def _toolbox(
    names: Sequence[str],
) -> tuple[argparse.ArgumentParser, dict[str, argparse.ArgumentParser]]:
    """The parser of ``cagface``, and of the commands named those with their options in."""
    parser = _parser("cagface", "Real-time face super-resolution: the toolbox.")
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    built: dict[str, argparse.ArgumentParser] = {}
    for command in COMMANDS:
        said = f"{command.help[:1].upper()}{command.help[1:]}."
        subparser = subparsers.add_parser(command.name, help=command.help, description=said)
        if command.name in names:  # the options of some import heavy packages
            command.add_arguments(subparser)
            if command.settings:
                add_settings_arguments(subparser)
            built[command.name] = subparser
        subparser.set_defaults(run=command.run, needs_cv2=command.needs_cv2)
    return parser, built


def _live_parser() -> argparse.ArgumentParser:
    parser = _parser("cagface-live", "Enhance the faces of a webcam, live, as a virtual camera.")
    live_command.add_live_arguments(parser)
    add_settings_arguments(parser)
    parser.set_defaults(run=live_command.run_live_command, needs_cv2=True)
    return parser


class _OneLineParser(argparse.ArgumentParser):
    """Says a mistake in one line, as every other one is said, instead of after the usage."""

    def error(self, message: str) -> NoReturn:
        said = message.removeprefix("argument ").replace("invalid _", "invalid ")
        self.exit(2, f"error: {said}; {self.prog} --help tells what there is\n")


def _parser(name: str, description: str) -> argparse.ArgumentParser:
    parser = _OneLineParser(prog=name, description=description)
    parser.add_argument("--version", action="version", version=f"{name} {package_version()}")
    parser.add_argument("--debug", action="store_true", help="log everything")
    return parser


def _run(parse: Callable[[], argparse.Namespace], make_enhancer: MakeEnhancer) -> int:
    _make_streams_sure()
    console = Console(stderr=True)
    try:
        arguments = parse()
        with _logging_to(console, debug=arguments.debug), _ended_by_signals():
            if arguments.needs_cv2:
                check_cv2()
            code = arguments.run(arguments, Context(console, make_enhancer))
            if sys.stdout is not None:  # pyright: ignore[reportUnnecessaryComparison]
                sys.stdout.flush()  # now, where it can still be told that it was in vain
            return code
    except CagfaceError as error:
        return _told(console, one_line(error))
    except BrokenPipeError:  # nobody reads on, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # or Python tries once more as it ends
        return 141
    except (ImportError, OSError) as error:
        if lacks_runtime(error):
            return _told(console, f"{one_line(error)}; {RUNTIME}")
        if isinstance(error, ImportError) or "--debug" in sys.argv:
            raise
        # A name that the system does not take, a full disk behind stdout.
        what = " ".join(str(error.filename or "the output").split())
        return _told(console, f"{what}: {error.strerror or error}")
    except KeyboardInterrupt:
        console.print("interrupted; nothing half-written is left")
        return 130


def _told(console: Console, error: str) -> int:
    console.print(f"error: {error}", markup=False, highlight=False, soft_wrap=True)
    return 2


def _make_streams_sure() -> None:
    """Standard output and error that take every name of a file, and at any moment."""
    if sys.stdout is None:  # pyright: ignore[reportUnnecessaryComparison]
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115
    if is_console_2(sys.stderr):
        # A console's has to have a descriptor to itself, see `native_stderr_to_log`.
        sys.stderr = os.fdopen(os.dup(2), "w", encoding="utf-8", buffering=1)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper) and not stream.closed:
            stream.reconfigure(errors="backslashreplace")


class _ConsoleHandler(logging.Handler):
    """Prints through rich, so that a warning does not tear a progress bar apart."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console
        self.setFormatter(logging.Formatter("%(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        line = f"{record.levelname.lower()}: {self.format(record)}"
        # On a pipe that nobody reads any more rich ends the program, or trips over a closed stdout.
        with suppress(SystemExit, AttributeError, OSError):
            self._console.print(line, markup=False, highlight=False, soft_wrap=True)


@contextmanager
def _logging_to(console: Console, *, debug: bool) -> Generator[None]:
    """Send the log of this program to ``console``; other packages only speak up in trouble."""
    handler = _ConsoleHandler(console)
    loggers = [logging.getLogger(name) for name in ("realtime", "cagface_core")]
    for logger in loggers:
        logger.addHandler(handler)
        logger.setLevel(logging.DEBUG if debug else NOTE)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeHandler(handler)


@contextmanager
def _ended_by_signals() -> Generator[None]:
    """Let SIGTERM and SIGHUP unwind like Ctrl-C does: they leave no half-written file either."""

    def end(number: int, _frame: object) -> NoReturn:
        sys.exit(128 + number)

    before = {number: signal.signal(number, end) for number in minded()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
