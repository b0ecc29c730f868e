"""The engine's pictures: what a filter gets is what the enhancer makes of its frames."""

from __future__ import annotations

from contextlib import ExitStack, closing
from dataclasses import replace
from fractions import Fraction

import cv2
import numpy as np
import pytest

from cagface_core import FaceEnhancer, Frame
from realtime import filter_stream
from realtime.filter_stream import FilterStream
from realtime.plain import upscale
from realtime.wire import Header, Kind
from tests.realtime.filters import (
    CONFIG,
    LONG_S,
    Filter,
    bgra_frames,
    engine,
    filter_threads,
    refusal,
    until,
)

STEP_S = 0.04


@pytest.fixture(scope="module")
def served():
    with engine() as running:
        yield running


@pytest.fixture(scope="module")
def enhancer():
    with FaceEnhancer(CONFIG) as made:
        yield made


@pytest.fixture(scope="module")
def frames(demo_clip):
    return bgra_frames(demo_clip, 10)


@pytest.fixture
def obs(served):
    with closing(Filter(served.connect())) as made:
        yield made


def expected(enhancer, frames, **changes):
    """What the enhancer makes of a stream of its own, as BGR."""
    state, tuning = enhancer.new_state(), replace(enhancer.tuning, **changes)
    for index, bgra in enumerate(frames):
        frame = Frame(rgb_of(bgra), round(index * STEP_S * 1e9), Fraction(1, 10**9))
        yield enhancer.enhance(frame, state, tuning)


def rgb_of(bgra):
    return np.ascontiguousarray(bgra[..., 2::-1])


def assert_same(bgra, enhanced):
    """Equal, but for the order in which several threads add up: less than a level on average."""
    assert (bgra[..., 3] == 255).all()
    difference = np.abs(rgb_of(bgra).astype(int) - enhanced.rgb.astype(int))
    assert difference.mean() < 0.02
    assert difference.max() <= 3


@pytest.mark.parametrize("scale", [1, 2, 4])
def test_a_stream_is_enhanced_as_the_enhancer_does_it(obs, enhancer, frames, scale):
    assert obs.welcome.kind is Kind.WELCOME
    assert obs.welcome.device == "cpu-float32"
    shown = frames if scale == 2 else frames[:3]
    for index, wanted in enumerate(expected(enhancer, shown, scale=scale)):
        header, bgra = obs.result(shown[index], index * STEP_S, scale=scale, preset="auto")
        assert header.face_count == len(wanted.faces) == 1
        assert (header.width_px, header.height_px, header.scale) == (
            320 * scale,
            240 * scale,
            scale,
        )
        assert header.frame_ms > 0
        assert (header.fps > 0) == (index > 0)
        assert_same(bgra, wanted)
        plain = cv2.resize(rgb_of(shown[index]), (320 * scale, 240 * scale))
        assert np.abs(plain.astype(int) - rgb_of(bgra)).max() > 8, "something was enhanced"


def test_filters_at_once_have_tracks_of_their_own(served, enhancer, frames):
    mirrored = [np.ascontiguousarray(bgra[:, ::-1]) for bgra in frames[:6]]
    with closing(Filter(served.connect())) as one, closing(Filter(served.connect())) as other:
        pairs = zip(
            expected(enhancer, frames[:6], scale=2), expected(enhancer, mirrored, scale=1),
            strict=True,
        )  # fmt: skip
        for index, (first, second) in enumerate(pairs):
            assert_same(one.result(frames[index], index * STEP_S, scale=2)[1], first)
            assert_same(other.result(mirrored[index], index * STEP_S)[1], second)


@pytest.mark.parametrize("scale", [1, 2, 4])
def test_strength_0_is_the_plain_upscale(obs, frames, scale):
    for index, bgra in enumerate(frames[:3]):
        header, result = obs.result(bgra, index * STEP_S, scale=scale, strength=0.0)
        assert header.face_count == 0
        np.testing.assert_array_equal(rgb_of(result), upscale(rgb_of(bgra), scale))
        assert (result[..., 3] == 255).all()


def test_only_the_largest_face_where_that_is_asked(served, obs, frames):
    large = cv2.resize(frames[0], (400, 300))
    both = np.zeros((300, 720, 4), np.uint8)
    both[..., 3] = 255
    both[:, :400], both[:240, 400:] = large, frames[0]
    header, everyone = obs.result(both, 0.0)
    assert header.face_count == 2
    with closing(Filter(served.connect())) as second:
        header, largest = second.result(both, 0.0, largest_face_only=True)
    assert header.face_count == 1
    np.testing.assert_array_equal(largest[:, 420:], both[:, 420:])
    assert (everyone[:, 420:] != both[:, 420:]).any()


def test_alpha_comes_back_as_it_came(obs, frames):
    bgra = frames[0].copy()
    bgra[..., 3] = np.arange(320, dtype=np.uint8)[None]
    _, same = obs.result(bgra)
    np.testing.assert_array_equal(same[..., 3], bgra[..., 3])
    _, larger = obs.result(bgra, scale=2)
    np.testing.assert_array_equal(larger[..., 3], upscale(np.ascontiguousarray(bgra[..., 3]), 2))
    bgra[..., 3] = 255
    bgra[-1, -1, 3] = 254  # one pixel that is not opaque is enough
    assert obs.result(bgra)[1][-1, -1, 3] == 254


def test_a_frame_that_fails_passes_through(served, frames, monkeypatch, caplog):
    def fail(*_):
        raise RuntimeError("the network tripped")

    with closing(Filter(served.connect())) as obs:
        with monkeypatch.context() as patch:
            patch.setattr(served.shared, "enhance", fail)
            for scale in (1, 2, 4):
                header, bgra = obs.result(frames[0], scale=scale)
                assert header.face_count == 0
                np.testing.assert_array_equal(rgb_of(bgra), upscale(rgb_of(frames[0]), scale))
        assert obs.result(frames[0])[0].face_count == 1
    assert until(lambda: len(caplog.messages) == 2)
    assert "passes through (RuntimeError: the network tripped)" in caplog.messages[0]
    assert caplog.messages[1] == "a filter has gone; of its 4 frames 3 could not be enhanced"


def test_the_smallest_picture(obs):
    pixel = np.array([[[10, 20, 30, 40]]], np.uint8)
    header, bgra = obs.result(pixel, scale=4)
    assert header.face_count == 0
    np.testing.assert_array_equal(bgra, np.broadcast_to(pixel, (4, 4, 4)))


def test_size_and_time_may_jump(obs, frames):
    assert obs.result(frames[0], 100.0)[0].face_count == 1
    small = cv2.resize(frames[0], (160, 120))
    assert obs.result(small, 100.04)[1].shape == (120, 160, 4)
    assert obs.result(frames[0], 3.0)[0].face_count == 1
    assert obs.result(frames[0], 2.0**64 / 1e9 * 0.9)[0].face_count == 1


def test_a_preset_that_is_not_there_is_told_once(served, frames, caplog):
    with closing(Filter(served.connect())) as obs:
        for index in range(3):
            header, _ = obs.result(frames[index], index * STEP_S, preset="huge")
            assert header.face_count == 1
    told = [line for line in caplog.messages if "huge" in line]
    assert len(told) == 1
    assert "expected one of pico, nano, small; pico goes on" in told[0]


def test_another_preset_is_loaded_while_frames_go_on(served, enhancer, frames):
    wanted = next(iter(expected(enhancer, frames[:1], scale=2, preset="nano")))
    with closing(Filter(served.connect())) as obs:
        pico = obs.result(frames[0], 0.0, scale=2)[1]

        def arrived():
            # A jump back in time begins a new stream, so each is a first frame.
            obs.result(np.zeros_like(frames[0]), 1.0, scale=2, preset="nano")
            bgra = obs.result(frames[0], 0.0, scale=2, preset="nano")[1]
            assert (bgra == pico).mean() > 0.2
            return np.abs(rgb_of(bgra).astype(int) - wanted.rgb.astype(int)).max() <= 3

        assert until(arrived)


def test_a_result_that_is_too_large_is_refused(obs):
    wide = np.zeros((2, 4097, 4), np.uint8)
    obs.send(wide, scale=2)
    assert refusal(obs.peer) == ("4097x2 at scale 2 is larger than 8192 px; choose a smaller scale")
    assert until(lambda: filter_threads() == 0)


def test_filters_share_the_time_and_what_is_spared_keeps_the_size(served, frames, monkeypatch):
    monkeypatch.setattr(filter_stream, "_ACTIVE_S", LONG_S)
    asked = Header(Kind.FRAME, frames[0].nbytes, width_px=320, height_px=240, scale=4)
    with ExitStack() as stack:
        streams = [
            stack.enter_context(closing(FilterStream(served.shared, governor=True)))
            for _ in range(3)
        ]
        for stream in streams:
            stream.result(asked, frames[0])
        alone, last = streams[0]._governor.rate_hz, streams[2]._governor.rate_hz
        assert last == alone + 60
        for level in range(20):
            monkeypatch.setattr(streams[0]._governor, "_rise", lambda: None)
            streams[0]._governor._level = min(level, len(streams[0]._governor._levels) - 1)
            streams[0]._governor._loads.clear()
            assert streams[0].result(asked, frames[0]).bgra.shape == (960, 1280, 4)
        assert streams[0]._governor.what == "no enhancement"
