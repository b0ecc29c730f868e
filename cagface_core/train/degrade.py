"""A sharp face in; the same face as a webcam or a compressed video would have brought it."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from cagface_core.types import Image

_FILTERS = (Pillow.Resampling.BICUBIC, Pillow.Resampling.BILINEAR, Pillow.Resampling.BOX)
_CLIP_FRAMES = 4

Floats: TypeAlias = NDArray[np.float32]


def degrade(hr: Image, rng: np.random.Generator) -> Image:
    """Blur, shrink to a quarter, add sensor noise, denoise and sharpen as cameras do, compress.

    Each step is drawn at random, and none happens now and then: input may also be good.
    Compression is JPEG or a real H.264 encoding of a few slightly moving frames.

    Args:
        hr: (4H, 4W, 3) uint8 RGB.
        rng: the only source of chance.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    height, width = hr.shape[0] // 4, hr.shape[1] // 4
    picture = _blur(hr, rng)
    lr = _resize(picture, width, height, _FILTERS[rng.integers(3)])
    if rng.random() < 0.35:  # upscaled somewhere on its way, as most webcam pictures are
        factor = rng.uniform(0.55, 0.95)
        small = _resize(lr, round(width * factor), round(height * factor), _FILTERS[0])
        lr = _resize(small, width, height, _FILTERS[rng.integers(2)])
    light = rng.random()
    sigma = rng.uniform(0.5, 9.0) if light < 0.6 else rng.uniform(9.0, 20.0) if light > 0.85 else 0
    grain = rng.uniform(0.0, 0.8) if rng.random() < 0.5 else 0.0
    sharpen = rng.uniform(0.2, 1.0) if rng.random() < 0.3 else 0.0
    denoise = (
        sigma * rng.uniform(1.0, 3.0) if rng.random() < (0.7 if light > 0.85 else 0.2) else 0.0
    )

    def sense(clean: Image) -> Image:
        noisy = _noise(clean.astype(np.float32), sigma, grain, rng)
        if denoise:
            noisy = np.asarray(cv2.bilateralFilter(noisy, 5, denoise, 1.5), np.float32)
        if sharpen:
            noisy += sharpen * (noisy - cv2.GaussianBlur(noisy, (0, 0), 1.0))
        return np.clip(noisy + 0.5, 0, 255).astype(np.uint8)

    compression = rng.random()
    if compression < 0.5:
        shifts = rng.normal(0, 0.7, (_CLIP_FRAMES - 1, 2))
        clip = [sense(_shift(lr, float(dx), float(dy))) for dx, dy in shifts] + [sense(lr)]
        return h264(clip, crf=int(rng.integers(18, 33)))
    lr = sense(lr)
    return jpeg(lr, int(rng.integers(35, 96))) if compression < 0.8 else lr


def jpeg(rgb: Image, quality: int) -> Image:
    """Encode and decode (H, W, 3) uint8 as JPEG of ``quality`` 0..100."""
    ok, data = cv2.imencode(".jpg", rgb[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    decoded = cv2.imdecode(data, cv2.IMREAD_COLOR)
    assert ok
    assert decoded is not None
    return np.ascontiguousarray(np.asarray(decoded, np.uint8)[..., ::-1])


def h264(clip: list[Image], crf: int) -> Image:
    """Encode equal-sized frames as H.264 of quality ``crf`` and return the last as decoded.

    Odd sizes are padded by one replicated row or column for the codec and cut again.
    """
    import av  # not needed, and not there, where ready-made data is trained on

    height, width = clip[0].shape[:2]
    encoder: Any = av.CodecContext.create("libx264", "w")
    encoder.width, encoder.height = width + width % 2, height + height % 2
    encoder.pix_fmt, encoder.time_base = "yuv420p", Fraction(1, 25)
    encoder.thread_count = 1
    encoder.options = {"crf": str(crf), "preset": "veryfast", "bf": "0"}
    packets: list[Any] = []
    for index, rgb in enumerate(clip):
        even = np.pad(rgb, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        frame = av.VideoFrame.from_ndarray(even, format="rgb24")
        frame.pts = index
        packets += encoder.encode(frame)
    packets += encoder.encode(None)
    decoder: Any = av.CodecContext.create("h264", "r")
    decoder.thread_count = 1
    frames = [frame for packet in [*packets, None] for frame in decoder.decode(packet)]
    decoded: Image = frames[-1].to_ndarray(format="rgb24")
    return np.ascontiguousarray(decoded[:height, :width])


def _blur(hr: Image, rng: np.random.Generator) -> Image:
    """Blur by an oriented Gaussian (lens), a disc (out of focus) or a short straight motion."""
    chance = rng.random()
    if chance < 0.15:
        return hr
    angle = float(rng.uniform(0, np.pi))
    major = math.exp(float(rng.uniform(math.log(0.6), math.log(5.0))))
    disc = 0.6 < chance < 0.85
    minor = major * rng.uniform(0.6, 1.0) if chance < 0.85 else 0.5
    radius = int(np.ceil((1.5 if disc else 2.5) * major)) + disc
    x = np.arange(-radius, radius + 1, dtype=np.float32)
    y = np.arange(-radius, radius + 1, dtype=np.float32)[:, None]
    if disc:
        kernel = np.clip(1.5 * major + 0.5 - np.hypot(x, y), 0, 1)
    else:
        along = x * np.cos(angle) + y * np.sin(angle)
        across = y * np.cos(angle) - x * np.sin(angle)
        kernel = np.exp(-0.5 * ((along / major) ** 2 + (across / minor) ** 2))
    blurred = cv2.filter2D(hr, -1, kernel / kernel.sum(), borderType=cv2.BORDER_REFLECT)
    return np.asarray(blurred, np.uint8)


def _noise(rgb: Floats, sigma: float, grain: float, rng: np.random.Generator) -> Floats:
    """Add noise that grows with brightness (photons), partly smoothed and shared by channels."""
    if not sigma:
        return rgb
    shape = rgb.shape
    noise: Floats = rng.standard_normal(shape, np.float32) * 0.6
    noise += rng.standard_normal((shape[0], shape[1], 1), np.float32) * 0.8
    if grain:
        noise = np.asarray(cv2.GaussianBlur(noise, (0, 0), grain), np.float32)
        noise *= 1 + 1.5 * grain
    return np.asarray(rgb + noise * sigma * np.sqrt(0.3 + 0.7 * rgb / 255), np.float32)


def _resize(rgb: Image, width: int, height: int, how: Pillow.Resampling) -> Image:
    """Resize, antialiased."""
    return np.asarray(Pillow.fromarray(rgb).resize((width, height), how))


def _shift(rgb: Image, dx: float, dy: float) -> Image:
    """Move the picture by fractions of a pixel, borders mirrored."""
    matrix = np.array([[1, 0, dx], [0, 1, dy]], np.float32)
    size = (rgb.shape[1], rgb.shape[0])
    return np.asarray(cv2.warpAffine(rgb, matrix, size, borderMode=cv2.BORDER_REFLECT), np.uint8)
