"""An enhancer whose result depends on the frames before, as the real one's does, but fast."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np

from cagface_core import Enhanced, EnhancerConfig, Face, FaceEnhancer, Frame, Tuning
from realtime import ahead
from tests.realtime.helpers import PlainEnhancer


class Memory:
    """What is remembered: a sum over the frames since it began."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.sum = 0


class RememberingEnhancer(PlainEnhancer):
    """Brightens each frame by what it remembers; takes ``wait_s`` for it."""

    def __init__(self, scale: int, wait_s: float) -> None:
        super().__init__(scale)
        self.wait_s = wait_s

    def new_state(self, *, ahead: bool = False) -> Memory:
        return Memory()

    def look(self, frame: Frame, state: Memory) -> tuple[Face, ...]:
        state.sum += 1
        return (Face(id=0, x=state.sum % 9, y=1, w=4, h=4, score=1.0),)

    def enhance(self, frame: Frame, state: Memory, tuning: Tuning | None = None) -> Enhanced:
        time.sleep(self.wait_s)
        assert frame.foreseen is not None
        assert frame.planes is not None
        if frame.foreseen.begins:
            state.reset()
        state.sum = (
            state.sum + int(frame.planes.planes[0].mean()) + len(frame.foreseen.faces)
        ) % 97
        enhanced = super().enhance(frame, state, tuning)
        assert enhanced.planes is not None
        luma = enhanced.planes.planes[0]
        luma[:] = np.clip(luma.astype(int) + state.sum % 16, 0, 255)
        return enhanced


def in_short_pieces(config: EnhancerConfig) -> RememberingEnhancer:
    """Make one, in a process that cuts films into pieces of a second or less from now on."""
    shorten_pieces()
    return RememberingEnhancer(config.scale, 0.0)


def slow_in_short_pieces(config: EnhancerConfig) -> RememberingEnhancer:
    """Take 30 ms a frame, and leave the process's number in the folder named for weights."""
    shorten_pieces()
    Path(config.weights, str(os.getpid())).touch()
    return RememberingEnhancer(config.scale, 0.03)


def deadly_in_short_pieces(config: EnhancerConfig) -> RememberingEnhancer:
    """End the process in the middle of the film."""
    shorten_pieces()
    enhancer = RememberingEnhancer(config.scale, 0.0)
    enhance = enhancer.enhance

    def enhance_or_die(frame: Frame, state: Memory, tuning: Tuning | None = None) -> Enhanced:
        if frame.pts == 150 * 512:
            os._exit(1)
        return enhance(frame, state, tuning)

    enhancer.enhance = enhance_or_die
    return enhancer


def real(config: EnhancerConfig) -> FaceEnhancer:
    """Load the network, and cut films into short pieces."""
    shorten_pieces()
    return FaceEnhancer(config)


def shorten_pieces() -> None:
    """Cut films into pieces of a second or less."""
    ahead._SHORTEST_S, ahead._LONGEST_S, ahead._LEAST_TIMES_AHEAD = 0.5, 1.0, 2
