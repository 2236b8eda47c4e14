from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibration import quality as q
from calibration.errors import QualityError

GOOD = q.Quality(
    held_out_correlation=0.999,
    held_out_error=0.04,
    split_half=0.998,
    linearity=0.05,
    snr=300.0,
    singular_values=np.ones(4, np.float32),
    effective_modes=740.0,
    visibility=0.6,
    saturated_fraction=0.0,
)


def gaussian(rng, *shape):
    return (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)) / np.sqrt(2)


def test_good_passes():
    q.check(GOOD)
    q.check(GOOD, q.QualityLimits(snr=299))


@pytest.mark.parametrize(
    ("figure", "value"),
    [
        ("held_out_correlation", 0.5),
        ("held_out_error", 0.8),
        ("split_half", 0.1),
        ("linearity", 1.0),
        ("snr", 0.01),
        ("visibility", 0.0),
        ("saturated_fraction", 0.2),
        ("snr", float("nan")),
        ("held_out_error", float("nan")),
    ],
)
def test_each_figure_is_refused_by_name(figure, value):
    with pytest.raises(QualityError, match=f"{figure} = {value:.4g}"):
        q.check(replace(GOOD, **{figure: value}))


def test_all_failures_are_named():
    with pytest.raises(QualityError, match=r"split_half.*snr"):
        q.check(replace(GOOD, split_half=0.0, snr=0.0))


@settings(max_examples=20)
@given(st.integers(0, 999), st.floats(0.01, 2.0))
def test_correlation_forgives_what_the_error_does_not(seed, eps):
    rng = np.random.default_rng(seed)
    true, noise = gaussian(rng, 2, 4000)
    measured = true + eps * noise
    assert q.correlation(measured, true) == pytest.approx(1 / np.sqrt(1 + eps**2), abs=0.05)
    assert q.relative_error(measured, true) == pytest.approx(eps, rel=0.06)
    assert q.correlation(3j * measured, true) == pytest.approx(q.correlation(measured, true))
    assert q.relative_error(3j * true, true) == pytest.approx(np.sqrt(10))


@pytest.mark.parametrize("eps", [0.05, 0.5, 2.0])
def test_split_half_tells_the_correlation_with_the_truth(eps):
    rng = np.random.default_rng(0)
    true, one, other = gaussian(rng, 3, 200, 200)
    halves = true + eps * one, true + eps * other
    against_truth = q.correlation((halves[0] + halves[1]) / 2, true)
    assert q.split_half(*halves) == pytest.approx(against_truth, abs=0.015)


def test_linearity_sees_a_saturated_response():
    rng = np.random.default_rng(1)
    a, b, zero = gaussian(rng, 3, 1000)
    both = a + b
    assert q.linearity(a + zero, b + zero, both + zero, zero) < 1e-15
    squeezed = both * (1 - 0.05 * np.abs(both) ** 2)
    assert q.linearity(a, b, squeezed, 0 * zero) > 0.05


def test_signal_to_noise():
    rng = np.random.default_rng(2)
    true, one, other = gaussian(rng, 3, 20000)
    snr = q.signal_to_noise(true + 0.1 * one, true + 0.1 * other)
    assert snr == pytest.approx(100, rel=0.05)
    assert q.signal_to_noise(true, true) == np.inf


def test_visibility_of_equal_arms_is_one():
    phase = np.random.default_rng(3).uniform(0, 2 * np.pi, 100)
    assert q.visibility(5 * np.exp(1j * phase), 10.0) == pytest.approx(1.0)


@pytest.mark.parametrize("ratio", [0.1, 0.5, 1.0])
def test_singular_values_follow_marchenko_pastur(ratio):
    rng = np.random.default_rng(4)
    modes = 400
    values = q.normalised_singular_values(7 * gaussian(rng, modes, int(modes * ratio)))
    assert np.mean(values**2) == pytest.approx(1.0, rel=1e-5)
    edges = np.linspace(0, 2.1, 8)
    fine = np.linspace(0, 2.1, 7 * 400 + 1)
    density = q.marchenko_pastur(fine, ratio)
    expected = np.add.reduceat(density[:-1], np.arange(0, 7 * 400, 400)) * (fine[1] - fine[0])
    counted = np.histogram(values, edges)[0] / len(values)
    assert expected.sum() == pytest.approx(1.0, abs=0.01)
    assert np.allclose(counted, expected, atol=0.04)


def test_effective_modes():
    assert q.effective_modes(0.12, (128, 128)) == pytest.approx(741.2, rel=1e-3)
