"""What is done by name in; how many milliseconds each took out."""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import contextmanager


class Clock:
    """Milliseconds per named step, in ``times_ms``."""

    def __init__(self) -> None:
        self.times_ms: dict[str, float] = {}

    @contextmanager
    def __call__(self, name: str) -> Generator[None]:
        """Time what is done within."""
        begin = time.perf_counter()
        yield
        self.times_ms[name] = (time.perf_counter() - begin) * 1000
