"""From the bytes of a buffer to grey values."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from opu_driver.camera import PixelFormat
from opu_driver.cameras.pixel_packing import WIRE_FORMATS, unpacked


def packed(grey, wire_format):
    """The bytes of grey values, written down bit by bit as the naming convention draws them."""
    if wire_format in ("Mono8", "Mono10", "Mono12", "Mono16"):
        return np.array(grey, np.uint8 if wire_format == "Mono8" else "<u2").tobytes()
    depth = 10 if "10" in wire_format else 12
    if wire_format.endswith("p"):
        stream = "".join(f"{value:0{depth}b}"[::-1] for value in grey)
        stream += "0" * (-len(stream) % 8)
        return bytes(int(stream[i : i + 8][::-1], 2) for i in range(0, len(stream), 8))
    content = bytearray()
    for a, b in zip(grey[::2], [*grey[1::2], 0], strict=False):
        low = depth - 8
        content += bytes([a >> low, (b % 2**low) << 4 | a % 2**low, b >> low])
    return bytes(content[: -(-len(grey) * 3 // 2)])


@given(st.data(), st.sampled_from([(f, w) for f in WIRE_FORMATS for w in WIRE_FORMATS[f]]))
def test_grey_values_survive_every_format(data, formats):
    pixel_format, wire_format = formats
    rows, columns = data.draw(st.tuples(st.integers(1, 5), st.integers(1, 7)))
    values = st.integers(0, 2**pixel_format.bits - 1)
    grey = data.draw(st.lists(values, min_size=rows * columns, max_size=rows * columns))
    tail = data.draw(st.binary(max_size=4))
    buffer = np.frombuffer(packed(grey, wire_format) + tail, np.uint8)
    frame = unpacked(buffer, wire_format, (rows, columns))
    assert frame.dtype == pixel_format.dtype
    assert (frame == np.reshape(grey, (rows, columns))).all()


def test_the_bits_of_two_pixels_lie_where_the_standards_say():
    """Pixels 0xABC and 0x123, and 0x2AB and 0x123 of 10 bits."""

    def first_two(content, wire_format):
        return unpacked(np.frombuffer(bytes.fromhex(content), np.uint8), wire_format, (1, 2))[0]

    assert list(first_two("bc3a12", "Mono12p")) == [0xABC, 0x123]
    assert list(first_two("ab3c12", "Mono12Packed")) == [0xABC, 0x123]
    assert list(first_two("aa3348", "Mono10Packed")) == [0x2AB, 0x123]
    assert list(first_two("ab8e04", "Mono10p")) == [0x2AB, 0x123]


@pytest.mark.parametrize("wire_format", [w for f in PixelFormat for w in WIRE_FORMATS.get(f, ())])
def test_a_short_buffer_is_refused(wire_format):
    with pytest.raises(ValueError, match="bytes where the frame has"):
        unpacked(np.zeros(9, np.uint8), wire_format, (2, 5))
