"""What an HDR video says of the display it was made on comes in; encoders' words for it go out."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from fractions import Fraction

HDR_TRANSFERS = {16: "PQ", 18: "HLG"}
"""H.273 transfer characteristics of HDR."""

_CHROMATICITY_UNITS = 50_000
_LUMINANCE_UNITS = 10_000


@dataclass(frozen=True, slots=True)
class HdrMetadata:
    """Static metadata of HDR10 (SMPTE ST 2086, CTA-861.3); None where there is none.

    Attributes:
        primaries: (x, y) of red, green, blue and white, CIE 1931.
        luminance: least and largest, in cd/m2.
        light: MaxCLL and MaxFALL, in cd/m2.
    """

    primaries: tuple[tuple[Fraction, Fraction], ...] | None = None
    luminance: tuple[Fraction, Fraction] | None = None
    light: tuple[int, int] | None = None

    def x265_params(self) -> list[str]:
        """As libx265 takes it."""
        params: list[str] = []
        if self.primaries and self.luminance:
            red, green, blue, white = (
                f"({round(x * _CHROMATICITY_UNITS)},{round(y * _CHROMATICITY_UNITS)})"
                for x, y in self.primaries
            )
            least, most = (round(value * _LUMINANCE_UNITS) for value in self.luminance)
            params.append(f"master-display=G{green}B{blue}R{red}WP{white}L({most},{least})")
        if self.light:
            params.append(f"max-cll={self.light[0]},{self.light[1]}")
        return params

    def svtav1_params(self) -> list[str]:
        """As SVT-AV1 takes it."""
        params: list[str] = []
        if self.primaries and self.luminance:
            red, green, blue, white = (
                f"({float(x):.5f},{float(y):.5f})" for x, y in self.primaries
            )
            least, most = (float(value) for value in self.luminance)
            params.append(
                f"mastering-display=G{green}B{blue}R{red}WP{white}L({most:.4f},{least:.4f})"
            )
        if self.light:
            params.append(f"content-light={self.light[0]},{self.light[1]}")
        return params


def read_hdr(mastering: bytes | None, light: bytes | None) -> HdrMetadata | None:
    """Read FFmpeg's AVMasteringDisplayMetadata and AVContentLightMetadata; None without both."""
    primaries = luminance = None
    if mastering is not None:
        # Ten rationals, then which of them are there.
        values = struct.unpack_from("=22i", mastering)
        numbers = [Fraction(n, d or 1) for n, d in zip(values[:20:2], values[1:20:2], strict=True)]
        if values[20]:
            primaries = tuple(zip(numbers[:8:2], numbers[1:8:2], strict=True))
        if values[21]:
            luminance = numbers[8], numbers[9]
    levels = None if light is None else struct.unpack_from("=2I", light)
    if primaries is None and luminance is None and levels is None:
        return None
    return HdrMetadata(primaries, luminance, levels)
