"""Fields without a tilt, and linear outputs without a reference: measured, and what theory says.

    python -m benchmarks.phase_retrieval [--json FILE] [--only TABLE]

- Phase stepping: error of the field (four steps) and of its real part (two) against the truth, over
  sqrt(v g / (N_R N_S)), on speckle too fine for any carrier; away from the frame's borders.
- Matrix: error of T by Hadamard pairs of stepped fields, see calibration/stepped_matrix.py, on a
  bench that stands still and on one whose phase walks or jitters.
- Wrong steps: what they leave of the twin, as assumed and when they are measured.
- Rows: how many rows of T are found from intensities alone, and how true; Gaussian rows, and pixels
  of the simulated bench with its noise.
- Anchors: error of real linear outputs of ternary codes, over their budget.
- Scale: how fast fields of a million outputs follow from their frames, on one core.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.calibration import (
    STILL,
    Row,
    electrons_per_intensity,
    error_up_to_a_factor,
    interior,
    pixel_noise,
    scene_of,
    set_electrons,
    table,
)
from benchmarks.virtual_bench import best_of
from calibration.anchors import Anchor, AnchorBudget
from calibration.phase_retrieval import AmbiguousRows, expected_error, retrieve_rows
from calibration.phase_stepping import (
    FOUR_STEPS,
    TWO_STEPS,
    SteppedDemodulator,
    measure_steps,
    twin_share,
)
from calibration.stepped_matrix import stepped_matrix
from calibration.stepped_reference import SteppedReference, stepped_fields
from opu_driver import simulated_bench
from opu_driver.bench import Bench
from opu_driver.modulator import Patterns

SEED = 1
SENSOR = (96, 96)
MIRRORS = (72, 64)
REFERENCE_ROWS = 8
RADIUS = 0.24  # two pixels a grain: its orders overlap wherever a carrier is


def on_axis(preset: str = "quiet", **scene: Any) -> Bench:
    return simulated_bench(
        preset,
        SEED,
        modulator={"shape": MIRRORS},
        camera={"sensor_shape": SENSOR, "pixel_format": "mono12"},
        carrier=(0.0, 0.0),
        speckle_radius=RADIUS,
        reference_rows=REFERENCE_ROWS,
        **scene,
    )


def true_holograms(
    bench: Bench, reference: SteppedReference, signal: Patterns
) -> NDArray[np.float32]:
    """The part of noise-free frames that the reference's phase moves, `[pattern x step, ...]`."""
    scene = scene_of(bench)
    shown = reference.patterns(signal)
    phasors = scene.optics().reference_arm.amplitudes(shown, np.arange(len(shown)))
    fields = np.repeat(scene.truth.holograms(reference.dark(signal)), len(reference.turns), axis=0)
    frames: NDArray[np.float32] = 2 * (phasors.conj()[:, None, None] * fields).real
    return frames


def signal_to_noise(bench: Bench, gain: float, signal: Patterns) -> float:
    """N_R N_S / (v g) of a field."""
    truth = scene_of(bench).truth
    unit = electrons_per_intensity(bench)
    lit = unit * float(np.mean(np.abs(truth.fields(signal)) ** 2))
    reference = unit * float(np.mean(np.abs(truth.reference()) ** 2))
    return reference * lit / ((reference + lit + pixel_noise(bench)) * gain)


def stepping() -> list[Row]:
    rows = []
    for turns in (FOUR_STEPS, TWO_STEPS):
        for electrons in (20, 200, 1500):
            with on_axis(**STILL) as bench:
                reference = SteppedReference.on(bench, REFERENCE_ROWS, turns=turns)
                bits = np.random.default_rng(0).integers(0, 2, (16, 64), np.uint8)
                signal = reference.layout(64).render(bits)
                exposure_us = set_electrons(bench, electrons)
                bench.configure(replace(bench.settings, exposure_us=exposure_us))
                demodulate = SteppedDemodulator(SENSOR, turns, radius=RADIUS)
                (found,) = stepped_fields(bench, reference, demodulate, [signal])
                truth = demodulate(true_holograms(bench, reference, signal))
                snr = signal_to_noise(bench, demodulate.noise_gain, reference.dark(signal))
            if len(turns) == 2:
                snr /= 2  # half of the field's power is in its real part
            grid = demodulate.grid_shape
            error = error_up_to_a_factor(
                interior(found, grid), interior(truth.reshape(found.shape), grid)
            )
            rows.append(
                {
                    "steps": len(turns),
                    "electrons": electrons,
                    "outputs a grain": demodulate.n_outputs / (math.prod(SENSOR) * 4 * RADIUS**2),
                    "outputs a pixel": demodulate.n_outputs / math.prod(SENSOR),
                    "error": error,
                    "theory": 1 / math.sqrt(snr),
                    "over theory": error * math.sqrt(snr),
                }
            )
    return rows


def matrices() -> list[Row]:
    rows = []
    walking = STILL | {"phase_walk_rad": 0.01}
    shaken = STILL | {"phase_jitter_rad": 0.05}
    for n_inputs, kind, scene in (
        (64, "still", STILL),
        (256, "still", STILL),
        (256, "walk 0.01 rad", walking),
        (256, "jitter 0.05 rad", shaken),
    ):
        with on_axis(**scene) as bench:
            reference = SteppedReference.on(bench, REFERENCE_ROWS)
            layout = reference.layout(n_inputs)
            exposure_us = set_electrons(bench, 400)
            bench.configure(replace(bench.settings, exposure_us=exposure_us))
            demodulate = SteppedDemodulator(SENSOR, radius=RADIUS)
            found = stepped_matrix(bench, reference, demodulate, n_inputs)
            off = true_holograms(bench, reference, layout.all_off())
            units = true_holograms(
                bench, reference, layout.render(np.eye(n_inputs, dtype=np.uint8))
            )
            truth = demodulate(units - np.tile(off, (n_inputs, 1, 1))).reshape(n_inputs, -1)
            bits = np.random.default_rng(0).integers(0, 2, (16, n_inputs), np.uint8)
            half_lit = reference.dark(layout.render(bits))
            snr = signal_to_noise(bench, demodulate.noise_gain, half_lit)
        grid = demodulate.grid_shape
        error = error_up_to_a_factor(interior(found.T.T, grid), interior(truth, grid))
        theory = math.sqrt(1 / snr + scene["phase_jitter_rad"] ** 2 / 4)
        rows.append(
            {
                "inputs": n_inputs,
                "phase": kind,
                "SNR": snr,
                "error": error,
                "theory": theory,
                "over theory": error / theory,
                "correlation": 1 / math.sqrt(1 + error**2),
                "as it says": found.split_half,
            }
        )
    return rows


def wrong_steps() -> list[Row]:
    """The grating moves by one column of eight more or less than it should."""
    rows = []
    for shown in ((0.0, 0.25, 0.5, 0.625), (0.0, 0.125, 0.5, 0.75)):
        with on_axis(**STILL) as bench:
            reference = SteppedReference.on(bench, REFERENCE_ROWS, turns=shown)
            bits = np.random.default_rng(0).integers(0, 2, (64, 256), np.uint8)
            signal = reference.layout(256).render(bits)
            bench.fit_exposure(np.concatenate([reference.patterns(signal[:4])]))
            frames = bench.expose(reference.patterns(signal))
            steps = measure_steps(frames, black_level=bench.camera.black_level)
            truth = true_holograms(bench, reference, signal)
        for name, assumed in (("as assumed", FOUR_STEPS), ("as measured", steps.turns)):
            demodulate = SteppedDemodulator(SENSOR, assumed, radius=RADIUS)
            field = SteppedDemodulator(SENSOR, shown, radius=RADIUS)(truth).ravel()
            found = demodulate(frames).ravel()
            own, twin = np.linalg.lstsq(np.stack([field, field.conj()], axis=1), found)[0]
            rows.append(
                {
                    "shown / turns": " ".join(f"{turn:g}" for turn in shown),
                    "steps": name,
                    "largest error / turns": float(np.abs(np.subtract(assumed, shown)).max()),
                    "told error / turns": steps.uncertainty_turns,
                    "twin": float(abs(twin / own)),
                    "theory": twin_share(assumed, shown),
                }
            )
    return rows


def up_to_ambiguity(rows: AmbiguousRows, truth: NDArray[Any]) -> NDArray[np.float64]:
    """Correlation of rows with true ones, whatever their phase and conjugation."""
    own = rows.representatives
    norms = np.linalg.norm(own, axis=1) * np.linalg.norm(truth, axis=1)
    ways = [np.abs(np.sum(way.conj() * truth, axis=1)) for way in (own, own.conj())]
    correlation: NDArray[np.float64] = np.max(ways, axis=0) / norms
    return correlation


def _row(kind: str, found: AmbiguousRows, truth: NDArray[Any], theory: float, **more: Any) -> Row:
    reached = up_to_ambiguity(found, truth)
    error = math.sqrt(max(1 / float(np.median(reached)) ** 2 - 1, 0.0))
    return {
        "rows": kind,
        **more,
        "share above 0.95": float(np.mean(reached > 0.95)),
        "median correlation": float(np.median(reached)),
        "median error": error,
        "theory": theory,
    }


def retrieved() -> list[Row]:
    rows = []
    for n_inputs, per_input, noise in (
        (64, 4, 0.1),
        (64, 5, 0.1),
        (64, 8, 0.1),
        (256, 5, 0.1),
        (256, 5, 0.0),
    ):
        rng = np.random.default_rng(SEED)
        parts = rng.standard_normal((2, 200, n_inputs))
        truth = parts[0] + 1j * parts[1]
        bits = rng.integers(0, 2, (per_input * n_inputs, n_inputs), np.uint8)
        intensities = np.abs(bits @ truth.T) ** 2
        intensities *= 1 + noise * rng.standard_normal(intensities.shape)
        found = retrieve_rows(bits, intensities, seed=SEED)
        theory = expected_error(noise, len(bits), n_inputs)
        rows.append(
            _row(
                "Gaussian", found, truth, theory, inputs=n_inputs, per_input=per_input, noise=noise
            )
        )
    return rows + [from_the_bench(per_input) for per_input in (5, 8)]


def from_the_bench(per_input: int, n_inputs: int = 63) -> Row:
    """Pixels of the simulated bench, its reference blocked, with all its noise and static light."""
    camera = {"pixel_format": "mono12"}
    with simulated_bench("quiet", SEED, camera=camera, reference_ratio=0.0) as bench:
        layout = bench.layout(n_inputs)
        count = per_input * (n_inputs + 1)
        bits = np.random.default_rng(0).integers(0, 2, (count, n_inputs), np.uint8)
        patterns = layout.render(bits)
        bench.fit_exposure(patterns[:16], mean_fraction=0.08)
        frames = bench.expose(patterns)[:, 4::8, 4::8].reshape(count, -1)
        black = bench.camera.black_level
        usable = (frames < bench.camera.saturation_level).all(axis=0)
        usable &= frames.mean(axis=0) > 1.5 * black
        intensities = frames[:, usable] - np.float64(black)
        truth = scene_of(bench).truth.inputs(layout)[:, 4::8, 4::8].reshape(n_inputs, -1).T[usable]
        found = retrieve_rows(bits, intensities, seed=SEED, background=True)
        electrons = intensities.mean() / bench.camera._converter.gain
        noise = noise_of_moduli(electrons, pixel_noise(bench))
    theory = expected_error(noise, count, n_inputs + 1)
    return _row("bench", found, truth, theory, inputs=n_inputs, per_input=per_input, noise=noise)


def noise_of_moduli(electrons: float, variance: float) -> float:
    """The relative noise of intensities that moduli bear as they do photons and read noise."""
    rng = np.random.default_rng(SEED)
    true = rng.exponential(electrons, 100_000)
    seen = rng.poisson(true) + math.sqrt(variance) * rng.standard_normal(true.size)
    missed = np.sqrt(np.maximum(seen, 0)) - np.sqrt(true)
    return math.sqrt(4 * float(np.mean(missed**2)) / electrons)


def anchored() -> list[Row]:
    rows = []
    n_inputs = 256
    for n_anchor in (32, 128):
        for electrons in (50, 500):
            with simulated_bench(
                "quiet",
                SEED,
                camera={"pixel_format": "mono12"},
                reference_ratio=0.0,
                decorrelation=0.0,
            ) as bench:
                exposure_us = set_electrons(bench, electrons)
                bench.configure(replace(bench.settings, exposure_us=exposure_us))
                codes = np.random.default_rng(0).integers(-1, 2, (48, n_inputs))
                found = Anchor(bench, n_inputs, n_anchor).outputs(codes)
                scene = scene_of(bench)
                T = scene.truth.inputs(bench.layout(n_inputs + n_anchor)).reshape(
                    n_inputs + n_anchor, -1
                )
                unit = electrons_per_intensity(bench)
                settings = bench.settings
                settings_of_scene = scene.settings
                grey = settings_of_scene.full_well_electrons / (2**settings.pixel_format.bits - 1)
            anchor = T[n_inputs:].sum(axis=0)
            truth = 2 * (anchor.conj() * (codes @ T[:n_inputs])).real
            light = unit * float(np.mean(np.abs(T[:n_inputs]) ** 2))
            lit = light * n_inputs / 3
            own = unit * float(np.mean(np.abs(anchor) ** 2))
            budget = AnchorBudget(
                (lit + own, lit, lit + own, lit),
                anchor=own,
                signal=2 * lit,
                read=settings_of_scene.read_noise_electrons,
                grey_value=grey,
                laser_noise=settings_of_scene.laser_noise,
            )
            error = error_up_to_a_factor(found, truth)
            rows.append(
                {
                    "inputs": n_inputs,
                    "anchor": n_anchor,
                    "electrons": electrons,
                    "error": error,
                    "theory": budget.relative_error,
                    "over theory": error / budget.relative_error,
                    "correlation": 1 / math.sqrt(1 + error**2),
                }
            )
    return rows


def scale() -> list[Row]:
    """Time of a field beside that of reading its frames' bytes once, in one run."""
    rows = []
    for shape in ((1024, 1088), (2048, 2048)):
        frames = np.random.default_rng(0).integers(0, 256, (4, *shape), np.uint8)
        for turns, radius in ((FOUR_STEPS, RADIUS), (FOUR_STEPS, None), (TWO_STEPS, RADIUS)):
            some = frames[: len(turns)]
            demodulate = SteppedDemodulator(shape, turns, radius=radius)
            read = best_of(partial(np.add.reduce, some.reshape(-1).view(np.uint64)), 0.3)
            taken = best_of(partial(demodulate, some), 1.0)
            rows.append(
                {
                    "sensor": "{} x {}".format(*shape),
                    "steps": len(turns),
                    "low pass": "no" if radius is None else f"r = {radius:g}",
                    "outputs": demodulate.n_outputs,
                    "fields/s": 1 / taken,
                    "outputs/s": demodulate.n_outputs / taken,
                    "of reading": read / taken,
                }
            )
    return rows


TABLES: dict[str, Callable[[], list[Row]]] = {
    "Phase stepping": stepping,
    "Matrix": matrices,
    "Wrong steps": wrong_steps,
    "Rows": retrieved,
    "Anchors": anchored,
    "Scale": scale,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    parser.add_argument("--only", choices=TABLES, help="one table alone")
    arguments = parser.parse_args()
    results: dict[str, list[Row]] = {}
    for name, measure in TABLES.items():
        if arguments.only in (None, name):
            results[name] = measure()
            print(table(name, results[name]), flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
