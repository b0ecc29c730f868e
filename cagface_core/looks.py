"""What is known of the faces in; whether the detector has to look at this frame, out.

Between two looks faces are followed by their motion, which is cheaper and steadier. All limits
are in seconds of the stream and in box sizes, so they hold at any frame rate and resolution.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from enum import Enum

from cagface_core.types import Face, Motion

_MAX_TRAVEL = 0.05
"""A face that moved this far since the last look, in box sizes, is looked at again: a head that
turns carries its features along and its outline not."""


class Look(Enum):
    """How closely the detector looks at one frame."""

    NONE = 0
    FACES = 1
    """At the known faces; and for others where one is lost or none is known."""
    SEARCH = 2
    """At the known faces, and for others as thoroughly as it can."""


class Looks:
    """When to look again; the memory of one stream.

    Looks on every frame while a face is new, was not found by the last look or cannot be followed,
    as often as a moving one has gone a twentieth of its size, and ten times a second where there
    is none.
    """

    SEARCH_EVERY_S = 1.0
    EMPTY_EVERY_S = 0.1

    def __init__(self, every_s: float, part_every_s: float) -> None:
        """Begin.

        Args:
            every_s: faces that rest are looked at as often; 0 is every frame.
            part_every_s: so often a part is looked at for new ones.
        """
        self._every_s, self._part_every_s = every_s, part_every_s
        self.reset()

    def reset(self) -> None:
        """After a cut: the next frame is searched."""
        self._looked_s = self._searched_s = self._parted_s = -math.inf
        self._travel: dict[int, float] = {}
        self._parts = 0
        self.part: int | None = None
        """Which part of the frame to look at for new faces, counted on and on."""

    def next(self, faces: Sequence[Face], motions: Mapping[int, Motion], time_s: float) -> Look:
        """Decide for a frame, and count on it being done.

        Args:
            faces: those of the frame before.
            motions: by identity, how they have moved since; a face without cannot be followed.
            time_s: the frame's presentation time.
        """
        travel = {
            face.id: self._travel.get(face.id, 0.0)
            + math.hypot(motions[face.id].dx, motions[face.id].dy) / max(face.w, face.h)
            + abs(motions[face.id].growth - 1)
            for face in faces
            if face.id in motions and face.missed == 0
        }
        followed = len(faces) == len(travel) and max(travel.values(), default=0.0) <= _MAX_TRAVEL
        every_s = self._every_s if faces else self.EMPTY_EVERY_S
        # The tolerance is for frame durations that are not exact in floats.
        rested = 0 <= time_s - self._looked_s < every_s - 1e-6
        if not 0 <= time_s - self._searched_s < self.SEARCH_EVERY_S:
            look = Look.SEARCH
            self._searched_s = time_s
        else:
            look = Look.NONE if followed and rested else Look.FACES
        if look is Look.NONE:
            self._travel = travel
        else:
            self._travel, self._looked_s = {}, time_s
        self.part = None
        if look is not Look.NONE and not 0 <= time_s - self._parted_s < self._part_every_s - 1e-6:
            self.part, self._parted_s = self._parts, time_s
            self._parts += 1
        return look
