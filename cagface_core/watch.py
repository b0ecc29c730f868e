"""A frame in; its faces, found and tracked, out."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from cagface_core.detect import Detector
from cagface_core.looks import Look
from cagface_core.state import State
from cagface_core.types import Face, Frame


class Watcher:
    """Finds and tracks the faces of streams; the detector looks in a thread of its own.

    Live, no frame waits for the detector that can do without: where all known faces can be
    followed by their motion, what it finds in a frame counts from the next one on. So the faces of
    a stream are the same however long it takes.
    """

    def __init__(self, *, waits: bool) -> None:
        """Start its thread; ``waits``: every frame waits for what is found in it."""
        self._waits = waits
        self._thread = ThreadPoolExecutor(1, "look")

    def look(self, frame: Frame, state: State, detector: Detector) -> tuple[Face, ...]:
        """Find the faces of the next frame, or take those foreseen.

        Args:
            frame: of the stream that ``state`` remembers.
            state: changed in place.
            detector: looks where a look is due; only this thread uses it.
        """
        if frame.foreseen is not None:
            if frame.foreseen.begins:
                state.reset()
            return frame.foreseen.faces
        if state.cuts.is_cut(frame.rgb):
            state.forget_faces()
        looking, state.looking = state.looking, None
        if looking is not None:  # at the frame before: its faces have moved since
            state.faces = state.tracker.update(looking.result(), state.looked_s)
        motions = state.follower.follow(frame.rgb)
        look = state.looks.next(state.faces, motions, frame.time_s)
        state.tracker.move(motions)
        state.faces = state.tracker.coast(frame.time_s)
        if look is not Look.NONE:
            search, part = look is Look.SEARCH, state.looks.part
            looking = self._thread.submit(
                detector.detect, frame.rgb, state.faces, search=search, part=part
            )
            followed = bool(state.faces) and all(face.id in motions for face in state.faces)
            if self._waits or not followed:
                state.faces = state.tracker.update(looking.result(), frame.time_s)
            else:
                state.looking, state.looked_s = looking, frame.time_s
        state.follower.remember(frame.rgb, state.faces)
        return state.faces

    def close(self) -> None:
        """End the thread, once the detector has done what it does."""
        self._thread.shutdown()
