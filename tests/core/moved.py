"""How faces have moved, found as the enhancer has it found."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from cagface_core.device_steady import DeviceSteadier, Moved
from cagface_core.types import Crop, Image


def look_back(
    steadier: DeviceSteadier, ids: Sequence[int], crops: Sequence[Crop], pictures: Sequence[Image]
) -> list[Moved]:
    """Of faces of a frame, what `DeviceFrame.finish` takes."""
    with ThreadPoolExecutor(2) as beside:
        return steadier.look_back(ids, crops, pictures, beside)()
