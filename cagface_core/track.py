"""Detections of each frame in, faces with stable identities and steady boxes out."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cagface_core.errors import ConfigError
from cagface_core.types import Detection, Face, Motion


@dataclass(frozen=True, slots=True)
class TrackerConfig:
    """How faces are followed. Lengths are in box sizes, so nothing depends on resolution."""

    hold_s: float = 0.75
    """A face that detection misses stays this long, in seconds of stream time, fading at the end.

    But no longer than it was seen before, so that a mistake of one frame lasts one frame.
    """
    recall_s: float = 60.0
    """A face that is found again where one was let go this short ago is taken to be that one.

    So a picture on the wall that is found now and then keeps its identity, and what its user said
    of it.
    """
    confirm_hits: int = 1
    """Detections in a row before a new face is shown; 2 or 3 keeps one-frame mistakes out."""
    max_step: float = 0.8
    """A detection further than this from where a face is expected is somebody else."""
    center_cutoff_hz: float = 1.0
    """One-Euro cutoff of a still box's centre; lower is steadier and slower."""
    center_beta: float = 2.0
    """What each box size per second of speed adds to the cutoff, in Hz."""
    size_cutoff_hz: float = 0.5
    """One-Euro cutoff of the box's width and height."""
    size_beta: float = 1.0
    """What each relative change per second adds to the size's cutoff, in Hz."""
    speed_cutoff_hz: float = 2.0
    """Cutoff of the speed estimate itself."""
    max_lag: float = 0.1
    """The smoothed centre and size never lag the detection by more than this."""

    def __post_init__(self) -> None:
        """Refuse values that make no sense.

        Raises:
            ConfigError: a negative time or length, or a cutoff that is not positive.
        """
        for name in ("hold_s", "recall_s", "center_beta", "size_beta", "max_lag"):
            if not getattr(self, name) >= 0:
                raise ConfigError(f"tracker {name} is {getattr(self, name)}: expected 0 or more")
        for name in ("max_step", "center_cutoff_hz", "size_cutoff_hz", "speed_cutoff_hz"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"tracker {name} is {getattr(self, name)}: expected above 0")
        if self.confirm_hits < 1:
            raise ConfigError(f"tracker confirm_hits is {self.confirm_hits}: expected 1 or more")


UNSMOOTHED = TrackerConfig(center_cutoff_hz=1e9, size_cutoff_hz=1e9)
"""Boxes as detected, for those who smooth them with the future known."""


class Tracker:
    """Follows faces from frame to frame. Plain state, no threads; times are stream seconds.

    Call `move` on frames whose motion is known, then `update` where detection ran and `coast`
    where it did not. ``reset`` after a cut or a change of size. No two faces have one identity, not
    even after a reset; a face that is found again where it was has its old one.
    """

    def __init__(self, config: TrackerConfig | None = None) -> None:
        """Start with no faces."""
        self._config = config or TrackerConfig()
        self._tracks: list[_Track] = []
        self._gone: deque[tuple[float, Face]] = deque(maxlen=_GONE)
        self._next_id = 1
        self._time_s = -math.inf

    def update(self, detections: Sequence[Detection], time_s: float) -> tuple[Face, ...]:
        """Take the detections of the frame shown at ``time_s``; give the faces in it, by id.

        A stream that jumps back in time is taken as a new one: all faces are forgotten.
        """
        if time_s < self._time_s:
            self.reset()
        self._time_s = time_s
        pairs = self._match(detections, time_s)
        for track_index, found_index in pairs:
            self._tracks[track_index].see(detections[found_index], time_s, self._config)
        seen = {track_index for track_index, _ in pairs}
        kept: list[_Track] = []
        for index, track in enumerate(self._tracks):
            if index not in seen:
                track.missed += 1
                track.hits = 0 if track.hits < self._config.confirm_hits else track.hits
                hold_s = min(self._config.hold_s, track.seen_s - track.born_s)
                # The tolerance is for sums of frame durations that are not exact in floats.
                if track.hits == 0:
                    continue
                if time_s - track.seen_s > hold_s + 1e-6:
                    self._gone.append((time_s, track.face(track.seen_s)))
                    continue
            kept.append(track)
        taken = {found_index for _, found_index in pairs}
        for found_index, found in enumerate(detections):
            if found_index not in taken:
                kept.append(_Track(self._identify(found, time_s), found, time_s))
        self._tracks = kept
        return self._faces(time_s)

    def move(self, motions: Mapping[int, Motion]) -> None:
        """Move faces along with the picture, by identity, from the frame before to the next.

        This is no measurement to be smoothed: the box keeps its place on the face, and what later
        detections correct is all that is filtered. So a moving face has a box without lag.
        """
        for track in self._tracks:
            if motion := motions.get(track.id):
                track.move(motion)

    def coast(self, time_s: float) -> tuple[Face, ...]:
        """Give the faces of a frame on which detection did not run, moved on by their speed."""
        if time_s < self._time_s:
            self.reset()
        self._time_s = time_s
        return self._faces(time_s)

    def reset(self) -> None:
        """Forget all faces."""
        self._tracks = []
        self._gone.clear()
        self._time_s = -math.inf

    def _identify(self, found: Detection, time_s: float) -> int:
        """The identity of a face that was let go here, or a new one."""
        for entry in reversed(self._gone):
            gone_s, face = entry
            recent = time_s - gone_s <= self._config.recall_s
            if recent and _overlap(face, found) > _SAME_PLACE:
                self._gone.remove(entry)
                return face.id
        self._next_id += 1
        return self._next_id - 1

    def _match(self, detections: Sequence[Detection], time_s: float) -> list[tuple[int, int]]:
        """Pair tracks with detections, closest pair first.

        The distance is that between centres in box sizes plus the relative difference in size;
        with the speed taken into account this keeps identities apart where faces cross, where
        overlap alone cannot.
        """
        if not self._tracks or not detections:
            return []
        expected = np.array([track.expected(time_s) for track in self._tracks])[:, None, :]
        found = np.array([(d.x + d.w / 2, d.y + d.h / 2, d.w, d.h) for d in detections])[None]
        size_a, size_b = (
            np.sqrt(expected[..., 2] * expected[..., 3]),
            np.sqrt(found[..., 2] * found[..., 3]),
        )
        step = np.hypot(expected[..., 0] - found[..., 0], expected[..., 1] - found[..., 1])
        distance = step / np.sqrt(size_a * size_b) + 0.5 * np.abs(np.log(size_a / size_b))
        pairs: list[tuple[int, int]] = []
        free_tracks, free_found = set(range(len(self._tracks))), set(range(len(detections)))
        rows, columns = np.nonzero(distance < self._config.max_step)
        for k in np.argsort(distance[rows, columns], kind="stable"):
            pair = (int(rows[k]), int(columns[k]))
            if pair[0] in free_tracks and pair[1] in free_found:
                pairs.append(pair)
                free_tracks.remove(pair[0])
                free_found.remove(pair[1])
        return pairs

    def _faces(self, time_s: float) -> tuple[Face, ...]:
        """Give the confirmed faces at a time; one held behind a face seen just now is hidden."""
        shown = [t for t in self._tracks if t.hits >= self._config.confirm_hits]
        faces = [track.face(time_s) for track in shown]
        seen = [face for face in faces if face.missed == 0]
        return tuple(
            face
            for face in faces
            if face.missed == 0 or not any(_covers(other, face) for other in seen)
        )


class _OneEuro:
    """The One-Euro filter of one number: steady when still, quick when it moves.

    Casiez, Roussel, Vogel: "1 Euro Filter: A Simple Speed-based Low-pass Filter for Noisy Input in
    Interactive Systems", CHI 2012. A low-pass whose cutoff grows with the speed. For constant speed
    v the lag is v / (2 pi (cutoff + beta v)), never above 1 / (2 pi beta).
    """

    __slots__ = ("_raw", "speed", "value")

    def __init__(self, value: float) -> None:
        self.value = value
        self.speed = 0.0
        self._raw = value

    def step(
        self, raw: float, dt_s: float, unit: float, cutoff_hz: float, beta: float, speed_hz: float
    ) -> None:
        """Take the next measurement; ``unit`` is the length in which speed is counted."""
        if dt_s > 0:
            speed = (raw - self._raw) / dt_s
            self.speed += _weight(speed_hz, dt_s) * (speed - self.speed)
            cutoff = cutoff_hz + beta * abs(self.speed) / unit
            self.value += _weight(cutoff, dt_s) * (raw - self.value)
        self._raw = raw

    def shift(self, by: float) -> None:
        """Move along: no step, no speed."""
        self.value += by
        self._raw += by

    def stretch(self, factor: float) -> None:
        """Grow along: no step, no speed."""
        self.value *= factor
        self._raw *= factor


def _weight(cutoff_hz: float, dt_s: float) -> float:
    """Weight of the new value in an exponential filter of this cutoff (equation 5 of the paper)."""
    return 1.0 / (1.0 + 1.0 / (2.0 * math.pi * cutoff_hz * dt_s))


_SAME_PLACE = 0.5
"""A face found again shares this much of its box with where it was: of what both cover."""

_GONE = 32
"""So many faces that were let go are remembered."""

_COAST_S = 0.15
"""Without detections a face slows down within about this time: a guess must not run away."""


class _Track:
    """One face over time."""

    __slots__ = ("_axes", "_last", "born_s", "hits", "id", "missed", "score", "seen_s")

    def __init__(self, id: int, found: Detection, time_s: float) -> None:
        self.id = id
        self.born_s = time_s
        self._last = _centered(found)
        self._axes = tuple(_OneEuro(value) for value in self._last)
        self.score = found.score
        self.seen_s = time_s
        self.hits = 1
        self.missed = 0

    def see(self, found: Detection, time_s: float, config: TrackerConfig) -> None:
        """Take the detection that is this face."""
        self._last = _centered(found)
        size = math.sqrt(found.w * found.h)
        for axis, raw, cutoff_hz, beta in zip(
            self._axes,
            self._last,
            (config.center_cutoff_hz,) * 2 + (config.size_cutoff_hz,) * 2,
            (config.center_beta,) * 2 + (config.size_beta,) * 2,
            strict=True,
        ):
            axis.step(raw, time_s - self.seen_s, size, cutoff_hz, beta, config.speed_cutoff_hz)
            lag = config.max_lag * size
            axis.value = min(max(axis.value, raw - lag), raw + lag)
        self.score = found.score
        self.seen_s = time_s
        self.hits += 1
        self.missed = 0

    def move(self, motion: Motion) -> None:
        """Move with the picture: place, expectation and what the next step is measured against."""
        x, y, w, h = self._last
        grow = motion.growth
        self._last = (x + motion.dx, y + motion.dy, w * grow, h * grow)
        for axis, step in zip(self._axes[:2], (motion.dx, motion.dy), strict=True):
            axis.shift(step)
        for axis in self._axes[2:]:
            axis.stretch(grow)

    def expected(self, time_s: float) -> tuple[float, float, float, float]:
        """Where a detection is expected: centre x, y, width, height, without smoothing lag."""
        ahead_s = _ahead(time_s - self.seen_s)
        x, y, w, h = self._last
        return x + self._axes[0].speed * ahead_s, y + self._axes[1].speed * ahead_s, w, h

    def face(self, time_s: float) -> Face:
        """Give the smoothed box at a time, moved on from where it was last seen."""
        ahead_s = _ahead(time_s - self.seen_s)
        x, y, w, h = (axis.value for axis in self._axes)
        x += self._axes[0].speed * ahead_s
        y += self._axes[1].speed * ahead_s
        return Face(self.id, x - w / 2, y - h / 2, w, h, self.score, self.missed)


def _ahead(dt_s: float) -> float:
    """Seconds of full speed that a face slowing down moves on in ``dt_s``."""
    return _COAST_S * (1.0 - math.exp(-dt_s / _COAST_S))


def _centered(found: Detection) -> tuple[float, float, float, float]:
    """Centre x, centre y, width, height."""
    return found.x + found.w / 2, found.y + found.h / 2, found.w, found.h


def _overlap(a: Face, b: Detection) -> float:
    """The area two boxes share over the area they cover together."""
    shared_w = max(0.0, min(a.x + a.w, b.x + b.w) - max(a.x, b.x))
    shared_h = max(0.0, min(a.y + a.h, b.y + b.h) - max(a.y, b.y))
    shared = shared_w * shared_h
    return shared / (a.w * a.h + b.w * b.h - shared)


def _covers(a: Face, b: Face) -> bool:
    """Whether ``a`` covers most of ``b`` or shares most of its area with it."""
    shared_w = min(a.x + a.w, b.x + b.w) - max(a.x, b.x)
    shared_h = min(a.y + a.h, b.y + b.h) - max(a.y, b.y)
    return shared_w > 0 and shared_h > 0 and shared_w * shared_h > 0.5 * min(a.w * a.h, b.w * b.h)
