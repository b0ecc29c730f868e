"""``cagface serve``: the engine that OBS filters send their pictures to."""

from __future__ import annotations

import argparse
import ipaddress
import math
import signal
import sys
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING

from cagface_core import ConfigError, OutputError
from realtime.options import Context, add_enhancer_arguments, enhancer_config
from realtime.process import in_own_thread, keep_memory, leave_a_core
from realtime.wire import PORT

if TYPE_CHECKING:
    from realtime.peer import Address

_WARM_UP_PX = (480, 640)


def add_serve_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``cagface serve``."""
    add_address_argument(parser)
    parser.add_argument(
        "--idle-seconds",
        type=float,
        metavar="N",
        help="end after so long without a filter (default: go on until Ctrl-C)",
    )
    parser.add_argument(
        "--no-governor",
        action="store_true",
        help="keep to what a filter asks for even if its frame rate falls",
    )
    add_enhancer_arguments(parser, weights="webcam", scale=1, max_faces=8, per_frame=True)


def add_address_argument(parser: argparse.ArgumentParser) -> None:
    """Where the engine listens, or is looked for."""
    parser.add_argument(
        "--address",
        type=_address,
        default=f"127.0.0.1:{PORT}",
        metavar="HOST:PORT",
        help=f"of this machine; port 0 takes any free one (default: 127.0.0.1:{PORT})",
    )


def run_serve_command(arguments: argparse.Namespace, context: Context) -> int:
    """``cagface serve``: Ctrl-C and SIGTERM are its usual ends and count as success."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # the caller puts it back
    try:
        return _run(arguments, context)
    except KeyboardInterrupt:
        _say("stopped")
        return 0


def _run(arguments: argparse.Namespace, context: Context) -> int:
    from filelock import FileLock, Timeout

    from realtime.filter_stream import SharedEnhancer
    from realtime.obs_files import make_data_folder, own_token
    from realtime.obs_plugin import note_engine
    from realtime.serve import ServeOptions, bind, serve

    idle_s: float | None = arguments.idle_seconds
    if idle_s is not None and not 0 < idle_s < math.inf:
        raise ConfigError(f"--idle-seconds {idle_s:g} is not possible; expected a number above 0")
    config = enhancer_config(arguments, "live")
    address: Address = arguments.address
    options = ServeOptions(own_token(), idle_s, governor=not arguments.no_governor)
    note_engine()
    with ExitStack() as stack:
        if address[1]:
            # Held from before the network is loaded, so that of several filters' engines that
            # start at once only one goes to that trouble.
            lock = FileLock(make_data_folder() / f"obs-engine-{address[1]}.lock")
            try:
                stack.enter_context(lock.acquire(timeout=0))
            except Timeout:
                _say(f"already running at {_shown(address)}")
                return 0
            except OSError as error:
                reason = error.strerror or str(error)
                raise OutputError(
                    f"{lock.lock_file} cannot be locked ({reason}); make it yours"
                ) from error
        listener = stack.enter_context(closing(bind(address)))

        def load() -> SharedEnhancer:
            keep_memory()
            leave_a_core()
            enhancer = stack.enter_context(closing(context.make_enhancer(config)))
            enhancer.warm_up(*_WARM_UP_PX)
            told.append(enhancer.description)
            return SharedEnhancer(enhancer)

        told: list[str] = []
        shared = stack.enter_context(closing(in_own_thread(load)))
        serve(
            listener, shared, options,
            lambda bound: _say(f"ready at {_shown(bound)}: {told[0]}"),
        )  # fmt: skip
    _say("ended: no filter was connected any more")
    return 0


def _say(line: str) -> None:
    """Tell standard output, where there is one: a filter that starts this may have closed it."""
    try:
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()
    except (AttributeError, OSError, ValueError):
        sys.stdout = None


def _shown(address: Address) -> str:
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _address(text: str) -> Address:
    """HOST:PORT of this machine; other machines are none of its business."""
    host, _, port = text.rpartition(":")
    host = "127.0.0.1" if host == "localhost" else host.removeprefix("[").removesuffix("]")
    try:
        local = ipaddress.ip_address(host).is_loopback
    except ValueError:
        local = False
    if not local:
        raise argparse.ArgumentTypeError(
            f"{text} is not of this machine alone; expected 127.0.0.1:PORT"
        )
    if not (port.isascii() and port.isdigit() and int(port) <= 65535):
        raise argparse.ArgumentTypeError(f"{text} has no port; expected 127.0.0.1:PORT, 0 to 65535")
    return host, int(port)
