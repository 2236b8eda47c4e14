"""The Hadamard estimator on synthetic fields, where theory says what to expect."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.linalg import hadamard

from calibration.quality import correlation, relative_error
from calibration.transmission_matrix import (
    align_pairs,
    expected_error,
    hadamard_order,
    hadamard_vectors,
    transmission_matrix,
    walsh_hadamard,
    with_complements,
)
from opu_driver.errors import SettingError

MODES = 512


def gaussian(rng: np.random.Generator, *shape: int) -> NDArray[np.complex128]:
    return (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)) / np.sqrt(2)


def measure(
    rng: np.random.Generator,
    T: NDArray[np.complex128],
    *,
    snr: float = np.inf,
    walk: float = 0.0,
    jitter: float = 0.0,
    flicker: float = 0.0,
    bias: float = 0.0,
    repeats: int = 1,
) -> NDArray[np.complex64]:
    """Fields of all Hadamard pairs, as a bench of this kind would give them."""
    modes, n_inputs = T.shape
    bits = with_complements(np.tile(hadamard_vectors(n_inputs), (repeats, 1)))
    fields = bits @ T.T + bias * gaussian(rng, modes)
    phase = np.cumsum(walk * rng.standard_normal(len(bits))) + jitter * rng.standard_normal(
        len(bits)
    )
    fields *= ((1 + flicker * rng.standard_normal(len(bits))) * np.exp(1j * phase))[:, None]
    fields += np.sqrt(n_inputs / 2 / snr) * gaussian(rng, *fields.shape)
    return fields.astype(np.complex64)


def up_to_one_factor(measured: NDArray[np.complexfloating], truth: NDArray[np.complex128]):
    """The estimate in the phase and gain of the truth: both are free until a reference says."""
    return measured * (np.vdot(measured, truth) / np.vdot(measured, measured))


@pytest.mark.parametrize(("n", "order"), [(1, 1), (2, 2), (3, 4), (10, 16), (16, 16), (17, 32)])
def test_the_order_is_the_next_power_of_two(n: int, order: int) -> None:
    assert hadamard_order(n) == order


def test_no_inputs_are_refused() -> None:
    with pytest.raises(SettingError, match="n_inputs = 0"):
        hadamard_order(0)


def test_vectors_are_the_rows_of_the_hadamard_matrix() -> None:
    expected = (1 + hadamard(16)[:, :10]) // 2
    np.testing.assert_array_equal(hadamard_vectors(10), expected)


def test_complements_follow_their_vectors() -> None:
    bits = with_complements(hadamard_vectors(5))
    assert bits.shape == (16, 5)
    assert (bits[0::2] + bits[1::2] == 1).all()


@given(st.integers(0, 7), st.integers(0, 2**31))
def test_transform_is_the_hadamard_matrix(exponent: int, seed: int) -> None:
    values = gaussian(np.random.default_rng(seed), 2**exponent, 3).astype(np.complex64)
    np.testing.assert_allclose(
        walsh_hadamard(values), hadamard(2**exponent) @ values, atol=1e-5 * 2**exponent
    )


def test_transform_takes_powers_of_two_only() -> None:
    with pytest.raises(SettingError, match="6 values"):
        walsh_hadamard(np.zeros((6, 2), np.complex64))


@pytest.mark.parametrize("n", [1, 2, 3, 10, 32])
def test_without_noise_the_matrix_is_exact(n: int) -> None:
    rng = np.random.default_rng(n)
    T = gaussian(rng, MODES, n)
    fields = measure(rng, T, bias=2.0)
    found = transmission_matrix(align_pairs(fields).differences, n)
    assert found.shape == (MODES, n)
    assert found.dtype == np.complex64
    np.testing.assert_allclose(found, T, atol=2e-5)


@pytest.mark.parametrize(("n", "repeats"), [(64, 1), (40, 1), (16, 3)])
@pytest.mark.parametrize("snr", [10.0, 1000.0])
def test_error_is_what_theory_says(n: int, repeats: int, snr: float) -> None:
    rng = np.random.default_rng(7)
    T = gaussian(rng, 4 * MODES, n)
    fields = measure(rng, T, snr=snr, repeats=repeats)
    found = transmission_matrix(align_pairs(fields).differences, n)
    error = relative_error(up_to_one_factor(found, T), T)
    assert error == pytest.approx(expected_error(snr, n, repeats), rel=0.05)


def test_phase_walk_is_undone_by_the_pairs_themselves() -> None:
    rng = np.random.default_rng(3)
    T = gaussian(rng, MODES, 64)
    fields = measure(rng, T, snr=1000, walk=0.03)
    uncorrected = transmission_matrix(fields[0::2] - fields[1::2], 64)
    assert correlation(uncorrected, T) < 0.98
    found = transmission_matrix(align_pairs(fields).differences, 64)
    assert correlation(found, T) >= 0.999


def test_even_jitter_within_a_pair_is_undone() -> None:
    rng = np.random.default_rng(4)
    T = gaussian(rng, MODES, 64)
    fields = measure(rng, T, snr=1000, jitter=0.1, flicker=0.02, bias=1.0)
    found = transmission_matrix(align_pairs(fields).differences, 64)
    error = relative_error(up_to_one_factor(found, T), T)
    assert error == pytest.approx(expected_error(1000, 64), rel=0.1)


def test_factors_are_the_phases_and_gains_of_the_frames() -> None:
    rng = np.random.default_rng(5)
    T = gaussian(rng, MODES, 32)
    still = measure(np.random.default_rng(6), T)
    phases = rng.normal(0, 0.2, len(still))
    gains = 1 + rng.normal(0, 0.05, len(still))
    moved = still * (gains * np.exp(1j * phases))[:, None]
    aligned = align_pairs(moved.astype(np.complex64))
    ratio = aligned.factors.ravel() / (gains * np.exp(1j * phases))
    # Of the pair (all on, all off) only the first frame carries light, hence a phase.
    np.testing.assert_allclose(np.delete(ratio, 1), ratio[0], atol=1e-3)
    assert np.abs(aligned.factors).mean() == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("snr", [5.0, 500.0])
def test_noise_is_measured_from_the_sums(snr: float) -> None:
    rng = np.random.default_rng(8)
    T = gaussian(rng, MODES, 64)
    aligned = align_pairs(measure(rng, T, snr=snr, walk=0.02))
    assert aligned.noise == pytest.approx(32 / snr, rel=0.05)


def test_the_total_is_the_field_of_everything_on() -> None:
    rng = np.random.default_rng(9)
    T = gaussian(rng, MODES, 12)
    total = align_pairs(measure(rng, T)).total
    np.testing.assert_allclose(total, T.sum(axis=1), atol=2e-5)
