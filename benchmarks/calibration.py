"""How true a calibration and its projections are on the simulated bench, against theory.

    python -m benchmarks.calibration [--json FILE]

- Field: error of one frame's demodulated field against the truth, over the shot limit
  sqrt((N_R + N_S + read^2 + q^2/12) pi r^2 / (c^2 N_R N_S)), away from the frame's borders.
- Matrix: error of T against the truth, over sqrt(N / (K R SNR)), away from the borders; with and
  without a phase that walks and jitters.
- Projections: random ternary vectors against the calibrated map, over the error that
  calibration/projector.py derives; all modes count, those at the borders too.
- Walk: projections while the phase walks by 0.02 rad a frame, and the share of references.
- Linearity, and the carrier from one frame.
- Cost: the time of a projection over that of its bench and its demodulation alone.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from calibration import quality
from calibration.calibration_file import Calibration
from calibration.carrier import find_carrier
from calibration.demodulation import Demodulator
from calibration.method import DEFAULT_METHOD, Method
from calibration.pipeline import calibrate
from calibration.projector import OpticalProjector
from calibration.setup import Setup
from opu_driver import simulated_bench
from opu_driver.bench import Bench
from opu_driver.errors import OpuError
from opu_driver.virtual.scene import Scene

Row = dict[str, object]
STILL = {"phase_walk_rad": 0.0, "phase_jitter_rad": 0.0, "laser_noise": 0.0, "laser_drift": 0.0}
RIM = 2
SEED = 1


def scene_of(bench: Bench) -> Scene:
    scene: Scene = bench.camera._scene
    return scene


def set_electrons(bench: Bench, electrons: float) -> float:
    """Dim the laser and return the exposure that give so many electrons with half of it lit."""
    rate = scene_of(bench).settings.electrons_per_nj
    bench.laser.set_power_mw(10.0 * min(1.0, electrons / 20.0))
    return electrons / rate / bench.power_mw


def electrons_per_intensity(bench: Bench) -> float:
    settings = scene_of(bench).settings
    light = settings.electrons_per_nj * bench.power_mw * bench.settings.exposure_us
    return light / (1 + settings.reference_ratio)


def pixel_noise(bench: Bench) -> float:
    """Variance of a dark pixel, electrons squared: read noise and rounding."""
    settings = scene_of(bench).settings
    bits = bench.settings.pixel_format.bits
    grey = settings.full_well_electrons / (2**bits - 1) if bits else 0.0
    return settings.read_noise_electrons**2 + grey**2 / 12


def interior(fields: NDArray[Any], grid_shape: tuple[int, int]) -> NDArray[Any]:
    """Fields `[..., mode]` without the modes at the frame's borders."""
    grid = fields.reshape(*fields.shape[:-1], *grid_shape)[..., RIM:-RIM, RIM:-RIM]
    return grid.reshape(*fields.shape[:-1], -1)


def error_up_to_a_factor(measured: NDArray[Any], truth: NDArray[Any]) -> float:
    best = np.vdot(measured, truth) / np.vdot(measured, measured)
    return quality.relative_error(best * measured, truth)


def true_fields(
    bench: Bench, demodulator: Demodulator, patterns: NDArray[np.uint8]
) -> NDArray[np.complex64]:
    """What the demodulator would give without noise, `[pattern, mode]`."""
    frames = 2 * scene_of(bench).truth.holograms(patterns).real
    return demodulator(frames).reshape(len(patterns), -1)


def true_matrix(bench: Bench, setup: Setup) -> NDArray[np.complex64]:
    off = setup.layout.all_off()
    units = setup.layout.render(np.eye(setup.n_inputs, dtype=np.uint8))
    fields = true_fields(bench, setup.demodulator(), np.concatenate([units, off]))
    return (fields[:-1] - fields[-1]).T


def true_scale(bench: Bench, calibration: Calibration) -> float:
    """Modulus of T over the truth's, in the unit that the reference field is true in."""
    demodulator = calibration.demodulator()
    on = true_fields(bench, demodulator, bench.layout(1).all_on())
    of_T, of_reference = (
        abs(np.vdot(true, interior(seen, demodulator.grid_shape))) / np.vdot(true, true).real
        for true, seen in (
            (interior(true_matrix(bench, calibration).T, demodulator.grid_shape), calibration.T.T),
            (interior(on, demodulator.grid_shape), calibration.reference[None]),
        )
    )
    return float(of_T / of_reference)


def field_errors() -> list[Row]:
    rows = []
    for preset, pixel_format in (("quiet", "mono12"), ("realistic", "mono8")):
        for electrons in (20, 200, 1500):
            camera = {"pixel_format": pixel_format}
            with simulated_bench(preset, SEED, camera=camera) as bench:
                layout = bench.layout(100)
                bits = np.random.default_rng(0).integers(0, 2, (16, 100), np.uint8)
                patterns = layout.render(bits)
                bench.fit_exposure(patterns)
                carrier = find_carrier(bench.expose(patterns), saturation_level=None)
                demodulator = Demodulator(bench.settings.region.shape, carrier)
                bench.configure(
                    replace(bench.settings, exposure_us=set_electrons(bench, electrons))
                )
                frames = bench.expose(patterns)
                measured = demodulator(frames).reshape(len(frames), -1)
                truth = scene_of(bench).truth
                expected = true_fields(bench, demodulator, patterns)
                error = np.mean(
                    [
                        error_up_to_a_factor(*pair)
                        for pair in zip(
                            interior(measured, demodulator.grid_shape),
                            interior(expected, demodulator.grid_shape),
                            strict=True,
                        )
                    ]
                )
                unit = electrons_per_intensity(bench)
                reference = np.abs(truth.reference()) ** 2 * unit
                signal = np.abs(truth.fields(patterns)) ** 2 * unit
                light = reference.mean() + signal.mean() + pixel_noise(bench)
                fringes = truth.contrast**2 * (reference * signal).mean()
                limit = math.sqrt(math.pi * truth.radius**2 * light / fringes)
            rows.append(
                {
                    "preset": preset,
                    "format": pixel_format,
                    "electrons": electrons,
                    "error": float(error),
                    "shot limit": limit,
                    "over limit": float(error) / limit,
                }
            )
    return rows


def matrix_errors() -> list[Row]:
    rows = []
    shaken = {"phase_walk_rad": 0.02, "phase_jitter_rad": 0.1}
    for preset, n_inputs, repeats, scene in (
        ("quiet", 16, 1, {}),
        ("realistic", 16, 4, {}),
        ("realistic", 100, 1, {}),
        ("realistic", 256, 1, {}),
        ("realistic", 256, 1, shaken),
        ("rough", 100, 1, {}),
    ):
        with simulated_bench(preset, SEED, **scene) as bench:
            start = time.perf_counter()
            calibration = calibrate(bench, n_inputs, repeats=repeats)
            seconds = time.perf_counter() - start
            truth = true_matrix(bench, calibration)
            scale = true_scale(bench, calibration)
            exposures = bench.exposures
        grid = calibration.demodulator().grid_shape
        error = error_up_to_a_factor(interior(calibration.T.T, grid), interior(truth.T, grid))
        method = Method.of(DEFAULT_METHOD, n_inputs, repeats=repeats)
        theory = method.expected_error(calibration.quality.snr)
        rows.append(
            {
                "preset": preset + (", shaken" if scene else ""),
                "inputs": n_inputs,
                "repeats": repeats,
                "SNR": calibration.quality.snr,
                "error": error,
                "over theory": error / theory,
                "scale": scale,
                "held-out corr.": calibration.quality.held_out_correlation,
                "split-half": calibration.quality.split_half,
                "exposures": exposures,
                "seconds": seconds,
            }
        )
    return rows


def expected_projection_error(
    bench: Bench, calibration: Calibration, codes: NDArray[np.int64]
) -> float:
    truth = scene_of(bench).truth
    unit = electrons_per_intensity(bench)
    reference = np.abs(truth.reference()) ** 2
    halves = np.concatenate([codes > 0, codes < 0]).astype(np.uint8)
    shown = np.abs(truth.fields(calibration.layout.render(halves))) ** 2
    light = 2 * (reference + shown).mean() * unit + 2 * pixel_noise(bench)
    of_codes = np.tensordot(codes.astype(np.float32), truth.inputs(calibration.layout), 1)
    fringes = truth.contrast**2 * (reference * np.abs(of_codes) ** 2).mean() * unit**2
    return math.sqrt(calibration.demodulator().noise_gain * light / fringes)


def agreement(measured: torch.Tensor, predicted: torch.Tensor) -> tuple[float, float]:
    """Correlation and relative error of real outputs."""
    x, y = measured.double().flatten(), predicted.double().flatten()
    return float(x @ y / (x.norm() * y.norm())), float((x - y).norm() / y.norm())


def random_codes(rows: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).integers(-1, 2, (rows, 10)))


def projections() -> list[Row]:
    rows = []
    codes = random_codes(256)
    for preset, pixel_format, scene, name in (
        ("realistic", "mono8", {}, "realistic"),
        ("realistic", "mono12", {}, "realistic"),
        ("quiet", "mono12", {}, "quiet"),
        ("quiet", "mono12", STILL | {"pixel_fill": 0.0}, "quiet, still, point pixels"),
    ):
        for electrons in (5, 10, 20, 50, 200, 2000):
            row: Row = {"bench": name, "format": pixel_format, "electrons": electrons}
            camera = {"pixel_format": pixel_format}
            with simulated_bench(preset, SEED, camera=camera, **scene) as bench:
                calibration = calibrate(bench, 10)
                exposure_us = set_electrons(bench, electrons)
                projector = OpticalProjector(
                    bench, calibration, exposure_us=exposure_us, min_fidelity=0.0
                )
                try:
                    projected = projector.project(codes)
                except OpuError as error:
                    rows.append(row | {"refused": type(error).__name__})
                    continue
                theory = expected_projection_error(bench, calibration, codes.numpy())
            correlation, error = agreement(projected, calibration.twin().project(codes))
            rows.append(
                row
                | {
                    "correlation": correlation,
                    "theory": 1 / math.sqrt(1 + theory**2),
                    "error": error,
                    "over theory": error / theory,
                }
            )
    return rows


def walks() -> list[Row]:
    rows = []
    for interval in (0, 64, 32, 16, 8):
        with simulated_bench("realistic", SEED, phase_walk_rad=0.02) as bench:
            calibration = calibrate(bench, 10)
            projector = OpticalProjector(bench, calibration, reference_interval=interval)
            twin = calibration.twin()
            parts = [random_codes(128, seed) for seed in range(12)]
            projected = torch.cat([projector.project(part) for part in parts])
            correlation, error = agreement(projected, twin.project(torch.cat(parts)))
            totals = projector.totals()
            travelled = float(np.ptp(scene_of(bench).truth.phases))
        share = totals["reference_exposures"] / (
            totals["exposures"] + totals["reference_exposures"]
        )
        rows.append(
            {
                "interval": interval or "markers alone",
                "correlation": correlation,
                "error": error,
                "share of references": share,
                "phase travelled / rad": travelled,
            }
        )
    return rows


def others() -> list[Row]:
    rows: list[Row] = []
    clear = (35 / 128, 34 / 128)
    for name, scene in (("ideal", {}), ("ideal, carrier (35, 34)/128", {"carrier": clear})):
        with simulated_bench("ideal", SEED, **scene) as bench:
            bench.configure(replace(bench.settings, exposure_us=1000.0))
            calibration = calibrate(bench, 10, fit_exposure=False)
            value = calibration.quality.linearity
            rows.append({"what": f"linearity, {name}", "value": value, "wanted": "<= 1e-5"})
    misses = []
    for seed in range(10):
        camera = {"pixel_format": "mono12"}
        with simulated_bench("quiet", seed, camera=camera) as bench:
            bench.configure(replace(bench.settings, exposure_us=set_electrons(bench, 20)))
            bits = np.random.default_rng(seed).integers(0, 2, (1, 100), np.uint8)
            frames = bench.expose(bench.layout(100).render(bits))
            black_level = bench.camera.black_level
            found = find_carrier(frames, saturation_level=None, black_level=black_level)
            true = scene_of(bench).truth.carrier
            misses.append(math.hypot(found.row - true[0], found.column - true[1]))
    rows.append(
        {
            "what": "carrier, one frame, 20 electrons, worst of 10 / bins",
            "value": 128 * max(misses),
            "wanted": "blind",
        }
    )
    return rows


def best_of(repeats: int, act: Callable[[], object]) -> float:
    taken = []
    for _ in range(repeats):
        start = time.perf_counter()
        act()
        taken.append(time.perf_counter() - start)
    return min(taken)


def costs() -> list[Row]:
    rows = []
    with simulated_bench("realistic", SEED) as bench:
        calibration = calibrate(bench, 10)
        projector = OpticalProjector(bench, calibration)
        demodulate = calibration.demodulator()
        for n in (10, 64, 128, 512):
            codes = random_codes(n)
            codes[:, 0] = 1
            bits = np.stack([codes.numpy() > 0, codes.numpy() < 0], axis=1).reshape(-1, 10)
            patterns = calibration.layout.render(bits.astype(np.uint8))

            def by_hand(patterns: NDArray[np.uint8] = patterns) -> None:
                for sequence in bench.stream([patterns]):
                    demodulate(sequence.frames)
                    demodulate(sequence.markers)

            plain = best_of(10, by_hand)
            whole = best_of(10, lambda codes=codes: projector.project(codes))
            rows.append(
                {
                    "rows": n,
                    "exposures": 2 * n,
                    "project / ms": 1e3 * whole,
                    "over bench + demodulation": whole / plain,
                }
            )
    return rows


def table(title: str, rows: list[Row]) -> str:
    columns = list(dict.fromkeys(key for row in rows for key in row))
    cells = [[_cell(row.get(column, "")) for column in columns] for row in rows]
    widths = [max(map(len, column)) for column in zip(columns, *cells, strict=True)]
    lines = ["  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)) for line in cells]
    head = "  ".join(c.ljust(w) for c, w in zip(columns, widths, strict=True))
    return "\n".join([title, head, *lines, ""])


def _cell(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    results = {}
    for name, measure in (
        ("Field", field_errors),
        ("Matrix", matrix_errors),
        ("Projections", projections),
        ("Walk of 0.02 rad a frame", walks),
        ("Others", others),
        ("Cost", costs),
    ):
        results[name] = measure()
        print(table(name, results[name]))
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
