"""Images as a DLPC900 stores them: the guide's own examples, and there and back."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from opu_driver.errors import PatternError
from opu_driver.modulators.dlpc900_images import (
    decode,
    encode,
    merge,
    plane,
    with_header,
    without_header,
)


def pixels(text: str) -> list[list[int]]:
    return [list(bytes.fromhex(pixel)) for pixel in text.split()]


@st.composite
def images(draw):
    """Small images of few colours, so that runs and equal lines occur."""
    shape = draw(st.tuples(st.integers(1, 6), st.integers(1, 300)))
    index = draw(arrays.arrays(np.uint8, shape, elements=st.integers(0, 2)))
    repeated = np.repeat(index, draw(st.integers(1, 3)), axis=0)
    colours = draw(arrays.arrays(np.uint8, (3, 3)))
    return colours[repeated]


@given(images())
def test_an_image_survives_its_encoding(image):
    encoded = encode(image)
    assert len(encoded) % 4 == 0
    np.testing.assert_array_equal(decode(encoded, image.shape[:2]), image)


@given(arrays.arrays(np.uint8, st.tuples(st.integers(1, 5), st.integers(1, 200), st.just(3))))
def test_an_image_without_structure_hardly_grows(image):
    encoded = encode(image)
    rows, columns, _ = image.shape
    np.testing.assert_array_equal(decode(encoded, (rows, columns)), image)
    assert len(encoded) <= image.size + 5 * rows + 8


@given(st.integers(1, 24), st.integers(1, 5), st.integers(1, 40), st.integers(0, 2**32))
def test_each_pattern_is_a_plane_of_its_image(n, rows, columns, seed):
    bits = np.random.default_rng(seed).integers(0, 2, (n, rows, columns), np.uint8)
    image = merge(np.packbits(bits, axis=2), columns)
    assert image.shape == (rows, columns, 3)
    for position in range(24):
        expected = bits[position] if position < n else np.zeros_like(bits[0])
        np.testing.assert_array_equal(plane(image, position), np.packbits(expected, axis=1))


def test_bit_positions_begin_in_the_last_byte_of_a_pixel():
    patterns = np.zeros((24, 1, 1), np.uint8)
    patterns[[0, 9, 23]] = 0x80
    assert merge(patterns, 1).tolist() == [[[0x80, 0x02, 0x01]]]


def test_lines_of_macropixels_are_short():
    bits = np.random.default_rng(0).integers(0, 2, (24, 10, 10), np.uint8)
    large = np.packbits(bits.repeat(108, axis=1).repeat(192, axis=2), axis=2)
    image = merge(large, 1920)
    encoded = encode(image)
    # A line of ten macropixels, then 107 lines of "as the line above": 4 bytes each.
    assert len(encoded) <= 10 * (10 * 5 + 107 * 4) + 8
    np.testing.assert_array_equal(decode(encoded, (1080, 1920)), image)


@pytest.mark.parametrize(
    ("n", "written"),
    # 0x1234 is the example of section 2.4.3.2.
    [(2, b"\x02"), (127, b"\x7f"), (128, b"\x80\x01"), (300, b"\xac\x02"), (0x1234, b"\xb4\x24")],
)
def test_lengths_are_written_as_in_the_guide(n, written):
    image = np.full((1, n, 3), 7, np.uint8)
    assert encode(image)[: len(written) + 3] == written + b"\x07\x07\x07"


def test_the_example_of_the_guide_is_decoded():
    """Table 2-110; its "513 times" is 130 by the rule for lengths above it: 82 01."""
    encoded = bytes.fromhex(
        "03 040506  05 777777  00 03 040506 070809 0A0B0C  82 01 789ABC  00 00"
        "01 010203  00 01 09  00 01 00"
    )
    image = decode(encoded, (2, 141))
    first = pixels("040506 " * 3 + "777777 " * 5 + "040506 070809 0A0B0C " + "789ABC " * 130)
    second = pixels("010203 040506 040506 " + "777777 " * 5 + "040506 070809")
    assert image[0].tolist() == first
    assert image[1, :10].tolist() == second
    assert not image[1, 10:].any()


@pytest.mark.parametrize(
    ("encoded", "complaint"),
    [
        (b"", "ends after 0 bytes"),
        (b"\x05\x01\x02", "ends after 3 bytes"),
        (b"\x82", "ends after 1 bytes"),
        (b"\x06\x01\x02\x03\0\1\0", "row 0, column 0"),
        (b"\x05\x01\x02\x03" * 3 + b"\0\1\0", "row 2, column 0"),
        (b"\x00\x01\x05\0\1\0", "row 0, column 0"),
    ],
)
def test_encodings_that_do_not_fit_are_refused(encoded, complaint):
    with pytest.raises(PatternError, match=complaint):
        decode(encoded, (2, 5))


def test_the_header_is_the_guides():
    data = with_header(b"abcd", (1080, 1920))
    assert data[:4] == bytes.fromhex("53706C64")
    assert struct.unpack_from("<HHI", data, 4) == (1920, 1080, 4)
    assert data[12:48] == b"\xff" * 8 + bytes(5) + b"\x02\x01" + bytes(21)
    assert without_header(data) == (b"abcd", (1080, 1920))


@pytest.mark.parametrize(
    "data",
    [
        b"Spld",
        with_header(b"abcd", (2, 2))[:-1],
        b"x" + with_header(b"", (2, 2))[1:],
        with_header(b"", (2, 2))[:25] + b"\x01" + with_header(b"", (2, 2))[26:],
    ],
    ids=["short", "cut off", "signature", "compression"],
)
def test_other_headers_are_refused(data):
    with pytest.raises(PatternError, match="header"):
        without_header(data)
