"""Frames that a GPU gives back as I420, on their way to virtual camera, file and whoever looks."""

from dataclasses import replace
from typing import Any

import av
import cv2
import numpy as np
import pytest
from pyvirtualcam import PixelFormat

from cagface_core import I420, NO_RGB, Enhanced, Frame, Image, Planes, Tuning
from realtime.monitor import Monitor
from realtime.plain import i420_rows, rgb_of
from realtime.recorder import Recorder
from realtime.run import LiveJob, Watcher, run_live
from realtime.snapshot import save
from realtime.virtualcam import VirtualCameraSink
from tests.realtime.helpers import Clip, PlainEnhancer, PlainState, picture
from tests.realtime.recording import RecordingBackend

RED = np.full((48, 64, 3), (220, 40, 30), np.uint8)


def in_planes(rgb: Image) -> Planes:
    """By OpenCV, which takes its chroma from one pixel of four: for smooth pictures the same."""
    height, width = rgb.shape[:2]
    rows = np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2YUV_I420), np.uint8)
    codes, chroma = rows.reshape(-1), (height // 2, width // 2)
    blue, red = np.split(codes[height * width :], 2)
    return Planes((rows[:height], blue.reshape(chroma), red.reshape(chroma)), I420)


def delivered(rgb: Image) -> Frame:
    return Frame(NO_RGB, planes=in_planes(rgb))


def unlike(ours: Image, expected: Image) -> float:
    """Mean difference in levels; the bright bar's edges lose colour."""
    assert ours.shape == expected.shape
    return float(np.abs(ours.astype(int) - expected).mean())


def test_there_and_back():
    rgb = picture(3, 96, 64)
    assert unlike(rgb_of(delivered(rgb)), rgb) < 1.5
    assert np.array_equal(i420_rows(delivered(rgb)), i420_rows(Frame(rgb)))
    assert i420_rows(Frame(rgb[:63, :95])).shape == (93, 94)


def test_the_virtual_camera_is_sent_planes_as_they_are(cameras):
    rgb = picture(1, 96, 64)
    sink = VirtualCameraSink(96, 64, None, planes=True)
    sink.write(delivered(rgb))
    sink.write(Frame(RED.repeat(2, 0)[:64].repeat(2, 1)[:, :96]))  # one that passed through
    sink.write(delivered(rgb))
    (camera,) = cameras
    assert camera.fmt is PixelFormat.I420
    assert np.array_equal(camera.sent[0], i420_rows(delivered(rgb)).reshape(-1))
    assert unlike(camera.frames[1], np.broadcast_to(RED[0, 0], (64, 96, 3))) < 2
    assert np.array_equal(camera.sent[2], camera.sent[0])
    with pytest.raises(ValueError, match="came to a virtual camera"):
        sink.write(delivered(RED))
    sink.close()
    assert camera.closed


@pytest.mark.parametrize("planes", [True, False])
def test_planes_are_taken_by_a_camera_that_expected_rgb_and_the_other_way_round(cameras, planes):
    rgb = picture(1, 96, 64)
    sink = VirtualCameraSink(96, 64, None, planes=planes)
    sink.write(Frame(rgb) if planes else delivered(rgb))
    assert unlike(cameras[-1].frames[-1], rgb) < 1.5


def test_a_camera_of_another_size_is_sent_them_fitted(cameras, monkeypatch):
    real = RecordingBackend.__init__

    def picky(self: RecordingBackend, **options: Any) -> None:
        if (options["width"], options["height"]) != (640, 480):
            raise RuntimeError("cannot do that")
        real(self, **options)

    monkeypatch.setattr(RecordingBackend, "__init__", picky)
    sink = VirtualCameraSink(1280, 960, None, planes=True)
    rgb = picture(5, 1280, 960)
    sink.write(delivered(rgb))
    (camera,) = cameras
    half = cv2.resize(rgb, (640, 480), interpolation=cv2.INTER_AREA)
    assert unlike(camera.frames[-1], np.asarray(half, np.uint8)) < 1.5


def test_a_recording_takes_them_beside_others(tmp_path):
    recorder = Recorder(64, 48, None)
    recorder.start(tmp_path / "out.mp4")
    for index, frame in enumerate([delivered(RED), Frame(RED), delivered(RED)]):
        recorder.write(replace(frame, pts=index * 40_000))
    recorder.close()
    with av.open(str(tmp_path / "out.mp4")) as container:
        found = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(found) == 3
    for rgb in found:
        assert unlike(rgb, RED) < 4


def test_who_looks_sees_rgb(tmp_path):
    before, monitor = picture(0, 48, 32), Monitor()
    after = picture(0, 96, 64)
    planes = in_planes(after)
    monitor.show(Frame(before), Enhanced(NO_RGB, planes=planes), delivered(after))
    shown = monitor.newest
    assert shown is not None
    assert unlike(shown.after, after) < 1.5
    assert np.array_equal(shown.rgb, shown.after)
    kept = save(shown, tmp_path)
    read = cv2.cvtColor(cv2.imread(str(kept)), cv2.COLOR_BGR2RGB)
    assert np.array_equal(read, shown.after)


class PlanesEnhancer(PlainEnhancer):
    """Gives planes where they are asked for, but for what fails."""

    def enhance(self, frame: Frame, state: PlainState, tuning: Tuning | None = None) -> Enhanced:
        enhanced = super().enhance(frame, state, tuning)
        if tuning is None or not tuning.planes:
            return enhanced
        return replace(enhanced, rgb=NO_RGB, planes=in_planes(enhanced.rgb))


def test_a_run_delivers_them_and_frames_that_pass_through(cameras, tmp_path):
    clip = Clip().write(tmp_path / "in.mp4")
    enhancer = PlanesEnhancer(2, fail_at=lambda index: index == 2)
    summary = run_live(LiveJob(str(clip), 2, record=tmp_path / "out.mp4"), lambda: enhancer)
    assert summary.passthrough == 1
    (camera,) = cameras
    assert camera.fmt is PixelFormat.I420
    assert summary.frames == len(camera.sent)
    for index in range(len(camera.sent)):
        assert camera.frames[index].mean() == pytest.approx(picture(0, 192, 128).mean(), abs=4)
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert sum(1 for _ in container.decode(video=0)) == summary.frames


@pytest.mark.parametrize(
    ("changes", "size"),
    [({"compare": True}, (384, 128)), ({"output_size": (100, 80)}, (100, 80)), ({}, (96, 64))],
)
def test_what_is_put_together_or_as_small_as_it_came_is_rgb(cameras, tmp_path, changes, size):
    clip, scale = Clip().write(tmp_path / "in.mp4"), 2 if changes else 1
    run_live(LiveJob(str(clip), scale, **changes), lambda: PlanesEnhancer(scale))
    (camera,) = cameras
    assert camera.fmt is PixelFormat.RGB
    assert (camera.width, camera.height) == size
    assert camera.frames[0].max() > 150


def test_a_frozen_picture_stays(cameras, tmp_path):
    clip = Clip(pts=range(0, 25 * 512, 512)).write(tmp_path / "in.mp4")

    def freeze(started: Any) -> None:
        started.controls.change(freeze=True)

    watcher = Watcher(on_live=freeze)
    summary = run_live(LiveJob(str(clip), 2), lambda: PlanesEnhancer(2), watcher)
    camera = cameras[-1]
    assert summary.frames == len(camera.sent) > 1
    for sent in camera.sent[1:]:
        assert np.array_equal(sent, camera.sent[0])
