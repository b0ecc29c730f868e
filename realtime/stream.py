"""Delivered frames go out to a network stream here; a thread encodes, sends and reconnects."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Generator
from fractions import Fraction
from urllib.parse import urlsplit

from cagface_core import ConfigError, Frame, OutputError
from realtime.live_encode import LiveEncoder
from realtime.mailbox import Cancelled, Finished, LatestFrame
from realtime.reopening import BackOff

_log = logging.getLogger(__name__)

_CONTAINERS = {"udp": "mpegts", "tcp": "mpegts", "srt": "mpegts", "rtmp": "flv", "rtmps": "flv"}
_QUEUE = 2
"""Frames that wait for the network; what is older is dropped: late is worse than missing."""
_CONTAINER_OPTIONS = {
    "mpegts": {"flush_packets": "1"},
    "flv": {"flush_packets": "1", "flvflags": "no_duration_filesize"},
}
_TCP_TIMEOUT = "?timeout=5000000"
"""In microseconds, for a receiver that is there but takes nothing; FFmpeg waits for ever unless
told, and only in the URL can it be told."""
_PROVEN_S = 2.0
"""A stream that is sent for so long counts as back."""
_CLOSE_TIMEOUT_S = 6.0


class StreamSink:
    """Sends to a URL: low latency, a key frame every second, never in the way of the run.

    A stream that cannot be opened, or breaks, is opened again with longer and longer waits; one
    line is logged when it is lost and one when it is back.

    Args:
        url: udp://, tcp:// and srt:// carry MPEG-TS, rtmp:// and rtmps:// FLV.
        width: of the frames to come, in pixels.
        height: of the frames to come, in pixels.
        rate: the nominal rate in Hz; None means 30.

    Raises:
        ConfigError: the URL is of another kind.
    """

    def __init__(self, url: str, width: int, height: int, rate: Fraction | None) -> None:
        scheme = url.partition("://")[0].lower()
        if scheme not in _CONTAINERS or "://" not in url:
            kinds = ", ".join(f"{name}://" for name in _CONTAINERS)
            raise ConfigError(f"--stream: expected a URL that begins with one of {kinds}")
        _check_address(url, scheme)
        # Not the whole of it: a path may be the key with which others could send in its place.
        self.description = f"stream to {scheme}://{urlsplit(url).netloc.rpartition('@')[2]}"
        self._url, self._container = url, _CONTAINERS[scheme]
        self._size, self._rate = (width, height), rate
        self._frames: LatestFrame[Frame] = LatestFrame(_QUEUE)
        self._thread = threading.Thread(target=self._run, name="stream", daemon=True)
        self._thread.start()

    @property
    def dropped(self) -> int:
        """Frames that the network had no time for, those of its absence included."""
        return self._frames.dropped

    def write(self, frame: Frame) -> None:
        """Hand one frame to the thread that sends; never waits."""
        self._frames.put(frame)

    def finish(self) -> None:
        """Send what is there and end the stream."""
        self._frames.finish()

    def close(self) -> None:
        """End the stream; waits a few seconds at most for a network that does not answer."""
        self._frames.finish()
        self._frames.cancel()
        self._thread.join(_CLOSE_TIMEOUT_S)

    def _run(self) -> None:
        back_off, lost = BackOff(), False
        while True:
            try:
                encoder = self._connect()
                for sent_s in self._send(encoder):
                    # Not at once: there are receivers that accept and hang up, again and again.
                    if sent_s >= _PROVEN_S and lost:
                        _log.warning("%s is back", self.description)
                        back_off, lost = BackOff(), False
            except (Finished, Cancelled):
                return
            except OutputError as error:
                if not lost:
                    _log.warning("%s; the run goes on and tries to connect again", error)
                lost = True
                if self._frames.wait_cancelled(back_off.next_wait_s()):
                    return

    def _connect(self) -> LiveEncoder:
        rate = self._rate or Fraction(30)
        bare_tcp = self._url.startswith("tcp:") and "?" not in self._url
        return LiveEncoder(
            self._url + (_TCP_TIMEOUT if bare_tcp else ""),
            self.description,
            *self._size,
            rate,
            container=self._container,
            container_options=_CONTAINER_OPTIONS[self._container],
            codec_options={
                "preset": "superfast",
                "tune": "zerolatency",
                "crf": "23",
                "g": str(max(1, round(rate))),
            },
        )

    def _send(self, encoder: LiveEncoder) -> Generator[float]:
        """Send frames until there are no more, which raises `Finished`, or the network breaks.

        Yields after each for how long it has sent, in seconds.
        """
        begin_s = time.monotonic()
        try:
            while True:
                encoder.write(self._frames.get())
                yield time.monotonic() - begin_s
        finally:
            encoder.close()


def _check_address(url: str, scheme: str) -> None:
    """Refuse what no network can make good. Raises `ConfigError`."""
    try:
        place = urlsplit(url)
        host, port = place.hostname, place.port
    except ValueError:  # whose words may hold a password
        raise ConfigError(
            f"--stream: that URL's host or port is not possible; expected {scheme}://HOST:PORT"
        ) from None
    if not (host or "listen" in place.query or "mode=listener" in place.query):
        raise ConfigError(f"--stream: that URL names no host; expected {scheme}://HOST:PORT")
    if port is None and not scheme.startswith("rtmp"):
        raise ConfigError(f"--stream: that URL names no port; expected {scheme}://HOST:PORT")
