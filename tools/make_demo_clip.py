"""Photograph in, `assets/demo.mp4` out: six seconds of a soft, noisy, compressed webcam picture.

The photograph is `astronaut` of scikit-image (Eileen Collins, NASA, public domain), which only
this script needs: ``pip install -c constraints.txt scikit-image``. The same versions give the
same file, byte for byte. Written from scratch here: the camera's motion, its lens, sensor and
encoder, and a synthetic voice over a chord as the sound.
"""

from __future__ import annotations

import argparse
import importlib
import math
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

SEED = 20
SECONDS = 6
FPS = 25
WIDTH_PX, HEIGHT_PX = 320, 240
SUPERSAMPLING = 4
SHUTTER_S = 1 / 50
VIDEO_BIT_RATE = 330_000
AUDIO_BIT_RATE = 64_000
SAMPLE_RATE_HZ = 48_000
BT601 = 6  # AVCOL_*_SMPTE170M: what a standard-definition webcam's picture is coded in
LIMITED_RANGE = 1


@dataclass(frozen=True, slots=True)
class Pose:
    """Where the camera looks: the photo's point at the picture's centre, zoom and roll.

    ``zoom`` is clip pixels per photo pixel.
    """

    x_px: float
    y_px: float
    zoom: float
    roll_deg: float


def pose_at(time_s: float) -> Pose:
    """Give the camera's pose: one slow push in and back, with the drift of a hand."""
    push = 0.5 - 0.5 * math.cos(2 * math.pi * min(time_s / SECONDS, 1.0) * 0.8)
    sway = math.sin(2 * math.pi * 0.23 * time_s) + 0.35 * math.sin(2 * math.pi * 0.71 * time_s + 1)
    bob = math.sin(2 * math.pi * 0.31 * time_s + 2) + 0.3 * math.sin(2 * math.pi * 0.83 * time_s)
    return Pose(
        x_px=250 - 16 * push + 7 * sway,
        y_px=164 - 28 * push + 3 * bob,
        zoom=0.73 + 0.17 * push,
        roll_deg=1.2 * math.sin(2 * math.pi * 0.17 * time_s + 0.6),
    )


def look(photo: Floats, pose: Pose) -> Floats:
    """Render the photo from ``pose``, anti-aliased: (H, W, 3) float32 RGB, 0..1."""
    width, height = WIDTH_PX * SUPERSAMPLING, HEIGHT_PX * SUPERSAMPLING
    matrix = cv2.getRotationMatrix2D(
        (pose.x_px, pose.y_px), pose.roll_deg, pose.zoom * SUPERSAMPLING
    )
    matrix[:, 2] += (width / 2 - pose.x_px, height / 2 - pose.y_px)
    large = cv2.warpAffine(
        photo, matrix, (width, height), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101
    )
    lens = cv2.GaussianBlur(large, (0, 0), 0.62 * SUPERSAMPLING)
    sensor = cv2.resize(lens, (WIDTH_PX, HEIGHT_PX), interpolation=cv2.INTER_AREA)
    return np.asarray(sensor, dtype=np.float32)


def sense(light: Floats, time_s: float, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Do what a cheap sensor does: hunting exposure, a warm cast, shot noise, blotchy chroma."""
    gain = 0.9 + 0.025 * math.sin(2 * math.pi * 0.4 * time_s)
    warm = np.array([1.03, 1.0, 0.94], dtype=np.float32)
    picture = np.clip(light * gain * warm, 0, 1)
    shape = (HEIGHT_PX, WIDTH_PX)
    luma = rng.normal(0, 1, shape).astype(np.float32)[..., None]
    luma = luma * np.sqrt(0.00012 + 0.0006 * picture.mean(axis=2, keepdims=True))
    grain = rng.normal(0, 0.02, (*shape, 3)).astype(np.float32)
    blotches = np.asarray(cv2.GaussianBlur(grain, (0, 0), 1.4), dtype=np.float32)
    return np.rint(np.clip(picture + luma + blotches, 0, 1) * 255).astype(np.uint8)


def film(photo: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
    """Film the photo: SECONDS * FPS pictures, (240, 320, 3) uint8 RGB.

    Each is the mean of four moments while the shutter is open, in linear light.
    """
    rng = np.random.default_rng(SEED)
    linear = np.power(photo.astype(np.float32) / 255, 2.2, dtype=np.float32)
    pictures: list[NDArray[np.uint8]] = []
    for index in range(SECONDS * FPS):
        time_s = index / FPS
        moments = [look(linear, pose_at(time_s + SHUTTER_S * part / 4)) for part in range(4)]
        light = np.clip(np.mean(moments, axis=0), 0, 1) ** np.float32(1 / 2.2)
        pictures.append(sense(light.astype(np.float32), time_s, rng))
    return pictures


def sing() -> Floats:
    """Synthesise the sound: a voice without words over a soft chord; mono float32, -1..1."""
    rng = np.random.default_rng(SEED)
    time_s = np.arange(SECONDS * SAMPLE_RATE_HZ) / SAMPLE_RATE_HZ
    vowels = np.array([[730, 1090, 2440], [270, 2290, 3010], [570, 840, 2410], [530, 1840, 2480]])
    syllable_s = 0.24
    starts = np.arange(0, SECONDS, syllable_s)
    spoken = rng.integers(0, len(vowels), starts.size)
    formants = np.empty((3, time_s.size))
    for band in range(3):
        formants[band] = np.interp(time_s, starts + 0.08, vowels[spoken, band])
    loud = np.interp(time_s, starts, rng.uniform(0.5, 1.0, starts.size))
    breath = np.sin(np.pi * (time_s % syllable_s) / syllable_s) ** 0.7
    pauses = np.where((time_s % 2.16) > 1.8, 0.0, 1.0)
    pauses = np.convolve(pauses, np.ones(2400) / 2400, mode="same")
    pitch_hz = 175 + 14 * np.sin(2 * np.pi * 0.45 * time_s) + 3 * np.sin(2 * np.pi * 5.2 * time_s)
    phase = 2 * np.pi * np.cumsum(pitch_hz) / SAMPLE_RATE_HZ
    voice = np.zeros_like(time_s)
    for harmonic in range(1, 22):
        distance_hz = (harmonic * pitch_hz - formants) / np.array([[90.0], [120.0], [180.0]])
        resonance = (np.array([[1.0], [0.5], [0.25]]) / (1 + distance_hz**2)).sum(axis=0)
        voice += resonance * np.sin(harmonic * phase) / harmonic**0.3
    chord = sum(
        np.sin(2 * np.pi * note_hz * time_s) / 3 for note_hz in (146.83, 220.0, 277.18, 369.99)
    )
    sound = 0.30 * voice * loud * breath * pauses + 0.035 * np.asarray(chord)
    fade = np.clip(np.minimum(time_s, SECONDS - time_s) / 0.3, 0, 1)
    return (sound * fade / np.abs(sound).max() * 0.5).astype(np.float32)


def write(path: Path, pictures: list[NDArray[np.uint8]], sound: Floats) -> None:
    """Encode an MP4: H.264 at a webcam-like bit rate, and AAC."""
    with av.open(str(path), "w", format="mp4", options={"fflags": "+bitexact"}) as container:
        # One thread, since x264's output depends on their number.
        video = container.add_stream(
            "libx264", rate=FPS, options={"preset": "veryfast", "threads": "1", "bf": "0"}
        )
        video.width, video.height, video.pix_fmt = WIDTH_PX, HEIGHT_PX, "yuv420p"
        video.bit_rate = VIDEO_BIT_RATE
        context = video.codec_context
        context.colorspace = context.color_primaries = context.color_trc = BT601
        context.color_range = LIMITED_RANGE
        audio = container.add_stream("aac", rate=SAMPLE_RATE_HZ, layout="mono")
        audio.bit_rate = AUDIO_BIT_RATE

        samples_per_frame = SAMPLE_RATE_HZ // FPS
        for index, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame = frame.reformat(format="yuv420p", dst_colorspace=BT601)
            frame.pts, frame.time_base = index, Fraction(1, FPS)
            container.mux(video.encode(frame))
            part = sound[index * samples_per_frame : (index + 1) * samples_per_frame]
            heard = av.AudioFrame.from_ndarray(part[None], format="fltp", layout="mono")
            heard.sample_rate = SAMPLE_RATE_HZ
            heard.pts, heard.time_base = index * samples_per_frame, Fraction(1, SAMPLE_RATE_HZ)
            container.mux(audio.encode(heard))
        container.mux(video.encode(None))
        container.mux(audio.encode(None))


def main() -> None:
    """Make the clip."""
    parser = argparse.ArgumentParser(description="Rebuild the demo clip from a public-domain photo")
    parser.add_argument("out", nargs="?", type=Path, default=Path("assets/demo.mp4"))
    out: Path = parser.parse_args().out
    try:
        data: Any = importlib.import_module("skimage.data")
    except ModuleNotFoundError:
        parser.error("scikit-image is missing: pip install -c constraints.txt scikit-image")
    write(out, film(data.astronaut()), sing())
    print(f"{out}: {out.stat().st_size} bytes")


if __name__ == "__main__":
    main()
