"""Clips in; how much more the enhanced faces flicker than the same faces upscaled plainly, out.

Run ``python -m cagface_core.evaluate.flicker CLIP... [--weights NAME...] [--scale 2 4]``.

Everything is measured inside the boxes of tracked faces, from one frame to the next, on the output
and on the bicubic upscale of the same frames. Each figure is the ratio of the two: 1 is as steady
as bicubic, less is steadier.

- ``static``: mean absolute change of pixels whose input, blurred, hardly changed.
- ``fine``: the same of what is finer than about two input pixels, where shimmer lives.
- ``warped``: mean absolute difference to the frame before, moved by the optical flow of the plain
  upscale; what came into view is left out. A sharper picture scores higher here even when it
  moves perfectly, because every small error of the flow weighs more on it.
- ``detail``: not a change but the amount of what ``fine`` looks at, to judge the others by.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from cagface_core import checkpoint
from cagface_core.config import EnhancerConfig
from cagface_core.enhancer import FaceEnhancer
from cagface_core.errors import InputError
from cagface_core.paste import upscale_frame
from cagface_core.standalone import open_console, run_standalone, write_files
from cagface_core.types import Enhanced, Face, Frame, Image

FIGURES = ("static", "fine", "warped", "detail")

_STILL_LEVELS = 1.5  # a pixel is static when its blurred luminance changes by less
_STILL_SIGMA_PX = 1.5  # of the input: noise is not motion
_FINE_SIGMA_PX = 1.0  # of the input
_MARGIN_PX = 16  # of the input, around the face: for the flow
_FLOW_ERROR_PX = 0.5  # of the input: where there and back differ by more, something came into view

Floats = NDArray[np.float32]


class Meter:
    """Takes a stream frame by frame and adds up how much its faces change."""

    def __init__(self, scale: int) -> None:
        """Start with nothing seen; ``scale`` is the output size over the input size."""
        self.scale = scale
        self.pairs = 0
        """Faces seen in two frames that follow each other."""
        self._sums = {name: np.zeros(3) for name in FIGURES}  # enhanced, bicubic, pixels
        self._flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        self._last: tuple[Image, Image, Image, set[int]] | None = None

    def add(self, rgb: Image, enhanced: Enhanced) -> None:
        """Take the next frame, (H, W, 3) uint8 RGB, and what became of it."""
        plain = upscale_frame(rgb, self.scale)
        now = (rgb, enhanced.rgb, plain)
        if self._last is not None and self._last[0].shape == rgb.shape:
            *before, ids = self._last
            for face in enhanced.faces:
                if face.id in ids:
                    self._compare(face, now, (before[0], before[1], before[2]))
        self._last = (*now, {face.id for face in enhanced.faces})

    def report(self) -> dict[str, Any]:
        """Give ``faces`` and by figure its ``ratio``, and in levels ``enhanced``, ``bicubic``.

        A ratio is None where nothing was measured or bicubic does not change at all.
        """
        found: dict[str, Any] = {"faces": self.pairs}
        for name, (enhanced, bicubic, pixels) in self._sums.items():
            ratio = float(enhanced / bicubic) if bicubic > 0 else None
            levels = {"enhanced": enhanced / pixels, "bicubic": bicubic / pixels} if pixels else {}
            found[name] = {"ratio": ratio, **{k: float(v) for k, v in levels.items()}}
        return found

    def _compare(
        self, face: Face, now: tuple[Image, Image, Image], before: tuple[Image, Image, Image]
    ) -> None:
        """Add one face: (input, enhanced, plain) of this frame and of the one before."""
        height, width = now[0].shape[:2]
        x0, y0 = max(0, round(face.x)), max(0, round(face.y))
        x1, y1 = min(width, round(face.x + face.w)), min(height, round(face.y + face.h))
        if min(x1 - x0, y1 - y0) < 8:
            return
        self.pairs += 1
        left, top = max(0, x0 - _MARGIN_PX), max(0, y0 - _MARGIN_PX)
        right, bottom = min(width, x1 + _MARGIN_PX), min(height, y1 + _MARGIN_PX)
        s = self.scale
        outer = np.s_[top * s : bottom * s, left * s : right * s]
        box = np.zeros((bottom - top, right - left), np.uint8)
        box[y0 - top : y1 - top, x0 - left : x1 - left] = 1
        still = box & _still(now[0][top:bottom, left:right], before[0][top:bottom, left:right])
        inside, still = (np.kron(m, np.ones((s, s), np.uint8)).astype(bool) for m in (box, still))
        field, visible = self._motion(now[2][outer], before[2][outer])
        visible &= inside
        for which, (a, b) in enumerate(((now[1], before[1]), (now[2], before[2]))):
            x, last = a[outer].astype(np.float32), b[outer].astype(np.float32)
            fine, fine_last = self._fine(x), self._fine(last)
            moved = _sample(last, field, cv2.INTER_CUBIC)
            for name, change, mask in (
                ("static", x - last, still),
                ("fine", fine - fine_last, still),
                ("warped", x - moved, visible),
                ("detail", fine, inside),
            ):
                self._sums[name][which] += float(np.abs(change)[mask].mean(axis=-1).sum())
        for name, mask in zip(FIGURES, (still, still, visible, inside), strict=True):
            self._sums[name][2] += float(mask.sum())

    def _fine(self, x: Floats) -> Floats:
        """What is finer than about two input pixels."""
        return np.asarray(x - cv2.GaussianBlur(x, (0, 0), _FINE_SIGMA_PX * self.scale), np.float32)

    def _motion(self, now: Image, before: Image) -> tuple[Floats, NDArray[np.bool_]]:
        """Find where each pixel was one frame before, (H, W, 2) x and y, and which were in view."""
        a, b = (cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY) for picture in (now, before))
        height, width = a.shape[:2]
        nothing = np.zeros((height, width, 2), np.float32)
        back = np.asarray(self._flow.calc(a, b, nothing.copy()), np.float32)
        there = np.asarray(self._flow.calc(b, a, nothing), np.float32)
        rows, columns = np.indices((height, width), np.float32)
        field = np.stack([columns, rows], axis=-1) + back
        returned = _sample(there, field, cv2.INTER_LINEAR)
        closed = np.linalg.norm(back + returned, axis=-1) < _FLOW_ERROR_PX * self.scale
        limits = np.array([width - 1, height - 1])
        return field, closed & ((field >= 0) & (field <= limits)).all(axis=-1)


def _sample(picture: Floats, field: Floats, kernel: int) -> Floats:
    """Read a picture at the positions of a field, (H, W, 2) x and y in pixels."""
    found = cv2.remap(
        picture, field[..., 0], field[..., 1], kernel, borderMode=cv2.BORDER_REPLICATE
    )
    return np.asarray(found, np.float32)


def _still(now: Image, before: Image) -> NDArray[np.uint8]:
    """1 where the blurred luminance of two (H, W, 3) pictures is the same, and all around too."""
    a, b = (
        cv2.GaussianBlur(cv2.cvtColor(p, cv2.COLOR_RGB2GRAY).astype(np.float32), (0, 0),
                         _STILL_SIGMA_PX) for p in (now, before)
    )  # fmt: skip
    still = (np.abs(a - b) < _STILL_LEVELS).astype(np.uint8)
    return np.asarray(cv2.erode(still, np.ones((3, 3), np.uint8)), np.uint8)


def measure(
    frames: Iterable[Frame], enhance: Callable[[Frame], Enhanced], scale: int
) -> dict[str, Any]:
    """Run a stream through an enhancer and report as ``Meter.report``."""
    meter = Meter(scale)
    for frame in frames:
        meter.add(frame.rgb, enhance(frame))
    return meter.report()


def read_clip(path: Path, seconds: float) -> Iterator[Frame]:
    """Decode the first ``seconds`` of a clip, as stored: not turned upright.

    Raises:
        InputError: it cannot be read, or has no picture.
    """
    import av  # not there where only the core is installed
    import av.error

    start: int | None = None
    try:
        with av.open(str(path)) as container:
            for picture in container.decode(video=0):
                pts, time_base = picture.pts, picture.time_base
                if pts is None or time_base is None:
                    continue
                start = pts if start is None else start
                if float((pts - start) * time_base) >= seconds:
                    break
                rgb = np.asarray(picture.to_ndarray(format="rgb24"), np.uint8)
                yield Frame(rgb, pts - start, time_base)
    except (av.error.FFmpegError, IndexError, OSError) as error:
        raise InputError(f"{path} cannot be read ({error}); expected a video") from error
    if start is None:
        raise InputError(f"{path}: no picture of it can be decoded; expected a video")


def _run(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Measure every clip with all weights at all scales; one row each."""
    rows: list[dict[str, Any]] = []
    for name in options.weights:
        for scale in options.scale:
            config = EnhancerConfig(
                weights=str(checkpoint.find_named(name)), parser=options.parser, scale=scale,
                mode=options.mode, max_crop_px=options.max_crop_px, device=options.device,
            )  # fmt: skip
            with closing(FaceEnhancer(config)) as enhancer:
                for clip in options.clips:
                    state = enhancer.new_state()
                    found = measure(
                        read_clip(clip, options.seconds),
                        lambda frame, e=enhancer, s=state: e.enhance(frame, s),
                        scale,
                    )
                    rows.append({"clip": clip.name, "weights": name, "scale": scale, **found})
    return rows


def markdown(rows: Sequence[dict[str, Any]]) -> str:
    """Write the ratios as a table, and bicubic's own change in levels of 255."""
    heads = (*FIGURES, "bicubic static, levels", "bicubic warped, levels")
    lines = [
        "| clip | weights | scale | faces | " + " | ".join(heads) + " |",
        "| --- | --- " + "| ---: " * (2 + len(heads)) + "|",
    ]
    for row in rows:
        ratios = [row[name]["ratio"] for name in FIGURES]
        levels = [row[name].get("bicubic") for name in ("static", "warped")]
        cells = ["-" if v is None else f"{v:.2f}" for v in (*ratios, *levels)]
        start = (row["clip"], row["weights"], f"{row['scale']}x", str(row["faces"]))
        lines.append("| " + " | ".join((*start, *cells)) + " |")
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; 2 after a user's error, as everywhere."""
    parser = argparse.ArgumentParser(description="Flicker of enhanced faces, relative to bicubic.")
    parser.add_argument("clips", type=Path, nargs="+", metavar="CLIP")
    parser.add_argument("--weights", nargs="+", default=["nano-webcam"], metavar="NAME|FILE")
    parser.add_argument("--parser", type=Path, metavar="FILE", help="another component network")
    parser.add_argument("--scale", type=int, nargs="+", default=[2], choices=(1, 2, 4))
    parser.add_argument("--mode", default="file", choices=("live", "file"))
    parser.add_argument("--seconds", type=float, default=3.0, help="of each clip (default: 3)")
    parser.add_argument("--max-crop-px", type=int, metavar="PX", help="as of 'cagface video'")
    parser.add_argument("--out", type=Path, default=Path("out/flicker"), help="folder to write")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or mps")
    options = parser.parse_args(arguments)
    return run_standalone(lambda: _report(options))


def _report(options: argparse.Namespace) -> None:
    """Measure, write figures and table, print the table."""
    rows = _run(options)
    texts = {"flicker.json": json.dumps(rows, indent=1) + "\n", "flicker.md": markdown(rows)}
    write_files(options.out, texts)
    console = open_console()
    console.print(texts["flicker.md"], markup=False, soft_wrap=True)
    console.print(f"wrote flicker.json and flicker.md in {options.out}")


if __name__ == "__main__":
    sys.exit(main())
