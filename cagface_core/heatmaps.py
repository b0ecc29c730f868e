"""The faces of a frame in; the heatmaps of their components, from the cache or the parser, out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress

from torch import Tensor

from cagface_core.engine import Engine
from cagface_core.state import Asked, State
from cagface_core.types import Crop, Face, Image


class Heatmaps:
    """Gives each face its heatmaps, from the cache where they still hold.

    Live, no frame waits for heatmaps that it can do without: the old ones go on until the new ones
    are there. Frames of a file wait, so that they come out the same every time.
    """

    def __init__(self, tell: Callable[[str, RuntimeError], None], *, waits: bool) -> None:
        """Hold nothing yet; ``tell`` is called with what fails, ``waits``: every frame waits."""
        self._tell, self._waits = tell, waits

    def attend(
        self, engine: Engine, faces: Sequence[Face], crops: Sequence[Crop],
        pictures: Sequence[Image], time_s: float, patience: float, state: State,
    ) -> tuple[list[Tensor], int]:  # fmt: skip
        """Find the heatmaps of a frame's faces.

        Args:
            engine: parses.
            faces: of the frame.
            crops: where each was cut.
            pictures: their pixels, (S, S, 3) uint8 RGB.
            time_s: presentation time of the frame.
            patience: see :class:`cagface_core.Tuning`.
            state: of the stream, changed in place.

        Returns:
            For each (1, 3, MAP_PX, MAP_PX) in [0, 1], on the engine's device; and for how many
            the cache's still held.
        """
        maps: list[Tensor] = []
        hits, asks = 0, not self._waits  # live, one face a frame: all at once would slow that one
        there = {face.id for face in faces}
        state.attention.forget_others(there)
        for key, asked in list(state.parsing.items()):
            if key not in there:
                del state.parsing[key]
            elif asked.parsing.ready():
                del state.parsing[key]
                self._keep(asked, state)
        for face, crop, picture in zip(faces, crops, pictures, strict=True):
            found = None
            try:
                found = state.attention.find(face, crop, picture, time_s, patience)
                hits += found is not None
                if found is None and not self._waits:
                    found = state.attention.newest(face, crop)
                    if found is not None and face.id not in state.parsing and asks:
                        asks = False
                        parsing = engine.parse_aside(picture)
                        state.parsing[face.id] = Asked(face, crop, picture, time_s, parsing)
                if found is None:
                    (found,) = engine.parse([picture])
                    state.attention.keep(face, crop, picture, time_s, found)
            except RuntimeError as error:  # old heatmaps, or none, are better than no face
                self._tell("the components cannot be found", error)
                with suppress(RuntimeError):
                    found = state.attention.newest(face, crop) if found is None else found
                found = engine.no_maps if found is None else found
            maps.append(found)
        return maps, hits

    def _keep(self, asked: Asked, state: State) -> None:
        """Put heatmaps that were asked for into the cache."""
        try:
            maps = asked.parsing.maps()
        except RuntimeError as error:
            self._tell("the components cannot be found", error)
        else:
            state.attention.keep(asked.face, asked.crop, asked.picture, asked.time_s, maps)
