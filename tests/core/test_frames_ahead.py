"""Frames of a file that are begun before those before them are finished come out the same."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import wait
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from cagface_core import Enhanced, EnhancerConfig, FaceEnhancer, Foreseen, Frame
from cagface_core.paths import Place
from cagface_core.workers import networks_at_once, single_threaded

SHOTS = (True, False, False, True, False, True, True, False)
"""Whether each frame begins a shot."""


@pytest.fixture
def frames(demo_clip: Path) -> list[Frame]:
    with av.open(str(demo_clip)) as container:
        decoded = [f for f, _ in zip(container.decode(video=0), SHOTS, strict=False)]
    plain = [Frame(f.to_ndarray(format="rgb24"), f.pts, f.time_base) for f in decoded]
    with FaceEnhancer(EnhancerConfig(mode="file", device="cpu-float32")) as enhancer:
        state = enhancer.new_state(ahead=True)
        faces = [enhancer.look(frame, state) for frame in plain]
    assert all(faces)
    return [
        replace(frame, foreseen=Foreseen(found, begins, 0, runs_in=False, shown=True))
        for frame, found, begins in zip(plain, faces, SHOTS, strict=True)
    ]


def in_order(
    enhancer: FaceEnhancer, frames: list[Frame], ahead: int
) -> tuple[list[np.ndarray], list[Enhanced]]:
    state, begun, done = enhancer.new_state(), list[Callable[[], Enhanced]](), list[Enhanced]()
    for frame in frames:
        begun.append(enhancer.begin(frame, state))
        if len(begun) > ahead:
            done.append(begun.pop(0)())
    done += [finish() for finish in begun]
    return [enhanced.rgb for enhanced in done], done


@pytest.fixture
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # a sum in several threads is rounded otherwise
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("one_thread")
def test_how_many_are_under_way_changes_nothing(frames: list[Frame]):
    config = EnhancerConfig(mode="file", device="cpu-float32", preset="pico", scale=2)
    with FaceEnhancer(config) as enhancer:
        state = enhancer.new_state()
        expected = [enhancer.enhance(frame, state) for frame in frames]
        for ahead in (0, 1, 3, len(frames)):
            pictures, done = in_order(enhancer, frames, ahead)
            for picture, one, wanted in zip(pictures, done, expected, strict=True):
                assert np.array_equal(picture, wanted.rgb)
                assert (one.faces, one.outcomes) == (wanted.faces, wanted.outcomes)
                assert one.counts == wanted.counts
                assert {"network", "recall", "steady"} <= set(one.timings_ms)


def test_a_shot_is_steadied_from_its_first_frame_on(frames: list[Frame]):
    config = EnhancerConfig(mode="file", device="cpu-float32", preset="pico", scale=2)
    first, second = frames[0], frames[1]
    assert second.foreseen is not None
    anew = replace(second, foreseen=replace(second.foreseen, begins=True))
    with FaceEnhancer(config) as enhancer:
        steadied, alone = (in_order(enhancer, [first, f], 1)[0][1] for f in (second, anew))
    assert not np.array_equal(steadied, alone)


def test_a_frame_that_fails_harms_no_other(frames: list[Frame], monkeypatch: pytest.MonkeyPatch):
    config = EnhancerConfig(mode="file", device="cpu-float32", preset="pico", scale=2)
    with FaceEnhancer(config) as enhancer:
        residual, lock, calls = enhancer.engine.residual, threading.Lock(), list[int]()

        def failing(*args: object) -> object:
            with lock:
                calls.append(len(calls))
            if len(calls) == 3:
                raise RuntimeError("the network tripped")
            return residual(*args)  # pyright: ignore[reportArgumentType]

        monkeypatch.setattr(enhancer.engine, "residual", failing)
        _, done = in_order(enhancer, frames, 2)
    outcomes = [outcome for enhanced in done for outcome in enhanced.outcomes]
    assert outcomes.count("failed") == 1
    assert outcomes.count("enhanced") == len(frames) - 1


@pytest.mark.parametrize(("mode", "ahead"), [("live", False), ("image", False), ("file", True)])
def test_only_files_are_begun_ahead(mode, ahead: bool):
    with FaceEnhancer(EnhancerConfig(mode=mode, device="cpu-float32")) as enhancer:
        assert (enhancer.frames_ahead > 0) is ahead


def test_as_many_networks_as_there_are_cores_and_no_more_than_memory_is_kept_for(monkeypatch):
    for cores, threads, expected in ((1, 1, 1), (2, 1, 2), (4, 3, 4), (16, 3, 4), (64, 63, 8)):
        monkeypatch.setattr("cagface_core.workers.usable_cores", lambda cores=cores: cores)
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        assert networks_at_once("cpu") == expected
        assert networks_at_once("cuda") == 1


def test_each_worker_computes_with_its_own_thread_and_no_other_thread_does_less():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    with single_threaded("test", 3) as executor:
        together = threading.Barrier(3)

        def count() -> int:
            together.wait(10)
            return torch.get_num_threads()

        counted = wait([executor.submit(count) for _ in range(3)]).done
        assert [future.result() for future in counted] == [1, 1, 1]
        assert torch.get_num_threads() == 2
        later: list[int] = []
        thread = threading.Thread(target=lambda: later.append(torch.get_num_threads()))
        thread.start()
        thread.join()
        assert later == [2]
    torch.set_num_threads(before)


@pytest.mark.usefixtures("one_thread")
def test_apples_gpu_enhances_films_as_the_processor_does(
    frames: list[Frame], monkeypatch: pytest.MonkeyPatch
):
    """The processor stands in for it; all but CAGFace itself is the processor's anyway."""
    config = EnhancerConfig(mode="file", device="cpu-float32", preset="pico", scale=2)
    with FaceEnhancer(config) as enhancer:
        expected, _ = in_order(enhancer, frames, 1)
    monkeypatch.setattr("cagface_core.enhancer.find_device", torch.device)
    monkeypatch.setattr(
        "cagface_core.engine.find_place", lambda name: Place(name, torch.device("cpu"))
    )
    with FaceEnhancer(replace(config, device="mps")) as enhancer:
        assert (enhancer.path, enhancer.on_device, enhancer.frames_ahead) == ("mps", False, 1)
        pictures, done = in_order(enhancer, frames, enhancer.frames_ahead)
    assert {outcome for enhanced in done for outcome in enhanced.outcomes} == {"enhanced"}
    for picture, wanted in zip(pictures, expected, strict=True):
        assert np.abs(picture.astype(int) - wanted).max() <= 1
