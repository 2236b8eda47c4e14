"""A small simulated bench, calibrated once for all tests that need it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from calibration.calibration_file import Calibration

# How long an example takes says more about the machine than about the code.
settings.register_profile("opu", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("opu")

BENCH_SEED = 1
"""The seed of all simulated benches in tests: equal seeds are the same bench."""


@functools.cache
def _calibration(preset: str, n_inputs: int) -> Calibration:
    from calibration.pipeline import calibrate
    from opu_driver import simulated_bench

    with simulated_bench(preset, BENCH_SEED) as bench:
        return calibrate(bench, n_inputs, seed=1)


@pytest.fixture(scope="session")
def calibration_of() -> Callable[[str, int], Calibration]:
    """The calibration of the simulated bench `(preset, n_inputs)` with the seed `BENCH_SEED`."""
    return _calibration


@pytest.fixture(scope="session")
def realistic_calibration() -> Calibration:
    """The calibration of the realistic simulated bench for ten inputs."""
    return _calibration("realistic", 10)
