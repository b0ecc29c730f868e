"""Tracked faces and what is asked of them in; which to enhance, and how strongly, out.

A face comes up and goes out over a quarter of a second instead of popping. One that detection
misses keeps its strength for half a second, and only then goes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cagface_core.config import Tuning
from cagface_core.types import Face

FADE_S = 0.25
"""From nothing to all, or back, in seconds of stream time."""

HOLD_S = 0.5
"""A face that detection misses stays at full strength this long."""


STAYS = 1.3
"""A face that is shown counts as this much larger when the largest are chosen."""


@dataclass(slots=True)
class _Shown:
    strength: float
    seen_s: float


class Fader:
    """The strength of each face as it is shown, by the track's id."""

    def __init__(self) -> None:
        """Start with no face shown; those of the first frame are shown in full at once."""
        self._shown: dict[int, _Shown] = {}
        self._time_s: float | None = None

    def clear(self) -> None:
        """Forget all faces, as after a cut: the next frame's are shown in full at once."""
        self._shown.clear()
        self._time_s = None

    def choose(
        self, found: Sequence[Face], tuning: Tuning, time_s: float
    ) -> tuple[list[Face], list[float]]:
        """Which faces are enhanced in this frame, and how strongly.

        Args:
            found: all that are tracked in it.
            tuning: who is wanted, how strongly, how many, and how small at least.
            time_s: presentation time of the frame.

        Returns:
            The largest that are wanted and those that are still fading out, largest first; and
            the strength of each, which may be 0 where it only begins.
        """
        wanted = {face.id: tuning.wanted(face.id) for face in found}

        def rank(face: Face) -> float:  # who is shown stays, until another is clearly larger
            return face.w * face.h * (STAYS if self.strength(face.id) else 1.0)

        candidates = sorted((face for face in found if wanted[face.id]), key=rank, reverse=True)
        least = tuning.least**2 * max(map(rank, candidates), default=0.0)
        chosen = {face.id for face in candidates[: tuning.max_faces] if rank(face) >= least}
        goals = {key: strength if key in chosen else 0.0 for key, strength in wanted.items()}
        strengths = self.step(found, goals, time_s)
        shown = [(f, s) for f, s in zip(found, strengths, strict=True) if s or goals[f.id]]
        shown.sort(key=lambda pair: pair[0].w * pair[0].h, reverse=True)
        return [face for face, _ in shown], [strength for _, strength in shown]

    def step(
        self, faces: Sequence[Face], wanted: Mapping[int, float], time_s: float
    ) -> list[float]:
        """Move each face's strength towards the one wanted.

        Args:
            faces: all that are tracked in this frame; others are forgotten.
            wanted: the strength by id, 0 to 1.
            time_s: presentation time of the frame.

        Returns:
            The strengths to show now, in the order of ``faces``.
        """
        first = self._time_s is None
        passed_s = 0.0 if self._time_s is None else max(0.0, time_s - self._time_s)
        self._time_s = time_s
        step = passed_s / FADE_S
        shown: dict[int, _Shown] = {}
        for face in faces:
            last = self._shown.get(face.id) or _Shown(wanted[face.id] if first else 0.0, time_s)
            seen_s = last.seen_s if face.missed else time_s
            goal = wanted[face.id] if time_s - seen_s <= HOLD_S else 0.0
            change = min(max(goal - last.strength, -step), step)
            shown[face.id] = _Shown(last.strength + change, seen_s)
        self._shown = shown
        return [shown[face.id].strength for face in faces]

    def strength(self, id: int) -> float:
        """What a face is shown with, 0 if it is not."""
        shown = self._shown.get(id)
        return shown.strength if shown else 0.0
