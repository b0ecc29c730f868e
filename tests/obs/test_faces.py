"""The real engine behind the filter: faces change, all else is the plain enlargement."""

from __future__ import annotations

import av
import cv2
import numpy as np
import pytest

from cagface_core import EnhancerConfig, FaceEnhancer, Frame
from realtime.plain import upscale
from tests.obs.processes import ENGINE_ROOT, EngineProcess
from tests.obs.studio import until

SCALE = 2


@pytest.fixture(scope="module")
def address(bare_obs):
    """Of ``cagface serve``, which makes a token of its own."""
    if ENGINE_ROOT is None:
        pytest.skip("there is no `cagface serve` in this tree yet")
    (bare_obs.data / "cagface-live" / "obs-token").unlink()
    engine = EngineProcess(bare_obs.data)
    try:
        yield engine.serve("pico").address
    finally:
        engine.end()


@pytest.fixture(scope="module")
def frame(demo_clip):
    """The demo clip's 26th frame, ``(240, 320, 3)`` uint8 RGB."""
    with av.open(str(demo_clip)) as clip:
        for number, picture in enumerate(clip.decode(video=0)):
            if number == 25:
                return picture.to_ndarray(format="rgb24")
    raise AssertionError("the clip is too short")


@pytest.fixture(scope="module")
def near_faces(frame):
    """Where faces and what is around them may change, ``(480, 640)`` bool."""
    mask = np.zeros((240 * SCALE, 320 * SCALE), bool)
    with FaceEnhancer(EnhancerConfig(mode="image", preset="pico", scale=1)) as enhancer:
        faces = enhancer.enhance(Frame(frame), enhancer.new_state()).faces
    assert faces
    for face in faces:
        middle_x, middle_y, side = face.x + face.w / 2, face.y + face.h / 2, max(face.w, face.h)
        left, top = int((middle_x - side) * SCALE), int((middle_y - side) * SCALE)
        size = int(2 * side * SCALE)
        mask[max(top, 0) : top + size, max(left, 0) : left + size] = True
    assert mask.mean() < 0.75
    return mask


def test_faces_change_and_nothing_else(studio, address, frame, near_faces, tmp_path):
    path = tmp_path / "face.png"
    cv2.imwrite(str(path), frame[..., ::-1])
    plain = upscale(frame, SCALE).astype(int)
    item = studio.add_input("face", "image_source", file=str(path))
    studio.add_filter("face", address=address, preset="pico", scale=SCALE, start_engine=False)
    until(lambda: studio.size(item) == (640, 480), "twice the size")

    def enhanced():
        picture = studio.picture().astype(int)
        change = np.abs(picture - plain).max(-1)
        return change if change[~near_faces].max() <= 6 and change.max() > 24 else None

    change = until(enhanced, "an enhanced face on a plain enlargement")
    assert change[near_faces].mean() > 4 * change[~near_faces].mean()
    studio.set_filter("face", strength=0.0)
    until(lambda: np.abs(studio.picture().astype(int) - plain).max() <= 6, "strength 0: no change")


def test_a_playing_face_is_enhanced(studio, address, demo_clip):
    item = studio.add_input(
        "clip", "ffmpeg_source", local_file=str(demo_clip), is_local_file=True, looping=True
    )
    until(lambda: studio.size(item) == (320, 240), "the clip to play")
    studio.add_filter("clip", address=address, preset="pico", split_percent=50, start_engine=False)
    until(lambda: (studio.picture()[10:200, 159:161] > 250).all(), "the line")


def test_a_wrong_token_is_refused_in_words(studio, address):
    """The engine's own line comes as far as OBS's log."""
    token = studio.data / "cagface-live" / "obs-token"
    right = token.read_text()
    token.write_text("0" * 64 + "\n")
    try:
        studio.add_colour("colour", 0xFF2040C0)
        studio.add_filter("colour", address=address, start_engine=False)
        until(lambda: f"refused by the engine at {address}: " in studio.log(), "the refusal")
    finally:
        token.write_text(right)
    until(lambda: f"connected to the engine at {address}" in studio.log(), "another try")
