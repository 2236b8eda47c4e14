"""Phase, gain and tilt between frames of one pattern."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from calibration.carrier import find_carrier
from calibration.demodulation import Demodulator
from calibration.movement import Reference
from opu_driver import simulated_bench

GRID, DECIMATION = (24, 32), 4


def gaussian(seed: int, *shape: int) -> NDArray[np.complex64]:
    rng = np.random.default_rng(seed)
    values = rng.standard_normal(shape) + 1j * rng.standard_normal(shape)
    return (values / np.sqrt(2)).astype(np.complex64)


@pytest.fixture
def reference() -> Reference:
    return Reference(gaussian(0, 24 * 32), GRID, DECIMATION, 1 / DECIMATION**2)


@given(
    row=st.floats(-0.02, 0.02),
    column=st.floats(-0.02, 0.02),
    gain=st.floats(0.2, 5),
    phase=st.floats(-3, 3),
)
def test_a_tilted_field_is_told_exactly(
    row: float, column: float, gain: float, phase: float
) -> None:
    field = gaussian(0, 24 * 32)
    reference = Reference(field, GRID, DECIMATION, 1 / DECIMATION**2)
    factors = gain * np.exp(1j * (phase + np.array([0.0, 0.4])))
    moved = reference.movement(
        (factors[:, None] * reference.ramp(row, column) * field).astype(np.complex64)
    )
    assert (moved.row, moved.column) == pytest.approx((row, column), abs=1e-7)
    np.testing.assert_allclose(moved.gains, factors, rtol=1e-4)


def test_the_ramp_is_counted_from_the_middle(reference: Reference) -> None:
    ramp = reference.ramp(0.001, -0.002).reshape(GRID)
    np.testing.assert_allclose(ramp, ramp[::-1, ::-1].conj(), atol=1e-6)
    assert np.angle(ramp[1, 0] / ramp[0, 0]) == pytest.approx(
        2 * np.pi * 0.001 * DECIMATION, rel=1e-4
    )


def test_the_deviations_are_true(reference: Reference) -> None:
    """Errors over stated deviations have an rms of about 1."""
    pulls = []
    for seed in range(1, 201):
        noisy = reference.field + 0.5 * gaussian(seed, 1, 24 * 32)
        moved = reference.movement(noisy.astype(np.complex64))
        pulls.append(
            [
                moved.row / moved.row_sigma,
                moved.column / moved.column_sigma,
                np.angle(moved.gains[0]) / moved.phase_sigma,
            ]
        )
    rms = np.sqrt(np.mean(np.square(pulls), axis=0))
    assert np.all((rms > 0.85) & (rms < 1.15))  # each scatters by 5 %


def test_what_has_nothing_in_common_has_no_tilt_but_a_large_deviation(
    reference: Reference,
) -> None:
    moved = reference.movement(gaussian(7, 3, 24 * 32))
    assert np.isfinite([moved.row, moved.column]).all()
    assert np.abs(moved.gains).max() < 0.2
    assert moved.phase_sigma > 0.1


@pytest.fixture
def frames_of_a_drifting_bench() -> Iterator[tuple[NDArray[np.uint8], NDArray[np.float64]]]:
    """1024 x 1024 pixels, one pattern, the carrier 1e-6 further in each frame."""
    step = (1e-6, -5e-7)
    first = 24
    jumps = [(first + k, *step) for k in range(1, 8)]
    with simulated_bench(
        "realistic",
        1,
        camera={"sensor_shape": (1024, 1024)},
        faults={"carrier_jumps": jumps},
        decorrelation=0.0,
    ) as bench:
        pattern = bench.layout(16).render(np.ones((1, 16), np.uint8))
        bench.fit_exposure(pattern)
        while bench.camera._scene.exposures < first - 4:
            bench.expose(pattern)
        before = bench.camera._scene.exposures + 1
        frames = bench.expose(np.repeat(pattern, first + 7 - before, axis=0))
        at = np.arange(before, before + len(frames))
        tilts = np.outer(np.maximum(at - first, 0), step)
        phases = bench.camera._scene.truth.phases[before : before + len(frames)]
        yield frames, np.column_stack([tilts, phases])


def test_drift_between_two_frames_of_a_megapixel(
    frames_of_a_drifting_bench: tuple[NDArray[np.uint8], NDArray[np.float64]],
) -> None:
    frames, truth = frames_of_a_drifting_bench
    found = find_carrier(frames[:1], saturation_level=None)
    demodulate = Demodulator((1024, 1024), found)
    fields = demodulate(frames).reshape(len(frames), -1)
    reference = Reference(
        fields[0], demodulate.grid_shape, demodulate.decimation, demodulate.noise_gain
    )
    middle = demodulate.decimation * (np.array(demodulate.grid_shape) - 1) / 2
    for field, now in zip(fields[1:], truth[1:], strict=True):
        moved = reference.movement(field[None])
        tilt = (now - truth[0])[:2]
        assert np.abs([moved.row - tilt[0], moved.column - tilt[1]]).max() < 2e-7
        phase = now[2] - truth[0, 2] + 2 * np.pi * float(tilt @ middle)
        assert abs(np.angle(moved.gains[0] * np.exp(-1j * phase))) < 1e-3
