"""Every way to measure a transmission matrix: its error against theory, under drift, and its cost.

    python -m benchmarks.transmission_matrix [--json FILE] [--large]

- Methods: error of T against the truth on the simulated bench, over the error that theory expects
  at the measured signal to noise; away from the frame's borders. On the bench that stands still,
  and on the realistic one, where phase, power and medium drift.
- Walk: correlation of T with the truth at a phase walk of 0.03 rad a frame and a signal to noise of
  about 1000; the theory of interleaved references counts the walk between them.
- Decorrelation: a matrix that is left alone, measured anew, and updated, at equal exposures.
- Stream: a matrix solved from a log on disk within a memory budget, in a process of its own: the
  memory of that process above what it took with everything imported, and the error of the result.
  The log's fields are made without optics and without noise. `--large` takes a larger one.
- Plans: what 16,384 inputs and 100,000 real outputs cost.
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.calibration import STILL, Row, error_up_to_a_factor, interior, table, true_matrix
from calibration.calibration_file import Calibration
from calibration.field_log import FieldLog
from calibration.interleaved_references import InterleavedReferences
from calibration.matrix_update import MatrixUpdate
from calibration.method import METHODS, Method
from calibration.pipeline import calibrate
from calibration.plan import Cost, Plan
from calibration.signed_fields import signed_fields
from calibration.transmission_matrix import align, solved_blocks
from calibration.walsh_hadamard import walsh_hadamard
from opu_driver import simulated_bench
from opu_driver.bench import Bench

SEED = 1
RATE_HZ = 1500.0
EXPOSURE_US = 42.0


def bench_for(method: str, **scene: Any) -> Bench:
    driver = "virtual-slm" if method == "phase-steps" else "virtual-dmd"
    return simulated_bench("realistic", SEED, modulator={"driver": driver}, **scene)


def error_of(T: NDArray[Any], bench: Bench, calibration: Calibration) -> float:
    grid = calibration.demodulator().grid_shape
    truth = true_matrix(bench, calibration)
    return error_up_to_a_factor(interior(T.T, grid), interior(truth.T, grid))


def light_of(method: str, bench: Bench) -> float:
    """Shot noise of an exposure, over that with half of the inputs lit."""
    ratio = bench.camera._scene.settings.reference_ratio
    return (ratio + 2) / (ratio + 1) if method == "phase-steps" else 1.0


def dim(bench: Bench, n_inputs: int, method: str, repeats: int) -> Calibration:
    """A calibration with less light than would fit, at a signal to noise of about 1000.

    With more, what |S|^2 leaves in the sideband, 0.2 to 0.5 % of T here, would count beside noise.
    """
    bench.configure(replace(bench.settings, exposure_us=EXPOSURE_US))
    return calibrate(bench, n_inputs, method=method, repeats=repeats, fit_exposure=False)


def methods() -> list[Row]:
    rows = []
    for n_inputs in (64, 256):
        for name in METHODS:
            row: Row = {"method": name, "inputs": n_inputs}
            for scene, kind in ((STILL, "still"), ({}, "realistic")):
                repeats = 4 if name == "random" else 1
                with bench_for(name, **scene) as bench:
                    calibration = dim(bench, n_inputs, name, repeats)
                    error = error_of(calibration.T, bench, calibration)
                    light = light_of(name, bench)
                method = Method.of(name, n_inputs, repeats=repeats)
                theory = method.expected_error(calibration.quality.snr) * math.sqrt(light)
                if kind == "still":
                    row["exposures"] = method.scheme.exposures(method.vectors.count)
                    row["theory"] = theory
                row[f"error, {kind}"] = error
                row[f"over theory, {kind}"] = error / theory
            rows.append(row)
    return rows


def walks() -> list[Row]:
    rows = []
    walk, n_inputs = 0.03, 256
    for name in METHODS:
        repeats = 4 if name == "random" else 1
        scene = STILL | {"phase_walk_rad": walk}
        with bench_for(name, **scene) as bench:
            calibration = dim(bench, n_inputs, name, repeats)
            error = error_of(calibration.T, bench, calibration)
            light = light_of(name, bench)
        method = Method.of(name, n_inputs, repeats=repeats)
        noise = method.expected_error(calibration.quality.snr) * math.sqrt(light)
        scheme = method.scheme
        drift = 0.0
        if isinstance(scheme, InterleavedReferences):
            drift = scheme.walk_error(walk) / math.sqrt(repeats - (name == "random"))
        rows.append(
            {
                "method": name,
                "SNR": calibration.quality.snr,
                "correlation": 1 / math.sqrt(1 + error**2),
                "error": error,
                "theory: noise": noise,
                "theory: noise and walk": math.hypot(noise, drift),
            }
        )
    return rows


def decorrelations() -> list[Row]:
    rows = []
    n_inputs, rounds = 64, 9
    method = Method.of("hadamard-pairs", n_inputs, repeats=1)
    vectors = method.vectors
    bits = vectors.bits(range(vectors.count))
    signs = 2 * bits.astype(np.float32) - 1
    for decorrelation in (3e-5, 1e-4, 3e-4):
        with simulated_bench("realistic", SEED, decorrelation=decorrelation) as bench:
            calibration = calibrate(bench, n_inputs, repeats=1, judge=False)
            start = np.asarray(calibration.T)
            snr = calibration.quality.snr
            update = MatrixUpdate(
                start,
                error=method.expected_error(snr),
                decorrelation=1 - (1 - decorrelation) ** 2,
                noise_to_signal=method.noise_to_signal(snr),
            )
            anew, told = start, []
            errors: dict[str, list[float]] = {"left alone": [], "measured anew": [], "updated": []}
            for done in range(rounds):
                fields = []
                for first in range(0, len(bits), 32):
                    some = slice(first, first + 32)
                    all_on = update.matrix.sum(axis=1)
                    fields.append(signed_fields(bench, calibration, bits[some], all_on=all_on))
                    update.add(signs[some], fields[-1])
                    if done >= rounds // 3:  # by then the update is at its steady error
                        for name, T in (
                            ("left alone", start),
                            ("measured anew", anew),
                            ("updated", update.matrix),
                        ):
                            errors[name].append(error_of(T, bench, calibration))
                        told.append(update.expected_error)
                every = np.concatenate(fields)
                anew = np.ascontiguousarray(every.T @ signs / np.float32(len(signs)))
        mean = {name: float(np.sqrt(np.mean(np.square(own)))) for name, own in errors.items()}
        rows.append(
            {"decorrelation a frame": decorrelation, "inputs": n_inputs}
            | mean
            | {"updated, as it says itself": float(np.mean(told))}
        )
    return rows


def streams(large: bool) -> list[Row]:
    rows = []
    for n_inputs, n_modes, memory_gb in ((1024, 8192, 0.1), (4096, 8192, 0.2)) + (
        ((8192, 16_384, 0.5),) if large else ()
    ):
        with tempfile.TemporaryDirectory() as folder:
            arguments = [f"{n_inputs}", f"{n_modes}", f"{memory_gb}", f"{Path(folder) / 'log.h5'}"]
            command = [sys.executable, "-m", "benchmarks.transmission_matrix", "--stream"]
            for step in ("make", "solve"):
                done = subprocess.run(
                    [*command, step, *arguments], capture_output=True, text=True, check=True
                )
            rows.append(json.loads(done.stdout))
    return rows


def _make_log(plan: Plan, cost: Cost, path: Path) -> None:
    """A log of noise-free fields of a random matrix, made by its own fast transform."""
    order = plan.method.vectors.rows
    log = FieldLog.create(path, "stream", plan.ends, cost.n_modes, plan.n_inputs)
    fields = log._file["fields"]
    for block in cost.blocks():
        T = _true_block(plan.n_inputs, block)
        values = np.zeros((order, T.shape[1]), np.complex64)
        values[: plan.n_inputs] = T
        walsh_hadamard(values)
        total = T.sum(axis=0)
        for run in plan.runs:
            if run in plan.of_matrix:
                numbers = np.arange(run.vectors.start, run.vectors.stop)
                flipped = np.bitwise_count(numbers & (numbers >> 1)) % 2
                signed = values[numbers] * (1 - 2 * flipped.astype(np.float32))[:, None]
            else:
                signed = (2 * plan.bits(run).astype(np.float32) - 1) @ T
            pairs = np.stack([total + signed, total - signed], axis=1) / np.float32(2)
            fields[run.rows, block] = pairs.reshape(-1, T.shape[1])
        log._file["markers"][:, :2, block] = total
    log._file["done"][()] = len(plan.runs)
    log._file.close()


def _true_block(n_inputs: int, modes: slice) -> NDArray[np.complex64]:
    rng = np.random.default_rng(modes.start)
    pairs = rng.standard_normal((n_inputs, modes.stop - modes.start, 2), np.float32)
    return pairs.view(np.complex64)[..., 0]


def stream(step: str, n_inputs: int, n_modes: int, memory_gb: float, path: Path) -> None:
    """One of the two steps of a stream, in this process."""
    plan = Plan(Method.of("hadamard-pairs", n_inputs, repeats=1), seed=0)
    cost = Cost.of(plan, n_modes, RATE_HZ, memory_gb)
    if step == "make":
        _make_log(plan, cost, path)
        return
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start, wrong, power = time.perf_counter(), 0.0, 0.0
    with FieldLog.resume(path) as log:
        alignment = align(log, plan, cost.blocks())
        for block in solved_blocks(log, plan, alignment, 1e-3, cost.blocks()):
            log.write_matrix(block.modes, np.ascontiguousarray(block.T.T))
        seconds = time.perf_counter() - start
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        matrix = log.matrix()
        for block in cost.blocks():
            T = _true_block(n_inputs, block).T
            wrong += float(np.linalg.norm(matrix[block] - T)) ** 2
            power += float(np.linalg.norm(T)) ** 2
    row = {
        "inputs": n_inputs,
        "outputs": 2 * n_modes,
        "matrix / MB": cost.matrix_bytes / 1e6,
        "fields / MB": cost.fields_bytes / 1e6,
        "budget / MB": 1e3 * memory_gb,
        "planned / MB": cost.memory_bytes / 1e6,
        "peak / MB": (peak - before) * 1.024e-3,
        "blocks": len(cost.blocks()),
        "seconds": seconds,
        "error": math.sqrt(wrong / power),
    }
    print(json.dumps(row))


def plans() -> list[Row]:
    rows = []
    for name in METHODS:
        plan = Plan(Method.of(name, 16_384, repeats=1 if name != "random" else 2), seed=0)
        memory_gb = 8.0 if name == "random" else 4.0
        cost = Cost.of(plan, 50_000, RATE_HZ, memory_gb)
        rows.append({"method": name} | cost.lines())
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    parser.add_argument("--large", action="store_true", help="stream a larger matrix, too")
    parser.add_argument("--only", help="one table alone, by its first word")
    parser.add_argument("--stream", nargs=5, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.stream:
        step, n_inputs, n_modes, memory_gb, path = arguments.stream
        stream(step, int(n_inputs), int(n_modes), float(memory_gb), Path(path))
        return
    results: dict[str, list[Row]] = {}
    for name, measure in (
        ("Methods", methods),
        ("Walk of 0.03 rad a frame", walks),
        ("Decorrelation", decorrelations),
        ("Stream", lambda: streams(arguments.large)),
        (f"Plans: 16,384 inputs at {RATE_HZ:g} exposures a second", plans),
    ):
        if arguments.only and not name.startswith(arguments.only):
            continue
        results[name] = measure()
        print(table(name, results[name]), flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
