"""Rows from intensities: as many and as true as theory says, and never taken for a matrix."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibration.errors import AmbiguityError
from calibration.phase_retrieval import AmbiguousRows, expected_error, retrieve_rows
from opu_driver.errors import LowSignalError, PatternError, SaturationError, SettingError


def gaussian(rng, *shape):
    return ((rng.standard_normal(shape) + 1j * rng.standard_normal(shape)) / 2**0.5).astype(
        np.complex64
    )


def measurement(seed, n_inputs=16, per_input=5, outputs=60, noise=0.0, background=0.0):
    rng = np.random.default_rng(seed)
    T, static = gaussian(rng, outputs, n_inputs), background * gaussian(rng, outputs)
    bits = rng.integers(0, 2, (per_input * n_inputs, n_inputs), np.uint8)
    intensities = np.abs(bits @ T.T + static) ** 2
    return T, static, bits, intensities * (1 + noise * rng.standard_normal(intensities.shape))


def up_to_phase_and_conjugation(rows, truth):
    norms = np.linalg.norm(rows, axis=1) * np.linalg.norm(truth, axis=1)
    ways = [np.abs(np.sum(way.conj() * truth, axis=1)) for way in (rows, rows.conj())]
    return np.max(ways, axis=0) / norms


def test_most_rows_are_found_from_five_noisy_intensities_an_input():
    T, _, bits, intensities = measurement(0, n_inputs=48, outputs=100, noise=0.1)
    found = retrieve_rows(bits, intensities, seed=1)
    reached = up_to_phase_and_conjugation(found.representatives, T)
    assert np.mean(reached > 0.95) >= 0.9
    error = np.sqrt(1 / np.median(reached) ** 2 - 1)
    assert error == pytest.approx(expected_error(0.1, len(bits), 48), rel=0.1)
    usual = 0.05 * np.sqrt(1 - 2 / 5)
    assert np.median(found.residuals) == pytest.approx(usual, rel=0.1)


def test_rows_that_are_found_predict_further_intensities_and_others_show():
    T, _, bits, intensities = measurement(2, n_inputs=24, outputs=40, noise=0.02)
    found = retrieve_rows(bits, intensities, seed=1)
    more = np.random.default_rng(9).integers(0, 2, (40, 24), np.uint8)
    good = up_to_phase_and_conjugation(found.representatives, T) > 0.95
    told = found.correlations(more, np.abs(more @ T.T) ** 2)
    assert told[good].min() > 0.95
    wrong = AmbiguousRows(
        np.roll(found.representatives, 1, axis=0), found.background, found.residuals
    )
    assert np.median(wrong.correlations(more, np.abs(more @ T.T) ** 2)) < 0.6


def test_a_static_background_is_one_more_unknown():
    T, static, bits, intensities = measurement(3, per_input=6, background=2.0)
    found = retrieve_rows(bits, intensities, seed=1, background=True, starts=2)
    both = np.concatenate([found.representatives, found.background[:, None]], axis=1)
    truth = np.concatenate([T, static[:, None]], axis=1)
    assert np.mean(up_to_phase_and_conjugation(both, truth) > 0.999) > 0.9


def test_the_best_of_several_starts_misses_no_more_than_the_first():
    _, _, bits, intensities = measurement(4, per_input=4, noise=0.05)
    once = retrieve_rows(bits, intensities, seed=1)
    best = retrieve_rows(bits, intensities, seed=1, starts=3)
    assert (best.residuals <= once.residuals).all()
    assert (best.residuals < once.residuals).any()


@given(seed=st.integers(0, 2**32 - 1), turn=st.floats(0, 1))
@settings(max_examples=10)
def test_intensities_do_not_tell_phase_and_conjugation(seed, turn):
    """A row turned and conjugated is measured alike; so it is retrieved alike."""
    T, _, bits, _ = measurement(seed, n_inputs=8, outputs=4)
    turned = np.exp(2j * np.pi * turn) * T.conj()
    assert np.abs(bits @ T.T) ** 2 == pytest.approx(
        np.abs(bits @ turned.T) ** 2, rel=1e-4, abs=1e-4
    )


@pytest.mark.parametrize(
    "use",
    [
        np.asarray,
        np.array,
        lambda rows: rows @ np.ones(16),
        lambda rows: np.ones(60) @ rows,
        lambda rows: rows[0],
        np.conj,
    ],
)
def test_ambiguous_rows_are_no_matrix(use):
    _, _, bits, intensities = measurement(0)
    found = retrieve_rows(bits, intensities, seed=1)
    with pytest.raises(AmbiguityError, match="no matrix"):
        use(found)


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=10)
def test_a_few_referenced_fields_make_rows_of_any_phase_and_conjugation_one_matrix(seed):
    rng = np.random.default_rng(seed)
    T, static = gaussian(rng, 30, 12), gaussian(rng, 30)
    turns = np.exp(2j * np.pi * rng.random(30))
    mirrored = rng.random(30) < 0.5
    rows = turns[:, None] * np.where(mirrored[:, None], T.conj(), T)
    background = turns * np.where(mirrored, static.conj(), static)
    ambiguous = AmbiguousRows(
        rows.astype(np.complex64), background.astype(np.complex64), np.zeros(30, np.float32)
    )
    reference = 3 * np.exp(2j * np.pi * rng.random(30))
    bits = rng.integers(0, 2, (8, 12), np.uint8)
    fields = (reference * (bits @ T.T + static)).astype(np.complex64)
    solved = ambiguous.resolve(bits, fields)
    assert len(solved.outputs) >= 29
    kept = solved.outputs
    assert np.abs(solved.T - reference[kept, None] * T[kept]).max() < 1e-3
    assert solved.background == pytest.approx((reference * static)[kept], abs=1e-3)


def test_noisy_rows_are_resolved_without_a_wrong_conjugation():
    T, _, bits, intensities = measurement(5, n_inputs=24, outputs=200, noise=0.1)
    rng = np.random.default_rng(6)
    some = rng.integers(0, 2, (12, 24), np.uint8)
    fields = some @ T.T
    fields += 0.1 * np.abs(fields).mean() * gaussian(rng, *fields.shape)
    solved = retrieve_rows(bits, intensities, seed=1).resolve(some, fields)
    truth = T[solved.outputs]
    plain = np.abs(np.sum(solved.T.conj() * truth, axis=1)) / (
        np.linalg.norm(solved.T, axis=1) * np.linalg.norm(truth, axis=1)
    )
    assert len(solved.outputs) > 0.9 * len(T)
    assert plain.min() > 0.8
    assert np.median(np.abs(np.angle(np.sum(solved.T.conj() * truth, axis=1)))) < 0.05


def test_fields_of_something_else_decide_nothing():
    _, _, bits, intensities = measurement(7)
    rng = np.random.default_rng(8)
    some = rng.integers(0, 2, (8, 16), np.uint8)
    with pytest.raises(AmbiguityError, match="None of 60 rows"):
        retrieve_rows(bits, intensities, seed=1).resolve(some, gaussian(rng, 8, 60))


def test_real_rows_have_no_conjugation_to_decide_and_say_so():
    real = AmbiguousRows(
        np.random.default_rng(0).standard_normal((4, 8)).astype(np.complex64),
        np.zeros(4, np.complex64),
        np.zeros(4, np.float32),
    )
    bits = np.random.default_rng(1).integers(0, 2, (8, 8), np.uint8)
    with pytest.raises(AmbiguityError, match="odds"):
        real.resolve(bits, bits.astype(np.complex64) @ real.representatives.T)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda b, i: (b[:50], i[:50]), PatternError, "50 patterns for 16 unknowns"),
        (lambda b, i: (b + 1, i), PatternError, "values up to 2"),
        (lambda b, i: (b.astype(float), i), PatternError, "float64"),
        (lambda b, i: (np.zeros_like(b), i), PatternError, "tell their 16 inputs apart"),
        (lambda b, i: (b, i[:-1]), SettingError, "79"),
        (lambda b, i: (b, i * np.nan), SettingError, "finite"),
        (lambda b, i: (b, i + 0j), SettingError, "complex"),
        (lambda b, i: (b, i * (np.arange(60) != 7)), LowSignalError, "first is 7"),
    ],
)
def test_measurements_that_tell_no_rows_are_refused(change, error, message):
    _, _, bits, intensities = measurement(0)
    with pytest.raises(error, match=message):
        retrieve_rows(*change(bits, intensities), seed=1)


def test_saturated_outputs_are_refused_by_number():
    _, _, bits, intensities = measurement(0)
    full = float(intensities.max())
    with pytest.raises(SaturationError, match="1 of 60 outputs"):
        retrieve_rows(bits, intensities, seed=1, full_scale=full)


def test_too_few_patterns_have_no_expected_error():
    with pytest.raises(SettingError, match="more than 32"):
        expected_error(0.1, 32, 16)


def test_referenced_fields_have_to_fit():
    _, _, bits, intensities = measurement(0)
    found = retrieve_rows(bits, intensities, seed=1)
    with pytest.raises(SettingError, match=r"\[8, 60\]"):
        found.resolve(bits[:8], np.zeros((8, 59), np.complex64))
    with pytest.raises(PatternError, match="1 referenced"):
        found.resolve(bits[:1], np.zeros((1, 60), np.complex64))
