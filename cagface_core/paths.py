"""The ways this machine can run CAGFace, each behind one Protocol: a block in, a picture out."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Protocol

import torch
from torch import Tensor

from cagface_core.cpu_graph import CpuGraphed
from cagface_core.crop import BUCKETS_PX
from cagface_core.cuda_graph import Graphed, GraphPool
from cagface_core.errors import DeviceError
from cagface_core.fold import FoldedCAGFace, by_pixel, fold, halved, place, spread, trial
from cagface_core.fused import fuse
from cagface_core.int8 import Int8Upsampler, computes_int8, quantise
from cagface_core.openvino_runner import OpenVinoRunner
from cagface_core.quantise import FACT, LAST, Ranges, ranges_of

log = logging.getLogger(__name__)

CPU_PATHS = ("cpu-float32", "cpu-bfloat16", "cpu-int8", "openvino-bfloat16", "openvino-int8")
PATHS = ("cuda-graph", "cuda-eager", "mps", *CPU_PATHS)
"""What ``--device`` may name besides ``auto``, ``cpu``, ``cuda``, ``cuda:N`` and ``mps``."""

ANY_CPU_PATH = "cpu"
"""The fastest of :data:`CPU_PATHS`, to be found out; no path by itself."""

_KINDS = ("cpu", "cuda", "mps")

FACTORS = (2, 4)
BATCHES = (1, 2, 4, 8)
"""The batches that have a CUDA graph, at each side of ``BUCKETS_PX``."""

_DTYPES = {"cuda-graph": torch.float16, "cuda-eager": torch.float16, "cpu-bfloat16": torch.bfloat16}
"""On GPUs float16, not bfloat16: as fast, eight times as fine, and the weights ship in it."""


_LEAST_BYTES = 1 << 30
"""What a GPU must have left to be taken unasked: networks, their work and graphs."""

_MOST_ERROR = 0.01
"""Of the picture's deviation: many times what rounding does in float32."""


class Runner(Protocol):
    """CAGFace on one path."""

    path: str
    """Its name, one of :data:`PATHS`."""
    precision: str
    """``float32``, ``bfloat16``, ``float16`` or ``int8``."""
    device: torch.device
    """Where blocks are taken and pictures given."""

    def __call__(self, block: Tensor, factor: int) -> Tensor:
        """Super-resolve a batch.

        Args:
            block: (N, C, H, W) float32 in [-1, 1] on ``device``.
            factor: 4, or 2 for the antialiased half of it, which costs less.

        Returns:
            (N, 3, factor*H, factor*W) float32, about [-1, 1], the caller's to keep.

        Raises:
            torch.OutOfMemoryError: the device's memory does not hold the batch.
            RuntimeError: the network failed.
        """
        ...


@dataclass(frozen=True, slots=True)
class Place:
    """A path, or :data:`ANY_CPU_PATH`, and the device it computes on."""

    path: str
    device: torch.device


class TorchRunner:
    """CAGFace as torch runs it, operation by operation, some of them in one."""

    def __init__(
        self, network: FoldedCAGFace, where: Place, dtype: torch.dtype,
        ranges: Ranges | None = None,
    ) -> None:  # fmt: skip
        """Convert the weights, once; ``network`` stays as it is.

        Args:
            network: float32, on the processor.
            where: the path and its device.
            dtype: what it computes in.
            ranges: of its activations: most of it computes in 8 bit by them.
        """
        self.path, self._computes_on = where.path, where.device
        # Apple's GPU shares the processor's memory: there the network alone is its work.
        self.device = torch.device("cpu") if where.device.type == "mps" else where.device
        self.precision = "int8" if ranges else str(dtype).removeprefix("torch.")
        self.dtype = dtype
        self.networks = _by_factor(network, where, dtype, ranges)
        self.slower_for = ""
        """Why its convolutions are not the fastest; nothing where they are."""
        if not ranges:
            for folded in self.networks.values():
                self.slower_for = fuse(folded)

    @torch.inference_mode()
    def __call__(self, block: Tensor, factor: int) -> Tensor:
        """Super-resolve a batch; see :class:`Runner`."""
        block = block.to(self._computes_on, self.dtype, memory_format=torch.channels_last)
        return self.networks[factor](block).float().to(self.device)


def _by_factor(
    network: FoldedCAGFace, where: Place, dtype: torch.dtype, ranges: Ranges | None = None
) -> dict[int, FoldedCAGFace]:
    """Convert the weights for each of :data:`FACTORS`; ``network`` stays as it is."""
    networks = fold(network), halved(fold(network))
    if ranges:
        for folded in networks:
            quantise(folded, ranges)  # before its weights are rounded otherwise
    return {
        folded.factor: place(folded.to(dtype), where.device).requires_grad_(False)
        for folded in networks
    }


class GraphRunner:
    """CAGFace as CUDA graphs: one per side and batch of ``BUCKETS_PX`` and :data:`BATCHES`."""

    def __init__(self, network: FoldedCAGFace, where: Place, pool: GraphPool) -> None:
        """Convert the weights; graphs are captured at the first call of each shape."""
        self.eager, self.pool = TorchRunner(network, where, torch.float16), pool
        self.path, self.device, self.precision = where.path, where.device, self.eager.precision
        self.graphs = {factor: Graphed(self._at(factor), pool) for factor in FACTORS}

    def _at(self, factor: int) -> Callable[[Tensor], Tensor]:
        return lambda block: self.eager(block, factor)

    @torch.inference_mode()
    def __call__(self, block: Tensor, factor: int) -> Tensor:
        """Super-resolve a batch; see :class:`Runner`. Other shapes are not captured."""
        graph = self.graphs[factor]
        height, width = block.shape[-2:]
        if height != width or width not in BUCKETS_PX:
            return self.eager(block, factor)
        parts: list[Tensor] = []
        done = 0
        for size in batch_sizes(len(block)):
            part = block[done : done + size]
            parts.append(graph(part) if graph.try_capture(part) else self.eager(part, factor))
            done += size
        return parts[0] if len(parts) == 1 else torch.cat(parts)


class CpuGraphRunner:
    """CAGFace as oneDNN graphs, face by face, at the sides of ``BUCKETS_PX``.

    In three of them, so that what residuals are added to comes in from outside; see
    :class:`cagface_core.cpu_graph.CpuGraphed`.
    """

    def __init__(self, network: FoldedCAGFace, where: Place, dtype: torch.dtype) -> None:
        """Convert the weights; graphs are prepared at the first call of each side."""
        self._use(TorchRunner(network, where, dtype))
        networks = _by_factor(network, where, dtype)

        def cross(features1: Tensor, block: Tensor) -> Tensor:
            return networks[4].cross(features1, block)[1]

        self._enter, self._cross = CpuGraphed(networks[4].enter), CpuGraphed(cross)
        self._leave = {factor: CpuGraphed(by_pixel(networks[factor]).leave) for factor in FACTORS}

    def _use(self, eager: TorchRunner) -> None:
        self.eager = eager
        self.path, self.precision, self.device = eager.path, eager.precision, eager.device

    @torch.inference_mode()
    def __call__(self, block: Tensor, factor: int) -> Tensor:
        """Super-resolve a batch; see :class:`Runner`. Other shapes run operation by operation."""
        height, width = block.shape[-2:]
        if height != width or width not in BUCKETS_PX:
            return self.eager(block, factor)
        block = block.to(dtype=self.eager.dtype, memory_format=torch.channels_last)
        parts = [spread(self._one(block[k : k + 1], factor), factor) for k in range(len(block))]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _one(self, block: Tensor, factor: int) -> Tensor:
        """Compute one face, as a network :func:`cagface_core.fold.by_pixel` leaves it."""
        features1 = self._enter(block)
        return self._leave[factor](features1, self._cross(features1, block))


class Int8Runner(CpuGraphRunner):
    """CAGFace with most of its work in 8 bit, and what is between as oneDNN graphs."""

    def __init__(
        self, network: FoldedCAGFace, where: Place, dtype: torch.dtype, ranges: Ranges
    ) -> None:  # fmt: skip
        """Convert the weights; what is not in 8 bit computes in ``dtype``."""
        self._use(TorchRunner(network, where, dtype, ranges))
        networks = _by_factor(network, where, dtype)
        quantised = self.eager.networks[4]
        self._backbones = quantised.backbone1, quantised.backbone2

        def cross(features: Tensor, block: Tensor) -> Tensor:
            return networks[4].enter_again(features, block)[1]

        self._enter, self._cross = CpuGraphed(networks[4].enter), CpuGraphed(cross)
        self._leave: dict[int, Callable[[Tensor, Tensor], Tensor]] = {}
        lasts = _by_factor(network, where, torch.float32) if LAST in ranges else networks
        for factor, last in lasts.items():
            ordered = by_pixel(last)
            self._leave[factor] = (
                Int8Upsampler(ordered.upsampler2, ranges[LAST]).leave_with
                if LAST in ranges
                else CpuGraphed(ordered.leave_with)
            )

    def _one(self, block: Tensor, factor: int) -> Tensor:
        first, second = self._backbones
        features1 = self._enter(block)
        features2 = self._cross(first(features1), block)
        return self._leave[factor](second(features2), features1)


def batch_sizes(count: int) -> list[int]:
    """Split a number of faces into batches of :data:`BATCHES`, largest first."""
    sizes: list[int] = []
    for batch in reversed(BATCHES):
        sizes += [batch] * (count // batch)
        count %= batch
    return sizes


def find_device(name: str) -> torch.device:
    """Choose the device; ``auto`` takes CUDA, then MPS, then the processor.

    Args:
        name: as ``--device`` takes it.

    Raises:
        DeviceError: the name is unknown, or no such device is there.
    """
    if name == "auto":
        if torch.cuda.is_available() and _computes("cuda"):
            return torch.device("cuda")
        if torch.backends.mps.is_available() and _computes("mps"):
            return torch.device("mps")
        return torch.device("cpu")
    if name in CPU_PATHS:
        return torch.device("cpu")
    if name not in PATHS and name.partition(":")[0] not in _KINDS:
        raise _no_device(name, f"expected {', '.join(_KINDS)}")
    try:
        device = torch.device("cuda" if name in ("cuda-graph", "cuda-eager") else name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise _no_device(name, str(error).splitlines()[0].partition(". ")[0]) from error
    return device


def _no_device(name: str, reason: str) -> DeviceError:
    return DeviceError(
        f"cannot compute on device {name!r} ({reason}); use --device cpu, or auto; "
        f"a path may be named as well: {', '.join(PATHS)}"
    )


@cache
def _computes(kind: str) -> bool:
    """Whether a GPU that is there can be used: this torch, or its driver, may be too new for it.

    Or other programs take its memory.
    """
    try:
        if float(torch.ones(2, device=kind).mul_(2).sum()) != 4:
            raise RuntimeError("it computes wrongly")
        if kind == "cuda" and (free := torch.cuda.mem_get_info()[0]) < _LEAST_BYTES:
            raise RuntimeError(f"of its memory only {free >> 20} MiB are left")
        if kind == "mps":
            _try(Place("mps", torch.device(kind)))
    except (RuntimeError, AssertionError, TypeError) as error:
        reason = str(error).splitlines()[0]
        log.warning("the GPU is not used (%s); computing on the processor", reason)
        return False
    return True


def has_room(device: torch.device, wanted_bytes: int) -> bool:
    """Whether a GPU has memory left for more than must be, and then some."""
    return torch.cuda.mem_get_info(device)[0] >= _LEAST_BYTES + wanted_bytes


def _try(where: Place) -> None:
    """Compute there what is known: convolutions on Apple's GPUs have been wrong before.

    Raises:
        RuntimeError: it is something else that comes out.
    """
    network, block = trial()
    here = Place("cpu-float32", torch.device("cpu"))
    there = TorchRunner(network, where, torch.float32)
    known = TorchRunner(network, here, torch.float32)
    for factor in FACTORS:
        expected = known(block, factor)
        error = (there(block, factor) - expected).abs().max() / expected.std()
        if not error < _MOST_ERROR:
            raise RuntimeError(f"faces come out otherwise, by {float(error):.2g}")


def find_place(name: str) -> Place:
    """Choose path and device for what ``--device`` was given.

    Raises:
        DeviceError: the name is unknown, or no such device is there.
    """
    device = find_device(name)
    if name in PATHS:
        return Place(name, device)
    by_type = {"cuda": "cuda-graph", "mps": "mps", "cpu": ANY_CPU_PATH}
    return Place(by_type[device.type], device)


def cpu_paths(facts: Mapping[str, Any]) -> tuple[str, ...]:
    """Name the processor's paths that work here with weights of these facts."""
    paths = ["cpu-float32"]
    if knows_bfloat16():
        paths.append("cpu-bfloat16")
    if FACT in facts and computes_int8():
        paths.append("cpu-int8")
    if importlib.util.find_spec("openvino") is not None:
        paths += ["openvino-bfloat16", *(["openvino-int8"] if FACT in facts else [])]
    return tuple(paths)


def knows_bfloat16() -> bool:
    """Whether the processor computes in bfloat16; elsewhere it is emulated, many times slower."""
    return torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()


def open_runner(network: FoldedCAGFace, where: Place, facts: Mapping[str, Any]) -> Runner:
    """Make the network ready on a path.

    Args:
        network: float32, on the processor.
        where: the path and its device.
        facts: those of the weights file.

    Raises:
        DeviceError: a package is missing, or this torch or processor cannot.
        WeightsError: the path needs facts that the weights do not hold.
    """
    ranges = ranges_of(facts) if where.path.endswith("int8") else None
    if where.path.startswith("openvino"):
        return OpenVinoRunner(network, where.path, ranges)
    if ranges is not None:
        if not computes_int8():
            raise DeviceError(f"device {where.path}: this torch has no 8-bit operators here")
        dtype = torch.bfloat16 if knows_bfloat16() else torch.float32
        return Int8Runner(network, where, dtype, ranges)
    if where.path == "cuda-graph":
        return GraphRunner(network, where, GraphPool(where.device))
    dtype = _DTYPES.get(where.path, torch.float32)
    if where.device.type == "cpu":
        return CpuGraphRunner(network, where, dtype)
    return TorchRunner(network, where, dtype)
