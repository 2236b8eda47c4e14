"""What becomes of benches that are wrong, and how a calibration's figures stand beside theory.

    python -m benchmarks.quality [--json FILE] [--only TABLE]

- Bad benches: each fault with the error that refuses it, and what that says of figure and limit.
- Figures: of good benches, over or beside what theory expects of them at their signal to noise:
  held-out error and split-half correlation by noise alone, linearity by noise alone, distances kept
  to 1 / sqrt(effective modes), singular values by the law of Marchenko and Pastur.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.calibration import Row, table
from calibration.pipeline import calibrate
from opu_driver import simulated_bench
from opu_driver.bench import Bench, Sequence
from opu_driver.errors import OpuError

SEED = 1
CARRIER = (0.2713, 0.2664)  # of the presets
Frames = NDArray[Any]


@contextmanager
def seen_through(bench: Bench, change: Callable[[Frames, int], Frames]) -> Iterator[None]:
    """Let a bench see other frames: `change` is told how many sequences there were before."""
    stream, shown = bench.stream, [0]

    def changed(batches: Any) -> Iterator[Sequence]:
        for sequence in stream(batches):
            number, shown[0] = shown[0], shown[0] + 1
            yield Sequence(
                change(sequence.frames, number),
                sequence.ids,
                sequence.timestamps_us,
                sequence.lost,
                markers=change(sequence.markers, number),
            )

    vars(bench)["stream"] = changed
    try:
        yield
    finally:
        del vars(bench)["stream"]


def drowned(frames: Frames, number: int) -> Frames:
    """Noise in place of the patterns' light, once the carrier was found; the markers are real."""
    if not number:
        return frames
    noisy = np.random.default_rng(number).normal(60, 12, frames.shape)
    marked = noisy + (frames - frames.mean()) * (len(frames) == 3)
    return np.clip(np.rint(marked), 0, 255).astype(np.uint8)


def dead(frames: Frames, _: int) -> Frames:
    """Three pixels in a hundred that never change."""
    some = np.random.default_rng(1).random(frames.shape[1:]) < 0.03
    return np.where(some, 6, frames).astype(frames.dtype)


def shaded(frames: Frames, number: int) -> Frames:
    """Read noise alone on half of the sensor."""
    shadow = frames.copy()
    shadow[:, :60] = np.random.default_rng([2, number]).integers(4, 9, shadow[:, :60].shape)
    return shadow


def _unchanged(frames: Frames, _: int) -> Frames:
    return frames


SCENES: dict[str, tuple[dict[str, Any], Callable[[Frames, int], Frames] | None, float]] = {
    # fault: scene, what the camera makes of it, factor of the exposure
    "no reference": ({"reference_ratio": 0.0}, None, 1.0),
    "next to no signal": ({"reference_ratio": 5e3}, None, 1.0),
    "tilt too large": ({"carrier": (0.45, 0.2)}, None, 1.0),
    "tilt too small": ({"carrier": (0.17, 0.17)}, None, 1.0),
    "fringes that vary from row to row alone": ({"carrier": (0.37, 0.0)}, None, 1.0),
    "grain of 1.7 pixels": ({"speckle_radius": 0.3}, None, 1.0),
    "exposure five times too long": ({}, None, 5.0),
    "noise in place of light": ({}, drowned, 1.0),
    "3 % dead pixels": ({}, dead, 1.0),
    "half of the sensor in shadow": ({}, shaded, 1.0),
    "fringes that turn over": (
        {"faults": {"carrier_jumps": [(200, -CARRIER[0], -CARRIER[1])] * 2}},
        None,
        1.0,
    ),
    "carrier that jumps": ({"faults": {"carrier_jumps": [(300, 0.0013, 0.0)]}}, None, 1.0),
    "medium that changes": ({"decorrelation": 1e-4}, None, 1.0),
}


def bad_benches() -> list[Row]:
    rows: list[Row] = []
    for fault, (scene, change, brighter) in SCENES.items():
        with simulated_bench("realistic", SEED, **scene) as bench:
            if brighter != 1:
                bench.fit_exposure(bench.layout(1).all_on())
                exposure_us = brighter * bench.settings.exposure_us
                bench.configure(replace(bench.settings, exposure_us=exposure_us))
            try:
                with seen_through(bench, change or _unchanged):
                    calibrate(bench, 10, fit_exposure=brighter == 1)
                error, told = "ACCEPTED", ""
            except OpuError as refusal:
                error, told = type(refusal).__name__, str(refusal)
        rows.append({"bench": fault, "error": error, "told": _first_figure(told)})
    return rows


def _first_figure(told: str) -> str:
    """The part of a message that has its number and the limit."""
    start = told.find("not good enough: ")
    told = told[start + len("not good enough: ") :] if start >= 0 else told
    end = told.find(", ", told.find(")")) if start >= 0 else told.find(". ")
    return told[: end if end > 0 else None][:150]


def figures() -> list[Row]:
    rows: list[Row] = []
    for preset, n_inputs in (("quiet", 10), ("quiet", 48), ("realistic", 10), ("realistic", 48)):
        with simulated_bench(preset, SEED) as bench:
            q = calibrate(bench, n_inputs, repeats=4).quality
        kept = 1 / math.sqrt(q.effective_modes)
        rows.append(
            {
                "bench": preset,
                "inputs": n_inputs,
                "signal to noise": q.snr,
                "held-out error": q.held_out_error,
                "over theory": q.held_out_error / q.held_out_noise,
                "1 - split half": 1 - q.split_half,
                "over theory ": (1 - q.split_half) / (1 - 1 / math.sqrt(1 + q.matrix_noise**2)),
                "linearity": q.linearity,
                "over theory  ": q.linearity / q.linearity_noise,
                "distances": q.distance_scatter,
                "over 1/sqrt(M)": q.distance_scatter / kept,
                "law deviation": q.law_deviation,
                "over 1/sqrt(M) ": q.law_deviation / kept,
            }
        )
    return rows


TABLES: dict[str, Callable[[], list[Row]]] = {"bad benches": bad_benches, "figures": figures}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    parser.add_argument("--only", choices=TABLES, help="one table")
    arguments = parser.parse_args()
    logging.getLogger("opu").setLevel(logging.ERROR)
    tables = {}
    for name in [arguments.only] if arguments.only else list(TABLES):
        tables[name] = TABLES[name]()
        print(table(name, tables[name]))
    if arguments.json:
        arguments.json.write_text(json.dumps(tables, indent=2) + "\n")


if __name__ == "__main__":
    main()
