"""A frame and what its faces gain in; the enhanced frame, made on the processor, out."""

from __future__ import annotations

from collections.abc import Sequence

from cagface_core.crop import reach
from cagface_core.paste import add_to_rgb, feather, find_changes, upscale_frame
from cagface_core.planes import add_to_planes, upscale_planes
from cagface_core.types import Change, Crop, Face, Floats, Frame, Image, Planes


def face_changes(
    faces: Sequence[Face], crops: Sequence[Crop], residuals: Sequence[Floats | None],
    strengths: Sequence[float], frame: Frame,
) -> list[Change]:  # fmt: skip
    """What the enhanced faces add to the upscaled frame.

    Args:
        faces: largest first: the smallest stays on top where two overlap.
        crops: where each was cut from the frame.
        residuals: (scale*size, scale*size, 3) in levels of 0..255; None adds nothing.
        strengths: of each, 0 to 1.
        frame: the frame.
    """
    there = {i: residual for i, residual in enumerate(residuals) if residual is not None}
    height, width = frame.rgb.shape[:2]
    masks = [
        feather(
            crops[i],
            reach(faces[i]),
            height,
            width,
            residual.shape[0] // crops[i].size,
            strengths[i],
        )
        for i, residual in there.items()
    ]
    return find_changes([crops[i] for i in there], list(there.values()), masks, height, width)


def upscale_with(frame: Frame, changes: Sequence[Change], scale: int) -> Image | Planes:
    """The upscaled frame with the changes added, in planes if it came in planes."""
    if frame.planes is None:
        rgb = upscale_frame(frame.rgb, scale)
        for change in changes:
            add_to_rgb(rgb, change)
        return rgb
    planes = upscale_planes(frame.planes, scale)
    for change in changes:
        add_to_planes(planes, change)
    return planes
