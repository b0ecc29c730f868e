"""A network's picture in; the same held to what the network was given, out.

One formula on every device. Where the processor computes, enlarging, shrinking and blurring are
OpenCV's: the same kernels, several times as fast as torch's there.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, lru_cache

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from cagface_core.attention import luminance

SIGMA_PX = {"clean": 0.0, "webcam": 3.0}
"""By protocol, what :func:`hold` is to be given: clean input is kept exactly, of degraded input
what is smoother than its noise and blocks."""

_CHANGED_LEVELS = (3.0, 5.0)
_SHARPENED = (-0.1, -0.2)
"""Fine content of the input is kept up to the first and given up beyond the second: the RMS of
what the network changed of it, and the change's correlation with it, negative where the network
sharpens. Set on the validation photos and by eye on soft clips."""

_BRIGHT_LEVELS, _MOST_LIFT = 100.0, 3.0
"""In pictures darker than this on average all is smaller, good detail and noise: changes count as
many times more, up to so many."""

_COLOUR_LEVELS = (3.0, 1.0)
"""A picture has colour from the first on, RMS, and is black and white below the second."""


def resize(x: Tensor, height: int, width: int) -> Tensor:
    """Bring (N, C, H, W) float32 to (height, width): bicubic, antialiased where it shrinks.

    Enlarging, it is what :func:`cagface_core.paste.upscale_frame` does. Shrinking by more than
    two, but not by four, it halves first: that is fast, and leaves little for the slow rest.
    """
    if x.shape[-2:] == (height, width):
        return x
    halves = x.shape[-2] // 2, x.shape[-1] // 2
    if (
        height < halves[0] and width < halves[1] and 4 * height != x.shape[-2]
        and x.shape[-2:] == (2 * halves[0], 2 * halves[1])
    ):  # fmt: skip
        return resize(resize(x, *halves), height, width)
    times = x.shape[-2] // height
    if times in (2, 4) and x.shape[-2:] == (times * height, times * width) and _on_processor(x):
        return _each(x, lambda p: _shrunk(p, times))
    if height < x.shape[-2]:
        # torch shrinks planes several times as fast as interleaved channels
        return F.interpolate(
            x.contiguous(), size=(height, width), mode="bicubic", antialias=True
        )  # fmt: skip
    if _on_processor(x):
        size = (width, height)
        return _each(x, lambda p: cv2.resize(p, size, interpolation=cv2.INTER_CUBIC))
    return F.interpolate(x, size=(height, width), mode="bicubic", align_corners=False)


def hold(
    sr: Tensor, lr: Tensor, sigma_px: float, seen: Tensor | None = None,
    colour_px: float | None = None, finer: Callable[[], Tensor] | None = None,
) -> Tensor:  # fmt: skip
    """Hold a super-resolved face to its input, and tell what it adds to the plain upscale.

    One back-projection step. What the face, shrunk again, has too much or too little of is
    upscaled and put right. With ``sigma_px`` 0 all of it: nothing the input shows may change. With
    more, surely its smooth part: colour and shading cannot drift. Of what is finer than
    ``sigma_px``, noise, block edges and blur may go; but where the network neither changes much
    nor sharpens, the picture was a good one, and its detail is kept: all of it where the change is
    below 3 levels of 255 (RMS over the picture), nothing above 5. A network that saw its input
    shrunk knows nothing of what is finer than it saw, so that is kept whole too: a large sharp
    face must not become the softer one that the network was shown.

    Args:
        sr: (N, 3, S*H, S*W) float32, the enhanced picture at any integer scale S.
        lr: (N, 3, H, W), its input, in the same range.
        sigma_px: Gaussian standard deviation in pixels of what the network saw.
        seen: (N, 3, h, w), the input as the network saw it, shrunk; None is the input itself.
        colour_px: the same of its colour, where that is to be held more strictly than its
            luminance; None is ``sigma_px``.
        finer: gives ``sr`` by a network for clean input alone: as far as a picture was a good
            one, that is shown, held to all of it. On the processor alone, or outside of graphs.

    Returns:
        (N, 3, S*H, S*W): the consistent face minus the bicubic upscale of ``lr``.
    """
    kept = resize(sr, lr.shape[-2], lr.shape[-1])
    if not sigma_px:
        return sr - resize(kept, sr.shape[-2], sr.shape[-1])
    shown = lr if seen is None else seen
    change = resize(lr - kept, *shown.shape[-2:])
    given_up, trust = _given_up(change, shown, sigma_px, colour_px)
    added = sr - resize(kept + resize(given_up, *lr.shape[-2:]), sr.shape[-2], sr.shape[-1])
    if finer is None or not bool((trust > 0).any()):
        return added
    better = added + trust * (hold(finer(), lr, 0.0) - added)
    return torch.where(trust > 0, better, added)  # whatever came of those that are not shown


def hold_coarse(
    sr: Tensor, seen: Tensor, sigma_px: float, height: int, width: int,
    colour_px: float | None = None,
) -> Tensor:  # fmt: skip
    """Do what :func:`hold` does to an input that has no fewer pixels than the network makes.

    Then all that is finer than the network saw is kept, and what it adds is no finer either.

    Args:
        sr: (N, 3, S*h, S*w) float32, the enhanced picture at any integer scale S.
        seen: (N, 3, h, w), the input as the network saw it, shrunk.
        sigma_px: as for :func:`hold`.
        height: rows of the answer, S times those of the input; and
        width: its columns.
        colour_px: as for :func:`hold`.

    Returns:
        (N, 3, height, width): the consistent face minus the bicubic upscale of the input.
    """
    if sigma_px == 0:
        return seen.new_zeros(*seen.shape[:2], height, width)
    change = seen - resize(sr, *seen.shape[-2:])
    return resize(-_given_up(change, seen, sigma_px, colour_px)[0], height, width)


def as_coloured(added: Tensor, lr: Tensor) -> Tensor:
    """Take the colour off what is added to pictures that have none: black and white stays so.

    Args:
        added: (N, 3, S*H, S*W), what is added to their plain upscale.
        lr: (N, 3, H, W), the pictures, in [-1, 1].
    """
    levels = 127.5 * (lr - luminance(lr)).square().mean(dim=(1, 2, 3), keepdim=True).sqrt()
    share = _between(levels, *_COLOUR_LEVELS)
    if _on_processor(added) and bool((share == 1).all()):
        return added
    grey = luminance(added)
    return grey + share * (added - grey)


def _given_up(
    change: Tensor, shown: Tensor, sigma_px: float, colour_px: float | None
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """What of the input, as it was ``shown``, the face need not keep; ``change``: all it lacks.

    And how good an input it was, (N, 1, 1, 1) in [0, 1].
    """
    fine, detail = (x - _smooth(x, sigma_px) for x in (change, shown))
    if colour_px is not None and colour_px < sigma_px:
        grey = luminance(fine)
        colour = change - luminance(change)
        fine = grey + colour - _smooth(colour, colour_px)
    trust = _trust(fine, detail, shown)
    return (1 - trust) * fine, trust


def _trust(change: Tensor, detail: Tensor, shown: Tensor) -> Tensor:
    """Tell how good an input was from its fine content and what the network took of it.

    All (N, 3, H, W), the last in [-1, 1]; the answer is (N, 1, 1, 1) in [0, 1].
    """
    axes = (1, 2, 3)
    bright = 127.5 * (luminance(shown).mean(dim=axes, keepdim=True) + 1)
    taken, whole = (x.square().sum(dim=axes, keepdim=True).sqrt() for x in (change, detail))
    rms_levels = 127.5 * change.square().mean(dim=axes, keepdim=True).sqrt()
    rms_levels = rms_levels * (_BRIGHT_LEVELS / bright).clamp(1, _MOST_LIFT)
    correlation = (change * detail).sum(dim=axes, keepdim=True) / (taken * whole + 1e-9)
    return _between(rms_levels, *_CHANGED_LEVELS) * _between(correlation, *_SHARPENED)


def _between(x: Tensor, good: float, bad: float) -> Tensor:
    """1 on the good side, 0 on the bad, linear between."""
    return ((x - bad) / (good - bad)).clamp(0, 1)


def _smooth(x: Tensor, sigma_px: float) -> Tensor:
    """Blur (N, C, H, W) by a Gaussian, borders replicated."""
    radius = int(2.5 * sigma_px + 0.5)
    if _on_processor(x):
        side = 2 * radius + 1
        return _each(
            x,
            lambda p: cv2.GaussianBlur(
                p, (side, side), sigma_px, borderType=cv2.BORDER_REPLICATE
            ),
        )  # fmt: skip
    offsets = torch.arange(-radius, radius + 1, dtype=x.dtype, device=x.device)
    kernel = torch.exp(-0.5 * (offsets / sigma_px) ** 2)
    kernel = (kernel / kernel.sum()).expand(x.shape[1], 1, 1, -1)
    x = F.pad(x, (radius, radius, radius, radius), mode="replicate")
    x = F.conv2d(x, kernel, groups=x.shape[1])
    return F.conv2d(x, kernel.transpose(2, 3), groups=x.shape[1])


def _on_processor(x: Tensor) -> bool:
    """Whether OpenCV can work on it; it knows no gradients, which training wants."""
    return x.device.type == "cpu" and x.dtype == torch.float32 and not x.requires_grad


def _shrunk(picture: NDArray[np.float32], times: int) -> NDArray[np.float32]:
    """Shrink (times*H, times*W, 3) by 2 or 4, as torch and Pillow do: bicubic, antialiased.

    Beyond the border there is nothing, and what is left of the kernel there is brought to a sum
    of 1. Columns are shrunk as rows of the picture on its side: only what stays is computed.
    """
    tall = _fewer_rows(picture, times)
    shrunk = cv2.transpose(_fewer_rows(np.asarray(cv2.transpose(tall), np.float32), times))
    down, across = (_at_border(n, times) for n in shrunk.shape[:2])
    for at, factor in down.items():
        shrunk[at] *= factor
    for at, factor in across.items():
        shrunk[:, at] *= factor
    return np.asarray(shrunk, np.float32)


def _fewer_rows(picture: NDArray[np.float32], times: int) -> NDArray[np.float32]:
    """Shrink (times*H, W, 3) to (H, W, 3) by the kernel of :func:`_taps`, zeros beyond the border.

    The first, second, ... of each ``times`` rows have taps of their own, four each.
    """
    height, width = picture.shape[0] // times, picture.shape[1]
    turns = np.ascontiguousarray(picture).reshape(height, times, -1)
    taps, total = _taps(times), np.zeros((), np.float32)
    for turn in range(times):
        first = (turn + times // 2) % times
        own, before = taps[first::times, None], 2 if first < times // 2 else 1
        part = cv2.filter2D(
            turns[:, turn], -1, own, anchor=(0, before), borderType=cv2.BORDER_CONSTANT
        )
        total = part if turn == 0 else cv2.add(total, part, dst=part)
    return np.asarray(total, np.float32).reshape(height, width, -1)


@cache
def _taps(times: int) -> NDArray[np.float32]:
    """The cubic kernel (a = -0.5) at the 4*times pixels that one of the shrunk picture covers."""
    x = np.abs(np.arange(-2 * times, 2 * times) + 0.5) / times
    near, far = (1.5 * x - 2.5) * x * x + 1, ((-0.5 * x + 2.5) * x - 4) * x + 2
    taps = np.where(x < 1, near, far)
    return np.asarray(taps / taps.sum(), np.float32)


@lru_cache(64)
def _at_border(length: int, times: int) -> dict[int, np.float32]:
    """What pixels near the ends of a shrunk row of ``length`` are to be multiplied by."""
    kept = np.convolve(np.ones(length * times), _taps(times))[2 * times + times // 2 - 1 :: times]
    ends = {*range(min(2, length)), *range(max(0, length - 2), length)}
    return {at: np.float32(1 / kept[at]) for at in sorted(ends)}


def _each(x: Tensor, change: Callable[[NDArray[np.float32]], object]) -> Tensor:
    """Change each picture of (N, C, H, W) as OpenCV sees it, (H, W, C)."""
    pictures = x.permute(0, 2, 3, 1).contiguous().numpy()
    # OpenCV leaves out a single channel.
    changed = [torch.from_numpy(np.atleast_3d(np.asarray(change(p), np.float32))) for p in pictures]
    whole = changed[0][None] if len(changed) == 1 else torch.stack(changed)
    return whole.permute(0, 3, 1, 2)
