"""The wire between filter and engine: both files agree, and no header is taken unchecked."""

import re
import struct
from dataclasses import replace
from pathlib import Path

import pytest

from realtime import wire
from realtime.wire import Header, Kind, WireError

HEADER = Path(__file__).parents[2] / "plugins/obs/src/wire.h"
FRAME = Header(
    Kind.FRAME, 640 * 480 * 4, 7, 2**40, 640, 480, 2, True, 0.75, "nano", 29.5, 12.25, 3,
    "cpu-bfloat16, 2 threads",
)  # fmt: skip
CODES = {"uint8_t": "B", "uint16_t": "H", "uint32_t": "I", "uint64_t": "Q", "float": "f"}


def test_the_two_files_agree():
    text = HEADER.read_text()
    numbers = {
        name: int(value, 0) for name, value in re.findall(r"#define WIRE_(\w+) (\w+?)u\b", text)
    }
    assert numbers == {
        "MAGIC": wire.MAGIC, "VERSION": wire.VERSION, "PORT": wire.PORT,
        "TOKEN_BYTES": wire.TOKEN_BYTES, "MAX_SIDE_PX": wire.MAX_SIDE_PX,
        "MAX_TEXT_BYTES": wire.MAX_TEXT_BYTES,
    }  # fmt: skip
    (kinds,) = re.findall(r"enum wire_kind \{([^}]*)\}", text)
    found = {name: int(value) for name, value in re.findall(r"WIRE_(\w+) = (\d+)", kinds)}
    assert found == {kind.name: kind.value for kind in Kind}


def test_the_fields_lie_where_the_filter_has_them():
    (body,) = re.findall(r"struct wire_header \{(.*?)\n\};", HEADER.read_text(), re.S)
    layout = "<"
    for c_type, count in re.findall(r"^\t(\w+) \w+(?:\[(\d+)\])?;", body, re.M):
        layout += f"{count}s" if c_type == "char" else f"{count}{CODES[c_type]}"
    values = struct.unpack(layout, FRAME.pack())
    assert len(FRAME.pack()) == struct.calcsize(layout) == wire.HEADER_BYTES == 128
    assert values[:11] == (
        wire.MAGIC, wire.VERSION, Kind.FRAME, 7, 2**40, 640, 480, 640 * 480 * 4, 2, 1, 0.75,
    )  # fmt: skip
    preset, fps, frame_ms, face_count, device = values[11:16]
    assert (preset.rstrip(b"\0"), fps, frame_ms, face_count) == (b"nano", 29.5, 12.25, 3)
    assert device.rstrip(b"\0") == b"cpu-bfloat16, 2 threads"


def test_what_is_packed_is_read_again():
    assert Header.unpack(FRAME.pack()) == FRAME
    cut = Header.unpack(replace(FRAME, device="é" * 40).pack())
    assert cut.device == "é" * 19  # whole letters, and a zero at the end


@pytest.mark.parametrize(
    ("offset", "data", "message"),
    [
        (0, b"HTTP", "not a CAGFace message"),
        (4, b"\x02\0", "speaks version 2, this one 1"),
        (6, b"\x09\0", "unknown kind of message 9"),
        (24, b"\0\0\0\0", "a picture of 0x480, expected 1 to 8192"),
        (28, b"\xff\xff\xff\xff", "a picture of 640x4294967295"),
        (32, b"\xff\xff\xff\x7f", "2147483647 bytes for a picture of 640x480"),
        (36, b"\x03\0\0\0", "scale 3, expected 1, 2 or 4"),
        (40, b"\x02\0\0\0", "faces 2"),
        (44, struct.pack("<f", float("nan")), "strength nan"),
        (44, struct.pack("<f", 1.5), "strength 1.5"),
    ],
)
def test_a_header_that_lies_is_refused(offset, data, message):
    packed = bytearray(FRAME.pack())
    packed[offset : offset + len(data)] = data
    with pytest.raises(WireError, match=message):
        Header.unpack(bytes(packed))


@pytest.mark.parametrize(
    ("kind", "body_bytes"),
    [(Kind.HELLO, 63), (Kind.HELLO, 65), (Kind.WELCOME, 1), (Kind.REFUSAL, 1025)],
)
def test_bodies_without_a_picture_have_their_limits_too(kind, body_bytes):
    with pytest.raises(WireError, match=f"{body_bytes} bytes in a {kind.name}"):
        Header.unpack(Header(kind, body_bytes).pack())
