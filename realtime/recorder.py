"""Delivered frames go into a file here while the run goes on, started and stopped at will."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

from cagface_core import Frame, OutputError
from realtime.live_encode import LiveEncoder
from realtime.mailbox import Cancelled, Finished, LatestFrame
from realtime.note import NOTE
from realtime.partial_file import check_output

_log = logging.getLogger(__name__)

_QUEUE = 8
"""Frames that wait for the encoder; more are dropped, so that it never holds up the run."""

# Fragments of half a second, flushed at once: what was written stays playable whatever ends the
# process. A recording that is closed becomes an ordinary MP4, which every editor can seek in.
_CONTAINER_OPTIONS = {
    ".mp4": {"movflags": "hybrid_fragmented", "frag_duration": "500000", "flush_packets": "1"},
    ".mkv": {"cluster_time_limit": "500", "flush_packets": "1"},
}
_CODEC_OPTIONS = {"preset": "superfast", "crf": "20", "bf": "0"}
_CLOSE_TIMEOUT_S = 10.0


class Recorder:
    """A sink that writes to a file from `start` to `stop`, and nothing in between.

    The file is encoded by a thread of its own. What that thread has no time for is dropped and
    counted; a file that breaks (disk full) ends the recording with one logged line and not the
    run. Any thread may start and stop it.

    Args:
        width: of the frames to come, in pixels.
        height: of the frames to come, in pixels.
        rate: the nominal rate in Hz; None means 30.
    """

    def __init__(self, width: int, height: int, rate: Fraction | None) -> None:
        self._size, self._rate = (width, height), rate
        self._lock = threading.Lock()
        self._recording: _Recording | None = None
        self._threads: list[threading.Thread] = []
        self._closed = False
        self._broken: list[OutputError] = []

    @property
    def broken(self) -> bool:
        """Whether a recording has ended before it was to; the log says why."""
        return bool(self._broken)

    @property
    def description(self) -> str:
        """What it is, for people; nothing while at rest."""
        recording = self.recording
        return f"recording {recording}" if recording else ""

    @property
    def recording(self) -> Path | None:
        """The file that is being written; None while at rest."""
        recording = self._recording
        return recording.path if recording is not None and not recording.ended else None

    @property
    def dropped(self) -> int:
        """Frames of this recording, or of the newest, that the encoder had no time for."""
        recording = self._recording
        return recording.frames.dropped if recording is not None else 0

    def start(self, path: Path) -> None:
        """Record into a new file from the next frame on; a recording before it is stopped.

        Raises:
            OutputError: the place cannot be written or the name is taken.
        """
        if path.suffix.lower() not in _CONTAINER_OPTIONS:
            raise OutputError(
                f"{path}: a recording's name ends in .mp4 or .mkv; choose such a name"
            )
        if self._closed:
            raise OutputError(f"{path}: the run has ended; nothing is recorded any more")
        check_output(path, overwrite=False, instead="choose another name")
        try:
            path.touch(exist_ok=False)
        except OSError as error:
            raise OutputError(
                f"{path}: cannot be made ({error.strerror}); choose another folder"
            ) from error
        recording = _Recording(path, lambda: self._encoder(path), self._broken.append)
        thread = threading.Thread(target=recording.run, name="recorder", daemon=True)
        with self._lock:
            if self._recording is not None:
                self._recording.frames.finish()
            self._recording = recording
            self._threads = [old for old in self._threads if old.is_alive()] + [thread]
            thread.start()

    def stop(self) -> Path | None:
        """End the recording at once; its last frames are still written, in the background.

        Returns:
            The file; None if nothing was being recorded, or not one frame came.
        """
        with self._lock:
            recording, path = self._recording, self.recording
            if recording is None:
                return None
            recording.frames.finish()
            recording.ended = True
            return path if recording.begun else None

    def write(self, frame: Frame) -> None:
        """Hand one frame to the encoder while recording; never waits."""
        recording = self._recording
        if recording is not None and not recording.ended:
            try:
                recording.frames.put(frame)
                recording.begun = True
            except Cancelled:  # it broke just now, and says so itself
                return

    def finish(self) -> None:
        """Stop; the file is whole when `close` returns."""
        self.stop()

    def close(self) -> None:
        """Stop, and wait until the file is whole; nothing is recorded after that."""
        self._closed = True
        self.stop()
        for thread in self._threads:
            thread.join(_CLOSE_TIMEOUT_S)

    def _encoder(self, path: Path) -> LiveEncoder:
        return LiveEncoder(
            f"file:{path}",
            str(path),
            *self._size,
            self._rate,
            container_options=_CONTAINER_OPTIONS[path.suffix.lower()],
            codec_options=_CODEC_OPTIONS,
        )


class _Recording:
    """One file, and the thread's work that writes it."""

    def __init__(
        self, path: Path, open_encoder: Callable[[], LiveEncoder],
        on_broken: Callable[[OutputError], None],
    ) -> None:  # fmt: skip
        self.path, self._on_broken = path, on_broken
        self.frames: LatestFrame[Frame] = LatestFrame(_QUEUE)
        self.ended = False
        self.begun = False
        self._open_encoder = open_encoder

    def run(self) -> None:
        encoder, written = None, 0
        try:
            try:
                while True:
                    frame = self.frames.get()
                    # Not before there is a frame: FFmpeg crashes where it is to close a hybrid
                    # fragmented MP4 that has none.
                    encoder = encoder or self._open_encoder()
                    encoder.write(frame)
                    written += 1
            except Finished:
                if encoder is not None:
                    encoder.close()
        except OutputError as error:
            _log.warning("the recording has ended: %s", error)
            self._on_broken(error)
            if not written and self.path.stat().st_size == 0:
                self.path.unlink()
            return
        finally:
            self.ended = True
            self.frames.cancel()
        if not written:  # ended before the first frame: an empty file is no use to anybody
            self.path.unlink(missing_ok=True)
            return
        dropped = self.frames.dropped
        _log.log(
            NOTE,
            "recorded %s into %s%s",
            "1 frame" if written == 1 else f"{written} frames",
            self.path,
            f"; {dropped} more came faster than they could be encoded" if dropped else "",
        )
