"""A projector whose medium moves, kept up by a few vectors instead of measured anew."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from calibration.errors import DecorrelationError
from calibration.matrix_follower import MatrixFollower
from calibration.pipeline import calibrate
from calibration.projector import OpticalProjector
from opu_driver import simulated_bench
from opu_driver.errors import SettingError

N = 10  # on 64 columns of mirrors, some of which belong to no input


def test_a_medium_that_moves_is_followed_by_few_exposures() -> None:
    codes = torch.from_numpy(np.random.default_rng(0).integers(-1, 2, (32, N)))
    with simulated_bench("realistic", 1, decorrelation=1e-6, cells=(8, 8)) as bench:
        calibration = calibrate(bench, N)
        taken = bench.exposures
        follower = MatrixFollower(calibration)
        projector = OpticalProjector(bench, calibration, recalibrate=follower, min_fidelity=0.9)
        before = projector.fingerprint()
        for _ in range(2):
            rate = bench.camera._scene.settings.drift_rate_hz
            bench.camera._scene.wait(2.5e5 / rate)
            found = projector.project(codes).numpy()
            expected = codes.numpy() @ projector.calibration.matrix.T
            assert projector.last is not None
            assert 0 < projector.last.calibration_exposures < taken / 2
            assert projector.last.map_fidelity > 0.95
            assert follower.fidelity == pytest.approx(0.78, abs=0.06)
            assert np.linalg.norm(found - expected) < 0.25 * np.linalg.norm(expected)
    quality = follower.calibration.quality
    assert quality.held_out_error == pytest.approx(quality.held_out_noise, abs=0.08)
    assert projector.fingerprint() != before


def test_a_medium_of_which_nothing_is_left_is_not_followed() -> None:
    with simulated_bench("realistic", 1, decorrelation=1e-5, cells=(4, 4)) as bench:
        calibration = calibrate(bench, 2, repeats=16)
        for wrong in ({"vectors": 0}, {"min_fidelity": 0.0}):
            with pytest.raises(SettingError, match=next(iter(wrong))):
                MatrixFollower(calibration, **wrong)
        bench.camera._scene.wait(3e5 / bench.camera._scene.settings.drift_rate_hz)
        with pytest.raises(DecorrelationError, match="Calibrate the bench anew"):
            MatrixFollower(calibration, min_fidelity=0.5)(bench)
