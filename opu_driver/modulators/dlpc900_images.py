"""Patterns as a DLPC900 stores them: 24 binary patterns in one 24-bit image, run-length encoded.

"DLPC900 Programmer's Guide" (TI, DLPU018), sections 2.4.2 (header) and 2.4.3.2 (encoding). Which
byte of a pixel holds which bit positions is not in the guide. Header and TI's software call the
order of the bytes blue, red, green; and as in TI's other controllers bit positions 0 to 7 are
green's, 8 to 15 red's, 16 to 23 blue's. Open drivers that run on boards agree.
"""

from __future__ import annotations

import struct

import numpy as np
from numpy.typing import NDArray

from opu_driver.errors import PatternError
from opu_driver.modulator import Patterns

PLANES = 24
"""Binary patterns in one image."""

HEADER_BYTES = 48
_HEADER = struct.Struct("<4sHHI8s4sBBB21x")
_SIGNATURE = b"Spld"
_ENHANCED = 2
"""Enhanced run-length encoding, the only one used here: it is never longer than the plain one."""

_END = b"\x00\x01\x00"


def merge(patterns: Patterns, columns: int) -> NDArray[np.uint8]:
    """One image of up to 24 patterns; pattern k takes bit position k.

    Args:
        patterns: uint8 `[pattern, row, ceil(columns / 8)]`.
        columns: Columns of mirrors.

    Returns:
        uint8 `[row, column, 3]`, the bytes of a pixel in the order in which they are sent.
    """
    colours = np.zeros((3, patterns.shape[1], columns), np.uint8)
    for position, pattern in enumerate(patterns):
        bits = np.unpackbits(pattern, axis=1, count=columns)
        colours[2 - position // 8] |= bits << np.uint8(position % 8)
    return np.ascontiguousarray(np.moveaxis(colours, 0, 2))


def plane(image: NDArray[np.uint8], position: int) -> NDArray[np.uint8]:
    """The pattern at a bit position of an image, uint8 `[row, ceil(columns / 8)]`."""
    bits = image[:, :, 2 - position // 8] >> np.uint8(position % 8) & np.uint8(1)
    return np.packbits(bits, axis=1)


def encode(image: NDArray[np.uint8]) -> bytes:
    """Enhanced run-length encoding (section 2.4.3.2), padded to 4 bytes (2.4.3.2.2).

    Args:
        image: uint8 `[row, column, 3]`.
    """
    wide = image.astype(np.uint32)
    pixels = wide[:, :, 0] << 16 | wide[:, :, 1] << 8 | wide[:, :, 2]
    encoded = bytearray()
    for row, line in enumerate(pixels):
        above = pixels[row - 1] if row else ~line
        if np.array_equal(line, above):
            encoded += b"\x00\x01" + _length(len(line))
        else:
            _encode_line(encoded, image[row], line, above)
    encoded += _END
    return bytes(encoded) + bytes(-len(encoded) % 4)


def _encode_line(
    encoded: bytearray,
    line: NDArray[np.uint8],
    pixels: NDArray[np.uint32],
    above: NDArray[np.uint32],
) -> None:
    here = np.arange(len(pixels))
    repeated = _next(np.append(pixels[1:] != pixels[:-1], True)) + 1 - here
    copied = _next(np.append(pixels != above, True))[:-1] - here
    saved = np.maximum(repeated, copied)  # pixels behind one control byte
    runs = _next(np.append(saved > 1, True)).tolist()
    column = 0
    while column < len(pixels):
        run = runs[column]
        _encode_raw(encoded, line[column:run])
        if run == len(pixels):
            return
        if copied[run] >= repeated[run]:
            encoded += b"\x00\x01" + _length(int(copied[run]))
        else:
            encoded += _length(int(repeated[run])) + line[run].tobytes()
        column = run + int(saved[run])


def _next(mask: NDArray[np.bool_]) -> NDArray[np.intp]:
    """For each index, the first index from there on at which the mask is true."""
    places = np.where(mask, np.arange(len(mask)), len(mask))
    return np.minimum.accumulate(places[::-1])[::-1]


def _encode_raw(encoded: bytearray, pixels: NDArray[np.uint8]) -> None:
    if len(pixels) == 1:  # "0, 1" is taken: one pixel is a repeat of one
        encoded += b"\x01" + pixels.tobytes()
    elif len(pixels):
        encoded += b"\x00" + _length(len(pixels)) + pixels.tobytes()


def _length(n: int) -> bytes:
    return bytes([n]) if n < 128 else bytes([n & 0x7F | 0x80, n >> 7])


def decode(encoded: bytes, shape: tuple[int, int]) -> NDArray[np.uint8]:
    """The image behind an enhanced run-length encoding; what is missing at its end is 0.

    Args:
        encoded: With or without padding.
        shape: Rows and columns of the image.

    Returns:
        uint8 `[row, column, 3]`.

    Raises:
        PatternError: It is cut off, or does not fit the shape.
    """
    rows, columns = shape
    image = np.zeros((rows, columns, 3), np.uint8)
    source = _Source(encoded)
    row = column = 0
    while True:
        control = source.byte()
        kind, n = _operation(control, source)
        if kind == "end":
            return image
        if kind == "end of line":
            row, column = (row + 1, 0) if column else (row, 0)
            continue
        if row >= rows or column + n > columns or (kind == "copy" and not row):
            raise PatternError(
                f"The encoded image has {n} pixels more at row {row}, column {column}, near byte "
                f"{source.place}; it should have {rows} x {columns}."
            )
        part = image[row, column : column + n]
        if kind == "copy":
            part[:] = image[row - 1, column : column + n]
        elif kind == "raw":
            part[:] = source.pixels(n)
        else:
            part[:] = source.pixels(1)
        column += n
        if column == columns:
            row, column = row + 1, 0


class _Source:
    def __init__(self, encoded: bytes) -> None:
        self._encoded = encoded
        self.place = 0

    def byte(self) -> int:
        return self._take(1)[0]

    def length(self, first: int) -> int:
        return first if first < 128 else first & 0x7F | self.byte() << 7

    def pixels(self, n: int) -> NDArray[np.uint8]:
        return np.frombuffer(self._take(3 * n), np.uint8).reshape(n, 3)

    def _take(self, n: int) -> bytes:
        taken = self._encoded[self.place : self.place + n]
        if len(taken) < n:
            raise PatternError(
                f"The encoded image ends after {len(self._encoded)} bytes, before its end mark."
            )
        self.place += n
        return taken


def _operation(control: int, source: _Source) -> tuple[str, int]:
    """What a control byte and those after it say (table 2-109), and for how many pixels."""
    if control:
        return "repeat", source.length(control)
    second = source.byte()
    if second == 0:
        return "end of line", 0
    if second == 1:
        third = source.byte()
        return ("copy", source.length(third)) if third else ("end", 0)
    return "raw", source.length(second)


def with_header(encoded: bytes, shape: tuple[int, int]) -> bytes:
    """An encoded image behind its 48-byte header (section 2.4.2).

    Args:
        encoded: From `encode`.
        shape: Rows and columns of the image; with two controllers, of this controller's half.
    """
    rows, columns = shape
    header = _HEADER.pack(
        _SIGNATURE, columns, rows, len(encoded), b"\xff" * 8, bytes(4), 0, _ENHANCED, 1
    )
    return header + encoded


def without_header(data: bytes) -> tuple[bytes, tuple[int, int]]:
    """The encoded image behind a header, and its shape.

    Raises:
        PatternError: No such header, another compression, or another number of bytes.
    """
    if len(data) < HEADER_BYTES:
        raise PatternError(f"{len(data)} bytes of an image; its header alone has {HEADER_BYTES}.")
    signature, columns, rows, length, _, _, _, compression, _ = _HEADER.unpack_from(data)
    encoded = data[HEADER_BYTES:]
    if signature != _SIGNATURE or compression != _ENHANCED or length != len(encoded):
        raise PatternError(
            f"An image header with signature {signature!r}, compression {compression} and {length} "
            f"bytes before {len(encoded)} bytes; {_SIGNATURE!r}, {_ENHANCED} and their number "
            "are expected."
        )
    return encoded, (rows, columns)
