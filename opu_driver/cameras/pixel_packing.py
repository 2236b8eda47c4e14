"""From the bytes of a buffer to right-aligned grey values."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from opu_driver.camera import PixelFormat

WIRE_FORMATS: dict[PixelFormat, tuple[str, ...]] = {
    PixelFormat.MONO8: ("Mono8",),
    PixelFormat.MONO10: ("Mono10", "Mono10p", "Mono10Packed"),
    PixelFormat.MONO12: ("Mono12", "Mono12p", "Mono12Packed"),
    PixelFormat.MONO16: ("Mono16",),
}
"""How a camera may send each pixel format (GenICam Pixel Format Naming Convention), the best first.

Formats without packing come first: they need no unpacking here."""


def unpacked(data: NDArray[np.uint8], wire_format: str, shape: tuple[int, int]) -> NDArray[Any]:
    """Grey values of one frame, right-aligned.

    The layouts are those of the GenICam Pixel Format Naming Convention: `p` formats are one stream
    of bits, lowest bit first; the older `Packed` formats of GigE Vision put the high bits of two
    pixels in bytes 0 and 2, and the low bits of both in byte 1.

    Args:
        data: uint8 `[byte]`, the buffer; bytes behind the picture are ignored.
        wire_format: A name in `WIRE_FORMATS`.
        shape: Rows and columns.

    Returns:
        `[row, column]`, uint8 or uint16; a view of `data` for formats that are not packed.

    Raises:
        ValueError: Fewer bytes than the frame has, or an unknown format.
    """
    pixels = shape[0] * shape[1]
    if wire_format == "Mono8":
        return _head(data, pixels).reshape(shape)
    if wire_format in ("Mono10", "Mono12", "Mono16"):
        return _head(data, 2 * pixels).view("<u2").reshape(shape)
    bytes_a_group, pixels_a_group = (5, 4) if wire_format == "Mono10p" else (3, 2)
    groups = -(-pixels // pixels_a_group)
    needed = -(-pixels * bytes_a_group // pixels_a_group)
    packed = np.zeros(groups * bytes_a_group, np.uint8)  # the last group may end early
    packed[:needed] = _head(data, needed)
    b = packed.reshape(groups, bytes_a_group).astype(np.uint16).T
    if wire_format == "Mono10p":
        grey = [
            b[0] | (b[1] & 0x03) << 8,
            b[1] >> 2 | (b[2] & 0x0F) << 6,
            b[2] >> 4 | (b[3] & 0x3F) << 4,
            b[3] >> 6 | b[4] << 2,
        ]
    elif wire_format == "Mono12p":
        grey = [b[0] | (b[1] & 0x0F) << 8, b[1] >> 4 | b[2] << 4]
    elif wire_format == "Mono12Packed":
        grey = [b[0] << 4 | b[1] & 0x0F, b[2] << 4 | b[1] >> 4]
    elif wire_format == "Mono10Packed":
        grey = [b[0] << 2 | b[1] & 0x03, b[2] << 2 | b[1] >> 4 & 0x03]
    else:
        raise ValueError(f"unknown pixel format {wire_format!r}")
    return np.stack(grey, axis=1).ravel()[:pixels].reshape(shape)


def _head(data: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    if len(data) < size:
        raise ValueError(f"a buffer of {len(data)} bytes where the frame has {size}")
    return data[:size]
