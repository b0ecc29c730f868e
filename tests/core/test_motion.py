"""Real and synthetic frames in, how far faces moved checked; and on which frames detection runs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from cagface_core import EnhancerConfig, FaceEnhancer, Frame
from cagface_core.detect import LiveDetector
from cagface_core.looks import Look, Looks
from cagface_core.motion import Follower
from cagface_core.track import Tracker
from cagface_core.types import Detection, Face, Image, Motion

FRAME_S = 1 / 30
STILL = Motion(0.0, 0.0)
FACE = Face(1, 100.0, 80.0, 60.0, 60.0, 0.9)


def read(path: Path, count: int) -> list[Frame]:
    with av.open(str(path)) as clip:
        decoded = [f for f, _ in zip(clip.decode(video=0), range(count), strict=False)]
    return [Frame(f.to_ndarray(format="rgb24"), f.pts, f.time_base) for f in decoded]


@pytest.fixture(scope="module")
def portrait(demo_clip: Path) -> Image:
    """A frame of the demo clip, enlarged: one face."""
    (frame,) = read(demo_clip, 1)
    return np.asarray(cv2.resize(frame.rgb, (640, 480), interpolation=cv2.INTER_CUBIC), np.uint8)


@pytest.fixture(scope="module")
def detector() -> Iterator[LiveDetector]:
    with LiveDetector() as made:
        yield made


def moved(rgb: Image, face: Face, dx: float, dy: float, growth: float) -> tuple[Image, Face]:
    """The picture moved by (dx, dy) and enlarged about the face's centre, and the face in it."""
    x, y = face.x + face.w / 2, face.y + face.h / 2
    matrix = np.array([[growth, 0, x - growth * x + dx], [0, growth, y - growth * y + dy]])
    there = cv2.warpAffine(
        rgb, matrix, rgb.shape[1::-1], flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
    )
    w, h = growth * face.w, growth * face.h
    return np.asarray(there, np.uint8), replace(face, x=x + dx - w / 2, y=y + dy - h / 2, w=w, h=h)


@pytest.mark.parametrize("shrink", [1.0, 0.4, 3.0])
@pytest.mark.parametrize(
    ("dx", "dy", "growth"), [(0, 0, 1), (0.03, -0.02, 1), (-0.1, 0.08, 1), (0.02, 0, 1.04)]
)
def test_motion_is_measured_to_a_hundredth_of_the_face(
    portrait: Image, detector: LiveDetector, shrink: float, dx: float, dy: float, growth: float
):
    rgb = np.asarray(cv2.resize(portrait, None, fx=shrink, fy=shrink), np.uint8)
    (found,) = detector.detect(rgb)
    face = Face(7, found.x, found.y, found.w, found.h, found.score)
    follower = Follower()
    follower.remember(rgb, [face])
    motion = follower.follow(moved(rgb, face, dx * face.w, dy * face.w, growth)[0])[7]
    assert abs(motion.dx - dx * face.w) < 0.01 * face.w
    assert abs(motion.dy - dy * face.w) < 0.01 * face.w
    assert abs(motion.growth - growth) < 0.01


def test_what_cannot_be_followed_is_left_out(portrait: Image):
    follower = Follower()
    follower.remember(portrait, [FACE, replace(FACE, id=2, x=-59.0), replace(FACE, id=3, y=478.0)])
    assert follower.follow(np.random.default_rng(0).integers(0, 256, (480, 640, 3), np.uint8)) == {}
    assert 1 not in follower.follow(np.full((480, 640, 3), 90, np.uint8))
    follower.clear()
    assert follower.follow(portrait) == {}


def test_tiny_frames_and_faces_do_no_harm():
    for height, width in ((2, 2), (5, 300), (300, 5)):
        rgb = np.random.default_rng(1).integers(0, 256, (height, width, 3), np.uint8)
        follower = Follower()
        follower.remember(rgb, [replace(FACE, x=0.0, y=0.0, w=3.0, h=2.0), replace(FACE, id=2)])
        for motion in follower.follow(rgb).values():
            assert np.isfinite([motion.dx, motion.dy, motion.growth]).all()


def test_a_box_moves_along_without_lag_and_detections_are_smoothed_around_it():
    rng = np.random.default_rng(0)
    tracker = Tracker()
    (face,) = tracker.update([Detection(100, 100, 50, 50, 0.9)], 0.0)
    errors: list[float] = []
    for i in range(1, 90):
        time_s, x = i * FRAME_S, 100 + 3.0 * i
        tracker.move({face.id: Motion(3.0, 0.0)})
        if i % 6 == 0:
            noisy = Detection(x + rng.normal(0, 0.5), 100, 50, 50, 0.9)
            (now,) = tracker.update([noisy], time_s)
        else:
            (now,) = tracker.coast(time_s)
        assert now.id == face.id
        errors.append(abs(now.x - x))
    assert np.percentile(errors, 95) < 1.0  # 1.8 box sizes a second; 0.1 of them were the lag


def look_times(
    looks: Looks, seconds: float, motion: Motion | None, frame_s: float = FRAME_S,
    face: Face = FACE,
) -> list[float]:  # fmt: skip
    motions = {} if motion is None else {face.id: motion}
    times = [i * frame_s for i in range(round(seconds / frame_s))]
    return [t for t in times if looks.next([face], motions, t) is not Look.NONE]


@pytest.mark.parametrize("rate_hz", [10, 25, 30, 60])
def test_a_face_at_rest_is_looked_at_by_time_not_by_frames(rate_hz: int):
    times = look_times(Looks(0.25, 0.5), 10, STILL, 1 / rate_hz)
    assert max(np.diff(times)) <= 0.25 + 1 / rate_hz
    assert len(times) <= 45


def test_every_frame_where_a_face_is_lost_new_missed_or_fast_and_in_files():
    every = 30
    assert len(look_times(Looks(0.25, 0.5), 1, None)) == every  # cannot be followed
    assert len(look_times(Looks(0.25, 0.5), 1, STILL, face=replace(FACE, missed=1))) == every
    assert len(look_times(Looks(0.25, 0.5), 1, Motion(4.0, 0.0))) == every
    assert len(look_times(Looks(0.0, 0.1), 1, STILL)) == every
    assert 10 <= len(look_times(Looks(0.25, 0.5), 1, Motion(1.2, 0.0))) <= 20  # every other or so


@pytest.mark.parametrize("rate_hz", [10, 25, 30, 60])
@pytest.mark.parametrize("looks", [Looks(0.25, 0.5), Looks(0.0, 0.1)])
def test_an_empty_picture_is_looked_at_ten_times_a_second(looks: Looks, rate_hz: int):
    looks.reset()
    times = [i / rate_hz for i in range(10 * rate_hz)]
    looked = [t for t in times if looks.next([], {}, t) is not Look.NONE]
    assert max(np.diff(looked)) <= Looks.EMPTY_EVERY_S + 1 / rate_hz
    assert len(looked) <= 101


@pytest.mark.parametrize("motion", [STILL, Motion(4.0, 0.0)])
def test_parts_are_visited_one_after_another_at_most_twice_a_second(motion: Motion):
    looks = Looks(0.25, 0.5)
    parts: list[int] = []
    for i in range(300):
        look = looks.next([FACE], {1: motion}, i * FRAME_S)
        assert look is not Look.NONE or looks.part is None
        parts += [] if looks.part is None else [looks.part]
    assert parts == list(range(len(parts)))
    assert 15 <= len(parts) <= 20


@pytest.mark.parametrize("rate_hz", [10, 25, 30, 60])
def test_a_films_frame_is_looked_at_as_a_whole_ten_times_a_second(rate_hz: int):
    looks = Looks(0.0, 0.1)
    whole: list[float] = []
    for i in range(10 * rate_hz):
        assert looks.next([FACE], {1: Motion(1.0, 0.0)}, i / rate_hz) is not Look.NONE
        whole += [] if looks.part is None else [i / rate_hz]
    assert max(np.diff(whole)) <= 0.1 + 1 / rate_hz
    assert len(whole) <= 101


def test_others_are_searched_once_a_second_after_a_cut_and_when_time_jumps():
    looks = Looks(0.25, 0.5)
    searches = [i for i in range(90) if looks.next([FACE], {1: STILL}, i * FRAME_S) is Look.SEARCH]
    assert searches == [0, 30, 60]
    looks.reset()
    assert looks.next([FACE], {1: STILL}, 3.0) is Look.SEARCH
    assert looks.next([FACE], {1: STILL}, 1.0) is Look.SEARCH


@dataclass
class Counting:
    """The detector, and the times of the frames that it saw."""

    detector: LiveDetector
    now_s: float = 0.0
    times_s: list[float] = field(default_factory=list[float])

    def detect(
        self, rgb: Image, known: tuple[Face, ...] = (), *, search: bool = True,
        part: int | None = None,
    ):  # fmt: skip
        self.times_s.append(self.now_s)
        return self.detector.detect(rgb, known, search=search, part=part)

    def close(self) -> None:
        self.detector.close()


@pytest.fixture(scope="module")
def live() -> Iterator[tuple[FaceEnhancer, Counting]]:
    enhancer = FaceEnhancer(EnhancerConfig(scale=1, mode="live", device="cpu"))
    assert isinstance(enhancer.detector, LiveDetector)
    counting = Counting(enhancer.detector)
    enhancer.detector = counting
    yield enhancer, counting
    enhancer.close()


def run(live: tuple[FaceEnhancer, Counting], frames: list[Frame]) -> list[tuple[Face, ...]]:
    """Faces of each frame; ``times_s`` of the detector is filled anew."""
    enhancer, counting = live
    counting.times_s.clear()
    state = enhancer.new_state()
    faces: list[tuple[Face, ...]] = []
    for frame in frames:
        counting.now_s = frame.time_s
        faces.append(enhancer.look(frame, state))
    return faces


def timed(pictures: list[Image]) -> list[Frame]:
    return [Frame(rgb, i, Fraction(1, 30)) for i, rgb in enumerate(pictures)]


@pytest.mark.parametrize(
    ("clip", "share"),
    [
        ("talk_obama_450_aac.mp4", 0.3),
        ("lp_glasses_512x480_aac.mp4", 0.25),
        ("lp_night_dark_480_aac.mp4", 0.35),
        ("asl_book_640x480_yuvj420p_noaudio.mkv", 0.3),
    ],
)
def test_real_heads_are_followed_with_a_detection_on_few_frames(
    live: tuple[FaceEnhancer, Counting], detector: LiveDetector, shared_data: Path, clip: str,
    share: float,
):  # fmt: skip
    frames = read(shared_data / "videos" / clip, 75)
    followed = run(live, frames)
    assert len(live[1].times_s) < share * len(frames)
    distances: list[float] = []
    for frame, faces in zip(frames, followed, strict=True):
        (face,) = faces
        (there,) = detector.detect(frame.rgb, faces, search=False)
        centre = np.array([face.x + face.w / 2, face.y + face.h / 2])
        distances.append(
            float(np.hypot(*(centre - (there.x + there.w / 2, there.y + there.h / 2))) / there.w)
        )
    assert np.median(distances) < 0.02
    assert np.percentile(distances, 95) < 0.04
    assert max(distances) < 0.1


def test_faces_that_come_are_found_and_those_that_leave_are_dropped_in_time(
    live: tuple[FaceEnhancer, Counting], portrait: Image, detector: LiveDetector
):
    (found,) = detector.detect(portrait)
    blank = np.full_like(portrait, 128)
    # Appearing over an empty picture it is no cut: the face alone comes, not its surroundings.
    x0, y0 = (max(0, round(v - 0.6 * found.w)) for v in (found.x, found.y))
    with_face = blank.copy()
    part = np.s_[y0 : y0 + round(2.2 * found.h), x0 : x0 + round(2.2 * found.w)]
    with_face[part] = portrait[part]
    faces = run(live, timed([blank] * 20 + [with_face] * 40 + [blank] * 40))
    assert [len(f) for f in faces[:20]] == [0] * 20
    assert [len(f) for f in faces[22:60]] == [1] * 38, "found within a tenth of a second"
    assert faces[83:] == [()] * 17, "let go after three quarters of a second, by then faded"


def test_a_second_face_is_found_within_a_second_and_a_cut_starts_afresh_at_once(
    live: tuple[FaceEnhancer, Counting], portrait: Image
):
    small = np.asarray(cv2.resize(portrait, (320, 240), interpolation=cv2.INTER_AREA), np.uint8)
    one = np.full((240, 640, 3), 128, np.uint8)
    one[:, :320] = small
    two = one.copy()
    two[:, 320:] = small[:, ::-1]
    faces = run(live, timed([one] * 10 + [one] * 3 + [two] * 45))
    assert [len(f) for f in faces[:13]] == [1] * 13
    assert all(len(f) == 2 for f in faces[13 + 31 :])
    # Another scene: the faces of the one before are gone in the very first frame.
    other = np.ascontiguousarray(255 - np.roll(two, 160, 1))
    other[:, 200:520] = np.asarray(cv2.resize(portrait, (320, 240)), np.uint8)
    cut = run(live, timed([two] * 10 + [other] * 10))
    before, after = {f.id for f in cut[9]}, {f.id for f in cut[10]}
    assert len(after) >= 1
    assert before.isdisjoint(after)
    assert 10 / 30 in live[1].times_s
