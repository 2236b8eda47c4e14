"""Measured transmission matrices drive the simulated medium; the projector tells how far it is."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.linalg import hadamard

from calibration.pipeline import calibrate
from calibration.projector import OpticalProjector
from calibration.verdict import QualityLimits
from opu_driver import simulated_bench

INPUTS = 110
FRAMES = 4e4  # from one matrix to the next
NO_RANDOM_MEDIUM = QualityLimits(law_deviation=math.inf, distance_scatter=math.inf)


@pytest.fixture(scope="module")
def deformed() -> list[Path]:
    """The files of the deformed fibre, from rest on."""
    if "OPU_DATA" not in os.environ:
        pytest.skip("OPU_DATA is not set: the measured transmission matrices are not at hand")
    folder = Path(os.environ["OPU_DATA"]) / "transmission_matrices"
    return sorted(folder.glob("TM_modes_*.npz"), key=lambda path: float(path.stem.split("_")[-1]))


def fidelity(T: NDArray[Any], other: NDArray[Any]) -> float:
    """|<T, other>| over the product of their norms: the figure that the measurements come with."""
    return float(abs(np.vdot(T, other)) / np.linalg.norm(T) / np.linalg.norm(other))


@pytest.mark.parametrize("preset", ["quiet", "realistic"])
def test_the_fidelity_of_projections_follows_the_measured_curve(
    deformed: list[Path], preset: str
) -> None:
    chosen = [deformed[k] for k in (0, 3, 8, 12, 15, 18, 22)]
    matrices = [np.load(path)["TM_corr_modes"] for path in chosen]
    expected = [fidelity(matrices[0], T) for T in matrices[1:]]
    scene = {"cells": (10, 11), "measured_matrices": chosen, "frames_per_matrix": FRAMES}
    signs = hadamard(128)[:, :INPUTS]  # as codes they weigh all inputs, and all pairs, alike
    with simulated_bench(preset, 1, **scene) as bench:
        calibration = calibrate(bench, INPUTS, repeats=2, limits=NO_RANDOM_MEDIUM)
        optics = bench.camera._scene
        projector = OpticalProjector(bench, calibration, min_fidelity=0.0)
        told = []
        for k in range(1, len(chosen)):
            optics.wait((k * FRAMES - optics.age) / optics.settings.drift_rate_hz)
            projector.project(torch.from_numpy(signs))
            assert projector.last is not None
            told.append(np.sqrt(projector.last.map_fidelity))
    assert np.abs(np.array(told) - expected).max() < 0.01
