"""From a simulated bench to a calibration: against truth, through faults and interrupts."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from calibration import quality
from calibration.calibration_file import Calibration
from calibration.errors import (
    CalibrationFileError,
    DriftError,
    NoCarrierError,
    QualityError,
    StaleCalibrationError,
)
from calibration.field_log import FieldLog
from calibration.method import METHODS, Method
from calibration.pipeline import calibrate, cost_of, plan_for
from calibration.plan import TRIPLES, Cost, Plan
from calibration.projector import OpticalProjector
from calibration.setup import Setup
from calibration.verdict import QualityLimits
from opu_driver import simulated_bench
from opu_driver.bench import MARKERS, Bench
from opu_driver.errors import (
    FrameMismatchError,
    LowSignalError,
    PatternError,
    SaturationError,
    SettingError,
)

Calibrations = Callable[[str, int], Calibration]


def true_matrix(bench: Bench, setup: Setup) -> NDArray[np.complex64]:
    """What the demodulator would see of each input, without noise; up to a phase and a gain."""
    truth = bench.camera._scene.truth
    units = np.concatenate(
        [
            setup.layout.render(np.eye(setup.n_inputs, dtype=np.uint8)),
            setup.layout.all_off(),
        ]
    )
    frames = 2 * truth.holograms(units).real
    fields = setup.demodulator()(frames).reshape(len(units), -1)
    return (fields[:-1] - fields[-1]).T


def interior(fields: NDArray[np.complex64], setup: Setup, rim: int = 2) -> NDArray[np.complex64]:
    """The modes away from the frame's borders, where opposite borders mix."""
    rows, columns = setup.demodulator().grid_shape
    grid = fields.reshape(rows, columns, -1)
    return grid[rim:-rim, rim:-rim].reshape(-1, grid.shape[-1])


def true_error(bench: Bench, calibration: Calibration) -> float:
    """Relative error of T, in the phase and gain that fit best: both are free."""
    truth = interior(true_matrix(bench, calibration), calibration)
    T = interior(calibration.T, calibration)
    return quality.relative_error(T * np.vdot(T, truth) / np.vdot(T, T), truth)


def scale(bench: Bench, calibration: Calibration, codes: NDArray[np.int64]) -> float:
    """Projections over what the matrix says of them."""
    rows = torch.from_numpy(codes)
    projected = OpticalProjector(bench, calibration).project(rows).double().flatten()
    predicted = calibration.twin().project(rows).double().flatten()
    return float(projected @ predicted / (predicted @ predicted))


def true_scale(bench: Bench, calibration: Calibration) -> float:
    """Modulus of T over the truth's, in the unit that the reference field is true in."""
    truth = bench.camera._scene.truth
    on = 2 * truth.holograms(bench.layout(1).all_on()).real
    pairs = (
        (true_matrix(bench, calibration), calibration.T),
        (calibration.demodulator()(on).reshape(-1, 1), calibration.reference[:, None]),
    )
    of_T, of_reference = (
        abs(np.vdot(true, interior(seen, calibration))) / np.linalg.norm(true) ** 2
        for true, seen in ((interior(true, calibration), seen) for true, seen in pairs)
    )
    return float(of_T / of_reference)


def expected_error(snr: float, n_inputs: int, repeats: int = 1) -> float:
    """Relative error of T by Hadamard pairs."""
    return Method.of("hadamard-pairs", n_inputs, repeats=repeats).expected_error(snr)


@pytest.mark.parametrize("room", [7, 40, 1000])
@pytest.mark.parametrize(("n_inputs", "repeats"), [(1, 2), (10, 1), (33, 3)])
@pytest.mark.parametrize("name", METHODS)
def test_the_plan_shows_every_vector_once(
    name: str, n_inputs: int, repeats: int, room: int
) -> None:
    plan = Plan(Method.of(name, n_inputs, repeats=repeats), seed=4, room=room)
    rows = [row for run in plan.runs for row in range(run.rows.start, run.rows.stop)]
    assert rows == list(range(plan.exposures))
    assert [run.rows.stop for run in plan.runs] == list(plan.ends)
    assert max(map(len, plan.runs)) <= room
    vectors = np.concatenate([plan.bits(run) for run in plan.of_matrix])
    every = range(plan.method.vectors.count)
    np.testing.assert_array_equal(vectors, plan.method.vectors.bits(every))


def test_test_vectors_are_held_out_twice_and_in_triples() -> None:
    plan = Plan(Method.of("hadamard", 20), seed=4)
    vectors = np.concatenate([plan.bits(run) for run in plan.of_tests])
    once, again = plan.held_out
    np.testing.assert_array_equal(vectors[once], vectors[again])
    np.testing.assert_array_equal(2.0 * vectors[once] - 1, plan.held_out_signs)
    a, b, both = np.split(vectors[plan.triples], 3)
    assert len(a) == TRIPLES
    assert not (a & b).any()
    np.testing.assert_array_equal(a | b, both)


@pytest.mark.parametrize(("preset", "n_inputs"), [("quiet", 16), ("realistic", 48)])
def test_the_matrix_is_as_true_as_theory_allows(preset: str, n_inputs: int) -> None:
    with simulated_bench(preset, seed=2) as bench:
        calibration = calibrate(bench, n_inputs, repeats=1)
        error = true_error(bench, calibration)
        assert true_scale(bench, calibration) == pytest.approx(1, abs=0.01)
    expected = expected_error(calibration.quality.snr, n_inputs)
    assert error == pytest.approx(expected, rel=0.05)


def test_at_ideal_everything_is_linear() -> None:
    # The bench's own carrier lets |S|^2 touch the rim of the mask (3e-5); this one keeps it clear.
    carrier = (35 / 128, 34 / 128)
    with simulated_bench("ideal", seed=2, carrier=carrier) as bench:
        bench.configure(replace(bench.settings, exposure_us=1000.0))
        calibration = calibrate(bench, 10, fit_exposure=False)
        assert true_error(bench, calibration) < 1e-3
    assert calibration.quality.linearity <= 1e-5
    assert calibration.quality.held_out_error <= 1e-5


def test_quality_of_a_realistic_bench(realistic_calibration: Calibration) -> None:
    figures = realistic_calibration.quality
    assert figures.held_out_correlation > 0.999
    assert figures.held_out_error < 0.04
    assert figures.split_half > 0.9995
    assert figures.linearity < 0.05
    assert figures.snr > 1000
    assert figures.singular_values.shape == (10,)
    assert figures.saturated_fraction < 1e-4
    assert 0.2 < figures.visibility < 1


def test_phase_walk_and_jitter_do_not_reach_the_matrix() -> None:
    shaken = {"phase_walk_rad": 0.02, "phase_jitter_rad": 0.1}
    with simulated_bench("quiet", seed=3, **shaken) as bench:
        calibration = calibrate(bench, 10, repeats=1)
        error = true_error(bench, calibration)
    assert error < 1.15 * expected_error(calibration.quality.snr, 10)


def test_progress_is_told_stage_by_stage() -> None:
    told: list[tuple[str, int, int]] = []
    with simulated_bench("quiet", seed=1) as bench:
        calibrate(bench, 4, repeats=1, progress=lambda *step: told.append(step))
    stages = list(dict.fromkeys(stage for stage, _, _ in told))
    assert stages == ["exposure", "carrier", "fields", "matrix", "quality"]
    for stage in stages:
        done = [step[1] for step in told if step[0] == stage]
        assert done == sorted(done)
        assert done[0] == 0
        assert done[-1] == next(step[2] for step in told if step[0] == stage)


def test_an_slm_is_calibrated_like_a_dmd() -> None:
    with simulated_bench("quiet", seed=1, modulator={"driver": "virtual-slm"}) as bench:
        calibration = calibrate(bench, 6)
    assert calibration.layout.levels == 256
    assert calibration.quality.held_out_correlation > 0.999


class EnoughError(Exception):
    """Raised by a test in the middle of a calibration."""


def stop_after(exposures: int) -> Callable[[str, int, int], None]:
    def progress(stage: str, done: int, total: int) -> None:
        if stage == "fields" and done >= exposures:
            raise EnoughError

    return progress


def test_an_interrupted_calibration_goes_on_where_it_was(tmp_path: Path) -> None:
    path = tmp_path / "fields.h5"
    with simulated_bench("realistic", seed=5) as bench:
        with pytest.raises(EnoughError):
            calibrate(bench, 10, repeats=4, resume=path, progress=stop_after(100))
        exposure_us = bench.settings.exposure_us
    with simulated_bench("realistic", seed=5) as bench:
        bench.expose(np.repeat(bench.layout(1).all_on(), 7, axis=0))  # not the same noise again
        before = bench.exposures
        calibration = calibrate(bench, 10, repeats=4, resume=path)
        assert bench.settings.exposure_us == exposure_us
        total = Plan(Method.of("hadamard-pairs", 10, repeats=4), 0).exposures
        assert bench.exposures - before < total
        error = true_error(bench, calibration)
    assert error < 1.1 * expected_error(calibration.quality.snr, 10, repeats=4)
    assert path.exists()


def test_a_finished_log_needs_no_light(tmp_path: Path) -> None:
    path = tmp_path / "fields.h5"
    with simulated_bench("quiet", seed=5) as bench:
        first = calibrate(bench, 3, repeats=1, resume=path)
    with simulated_bench("quiet", seed=5) as bench:
        again = calibrate(bench, 3, repeats=1, resume=path)
        assert bench.exposures == 0
    np.testing.assert_array_equal(first.T, again.T)


STILL = {"phase_walk_rad": 0.0, "phase_jitter_rad": 0.0, "laser_noise": 0.0, "laser_drift": 0.0}


def bench_for(method: str, **scene: object) -> Bench:
    """A bench that can show what a method asks for."""
    driver = "virtual-slm" if method == "phase-steps" else "virtual-dmd"
    return simulated_bench("realistic", seed=5, modulator={"driver": driver}, **scene)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_is_as_true_as_theory_allows(method: str) -> None:
    with bench_for(method, **STILL) as bench:
        calibration = calibrate(bench, 64, method=method, repeats=None)
        settings = bench.camera._scene.settings
        error = true_error(bench, calibration)
        assert true_scale(bench, calibration) == pytest.approx(1, abs=0.003)
    expected = Method.of(method, 64).expected_error(calibration.quality.snr)
    if method == "phase-steps":
        # All inputs are lit all the time, and twice the signal makes more shot noise.
        expected *= np.sqrt((settings.reference_ratio + 2) / (settings.reference_ratio + 1))
    assert error == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("n_inputs", [1, 2, 3, 16])
def test_projections_have_the_scale_of_the_matrix(method: str, n_inputs: int) -> None:
    codes = np.random.default_rng(0).integers(-1, 2, (60, n_inputs))
    with bench_for(method, **STILL) as bench:
        calibration = calibrate(bench, n_inputs, method=method, repeats=4, judge=False)
        assert scale(bench, calibration, codes) == pytest.approx(1, abs=0.004)


@pytest.mark.parametrize("method", METHODS)
def test_a_matrix_beyond_the_memory_is_streamed_and_is_the_same(
    method: str, tmp_path: Path
) -> None:
    found = {}
    for memory_gb in (4.0, 0.0155):
        with bench_for(method) as bench:
            path = tmp_path / f"{memory_gb}.h5"
            calibration = calibrate(
                bench, 512, method=method, repeats=1, memory_gb=memory_gb, resume=path, judge=False
            )
        found[memory_gb] = calibration
        assert isinstance(calibration.T, np.memmap) == (memory_gb < 1)
    held, streamed = found.values()
    assert quality.relative_error(streamed.T, held.T) < 1e-4
    assert streamed.quality.split_half == pytest.approx(held.quality.split_half, rel=1e-5)
    streamed.save(tmp_path / "saved.h5")
    np.testing.assert_array_equal(Calibration.load(tmp_path / "saved.h5").T, streamed.T)
    assert streamed.fingerprint() == Calibration.load(tmp_path / "saved.h5").fingerprint()


def test_fields_beyond_the_memory_need_a_file() -> None:
    with (
        bench_for("hadamard-pairs") as bench,
        pytest.raises(SettingError, match="Name a file to keep them in"),
    ):
        calibrate(bench, 512, repeats=1, memory_gb=0.0155)


def test_too_little_memory_is_refused_before_anything_is_measured(tmp_path: Path) -> None:
    with (
        bench_for("hadamard-pairs") as bench,
        pytest.raises(SettingError, match="take .* GB of memory, and 0.001 GB are allowed"),
    ):
        calibrate(bench, 64, memory_gb=0.001, resume=tmp_path / "fields.h5")
    assert list(tmp_path.iterdir()) == []


def test_less_memory_than_at_the_beginning_has_no_room_for_the_matrix(tmp_path: Path) -> None:
    path = tmp_path / "fields.h5"
    with bench_for("hadamard-pairs") as bench:
        calibrate(bench, 512, repeats=1, resume=path)
        with pytest.raises(CalibrationFileError, match="no room for the matrix"):
            calibrate(bench, 512, repeats=1, memory_gb=0.0155, resume=path)


def test_phase_steps_need_a_phase_modulator() -> None:
    with (
        bench_for("hadamard-pairs") as bench,
        pytest.raises(PatternError, match="2 levels does not shift phases"),
    ):
        calibrate(bench, 4, method="phase-steps")


def test_an_unknown_method_is_refused_with_those_there_are() -> None:
    with (
        bench_for("hadamard-pairs") as bench,
        pytest.raises(SettingError, match="method = 'fourier'; there are hadamard-pairs, "),
    ):
        calibrate(bench, 4, method="fourier")


def test_the_cost_is_what_the_calibration_takes() -> None:
    with bench_for("hadamard-pairs") as bench:
        plan = plan_for(bench, 100)
        cost = cost_of(bench, plan)
        before = bench.exposures
        calibration = calibrate(bench, 100, fit_exposure=False)
        assert bench.exposures - before == cost.exposures + 8 + MARKERS  # the carrier's own
        assert cost.light_s == pytest.approx(cost.exposures / bench.rate_hz)
    assert (cost.n_inputs, cost.n_modes) == (100, calibration.n_modes)
    assert cost.matrix_bytes == calibration.T.nbytes
    assert not cost.on_disk


def test_a_large_matrix_is_planned_within_its_memory() -> None:
    plan = Plan(Method.of("hadamard-pairs", 16_384, repeats=1), seed=0)
    cost = Cost.of(plan, 50_000, 1500.0, memory_gb=4.0)
    assert cost.on_disk
    assert cost.memory_bytes < 4e9 < cost.matrix_bytes
    blocks = cost.blocks()
    assert blocks[0].start == 0
    assert blocks[-1].stop == 50_000
    assert all(a.stop == b.start for a, b in pairwise(blocks))
    assert "16,384 inputs x 50,000 modes (100,000 real outputs)" in cost.lines()["matrix"]
    assert "on disk" in cost.lines()["memory"]


KILLED = """
    import os, signal, sys
    from pathlib import Path

    from calibration.field_log import FieldLog
    from calibration.pipeline import calibrate, cost_of, plan_for
    from opu_driver import simulated_bench

    die = lambda: os.kill(os.getpid(), signal.SIGKILL)
    append = FieldLog.append

    def dying_append(log, fields, markers, saturated):
        if log.done == 3:
            # The sequence's numbers have arrived, the mark that it is done has not.
            log._file["fields"][int(log.ends[2])] = 1e6
            log._file.flush()
            die()
        append(log, fields, markers, saturated)

    FieldLog.append = dying_append
    path, method, driver = sys.argv[1:]
    with simulated_bench("realistic", seed=5, modulator={"driver": driver}) as bench:
        calibrate(bench, 16, repeats=4, method=method, resume=Path(path))
"""


@pytest.mark.parametrize("method", METHODS)
def test_a_killed_calibration_goes_on_where_it_was(method: str, tmp_path: Path) -> None:
    path = tmp_path / "fields.h5"
    driver = "virtual-slm" if method == "phase-steps" else "virtual-dmd"
    killed = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(KILLED), str(path), method, driver],
        cwd=Path(__file__).parents[2],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    with FieldLog.resume(path) as log:
        assert log.done == 3
    with bench_for(method) as bench:
        bench.expose(np.repeat(bench.layout(1).all_on(), 7, axis=0))  # not the same noise again
        calibration = calibrate(bench, 16, repeats=4, method=method, resume=path)
        error = true_error(bench, calibration)
    # Between references the phase jitters by itself.
    spared = 1.1 if method == "hadamard-pairs" else 1.4
    expected = Method.of(method, 16, repeats=4).expected_error(calibration.quality.snr)
    assert error < spared * expected
    assert list(tmp_path.iterdir()) == [path]


@pytest.fixture
def interrupted(tmp_path: Path) -> Path:
    path = tmp_path / "fields.h5"
    with simulated_bench("quiet", seed=5) as bench, pytest.raises(EnoughError):
        calibrate(bench, 4, repeats=1, resume=path, progress=stop_after(32))
    return path


def test_resuming_with_other_arguments_is_refused(interrupted: Path) -> None:
    with (
        simulated_bench("quiet", seed=5) as bench,
        pytest.raises(CalibrationFileError, match="'vectors': 4}; this one has .*'vectors': 8}"),
    ):
        calibrate(bench, 4, repeats=2, resume=interrupted)


def test_resuming_on_another_bench_is_refused(interrupted: Path) -> None:
    with (
        simulated_bench("quiet", seed=6) as bench,
        pytest.raises(StaleCalibrationError, match="the camera is .* it was"),
    ):
        calibrate(bench, 4, repeats=1, resume=interrupted)


def test_resuming_after_the_light_has_moved_is_refused(interrupted: Path) -> None:
    with (
        simulated_bench("quiet", seed=5, faults={"carrier_jumps": [(0, 0.01, 0.0)]}) as bench,
        pytest.raises(DriftError, match="has changed since the measurement was interrupted"),
    ):
        calibrate(bench, 4, repeats=1, resume=interrupted)


@pytest.mark.parametrize("damage", ["truncated", "empty", "text", "other", "header"])
def test_a_damaged_log_is_refused(interrupted: Path, damage: str) -> None:
    content = interrupted.read_bytes()
    if damage == "truncated":
        interrupted.write_bytes(content[: len(content) // 2])
    elif damage == "empty":
        interrupted.write_bytes(b"")
    elif damage == "text":
        interrupted.write_text("these are no fields")
    else:
        with h5py.File(interrupted, "r+") as file:
            file.attrs["schema" if damage == "other" else "header"] = "{}"
    with (
        simulated_bench("quiet", seed=5) as bench,
        pytest.raises(CalibrationFileError, match=r"fields\.h5"),
    ):
        calibrate(bench, 4, repeats=1, resume=interrupted)


@pytest.mark.parametrize(
    "part",
    [
        "fields",
        "markers",
        "saturated",
        "done",
        "ends",
        "header",
        "vectors",
        "method",
        "mean_grey",
        "dead_fraction",
    ],
)
def test_a_log_that_lacks_something_is_refused_by_its_name(interrupted: Path, part: str) -> None:
    with h5py.File(interrupted, "r+") as file:
        if part in file:
            del file[part]
        elif part in file.attrs:
            del file.attrs[part]
        else:
            header = json.loads(file.attrs["header"])
            del header[part]
            file.attrs["header"] = json.dumps(header)
    with (
        simulated_bench("quiet", seed=5) as bench,
        pytest.raises(CalibrationFileError, match=f"fields.h5 is damaged: it has no {part}"),
    ):
        calibrate(bench, 4, repeats=1, resume=interrupted)


def test_a_damaged_log_is_told_in_one_sentence(interrupted: Path) -> None:
    with h5py.File(interrupted, "r+") as file:
        header = json.loads(file.attrs["header"])
        header["setup"]["decimation"] = "much"
        file.attrs["header"] = json.dumps(header)
    with (
        simulated_bench("quiet", seed=5) as bench,
        pytest.raises(CalibrationFileError, match="setup, decimation: input should be") as caught,
    ):
        calibrate(bench, 4, repeats=1, resume=interrupted)
    assert "\n" not in str(caught.value)
    assert "http" not in str(caught.value)


@pytest.mark.parametrize("done", [-1, 1000])
def test_a_log_with_a_wrong_count_is_not_believed(interrupted: Path, done: int) -> None:
    with h5py.File(interrupted, "r+") as file:
        file["done"][()] = done
    with (
        simulated_bench("quiet", seed=5) as bench,
        pytest.raises(CalibrationFileError, match=f"{done} runs done"),
    ):
        calibrate(bench, 4, repeats=1, resume=interrupted)


def test_a_folder_that_is_not_there_is_told_before_the_measurement(tmp_path: Path) -> None:
    with (
        simulated_bench("quiet", seed=5) as bench,
        pytest.raises(CalibrationFileError, match="cannot be kept"),
    ):
        calibrate(bench, 4, resume=tmp_path / "nowhere" / "fields.h5")
    assert list(tmp_path.iterdir()) == []


def test_fields_that_the_disk_cannot_hold_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CalibrationFileError, match="take 8.19e\\+06 GB .* GB free"):
        FieldLog.create(tmp_path / "fields.h5", "{}", [10**12], 1000)
    assert list(tmp_path.iterdir()) == []


def test_more_vectors_than_memory_holds_are_refused_before_they_are_drawn() -> None:
    with (
        simulated_bench("quiet", seed=5) as bench,
        pytest.raises(
            SettingError,
            match=r"repeats = 100000000 by hadamard-pairs take 8e\+08 exposures; at most 1e\+08",
        ),
    ):
        calibrate(bench, 4, repeats=10**8)


def test_a_dropped_trigger_stops_it_and_nothing_is_lost(tmp_path: Path) -> None:
    path = tmp_path / "fields.h5"
    with (
        simulated_bench("quiet", seed=5, faults={"dropped_triggers": [150]}) as bench,
        pytest.raises(FrameMismatchError),
    ):
        calibrate(bench, 4, repeats=4, resume=path)
    with simulated_bench("quiet", seed=5) as bench:
        assert calibrate(bench, 4, repeats=4, resume=path).quality.held_out_correlation > 0.999


def test_a_carrier_that_jumps_on_the_way_is_noticed() -> None:
    with (
        simulated_bench("quiet", seed=5, faults={"carrier_jumps": [(120, 0.0, 0.02)]}) as bench,
        pytest.raises(DriftError, match="fidelity"),
    ):
        calibrate(bench, 10, repeats=4)


def test_a_kept_exposure_that_saturates_is_refused() -> None:
    with simulated_bench("quiet", seed=5) as bench:
        bench.configure(replace(bench.settings, exposure_us=1000.0))
        with pytest.raises(SaturationError):
            calibrate(bench, 4, fit_exposure=False)


def test_too_little_light_is_refused() -> None:
    with simulated_bench("realistic", seed=5) as bench:
        bench.laser.set_power_mw(1e-3)
        with pytest.raises((LowSignalError, NoCarrierError, FrameMismatchError)):
            calibrate(bench, 4, fit_exposure=False)


def test_a_quality_that_misses_its_limits_is_refused() -> None:
    limits = QualityLimits(split_half=0.999999)
    with (
        simulated_bench("realistic", seed=5) as bench,
        pytest.raises(QualityError, match="split_half"),
    ):
        calibrate(bench, 4, limits=limits)


@pytest.mark.parametrize(
    "wrong",
    [{"repeats": 0}, {"seed": -1}]
    + [{"valid_for_h": hours} for hours in (0.0, -1.0, math.nan, math.inf, 1e8)],
)
def test_wrong_arguments_are_refused(wrong: dict[str, float]) -> None:
    name = next(iter(wrong))
    with simulated_bench("quiet", seed=5) as bench, pytest.raises(SettingError, match=name):
        calibrate(bench, 4, **wrong)


@pytest.mark.parametrize("n_inputs", [0, 64 * 64 + 1])
def test_more_inputs_than_the_modulator_shows_are_refused(n_inputs: int) -> None:
    with (
        simulated_bench("quiet", seed=5) as bench,
        pytest.raises((PatternError, SettingError), match=rf"{n_inputs}"),
    ):
        calibrate(bench, n_inputs)
