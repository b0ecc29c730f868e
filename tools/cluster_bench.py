"""What a cluster costs and gains: one clip by one process, then by 1, 2 and 4 workers.

python tools/cluster_bench.py CLIP [--repeat 4] [--workers 1 2 4] [--out FILE.json] [VIDEO OPTIONS]

The clip is repeated, joined end to end, so that there are pieces to share out. Every output is held
against the one of a single process, byte by byte. What limits many workers is measured beside that:
how fast the pieces are found and the film is joined, and what each piece takes besides itself.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import Any

import av

from realtime.ahead import Piece, stretches
from realtime.cued_film import mark_of
from realtime.video_in import VideoSource


def main() -> int:
    """Measure and print, and write what was measured where asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("clip", type=Path)
    parser.add_argument("--repeat", type=int, default=4, help="so many times the clip (default 4)")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--out", type=Path, help="where to write the figures, as JSON")
    arguments, options = parser.parse_known_args()
    with tempfile.TemporaryDirectory() as folder:
        film = repeated(arguments.clip, arguments.repeat, Path(folder, "film.mkv"))
        found = measure(film, Path(folder), arguments.workers, options)
    text = json.dumps(found, indent=1)
    sys.stdout.write(text + "\n")
    if arguments.out is not None:
        arguments.out.write_text(text + "\n", encoding="utf-8")
    return 0 if all(run["equal"] for run in found["clusters"]) else 1


def measure(film: Path, folder: Path, workers: list[int], options: list[str]) -> dict[str, Any]:
    """All figures of one film."""
    alone = timed(film, folder / "alone.mp4", options)
    clusters: list[dict[str, Any]] = []
    for count in workers:
        output = folder / f"{count}.mp4"
        cluster = ["--cluster", "local", "--workers", str(count)]
        run = timed(film, output, [*options, *cluster])
        equal = output.read_bytes() == (folder / "alone.mp4").read_bytes()
        clusters.append({"workers": count, **run, "equal": equal})
    return {
        "film": scan(film),
        "cores": os.cpu_count(),
        "options": options,
        "alone": alone,
        "join": joined_s(film, folder, options),
        "clusters": clusters,
    }


def repeated(clip: Path, count: int, path: Path) -> Path:
    """The clip's video, so many times, in one file."""
    with av.open(str(path), "w") as target:
        offset = 0
        stream = None
        for _ in range(count):
            with av.open(str(clip)) as source:
                video = source.streams.video[0]
                if stream is None:
                    stream = target.add_stream_from_template(video)
                packets = [packet for packet in source.demux(video) if packet.size]
                # Some have no decoding time, first ones in Matroska for one; a sorted order has.
                shown = sorted(packet.pts or 0 for packet in packets)
                delay = max(at - (p.pts or 0) for at, p in zip(shown, packets, strict=True))
                for packet, at in zip(packets, shown, strict=True):
                    packet.pts = (packet.pts or 0) + offset
                    packet.dts = at - delay + offset
                    packet.stream = stream
                    target.mux(packet)
                offset += shown[-1] + (packets[-1].duration or shown[-1] - shown[-2])
    return path


def scan(film: Path) -> dict[str, Any]:
    """How fast the pieces are found, and what they take besides themselves."""
    begin = time.perf_counter()
    with closing(VideoSource(film, planes=True)) as source:
        found = list(stretches(source, Piece(), mark_of, stop=lambda: False))
        info = source.info
    seconds = time.perf_counter() - begin
    frames = found[-1].end
    taken = sum(len(stretch.pts) for stretch in found)
    run_in = sum(stretch.piece.start - stretch.first for stretch in found)
    return {
        "size": [info.width, info.height],
        "frames": frames,
        "pieces": len(found),
        "bytes": film.stat().st_size,
        "scan_fps": frames / seconds,
        "decoded_share": taken / frames,
        "enhanced_share": (frames + run_in) / frames,
    }


def timed(film: Path, output: Path, options: list[str]) -> dict[str, Any]:
    """One run of the command: the seconds of all of it, and those from the first frame on."""
    stats = output.with_suffix(".json")
    code = "import sys; from realtime.cli import main; sys.exit(main())"
    words = ["video", str(film), str(output), "--stats-json", str(stats), *options]
    begin = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(done.stderr)
    told = json.loads(stats.read_text(encoding="utf-8"))
    return {
        "command_s": time.perf_counter() - begin,
        "work_s": told["seconds"],
        "fps": told["fps"],
        "bytes": output.stat().st_size,
    }


def joined_s(film: Path, folder: Path, options: list[str]) -> dict[str, float]:
    """How long joining, reading back and starting take where all pieces are there already."""
    output = folder / "join.mp4"
    kept = folder / f".{output.name}.cagface"
    code = (
        "import sys, shutil; from realtime import journal; from pathlib import Path\n"
        "journal.Journal.remove = lambda self: self._lock.release()\n"
        "from realtime.cli import main; sys.exit(main())"
    )
    words = ["video", str(film), str(output), *options]
    seconds: list[float] = [time.perf_counter()]
    for _ in range(2):
        output.unlink(missing_ok=True)
        subprocess.run([sys.executable, "-c", code, *words], capture_output=True, check=True)
        seconds.append(time.perf_counter())
    pieces = list(kept.glob("0*.mkv"))
    _, again = (after - before for before, after in pairwise(seconds))
    return {"command_s": again, "piece_bytes": sum(p.stat().st_size for p in pieces) / len(pieces)}


if __name__ == "__main__":
    sys.exit(main())
