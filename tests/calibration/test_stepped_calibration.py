"""The calibration of a bench without a tilt: what it refuses, and what comes back from its file."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

from calibration import stepped_matrix as matrix_module
from calibration.calibration_file import Calibration
from calibration.errors import (
    CalibrationFileError,
    LowVisibilityError,
    NoiseError,
    QualityError,
    StaleCalibrationError,
)
from calibration.phase_stepping import SteppedDemodulator
from calibration.stepped_calibration import FORMAT, SteppedCalibration, calibrate_stepped
from calibration.stepped_matrix import SteppedMatrix, stepped_matrix
from calibration.stepped_reference import SteppedReference
from opu_driver import simulated_bench
from opu_driver.bench import Bench
from opu_driver.errors import SettingError

N, ROWS, RADIUS, SENSOR = 12, 8, 0.24, (48, 48)


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


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> tuple[SteppedCalibration, Path]:
    with on_axis() as bench:
        made = calibrate_stepped(bench, N, reference_rows=ROWS, repeats=4)
    return made, made.save(tmp_path_factory.mktemp("stepped") / "on-axis.h5")


def test_what_is_saved_projects_on_the_same_bench(measured: Any) -> None:
    made, path = measured
    loaded = SteppedCalibration.load(path)
    assert made.radius == pytest.approx(RADIUS, rel=0.08)
    assert made.matrix.visibility > 0.3
    assert made.matrix.held_out_error < 1.3 * made.matrix.held_out_noise
    codes = torch.from_numpy(np.random.default_rng(0).integers(-1, 2, (8, N)))
    with on_axis() as bench:
        projector = loaded.projector(bench)
        found = projector.project(codes).numpy()
        assert projector.fingerprint() == made.projector(bench).fingerprint()
    expected = codes.numpy() @ made.matrix.outputs().T
    assert np.linalg.norm(found - expected) < 0.1 * np.linalg.norm(expected)
    np.testing.assert_array_equal(loaded.matrix.T, made.matrix.T)
    assert (loaded.turns, loaded.made_at) == (made.turns, made.made_at)


def test_another_bench_is_refused_by_name(measured: Any) -> None:
    made, _ = measured
    with on_axis() as bench:
        bench.configure(replace(bench.settings, gain_db=3.0))
        old = replace(made, expires_at="2024-01-01T00:00:00+00:00")
        with pytest.raises(StaleCalibrationError, match=r"gain_db is 3\.0.*it expired at 2024"):
            old.projector(bench)


def test_neither_kind_of_file_is_taken_for_the_other(measured: Any) -> None:
    _, path = measured
    with pytest.raises(CalibrationFileError, match="is no calibration"):
        Calibration.load(path)
    assert FORMAT.recognises(path)


@pytest.mark.parametrize(
    ("place", "value", "told"),
    [
        (("setup", "reference", "rows"), 500, "rows of a modulator"),
        (("setup", "radius"), -1.0, "radius = -1"),
        (("setup", "turns"), [0.0, 0.5], "turns"),
        (("setup", "n_inputs"), 7, "T is complex64"),
        (("setup", "power_mw"), 0.0, "power_mw"),
        (("quality", "split_half"), 2.0, "split_half"),
        (("expires_at",), "soon", "soon"),
    ],
)
def test_impossible_values_are_refused_by_name(
    measured: Any, tmp_path: Path, place: tuple[str, ...], value: Any, told: str
) -> None:
    path = tmp_path / "c.h5"
    path.write_bytes(measured[1].read_bytes())
    with pytest.raises(CalibrationFileError, match="damaged"):
        damaged = tmp_path / "d.h5"
        damaged.write_bytes(path.read_bytes()[:-9])
        SteppedCalibration.load(damaged)
    with h5py.File(path) as file:
        content = json.loads(file.attrs["header"])
        arrays = {name: file[name][...] for name in ("T", "pair_sum")}
    inner = content
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value

    def fill(file: h5py.File) -> None:
        file.attrs["header"] = json.dumps(content)
        for name, values in arrays.items():
            file[name] = values

    with pytest.raises(CalibrationFileError, match=told):
        SteppedCalibration.load(FORMAT.save(tmp_path / "sealed.h5", fill))


@pytest.mark.parametrize("turns", [(0.0, 0.25, 0.5, 0.75), (0.0, 0.5)])
def test_a_bench_without_a_reference_is_told_so_before_anything_else(turns: Any) -> None:
    with on_axis(reference_ratio=1e-12) as bench:
        reference = SteppedReference.on(bench, ROWS, turns=turns)
        half = np.random.default_rng(0).integers(0, 2, (4, N), np.uint8)
        bench.fit_exposure(reference.patterns(reference.layout(N).render(half)))
        demodulate = SteppedDemodulator(SENSOR, turns, radius=RADIUS)
        with pytest.raises(LowVisibilityError, match="visibility is 0.0"):
            stepped_matrix(bench, reference, demodulate, N)


def test_noise_and_what_noise_does_not_explain_are_refused() -> None:
    one = np.ones((4, 2), np.complex64)
    good = SteppedMatrix(one, one[:, 0], 0.5, 0.999, 0.99, 0.1, 0.09)
    good.check()
    with pytest.raises(NoiseError, match="split_half = 0.218"):
        replace(good, split_half=0.218).check()
    with pytest.raises(QualityError, match="held_out_error = 0.500"):
        replace(good, held_out_error=0.5).check()


def test_a_phase_that_moves_is_refused_with_two_steps() -> None:
    with on_axis(phase_walk_rad=0.2) as bench, pytest.raises(QualityError):
        calibrate_stepped(bench, N, reference_rows=ROWS, method="two-step", repeats=2)


def test_sequences_of_any_length_give_the_same_matrix(
    measured: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(matrix_module, "_LONGEST", 5)
    with on_axis() as bench:
        other = calibrate_stepped(bench, N, reference_rows=ROWS, repeats=4)
    one, two = measured[0].matrix.T, other.matrix.T
    alike = abs(np.vdot(one, two)) / np.linalg.norm(one) / np.linalg.norm(two)
    assert alike > measured[0].matrix.split_half ** 2 - 1e-3


def test_more_than_memory_allows_is_refused_before_any_light() -> None:
    with on_axis() as bench:
        with pytest.raises(SettingError, match=r"take 0\.0\d+ GB; memory_gb = 0\.001"):
            stepped_matrix(
                bench,
                SteppedReference.on(bench, ROWS),
                SteppedDemodulator(SENSOR, radius=RADIUS),
                64,
                memory_gb=0.001,
            )
        assert bench.exposures == 0
