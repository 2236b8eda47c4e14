"""Two calibrations: what is the moment's is taken out, what has changed is told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calibration import comparison, figures
from calibration.calibration_file import Calibration
from calibration.comparison import compare, hours_between
from calibration.demodulation_path import DemodulationPath
from calibration.errors import IncomparableError
from calibration.pipeline import calibrate
from calibration.wiener import Levels
from opu_driver import simulated_bench
from opu_driver.camera import Region
from opu_driver.device import Identity
from opu_driver.layout import Layout

Changed = Callable[..., Calibration]


@pytest.fixture
def earlier(realistic_calibration: Calibration) -> Calibration:
    return realistic_calibration


def another_matrix(made: Calibration, seed: int = 0) -> Any:
    rng = np.random.default_rng(seed)
    values = rng.standard_normal(made.T.shape) + 1j * rng.standard_normal(made.T.shape)
    rms = float(np.sqrt(np.mean(np.abs(made.T) ** 2) / 2))
    return (rms * values).astype(np.complex64)


def tilt(made: Calibration, row: float, column: float) -> Any:
    rows, columns = made.demodulator().grid_shape
    i, j = (made.decimation * (np.arange(n) - (n - 1) / 2) for n in (rows, columns))
    return np.exp(2j * np.pi * (row * i[:, None] + column * j)).reshape(-1, 1)


def test_a_calibration_is_itself(earlier: Calibration) -> None:
    found = compare(earlier, earlier)
    assert found.fidelity == pytest.approx(1.0, abs=1e-6)
    assert found.gain == pytest.approx(1.0, abs=1e-6)
    assert found.phase_rad == pytest.approx(0.0, abs=1e-6)
    assert np.abs(found.mode_correlations - 1).max() < 1e-5
    assert found.changes == ()
    assert hours_between(earlier, earlier) == 0.0


def test_calibration_and_comparison_show_themselves(earlier: Calibration) -> None:
    for card, told in (
        (earlier._repr_html_(), f"{earlier.n_inputs} inputs to"),
        (compare(earlier, earlier)._repr_html_(), "it is the same bench"),
    ):
        assert card.startswith("<div")
        assert card.count("<tr>") == card.count("</tr>") >= 3
        assert card.count("data:image/png;base64,") == 1
        assert told in card


@given(st.floats(-3.1, 3.1), st.floats(0.3, 3.0), st.floats(-2e-3, 2e-3), st.floats(-2e-3, 2e-3))
def test_phase_gain_and_tilt_are_found_and_taken_out(
    realistic_calibration: Calibration, phase: float, gain: float, row: float, column: float
) -> None:
    earlier = realistic_calibration
    turned = gain * np.exp(1j * phase) * tilt(earlier, row, column) * earlier.T
    found = compare(earlier, replace(earlier, T=turned.astype(np.complex64)))
    assert found.fidelity == pytest.approx(1.0, abs=1e-4)
    assert found.gain == pytest.approx(gain, rel=1e-4)
    assert found.phase_rad == pytest.approx(phase, abs=1e-3)
    assert found.carrier_shift == pytest.approx((row, column), abs=1e-6)


def test_a_carrier_taken_elsewhere_is_no_shift(earlier: Calibration) -> None:
    taken = replace(earlier.carrier, row=earlier.carrier.row + 1e-3)
    tilted = (tilt(earlier, -1e-3, 0.0) * earlier.T).astype(np.complex64)
    found = compare(earlier, replace(earlier, carrier=taken, T=tilted))
    assert found.carrier_shift == pytest.approx((0.0, 0.0), abs=1e-6)
    assert found.fidelity == pytest.approx(1.0, abs=1e-5)
    assert found.changes == ()


@pytest.mark.parametrize("kept", [0.95, 0.7, 0.3])
def test_a_medium_that_has_changed_is_told(earlier: Calibration, kept: float) -> None:
    mixed = np.sqrt(kept) * earlier.T + np.sqrt(1 - kept) * another_matrix(earlier)
    found = compare(earlier, replace(earlier, T=mixed.astype(np.complex64)))
    assert found.fidelity == pytest.approx(kept, abs=0.03)
    word = "has changed" if kept > 0.5 else "another matrix"
    assert word in found.changes[0]


def test_noise_is_not_taken_for_a_change(earlier: Calibration) -> None:
    noise = 0.3
    quality = replace(earlier.quality, matrix_noise=noise)
    noisy = earlier.T + noise * another_matrix(earlier)
    found = compare(earlier, replace(earlier, T=noisy.astype(np.complex64), quality=quality))
    assert found.fidelity == pytest.approx(1 / (1 + noise**2), abs=0.01)
    assert found.noiseless_fidelity == pytest.approx(1.0, abs=0.01)
    assert not any("medium" in change for change in found.changes)


def test_a_part_of_the_camera_that_moved_is_seen(earlier: Calibration) -> None:
    T = earlier.T.copy()
    rows, columns = earlier.demodulator().grid_shape
    part = np.zeros((rows, columns), bool)
    part[:8] = True
    T[part.ravel()] = another_matrix(earlier)[part.ravel()]
    correlations = compare(earlier, replace(earlier, T=T)).mode_correlations
    assert np.median(correlations[part]) < 0.6
    assert correlations[~part].min() > 0.999


def test_what_else_changed_is_told(earlier: Calibration) -> None:
    later = replace(
        earlier,
        identities=earlier.identities | {"camera": Identity("Acme", "Eye", "7")},
        settings=replace(earlier.settings, exposure_us=1.0, gain_db=6.0),
        power_mw=3.0,
        software="9.9",
        carrier=replace(earlier.carrier, radius=0.1, radius_sigma=1e-6),
        quality=replace(earlier.quality, snr=1.0, visibility=0.01),
    )
    told = " ".join(compare(earlier, later).changes)
    for words in (
        "Another camera: Acme Eye #7",
        "gain_db is 6.0",
        "exposure is 1 µs",
        "laser power is 3 mW",
        "opu 9.9",
        "5.00 pixels",
        "signal to noise of an exposure is 1",
        "fringe visibility is 0.01",
    ):
        assert words in told


def test_another_path_of_demodulation_is_told(earlier: Calibration) -> None:
    taken = DemodulationPath("separable", 9, Levels(4.0, 0.01))
    there, back = replace(earlier, path=DemodulationPath()), replace(earlier, path=taken)
    told = " ".join(compare(there, back).changes)
    assert "come by the separable path, 19 x 19 pixels, they came by the reference path" in told
    assert "path" not in " ".join(compare(there, there).changes)


def test_calibrations_of_schema_1_have_no_noiseless_fidelity(earlier: Calibration) -> None:
    old = replace(earlier, quality=replace(earlier.quality, matrix_noise=float("nan")))
    found = compare(old, earlier)
    assert np.isnan(found.noiseless_fidelity)
    assert found.changes == ()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda made: {"layout": Layout.fit(11, made.layout.shape)}, "number of inputs is 10"),
        (lambda made: {"settings": replace(made.settings, region=Region(0, 0, 64, 64))}, "region"),
        (lambda made: {"decimation": 2}, "decimation is 4"),
    ],
)
def test_other_matrices_are_refused_by_name(
    earlier: Calibration, change: Callable[[Calibration], dict[str, Any]], told: str
) -> None:
    with pytest.raises(IncomparableError, match=told):
        compare(earlier, replace(earlier, **change(earlier)))


def test_a_bench_that_drifted_is_recognised(
    earlier: Calibration, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comparison, "_BLOCK_MODES", 300)
    scene = {"decorrelation": 1e-6, "carrier": (0.2720, 0.2660)}
    with simulated_bench("realistic", 1, **scene) as bench:
        bench.camera._scene.wait(50.0)
        later = calibrate(bench, 10)
    found = compare(earlier, later)
    assert found.noiseless_fidelity == pytest.approx(np.exp(-0.05), abs=0.02)
    assert found.carrier_shift == pytest.approx((0.0007, -0.0004), abs=3e-5)
    assert any("carrier has moved" in change for change in found.changes)


def test_its_pictures(earlier: Calibration) -> None:
    mixed = (earlier.T + another_matrix(earlier)).astype(np.complex64)
    for T in (earlier.T, mixed):
        found = compare(earlier, replace(earlier, T=T))
        figure = figures.comparison_figure(found, earlier.decimation)
        figure.draw_without_rendering()
        assert f"Median {np.median(found.mode_correlations):.4f}" in {
            axes.get_title(loc="left") for axes in figure.axes
        }
    spectra = figures.two_spectra_figure(earlier.quality, earlier.quality)
    assert len(spectra.axes[0].lines) == 3
