"""What the OBS filter and the engine say to each other, as in ``plugins/obs/src/wire.h``.

Bytes in, checked headers out. Every message is one header of 128 bytes and its body.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum

from cagface_core import CagfaceError

MAGIC = 0x46474143
VERSION = 1
PORT = 7461
TOKEN_BYTES = 64
MAX_SIDE_PX = 8192
MAX_TEXT_BYTES = 1024
SCALES = (1, 2, 4)

_LAYOUT = struct.Struct("<IHHQQIIIIIf16sffI40s12x")
HEADER_BYTES = _LAYOUT.size


class WireError(CagfaceError):
    """The other side sent what this side cannot take; its connection ends."""


class Kind(IntEnum):
    """Which message it is."""

    HELLO = 1
    WELCOME = 2
    FRAME = 3
    RESULT = 4
    REFUSAL = 5


@dataclass(frozen=True, slots=True)
class Header:
    """One header. Sides in px, strength 0..1, ``captured_ns`` in the filter's own clock."""

    kind: Kind
    body_bytes: int = 0
    sequence: int = 0
    captured_ns: int = 0
    width_px: int = 0
    height_px: int = 0
    scale: int = 1
    largest_face_only: bool = False
    strength: float = 1.0
    preset: str = ""
    fps: float = 0.0
    frame_ms: float = 0.0
    face_count: int = 0
    device: str = ""

    def pack(self) -> bytes:
        """Its 128 bytes; a name that is too long for its field is cut."""
        return _LAYOUT.pack(
            MAGIC, VERSION, self.kind, self.sequence, self.captured_ns, self.width_px,
            self.height_px, self.body_bytes, self.scale, self.largest_face_only, self.strength,
            _field(self.preset, 16), self.fps, self.frame_ms, self.face_count,
            _field(self.device, 40),
        )  # fmt: skip

    @classmethod
    def unpack(cls, data: bytes) -> Header:
        """Read one header and check every limit it states.

        Raises:
            WireError: it is of another program or version, or its numbers cannot be.
        """
        (
            magic, version, kind, sequence, captured_ns, width_px, height_px, body_bytes, scale,
            faces, strength, preset, fps, frame_ms, face_count, device,
        ) = _LAYOUT.unpack(data)  # fmt: skip
        if magic != MAGIC:
            raise WireError("not a CAGFace message")
        if version != VERSION:
            raise WireError(
                f"the other side speaks version {version}, this one {VERSION}: "
                "install filter and engine of one version"
            )
        if kind not in set(Kind):
            raise WireError(f"unknown kind of message {kind}")
        _check_body(Kind(kind), width_px, height_px, body_bytes)
        if kind in (Kind.FRAME, Kind.RESULT) and scale not in SCALES:
            raise WireError(f"scale {scale}, expected 1, 2 or 4")
        if kind == Kind.FRAME and (faces not in (0, 1) or not 0 <= strength <= 1):
            raise WireError(f"faces {faces}, strength {strength:g}: expected 0 or 1, and 0..1")
        return cls(
            Kind(kind), body_bytes, sequence, captured_ns, width_px, height_px, scale,
            bool(faces), strength, _text(preset), fps, frame_ms, face_count, _text(device),
        )  # fmt: skip


def _check_body(kind: Kind, width_px: int, height_px: int, body_bytes: int) -> None:
    if kind in (Kind.FRAME, Kind.RESULT):
        if not (0 < width_px <= MAX_SIDE_PX and 0 < height_px <= MAX_SIDE_PX):
            raise WireError(f"a picture of {width_px}x{height_px}, expected 1 to {MAX_SIDE_PX}")
        if body_bytes != width_px * height_px * 4:
            raise WireError(f"{body_bytes} bytes for a picture of {width_px}x{height_px}")
        return
    limit = {Kind.HELLO: TOKEN_BYTES, Kind.WELCOME: 0, Kind.REFUSAL: MAX_TEXT_BYTES}[kind]
    if body_bytes > limit or (kind == Kind.HELLO and body_bytes != limit):
        raise WireError(f"{body_bytes} bytes in a {kind.name}, expected {limit}")


def _field(text: str, size: int) -> bytes:
    return text.encode()[: size - 1].decode(errors="ignore").encode()


def _text(field: bytes) -> str:
    return field.split(b"\0", 1)[0].decode(errors="replace")
