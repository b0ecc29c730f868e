"""Crops in, 4x residuals out: the networks on whatever this machine computes with."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cagface_core import checkpoint
from cagface_core.attention import (
    MAP_PX,
    component_maps,
    make_block,
    parser_input,
    resize_maps,
    to_signed,
)  # fmt: skip
from cagface_core.bisenet import INPUT_PX
from cagface_core.consistency import SIGMA_PX, as_coloured, hold, hold_coarse, resize
from cagface_core.cpu_graph import CpuGraphed
from cagface_core.crop import BUCKETS_PX, WHOLE_PX, seen_side, shrunk
from cagface_core.cuda_graph import Graphed, GraphPool
from cagface_core.errors import DeviceError, WeightsError
from cagface_core.fold import FoldedCAGFace, fold, place
from cagface_core.fused import fold_norms
from cagface_core.paste import upscale_frame
from cagface_core.path_choice import fastest
from cagface_core.paths import (
    ANY_CPU_PATH,
    FACTORS,
    GraphRunner,
    Place,
    Runner,
    cpu_paths,
    find_place,
    open_runner,
)  # fmt: skip
from cagface_core.sparing import Sparing, lacks_memory
from cagface_core.tiles import tile_px, tiled
from cagface_core.types import Image, Picture, checked_picture
from cagface_core.workers import single_threaded

_MOST_FEATURES = 64
"""Of a network that takes crops up to ``WHOLE_PX``; of others memory limits them to the last of
``BUCKETS_PX``."""
_PREPARED_PX = 128  # larger crops take so long each that the first one is not noticed


@dataclass(frozen=True, slots=True)
class Parsing:
    """Heatmaps that may still be in the making.

    Attributes:
        ready: whether they can be had without waiting.
        maps: gives them, (1, 3, MAP_PX, MAP_PX) in [0, 1]; RuntimeError if they could not be made.
    """

    ready: Callable[[], bool]
    maps: Callable[[], Tensor]


class Engine:
    """The component network and the folded CAGFace, ready to run."""

    def __init__(
        self, sr_weights: Path, device: str = "auto", parser_weights: Path | None = None,
        softer: tuple[Path, float] | None = None, finer: Path | None = None,
    ) -> None:  # fmt: skip
        """Load both networks.

        Args:
            sr_weights: a ``.safetensors`` file of kind ``sr``.
            device: ``auto``, ``cpu``, ``cuda``, ``cuda:N``, ``mps``, or a path by its name, see
                :data:`cagface_core.paths.PATHS`.
            parser_weights: a component network, ours or ``.pth`` of the face-parsing layout;
                None is the shipped one.
            softer: weights to mix in, and their share, 0 to 1.
            finer: weights for clean input, of the same size: where a picture is as good as that,
                theirs is shown. Not for CUDA graphs: of no picture is it known before.

        Raises:
            WeightsError: a file is missing, damaged or of another kind.
            DeviceError: the device is not there, or has no memory left.
        """
        where = find_place(device)
        if softer is None:
            model, self.facts = checkpoint.load_sr(sr_weights)
        else:
            model, self.facts = checkpoint.load_between(sr_weights, *softer)
        self._softer = "" if softer is None else f", {1 - softer[1]:.0%} of it"
        parser, self.parser_facts = checkpoint.load_parser(
            parser_weights or checkpoint.WEIGHTS_DIR / "parser.safetensors"
        )
        self.attention: str = model.config.attention
        small = model.config.features <= _MOST_FEATURES
        self._whole_px = WHOLE_PX if small else BUCKETS_PX[-1]
        self._channels = model.config.in_channels
        try:
            self._settle(fold(model), fold_norms(parser), where)
            self._finer: Runner | None = None
            self._second = ""
            if finer is not None:
                self._finer, sha256 = self._beside(finer)
                self._second = f", and clean {sha256[:8]}"
        except RuntimeError as error:
            if not lacks_memory(error):
                raise
            raise DeviceError(
                f"{where.device} has no memory left for the networks; "
                "close other programs that use it, or choose --device cpu"
            ) from error
        protocol = self.facts.facts.get("protocol")
        if protocol not in SIGMA_PX:
            raise WeightsError(
                f"{sr_weights} was trained for {protocol!r}; expected "
                f"{' or '.join(SIGMA_PX)}: train it with 'cagface train sr'"
            )
        self.sigma_px = SIGMA_PX[protocol]

    def _settle(self, network: FoldedCAGFace, parser: torch.nn.Module, where: Place) -> None:
        """Bring both networks to where they compute."""
        runner = self._open(network, where, self.facts.facts)
        self.graphs = runner if isinstance(runner, GraphRunner) else None
        if self.graphs is not None and self.graphs.eager.slower_for:
            self.why += f"; without our own convolutions: {self.graphs.eager.slower_for}"
        self.runner = Sparing(runner)
        self.eager = self.runner
        """The same, which captures nothing."""
        if self.graphs is not None:
            self.eager = Sparing(self.graphs.eager, self.runner.counts)
        self.device = self.runner.device
        """Where all but CAGFace itself computes, which may be elsewhere."""
        self._where = where.device
        self.counts, self._told = self.runner.counts, Counter[str]()
        self.parser = place(parser, self.device).requires_grad_(False)
        self._find_maps = self._component_maps
        self._thread: ThreadPoolExecutor | None = None
        if self.device.type == "cuda":
            self._stream = torch.cuda.Stream(self.device)
        else:
            self._find_maps = CpuGraphed(self._component_maps)
        if self.graphs is not None:
            graphed = Graphed(self._component_maps, GraphPool(self.device))
            blank = torch.zeros(1, 3, INPUT_PX, INPUT_PX, device=self.device)
            graphed.capture(blank)
            self._find_maps = graphed
        self.no_maps = torch.zeros(1, 3, MAP_PX, MAP_PX, device=self.device)
        """Heatmaps of a face of which none could be made."""

    @property
    def description(self) -> str:
        """One line: size of the network, weights, precision, device, path and why this one."""
        config, facts = self.facts.config, self.facts.facts
        return (
            f"CAGFace F={config['features']} L={config['units']} "
            f"{facts.get('objective', facts['protocol'])} "
            f"({self.facts.sha256[:8]}{self._softer}{self._second}) {self.runner.precision} "
            f"on {self._where} ({self.path}, {self.why})"
        )

    def _beside(self, weights: Path) -> tuple[Runner, str]:
        """Make another network ready where the first one is; it, and its SHA-256."""
        model, found = checkpoint.load_sr(weights)
        path = "cuda-eager" if self.graphs is not None else self.path
        runner = open_runner(fold(model), Place(path, self._where), found.facts)
        return Sparing(runner, self.runner.counts), found.sha256

    def _open(self, network: FoldedCAGFace, where: Place, facts: Mapping[str, Any]) -> Runner:
        """Make the network ready on its path; on the processor, if need be, find the fastest."""
        self.why = "as asked"
        if where.path == ANY_CPU_PATH:
            runner, self.why = fastest(
                cpu_paths(facts),
                lambda name: open_runner(network, replace(where, path=name), facts),
                network.config.in_channels,
                self.facts.sha256,
            )
            return runner
        return open_runner(network, where, facts)

    @torch.inference_mode()
    def prepare(self, scale: int, limit_px: int, most_px: int = _PREPARED_PX) -> None:
        """Compute once whatever may be asked for first, so that no early frame is slow.

        Args:
            scale: output scale 1, 2 or 4.
            limit_px: as for :meth:`residual`.
            most_px: larger crops are prepared when they come.
        """
        blank = np.full((INPUT_PX, INPUT_PX, 3), 128, np.uint8)
        self.parse([blank])
        self.parse_aside(blank).maps()
        if self.device.type == "cuda":
            return  # what composes frames there has graphs of its own
        sides = (side for side in BUCKETS_PX if side <= most_px)
        for side in (side for side in sides if seen_side(side, limit_px) == side):
            block = torch.zeros(1, self._channels, side, side, device=self.device)
            for factor in FACTORS if scale < 4 else (4,):
                self.runner(block, factor)

    def newly_counted(self) -> Counter[str]:
        """What was counted since this was asked last, by name; see :attr:`counts`."""
        now = Counter(self.counts)
        new, self._told = now - self._told, now
        return new

    @property
    def path(self) -> str:
        """The way it computes, one of :data:`cagface_core.paths.PATHS`."""
        return self.runner.path

    @torch.inference_mode()
    def parse(self, pictures: list[Image]) -> list[Tensor]:
        """Find the components of faces.

        Args:
            pictures: crops (S, S, 3) uint8 RGB, of any sizes.

        Returns:
            For each, heatmaps (1, 3, MAP_PX, MAP_PX) in [0, 1], on the engine's device.
        """
        return [
            self._find_maps(parser_input(to_signed([picture], self.device))) for picture in pictures
        ]

    def parse_aside(self, picture: Image) -> Parsing:
        """Start :meth:`parse` of one crop beside other work; does not wait."""
        if self.device.type == "cuda":
            with torch.cuda.stream(self._stream):
                (maps,) = self.parse([picture])
                done = torch.cuda.Event()
                done.record(self._stream)

            def wait() -> Tensor:
                stream = torch.cuda.current_stream(self.device)
                stream.wait_event(done)
                maps.record_stream(stream)
                return maps

            return Parsing(done.query, wait)
        self._thread = self._thread or single_threaded("parse")
        made = self._thread.submit(self.parse, [picture])
        return Parsing(made.done, lambda: made.result()[0])

    def close(self) -> None:
        """End the thread of :meth:`parse_aside`, once what it does is done."""
        if self._thread is not None:
            self._thread.shutdown()
            self._thread = None

    def _component_maps(self, picture: Tensor) -> Tensor:
        return component_maps(self.parser, picture)

    @torch.inference_mode()
    def residual(
        self, pictures: Sequence[Picture], maps: list[Tensor], scale: int, limit_px: int = 0,
        coarse: int = 1,
    ) -> NDArray[np.float32]:  # fmt: skip
        """Super-resolve crops of one size; what the network adds to their plain upscale.

        Args:
            pictures: N crops (H, W, 3) RGB in levels of 0..255, all of one size and dtype.
            maps: their heatmaps, (1, 3, MAP_PX, MAP_PX) each.
            scale: output scale 1, 2 or 4.
            limit_px: the network sees larger crops shrunk to about this side, see
                :func:`cagface_core.crop.seen_side`; 0 means no limit, and crops beyond
                ``WHOLE_PX`` go through in tiles.
            coarse: by how much the crops were shrunk already.

        Returns:
            (N, scale*H, scale*W, 3) float32 in levels of 0..255, consistent with the input.
        """
        # Then what is added is no finer than what the network sees, see `hold_coarse`.
        while (
            max(pictures[0].shape) >= 4 * seen_side(max(pictures[0].shape) * coarse, limit_px)
            and not (pictures[0].shape[0] | pictures[0].shape[1]) % 2
        ):
            pictures = [shrunk(picture, 2) for picture in pictures]
            scale, coarse = 2 * scale, 2 * coarse
        lr = to_signed(pictures, self.device)
        added = self.added(lr, torch.cat(maps), scale, limit_px, coarse=coarse)
        return added.permute(0, 2, 3, 1).contiguous().cpu().numpy()

    @torch.inference_mode()
    def added(
        self, lr: Tensor, maps: Tensor, scale: int, limit_px: int = 0,
        run: Callable[[Tensor, int], Tensor] | None = None, coarse: int = 1,
    ) -> Tensor:  # fmt: skip
        """Do what :meth:`residual` does on the device.

        Args:
            lr: (N, 3, H, W) float32 RGB in [-1, 1].
            maps: (N, 3, MAP_PX, MAP_PX) float32 in [0, 1].
            scale: output over input size, a power of two.
            limit_px: as in :meth:`residual`.
            run: the network to use in place of the engine's runner.
            coarse: as in :meth:`residual`.

        Returns:
            (N, 3, scale*H, scale*W) float32 in levels of 0..255.
        """
        seen = lr
        own = max(lr.shape[-2:])
        if (side := seen_side(own * coarse, limit_px)) < own:
            seen = resize(lr, side, side)
        height, width = seen.shape[-2:]
        block = make_block(seen, resize_maps(maps, height, width), self.attention)
        size = (scale * lr.shape[-2], scale * lr.shape[-1])
        # Of colours whatever is coarser than noise and blocks in the crop itself is kept.
        colour_px = self.sigma_px * side / (own * coarse)
        if side < own and (scale == 1 or own * coarse >= 4 * side):
            sr = self._forward(block, 2, run or self.runner)
            added = hold_coarse(sr, seen, self.sigma_px, *size, colour_px)
            return as_coloured(added, seen).mul_(127.5)
        # Between, what the larger would add hardly shows, and shrinking it takes long.
        factor = 4 if max(size) >= 4 * max(height, width) else 2

        def made(by: Callable[[Tensor, int], Tensor]) -> Tensor:
            return resize(self._forward(block, factor, by), *size)

        finer = None if self._finer is None or side < own else partial(made, self._finer)
        added = hold(made(run or self.runner), lr, self.sigma_px, seen, colour_px, finer)
        return as_coloured(added, lr).mul_(127.5)

    def upscale(self, rgb: Image, strength: float = 1.0) -> Image:
        """Super-resolve a picture that is a face: (H, W, 3) to (4H, 4W, 3) uint8 RGB.

        Raises:
            InputError: it is no such picture, or smaller than 8x8.
        """
        checked_picture(rgb, 8)
        residual = self.residual([rgb], self.parse([rgb]), 4)[0]
        enhanced = upscale_frame(rgb, 4) + strength * residual
        return np.clip(enhanced + 0.5, 0, 255).astype(np.uint8)

    def _forward(self, block: Tensor, factor: int, run: Callable[[Tensor, int], Tensor]) -> Tensor:
        """Run CAGFace on (N, C, H, W) blocks of any size."""
        side = max(block.shape[-2:])
        if side <= self._whole_px:
            return run(block, factor)
        tile = tile_px(side, self._whole_px)
        return tiled(lambda part: run(part, factor), block, tile, factor=factor)
