import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibration import quality as q


def gaussian(rng, *shape):
    return (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)) / np.sqrt(2)


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


@pytest.mark.parametrize(("signed_snr", "matrix_noise"), [(400.0, 0.01), (5.0, 0.3), (0.5, 1.0)])
def test_theory_tells_the_error_of_what_is_held_out(signed_snr, matrix_noise):
    rng = np.random.default_rng(5)
    T, wrong = gaussian(rng, 2, 500, 20)
    signs = 2.0 * rng.integers(0, 2, (40, 20)) - 1
    measured = signs @ T.T + np.sqrt(20 / signed_snr) * gaussian(rng, 40, 500)
    error = q.relative_error(measured, signs @ (T + matrix_noise * wrong).T)
    assert error == pytest.approx(q.expected_held_out_error(signed_snr, matrix_noise), rel=0.05)


def test_without_signal_everything_is_noise():
    assert q.expected_held_out_error(0.0, np.inf) == np.inf


@pytest.mark.parametrize("noise", [0.0, 0.5])
def test_a_random_matrix_keeps_distances(noise):
    rng = np.random.default_rng(6)
    modes, inputs = 600, 64
    vectors = 2.0 * rng.integers(0, 2, (16, inputs)) - 1
    fields = vectors @ gaussian(rng, modes, inputs).T
    fields += np.sqrt(noise * inputs) * gaussian(rng, *fields.shape)
    scatter = q.distance_scatter(fields, vectors, noise * inputs)
    assert scatter == pytest.approx((1 + noise) / np.sqrt(modes), rel=0.35)
    few = np.repeat(fields[:, :6], 100, axis=1)  # as many modes, of which few are independent
    assert q.distance_scatter(few, vectors, noise * inputs) > 5 * scatter


def test_equal_vectors_have_no_distance():
    assert q.distance_scatter(np.ones((3, 5), complex), np.ones((3, 2)), 0.0) == 0.0


@pytest.mark.parametrize("noise", [0.0, 0.3])
def test_fidelities_are_those_of_the_light(noise):
    rng = np.random.default_rng(7)
    modes, sequences, lost = 4000, 16, 0.02
    field = gaussian(rng, modes)
    fields = [field]
    for _ in range(sequences - 1):
        field = np.sqrt(1 - lost) * field + np.sqrt(lost) * gaussian(rng, modes)
        fields.append(field)
    seen = np.array(fields) + np.sqrt(noise) * gaussian(rng, sequences, modes)
    fidelities = q.marker_fidelities(seen, noise)
    # The first four are the standard: on average 1.5 steps old.
    assert fidelities[-1] == pytest.approx((1 - lost) ** 13.5, abs=0.05)
    assert np.mean(fidelities[:4]) == pytest.approx(1.0, abs=0.05)


def test_a_field_lost_in_its_noise_has_no_fidelity():
    assert np.isnan(q.marker_fidelities(0.1 * np.ones((8, 10), complex), 1.0)).all()


def test_dead_pixels_are_those_that_stand_still():
    frames = np.random.default_rng(8).integers(0, 200, (8, 20, 30)).astype(np.uint8)
    assert q.dead_fraction(frames) == 0.0
    frames[:, :5] = 17
    assert q.dead_fraction(frames) == pytest.approx(0.25)
    assert q.dead_fraction(frames.astype(np.float32)) == pytest.approx(0.25)


def test_in_the_dark_no_pixel_is_called_dead():
    frames = np.random.default_rng(9).integers(0, 2, (8, 20, 30)).astype(np.uint8)
    frames[:, :5] = 0
    assert q.dead_fraction(frames) == 0.0


@pytest.mark.parametrize("inputs", [1, 5, 60])
def test_singular_values_stay_near_their_quantiles(inputs):
    values = q.normalised_singular_values(gaussian(np.random.default_rng(10), 800, inputs))
    expected = q.marchenko_pastur_quantiles(inputs, 800)
    assert np.abs(values - expected).max() < 3 / np.sqrt(800)
    assert len(q.marchenko_pastur_quantiles(0, 800)) == 0
