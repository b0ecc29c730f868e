"""Crops in, 4x residuals out: the networks on whatever this machine computes with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cagface_core import checkpoint
from cagface_core.attention import component_maps, make_block, resize_maps, to_signed
from cagface_core.errors import DeviceError, WeightsError
from cagface_core.fold import fold, place
from cagface_core.paste import CONSISTENCY_SIGMA_PX, consistent, resize, upscale_frame
from cagface_core.tiles import tiled
from cagface_core.types import Image

_ONE_PASS_PX = 256  # larger pictures go through in tiles


class Engine:
    """The component network and the folded CAGFace, ready to run."""

    def __init__(
        self, sr_weights: Path, device: str = "auto", parser_weights: Path | None = None
    ) -> None:
        """Load both networks.

        Args:
            sr_weights: a ``.safetensors`` file of kind ``sr``.
            device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
            parser_weights: a component network, ours or ``.pth`` of the face-parsing layout;
                None is the shipped one.

        Raises:
            WeightsError: a file is missing, damaged or of another kind.
            DeviceError: the device is not there.
        """
        self.device = find_device(device)
        model, self.facts = checkpoint.load_sr(sr_weights)
        parser, self.parser_facts = checkpoint.load_parser(
            parser_weights or checkpoint.WEIGHTS_DIR / "parser.safetensors"
        )
        self.network = place(fold(model), self.device)
        self.parser = place(parser, self.device)
        protocol = self.facts.facts.get("protocol")
        if protocol not in CONSISTENCY_SIGMA_PX:
            raise WeightsError(
                f"{sr_weights} was trained for {protocol!r}; expected "
                f"{' or '.join(CONSISTENCY_SIGMA_PX)}: train it with 'cagface train sr'"
            )
        self.sigma_px = CONSISTENCY_SIGMA_PX[protocol]

    @property
    def description(self) -> str:
        """One line: size of the network, weights, device."""
        config, facts = self.facts.config, self.facts.facts
        return (
            f"CAGFace F={config['features']} L={config['units']} {facts['protocol']} "
            f"({self.facts.sha256[:8]}) float32 on {self.device}"
        )

    @torch.inference_mode()
    def parse(self, pictures: list[Image]) -> list[Tensor]:
        """Find the components of faces.

        Args:
            pictures: crops (S, S, 3) uint8 RGB, of any sizes.

        Returns:
            For each, heatmaps (1, 3, MAP_PX, MAP_PX) in [0, 1], on the engine's device.
        """
        return [
            component_maps(self.parser, to_signed([picture], self.device)) for picture in pictures
        ]

    @torch.inference_mode()
    def residual(
        self, pictures: list[Image], maps: list[Tensor], scale: int, limit_px: int = 0
    ) -> NDArray[np.float32]:
        """Super-resolve crops of one size; what the network adds to their plain upscale.

        Args:
            pictures: N crops (H, W, 3) uint8 RGB, all of the same size.
            maps: their heatmaps, (1, 3, MAP_PX, MAP_PX) each.
            scale: output scale 1, 2 or 4.
            limit_px: the network sees larger crops shrunk to this side; 0 means no limit, and
                crops beyond the largest bucket go through in tiles.

        Returns:
            (N, scale*H, scale*W, 3) float32 in levels of 0..255, consistent with the input.
        """
        lr = to_signed(pictures, self.device)
        seen = lr
        if 0 < limit_px < max(lr.shape[-2:]):
            seen = resize(lr, limit_px, limit_px)
        height, width = seen.shape[-2:]
        spread = resize_maps(torch.cat(maps), height, width)
        large = max(height, width) > _ONE_PASS_PX
        sr4 = tiled(self._forward, seen, spread) if large else self._forward(seen, spread)
        size = (scale * lr.shape[-2], scale * lr.shape[-1])
        sr = consistent(resize(sr4, *size), lr, self.sigma_px, (height, width))
        residual = (sr - resize(lr, *size)) * 127.5
        return residual.permute(0, 2, 3, 1).contiguous().cpu().numpy()

    def upscale(self, rgb: Image, strength: float = 1.0) -> Image:
        """Super-resolve a picture that is a face: (H, W, 3) to (4H, 4W, 3) uint8 RGB."""
        residual = self.residual([rgb], self.parse([rgb]), 4)[0]
        enhanced = upscale_frame(rgb, 4) + strength * residual
        return np.clip(enhanced + 0.5, 0, 255).astype(np.uint8)

    def _forward(self, lr: Tensor, maps: Tensor) -> Tensor:
        """Run CAGFace on (N, 3, H, W) crops and (N, 3, H, W) heatmaps."""
        block = make_block(lr, maps, self.network.config.attention)
        return self.network(block.to(memory_format=torch.channels_last))


def find_device(name: str) -> torch.device:
    """Choose the device; ``auto`` takes CUDA, then MPS, then the processor.

    Raises:
        DeviceError: the name is unknown, or no such device is there.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise DeviceError(
            f"cannot compute on device {name!r} ({reason}); use --device cpu, or auto"
        ) from error
    return device
