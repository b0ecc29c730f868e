"""Decoded frames become the RGB that FFmpeg itself makes of them, value by value."""

from __future__ import annotations

import av
import numpy as np
import pytest
from av.video.reformatter import VideoReformatter

from realtime.colour import EXACT, ColourConverter, plane_values, range_of, swscale_matrix
from realtime.source import ColourTags

WIDTH, HEIGHT = 70, 50  # rows are longer in memory

BITS = {
    "yuv420p": 8, "yuvj420p": 8, "nv12": 8, "yuv422p": 8, "yuyv422": 8, "yuv444p": 8, "gray": 8,
    "yuva420p": 8, "yuv420p10le": 10, "yuv422p12le": 12, "p010le": 16, "gray16le": 16,
    "gbrp": 8, "rgb24": 8, "rgba": 8, "gbrp10le": 10,
}  # fmt: skip


@pytest.mark.parametrize("pix_fmt", BITS)
@pytest.mark.parametrize(("matrix", "full_range"), [(1, False), (6, True), (9, False)])
def test_rgb_is_that_of_ffmpeg(pix_fmt: str, matrix: int, full_range: bool) -> None:
    bits = BITS[pix_fmt]
    frame = av.VideoFrame(WIDTH, HEIGHT, pix_fmt)
    rng = np.random.default_rng(7)
    for plane in frame.planes:
        values = np.frombuffer(plane, np.uint8 if bits == 8 else np.uint16)
        values[:] = rng.integers(0, 1 << bits, values.size)
    tags = ColourTags(matrix=matrix, primaries=2, transfer=2, full_range=full_range)
    means = {} if frame.format.is_rgb else {
        "src_colorspace": swscale_matrix(matrix),
        "src_color_range": range_of(full_range),
        "dst_color_range": range_of(True),
    }  # fmt: skip
    expected = VideoReformatter().reformat(frame, format="rgb24", interpolation=EXACT, **means)
    rgb = ColourConverter(tags).to_rgb(frame, WIDTH, HEIGHT)
    assert rgb.dtype == np.uint8
    assert rgb.flags.c_contiguous
    assert np.array_equal(rgb, expected.to_ndarray())
    assert rgb.std() > 10


def test_planes_are_the_frames_own_memory() -> None:
    frame = av.VideoFrame(WIDTH, HEIGHT, "yuv420p10le")
    for plane, (height, width) in zip(frame.planes, [(50, 70), (25, 35), (25, 35)], strict=True):
        values = plane_values(plane, 10)
        assert values.shape == (height, width)
        values[:] = 1000
        assert plane_values(plane, 10)[-1, -1] == 1000
