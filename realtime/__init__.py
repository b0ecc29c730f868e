"""Threads, clocks, devices and files around ``cagface_core``: the runtime and the command line."""

from realtime.heaps import share_heaps

share_heaps()
