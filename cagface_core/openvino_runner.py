"""CAGFace through OpenVINO, an optional package: bfloat16, or most of it in 8 bit."""

from __future__ import annotations

import importlib
import threading
import warnings
from typing import Any

import torch
from torch import Tensor

from cagface_core.crop import BUCKETS_PX
from cagface_core.errors import DeviceError
from cagface_core.fold import FoldedCAGFace, fold, halved
from cagface_core.quantise import Ranges, quantised


class OpenVinoRunner:
    """CAGFace as OpenVINO compiles it, once for each bucket's side and once for all others."""

    def __init__(
        self, network: FoldedCAGFace, path: str, ranges: Ranges | None
    ) -> None:  # fmt: skip
        """Take the weights; compiling waits for the first call of each size.

        Args:
            network: float32, on the processor.
            path: ``openvino-bfloat16`` or ``openvino-int8``.
            ranges: of the activations, for int8 alone.

        Raises:
            DeviceError: OpenVINO is not installed.
        """
        try:
            self._openvino: Any = importlib.import_module("openvino")
        except ImportError as error:
            raise DeviceError(
                f"device {path} needs OpenVINO ({error}); pip install 'cagface-live[openvino]'"
            ) from error
        self.path, self.precision = path, path.removeprefix("openvino-")
        self.device = torch.device("cpu")
        networks = (fold(network), halved(network))
        if ranges is not None:
            networks = tuple(quantised(folded, ranges) for folded in networks)
        self._networks = {folded.factor: folded for folded in networks}
        self._core = self._openvino.Core()
        self._compiled: dict[tuple[int, int], Any] = {}
        self._lock = threading.Lock()

    def __call__(self, block: Tensor, factor: int) -> Tensor:
        """Super-resolve a batch; see :class:`cagface_core.paths.Runner`."""
        height, width = block.shape[-2:]
        side = width if height == width and width in BUCKETS_PX else -1
        with self._lock:  # a compiled network has one set of buffers
            if (factor, side) not in self._compiled:
                self._compiled[factor, side] = self._compile(factor, side)
            run = self._compiled[factor, side]
            pictures = block.contiguous().numpy()
            return torch.cat(
                [torch.from_numpy(run(pictures[i : i + 1])[0].copy()) for i in range(len(pictures))]
            )

    def _compile(self, factor: int, side: int) -> Any:
        """Compile for pictures of one side; -1 is any height and width."""
        network = self._networks[factor]
        channels = network.config.in_channels
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # torch's, about tracing
            model = self._openvino.convert_model(
                network, example_input=torch.zeros(1, channels, 64, 64)
            )
        model.reshape([1, channels, side, side])
        supported: list[str] = self._core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        options = {
            "INFERENCE_PRECISION_HINT": "bf16" if "BF16" in supported else "f32",
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "PERFORMANCE_HINT": "LATENCY",
        }
        return self._core.compile_model(model, "CPU", options)
