"""A small simulated bench, calibrated once for all tests that need it."""

from __future__ import annotations

import functools
import os
import signal
import tempfile
from collections.abc import Callable
from pathlib import Path
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


def pytest_configure() -> None:
    """Signals that end a process do so here, and workers that run side by side share no locks."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # A background job ignores some signals, and so would all that it starts.
    for name in ("SIGHUP", "SIGQUIT"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_DFL)
    if worker := os.environ.get("PYTEST_XDIST_WORKER"):
        folder = Path(tempfile.gettempdir()) / f"opu-tests-{os.getppid()}-{worker}"
        folder.mkdir(exist_ok=True)
        tempfile.tempdir = os.environ["TMPDIR"] = str(folder)
        # PyTorch's threads wait by spinning, and would take the processors from other workers.
        os.environ.setdefault("OMP_NUM_THREADS", "1")
    # Benches of tests are nobody else's: emulated devices have the same addresses everywhere.
    os.environ.setdefault("OPU_LOCKS", str(Path(tempfile.gettempdir()) / "opu-locks"))


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
