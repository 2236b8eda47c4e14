"""Linear outputs from intensities, on the simulated bench without a reference beam."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from calibration.anchors import Anchor, AnchorBudget, AnchoredProjector
from calibration.errors import CodesError, DecorrelationError, NoiseError
from opu_driver import simulated_bench
from opu_driver.bench import Bench
from opu_driver.errors import SaturationError, SettingError
from training.projector import Projector

N, ANCHOR = 12, 4


def dark_arm(preset: str = "ideal", **scene: object) -> Bench:
    """A bench whose reference is blocked."""
    return simulated_bench(
        preset, seed=3, camera={"sensor_shape": (32, 32)}, reference_ratio=0.0, **scene
    )


def ternary(n: int, n_inputs: int = N, seed: int = 0):
    return np.random.default_rng(seed).integers(-1, 2, (n, n_inputs)).astype(np.int8)


def true_matrix(bench: Bench, n_inputs: int = N, n_anchor: int = ANCHOR):
    """2 Re((T a)* T) `[output, input]`, of unit energy."""
    truth = bench.camera._scene.truth
    T = truth.inputs(bench.layout(n_inputs + n_anchor)).reshape(n_inputs + n_anchor, -1).T
    anchor = T[:, n_inputs:].sum(axis=1)
    return 2 * (anchor.conj()[:, None] * T[:, :n_inputs]).real * truth.response().ravel()[:, None]


@pytest.mark.parametrize("static", [{}, {"leakage": 0.05, "fill_factor": 0.8}])
def test_outputs_are_linear_in_the_codes_whatever_the_static_light(static):
    with dark_arm(**static) as bench:
        codes = ternary(9)
        codes[3] = 0
        anchor = Anchor(bench, N, ANCHOR)
        outputs = anchor.outputs(codes)
        expected = codes @ true_matrix(bench).T
        energy = bench.camera._scene.truth.energies[0] * bench.camera._converter.gain
    assert anchor.exposures == 4 * 8
    assert outputs.shape == (9, 1024)
    assert outputs == pytest.approx(energy * expected, abs=2e-3 * float(energy))


def test_no_drift_of_a_phase_reaches_them():
    with dark_arm(phase_walk_rad=1.0, phase_jitter_rad=1.0) as bench:
        codes = ternary(4)
        anchor = Anchor(bench, N, ANCHOR)
        once, again = anchor.outputs(codes), anchor.outputs(codes)
    assert once == pytest.approx(again, abs=1e-3 * float(np.abs(once).max()))


def test_the_measured_matrix_predicts_the_outputs():
    with dark_arm("quiet") as bench:
        bench.fit_exposure(bench.layout(1).all_on(), mean_fraction=0.1)
        anchor = Anchor(bench, N, ANCHOR, binning=2)
        B = anchor.matrix(repeats=8)
        codes = ternary(40)
        outputs = anchor.outputs(codes)
    assert B.shape == (16 * 16, N)
    predicted = codes @ B.T
    assert np.linalg.norm(outputs - predicted) < 0.2 * np.linalg.norm(outputs)
    assert np.corrcoef(outputs.ravel(), predicted.ravel())[0, 1] > 0.98


def test_a_network_sees_a_projector_of_unit_mean_square():
    with dark_arm("quiet") as bench:
        bench.fit_exposure(bench.layout(1).all_on(), mean_fraction=0.1)
        projector = AnchoredProjector(Anchor(bench, N, ANCHOR, binning=2), repeats=4)
        assert isinstance(projector, Projector)
        codes = torch.from_numpy(ternary(40))
        outputs = projector.project(codes)
        totals = projector.totals()
    assert outputs.dtype == torch.float32
    assert np.mean(projector.matrix**2) == pytest.approx(1, abs=1e-4)
    predicted = codes.float() @ torch.from_numpy(projector.matrix).T
    assert torch.linalg.norm(outputs - predicted) < 0.2 * torch.linalg.norm(predicted)
    assert totals["rows"] == 40
    assert totals["exposures"] == 4 * int(codes.any(dim=1).sum())
    assert 0.95 < totals["fidelity"] <= 1
    assert projector.split_half > 0.99


def test_another_medium_and_noise_are_refused():
    with dark_arm("quiet", decorrelation=1e-6, cells=(8, 8)) as bench:
        bench.fit_exposure(bench.layout(1).all_on(), mean_fraction=0.1)
        projector = AnchoredProjector(Anchor(bench, N, ANCHOR))
        bench.camera._scene.wait(250.0)
        with pytest.raises(DecorrelationError, match="fidelity of 0"):
            projector.project(torch.from_numpy(ternary(8)))
        with pytest.raises(NoiseError, match=r"split_half = 0\.9"):
            AnchoredProjector(Anchor(bench, N, ANCHOR), repeats=1, min_split_half=0.9999)


@pytest.mark.parametrize("laser_noise", [0.0, 0.01])
def test_their_noise_is_what_the_budget_says(laser_noise):
    scene = {"shot_noise": True, "read_noise_electrons": 6.0, "laser_noise": laser_noise}
    with dark_arm(**scene) as bench:
        codes = ternary(60, 128, seed=1)
        outputs = Anchor(bench, 128, 64).outputs(codes)
        B = true_matrix(bench, 128, 64)
        energy = float(np.mean(bench.camera._scene.truth.energies))
        T = bench.camera._scene.truth.inputs(bench.layout(192)).reshape(192, -1)
        light = energy * np.mean(np.abs(T) ** 2)
        anchor = energy * np.mean(np.abs(T[128:].sum(axis=0)) ** 2)
        outputs = outputs / (energy * bench.camera._converter.gain)
        expected = codes @ B.T
    plus, minus = (float((codes == sign).sum(axis=1).mean()) * light for sign in (1, -1))
    budget = AnchorBudget(
        exposures=(plus + anchor, plus, minus + anchor, minus),
        anchor=anchor,
        signal=plus + minus,
        read=6.0,
        laser_noise=laser_noise,
    )
    seen = np.linalg.norm(outputs - expected) / np.linalg.norm(expected)
    assert seen == pytest.approx(budget.relative_error, rel=0.1)


@given(light=st.floats(10, 1e4), more=st.floats(1.1, 10))
def test_more_light_is_never_worse(light, more):
    def error(scale: float) -> float:
        return AnchorBudget(
            [2 * scale, scale] * 2, anchor=scale, signal=scale, read=5.0, laser_noise=0.003
        ).relative_error

    assert error(more * light) < error(light)


def test_saturated_frames_are_refused():
    with dark_arm("quiet") as bench:
        bench.configure(replace(bench.settings, exposure_us=5000.0))
        with pytest.raises(SaturationError):
            Anchor(bench, N, ANCHOR).outputs(ternary(2))


@pytest.mark.parametrize(
    "codes",
    [
        np.full((2, N), 2),
        np.full((2, N), 0.5),
        np.zeros((2, N + 1)),
        np.zeros(N),
        np.ones((1, N)) * 1j,
    ],
)
def test_codes_that_are_not_ternary_are_refused_before_any_light(codes):
    with dark_arm() as bench:
        with pytest.raises(CodesError):
            Anchor(bench, N, ANCHOR).outputs(codes)
        assert bench.exposures == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_inputs": 0}, "n_inputs"),
        ({"n_anchor": 0}, "n_anchor"),
        ({"binning": 3}, "binning"),
    ],
)
def test_an_impossible_projector_is_refused(arguments, message):
    with dark_arm() as bench, pytest.raises(SettingError, match=message):
        Anchor(bench, **({"n_inputs": N, "n_anchor": ANCHOR} | arguments))


def test_a_budget_needs_light_and_four_exposures():
    with pytest.raises(SettingError, match="exposures"):
        AnchorBudget([1.0, 1.0], anchor=1.0, signal=1.0)
    with pytest.raises(SettingError, match="light in both"):
        AnchorBudget([1.0] * 4, anchor=0.0, signal=1.0)
    with pytest.raises(SettingError, match="coherence"):
        AnchorBudget([1.0] * 4, anchor=1.0, signal=1.0, coherence=0.0)
