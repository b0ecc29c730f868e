"""Damaged and hostile files through `cagface video` and `cagface image`, thousands of them.

    .venv/bin/python tools/fuzz.py --cases 2000 --out out/fuzz

Each case is a good file with bits turned, a part cut out, cut off, doubled or overwritten, or a
size in its header made absurd. It goes through the command in a process of its own, with a limit
to its memory and its time, and with plain upscaling in place of the network, which never sees a
file. A case passes if the command ends with 0 or 2, in time, says its error in one line, and leaves
no file but a whole result. Prints what did not pass and keeps those files; exit code 1 if any.
"""

from __future__ import annotations

import argparse
import io
import multiprocessing
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from fractions import Fraction
from importlib import import_module
from pathlib import Path

ROOT = Path(__file__).parents[1]
SIZES = (0, 1, 2, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF)
VIDEOS = (".mp4", ".mkv", ".webm", ".ts", ".mov", ".avi")


@dataclass(frozen=True)
class Limits:
    """What one case may use: address space besides that of the libraries, which depends on them."""

    seconds: float = 30.0
    memory_mib: int = 1800


def mutate(data: bytes, rng: random.Random) -> bytes:
    """Damage a file in one to three ways."""
    for _ in range(rng.randint(1, 3)):
        if not data:
            return data
        data = rng.choice(MUTATIONS)(data, rng)
    return data


def _flip(data: bytes, rng: random.Random) -> bytes:
    damaged = bytearray(data)
    for _ in range(rng.choice((1, 4, 32, 256))):
        damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
    return bytes(damaged)


def _flip_header(data: bytes, rng: random.Random) -> bytes:
    damaged = bytearray(data)
    for _ in range(rng.choice((1, 2, 8))):
        damaged[rng.randrange(min(len(damaged), 600))] = rng.randrange(256)
    return bytes(damaged)


def _cut_off(data: bytes, rng: random.Random) -> bytes:
    return data[: rng.randrange(len(data))]


def _cut_out(data: bytes, rng: random.Random) -> bytes:
    first, second = sorted(rng.randrange(len(data)) for _ in range(2))
    return data[:first] + data[second:]


def _double(data: bytes, rng: random.Random) -> bytes:
    first = rng.randrange(len(data))
    second = min(len(data), first + rng.choice((16, 512, 20_000)))
    return data[:second] + data[first:second] + data[second:]


def _overwrite(data: bytes, rng: random.Random) -> bytes:
    first = rng.randrange(len(data))
    count = min(len(data) - first, rng.choice((4, 64, 4096)))
    return data[:first] + rng.randbytes(count) + data[first + count :]


def _size(data: bytes, rng: random.Random) -> bytes:
    width = rng.choice((2, 4))
    value = rng.choice(SIZES) & ((1 << 8 * width) - 1)
    first = rng.randrange(max(1, min(len(data), 2000) - width))
    order = rng.choice(("big", "little"))
    return data[:first] + value.to_bytes(width, order) + data[first + width :]


MUTATIONS: tuple[Callable[[bytes, random.Random], bytes], ...] = (
    _flip, _flip_header, _cut_off, _cut_out, _double, _overwrite, _size,
)  # fmt: skip


def make_seeds(folder: Path) -> list[Path]:
    """Small good files of every kind that is read."""
    sys.path.insert(0, str(ROOT))
    from PIL import Image as Pil

    from tests.realtime.helpers import Clip, picture

    folder.mkdir(parents=True, exist_ok=True)
    clip = Clip(audio=["aac"], pts=range(0, 10 * 512, 512))
    for suffix in (".mp4", ".mkv", ".ts", ".mov"):
        clip.write(folder / f"h264{suffix}")
    for codec, suffix in (("libx265", ".mp4"), ("mpeg4", ".avi"), ("ffv1", ".mkv"),
                          ("mpeg2video", ".ts"), ("mjpeg", ".avi")):  # fmt: skip
        pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        clip = Clip(
            codec=codec, options=(), pix_fmt=pix_fmt, time_base=Fraction(1, 25), pts=range(5)
        )
        clip.write(folder / f"{codec}{suffix}")
    vp9 = (("crf", "30"), ("b", "0"), ("cpu-used", "8"), ("deadline", "realtime"))
    Clip(codec="libvpx-vp9", options=vp9, pts=range(0, 5 * 512, 512)).write(folder / "vp9.webm")
    image = Pil.fromarray(picture(3, 96, 64))
    for suffix in (".png", ".jpg", ".webp", ".bmp", ".tif"):
        image.save(folder / f"picture{suffix}")
    return sorted(folder.iterdir())


def run_case(path: Path, limits: Limits) -> str:
    """Put a file through its command; why it did not pass, or an empty line."""
    folder = path.parent
    video = path.suffix in VIDEOS
    output = folder / ("out.mp4" if video else "out.png")
    report = folder / "said"
    child = multiprocessing.get_context("fork").Process(
        target=_child, args=(path, output, report, limits)
    )
    child.start()
    child.join(limits.seconds)
    if child.is_alive():
        child.kill()
        child.join()
        return f"took more than {limits.seconds:.0f} s"
    code = child.exitcode or 0
    said = report.read_text(errors="replace") if report.exists() else ""
    if code < 0:
        return f"ended by {signal.Signals(-code).name}"
    if code not in (0, 2):
        return f"exit code {code}: {said[-300:]}"
    if "Traceback" in said:
        return f"a traceback: {said[-300:]}"
    errors = [line for line in said.splitlines() if line.startswith("error: ")]
    if code == 2 and len(errors) != 1:
        return f"exit code 2 with {len(errors)} error lines: {said[-300:]}"
    left = {p.name for p in folder.iterdir()} - {path.name, "said", output.name}
    if left:
        return f"left {', '.join(sorted(left))}"
    if (code == 0) != output.exists():
        return f"exit code {code}, but the result is {'there' if code else 'not there'}"
    return ""


def _child(path: Path, output: Path, report: Path, limits: Limits) -> None:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    most = pages * resource.getpagesize() + (limits.memory_mib << 20)
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with report.open("w") as said:
        os.dup2(said.fileno(), 1)
        os.dup2(said.fileno(), 2)
        text = io.StringIO()
        from realtime.cli import main
        from tests.realtime.helpers import PlainEnhancer

        command = "video" if path.suffix in VIDEOS else "image"
        arguments = [command, str(path), str(output), "--scale", "1"]
        if command == "video":
            arguments += ["--encoder-preset", "ultrafast", "--no-audio"]
        try:
            with redirect_stdout(text), redirect_stderr(text):
                code = main(arguments, make_enhancer=lambda options: PlainEnhancer(options.scale))
        finally:
            said.write(text.getvalue())
            said.flush()
    os._exit(code)


def fuzz(cases: int, seed: int, keep: Path, limits: Limits) -> Counter[str]:
    """Run cases; how many of them failed in which way."""
    failures: Counter[str] = Counter()
    with tempfile.TemporaryDirectory(prefix="fuzz-") as name:
        seeds = make_seeds(Path(name) / "seeds")
        # Loaded once, before the forks.
        for module in ("torch", "realtime.cli", "realtime.run_images", "realtime.run_video"):
            import_module(module)
        begun_s = time.monotonic()
        for case in range(cases):
            rng = random.Random(f"{seed}-{case}")
            good = rng.choice(seeds)
            folder = Path(name) / f"case-{case}"
            folder.mkdir()
            path = folder / f"in{good.suffix}"
            path.write_bytes(mutate(good.read_bytes(), rng))
            if why := run_case(path, limits):
                failures[why.split(":")[0]] += 1
                keep.mkdir(parents=True, exist_ok=True)
                kept = keep / f"{seed}-{case}-{good.stem}{good.suffix}"
                shutil.copy(path, kept)
                print(f"{kept}: {why}", flush=True)
            shutil.rmtree(folder)
            if (case + 1) % 200 == 0:
                rate = (case + 1) / (time.monotonic() - begun_s)
                print(
                    f"{case + 1} cases, {rate:.1f} a second, {failures.total()} failed", flush=True
                )
    return failures


def main() -> int:
    """Run, report; 1 if a case did not pass."""
    parser = argparse.ArgumentParser(description="Damaged files through the commands.")
    parser.add_argument("--cases", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("out/fuzz"), help="keeps what failed")
    options = parser.parse_args()
    failures = fuzz(options.cases, options.seed, options.out, Limits())
    print(f"{options.cases} cases, {failures.total()} did not pass")
    for why, count in failures.most_common():
        print(f"  {count}: {why}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
