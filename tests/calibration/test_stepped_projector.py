"""Codes through a stepped reference, on the simulated bench, as training sees it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from calibration.errors import CodesError, DecorrelationError
from calibration.phase_stepping import FOUR_STEPS, TWO_STEPS, SteppedDemodulator
from calibration.stepped_matrix import stepped_matrix
from calibration.stepped_projector import SteppedProjector
from calibration.stepped_reference import SteppedReference
from opu_driver import simulated_bench
from opu_driver.bench import Bench
from opu_driver.errors import SettingError
from training.projector import Projector

N, ROWS, RADIUS, SENSOR = 24, 8, 0.24, (48, 48)
STILL = {"phase_walk_rad": 0.0, "phase_jitter_rad": 0.0}


def on_axis(**scene: object) -> Bench:
    return simulated_bench(
        "quiet",
        seed=5,
        modulator={"shape": (72, 64)},
        camera={"sensor_shape": SENSOR, "pixel_format": "mono12"},
        carrier=(0.0, 0.0),
        speckle_radius=RADIUS,
        reference_rows=ROWS,
        **scene,
    )


def projector_on(bench: Bench, turns=FOUR_STEPS, **more: object):
    reference = SteppedReference.on(bench, ROWS, turns=turns)
    everything = reference.patterns(reference.layout(1).all_on())
    bench.fit_exposure(np.concatenate([everything, bench.layout(1).all_on()]))
    demodulate = SteppedDemodulator(SENSOR, turns, radius=RADIUS)
    matrix = stepped_matrix(bench, reference, demodulate, N, repeats=4)
    return SteppedProjector(bench, reference, demodulate, matrix, **more), matrix


def ternary(rows: int):
    return torch.from_numpy(np.random.default_rng(0).integers(-1, 2, (rows, N)).astype(np.int8))


@pytest.mark.parametrize(
    ("turns", "scene", "outputs"),
    [(FOUR_STEPS, {"phase_walk_rad": 0.005}, 1152), (TWO_STEPS, STILL, 576)],
)
def test_projections_are_those_of_the_matrix(turns, scene, outputs):
    with on_axis(**scene) as bench:
        projector, matrix = projector_on(bench, turns)
        assert isinstance(projector, Projector)
        codes = ternary(40)
        codes[7] = 0
        found = projector.project(codes).numpy()
        totals = projector.totals()
    B = matrix.outputs()
    expected = codes.numpy() @ B.T
    assert found.shape == (40, outputs) == (40, projector.n_outputs)
    assert np.mean(B**2) == pytest.approx(1, abs=1e-4)
    assert not found[7].any()
    assert np.linalg.norm(found - expected) < 0.1 * np.linalg.norm(expected)
    assert totals["rows"] == 40
    assert totals["exposures"] == 39 * 2 * len(turns)
    assert totals["reference_exposures"] == 3 * (3 + 4 * len(turns))
    assert totals["fidelity"] > 0.99


def test_a_phase_that_moves_is_followed_with_four_steps_and_refused_with_two():
    walk = {"phase_jitter_rad": 0.0, "phase_walk_rad": 0.01}
    with on_axis(**walk) as bench:
        projector, matrix = projector_on(bench)
        bench.camera._scene.wait(100.0)
        codes = ternary(8)
        found = projector.project(codes).numpy()
    expected = codes.numpy() @ matrix.outputs().T
    assert np.linalg.norm(found - expected) < 0.1 * np.linalg.norm(expected)
    with on_axis(**walk) as bench:
        projector, _ = projector_on(bench, TWO_STEPS, min_fidelity=0.95)
        bench.camera._scene.wait(100.0)
        with pytest.raises(DecorrelationError, match="two steps, the phase"):
            projector.project(codes)


def test_another_medium_is_refused():
    with on_axis(decorrelation=1e-6, cells=(8, 8)) as bench:
        projector, _ = projector_on(bench)
        bench.camera._scene.wait(250.0)
        with pytest.raises(DecorrelationError, match="fidelity"):
            projector.project(ternary(2))


def test_codes_and_settings_that_do_not_fit_are_refused():
    with on_axis() as bench:
        projector, matrix = projector_on(bench)
        before = bench.exposures
        with pytest.raises(CodesError):
            projector.project(2 * torch.ones(1, N))
        assert bench.exposures == before
        reference = SteppedReference.on(bench, ROWS)
        with pytest.raises(SettingError, match="modes"):
            SteppedProjector(bench, reference, SteppedDemodulator(SENSOR), matrix)
        with pytest.raises(SettingError, match="rows_between"):
            SteppedProjector(
                bench,
                reference,
                SteppedDemodulator(SENSOR, radius=RADIUS),
                matrix,
                rows_between=0,
            )
