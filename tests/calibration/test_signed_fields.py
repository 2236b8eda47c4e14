"""Signed fields of further vectors, and a matrix kept up with them, on the simulated bench."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from calibration.calibration_file import Calibration
from calibration.matrix_update import MatrixUpdate
from calibration.method import Method
from calibration.pipeline import calibrate
from calibration.quality import correlation, relative_error
from calibration.signed_fields import signed_fields
from opu_driver import simulated_bench
from opu_driver.errors import SaturationError, SettingError

BENCH_SEED = 1
CalibrationOf = Callable[[str, int], Calibration]


def test_they_are_the_matrix_times_the_signs(calibration_of: CalibrationOf) -> None:
    calibration = calibration_of("realistic", 10)
    bits = np.random.default_rng(0).integers(0, 2, (70, 10), np.uint8)
    with simulated_bench("realistic", BENCH_SEED) as bench:
        bench.configure(replace(calibration.settings, exposure_us=50.0))
        found = signed_fields(bench, calibration, bits)
    expected = (2 * bits.astype(np.float32) - 1) @ calibration.T.T
    assert found.shape == expected.shape
    assert relative_error(found, expected) < 0.1


def test_no_vectors_have_no_fields(calibration_of: CalibrationOf) -> None:
    calibration = calibration_of("realistic", 10)
    with simulated_bench("realistic", BENCH_SEED) as bench:
        assert signed_fields(bench, calibration, np.zeros((0, 10), np.uint8)).shape == (0, 1024)
        assert bench.exposures == 0


def test_on_a_dim_bench_their_scale_is_that_of_the_matrix() -> None:
    still = {"phase_walk_rad": 0.0, "phase_jitter_rad": 0.0, "laser_noise": 0.0, "laser_drift": 0.0}
    dim = {"electrons_per_nj": 0.02, "read_noise_electrons": 2.0, "full_well_electrons": 500.0}
    bits = np.random.default_rng(5).integers(0, 2, (256, 64), np.uint8)
    with simulated_bench("realistic", seed=2, **still, **dim) as bench:
        bench.configure(replace(bench.settings, exposure_us=42.0))
        calibration = calibrate(bench, 64, repeats=1, judge=False, fit_exposure=False)
        signed = signed_fields(bench, calibration, bits)
        units = np.eye(64, dtype=np.uint8)
        layout = calibration.layout
        shown = np.concatenate([layout.render(units), layout.all_off()])
        frames = 2 * bench.camera._scene.truth.holograms(shown).real
        fields = calibration.demodulator()(frames).reshape(65, -1)
    truth = (fields[:-1] - fields[-1]).T
    true_signed = (2 * bits.astype(np.float32) - 1) @ truth.T
    assert calibration.quality.snr == pytest.approx(10, rel=0.1)
    unit = abs(np.vdot(truth, calibration.T)) / np.linalg.norm(truth) ** 2
    of_signed = abs(np.vdot(true_signed, signed)) / np.linalg.norm(true_signed) ** 2
    assert of_signed / unit == pytest.approx(1, abs=0.015)  # uncorrected, 1.08


def test_a_field_of_other_modes_is_refused(calibration_of: CalibrationOf) -> None:
    calibration = calibration_of("realistic", 10)
    with simulated_bench("realistic", BENCH_SEED) as bench:
        with pytest.raises(SettingError, match=r"shape \[1023\]; .* \[1024\] modes"):
            bits = np.eye(10, dtype=np.uint8)
            signed_fields(bench, calibration, bits, all_on=np.ones(1023, np.complex64))
        assert bench.exposures == 0


def test_saturated_fields_are_refused(calibration_of: CalibrationOf) -> None:
    calibration = calibration_of("realistic", 10)
    with simulated_bench("realistic", BENCH_SEED) as bench:
        bench.configure(replace(calibration.settings, exposure_us=2000.0))
        with pytest.raises(SaturationError):
            signed_fields(bench, calibration, np.eye(10, dtype=np.uint8))


def test_a_matrix_follows_the_medium_of_a_bench() -> None:
    n, e = 32, 1e-4
    method = Method.of("hadamard-pairs", n, repeats=1)
    vectors = method.vectors
    bits = vectors.bits(range(vectors.count))
    signs = 2 * bits.astype(np.float32) - 1
    with simulated_bench("realistic", seed=3, decorrelation=e) as bench:
        calibration = calibrate(bench, n, repeats=1, judge=False)
        snr = calibration.quality.snr
        update = MatrixUpdate(
            calibration.T,
            error=method.expected_error(snr),
            decorrelation=2 * e,
            noise_to_signal=method.noise_to_signal(snr),
        )
        for _ in range(24):
            fields = signed_fields(bench, calibration, bits, all_on=update.matrix.sum(axis=1))
            update.add(signs, fields)
        fields = signed_fields(bench, calibration, bits, all_on=update.matrix.sum(axis=1))
    assert correlation(fields, signs @ update.matrix.T) > 0.99
    assert correlation(fields, signs @ calibration.T.T) < 0.97
