"""Phase and gain between references, and what cannot be followed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from calibration import drift
from calibration.errors import DriftError


def gaussian(rng: np.random.Generator, *shape: int) -> NDArray[np.complex64]:
    values = rng.standard_normal(shape) + 1j * rng.standard_normal(shape)
    return (values / np.sqrt(2)).astype(np.complex64)


@given(st.floats(-3.1, 3.1), st.floats(0.2, 5.0))
def test_factors_are_gain_and_phase(phase: float, gain: float) -> None:
    reference = gaussian(np.random.default_rng(1), 200)
    moved = (gain * np.exp(1j * phase) * reference)[None].astype(np.complex64)
    found = drift.factors(moved, reference)[0]
    assert abs(found) == pytest.approx(gain, rel=1e-5)
    assert np.angle(found) == pytest.approx(phase, abs=1e-5)


def test_noise_comes_from_the_differences_of_neighbours() -> None:
    rng = np.random.default_rng(2)
    reference = gaussian(rng, 5000)
    gains = np.exp(1j * np.cumsum(rng.normal(0, 0.3, 6))) * (1 + rng.normal(0, 0.1, 6))
    fields = gains[:, None] * reference + np.sqrt(0.2) * gaussian(rng, 6, 5000)
    fields = fields.astype(np.complex64)
    assert drift.noise(fields, drift.factors(fields, reference)) == pytest.approx(0.2, rel=0.05)


@pytest.mark.parametrize("decorrelation", [0.0, 0.02, 0.3])
@pytest.mark.parametrize("noise", [0.0, 1.0])
def test_fidelity_is_one_minus_decorrelation_whatever_the_noise(
    decorrelation: float, noise: float
) -> None:
    rng = np.random.default_rng(3)
    reference, other = gaussian(rng, 2, 100_000)
    field = np.sqrt(1 - decorrelation) * reference + np.sqrt(decorrelation) * other
    field = field * np.exp(0.7j) * 1.3 + np.sqrt(noise) * gaussian(rng, 100_000)
    found = drift.fidelity(field[None].astype(np.complex64), reference, noise)
    assert found[0] == pytest.approx(1 - decorrelation, abs=0.015)


def test_phase_between_references_is_unwrapped_and_linear() -> None:
    phase = np.array([2.5, 3.5, 4.5])  # passes pi
    gains = np.array([1.0, 2.0, 2.0]) * np.exp(1j * phase)
    between = drift.interpolate(gains, np.array([-1, 9, 19]), np.array([-1, 4, 9, 14]))
    np.testing.assert_allclose(np.abs(between), [1, 1.5, 2, 2])
    np.testing.assert_allclose(np.unwrap(np.angle(between)), [2.5, 3.0, 3.5, 4.0])


def test_the_largest_step_is_between_neighbours() -> None:
    gains = np.exp(1j * np.array([0.0, 0.3, -0.2]))
    assert drift.largest_step_rad(gains) == pytest.approx(0.5)
    assert drift.largest_step_rad(gains[:1]) == 0.0


def test_a_step_that_cannot_be_followed_is_refused_with_advice() -> None:
    gains = np.exp(1j * np.array([0.0, 0.1, 2.1]))
    with pytest.raises(DriftError, match=r"\+2\.00 rad .* 64 exposures apart.*every 4 exposures"):
        drift.interpolate(gains, np.array([-1, 63, 127]), np.array([5]))
    with pytest.raises(DriftError, match=r"reference every exposure .* method hadamard-pairs"):
        drift.interpolate(gains, np.array([0, 2, 4]), np.array([1]))


def test_noise_alone_has_no_fidelity() -> None:
    rng = np.random.default_rng(0)
    reference = (rng.standard_normal(800) + 1j * rng.standard_normal(800)).astype(np.complex64)
    for _ in range(200):
        pairs = rng.standard_normal((4, 800)) + 1j * rng.standard_normal((4, 800))
        assert (drift.fidelity(pairs.astype(np.complex64), reference, noise=2.0) < 0.9).all()
