"""What a drifting bench does to its projections, and what it costs to follow it.

    python -m benchmarks.drift [--json FILE] [--quick]

- Hours: an hour on the scene's clock at 1.5 kHz (5.4 million frames), drifting at full rate all the
  time. The bench projects in bursts of 512 exposures, evenly spread, and stands by in between (as
  it would while a computer trains): what drifts drifts on, and phase and carrier have gone
  somewhere else by the next burst. The carrier drifts by 2e-4 cycles/pixel in the hour, what a tilt
  of the reference by 20 microradians does on pixels of 5.5 um at 532 nm. Correlations are with the
  calibrated map in force, camera noise included. Shares of references are of the exposures shown;
  those of calibrations, of all frames of the time.
- Intervals: what the walk of the phase makes of the interval between references.
- Movements: errors of tilt and phase between two frames of a pattern, while the carrier moves.
- Fibre: measured transmission matrices of a fibre under deformation as the medium (needs OPU_DATA),
  and the fidelity that the projector tells.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.linalg import hadamard

from benchmarks.calibration import agreement, random_codes, scene_of
from benchmarks.carrier import show
from calibration.calibration_file import Calibration
from calibration.carrier import find_carrier
from calibration.demodulation import Demodulator
from calibration.errors import CalibrationError
from calibration.movement import Reference
from calibration.pipeline import calibrate
from calibration.projector import OpticalProjector
from calibration.verdict import QualityLimits
from opu_driver import simulated_bench
from opu_driver.bench import Bench

Row = dict[str, object]
SEED = 1
RATE_HZ = 1500.0
CARRIER_DRIFT = 2e-4  # cycles/pixel an hour
ROWS = 256  # of codes in a burst


def hour(
    name: str, preset: str, seconds: float, bursts: int, min_fidelity: float, renew: bool,
    track: bool, scene: dict[str, Any],
) -> Row:  # fmt: skip
    """One bench over some time."""
    step = CARRIER_DRIFT * seconds / 3600 / bursts
    jumps = [(1500 + 540 * k, step, -0.5 * step) for k in range(bursts)]
    scene = {"drift_rate_hz": RATE_HZ, "faults": {"carrier_jumps": jumps}, **scene}
    renewals: list[int] = []

    def calibrated(bench: Bench) -> Calibration:
        renewals.append(bench.exposures)
        return calibrate(bench, 10)

    correlations = []
    with simulated_bench(preset, SEED, **scene) as bench:
        first = calibrate(bench, 10)
        projector = OpticalProjector(
            bench, first, min_fidelity=min_fidelity, track_drift=track,
            recalibrate=calibrated if renew else None,
        )  # fmt: skip
        clock, ended = scene_of(bench), math.nan
        start_frames, fidelity, carrier = clock.age, 1.0, 0.0
        frames = int(seconds * RATE_HZ)
        for burst in range(bursts):
            missing = start_frames + frames * burst // bursts - clock.age
            clock.wait(max(missing, 0) / RATE_HZ)
            codes = random_codes(ROWS, burst)
            try:
                outputs = projector.project(codes)
            except CalibrationError:
                ended = (clock.age - start_frames) / RATE_HZ / 60
                break
            predicted = projector.calibration.twin().project(codes)
            correlations.append(agreement(outputs, predicted)[0])
            record = projector.last
            assert record is not None
            fidelity, carrier = min(fidelity, record.map_fidelity), record.carrier_drift
        totals = projector.totals()
    shown = totals["exposures"] + totals["reference_exposures"]
    return {
        "bench": name,
        "minutes": seconds / 60,
        "bursts": len(correlations),
        "worst correlation": min(correlations),
        "mean": float(np.mean(correlations)),
        "lowest fidelity told": fidelity,
        "carrier moved by": carrier,
        "references": f"{totals['reference_exposures'] / shown:.1%}",
        "recalibrations": len(renewals),
        "their share": f"{totals['calibration_exposures'] / frames:.2%}",
        "stale after (min)": ended,
    }


def hours(quick: bool) -> list[Row]:
    bursts = 40 if quick else 120
    runs: list[Callable[[], Row]] = [
        partial(hour, "realistic", "realistic", 3600, bursts, 0.985, True, True, {}),
        partial(hour, "quiet", "quiet", 3600, bursts, 0.985, True, True, {}),
        partial(hour, "realistic, phase walk 0.02", "realistic", 3600, bursts, 0.985, True, True,
                {"phase_walk_rad": 0.02}),
        partial(hour, "realistic, not recalibrated", "realistic", 3600, bursts, 0.985, False, True,
                {}),
        partial(hour, "realistic, not followed", "realistic", 3600, bursts, 0.0, False, False, {}),
        partial(hour, "rough", "rough", 300, bursts, 0.965, True, True, {}),
    ]  # fmt: skip
    return [run() for run in runs]


def intervals(quick: bool) -> list[Row]:
    """Adaptive references against fixed ones, on the phases that walk and jitter."""
    rows: list[Row] = []
    with simulated_bench("realistic", SEED) as bench:
        calibration = calibrate(bench, 10)
    twin = calibration.twin()
    for walk, jitter in ((0.001, 0.01), (0.003, 0.01), (0.02, 0.01), (0.05, 0.01), (0.02, 0.1)):
        for interval in (None, 32):
            with simulated_bench(
                "realistic", SEED, phase_walk_rad=walk, phase_jitter_rad=jitter
            ) as bench:
                projector = OpticalProjector(bench, calibration, reference_interval=interval)
                correlations = []
                for burst in range(4 if quick else 16):
                    codes = random_codes(ROWS, burst)
                    outputs = projector.project(codes)
                    correlations.append(agreement(outputs, twin.project(codes))[0])
                record = projector.last
                assert record is not None
            references = record.reference_exposures / (
                record.reference_exposures + record.exposures
            )
            rows.append(
                {
                    "walk": walk,
                    "jitter": jitter,
                    "interval": "adaptive" if interval is None else str(interval),
                    "references": f"{references:.1%}",
                    "worst correlation": min(correlations),
                    "mean": float(np.mean(correlations[len(correlations) // 4 :])),
                }
            )
    return rows


def movements(quick: bool) -> list[Row]:
    rows: list[Row] = []
    step = np.array([1e-6, -5e-7])
    frames_of_one, first = 8 if quick else 20, 60
    for preset, pixels in (("realistic", 128), ("realistic", 512), ("realistic", 1024)):
        jumps = [(first + k, *step) for k in range(frames_of_one)]
        with simulated_bench(
            preset, SEED, camera={"sensor_shape": (pixels, pixels)}, decorrelation=0.0,
            faults={"carrier_jumps": jumps},
        ) as bench:  # fmt: skip
            scene = scene_of(bench)
            half = np.random.default_rng(0).integers(0, 2, (1, 64), np.uint8)
            pattern = bench.layout(64).render(half)
            bench.fit_exposure(np.concatenate([pattern, bench.layout(1).all_on()]))
            while scene.exposures < first - 4:
                bench.expose(pattern)
            at = scene.exposures + 1 + np.arange(frames_of_one)
            frames = bench.expose(np.repeat(pattern, frames_of_one, axis=0))
            phases = scene.truth.phases[at]
        tilts = np.outer(np.maximum(at - first + 1, 0), step)
        demodulate = Demodulator((pixels, pixels), find_carrier(frames[:1], saturation_level=None))
        fields = demodulate(frames).reshape(frames_of_one, -1)
        middle = demodulate.decimation * (np.array(demodulate.grid_shape) - 1) / 2
        tilt_errors, phase_errors, stated, spent = [], [], [], 0.0
        for k in range(1, frames_of_one):
            reference = Reference(
                fields[k - 1], demodulate.grid_shape, demodulate.decimation, demodulate.noise_gain
            )
            begun = time.perf_counter()
            moved = reference.movement(fields[k : k + 1])
            spent += time.perf_counter() - begun
            tilt = tilts[k] - tilts[k - 1]
            phase = phases[k] - phases[k - 1] + 2 * np.pi * float(tilt @ middle)
            tilt_errors.append(np.array([moved.row, moved.column]) - tilt)
            phase_errors.append(np.angle(moved.gains[0] * np.exp(-1j * phase)))
            stated.append([moved.row_sigma, moved.phase_sigma])
        begun = time.perf_counter()
        demodulate(frames)
        whole = time.perf_counter() - begun
        rows.append(
            {
                "pixels": f"{pixels} x {pixels}",
                "tilt error, rms": float(np.sqrt(np.mean(np.square(tilt_errors)))),
                "stated": float(np.mean(stated, axis=0)[0]),
                "phase error, rms": float(np.sqrt(np.mean(np.square(phase_errors)))),
                "stated ": float(np.mean(stated, axis=0)[1]),
                "time over a demodulation": spent / (frames_of_one - 1) / (whole / frames_of_one),
            }
        )
    return rows


def fibre(quick: bool) -> list[Row]:
    """The fidelity curve of a measured medium, as measured and as the projector tells it."""
    if "OPU_DATA" not in os.environ:
        return [{"fibre": "OPU_DATA is not set"}]
    folder = Path(os.environ["OPU_DATA"]) / "transmission_matrices"
    paths = sorted(folder.glob("TM_modes_*.npz"), key=lambda p: float(p.stem.split("_")[-1]))
    paths = paths[::4] if quick else paths
    matrices = [np.load(path)["TM_corr_modes"] for path in paths]
    inputs, frames = matrices[0].shape[1], 4e4
    any_medium = QualityLimits(law_deviation=math.inf, distance_scatter=math.inf)
    codes = torch.from_numpy(hadamard(128)[:, :inputs].astype(np.int16))
    rows: list[Row] = []
    scene = {"cells": (10, 11), "measured_matrices": paths, "frames_per_matrix": frames}
    with simulated_bench("realistic", SEED, **scene) as bench:
        calibration = calibrate(bench, inputs, repeats=2, limits=any_medium)
        projector = OpticalProjector(bench, calibration, min_fidelity=0.0)
        clock = scene_of(bench)
        for k in range(1, len(paths)):
            clock.wait((k * frames - clock.age) / clock.settings.drift_rate_hz)
            projector.project(codes)
            record = projector.last
            assert record is not None
            then, now = matrices[0], matrices[k]
            measured = abs(np.vdot(then, now)) / np.linalg.norm(then) / np.linalg.norm(now)
            told = math.sqrt(record.map_fidelity)
            rows.append(
                {
                    "deformation": paths[k].stem.split("_")[-1],
                    "measured |<T0,T>|": float(measured),
                    "told": told,
                    "difference": told - float(measured),
                    "all inputs on": math.sqrt(record.fidelity),
                }
            )
    worst = max(abs(float(str(row["difference"]))) for row in rows)
    print(f"fibre: largest difference {worst:.4f}")
    return rows


TABLES = {"hours": hours, "intervals": intervals, "movements": movements, "fibre": fibre}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    parser.add_argument("--quick", action="store_true", help="a third of the bursts")
    parser.add_argument("--only", choices=TABLES, help="one table")
    arguments = parser.parse_args()
    logging.getLogger("opu.projector").setLevel(logging.ERROR)  # the tables count recalibrations
    names = [arguments.only] if arguments.only else list(TABLES)
    tables = {}
    for name in names:
        tables[name] = TABLES[name](arguments.quick)
        show(tables[name])
    if arguments.json:
        arguments.json.write_text(json.dumps(tables, indent=2) + "\n")


if __name__ == "__main__":
    main()
