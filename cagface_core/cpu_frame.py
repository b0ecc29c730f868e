"""A frame composed on the processor: what needs no network is done beside it, in a thread.

While the network computes the faces of a frame, the frame is upscaled, and what steadying needs of
the frames before is found: that is about half of the time that a frame takes besides the network.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from cagface_core.clock import Clock
from cagface_core.config import Tuning
from cagface_core.crop import reach
from cagface_core.paste import add_to_rgb, feather, find_changes, upscale_frame
from cagface_core.planes import add_to_planes, upscale_planes, upscale_to_i420
from cagface_core.steady import Recalled, Steadier
from cagface_core.types import Change, Crop, Face, Floats, Frame, Image, Planes


class CpuFrame:
    """One frame in the making; its parts are called in the order in which they stand here.

    Args:
        frame: as it came.
        tuning: what to do with it.
        beside: a thread.
        clock: told the milliseconds of the upscale, ``background``, and of the look back,
            ``recall``, which pass beside those of the caller.
    """

    def __init__(
        self, frame: Frame, tuning: Tuning, beside: ThreadPoolExecutor, clock: Clock
    ) -> None:
        self._frame, self._scale = frame, tuning.scale
        self._as_planes = tuning.planes and tuning.scale > 1  # where that is faster
        self._beside, self._clock = beside, clock
        self._upscaled = beside.submit(self._upscale)
        self._recalled: Future[list[_Known]] | None = None

    def recall(
        self, faces: Sequence[Face], crops: Sequence[Crop], pictures: Sequence[Image],
        strengths: Sequence[float], grids: Sequence[tuple[int, int]], steadier: Steadier, *,
        limit_px: int, moving: bool,
    ) -> None:  # fmt: skip
        """Start to find what is known of the faces before they are enhanced; does not wait.

        Args:
            faces: largest first: the smallest stays on top where two overlap.
            crops: where each was cut from the frame.
            pictures: their pixels, (S, S, 3) uint8 RGB, shrunk as their grids say.
            strengths: of each, 0 to 1.
            grids: in which each is enhanced, see :func:`cagface_core.crop.work_grid`.
            steadier: the stream's memory of enhanced faces, which must not change before
                :meth:`finish`.
            limit_px: as for :func:`cagface_core.crop.enhanced_side`.
            moving: see :meth:`cagface_core.steady.Steadier.recall`.
        """
        height, width = self._frame.rgb.shape[:2]

        def known(
            face: Face, crop: Crop, picture: Image, strength: float, coarse: int, scale: int
        ) -> _Known:
            plain = upscale_frame(picture, scale)
            recalled = steadier.recall(face.id, crop, picture, plain, coarse=coarse, moving=moving)
            shown = reach(face, limit_px)
            mask = feather(crop, shown, height, width, scale / coarse, strength)
            return _Known(recalled, crop, mask)

        def look_back() -> list[_Known]:
            with self._clock("recall"):
                all_of_it = zip(faces, crops, pictures, strengths, grids, strict=True)
                return [known(f, c, p, s, *grid) for f, c, p, s, grid in all_of_it]

        self._recalled = self._beside.submit(look_back)

    def finish(self, residuals: Sequence[Floats | None], steadier: Steadier) -> Image | Planes:
        """Steady the faces and add them to the upscaled frame, in RGB or in planes.

        Args:
            residuals: of each face, in its grid, (scale*S, scale*S, 3) in levels of 0..255; None
                adds nothing and forgets the face.
            steadier: the memory, changed in place.
        """
        with self._clock("steady"):
            known = self._recalled.result() if self._recalled else []
            pairs = zip(known, residuals, strict=True)
            there = [(k, residual) for k, residual in pairs if residual is not None]
            steadier.forget_others({k.face.id for k, _ in there})
            steadied = [steadier.steady(k.face, residual) for k, residual in there]
        with self._clock("paste"):
            height, width = self._frame.rgb.shape[:2]
            crops, masks = [k.crop for k, _ in there], [k.mask for k, _ in there]
            changes = find_changes(crops, steadied, masks, height, width, self._scale)
            canvas = self._upscaled.result()
            for change in changes:
                _add(canvas, change)
            return canvas

    def _upscale(self) -> Image | Planes:
        with self._clock("background"):
            if self._frame.planes is not None:
                return upscale_planes(self._frame.planes, self._scale)
            upscale = upscale_to_i420 if self._as_planes else upscale_frame
            return upscale(self._frame.rgb, self._scale)


@dataclass(frozen=True, slots=True)
class _Known:
    """What is known of a face before it is enhanced, and where it will be shown."""

    face: Recalled
    crop: Crop
    mask: Floats


def _add(canvas: Image | Planes, change: Change) -> None:
    if isinstance(canvas, Planes):
        add_to_planes(canvas, change)
    else:
        add_to_rgb(canvas, change)
