"""A reference that the modulator steps, on the simulated bench: fields, a matrix, refusals."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from calibration.phase_stepping import FOUR_STEPS, TWO_STEPS, SteppedDemodulator, measure_steps
from calibration.quality import correlation
from calibration.stepped_matrix import stepped_matrix
from calibration.stepped_reference import SteppedReference, stepped_fields
from opu_driver import simulated_bench
from opu_driver.bench import Bench
from opu_driver.errors import PatternError, SaturationError, SettingError

ROWS = 8
RADIUS = 0.24
SHAPES = {"virtual-dmd": (72, 64), "virtual-slm": (72, 64)}
KINDS = list(SHAPES)


def on_axis(kind: str = "virtual-dmd", preset: str = "quiet", **scene: object) -> Bench:
    return simulated_bench(
        preset,
        seed=5,
        modulator={"driver": kind, "shape": SHAPES[kind]},
        camera={"sensor_shape": (64, 64)},
        carrier=(0.0, 0.0),
        speckle_radius=RADIUS,
        reference_rows=ROWS,
        **scene,
    )


def bits_of(n: int, n_inputs: int):
    return np.random.default_rng(0).integers(0, 2, (n, n_inputs), np.uint8)


def true_fields(bench: Bench, reference: SteppedReference, signal):
    truth = bench.camera._scene.truth
    return truth.holograms(reference.dark(signal))


@pytest.mark.parametrize("kind", KINDS)
def test_stepped_fields_are_those_of_the_light(kind):
    with on_axis(kind, "ideal", reference_ratio=4.0) as bench:
        reference = SteppedReference.on(bench, ROWS)
        signal = reference.layout(16).render(bits_of(6, 16))
        demodulate = SteppedDemodulator((64, 64), reference.turns)
        (fields,) = stepped_fields(bench, reference, demodulate, [signal])
        true = true_fields(bench, reference, signal).reshape(6, -1)
    factor = np.vdot(true, fields) / np.vdot(true, true)
    assert np.linalg.norm(fields - factor * true) < 1e-3 * np.linalg.norm(fields)


def test_two_steps_are_the_real_part_of_four():
    with on_axis(preset="ideal") as bench:
        found = []
        for turns in (FOUR_STEPS, TWO_STEPS):
            reference = SteppedReference.on(bench, ROWS, turns=turns)
            signal = reference.layout(16).render(bits_of(5, 16))
            demodulate = SteppedDemodulator((64, 64), turns)
            found += stepped_fields(bench, reference, demodulate, [signal])
    assert found[1] == pytest.approx(found[0].real, abs=float(1e-3 * np.abs(found[0]).max()))


def test_the_steps_of_a_grating_are_measured_as_they_are_shown():
    with on_axis() as bench:
        shown = (0.0, 0.25, 0.5, 0.625)
        reference = SteppedReference.on(bench, ROWS, turns=shown)
        frames = bench.expose(reference.patterns(reference.layout(64).render(bits_of(48, 64))))
        found = measure_steps(frames, black_level=bench.camera.black_level)
    assert found.turns == pytest.approx(shown, abs=max(4 * found.uncertainty_turns, 2e-3))
    assert found.uncertainty_turns < 4e-3


def test_a_matrix_without_a_tilt_although_the_phase_walks():
    """T at a mode a grain is that of the light, and says itself how well."""
    n = 32
    with on_axis(phase_walk_rad=0.01) as bench:
        reference = SteppedReference.on(bench, ROWS)
        layout = reference.layout(n)
        some = reference.patterns(layout.render(bits_of(4, n)))
        bench.fit_exposure(np.concatenate([some, bench.layout(1).all_on()]))
        demodulate = SteppedDemodulator((64, 64), reference.turns, radius=RADIUS)
        found = stepped_matrix(bench, reference, demodulate, n, repeats=4)
        scene = bench.camera._scene
        truth = scene.truth
        eye = layout.render(np.eye(n, dtype=np.uint8))
        off = truth.fields(reference.dark(layout.all_off()))
        single = truth.fields(reference.dark(eye)) - off
        response = truth.response() * np.conj(truth.reference())
        true = (response * single)[:, ::2, ::2][:, 4:-4, 4:-4].reshape(n, -1).T
    assert demodulate.n_modes == 32 * 32
    T = found.T.reshape(32, 32, n)[4:-4, 4:-4].reshape(-1, n)
    reached = abs(correlation(T, true))
    assert reached > 0.995
    assert found.split_half == pytest.approx(reached, abs=3e-3)


def test_a_saturated_step_is_refused():
    with on_axis() as bench:
        reference = SteppedReference.on(bench, ROWS)
        bench.configure(replace(bench.settings, exposure_us=400.0))
        signal = reference.layout(4).render(bits_of(2, 4))
        with pytest.raises(SaturationError):
            list(stepped_fields(bench, reference, SteppedDemodulator((64, 64)), [signal]))


def test_demodulator_and_reference_have_as_many_steps():
    with on_axis() as bench:
        reference = SteppedReference.on(bench, ROWS, turns=TWO_STEPS)
        with pytest.raises(SettingError, match="as many"):
            list(stepped_fields(bench, reference, SteppedDemodulator((64, 64)), []))
        demodulate = SteppedDemodulator((64, 64), TWO_STEPS)
        with pytest.raises(SettingError, match="repeats"):
            stepped_matrix(bench, reference, demodulate, 4, repeats=0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rows": 0}, "rows"),
        ({"rows": 64}, "rows"),
        ({"turns": (0.0, 0.3, 0.6)}, "0.3 turns"),
        ({"period": 7}, "even"),
    ],
)
def test_a_reference_that_cannot_be_shown_is_refused(changes, message):
    with pytest.raises(SettingError, match=message):
        SteppedReference(**({"shape": (64, 64), "levels": 2, "rows": 8} | changes))


def test_patterns_of_the_whole_modulator_are_refused():
    reference = SteppedReference((64, 64), 2, 8)
    with pytest.raises(PatternError, match="56"):
        reference.patterns(np.zeros((1, 64, 8), np.uint8))


def test_a_grating_is_half_lit_and_moves_by_its_phase():
    reference = SteppedReference((16, 64), 2, 4)
    shown = np.unpackbits(reference.patterns(np.zeros((1, 12, 8), np.uint8)), axis=2)[:, 12:]
    assert shown.mean() == 0.5
    for k in range(4):
        assert (shown[k] == np.roll(shown[0], 2 * k, axis=1)).all()
