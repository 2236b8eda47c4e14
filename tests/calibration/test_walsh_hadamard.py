"""The fast transform against the matrix itself."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.linalg import hadamard

from calibration.walsh_hadamard import walsh_hadamard
from opu_driver.errors import SettingError


@given(st.integers(0, 7), st.integers(1, 9), st.integers(0, 2**31))
def test_transform_is_the_hadamard_matrix(exponent: int, columns: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    parts = rng.standard_normal((2, 2**exponent, columns))
    values = (parts[0] + 1j * parts[1]).astype(np.complex64)
    expected = hadamard(2**exponent) @ values
    walsh_hadamard(values)
    np.testing.assert_allclose(values, expected, atol=1e-5 * 2**exponent)


def test_many_columns_are_transformed_panel_by_panel() -> None:
    values = np.ones((2, 300_000), np.complex64)
    walsh_hadamard(values)
    assert (values[0] == 2).all()
    assert (values[1] == 0).all()


def test_it_is_done_in_place() -> None:
    values = np.zeros((1024, 4096), np.complex64)
    tracemalloc.start()
    walsh_hadamard(values)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < values.nbytes / 8


def test_transform_takes_powers_of_two_only() -> None:
    with pytest.raises(SettingError, match="6 values"):
        walsh_hadamard(np.zeros((6, 2), np.complex64))
