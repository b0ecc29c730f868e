"""An address in; Ray, started or joined without its wall of text, out."""

from __future__ import annotations

import importlib
import logging
import os
import signal
import socket
import threading
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cagface_core import ConfigError, DeviceError, native_stderr_to_log, usable_cores

_log = logging.getLogger(__name__)

_REACH_S = 3.0
"""How long an address may take to answer."""

_NOTED = Path("/tmp/ray/ray_current_cluster")
_USUAL_CPUS = 4
"""What a worker without a GPU gets."""


@dataclass(frozen=True, slots=True)
class ClusterOptions:
    """Which cluster, and how it is divided up; None is what fits.

    ``address`` is ``local`` (Ray is started here), ``auto`` (the one that runs on this machine),
    ``HOST:PORT`` of its head, or ``ray://HOST:PORT``. ``cpus`` and ``gpus`` are each worker's.
    """

    address: str
    workers: int | None = None
    cpus: int | None = None
    gpus: int | None = None


@dataclass(frozen=True, slots=True)
class Crowd:
    """How many workers, and what each gets."""

    workers: int
    cpus: int
    gpus: int


def check_cluster(options: ClusterOptions) -> None:
    """Find out in seconds that there is no Ray, or nobody at an address; Ray takes a minute.

    Raises:
        ConfigError: Ray is not installed, or this is no address.
        DeviceError: nobody answers there.
    """
    _load()
    address = options.address
    if address == "auto":
        address = os.environ.get("RAY_ADDRESS") or _last_started()
    if address in ("", "local"):
        return
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon or not port.isdigit():
        raise ConfigError(
            f"--cluster {address}: expected local, auto, HOST:PORT or ray://HOST:PORT"
        )
    try:
        socket.create_connection((host, int(port)), _REACH_S).close()
        _check_speaks_grpc(f"{host}:{port}")
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise DeviceError(
            f"--cluster {address}: no Ray cluster answers there ({reason}); "
            "check the address, or use --cluster local"
        ) from error


def _last_started() -> str:
    """Where Ray notes the address of the cluster on this machine, which may have died."""
    try:
        return _NOTED.read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def _check_speaks_grpc(address: str) -> None:
    """Raise `ConnectionError` where something else than Ray, which speaks gRPC, listens."""
    if os.environ.get("RAY_USE_TLS", "0") != "0":
        return
    grpc = importlib.import_module("grpc")
    channel = grpc.insecure_channel(address)
    try:
        grpc.channel_ready_future(channel).result(_REACH_S)
    except grpc.FutureTimeoutError as error:
        raise ConnectionError("what listens there is not Ray") from error
    finally:
        channel.close()


@contextmanager
def linked(options: ClusterOptions) -> Generator[tuple[Any, Crowd]]:
    """Ray, joined, and the workers that are to be had of it; left at the end.

    Raises:
        ConfigError: no machine has what a worker is to get.
        DeviceError: there is no cluster at this address.
    """
    ray = _load()
    local = options.address == "local"
    cores = usable_cores()
    cpus = options.cpus or (
        max(1, cores // options.workers) if local and options.workers else min(_USUAL_CPUS, cores)
    )
    start: dict[str, Any] = {"address": options.address, "log_to_driver": False}
    start |= {"logging_level": logging.CRITICAL}
    if local:
        start |= {"num_cpus": max(cores, cpus * (options.workers or 1)), "include_dashboard": False}
    try:
        with native_stderr_to_log(_log), _own_sigterm():
            ray.init(**start)
    except Exception as error:  # Ray raises its own, OSError, RuntimeError and gRPC's
        ray.shutdown()
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise DeviceError(
            f"no Ray cluster at {options.address} ({lines[0]}); "
            "start one with 'ray start --head', give its RAY_AUTH_TOKEN, or use --cluster local"
        ) from error
    try:
        yield ray, _divided(ray, options, cpus)
    finally:
        ray.shutdown()


def _load() -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # A worker without a GPU is told so by its --device.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        with _own_sigterm():
            return importlib.import_module("ray")
    except ImportError as error:
        raise ConfigError(
            f"--cluster needs Ray ({error}); pip install 'cagface-live[cluster]'"
        ) from error


@contextmanager
def _own_sigterm() -> Generator[None]:
    """Keep what SIGTERM does; Ray puts its own there."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():  # elsewhere neither may set it
            signal.signal(signal.SIGTERM, before)


def _divided(ray: Any, options: ClusterOptions, cpus: int) -> Crowd:
    """How many workers there are to be. Raises `ConfigError` where not one fits."""
    total: dict[str, float] = ray.cluster_resources()
    gpus = options.gpus
    if gpus is None:
        gpus = 1 if options.cpus is None and total.get("GPU", 0) >= 1 else 0
    if gpus and options.cpus is None:
        cpus = 1
    nodes: list[dict[str, float]] = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    fit = [
        int(min(node.get("CPU", 0) // cpus, node.get("GPU", 0) // gpus if gpus else 1_000_000))
        for node in nodes
    ]
    if not sum(fit):
        there = f"{total.get('CPU', 0):.0f} CPUs and {total.get('GPU', 0):.0f} GPUs"
        raise ConfigError(
            f"no machine of the cluster has the {cpus} CPUs and {gpus} GPUs that a worker is to "
            f"get (all together have {there}); lower --cpus-per-worker or --gpus-per-worker"
        )
    return Crowd(options.workers or sum(fit), cpus, gpus)
