"""What is captured as a CUDA graph, run on tensors without values, as if they lay on a GPU.

Whatever reads a value back fails, as it would while a graph is captured; so does an operation on
tensors of two devices. What goes up from the host is found by looking at the operations.
"""

from collections.abc import Iterator
from functools import partial
from typing import Any, cast

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from cagface_core.attention import MAP_PX, component_maps
from cagface_core.bisenet import INPUT_PX, BiSeNet, BiSeNetConfig
from cagface_core.cagface import CAGFaceConfig
from cagface_core.device_canvas import PlanesCanvas, _gains, _grid
from cagface_core.device_frame import DeviceFrame
from cagface_core.device_steady import MOVE_NUMBERS, _blur_kernel
from cagface_core.engine import Engine
from cagface_core.fold import FoldedCAGFace
from cagface_core.fused import fold_norms
from cagface_core.types import PlaneLayout
from tests.core.plane_pictures import drawn

GPU = torch.device("meta")


class Crossings(TorchDispatchMode):
    """Notes every operation that has tensors on the host among what goes in or comes out."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        tensors = [x for x in tree_leaves((args, kwargs, result)) if isinstance(x, Tensor)]
        # A number is a tensor of no dimensions on the host: it becomes part of the kernel.
        if any(x.device.type == "cpu" and x.dim() for x in tensors):
            self.found.append(str(func))
        return result


@pytest.fixture(autouse=True)
def nothing_kept() -> Iterator[None]:
    """What is made once and kept is made there, and made anew after."""
    kept = _blur_kernel, _grid, _gains
    for function in kept:
        function.cache_clear()
    with torch.inference_mode():
        yield
    for function in kept:
        function.cache_clear()


def crossings(function: Any, *inputs: Tensor) -> list[str]:
    """What crosses in a second run; a first one may, as a graph's warm-up does."""
    function(*inputs)
    with Crossings() as noted:
        result = function(*inputs)
    assert all(x.device == GPU for x in tree_leaves(result))
    return noted.found


def folded(factor: int) -> FoldedCAGFace:
    """A small network as a GPU has it."""
    network = FoldedCAGFace(CAGFaceConfig(features=16, units=4), factor)
    return network.to(GPU, torch.float16, memory_format=torch.channels_last).eval()


def make_frame(scale: int, limit_px: int) -> DeviceFrame:
    """What composes frames on a GPU, with what an engine has there."""
    networks = {factor: folded(factor) for factor in (2, 4)}
    engine = cast("Any", Engine.__new__(Engine))
    engine.device, engine.graphs = GPU, None
    engine.attention, engine.sigma_px = "paper", 3.0
    engine._whole_px, engine._finer = 384, None

    def run(block: Tensor, factor: int) -> Tensor:
        block = block.to(dtype=torch.float16, memory_format=torch.channels_last)
        return networks[factor](block).float()

    engine.runner = engine.eager = run
    return DeviceFrame(engine, scale, limit_px, 40.0)


def faces(count: int, side: int, scale: int) -> tuple[Tensor, ...]:
    """What `DeviceFrame._compute` takes."""
    return (
        torch.zeros(count, 3, side, side, device=GPU),
        torch.zeros(count, 3, MAP_PX, MAP_PX, device=GPU),
        torch.zeros(count, 3, side, side, device=GPU),
        torch.zeros(count, 3, scale * side, scale * side, device=GPU),
        torch.zeros(count, MOVE_NUMBERS + 2 * scale * side, device=GPU),
    )


@pytest.mark.parametrize("count", [1, 2, 8])
@pytest.mark.parametrize(
    ("side", "scale", "limit_px"),
    [(64, 2, 256), (192, 1, 96), (256, 4, 0), (384, 2, 384), (512, 1, 256), (448, 1, 0)],
)
def test_the_work_on_faces_never_leaves_the_device(
    count: int, side: int, scale: int, limit_px: int
):
    frame = make_frame(scale, limit_px)
    compute = partial(frame._compute, run=frame.engine.eager)
    made = compute(*faces(count, side, scale))
    assert made.levels.shape == (count, 3, scale * side, scale * side)
    assert made.mask.shape == (count, scale * side, scale * side)
    assert made.passed.shape == (count,)
    assert crossings(compute, *faces(count, side, scale)) == []


def test_nor_does_the_component_network():
    parser = fold_norms(BiSeNet(BiSeNetConfig()).eval()).to(GPU)

    def maps(picture: Tensor) -> Tensor:
        return component_maps(parser, picture)

    picture = torch.zeros(1, 3, INPUT_PX, INPUT_PX, device=GPU)
    assert maps(picture).shape == (1, 3, MAP_PX, MAP_PX)
    assert crossings(maps, picture) == []


@pytest.mark.parametrize("layout", [PlaneLayout(), PlaneLayout(bits=10, chroma_at=(1, 0.5))])
@pytest.mark.parametrize("scale", [1, 2])
def test_a_film_s_frame_goes_up_once(layout: PlaneLayout, scale: int):
    """Its planes; and nothing is read back while it is enlarged and faces are added to it.

    Where chroma lies goes up with a film's first frame.
    """
    picture = drawn(64, 48, layout)
    levels = torch.zeros(3, 33, 21, device=GPU)
    PlanesCanvas.upscale(picture, scale, GPU).add(5, 3, levels)
    with Crossings() as noted:
        canvas = PlanesCanvas.upscale(picture, scale, GPU)
    assert noted.found == ["aten.lift_fresh.default", "aten.to.dtype_layout"] * 3
    with Crossings() as noted:
        canvas.add(5, 3, levels)
    assert noted.found == []
    assert [tuple(p.shape) for p in canvas.planes] == [
        (48 * scale, 64 * scale), *[(24 * scale, 32 * scale)] * 2
    ]  # fmt: skip


def test_what_would_spoil_a_capture_is_found():
    picture = torch.zeros(4, device=GPU)
    with pytest.raises((RuntimeError, NotImplementedError)):
        crossings(lambda x: x if x.sum() > 1 else -x, picture)
    with pytest.raises((RuntimeError, NotImplementedError)):
        crossings(lambda x: x[x > 1], picture)
    with pytest.raises(RuntimeError, match="device"):
        crossings(lambda x: x + torch.zeros(4), picture)
    assert crossings(lambda x: x + torch.arange(4.0).to(x.device), picture) != []
