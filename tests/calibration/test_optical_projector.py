"""Vectors through the simulated bench, against the calibrated map; and what must raise instead."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta, tzinfo
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from torch import Tensor

from calibration import movement_kernel, projection_kernel
from calibration.bit_planes import BitPlanes
from calibration.calibration_file import Calibration
from calibration.errors import (
    CodesError,
    DecorrelationError,
    DriftError,
    StaleCalibrationError,
)
from calibration.map_fidelity import MapCheck
from calibration.projector import OpticalProjector
from opu_driver import simulated_bench
from opu_driver.bench import MARKERS, Bench
from opu_driver.errors import (
    FrameMismatchError,
    LaserSafetyError,
    SaturationError,
    SettingError,
)
from opu_driver.layout import Layout

SEED = 1  # of the bench that the shared calibrations were made on


def ternary(rows: int, seed: int = 0, n_inputs: int = 10) -> Tensor:
    codes = np.random.default_rng(seed).integers(-1, 2, (rows, n_inputs))
    codes[:, 0] = 1  # no row of zeros
    return torch.from_numpy(codes)


def agreement(measured: Tensor, predicted: Tensor) -> tuple[float, float]:
    """Correlation and relative error."""
    x, y = measured.double().flatten(), predicted.double().flatten()
    return float(x @ y / (x.norm() * y.norm())), float((x - y).norm() / y.norm())


@pytest.fixture
def bench() -> Iterator[Bench]:
    with simulated_bench("realistic", SEED) as bench:
        yield bench


@pytest.fixture
def projector(bench: Bench, realistic_calibration: Calibration) -> OpticalProjector:
    return OpticalProjector(bench, realistic_calibration)


def project_on(calibration: Calibration, codes: Tensor, **scene: Any) -> Tensor:
    """Through a realistic bench on which something is different."""
    with simulated_bench("realistic", SEED, **scene) as bench:
        return OpticalProjector(bench, calibration).project(codes)


def test_nothing_is_compiled_while_the_laser_emits(
    bench: Bench, realistic_calibration: Calibration
) -> None:
    projector = OpticalProjector(bench, realistic_calibration)
    kernels = [projection_kernel.project, movement_kernel.cell_sums]
    compiled = [set(kernel.signatures) for kernel in kernels]
    assert all(compiled)
    projector.project(ternary(40))
    assert [set(kernel.signatures) for kernel in kernels] == compiled


def test_projections_are_those_of_the_calibrated_map(
    bench: Bench, realistic_calibration: Calibration
) -> None:
    codes = ternary(100)
    projector = OpticalProjector(bench, realistic_calibration, exposure_us=100.0)
    projected = projector.project(codes)
    assert projected.shape == (100, projector.n_outputs)
    assert projected.dtype == torch.float32
    assert projected.device.type == "cpu"
    correlation, error = agreement(projected, realistic_calibration.twin().project(codes))
    assert correlation >= 0.9995
    assert error <= 0.03


def expected_error(bench: Bench, calibration: Calibration, codes: NDArray[np.int64]) -> float:
    """The formula of calibration/projector.py, from what is true of the scene."""
    scene = bench.camera._scene
    settings, truth = scene.settings, scene.truth
    electrons = settings.electrons_per_nj * bench.power_mw * bench.settings.exposure_us
    electrons /= 1 + settings.reference_ratio
    reference = np.abs(truth.reference()) ** 2
    halves = np.concatenate([codes > 0, codes < 0]).astype(np.uint8)
    shown = np.abs(truth.fields(calibration.layout.render(halves))) ** 2
    light = 2 * (reference + shown).mean() * electrons
    code_fields = np.tensordot(codes.astype(np.float32), truth.inputs(calibration.layout), 1)
    signal = truth.contrast**2 * (reference * np.abs(code_fields) ** 2).mean() * electrons**2
    grey = settings.full_well_electrons / (2**calibration.settings.pixel_format.bits - 1)
    noise = light + 2 * settings.read_noise_electrons**2 + grey**2 / 6
    return math.sqrt(calibration.demodulator().noise_gain * noise / signal)


@pytest.mark.parametrize("electrons", [10, 20, 200])
def test_the_error_is_what_theory_says(electrons: float) -> None:
    from calibration.pipeline import calibrate

    camera = {"pixel_format": "mono12"}
    with simulated_bench("quiet", SEED, camera=camera) as bench:
        calibration = calibrate(bench, 10)
        bench.laser.set_power_mw(min(10.0, electrons / 2))
        exposure_us = electrons / 2 / bench.power_mw
        codes = ternary(60)
        projector = OpticalProjector(bench, calibration, exposure_us=exposure_us)
        _, error = agreement(projector.project(codes), calibration.twin().project(codes))
        assert error == pytest.approx(expected_error(bench, calibration, codes.numpy()), rel=0.1)
        assert projector.last is not None
        assert projector.last.gain == pytest.approx(1, abs=0.05)
        assert projector.last.snr**-0.5 == pytest.approx(error, rel=0.2)


@pytest.mark.parametrize(
    "dtype", [torch.int8, torch.int64, torch.bfloat16, torch.float16, torch.float64]
)
def test_integers_of_any_dtype_are_shown(projector: OpticalProjector, dtype: torch.dtype) -> None:
    projected = projector.project(ternary(3).to(dtype))
    assert torch.isfinite(projected).all()
    assert projected.abs().max() > 0


def test_codes_that_want_a_gradient_are_shown(projector: OpticalProjector) -> None:
    projected = projector.project(ternary(2).float().requires_grad_())
    assert not projected.requires_grad


@pytest.mark.parametrize("largest", [3, 100, 255])
def test_larger_integers_are_shown_in_bit_planes(
    projector: OpticalProjector, realistic_calibration: Calibration, largest: int
) -> None:
    rng = np.random.default_rng(2)
    codes = torch.from_numpy(rng.integers(-largest, largest + 1, (20, 10)))
    projected = projector.project(codes)
    _, error = agreement(projected, realistic_calibration.twin().project(codes))
    assert error < 0.05
    assert projector.last is not None
    assert projector.last.exposures <= 2 * 20 * largest.bit_length()


def test_only_bit_planes_that_are_lit_are_shown(projector: OpticalProjector) -> None:
    codes = torch.zeros((4, 10), dtype=torch.int64)
    codes[0, 3] = 64
    codes[1, 4] = -5
    codes[3, 0] = 1
    projector.project(codes)
    assert projector.last is not None
    assert (projector.last.shown_rows, projector.last.exposures) == (3, 2 * (1 + 2 + 1))


@given(
    hnp.arrays(np.int16, hnp.array_shapes(min_dims=2, max_dims=2), elements=st.integers(-255, 255))
)
def test_bit_planes_add_up_to_the_codes(codes: NDArray[np.int16]) -> None:
    planes = BitPlanes.of(torch.from_numpy(codes), codes.shape[1])
    total = np.zeros(codes.shape)
    signed = planes.bits[:, 0].astype(float) - planes.bits[:, 1]
    np.add.at(total, planes.rows, planes.weights[:, None] * signed)
    np.testing.assert_array_equal(total, codes)
    assert planes.bits.any(axis=(1, 2)).all()  # none is dark
    assert not (planes.bits[:, 0] & planes.bits[:, 1]).any()


def test_rows_of_zeros_take_no_light(
    projector: OpticalProjector, realistic_calibration: Calibration
) -> None:
    codes = ternary(9)
    codes[[0, 4, 8]] = 0
    projected = projector.project(codes)
    assert (projected[[0, 4, 8]] == 0).all()
    _, error = agreement(projected, realistic_calibration.twin().project(codes))
    assert error < 0.06
    assert projector.last is not None
    assert (projector.last.rows, projector.last.shown_rows, projector.last.exposures) == (9, 6, 12)


@pytest.mark.parametrize("rows", [0, 5])
def test_nothing_to_show_is_nothing_shown(
    bench: Bench, projector: OpticalProjector, rows: int
) -> None:
    projected = projector.project(torch.zeros((rows, 10)))
    assert projected.shape == (rows, projector.n_outputs)
    assert (projected == 0).all()
    assert bench.exposures == 0
    assert projector.last is not None
    assert (projector.last.rows, projector.last.exposures) == (rows, 0)
    assert math.isnan(projector.last.snr)


def test_a_batch_of_many_sequences_keeps_its_order(
    bench: Bench, projector: OpticalProjector, realistic_calibration: Calibration
) -> None:
    codes = ternary(600)
    projected = projector.project(codes)
    each = (projected - realistic_calibration.twin().project(codes)).norm(dim=1)
    assert (each / projected.norm(dim=1)).max() < 0.2
    assert projector.last is not None
    assert projector.last.exposures == 1200
    assert projector.last.reference_exposures > 3 * MARKERS
    assert bench.exposures == 1200 + projector.last.reference_exposures


def test_a_modulator_of_little_room_is_filled_again_and_again(
    realistic_calibration: Calibration,
) -> None:
    codes = ternary(20)
    with simulated_bench("realistic", SEED, modulator={"capacity": 11}) as bench:
        projected = OpticalProjector(bench, realistic_calibration).project(codes)
    _, error = agreement(projected, realistic_calibration.twin().project(codes))
    assert error < 0.05


def test_nothing_is_remembered(projector: OpticalProjector) -> None:
    codes = ternary(4)
    first, second = projector.project(codes), projector.project(codes)
    assert not torch.equal(first, second)
    assert agreement(first, second)[0] > 0.99


@pytest.mark.parametrize(
    ("codes", "told"),
    [
        (torch.zeros(10), r"shape \[10\]"),
        (torch.zeros((2, 9)), r"shape \[2, 9\]; .*\[rows, 10\]"),
        (torch.zeros((2, 2, 10)), r"shape \[2, 2, 10\]"),
        (torch.full((1, 10), 0.5), "0.5 among the codes"),
        (torch.full((1, 10), float("nan")), "nan among the codes"),
        (torch.full((1, 10), float("inf")), "magnitude inf"),
        (torch.full((1, 10), 256), "magnitude 256; up to 255"),
        (torch.full((1, 10), -(2**40)), "magnitude 1.09951e"),
        (torch.zeros((1, 10), dtype=torch.complex64), "complex64"),
    ],
)
def test_what_is_no_code_is_refused_in_the_dark(
    bench: Bench, projector: OpticalProjector, codes: Tensor, told: str
) -> None:
    with pytest.raises(CodesError, match=told):
        projector.project(codes)
    assert bench.exposures == 0


def test_exposure_and_power_may_differ_from_the_calibration(
    bench: Bench, realistic_calibration: Calibration
) -> None:
    codes = ternary(40)
    bench.laser.set_power_mw(5.0)
    projector = OpticalProjector(bench, realistic_calibration, exposure_us=120.0)
    _, error = agreement(projector.project(codes), realistic_calibration.twin().project(codes))
    assert error < 0.05
    assert projector.last is not None
    assert projector.last.gain == pytest.approx(1, abs=0.05)


def test_a_phase_that_walks_is_followed(realistic_calibration: Calibration) -> None:
    twin = realistic_calibration.twin()
    with simulated_bench("realistic", SEED, phase_walk_rad=0.02) as bench:
        projector = OpticalProjector(bench, realistic_calibration, reference_interval=16)
        for call in range(6):
            codes = ternary(120, seed=call)
            correlation, _ = agreement(projector.project(codes), twin.project(codes))
            assert correlation > 0.997
        walked = bench.camera._scene.truth.phases
    assert np.ptp(walked) > 0.3  # untracked, that would be the end of it


def test_untracked_a_walk_is_the_end_of_it(realistic_calibration: Calibration) -> None:
    correlations = []
    with simulated_bench("realistic", SEED, phase_walk_rad=0.1) as bench:
        projector = OpticalProjector(bench, realistic_calibration, track_drift=False)
        for call in range(8):
            codes = ternary(30, seed=call)
            predicted = realistic_calibration.twin().project(codes)
            correlations.append(agreement(projector.project(codes), predicted)[0])
    assert correlations[0] > 0.8
    assert min(correlations) < 0.5


def test_more_references_follow_a_walk_better(realistic_calibration: Calibration) -> None:
    codes = ternary(200)
    errors = []
    for interval in (0, 8):
        with simulated_bench("realistic", SEED, phase_walk_rad=0.02) as bench:
            projector = OpticalProjector(bench, realistic_calibration, reference_interval=interval)
            projected = projector.project(codes)
            assert projector.last is not None
            expected = MARKERS + (len(range(8, 400, 8)) if interval else 0)
            assert projector.last.reference_exposures == expected
        errors.append(agreement(projected, realistic_calibration.twin().project(codes))[1])
    assert errors[1] < 0.7 * errors[0]


def test_a_phase_that_cannot_be_followed_raises(realistic_calibration: Calibration) -> None:
    with pytest.raises(DriftError, match="reference every"):
        project_on(realistic_calibration, ternary(200), phase_walk_rad=0.5)


def test_references_become_as_rare_as_the_phase_allows(
    realistic_calibration: Calibration,
) -> None:
    shares = {}
    for walk in (0.002, 0.02):
        with simulated_bench("realistic", SEED, phase_walk_rad=walk) as bench:
            projector = OpticalProjector(bench, realistic_calibration)
            for call in range(8):
                codes = ternary(200, seed=call)
                outputs = projector.project(codes)
            predicted = realistic_calibration.twin().project(codes)
            assert agreement(outputs, predicted)[0] > 0.9985
            assert projector.last is not None
            shares[walk] = projector.last.reference_exposures / projector.last.exposures
    assert shares[0.002] < 0.02
    assert 0.04 < shares[0.02] < 0.12


def test_a_carrier_that_drifts_is_followed(realistic_calibration: Calibration) -> None:
    """By 4e-4 cycles/pixel in all, a third of a radian at the frame's border."""
    codes = ternary(100)
    predicted = realistic_calibration.twin().project(codes)
    drifting = [(30 * k, 4e-5, -2e-5) for k in range(1, 11)]
    followed, missed = [], []
    with simulated_bench("realistic", SEED, faults={"carrier_jumps": drifting}) as bench:
        projector = OpticalProjector(bench, realistic_calibration)
        for _ in range(3):
            followed.append(agreement(projector.project(codes), predicted)[0])
        assert projector.last is not None
        assert projector.last.carrier_drift == pytest.approx(math.hypot(4e-4, 2e-4), rel=0.15)
    with simulated_bench("realistic", SEED, faults={"carrier_jumps": drifting}) as bench:
        projector = OpticalProjector(bench, realistic_calibration, track_drift=False)
        for _ in range(3):
            missed.append(agreement(projector.project(codes), predicted)[0])
    assert min(followed) > 0.998
    assert missed[-1] < 0.995


@pytest.mark.parametrize("frames", [0, 30_000])
def test_the_fidelity_told_is_that_of_the_projections(
    realistic_calibration: Calibration, frames: int
) -> None:
    """Of the light: the correlation without the camera's noise, which the record tells, too."""
    codes = ternary(200)
    with simulated_bench("realistic", SEED, decorrelation=1e-6) as bench:
        scene = bench.camera._scene
        scene.wait(frames / scene.settings.drift_rate_hz)
        projector = OpticalProjector(bench, realistic_calibration, min_fidelity=0.9)
        outputs = projector.project(codes)
        correlation, _ = agreement(outputs, realistic_calibration.twin().project(codes))
        assert projector.last is not None
        fidelity, snr = projector.last.map_fidelity, projector.last.snr
        assert correlation == pytest.approx(math.sqrt(fidelity / (1 + 1 / snr)), abs=0.002)
        assert projector.totals()["map_fidelity"] <= fidelity
        assert fidelity == pytest.approx(1 - 1e-6 * frames, abs=0.005)


@pytest.mark.parametrize(
    ("lit", "told"),
    [(0, r"fidelity of 0\.0000 to the calibrated map"), (5, "to the calibrated map")],
)
def test_codes_whose_light_is_lost_are_noticed(
    bench: Bench, projector: OpticalProjector, monkeypatch: pytest.MonkeyPatch, lit: int, told: str
) -> None:
    """By a modulator that shows references as it should, but no more than some inputs of codes."""
    render = Layout.render

    def losing(layout: Layout, bits: NDArray[np.uint8]) -> NDArray[np.uint8]:
        if layout.n_inputs > 1:  # the reference has one
            bits = bits * (np.arange(layout.n_inputs) < lit).astype(np.uint8)
        return render(layout, bits)

    monkeypatch.setattr(Layout, "render", losing)
    with pytest.raises(DecorrelationError, match=told):
        projector.project(ternary(20))
    assert bench.exposures > 40  # it was shown


@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_an_amplitude_that_is_not_the_maps_is_noticed(
    bench: Bench, realistic_calibration: Calibration, factor: float
) -> None:
    """The fidelity is blind to it."""
    other = replace(realistic_calibration, T=np.float32(1 / factor) * realistic_calibration.T)
    with pytest.raises(DecorrelationError, match=rf"have {factor:.1g}.* of the amplitude"):
        OpticalProjector(bench, other).project(ternary(20))
    OpticalProjector(bench, other, track_drift=False).project(ternary(20))  # for comparisons


def test_what_is_too_dim_to_tell_is_not_refused(realistic_calibration: Calibration) -> None:
    """Few modes of one input, with less light than noise: no verdict, but the noise is told."""
    check = MapCheck(realistic_calibration)
    planes = BitPlanes.of(torch.eye(1, 10), 10)
    noise = 100 * float(np.mean(np.abs(check.predicted(planes)) ** 2))
    told = check.judge(planes, np.zeros((1, len(check.modes)), np.complex64), noise)
    assert not told.told


def renew(bench: Bench) -> Calibration:
    from calibration.pipeline import calibrate

    return calibrate(bench, 10, repeats=4)


def test_where_allowed_a_stale_bench_is_calibrated_again(
    realistic_calibration: Calibration,
) -> None:
    codes = ternary(60)
    predicted = realistic_calibration.twin().project(codes)
    faults = {"carrier_jumps": [(0, 3e-4, 0.0)]}
    with simulated_bench("realistic", SEED, decorrelation=1e-6, faults=faults) as bench:
        bench.camera._scene.wait(40.0)  # 4 % of the power
        projector = OpticalProjector(
            bench, realistic_calibration, min_fidelity=0.98, recalibrate=renew
        )
        outputs = projector.project(codes)
        assert projector.fingerprint() != realistic_calibration.fingerprint()
        assert projector.fingerprint() == projector.calibration.fingerprint()
        # It is the map of the new calibration,
        now = projector.calibration.twin().project(codes)
        assert agreement(outputs, now)[0] > 0.995
        # which is the old one but for what the medium has lost, in its phase and at its carrier.
        assert 0.95 < agreement(outputs, predicted)[0] < 0.99
        assert projector.last is not None
        assert projector.last.calibration_exposures > 100
        totals = projector.totals()
        counted = ("exposures", "reference_exposures", "calibration_exposures")
        assert sum(totals[key] for key in counted) == bench.exposures
        # A call later there is nothing to be done.
        projector.project(codes)
        assert projector.last.calibration_exposures == 0


def test_a_recalibration_that_does_not_help_raises(
    bench: Bench, realistic_calibration: Calibration
) -> None:
    stale = replace(realistic_calibration, T=realistic_calibration.T[:, ::-1].copy())
    calls = []

    def in_vain(bench: Bench) -> Calibration:
        calls.append(bench)
        return stale

    projector = OpticalProjector(bench, stale, recalibrate=in_vain)
    with pytest.raises(DecorrelationError, match="projections have a fidelity") as told:
        projector.project(ternary(20))
    assert len(calls) == 1
    assert "calibrated anew just before" in told.value.__notes__[0]


def test_a_recalibration_of_another_size_is_refused(
    bench: Bench, realistic_calibration: Calibration
) -> None:
    stale = replace(realistic_calibration, T=realistic_calibration.T[:, ::-1].copy())
    other = replace(stale, decimation=2)
    projector = OpticalProjector(bench, stale, recalibrate=lambda _: other)
    with pytest.raises(StaleCalibrationError, match="10 inputs and 4096 modes"):
        projector.project(ternary(20))


def test_saturation_raises(bench: Bench, realistic_calibration: Calibration) -> None:
    projector = OpticalProjector(bench, realistic_calibration, exposure_us=220.0)
    with pytest.raises(SaturationError, match="at full scale"):
        projector.project(ternary(10))
    assert projector.last is None
    assert not bench.laser.emitting


def test_a_dropped_trigger_raises(realistic_calibration: Calibration) -> None:
    with pytest.raises(FrameMismatchError):
        project_on(realistic_calibration, ternary(20), faults={"dropped_triggers": [7]})


def test_an_open_interlock_raises(realistic_calibration: Calibration) -> None:
    with pytest.raises(LaserSafetyError):
        project_on(realistic_calibration, ternary(20), faults={"interlock_opens_at": 0})


def test_another_bench_is_refused(realistic_calibration: Calibration) -> None:
    with (
        simulated_bench("realistic", SEED + 1) as bench,
        pytest.raises(StaleCalibrationError, match="it was"),
    ):
        OpticalProjector(bench, realistic_calibration)


def test_an_expired_calibration_is_refused(
    bench: Bench, realistic_calibration: Calibration
) -> None:
    old = replace(realistic_calibration, expires_at="2001-01-01T00:00:00+00:00")
    with pytest.raises(StaleCalibrationError, match="expired"):
        OpticalProjector(bench, old)


def test_a_calibration_that_expires_while_it_is_used(
    bench: Bench, realistic_calibration: Calibration, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Tomorrow(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Tomorrow:
            return cls.fromisoformat(realistic_calibration.expires_at) + timedelta(seconds=1)

    new = replace(realistic_calibration, expires_at="2999-01-01T00:00:00+00:00")
    projector = OpticalProjector(bench, realistic_calibration)
    renewed = OpticalProjector(bench, realistic_calibration, recalibrate=lambda _: new)
    monkeypatch.setattr("calibration.projector.datetime", Tomorrow)
    with pytest.raises(StaleCalibrationError, match="expired at"):
        projector.project(ternary(2))
    assert bench.exposures == 0
    renewed.project(ternary(2))
    assert renewed.calibration.expires_at == new.expires_at


def test_a_carrier_that_has_jumped_is_noticed(realistic_calibration: Calibration) -> None:
    with pytest.raises(StaleCalibrationError, match="calibrate again"):
        project_on(realistic_calibration, ternary(10), faults={"carrier_jumps": [(0, 0.05, 0.0)]})


def test_a_medium_that_has_changed_is_noticed(realistic_calibration: Calibration) -> None:
    with simulated_bench("realistic", SEED, decorrelation=1e-3) as bench:
        projector = OpticalProjector(bench, realistic_calibration, min_fidelity=0.99)
        bench.expose(np.repeat(bench.layout(1).all_on(), 10, axis=0))
        with pytest.raises(StaleCalibrationError, match=r"fidelity of 0\.9.*calibrate again"):
            projector.project(ternary(5))


@pytest.mark.parametrize(
    "wrong",
    [{"reference_interval": -1}, {"max_saturated_fraction": 1.5}, {"min_fidelity": -0.1}],
)
def test_wrong_numbers_are_refused(
    bench: Bench, realistic_calibration: Calibration, wrong: dict[str, Any]
) -> None:
    with pytest.raises(SettingError, match=next(iter(wrong))):
        OpticalProjector(bench, realistic_calibration, **wrong)


def test_the_account_adds_up(bench: Bench, projector: OpticalProjector) -> None:
    assert math.isnan(projector.totals()["snr"])
    projector.project(ternary(10))
    projector.project(torch.zeros((3, 10)))
    projector.project(ternary(30))
    totals = projector.totals()
    assert totals["rows"] == 43
    assert totals["shown_rows"] == 40
    assert totals["exposures"] == 80
    assert totals["exposures"] + totals["reference_exposures"] == bench.exposures
    assert totals["snr"] > 100
    assert 0 < totals["phase_drift_rad"] < 0.5
    assert 0.99 < totals["fidelity"] <= 1.01


def test_projector_and_twin_are_the_same_matrix(
    projector: OpticalProjector, realistic_calibration: Calibration
) -> None:
    assert projector.fingerprint() == realistic_calibration.twin().fingerprint()
    assert projector.n_outputs == realistic_calibration.twin().n_outputs


def test_another_size_is_another_matrix(
    realistic_calibration: Calibration, calibration_of: Callable[[str, int], Calibration]
) -> None:
    other = calibration_of("quiet", 10)
    assert other.fingerprint() != realistic_calibration.fingerprint()


def test_the_smallest_capacity_holds_a_reference_before_every_exposure() -> None:
    from calibration.pipeline import calibrate

    modulator = {"capacity": MARKERS + 4}
    with simulated_bench("quiet", SEED, modulator=modulator) as bench:
        calibration = calibrate(bench, 4)
        projector = OpticalProjector(bench, calibration, reference_interval=1)
        codes = ternary(5, n_inputs=4)
        correlation, _ = agreement(projector.project(codes), calibration.twin().project(codes))
        assert correlation > 0.999
        assert projector.last is not None
        assert projector.last.exposures == 2 * 5
