"""Settings of glibc's allocator; one holds only where it is made before anything else runs."""

from __future__ import annotations

import ctypes
import sys

_M_ARENA_MAX = -8
_HEAPS = 2


def share_heaps() -> bool:
    """Let all threads share two heaps instead of having one each.

    What a thread has freed in a heap of its own helps no other: decoders come and go with their
    threads, and a live run held 40 of 490 MiB, and grew, for nothing. Libraries start threads as
    soon as they are loaded, so this comes before them.

    Returns:
        Whether the allocator took it.
    """
    return set_allocator((_M_ARENA_MAX, _HEAPS))


def give_back() -> bool:
    """Give the system what is free, after work that took far more than what comes.

    Making a network ready leaves hundreds of MiB of that; what frames need is taken anew, once.

    Returns:
        Whether the allocator could; others than glibc's are left as they are.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if _on_linux() else None
    return trim is not None and bool(trim(0))


def set_allocator(*settings: tuple[int, int]) -> bool:
    """Make settings of glibc's, each a parameter of ``mallopt`` and its value.

    Returns:
        Whether the allocator took all of them; others than glibc's are left as they are.
    """
    if not _on_linux():
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and all(mallopt(*setting) for setting in settings)


def _on_linux() -> bool:
    return sys.platform.startswith("linux")
