"""Signed fields T (2v - 1) of further vectors on a calibrated bench, in the calibration's terms."""

from __future__ import annotations

import math

import numpy as np

from calibration.calibration_file import Calibration
from calibration.complementary_pairs import ComplementaryPairs
from calibration.saturation import checked_saturation
from calibration.scheme import Fields, products
from calibration.vectors import Bits
from opu_driver.bench import Bench
from opu_driver.errors import LowSignalError, SettingError

_LONGEST = 64  # vectors in a sequence


def signed_fields(
    bench: Bench,
    calibration: Calibration,
    bits: Bits,
    *,
    all_on: Fields | None = None,
    max_saturated_fraction: float = 1e-3,
) -> Fields:
    """Show vectors with their complements, and undo the drift by what all pairs have in common.

    Args:
        bench: An open bench.
        calibration: What was measured on it.
        bits: uint8 `[vector, input]`.
        all_on: complex64 `[mode]`, T times ones as it is by now, as far as is known; None for that
            of the calibration.
        max_saturated_fraction: Largest allowed fraction of pixels at full scale.

    Returns:
        complex64 `[vector, mode]`, in the unit, phase and gain of `calibration.T`.

    Raises:
        StaleCalibrationError: The calibration does not fit the bench.
        SettingError: `all_on` of other modes, or a modulator that does not hold one vector.
        PatternError: Vectors that the modulator cannot show.
        LowSignalError: The calibration is noise.
        SaturationError, FrameMismatchError, CaptureTimeoutError, LaserSafetyError: As
            `Bench.stream`.
    """
    calibration.check(bench)
    scheme, demodulate = ComplementaryPairs(), calibration.demodulator()
    common = _common(calibration, all_on)
    step = min(_LONGEST, scheme.most(bench.longest_sequence))
    if not step:
        raise SettingError(
            f"A modulator that holds {bench.modulator.capacity} patterns has room for sequences of "
            f"{bench.longest_sequence}; a vector takes {scheme.steps}. Raise its capacity."
        )
    runs = [bits[first : first + step] for first in range(0, len(bits), step)]
    shown = (scheme.patterns(calibration.layout, run) for run in runs)
    signed = []
    for sequence in bench.stream(shown):
        checked_saturation(sequence, bench.camera.saturation_level, max_saturated_fraction)
        fields = demodulate(sequence.frames).reshape(len(sequence), -1)
        gains = scheme.gains(products(fields, common, scheme.steps), calibration.n_modes)
        fields *= (1 / gains).astype(np.complex64)[:, None]
        signed.append(scheme.signed(fields, common, calibration.bias))
    if not signed:
        return np.zeros((0, calibration.n_modes), np.complex64)
    return np.concatenate(signed)


def _common(calibration: Calibration, all_on: Fields | None) -> Fields:
    """What a pair's fields add up to, of such a length that gains by least squares are true.

    The sum as it was measured has the noise of T on top, e = c + n, and least squares against it
    give <e, c> / <e, e>: too little by the share of the noise, which T's own error tells.
    """
    common: Fields = calibration.T.sum(axis=1) + 2 * calibration.bias
    seen = float(np.linalg.norm(common)) ** 2
    error = calibration.quality.matrix_noise
    noisy = error**2 / (1 + error**2) if math.isfinite(error) else 0.0
    power = seen - noisy * float(np.linalg.norm(calibration.T)) ** 2
    if not power > 0:
        raise LowSignalError(
            f"A calibration with a matrix_noise of {error:.3g}: its field of all inputs on is "
            "noise. Calibrate with more light or more repeats."
        )
    if all_on is None:
        common *= np.float32(power / seen)
        return common
    if all_on.shape != common.shape:
        raise SettingError(
            f"all_on of shape {list(all_on.shape)}; the calibration has [{len(common)}] modes."
        )
    # A medium that moves keeps its power; an estimate of it has less, the less it is known.
    common = all_on + 2 * calibration.bias
    common *= np.float32(math.sqrt(power) / np.linalg.norm(common))
    return common
