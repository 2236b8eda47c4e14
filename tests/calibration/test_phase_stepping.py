"""Fields from phase steps: exact without noise, as noisy as theory says, and wrong as stated."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibration.errors import FramesError, LowVisibilityError
from calibration.phase_stepping import (
    FOUR_STEPS,
    TWO_STEPS,
    SteppedDemodulator,
    measure_steps,
    step_weights,
    twin_share,
)
from opu_driver.errors import SettingError


def speckle(rng, count=1, shape=(48, 64), radius=0.2):
    """Fields of unit mean square whose spectrum fills a disc: `[field, row, column]`."""
    inside = np.hypot(np.fft.fftfreq(shape[0])[:, None], np.fft.fftfreq(shape[1])) <= radius
    white = rng.standard_normal((2, count, *shape))
    spectrum = (white[0] + 1j * white[1]) * inside
    fields = np.fft.ifft2(spectrum)
    return fields / np.sqrt(np.mean(np.abs(fields) ** 2))


def frames_of(fields, turns, reference=2.0, light=1.0):
    """Noise-free frames `[field x step, row, column]`."""
    phasors = reference * np.exp(2j * np.pi * np.asarray(turns))
    frames = np.abs(phasors[:, None, None] + fields[:, None]) ** 2
    return light * frames.reshape(-1, *fields.shape[1:])


@pytest.mark.parametrize("turns", [FOUR_STEPS, (0, 1 / 3, 2 / 3), (0, 0.1, 0.3, 0.55, 0.8)])
def test_steps_give_the_field_of_every_pixel(turns):
    fields = speckle(np.random.default_rng(0), 3)
    demodulate = SteppedDemodulator(fields.shape[1:], turns)
    found = demodulate(frames_of(fields, turns).astype(np.float32))
    assert found.dtype == np.complex64
    assert found == pytest.approx(2 * fields, abs=1e-4)


def test_two_steps_give_its_real_part():
    fields = speckle(np.random.default_rng(0), 2)
    found = SteppedDemodulator(fields.shape[1:], TWO_STEPS)(frames_of(fields, TWO_STEPS))
    assert found.dtype == np.float32
    assert found == pytest.approx(2 * fields.real, abs=1e-4)


@given(
    seed=st.integers(0, 2**32 - 1),
    offset=st.floats(0, 1),
    gaps=st.lists(st.floats(0.12, 0.3), min_size=2, max_size=5),
)
@settings(max_examples=30)
def test_any_steps_that_are_well_apart_give_the_field(seed, offset, gaps):
    turns = offset + np.concatenate([[0.0], np.cumsum(gaps)])
    fields = speckle(np.random.default_rng(seed), 1, (16, 16))
    found = SteppedDemodulator((16, 16), tuple(turns))(frames_of(fields, turns))
    assert np.abs(found - 2 * fields).max() < 1e-3


@given(
    seed=st.integers(0, 2**32 - 1),
    errors=st.lists(st.floats(-0.05, 0.05), min_size=4, max_size=4),
)
@settings(max_examples=30)
def test_wrong_steps_leave_the_stated_share_of_the_twin_and_nothing_else(seed, errors):
    true = np.asarray(FOUR_STEPS) + errors
    fields = speckle(np.random.default_rng(seed), 1, (16, 16))
    found = SteppedDemodulator((16, 16))(frames_of(fields, true))
    basis = np.stack([fields.ravel(), fields.conj().ravel()], axis=1)
    (own, twin), *_ = np.linalg.lstsq(basis, found.ravel())
    assert found.ravel() == pytest.approx(basis @ [own, twin], abs=1e-4)
    assert abs(twin / own) == pytest.approx(twin_share(FOUR_STEPS, true), abs=1e-4)


def test_a_second_step_of_two_that_is_wrong_costs_signal_and_no_truth():
    wrong = 0.1  # turns
    fields = speckle(np.random.default_rng(0))
    found = SteppedDemodulator(fields.shape[1:], TWO_STEPS)(frames_of(fields, (0, 0.5 + wrong)))
    turned = 2 * (fields * np.exp(-1j * np.pi * wrong)).real
    assert found == pytest.approx(math.cos(np.pi * wrong) * turned, abs=1e-4)


def test_a_low_pass_keeps_the_speckle_and_decimates_it_to_a_mode_a_grain():
    fields = speckle(np.random.default_rng(0), 2, radius=0.2)
    demodulate = SteppedDemodulator(fields.shape[1:], radius=0.2)
    assert demodulate.decimation == 2
    assert demodulate.grid_shape == (24, 32)
    found = demodulate(frames_of(fields, FOUR_STEPS))
    assert found == pytest.approx(2 * fields[:, ::2, ::2], abs=1e-4)


@pytest.mark.parametrize(
    ("turns", "radius"), [(FOUR_STEPS, None), (FOUR_STEPS, 0.2), (TWO_STEPS, 0.2)]
)
def test_the_noise_is_what_the_noise_gain_says(turns, radius):
    rng = np.random.default_rng(3)
    shape = (48, 64)
    demodulate = SteppedDemodulator(shape, turns, radius=radius)
    noise = demodulate(rng.standard_normal((40 * len(turns), *shape)))
    assert np.mean(np.abs(noise) ** 2) == pytest.approx(demodulate.noise_gain, rel=0.03)


def test_the_noise_gain_of_four_steps_is_a_quarter_of_the_band():
    gain = SteppedDemodulator((256, 256), radius=0.2).noise_gain
    assert gain == pytest.approx(math.pi * 0.2**2 / 4 * 1.12, rel=0.03)
    assert SteppedDemodulator((16, 16)).noise_gain == pytest.approx(0.25)


@pytest.mark.parametrize(
    "turns", [(0.0,), (0.0, 0.0), (0.0, 1.0), (0, 0.5, 1.0), (0, math.nan, 0.5)]
)
def test_steps_that_tell_no_field_are_refused(turns):
    with pytest.raises(SettingError, match="turns"):
        step_weights(turns)


@pytest.mark.parametrize(
    "frames",
    [
        np.zeros((3, 16, 16)),
        np.zeros((4, 16, 15)),
        np.zeros((4, 256)),
        np.full((4, 16, 16), np.inf),
        np.zeros((4, 16, 16), complex),
    ],
)
def test_frames_that_do_not_fit_are_refused(frames):
    with pytest.raises(FramesError):
        SteppedDemodulator((16, 16))(frames)


def test_a_decimation_that_aliases_is_refused():
    with pytest.raises(SettingError, match="decimated by 1, 2"):
        SteppedDemodulator((16, 16), radius=0.2, decimation=4)
    with pytest.raises(SettingError, match="radius"):
        SteppedDemodulator((16, 16), radius=0.9)


def test_steps_are_measured_from_speckle():
    rng = np.random.default_rng(1)
    true = (0.0, 0.24, 0.53, 0.72)
    fields = speckle(rng, 64)
    frames = frames_of(fields, true, light=200.0)
    frames = rng.poisson(frames).astype(np.float32)
    found = measure_steps(frames)
    assert found.uncertainty_turns < 2e-3
    assert found.turns == pytest.approx(true, abs=5 * found.uncertainty_turns)
    assert found.visibility == pytest.approx(2 * 2 / 5, rel=0.05)
    assert twin_share(found.turns, true) < 0.1 * twin_share(FOUR_STEPS, true)


def test_steps_are_not_measured_without_fringes():
    rng = np.random.default_rng(1)
    still = np.repeat(np.abs(2 + speckle(rng, 8)) ** 2, 4, axis=0)
    with pytest.raises(LowVisibilityError, match="visibility"):
        measure_steps(rng.poisson(100 * still).astype(np.float32))


@pytest.mark.parametrize("shape", [(0, 16, 16), (16, 16), (6, 16, 16)])
def test_steps_are_measured_from_whole_groups(shape):
    with pytest.raises(FramesError):
        measure_steps(np.zeros(shape))


def test_three_steps_do_not_tell_their_phases():
    with pytest.raises(SettingError, match="four or more"):
        measure_steps(np.zeros((3, 16, 16)), (0, 1 / 3, 2 / 3))


def test_the_twins_share_needs_as_many_steps():
    with pytest.raises(SettingError, match="as many"):
        twin_share(FOUR_STEPS, TWO_STEPS)
