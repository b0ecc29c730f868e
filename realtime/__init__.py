"""Threads, clocks, devices and files around ``cagface_core``: the runtime and the command line."""
