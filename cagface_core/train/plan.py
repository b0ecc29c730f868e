"""What a training of the super-resolution network is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class SRTraining:
    """What ``cagface train sr`` is asked for.

    ``protocol`` is ``clean`` (the paper's antialiased bicubic) or ``webcam`` (degraded, see
    :mod:`cagface_core.train.degrade`). ``parser`` is the component network's weights; None
    takes the photos' own masks as perfect attention. ``init`` starts from weights, of this preset
    or a smaller one, instead of from stage 1; ``steps1`` is then not used. ``precision`` is what
    the network computes with, ``float32`` or ``bfloat16``, faster where the processor has it; the
    weights themselves stay float32. ``attention`` replaces the preset's form of attention (see
    :data:`cagface_core.cagface.ATTENTION`), ``maps`` ``hard`` replaces the heatmaps by the most
    likely component, and ``parts_weight`` is how many times eyes, brows, nose, mouth and ears
    count in the loss. ``minutes`` ends stages 1 and 2 after so long each, 0 when their steps are
    done. ``prepared`` is a folder that keeps the photos as the network is shown them, gigabytes,
    for the next training that wants the same. Patches are ``patch_px`` low-resolution pixels;
    ``batch`` of them make a step, shared out among the processes where torchrun started several.
    """

    data: Path
    out: Path
    preset: str = "nano"
    protocol: str = "clean"
    parser: Path | None = None
    init: Path | None = None
    steps1: int = 2000
    steps2: int = 8000
    batch: int = 16
    patch_px: int = 32
    learning_rate: float = 1e-3
    seed: int = 0
    check_every: int = 250
    device: str = "cpu"
    variants: int = 4
    precision: str = "float32"
    attention: str | None = None
    maps: str = "soft"
    parts_weight: float = 1.0
    minutes: float = 0.0
    prepared: Path | None = None

    @property
    def uses_maps(self) -> bool:
        """Whether network or loss looks at the photos' heatmaps."""
        return self.attention != "none" or self.parts_weight != 1
