"""A Linux video device's own words: what it is and which modes it has, asked by ioctl.

The numbers and layouts are those of the kernel's ``linux/videodev2.h``.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction

Ioctl = Callable[[int, int, bytearray], int]
"""``fcntl.ioctl`` with a buffer that it changes: file descriptor, request, buffer."""

CAPTURE, OUTPUT = 0x0000_0001, 0x0000_0002
CAPTURE_PLANES, OUTPUT_PLANES = 0x0000_1000, 0x0000_2000
_DEVICE_CAPS = 0x8000_0000

_BUFFER_CAPTURE, _BUFFER_CAPTURE_PLANES = 1, 9
_DISCRETE = 1
_MOST = 256
"""Of each list: a driver that never says that its list ends must not keep us for ever."""

_CAPABILITY = struct.Struct("=16s32s32sIII12x")
_FORMAT = struct.Struct("=III32sII12x")
_SIZE = struct.Struct("=III6I8x")
_INTERVAL = struct.Struct("=IIIII6I8x")

_READ, _WRITE = 2, 1


def request(direction: int, number: int, layout: struct.Struct) -> int:
    """An ioctl's number, as the kernel's ``_IOC`` makes it, for video devices."""
    return direction << 30 | layout.size << 16 | ord("V") << 8 | number


QUERYCAP = request(_READ, 0, _CAPABILITY)
ENUM_FMT = request(_READ | _WRITE, 2, _FORMAT)
ENUM_FRAMESIZES = request(_READ | _WRITE, 74, _SIZE)
ENUM_FRAMEINTERVALS = request(_READ | _WRITE, 75, _INTERVAL)


@dataclass(frozen=True, slots=True)
class Capability:
    """What a device is: ``flags`` are those of this very node."""

    driver: str
    card: str
    flags: int

    @property
    def captures(self) -> bool:
        """Whether pictures can be taken from it."""
        return bool(self.flags & (CAPTURE | CAPTURE_PLANES))

    @property
    def takes_output(self) -> bool:
        """Whether pictures can be given to it."""
        return bool(self.flags & (OUTPUT | OUTPUT_PLANES))


@dataclass(frozen=True, slots=True)
class Mode:
    """One pixel format at one size, in pixels, and its rates in Hz, fastest first.

    Where ``least`` is set, any size from that to ``width`` x ``height`` is possible.
    """

    pixel_format: str
    width: int
    height: int
    rates_hz: tuple[Fraction, ...] = ()
    least: tuple[int, int] | None = None


def query(fd: int, ioctl: Ioctl) -> Capability:
    """Ask what a device is. Raises `OSError` where it is no video device."""
    buffer = bytearray(_CAPABILITY.size)
    ioctl(fd, QUERYCAP, buffer)
    driver, card, _bus, _version, whole, own = _CAPABILITY.unpack(buffer)
    return Capability(_text(driver), _text(card), own if whole & _DEVICE_CAPS else whole)


def modes(fd: int, capability: Capability, ioctl: Ioctl) -> Iterator[Mode]:
    """Every mode in which a device captures, in the driver's own order."""
    planes = not capability.flags & CAPTURE
    kind = _BUFFER_CAPTURE_PLANES if planes else _BUFFER_CAPTURE
    for index in range(_MOST):
        answer = _ask(fd, ioctl, ENUM_FMT, _FORMAT, index, kind, 0, b"", 0, 0)
        if answer is None:
            return
        fourcc: int = answer[4]
        yield from _modes_of(fd, ioctl, fourcc)


def _modes_of(fd: int, ioctl: Ioctl, fourcc: int) -> Iterator[Mode]:
    name = fourcc_name(fourcc)
    for index in range(_MOST):
        answer = _ask(fd, ioctl, ENUM_FRAMESIZES, _SIZE, index, fourcc, 0, *[0] * 6)
        if answer is None:
            return
        if answer[2] == _DISCRETE:
            width, height = answer[3:5]
            yield Mode(name, width, height, _rates(fd, ioctl, fourcc, width, height))
            continue
        # Stepwise or continuous: one answer tells all, and there is no next one.
        least_width, width, _, least_height, height, _ = answer[3:9]
        rates = _rates(fd, ioctl, fourcc, width, height)
        yield Mode(name, width, height, rates, (least_width, least_height))
        return


def _rates(fd: int, ioctl: Ioctl, fourcc: int, width: int, height: int) -> tuple[Fraction, ...]:
    """The rates of one size; of a range of them the fastest and the slowest."""
    found: set[Fraction] = set()
    for index in range(_MOST):
        answer = _ask(
            fd, ioctl, ENUM_FRAMEINTERVALS, _INTERVAL, index, fourcc, width, height, 0, *[0] * 6
        )
        if answer is None:
            break
        intervals = [answer[5:7]] if answer[4] == _DISCRETE else [answer[5:7], answer[7:9]]
        found |= {Fraction(below, above) for above, below in intervals if above and below}
        if answer[4] != _DISCRETE:
            break
    return tuple(sorted(found, reverse=True))


def _ask(
    fd: int, ioctl: Ioctl, number: int, layout: struct.Struct, *question: int | bytes
) -> tuple[int, ...] | None:
    """One item of a list; None behind its end, and where a driver does not know the list."""
    buffer = bytearray(layout.pack(*question))
    try:
        ioctl(fd, number, buffer)
    except OSError:
        return None
    return layout.unpack(buffer)


def fourcc_name(fourcc: int) -> str:
    """``MJPG`` for its number."""
    return _text((fourcc & 0x7FFF_FFFF).to_bytes(4, "little")).strip()


def _text(raw: bytes) -> str:
    return raw.split(b"\0", 1)[0].decode("utf-8", "replace")
