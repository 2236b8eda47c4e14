"""How precise the carrier is, against what was asked for, and whether its uncertainty is true.

    python -m benchmarks.carrier [--json FILE] [--quick]

- Speckle: errors of a blind search in cropped speckle holograms, their rms over the stated standard
  deviations (1 is honest), and the time a search takes, as a multiple of one two-dimensional
  transform of the same frames. The radius is compared to that of the disc that the speckle was made
  of, whose edge follows a grid: the disc of equal area.
- Tones: rms error over the Cramer-Rao bound; a ratio from 72 trials has an error of 6 %.
- Holograms: the tones of measured ones (needs OPU_DATA), in Hann's window.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import time
from pathlib import Path

import numpy as np
import scipy.fft
from numpy.typing import NDArray
from PIL import Image

from calibration.carrier import find_carrier
from calibration.tone import find_tone, frequency_bound

RADIUS, RATIO = 0.12, 4.0
SPECKLE = (
    # pixels, frames, electrons, read noise, trials
    (128, 1, 20.0, 2.5, 60),
    (128, 1, 20.0, 13.0, 60),
    (128, 1, 2000.0, 13.0, 60),
    (128, 1, 20000.0, 2.5, 60),
    (128, 8, 2000.0, 13.0, 30),
    (512, 1, 200.0, 13.0, 24),
    (512, 1, 2000.0, 13.0, 24),
    (1024, 1, 200.0, 13.0, 12),
    (1024, 1, 2000.0, 13.0, 12),
    (1024, 10, 200.0, 13.0, 3),
)


def true_radius(size: int) -> float:
    """Radius of the disc that has the area of the modes in `speckle_frames`."""
    large = int(1.37 * size)
    frequency = scipy.fft.fftfreq(large)
    modes = int(np.sum(np.hypot(frequency[:, None], frequency) < RADIUS))
    return math.sqrt(modes / math.pi) / large


def speckle_frames(
    rng: np.random.Generator, size: int, count: int, carrier: NDArray[np.float64],
    electrons: float, read: float,
) -> NDArray[np.float32]:  # fmt: skip
    """Frames of speckle cropped from a larger field, a Gaussian reference, shot and read noise."""
    large = int(1.37 * size)
    frequency = scipy.fft.fftfreq(large)
    modes = np.hypot(frequency[:, None], frequency) < RADIUS
    i, j = np.ogrid[:size, :size]
    tilt = np.exp(2j * np.pi * (carrier[0] * i + carrier[1] * j))
    profile = np.exp(-((i / size - 0.5) ** 2 + (j / size - 0.5) ** 2) / 9 * 4)
    reference = np.sqrt(electrons * RATIO / (1 + RATIO)) * profile / np.sqrt(np.mean(profile**2))
    frames = np.empty((count, size, size), np.float32)
    for frame in frames:
        spectrum = np.zeros((large, large), complex)
        spectrum[modes] = rng.normal(size=modes.sum()) + 1j * rng.normal(size=modes.sum())
        speckle = scipy.fft.ifft2(spectrum)[:size, :size]
        speckle *= np.sqrt(electrons / (1 + RATIO) / np.mean(np.abs(speckle) ** 2))
        light = np.abs(reference + speckle * tilt) ** 2
        frame[:] = rng.poisson(light) + rng.normal(0, read, light.shape)
    return frames


def of_speckle(quick: bool) -> list[dict[str, object]]:
    rows = []
    for size, count, electrons, read, trials in SPECKLE:
        errors, ratios, taken, transform = [], [], [], []
        for seed in range(max(2, trials // 6) if quick else trials):
            rng = np.random.default_rng([size, count, seed])
            carrier = np.array([0.2713, 0.2536]) + rng.uniform(-0.5, 0.5, 2) / size
            frames = speckle_frames(rng, size, count, carrier, electrons, read)
            start = time.perf_counter()
            found = find_carrier(frames, saturation_level=None)
            taken.append(time.perf_counter() - start)
            start = time.perf_counter()
            scipy.fft.fft2(frames)
            transform.append(time.perf_counter() - start)
            error = np.array([found.row, found.column, found.radius]) - [
                *carrier,
                true_radius(size),
            ]
            errors.append(error)
            ratios.append(error / [found.row_sigma, found.column_sigma, found.radius_sigma])
        rms = np.sqrt(np.mean(np.square(errors), axis=0))
        rows.append(
            {
                "pixels": f"{size} x {size}",
                "frames": count,
                "electrons": electrons,
                "read_noise": read,
                "carrier_rms": float(np.sqrt(np.mean(rms[:2] ** 2))),
                "radius_rms": float(rms[2]),
                "error_over_sigma": float(np.sqrt(np.mean(np.square(ratios)[:, :2]))),
                "radius_over_sigma": float(np.sqrt(np.mean(np.square(ratios)[:, 2]))),
                "time_over_one_transform": float(np.median(taken) / np.median(transform)),
            }
        )
    return rows


def of_tones(quick: bool) -> list[dict[str, object]]:
    rows = []
    for size, trials in ((256, 120), (512, 72), (1024, 72), (2048, 72)):
        for decibels in (-10, 10, 30):
            for name, near in (
                ("diagonal", (0.21, 0.17)),
                ("near an axis", (0.3, 0.003)),
                ("near both", (0.007, 0.009)),
            ):
                sigma = float(np.sqrt(0.5 / 10 ** (decibels / 10)))
                bound = np.array(frequency_bound(1.0, sigma, (size, size)))
                ratios = []
                for seed in range(max(3, trials // 6) if quick else trials):
                    rng = np.random.default_rng([size, decibels + 10, seed])
                    truth = np.array(near) + rng.uniform(-0.5, 0.5, 2) / size
                    turns = np.exp(2j * np.pi * truth[:, None] * np.arange(size))
                    image = np.outer(turns[0] * np.exp(1j * rng.uniform(-3, 3)), turns[1]).real
                    tone = find_tone(image + sigma * rng.standard_normal(image.shape))
                    ratios.append((np.array([tone.row, tone.column]) - truth) / bound)
                rows.append(
                    {
                        "pixels": f"{size} x {size}",
                        "signal_to_noise_db": decibels,
                        "carrier": name,
                        "rms_over_cramer_rao": float(np.sqrt(np.mean(np.square(ratios)))),
                    }
                )
    return rows


def of_holograms(quick: bool) -> list[dict[str, object]]:
    """Three phase-shifted holograms of one object, whose carrier is stated to 1e-6."""
    if quick or "OPU_DATA" not in os.environ:
        return [{"holograms": "left out" if quick else "OPU_DATA is not set"}]
    rows: list[dict[str, object]] = []
    for path in sorted((Path(os.environ["OPU_DATA"]) / "holograms").glob("Neuron_*.tif")):
        with Image.open(path) as file:
            tone = find_tone(np.asarray(file), taper=1.0)
        rows.append(
            {
                "hologram": path.name,
                "row": f"{tone.row:.8f}",
                "column": f"{tone.column:.8f}",
                "from stated": float(np.hypot(tone.row - 0.068213, tone.column - 0.068221)),
                "sigma": tone.row_sigma,
            }
        )
    return rows


def show(rows: list[dict[str, object]]) -> None:
    cells = [[*rows[0]]] + [
        [f"{v:.4g}" if isinstance(v, float) else str(v) for v in row.values()] for row in rows
    ]
    widths = [max(len(line[k]) for line in cells) for k in range(len(cells[0]))]
    for line in cells:
        print("  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)))
    print()


TABLES = {"speckle": of_speckle, "tones": of_tones, "holograms": of_holograms}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    parser.add_argument("--quick", action="store_true", help="a sixth of the trials")
    parser.add_argument("--only", choices=TABLES, help="one table")
    arguments = parser.parse_args()
    names = [arguments.only] if arguments.only else list(TABLES)
    tables = {}
    for name in names:
        tables[name] = TABLES[name](arguments.quick)
        show(tables[name])
    if arguments.json:
        arguments.json.write_text(json.dumps(tables, indent=2) + "\n")


if __name__ == "__main__":
    main()
