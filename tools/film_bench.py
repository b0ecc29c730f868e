"""What the work around the network costs a film, and how much memory a large or a long one takes.

    .venv/bin/python tools/film_bench.py throughput clip.mp4 --repeat 4 --scale 2 --preset nano
    .venv/bin/python tools/film_bench.py memory --hours 8

`throughput` times, in turns, the codec alone (decode, plain upscale, encode, no threads of ours),
the network alone (faces found and enhanced in decoded frames, nothing encoded), and the whole job.
The job can be no faster than the slower of the two, nor than their processor time shared out over
all cores: what it takes beyond the larger of these is what the pipeline adds. It fills and empties
once a film, with half a second looked ahead and what the encoder holds: give it one of 15 seconds.
`memory` puts a 4K film, and one of many hours with plain upscaling in place of the network, through
`cagface video` and reads what their processes held; exit code 1 if the long one's memory grows by
2 % or more after its first tenth, beyond the times of the frames themselves.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import threading
import time
from contextlib import closing
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from statistics import median
from typing import Any

import av
import numpy as np

from cagface_core import EnhancerConfig, FaceEnhancer, Frame, upscale_planes
from realtime.ahead import AheadSource
from realtime.encoders import EncodeOptions, choose_encoder
from realtime.loop import LoopOptions, run_loop
from realtime.piece_file import PieceFile
from realtime.piece_maker import finder_of
from realtime.process import keep_memory, leave_a_core
from realtime.run_video import VideoJob, enhance_video, run_video
from realtime.sink import NullSink
from realtime.source import SourceInfo
from realtime.stats import Stats
from realtime.video_in import VideoSource

ROOT = Path(__file__).parents[1]
LONG_SIZE, LONG_HZ = (64, 48), 25
PTS_BYTES = 64  # a frame's time, kept until the pieces are joined: a number, its place in a list
GROWTH = 0.02


class Decoded:
    """A film's frames out of memory."""

    def __init__(self, info: SourceInfo, frames: list[Frame]) -> None:
        """Keep them."""
        self.info, self._frames = info, frames

    def frames(self, first: int = 0) -> Any:
        """Those from number ``first`` on."""
        return iter(self._frames[first:])

    def close(self) -> None:
        """Nothing is open."""


def throughput(clip: Path, scale: int, preset: str, crop_px: int, rounds: int) -> dict[str, Any]:
    """Frames a second of each, in turns, and what the job takes over its bound."""
    keep_memory()
    leave_a_core()
    config = EnhancerConfig(
        mode="file", weights="webcam", preset=preset, scale=scale, max_crop_px=crop_px
    )
    taken: dict[str, list[float]] = {"codec": [], "network": [], "job": []}
    busy: dict[str, list[float]] = {"codec": [], "network": [], "job": []}
    with closing(VideoSource(clip, planes=True)) as film:
        info, frames = film.info, list(film.frames())
    with tempfile.TemporaryDirectory() as name, closing(FaceEnhancer(config)) as enhancer:
        folder = Path(name)
        works = {
            "codec": lambda: _codec_alone(clip, folder, scale),
            "network": lambda: _network_alone(info, frames, enhancer),
            "job": lambda: enhance_video(
                VideoJob(clip, folder / "out.mp4", scale, overwrite=True), config
            ),
        }
        for turn in range(rounds + 1):
            for what, work in works.items():
                begun_s, before_s = time.perf_counter(), time.process_time()
                work()
                if turn:  # the first loads code and weights
                    taken[what].append(time.perf_counter() - begun_s)
                    busy[what].append(time.process_time() - before_s)
    cores = len(os.sched_getaffinity(0))
    over = [
        job / max(codec, network, (codec_busy + network_busy) / cores)
        for job, codec, network, codec_busy, network_busy in zip(
            taken["job"], taken["codec"], taken["network"], busy["codec"], busy["network"],
            strict=True,
        )
    ]  # fmt: skip
    slower = [
        job / max(codec, network)
        for job, codec, network in zip(taken["job"], taken["codec"], taken["network"], strict=True)
    ]
    return {
        "clip": clip.name, "frames": len(frames), "size": [info.width, info.height],
        "scale": scale, "preset": preset, "max_crop_px": crop_px, "cores": cores,
        **{f"{what}, fps": len(frames) / median(times) for what, times in taken.items()},
        **{f"{what}, cores busy": sum(busy[what]) / sum(times) for what, times in taken.items()},
        "job over the slower": median(slower), "job over its bound": median(over),
        "job's processor time over both's": median(
            job / (codec + network)
            for job, codec, network in zip(
                busy["job"], busy["codec"], busy["network"], strict=True
            )
        ),
    }  # fmt: skip


def _codec_alone(clip: Path, folder: Path, scale: int) -> None:
    with closing(VideoSource(clip, planes=True)) as film:
        info = film.info
        size = (info.width * scale, info.height * scale)
        chosen = choose_encoder(Path("out.mp4"), EncodeOptions(), info, *size)
        piece = PieceFile(folder / "codec.mkv", chosen, info, size)
        for frame in film.frames():
            assert frame.planes is not None
            piece.write(upscale_planes(frame.planes, scale), frame.pts, frame.time_base)
        piece.finish()


def _network_alone(info: SourceInfo, frames: list[Frame], enhancer: FaceEnhancer) -> None:
    source = AheadSource(Decoded(info, frames), lambda: finder_of(enhancer), Stats())
    run_loop(source, enhancer, NullSink(), LoopOptions(enhancer.config.scale), Stats())


@dataclass
class Sampler:
    """Notes what this process holds of the memory, in MiB, ten times a second."""

    def __post_init__(self) -> None:
        """Begin."""
        self.held: list[float] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def end(self) -> list[float]:
        """What was noted."""
        self._stop.set()
        self._thread.join()
        return self.held

    def _run(self) -> None:
        while not self._stop.wait(0.1):
            status = Path("/proc/self/status").read_text(encoding="utf-8")
            self.held.append(int(status.partition("VmRSS:")[2].split()[0]) / 1024)


def memory_of_4k(seconds: int) -> dict[str, Any]:
    """Peak memory for a 3840x2160 film with four faces, with `nano`, at scale 1."""
    with tempfile.TemporaryDirectory() as name:
        clip = Path(name) / "in.mp4"
        face = _face()
        picture = np.zeros((2160, 3840, 3), np.uint8)
        picture[:] = (90, 110, 120)
        for left in (200, 1100, 2000, 2900):
            picture[700 : 700 + face.shape[0], left : left + face.shape[1]] = face
        _write(clip, (np.roll(picture, 4 * n, axis=1) for n in range(25 * seconds)), 25)
        sampler = Sampler()
        config = EnhancerConfig(mode="file", weights="webcam", preset="nano")
        summary = enhance_video(VideoJob(clip, Path(name) / "out.mp4", 1), config)
        held = sampler.end()
    return {"frames": summary.frames, "faces a frame": summary.faces_per_frame,
            "peak MiB": max(held), "second half over first": max(held[len(held) // 2 :])
            / max(held[: len(held) // 2])}  # fmt: skip


def memory_of_hours(hours: float) -> dict[str, Any]:
    """Memory over the run for a small film of so many hours."""
    from tests.realtime.helpers import PlainEnhancer

    count = int(hours * 3600 * LONG_HZ)
    with tempfile.TemporaryDirectory() as name:
        clip = Path(name) / "in.mp4"
        rng = np.random.default_rng(0)
        pictures = rng.integers(0, 256, (50, LONG_SIZE[1], LONG_SIZE[0], 3), np.uint8)
        _write(clip, (pictures[n % 50] for n in range(count)), LONG_HZ)
        sampler = Sampler()
        summary = run_video(VideoJob(clip, Path(name) / "out.mp4", 1), lambda: PlainEnhancer(1))
        held = sampler.end()
    tenth = len(held) // 10
    begin, end = median(held[tenth : 2 * tenth]), median(held[-tenth:])
    times = 0.85 * count * PTS_BYTES / (1 << 20)
    return {"frames": summary.frames, "hours": hours, "after a tenth MiB": begin,
            "at the end MiB": end, "peak MiB": max(held), "of it times of frames MiB": times,
            "growth": (end - times) / begin - 1}  # fmt: skip


def _face() -> Any:
    with av.open(str(ROOT / "assets/demo.mp4")) as container:
        rgb = next(container.decode(video=0)).to_ndarray(format="rgb24")
    return rgb.repeat(3, axis=0).repeat(3, axis=1)[:720, :900]


def _write(path: Path, pictures: Any, hz: int) -> None:
    with av.open(str(path), "w") as container:
        video: Any = container.add_stream("libx264", rate=hz, options={"preset": "ultrafast"})
        video.pix_fmt, video.time_base = "yuv420p", Fraction(1, hz)
        for number, picture in enumerate(pictures):
            if not number:
                video.height, video.width = picture.shape[:2]
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, hz)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))


def main() -> int:
    """Measure, print, and say by the exit code whether memory stays."""
    parser = argparse.ArgumentParser(description="Throughput and memory of films.")
    kinds = parser.add_subparsers(dest="kind", required=True)
    speed = kinds.add_parser("throughput", help="the job against codec and network alone")
    speed.add_argument("clip", type=Path)
    speed.add_argument("--scale", type=int, default=2)
    speed.add_argument("--preset", default="nano")
    speed.add_argument("--max-crop-px", type=int, default=256)
    speed.add_argument("--rounds", type=int, default=3)
    speed.add_argument("--repeat", type=int, default=1, help="so many times the clip, end to end")
    memory = kinds.add_parser("memory", help="a 4K film and one of many hours")
    memory.add_argument("--hours", type=float, default=8)
    memory.add_argument("--seconds-of-4k", type=int, default=4)
    given = parser.parse_args()
    sys.path.insert(0, str(ROOT))
    if given.kind == "throughput":
        from tools.cluster_bench import repeated

        with tempfile.TemporaryDirectory() as name:
            clip = repeated(given.clip, given.repeat, Path(name, "film.mkv"))
            found = throughput(clip, given.scale, given.preset, given.max_crop_px, given.rounds)
        print(json.dumps({**found, "clip": f"{given.clip.name} x {given.repeat}"}, indent=1))
        return 0
    large = memory_of_4k(given.seconds_of_4k)
    print(json.dumps({"4K": large}, indent=1), flush=True)
    long = memory_of_hours(given.hours)
    print(json.dumps({"long": long}, indent=1))
    return 1 if long["growth"] >= GROWTH else 0


if __name__ == "__main__":
    sys.exit(main())
