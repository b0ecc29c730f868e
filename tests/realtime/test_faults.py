"""What goes wrong in a day of live use, provoked for real: the run goes on, nothing piles up.

Lost cameras and changed sizes are in test_camera.py, time that jumps in test_pacer.py, sinks that
go in test_virtualcam.py, the panel's guests in test_panel.py, a full GPU in core/test_gpu.py.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import closing
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from cagface_core import EnhancerConfig, FaceEnhancer, Frame, Outcome
from realtime.handles import Live
from realtime.live_bench import LoopedFrames
from realtime.run import LiveJob, Watcher, run_live
from tests.realtime.helpers import PlainEnhancer, picture

ROOT = Path(__file__).parents[2]


class Witness:
    """Notes every picture of a run: when it was delivered, its latency, what became of faces."""

    def __init__(self):
        self.live: Live | None = None
        self.pts: list[int] = []
        self.latency_ms: list[float] = []
        self.outcomes: list[tuple[Outcome, ...]] = []

    @property
    def watcher(self) -> Watcher:
        return Watcher(on_live=lambda live: setattr(self, "live", live), on_delivered=self.note)

    def note(self, _stats):
        shown = self.live.monitor.newest
        self.pts.append(shown.frame.pts)
        self.latency_ms.append(1e3 * (time.perf_counter() - shown.frame.captured_s))
        self.outcomes.append(shown.enhanced.outcomes)

    def assert_in_order(self):
        assert len(self.pts) > 5
        assert all(a < b for a, b in pairwise(self.pts))


@pytest.fixture(scope="module")
def shots(demo_clip: Path) -> list[np.ndarray]:
    with av.open(str(demo_clip)) as container:
        decoded = [f for f, _ in zip(container.decode(video=0), range(20), strict=False)]
    return [f.to_ndarray(format="rgb24") for f in decoded]


def run(frames, make_enhancer, seconds: float, rate_hz: int = 30):
    witness = Witness()
    source = LoopedFrames(frames, rate_hz, round(rate_hz * seconds))
    before = threading.active_count()
    summary = run_live(LiveJob(source, 1, virtual_camera=False), make_enhancer, witness.watcher)
    assert threading.active_count() == before
    witness.assert_in_order()
    return witness, summary


def test_an_engine_that_hangs_costs_its_frames_and_no_latency_after():
    class Hanging(PlainEnhancer):
        def enhance(self, frame, state, tuning=None):
            if next(self.calls) == 30:
                time.sleep(5)
            return super().enhance(frame, state, tuning)

    witness, summary = run([picture(0, 64, 48)], lambda: Hanging(1), seconds=8)
    hung = int(np.argmax(witness.latency_ms))
    assert witness.latency_ms[hung] > 4900
    # At most what was captured before the hang and could not be delivered comes late.
    assert max(witness.latency_ms[hung + 2 :]) < 500
    assert summary.dropped > 100
    assert witness.live.governor.decisions == ()


@pytest.mark.parametrize(
    ("fault", "outcome"),
    [("not a number", Outcome.GUARDED), ("black", Outcome.GUARDED), ("memory", Outcome.FAILED)],
)
def test_a_network_that_fails_for_a_while_leaves_the_face_plain_and_comes_back(
    shots, monkeypatch, fault, outcome
):
    def make():
        enhancer = FaceEnhancer(EnhancerConfig(scale=1, device="cpu-float32"))
        residual, calls = enhancer.engine.residual, iter(range(10_000))

        def broken(pictures, *rest):
            added = residual(pictures, *rest)
            if not 10 <= next(calls) < 20:
                return added
            if fault == "memory":
                raise torch.OutOfMemoryError("no memory")
            return added * np.nan if fault == "not a number" else added - 200

        monkeypatch.setattr(enhancer.engine, "residual", broken)
        return enhancer

    witness, summary = run(shots, make, seconds=5)
    flat = [outcomes[0] for outcomes in witness.outcomes if outcomes]
    assert flat[:10] == [Outcome.ENHANCED] * 10
    assert flat[10:20] == [outcome] * 10
    assert flat[20:25] == [Outcome.ENHANCED] * 5
    assert summary.counts[f"faces_{outcome.value}"] == 10


def test_nobody_for_a_minute_and_then_somebody(shots):
    with closing(FaceEnhancer(EnhancerConfig(scale=1, device="cpu-float32"))) as enhancer:
        state = enhancer.new_state()
        empty = np.full_like(shots[0], 120)
        for index in range(60 * 30):
            result = enhancer.enhance(Frame(empty, index * 33_333), state)
            assert result.faces == ()
        begin_us = 60 * 1_000_000
        for index, rgb in enumerate(shots):
            result = enhancer.enhance(Frame(rgb, begin_us + index * 33_333), state)
        assert result.outcomes == (Outcome.ENHANCED,)


def test_ten_faces_lower_the_quality_and_not_the_rate(shots):
    crowd = [np.tile(rgb[:, 40:280], (2, 5, 1)) for rgb in shots]

    witness, _ = run(
        crowd, lambda: FaceEnhancer(EnhancerConfig(scale=1, max_faces=10)), seconds=12, rate_hz=20
    )
    assert max(len(outcomes) for outcomes in witness.outcomes) >= 8
    assert witness.live.governor.level > 0
    # Once it has found its level, frames wait for nobody: no more than two are on their way.
    settled = witness.latency_ms[len(witness.latency_ms) // 2 :]
    assert np.median(settled) < 2.5 * 1000 / 20
    assert len(settled) > 0.3 * 12 * 20 / 2


@pytest.mark.skipif(os.name != "posix", reason="signals are sent the POSIX way")
@pytest.mark.parametrize("after_s", [0.3, 1.0, 2.0, 4.0])
def test_ctrl_c_at_any_moment(after_s: float):
    program = subprocess.Popen(
        [
            sys.executable, "-c", "from realtime.cli import live; import sys; sys.exit(live())",
            "--webcam", str(ROOT / "assets" / "demo.mp4"), "--loop", "--no-virtual-camera",
        ],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        # A shell that starts a program in the background makes it deaf to Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    time.sleep(after_s)
    program.send_signal(signal.SIGINT)
    _, errors = program.communicate(timeout=60)
    assert program.returncode in (0, 130, -signal.SIGINT)
    assert "Traceback" not in errors or after_s < 1, errors


@pytest.mark.parametrize(("nominal", "held"), [(90_000, 30), (1000, 30), (25, 25)])
def test_a_rate_that_is_only_a_clocks_is_not_held(nominal, held):
    source = LoopedFrames([picture(0, 64, 48)], 25, 10)
    source.info = replace(source.info, rate=Fraction(nominal))
    witness = Witness()
    run_live(
        LiveJob(source, 1, virtual_camera=False), lambda: PlainEnhancer(1), witness.watcher
    )  # fmt: skip
    assert witness.live.governor.rate_hz == held
