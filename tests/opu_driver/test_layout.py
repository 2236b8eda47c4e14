import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from opu_driver.errors import PatternError
from opu_driver.layout import Layout

shapes = st.tuples(st.integers(4, 70), st.integers(4, 70))


@st.composite
def layouts_and_vectors(draw: st.DrawFn, levels: int):
    shape = draw(shapes)
    smallest = 1 if levels == 2 else 2
    most = min(40, (shape[0] // smallest) * (shape[1] // smallest))
    layout = Layout.fit(draw(st.integers(1, most)), shape, levels)
    bits = draw(
        hnp.arrays(np.uint8, (draw(st.integers(1, 5)), layout.n_inputs), elements=st.integers(0, 1))
    )
    return layout, bits


def mirrors(layout: Layout, patterns: np.ndarray) -> np.ndarray:
    return np.unpackbits(patterns, axis=2)[:, :, : layout.shape[1]]


@given(layouts_and_vectors(2))
def test_each_lit_input_lights_its_own_macropixel_and_nothing_else(case):
    layout, bits = case
    shown = mirrors(layout, layout.render(bits))
    assert (shown.sum(axis=(1, 2)) == bits.sum(axis=1) * layout.mirrors_per_input).all()
    height, width = layout.macropixel
    for vector, picture in zip(bits, shown, strict=True):
        for k, bit in enumerate(vector):
            row, column = divmod(k, layout.grid[1])
            block = picture[
                row * height : (row + 1) * height, column * width : (column + 1) * width
            ]
            assert (block == bit).all()


@given(layouts_and_vectors(256))
def test_a_phase_macropixel_is_uniform_when_lit_and_cancels_when_dark(case):
    layout, bits = case
    patterns = layout.render(bits)
    amplitude = np.exp(2j * np.pi * patterns / layout.levels)
    height, width = layout.macropixel
    for vector, picture in zip(bits, amplitude, strict=True):
        for k, bit in enumerate(vector):
            row, column = divmod(k, layout.grid[1])
            block = picture[
                row * height : (row + 1) * height, column * width : (column + 1) * width
            ]
            assert abs(block.mean() - bit) < 1e-12


def test_ten_inputs_use_nearly_all_of_a_64_by_64_modulator():
    layout = Layout.fit(10, (64, 64))
    assert layout.n_inputs * layout.mirrors_per_input >= 0.9 * 64 * 64


def test_padding_bits_of_a_packed_row_stay_dark():
    layout = Layout.fit(3, (5, 13))
    patterns = layout.all_on()
    assert patterns.shape == (1, 5, 2)
    assert not np.unpackbits(patterns, axis=2)[:, :, 13:].any()


@pytest.mark.parametrize(("n_inputs", "levels"), [(0, 2), (-1, 2), (50, 2), (13, 256)])
def test_a_number_of_inputs_that_does_not_fit_is_refused_with_the_limit(n_inputs, levels):
    with pytest.raises(PatternError, match="it shows 1 to"):
        Layout.fit(n_inputs, (7, 7), levels)


def test_phase_levels_without_pi_are_refused():
    with pytest.raises(PatternError, match="255 levels has none at pi"):
        Layout.fit(4, (8, 8), 255)


@pytest.mark.parametrize(
    "bits",
    [
        np.zeros((2, 4), np.uint8),
        np.zeros(3, np.uint8),
        np.full((1, 3), 2, np.uint8),
        np.zeros((1, 3), np.float32),
        -np.ones((1, 3), np.int8),
    ],
    ids=["wrong width", "wrong rank", "a two", "floats", "negative"],
)
def test_vectors_that_a_layout_cannot_show_are_refused(bits):
    with pytest.raises(PatternError):
        Layout.fit(3, (8, 8)).render(bits)


@given(layouts_and_vectors(256), st.integers(0, 3))
def test_phases_light_every_input_and_nothing_else(case, step):
    layout, bits = case
    patterns = layout.render_phases(np.uint8(step) * bits, 4)
    amplitude = np.exp(2j * np.pi * patterns / layout.levels)
    height, width = layout.macropixel
    for vector, picture in zip(bits, amplitude, strict=True):
        for k in range(layout.grid[0] * layout.grid[1]):
            row, column = divmod(k, layout.grid[1])
            block = picture[
                row * height : (row + 1) * height, column * width : (column + 1) * width
            ]
            lit = 1j ** (step * int(vector[k])) if k < layout.n_inputs else 0
            assert abs(block.mean() - lit) < 1e-12


@pytest.mark.parametrize(
    ("levels", "steps", "turn", "match"),
    [
        (2, np.zeros((1, 4), np.uint8), 2, "2 levels does not shift phases"),
        (6, np.zeros((1, 4), np.uint8), 4, "6 levels does not shift phases by 1/4"),
        (8, np.zeros((1, 3), np.uint8), 4, r"uint8 \[1, 3\]"),
        (8, np.zeros((1, 4), np.int64), 4, "int64"),
        (8, np.full((1, 4), 4, np.uint8), 4, "Phase 4 of 4"),
    ],
)
def test_phases_that_cannot_be_shown_are_refused(levels, steps, turn, match):
    layout = Layout.fit(4, (8, 8), levels)
    with pytest.raises(PatternError, match=match):
        layout.render_phases(steps, turn)
