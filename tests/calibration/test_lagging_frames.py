"""Calibrations and projections with a camera whose frames lag behind the patterns."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from calibration.method import METHODS
from calibration.pipeline import calibrate
from calibration.projector import OpticalProjector
from calibration.signed_fields import signed_fields
from opu_driver import simulated_bench
from opu_driver.bench import MARKERS, SMALLEST_CAPACITY, Bench
from opu_driver.errors import SettingError
from opu_driver.virtual.camera import VirtualCamera


class LateCamera(VirtualCamera):
    """A camera on a line of its own that is exposed `lag` times before the first pattern."""

    simulated = False
    lag = 1

    @property
    def address(self) -> str | None:
        return f"late camera {id(self)}"

    def see_edges(self, edges_us: NDArray[Any], again: NDArray[np.bool_]) -> None:
        first = edges_us[0] - (edges_us[1] - edges_us[0]) * np.arange(self.lag, 0, -1)
        self._ready_us = -np.inf
        edges = np.concatenate([first, edges_us])
        super().see_edges(edges, np.concatenate([np.zeros(self.lag, bool), again]))


Late = Callable[..., Bench]


@pytest.fixture
def late(monkeypatch: pytest.MonkeyPatch) -> Late:
    def make(lag: int, capacity: int, driver: str = "virtual-dmd") -> Bench:
        monkeypatch.setattr(LateCamera, "lag", lag)
        monkeypatch.setattr("opu_driver.virtual.camera.VirtualCamera", LateCamera)
        modulator = {"driver": driver, "capacity": capacity}
        return simulated_bench("quiet", seed=1, modulator=modulator)

    return make


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("lag", [1, 3])
def test_sequences_leave_room_for_what_lags(late: Late, lag: int, method: str) -> None:
    driver = "virtual-slm" if method == "phase-steps" else "virtual-dmd"
    codes = torch.from_numpy(np.random.default_rng(0).integers(-1, 2, (40, 8)))
    with late(lag, 24, driver) as bench:
        calibration = calibrate(bench, 8, method=method, repeats=2)
        assert bench.frame_offset == lag
        projected = OpticalProjector(bench, calibration).project(codes).double().numpy()
        bits = np.random.default_rng(1).integers(0, 2, (20, 8), np.uint8)
        signed = signed_fields(bench, calibration, bits)
    expected = calibration.twin().project(codes).double().numpy()
    assert np.corrcoef(projected.ravel(), expected.ravel())[0, 1] > 0.995
    by_map = (2 * bits.astype(np.float32) - 1) @ calibration.T.T
    assert np.linalg.norm(signed - by_map) < 0.1 * np.linalg.norm(by_map)


def test_a_modulator_too_small_for_what_lags_is_refused_in_words(late: Late) -> None:
    with late(1, SMALLEST_CAPACITY) as bench:
        with pytest.raises(SettingError, match="7 patterns has room for sequences of 1"):
            calibrate(bench, 8)
        assert bench.exposures == 0
    with late(1, 4 + 2 * MARKERS) as bench:
        calibration = calibrate(bench, 4)
        assert calibration.quality.held_out_correlation > 0.99
