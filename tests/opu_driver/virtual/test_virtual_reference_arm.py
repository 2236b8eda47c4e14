"""A part of the modulator in the reference arm: what it shows turns and dims the reference."""

from __future__ import annotations

import math

import numpy as np
import pytest

from opu_driver.errors import SettingError
from opu_driver.virtual.reference_arm import ReferenceArm

ROWS, COLUMNS, PERIOD = 4, 64, 8


def arm(levels: int = 2, leakage: float = 0.0) -> ReferenceArm:
    return ReferenceArm((16, COLUMNS), levels, ROWS, PERIOD, leakage)


def grating(shift: int, duty: float = 0.5, rows: int = 16):
    lit = (np.arange(COLUMNS) - shift) % PERIOD < duty * PERIOD
    return np.packbits(np.broadcast_to(lit, (1, rows, COLUMNS)).astype(np.uint8), axis=2)


def amplitude(of: ReferenceArm, pattern) -> complex:
    return complex(of.amplitudes(pattern, np.zeros(1, np.intp))[0])


def test_a_grating_has_the_full_strength_and_the_phase_of_its_shift():
    still = amplitude(arm(), grating(0))
    assert abs(still) == pytest.approx(1, abs=1e-6)
    for shift in range(PERIOD):
        turned = amplitude(arm(), grating(shift)) / still
        assert turned == pytest.approx(np.exp(2j * math.pi * shift / PERIOD), abs=1e-5)


def test_a_grating_of_another_duty_is_weaker():
    thin = abs(amplitude(arm(), grating(0, duty=0.25)))
    assert thin == pytest.approx(math.sin(math.pi / 4), abs=1e-6)


@pytest.mark.parametrize("value", [0, 255])
def test_even_rows_darken_the_reference_whatever_they_leak(value):
    even = np.full((1, 16, COLUMNS // 8), value, np.uint8)
    assert abs(amplitude(arm(leakage=0.01), even)) < 1e-6


@pytest.mark.parametrize("level", [0, 1, 64, 128, 200])
def test_a_phase_modulator_turns_the_reference_by_its_phase(level):
    even = np.full((1, 16, COLUMNS), level, np.uint8)
    assert amplitude(arm(256), even) == pytest.approx(np.exp(2j * math.pi * level / 256), abs=1e-5)


def test_a_checkerboard_of_phases_darkens_it():
    row, column = np.ogrid[:16, :COLUMNS]
    board = ((row + column) % 2 * 128).astype(np.uint8)[None]
    assert abs(amplitude(arm(256), board)) < 1e-6


def test_only_the_last_rows_count_and_the_others_are_the_signal():
    pattern = grating(2)
    pattern[:, :-ROWS] = 0
    assert abs(amplitude(arm(), pattern)) == pytest.approx(1, abs=1e-6)
    assert arm().signal(pattern).shape == (1, 16 - ROWS, COLUMNS // 8)
    assert not arm().signal(pattern).any()


def test_a_reference_of_its_own_is_always_there():
    own = ReferenceArm((16, COLUMNS), 2, 0, PERIOD, 0.0)
    assert (own.amplitudes(np.zeros((1, 16, 8), np.uint8), np.zeros(3, np.intp)) == 1).all()


def test_frames_interfere_with_the_reference_that_is_shown(rig):
    """Light of a frame without a grating is |S|^2 alone, with one |aR|^2 + |S|^2 + fringes."""
    r = rig("ideal", shape=(36, 32), reference_rows=4, carrier=(0.0, 0.0), reference_ratio=2.0)
    signal = np.random.default_rng(0).integers(0, 256, (1, 36, 4), np.uint8)
    patterns = np.repeat(signal, 3, axis=0)
    patterns[0, -4:] = 0
    for k, shift in ((1, 0), (2, 4)):
        lit = (np.arange(32) - shift) % 8 < 4
        patterns[k, -4:] = np.packbits(lit)
    dark, zero, half = r.electrons(patterns)
    field = r.scene.truth.fields(signal)[0]
    energy = r.scene.truth.energies[0]
    strength = 2.0 * energy
    assert dark == pytest.approx(energy * np.abs(field) ** 2, rel=1e-4, abs=1e-3 * energy)
    assert (zero + half) / 2 - dark == pytest.approx(strength, rel=1e-3, abs=1e-3 * energy)
    assert np.std(zero - half) > energy


def test_a_reference_arm_that_leaves_too_few_rows_is_refused(rig):
    with pytest.raises(SettingError, match="25 rows of it in the reference arm"):
        rig("ideal", reference_rows=25)
