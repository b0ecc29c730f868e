"""A file's name and its picture in; the encoder, its options and its pixel format out."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import av
from av.codec.codec import find_best_pix_fmt_of_list
from av.video.format import VideoFormat

from cagface_core import ConfigError, OutputError
from realtime.hdr import HdrMetadata
from realtime.source import SourceInfo

_log = logging.getLogger(__name__)

_X26X_PRESETS = (
    "ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class EncodeOptions:
    """How to encode; None means the usual value for the file's suffix, the picture, the codec."""

    codec: str | None = None
    crf: int | None = None
    preset: str | None = None
    pix_fmt: str | None = None


@dataclass(frozen=True, slots=True)
class Encoder:
    """What this program knows of one FFmpeg encoder.

    Attributes:
        options: quality, preset and HDR metadata become the encoder's own options.
        crf: constant quality where none is asked for.
        max_crf: the worst quality; 0 where there is no choice.
        preset: speed where none is asked for.
        presets: speeds to choose from, or profiles.
        even: halved chroma needs even sizes.
        hdr: it writes HDR metadata.
        instead: what encodes where the hardware is not there.
    """

    options: Callable[[int, str, HdrMetadata | None], dict[str, str]]
    crf: int
    max_crf: int
    preset: str
    presets: tuple[str, ...]
    even: bool = False
    hdr: bool = False
    instead: str | None = None


def _x265(crf: int, preset: str, hdr: HdrMetadata | None) -> dict[str, str]:
    params = ["log-level=error", *(hdr.x265_params() if hdr else ())]
    return {"crf": str(crf), "preset": preset, "x265-params": ":".join(params)}


def _svtav1(crf: int, preset: str, hdr: HdrMetadata | None) -> dict[str, str]:
    params = hdr.svtav1_params() if hdr else ()
    return {"crf": str(crf), "preset": preset, "svtav1-params": ":".join(params)}


def _hardware(
    options: Callable[[int, str], dict[str, str]], crf: int, preset: str,
    presets: tuple[str, ...], instead: str,
) -> Encoder:  # fmt: skip
    return Encoder(
        lambda q, p, _hdr: options(q, p), crf, 51, preset, presets, even=True, instead=instead
    )


def _nvenc(crf: int, instead: str) -> Encoder:
    presets = tuple(f"p{level}" for level in range(1, 8))
    return _hardware(
        lambda q, p: {"rc": "vbr", "cq": str(q), "b": "0", "preset": p}, crf, "p5", presets, instead
    )


def _qsv(crf: int, instead: str) -> Encoder:
    return _hardware(
        lambda q, p: {"global_quality": str(q), "preset": p}, crf, "medium",
        tuple(p for p in _X26X_PRESETS if p not in ("ultrafast", "superfast")), instead,
    )  # fmt: skip


def _amf(crf: int, instead: str) -> Encoder:
    return _hardware(
        lambda q, p: {"rc": "cqp", "qp_i": str(q), "qp_p": str(q), "quality": p},
        crf, "balanced", ("speed", "balanced", "quality"), instead,
    )  # fmt: skip


def _videotoolbox(crf: int, instead: str) -> Encoder:
    # Its own scale runs the other way: 100 is best.
    return _hardware(
        lambda q, _p: {"flags": "+qscale", "global_quality": str((100 - 2 * q) * 118)},
        crf, "default", ("default",), instead,
    )  # fmt: skip


ENCODERS = {
    "libx264": Encoder(
        lambda crf, preset, _hdr: {"crf": str(crf), "preset": preset},
        18, 51, "faster", _X26X_PRESETS, even=True,
    ),
    "libx265": Encoder(_x265, 20, 51, "fast", _X26X_PRESETS, even=True, hdr=True),
    "libsvtav1": Encoder(
        _svtav1, 24, 63, "8", tuple(str(n) for n in range(14)), even=True, hdr=True
    ),
    "libvpx-vp9": Encoder(
        lambda crf, preset, _hdr: {
            "crf": str(crf), "b": "0", "deadline": "good", "cpu-used": preset, "row-mt": "1",
        },
        24, 63, "4", tuple("012345678"),
    ),
    "prores_ks": Encoder(
        lambda _crf, preset, _hdr: {"vendor": "apl0"}
        | ({} if preset == "auto" else {"profile": preset}),
        0, 0, "auto", ("auto", "proxy", "lt", "standard", "hq", "4444", "4444xq"),
    ),
    "ffv1": Encoder(
        lambda _crf, _preset, _hdr: {"level": "3", "slicecrc": "1"},
        0, 0, "lossless", ("lossless",),
    ),
    "h264_nvenc": _nvenc(19, "libx264"),
    "hevc_nvenc": _nvenc(21, "libx265"),
    "av1_nvenc": _nvenc(25, "libsvtav1"),
    "h264_qsv": _qsv(19, "libx264"),
    "hevc_qsv": _qsv(21, "libx265"),
    "av1_qsv": _qsv(25, "libsvtav1"),
    "h264_amf": _amf(19, "libx264"),
    "hevc_amf": _amf(21, "libx265"),
    "h264_videotoolbox": _videotoolbox(18, "libx264"),
    "hevc_videotoolbox": _videotoolbox(20, "libx265"),
}  # fmt: skip

_SHORT = {
    "h264": "libx264", "x264": "libx264", "h265": "libx265", "hevc": "libx265", "x265": "libx265",
    "av1": "libsvtav1", "svtav1": "libsvtav1", "vp9": "libvpx-vp9", "prores": "prores_ks",
}  # fmt: skip

SUFFIXES = (".mp4", ".m4v", ".mov", ".mkv", ".webm")

# On a GPU, in no memory of ours, or the same as another by a name that holds its range.
_NOT_OURS = ("cuda", "qsv", "amf", "videotoolbox_vld", "d3d11", "d3d12", "vulkan", "vaapi")


_NO_ALPHA = {
    "libx265": ("yuva420p", "yuva420p10le"),
    "libvpx-vp9": ("yuva422p", "yuva440p", "yuva444p", "gbrap"),
}
"""Formats that FFmpeg lists, but which do not open, or which no file of ours holds."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """An encoder as it is opened."""

    codec: str
    encoder: Encoder
    options: dict[str, str]
    pix_fmt: str


def usable_codecs() -> list[str]:
    """The codecs that this program knows and this FFmpeg has."""
    return [name for name in ENCODERS if name in av.codecs_available]


def choose_encoder(
    path: Path, options: EncodeOptions, info: SourceInfo, width: int, height: int
) -> Chosen:
    """Choose the encoder for a file, or say in one line why what was asked makes no sense.

    Args:
        path: its suffix is the container.
        options: what was asked for.
        info: the source, for its depth and HDR metadata.
        width: of the frames, in pixels.
        height: of the frames, in pixels.

    Raises:
        OutputError: the suffix is unknown.
        ConfigError: an option makes no sense, or not for this codec.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise OutputError(
            f"{path}: unknown kind of video file; use a name that ends in one of "
            + ", ".join(SUFFIXES)
        )
    codec = options.codec or _usual(suffix, info)
    codec = _SHORT.get(codec, codec)
    if codec not in usable_codecs():
        raise ConfigError(f"unknown codec {codec!r}; usable: {', '.join(usable_codecs())}")
    encoder = ENCODERS[codec]
    crf = encoder.crf if options.crf is None else options.crf
    if not 0 <= crf <= encoder.max_crf:
        raise ConfigError(f"--crf {crf}: {codec} takes 0 (best) to {encoder.max_crf} (smallest)")
    preset = options.preset or encoder.preset
    if preset not in encoder.presets:
        raise ConfigError(
            f"--encoder-preset {preset!r}: {codec} takes {', '.join(encoder.presets)}"
        )
    odd = bool(width % 2 or height % 2)
    pix_fmt = _pix_fmt(codec, options.pix_fmt, info.pix_fmt, odd=odd)
    return Chosen(codec, encoder, encoder.options(crf, preset, info.hdr), pix_fmt)


def instead_of(
    chosen: Chosen, asked: EncodeOptions, info: SourceInfo, width: int, height: int
) -> Chosen | None:
    """What encodes where the hardware of an encoder is not there; None where nothing would.

    As well, and in the pixel format, as was asked. Raises `ConfigError` where it has not that.
    """
    codec = chosen.encoder.instead
    if codec is None:
        return None
    crf = None if asked.crf is None else min(asked.crf, ENCODERS[codec].max_crf)
    options = EncodeOptions(codec, crf, pix_fmt=asked.pix_fmt)
    return choose_encoder(Path("any.mkv"), options, info, width, height)


def _usual(suffix: str, info: SourceInfo) -> str:
    """What plays in most places and keeps what the source has."""
    wanted = VideoFormat(info.pix_fmt, 64, 64)
    bits = wanted.components[0].bits
    alpha = any(component.is_alpha for component in wanted.components)
    if suffix == ".webm":
        return "libsvtav1" if bits > 8 and not alpha else "libvpx-vp9"
    if alpha and suffix in (".mov", ".mkv"):
        return "prores_ks" if suffix == ".mov" else "ffv1"
    return "libx265" if bits > 8 else "libx264"


def _pix_fmt(codec: str, asked: str | None, source: str, *, odd: bool) -> str:
    """The pixel format asked for, or the encoder's nearest to the source's."""
    known = [pix_fmt.name for pix_fmt in av.Codec(codec, "w").video_formats or ()]
    usable = [
        n
        for n in known
        if n not in _NOT_OURS and not n.startswith("yuvj") and n not in _NO_ALPHA.get(codec, ())
    ]
    if odd and ENCODERS[codec].even:
        usable = [name for name in usable if not _halved(name)] or usable
    if asked is not None:
        if asked not in usable:
            raise ConfigError(f"--pix-fmt {asked!r}: {codec} takes {', '.join(usable)}")
        return asked
    if source in usable:
        return source
    alpha = "a" in source.removeprefix("gray").partition("p")[0]
    nearest, _ = find_best_pix_fmt_of_list(usable, source, alpha)
    return nearest.name if nearest is not None else usable[0]


def _halved(name: str) -> bool:
    pix_fmt = VideoFormat(name, 64, 64)
    return pix_fmt.chroma_width(64) < 64 or pix_fmt.chroma_height(64) < 64


def losses(source: str, target: str) -> list[str]:
    """What a picture loses from one pixel format to another, in words."""
    old, new = (VideoFormat(name, 64, 64) for name in (source, target))
    found: list[str] = []
    if new.components[0].bits < old.components[0].bits:
        found.append(f"{old.components[0].bits} bits a colour become {new.components[0].bits}")
    if len(old.components) >= 3 and (
        len(new.components) < 3
        or new.chroma_width(64) < old.chroma_width(64)
        or new.chroma_height(64) < old.chroma_height(64)
    ):
        found.append("colours get less resolution")
    if any(c.is_alpha for c in old.components) and not any(c.is_alpha for c in new.components):
        found.append("transparency is lost")
    return found


def tell_losses(name: str, chosen: Chosen, info: SourceInfo) -> None:
    """Say before the work what the chosen encoder cannot hold."""
    found = losses(info.pix_fmt, chosen.pix_fmt)
    if info.hdr is not None and not chosen.encoder.hdr:
        found.append("the HDR display metadata is left out")
    if found:
        _log.warning(
            "%s: %s in %s (%s); --codec and --pix-fmt choose others",
            name, ", ".join(found), chosen.codec, chosen.pix_fmt,
        )  # fmt: skip
