"""The shipped models run on synthetic pictures, the demo clip and, where present, real photos."""

from __future__ import annotations

import hashlib
import itertools
import logging
import os
import re
import shutil
import subprocess
import sys

import av
import cv2
import numpy as np
import pytest
from PIL import Image as PillowImage

from cagface_core.blazeface import MODEL_FILES, MODELS_DIR, BlazeFaceDetector
from cagface_core.detect import LiveDetector, TiledDetector, _starts, _unique, open_detector
from cagface_core.errors import ConfigError, DeviceError, InputError, WeightsError
from cagface_core.evaluate.recall import round_of_parts
from cagface_core.native_log import native_stderr_to_log
from cagface_core.types import Detection

SIZES = [(1, 1), (17, 23), (3, 1000), (1000, 3), (90, 160), (700, 1400)]


@pytest.fixture(scope="module")
def live():
    with open_detector("live") as detector:
        yield detector


@pytest.fixture(scope="module")
def tiled():
    with open_detector("file") as detector:
        yield detector


@pytest.fixture(scope="module")
def portrait(demo_clip):
    """A frame of the demo clip: one face."""
    with av.open(demo_clip) as clip:
        return next(clip.decode(video=0)).to_ndarray(format="rgb24")


@pytest.fixture
def crowd(shared_data):
    """1600x1196, 157 faces of 25 to 48 px."""
    return read(shared_data / "test_images" / "group157_tiny_faces.jpg")


def read(path):
    with PillowImage.open(path) as picture:
        return np.array(picture.convert("RGB"))


def overlap(a, b):
    """Intersection over union."""
    w = min(a.x + a.w, b.x + b.w) - max(a.x, b.x)
    h = min(a.y + a.h, b.y + b.h) - max(a.y, b.y)
    shared = max(0, w) * max(0, h)
    return shared / (a.w * a.h + b.w * b.h - shared)


def test_the_model_card_names_the_files_that_ship():
    card = (MODELS_DIR / "README.md").read_text(encoding="utf-8")
    for name in MODEL_FILES.values():
        digest = hashlib.sha256((MODELS_DIR / name).read_bytes()).hexdigest()
        assert re.search(rf"`{name}`.*`{digest}`", card)


@pytest.mark.parametrize("kind", ["live", "tiled"])
def test_one_face_is_found_once_where_it_is(kind, portrait, request):
    (face,) = request.getfixturevalue(kind).detect(portrait)
    height, width = portrait.shape[:2]
    assert 0.15 * height < face.h < 0.8 * height
    left_eye, right_eye, nose, mouth, left_ear, right_ear = face.keypoints
    assert left_ear[0] < left_eye[0] < nose[0] < right_eye[0] < right_ear[0]
    assert max(left_eye[1], right_eye[1]) < nose[1] < mouth[1]
    for x, y in (left_eye, right_eye, nose, mouth):
        assert face.x < x < face.x + face.w
        assert face.y < y < face.y + face.h
    assert 0 < face.x < face.x + face.w < width


def test_all_detectors_draw_the_same_box(live, tiled, portrait):
    """The short range's own box is smaller and lower; a face must not jump between the two."""
    with BlazeFaceDetector("full") as full, BlazeFaceDetector("short") as short:
        boxes = [d.detect(portrait)[0] for d in (full, short, live, tiled)]
    assert min(overlap(a, b) for a in boxes for b in boxes) > 0.75


def test_a_face_keeps_its_place_when_the_picture_around_it_grows(live, portrait):
    (face,) = live.detect(portrait)
    wide = np.full((500, 900, 3), 90, np.uint8)
    wide[200 : 200 + portrait.shape[0], 400 : 400 + portrait.shape[1]] = portrait
    (moved,) = live.detect(wide)
    expected = Detection(face.x + 400, face.y + 200, face.w, face.h, 1.0)
    assert overlap(moved, expected) > 0.8


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("kind", ["live", "tiled"])
def test_any_size_of_picture_is_taken(kind, size, request):
    detector = request.getfixturevalue(kind)
    noise = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    for rgb in (np.zeros_like(noise), noise):
        for d in detector.detect(rgb, [Detection(-5, -5, 2000, 2000, 1), Detection(0, 0, 1, 1, 1)]):
            assert 0 <= d.x < d.x + d.w <= size[1]
            assert 0 <= d.y < d.y + d.h <= size[0]


def test_a_huge_frame_and_a_gray_one(live, portrait):
    (face,) = live.detect(portrait)
    scale = 3024 / portrait.shape[1]
    huge = PillowImage.fromarray(portrait).resize((3024, round(scale * portrait.shape[0])))
    (large,) = live.detect(np.array(huge))
    assert (
        overlap(large, Detection(*(scale * v for v in (face.x, face.y, face.w, face.h)), 1)) > 0.8
    )
    gray = np.repeat(portrait.mean(axis=2, keepdims=True).astype(np.uint8), 3, axis=2)
    assert overlap(live.detect(gray)[0], face) > 0.7


def test_a_view_of_a_larger_array_is_taken(live, portrait):
    frame = np.zeros((*portrait.shape[:2], 4), np.uint8)
    frame[..., :3] = portrait
    assert live.detect(frame[..., :3]) == live.detect(portrait)


@pytest.mark.parametrize(
    ("name", "faces"), [("stage_warm_light.jpg", 3), ("historic_gray_L_mode.jpg", 1)]
)
def test_faces_far_away_are_found_live_in_one_round_of_the_parts(live, shared_data, name, faces):
    rgb = read(shared_data / "test_images" / name)
    assert len(live.detect(rgb)) < faces
    found = round_of_parts(live, rgb)
    assert len(found) == faces
    for part in range(live.count_parts(rgb)):
        assert len(live.detect(rgb, found, search=False, part=part)) == faces, "never twice"


def test_faces_that_are_too_small_to_gain_are_left_alone_live(crowd, monkeypatch):
    small = cv2.resize(crowd, (640, 480), interpolation=cv2.INTER_AREA)
    with LiveDetector() as live:
        monkeypatch.setattr(live, "_glance", lambda _rgb: [])
        assert round_of_parts(live, small) == []
        monkeypatch.setattr(LiveDetector, "SMALLEST_PX", 0)
        assert round_of_parts(live, small) != []


def test_where_many_are_known_parts_are_not_looked_at(live, crowd):
    found: list[Detection] = []
    for part in range(60):
        found = live.detect(crowd, found, search=False, part=part)
        assert len(found) <= LiveDetector.MOST + LiveDetector.MOST_NEW
    assert len(found) >= LiveDetector.MOST - 2


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros((10, 10), np.uint8),
        np.zeros((10, 10, 4), np.uint8),
        np.zeros((0, 10, 3), np.uint8),
        np.zeros((10, 10, 3), np.float32),
    ],
    ids=["gray", "rgba", "empty", "float"],
)
@pytest.mark.parametrize("kind", ["live", "tiled"])
def test_what_is_no_picture_is_refused_in_one_line(kind, wrong, request):
    with pytest.raises(
        InputError, match=r"^expected an RGB picture.*uint8.*got an array of shape.*$"
    ):
        request.getfixturevalue(kind).detect(wrong)


def test_a_crowd_is_found_by_tiles_and_then_followed(live, tiled, crowd):
    assert len(live.detect(crowd)) < 20
    found = tiled.detect(crowd)
    assert 145 <= len(found) <= 175
    assert all(d.score >= 0.5 for d in found)
    assert max(overlap(a, b) for i, a in enumerate(found) for b in found[:i]) <= 0.3
    following = tiled.detect(crowd, found, search=False)
    kept = sum(any(overlap(a, b) > 0.5 for b in following) for a in found)
    assert kept >= 0.95 * len(found)
    assert len(tiled.detect(crowd, search=False)) < 20


def test_a_film_is_looked_at_as_a_whole_where_it_is_asked_for_or_a_face_is_lost(
    tiled, portrait, monkeypatch
):
    blank = np.full_like(portrait, 128)
    (face,) = tiled.detect(portrait)
    looks = []
    glance = tiled._glance
    monkeypatch.setattr(tiled, "_glance", lambda rgb: looks.append(1) or glance(rgb))
    (again,) = tiled.detect(portrait, [face], search=False)
    assert overlap(again, face) > 0.9
    assert looks == []
    assert len(tiled.detect(portrait, [face], search=False, part=7)) == 1
    assert tiled.detect(blank, [face], search=False) == []
    assert len(tiled.detect(portrait, search=False)) == 1
    assert len(looks) == 3


@pytest.mark.parametrize("cores", [1, 3, 64])
def test_however_many_looks_are_made_at_once_the_same_faces_are_found(
    cores, tiled, shared_data, monkeypatch
):
    family = read(shared_data / "test_images" / "children_12.jpg")
    found = tiled.detect(family)
    assert len(found) >= 8
    monkeypatch.setattr("cagface_core.look_team.usable_cores", lambda: cores)
    with TiledDetector() as other:
        assert other.detect(family) == found
        assert other.detect(family, found, search=False) == tiled.detect(
            family, found, search=False
        )
        assert other.detect(family) == found


def test_a_look_that_fails_fails_the_detection_and_no_later_one(portrait, monkeypatch):
    monkeypatch.setattr("cagface_core.look_team.usable_cores", lambda: 4)
    with TiledDetector() as tiled:
        found = tiled.detect(portrait)
        with monkeypatch.context() as broken:
            broken.setattr(BlazeFaceDetector, "look", lambda *_: 1 // 0)
            with pytest.raises(ZeroDivisionError):
                tiled.detect(portrait, found)
        assert tiled.detect(portrait) == found
    with pytest.raises(ValueError, match="closed"):
        tiled.detect(portrait)


def test_one_huge_face_is_one_face(tiled, shared_data):
    found = tiled.detect(read(shared_data / "test_images" / "iphone_mpo_p3_3024.jpeg"))
    assert [0.3 < d.w / 3024 < 0.7 for d in found].count(True) == 1
    assert len(found) <= 2


def test_following_live_needs_no_look_at_the_frame(portrait, monkeypatch):
    with LiveDetector() as live:
        found = live.detect(portrait)

        def fail(*_):
            raise AssertionError("looked at the whole frame")

        monkeypatch.setattr(live, "_glance", fail)
        (again,) = live.detect(portrait, found, search=False)
        assert overlap(again, found[0]) > 0.9
        with pytest.raises(AssertionError):
            live.detect(np.zeros_like(portrait), found, search=False)  # lost: look everywhere


@pytest.mark.parametrize(
    ("length", "side"), [(480, 480), (481, 480), (1600, 480), (3, 160), (7, 2)]
)
def test_tiles_cover_the_picture_and_overlap(length, side):
    starts = _starts(length, side, 0.25)
    covered = np.zeros(length, int)
    for start in starts:
        assert 0 <= start <= max(0, length - side)
        covered[start : start + side] += 1
    assert covered.min() >= 1
    assert all(a + 0.75 * side >= b - 1 for a, b in itertools.pairwise(starts))


def test_one_face_seen_often_is_kept_once():
    whole = Detection(100, 100, 100, 100, 0.7)
    cut_by_a_tile = Detection(150, 100, 50, 100, 0.9)
    neighbour = Detection(190, 100, 100, 100, 0.6)
    shifted = Detection(110, 110, 100, 100, 0.65)
    assert _unique([whole, shifted, neighbour, cut_by_a_tile]) == [whole, neighbour]
    assert _unique([]) == []


def test_a_model_in_a_folder_of_another_alphabet_loads(tmp_path, portrait):
    folder = tmp_path / "модель 顔 é"
    folder.mkdir()
    path = shutil.copy(MODELS_DIR / MODEL_FILES["short"], folder / "ü.tflite")
    with BlazeFaceDetector("short", model_path=path) as detector:
        assert detector.detect(portrait)


def test_a_missing_or_damaged_model_is_one_clear_line(tmp_path):
    with pytest.raises(WeightsError, match=r"^cannot read .*none\.tflite"):
        BlazeFaceDetector(model_path=tmp_path / "none.tflite")
    whole = (MODELS_DIR / MODEL_FILES["short"]).read_bytes()
    for content in (b"", b"no model", whole[: len(whole) // 2]):
        path = tmp_path / "bad.tflite"
        path.write_bytes(content)
        with pytest.raises(
            WeightsError, match=r"^.*bad\.tflite is not a working BlazeFace model.*$"
        ):
            BlazeFaceDetector(model_path=path)


def test_without_mediapipe_the_line_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "mediapipe", None)
    with pytest.raises(DeviceError, match=r"^face detection needs MediaPipe.*pip install"):
        open_detector("live")


def test_settings_that_make_no_sense_are_refused():
    with pytest.raises(ConfigError, match="'both'"):
        BlazeFaceDetector("both")
    with pytest.raises(ConfigError, match=r"1\.5"):
        BlazeFaceDetector(min_score=1.5)
    with pytest.raises(ConfigError, match=r"-0\.1"):
        TiledDetector(min_score=-0.1)
    with pytest.raises(ConfigError, match="'video'"):
        open_detector("video")


def test_a_closed_detector_says_so(portrait):
    detector = open_detector("live")
    detector.close()
    detector.close()
    with pytest.raises(ValueError, match="closed"):
        detector.detect(portrait)


def test_importing_is_quiet_and_light_and_detecting_prints_nothing(repository):
    program = """
import sys, numpy as np
from cagface_core.detect import open_detector
assert "mediapipe" not in sys.modules
with open_detector("file") as detector:
    detector.detect(np.zeros((300, 400, 3), np.uint8))
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        cwd=repository,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_native_chatter_becomes_debug_lines_and_errors_stay(capfd, caplog):
    caplog.set_level(logging.DEBUG)
    log = logging.getLogger("test")

    def fail():
        with native_stderr_to_log(log):
            os.write(2, b"INFO: chatter\nW0000 00:00:17.5 1 a.cc:1] more\n[ WARN:0@0.1] cv\n")
            sys.stderr.write("a traceback of another thread\n")
            os.write(2, b"ERROR: it broke\n")
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    os.write(2, b"INFO: after\n")
    assert capfd.readouterr().err == (
        "a traceback of another thread\nERROR: it broke\nINFO: after\n"
    )
    assert [r.levelname for r in caplog.records] == ["DEBUG"] * 3
    assert "chatter" in caplog.text


def test_what_mediapipe_draws_with_is_loaded_only_where_it_is_used():
    code = """
import importlib, sys
from cagface_core.blazeface import BlazeFaceDetector
BlazeFaceDetector().close()
assert "matplotlib.pyplot" not in sys.modules
drawing = importlib.import_module("mediapipe.tasks.python.vision.drawing_utils")
assert drawing.plt.figure is importlib.import_module("matplotlib.pyplot").figure
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


@pytest.mark.parametrize("mode", ["live", "file"])
@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (2, 2)])
def test_pictures_that_hold_no_face_have_none(mode, shape):
    with open_detector(mode) as detector:
        for part in (None, 0):
            assert detector.detect(np.zeros((*shape, 3), np.uint8), part=part) == []
