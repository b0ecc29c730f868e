"""What native libraries print to the process's stderr, turned into debug log lines."""

from __future__ import annotations

import os
import re
import sys
import tempfile
import threading
from collections.abc import Generator
from contextlib import contextmanager
from logging import Logger
from typing import TextIO

# TensorFlow Lite writes "INFO: ...", abseil "W0000 00:00:17... file.cc:12] ...", OpenCV
# "[ WARN:0@0.149] ...", Ray "[2026-11-26 11:59:51,585 W 24887 24887] ...". Errors and anything that
# looks otherwise belong to the user.
_NOISE = re.compile(
    r"(INFO|VERBOSE|WARNING): |[IW]\d{4} \d\d:\d\d:|\[ *(INFO|WARN):|\[[-\d]+ [\d:,]+ [IW] "
)

# File descriptor 2 is one per process: two threads that both swap it would restore it wrongly.
_swap = threading.Lock()


@contextmanager
def native_stderr_to_log(log: Logger) -> Generator[None]:
    """Send the informational lines native code prints to stderr meanwhile to ``log`` as debug.

    Native loggers ignore Python's ``sys.stderr`` and, in MediaPipe 1.x, their environment
    variables too, so the file descriptor itself is swapped. Keep the block short: other threads
    share it. Lines that are not recognised as informational (errors, tracebacks of other threads)
    are written to the real stderr when the block ends; an exception raised inside passes through.
    """
    with _swap, tempfile.TemporaryFile() as captured:
        if is_console_2(sys.stderr):  # other threads' writes would fail: rather some noise
            yield
            return
        try:
            real_fd = os.dup(2)
        except OSError:  # no stderr at all (pythonw, some services): nothing to keep quiet
            yield
            return
        _flush_stderr()
        os.dup2(captured.fileno(), 2)
        try:
            yield
        finally:
            _flush_stderr()
            os.dup2(real_fd, 2)
            os.close(real_fd)
            captured.seek(0)
            for line in captured.read().decode(errors="replace").splitlines(keepends=True):
                if _NOISE.match(line):
                    log.debug("%s", line.rstrip())
                else:
                    os.write(2, line.encode())


def is_console_2(stream: TextIO | None) -> bool:
    """Whether a stream writes to a console of Windows by descriptor 2, which must not be swapped.

    At each write Python asks of what console the descriptor is, and fails where it is of none.
    """
    return (
        sys.platform == "win32"
        and stream is not None
        and not stream.closed
        and stream.isatty()
        and stream.fileno() == 2
    )


def _flush_stderr() -> None:
    """Write out what Python holds back, so that it lands on the side it was written for."""
    stream = sys.stderr
    if stream is not None and not stream.closed:  # pyright: ignore[reportUnnecessaryComparison]
        stream.flush()
