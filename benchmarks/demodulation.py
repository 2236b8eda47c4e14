"""How fast frames become fields, and how true they are.

    python -m benchmarks.demodulation [--json FILE]

Speeds stand beside two references timed in the same run, on the same 8-bit frames: reading every
byte once (the bound that memory sets), and the plain way, a full complex Fourier transform of each
frame in double precision. Threads: one, and as many as `--workers`.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from calibration.carrier import Carrier
from calibration.demodulation import Demodulator

CARRIER = Carrier(0.2713, 0.2536, 0.0, 0.0, 0.12, 0.0)
SIZES = (
    ((128, 128), 128),
    ((256, 256), 64),
    ((512, 512), 16),
    ((1024, 1024), 4),
    ((1088, 2048), 4),
)


def seconds(work: Callable[[], object], repeats: int = 7) -> float:
    """The shortest of some runs, the first of which is not counted."""
    work()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


def full_transform(frames: NDArray[np.uint8], demodulator: Demodulator) -> NDArray[np.complex128]:
    """Fields by whole complex transforms and a sharp disc."""
    d = demodulator.decimation
    row = scipy.fft.fftfreq(frames.shape[1])[:, None] - CARRIER.row
    column = scipy.fft.fftfreq(frames.shape[2]) - CARRIER.column
    spectra = scipy.fft.fft2(frames.astype(complex)) * (np.hypot(row, column) <= CARRIER.radius)
    fields: NDArray[np.complex128] = scipy.fft.ifft2(spectra)[:, ::d, ::d]
    return fields


def speeds(workers: int) -> list[dict[str, object]]:
    rng = np.random.default_rng(0)
    rows = []
    for shape, count in SIZES:
        frames = rng.integers(0, 256, (count, *shape), dtype=np.uint8)
        demodulator = Demodulator(shape, CARRIER)
        one = count / seconds(lambda f=frames, d=demodulator: d(f))
        with scipy.fft.set_workers(workers):
            several = count / seconds(lambda f=frames, d=demodulator: d(f))
        some = frames[: max(1, count // 8)]
        plain = len(some) / seconds(lambda f=some, d=demodulator: full_transform(f, d), 3)
        read = count / seconds(lambda f=frames: np.bitwise_xor.reduce(f.view(np.uint64), axis=None))
        rows.append(
            {
                "frame": f"{shape[0]} x {shape[1]}",
                "modes": demodulator.n_modes,
                "frames_per_s": one,
                f"frames_per_s_{workers}_threads": several,
                "ratio_to_full_transform": one / plain,
                "ratio_to_reading": one / read,
            }
        )
    return rows


def errors() -> list[dict[str, object]]:
    """Relative error of the field against the true one, for speckle cropped from a larger field."""
    rng = np.random.default_rng(1)
    size, electrons, ratio = 512, 2000.0, 4.0
    large = 700
    modes = np.hypot(scipy.fft.fftfreq(large)[:, None], scipy.fft.fftfreq(large)) < CARRIER.radius
    spectrum = np.where(modes, rng.normal(size=modes.shape) + 1j * rng.normal(size=modes.shape), 0)
    speckle = scipy.fft.ifft2(spectrum)[:size, :size]
    speckle *= np.sqrt(electrons / (1 + ratio) / np.mean(np.abs(speckle) ** 2))
    reference = np.sqrt(electrons * ratio / (1 + ratio))
    i, j = np.ogrid[:size, :size]
    tilt = np.exp(2j * np.pi * (CARRIER.row * i + CARRIER.column * j))
    light = np.abs(reference + speckle * tilt) ** 2
    demodulator = Demodulator((size, size), CARRIER)
    d = demodulator.decimation
    truth = reference * speckle[::d, ::d]
    rows = []
    for name, frame in (("noise-free", light), ("shot noise", rng.poisson(light))):
        difference = demodulator(frame[None])[0] - truth
        for border in (0, 32, 64):
            inside = np.s_[border // d : (size - border) // d, border // d : (size - border) // d]
            error = np.sqrt(np.mean(np.abs(difference[inside]) ** 2))
            limit = np.sqrt(np.pi * CARRIER.radius**2 * electrons)
            rows.append(
                {
                    "frame": name,
                    "border_left_out_pixels": border,
                    "relative_error": float(error / np.sqrt(np.mean(np.abs(truth) ** 2))),
                    "error_over_shot_limit": float(error / limit),
                }
            )
    return rows


def show(rows: list[dict[str, object]]) -> None:
    cells = [[*rows[0]]] + [
        [f"{v:.3g}" if isinstance(v, float) and v < 100 else f"{v:.0f}" if isinstance(v, float)
         else str(v) for v in row.values()]
        for row in rows
    ]  # fmt: skip
    widths = [max(len(line[k]) for line in cells) for k in range(len(cells[0]))]
    for line in cells:
        print("  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)))
    print()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    parser.add_argument("--workers", type=int, default=2, help="threads of the second column")
    arguments = parser.parse_args()
    tables = {"speeds": speeds(arguments.workers), "errors": errors()}
    for rows in tables.values():
        show(rows)
    if arguments.json:
        arguments.json.write_text(json.dumps(tables, indent=2) + "\n")


if __name__ == "__main__":
    main()
