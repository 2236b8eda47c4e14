"""How fast the simulated bench is, what the cost grows with, and what limits it.

Every frame goes the whole way of the driver: patterns loaded, played, exposed with all noise of the
preset `realistic`, and read in batches. Beside each figure stand the work that it stands for and
what the machine could do at most, measured in the same run: float32 matrix products, and copies of
arrays that no cache holds; and the same frame in plain numpy.

    python benchmarks/virtual_bench.py [--json FILE] [--seconds 1] [--quick]
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from opu_driver.bench_file import build_bench, parse_bench
from opu_driver.virtual.parallel import processors

SMALL, LARGE = (128, 128), (1024, 1088)
CASES = [
    # What grows, sensor, inputs, frames in a batch.
    ("pixels", (64, 64), 10, 128),
    ("pixels", SMALL, 10, 128),
    ("pixels", (256, 256), 10, 128),
    ("pixels", (512, 512), 10, 64),
    ("pixels", LARGE, 10, 64),
    ("inputs", SMALL, 32, 128),
    ("inputs", SMALL, 64, 128),
    ("inputs", SMALL, 256, 128),
    ("inputs", SMALL, 1024, 128),
    ("inputs", LARGE, 64, 64),
    ("inputs", LARGE, 1024, 64),
]
RADII = [("modes", SMALL, 1024, 128, radius) for radius in (0.04, 0.08, 0.12)]


def best_of(work: Callable[[], object], seconds: float) -> float:
    """Shortest time of a call, seconds, over at least `seconds` of calls."""
    work()
    times = []
    while sum(times) < seconds or len(times) < 2:
        begin = time.perf_counter()
        work()
        times.append(time.perf_counter() - begin)
    return min(times)


def machine(seconds: float) -> dict[str, float]:
    """Arithmetic (float32 matrix product) and bandwidth (copy) that this machine reaches."""
    a, b = np.ones((2, 2048, 2048), np.float32)
    product = best_of(lambda: a @ b, seconds)
    source = np.ones(1 << 26, np.float32)
    target = np.empty_like(source)
    copy = best_of(lambda: np.copyto(target, source), seconds)
    return {
        "processors": processors(),
        "sgemm_gflop_s": 2e-9 * 2048**3 / product,
        "copy_gb_s": 2e-9 * source.nbytes / copy,
    }


def plain_numpy(seconds: float, batch: int = 32) -> float:
    """Frames a second of the small case in plain numpy, without drift of any kind."""
    rng = np.random.default_rng(0)
    pixels = math.prod(SMALL)
    fields = rng.standard_normal((10, 2 * pixels), np.float32).view(np.complex64) / 3
    bits = rng.integers(0, 2, (batch, 10)).astype(np.float32)
    reference = np.full(pixels, 2, np.complex64)

    def expose() -> np.ndarray:
        signal = (bits @ fields.view(np.float32)).view(np.complex64)
        light = 400 * np.abs(signal + reference) ** 2
        noise = rng.standard_normal(light.shape, np.float32)
        grey = 5 + (light + np.sqrt(light + 169) * noise) / 54
        return np.clip(np.rint(grey), 0, 255).astype(np.uint8)

    return batch / best_of(expose, seconds)


def measure(
    grows: str, sensor: tuple[int, int], n_inputs: int, batch: int, seconds: float, radius: float
) -> dict[str, Any]:
    described = {
        "idle_after_s": 1e6,  # an idle bench is dark, and dark frames cost something else
        "modulator": {"driver": "virtual-dmd"},
        "camera": {"driver": "virtual", "exposure_us": 100.0, "sensor_shape": sensor},
        "laser": {"driver": "virtual", "power_mw": 10.0},
        "scene": {"preset": "realistic", "seed": 1, "speckle_radius": radius},
    }
    with build_bench(parse_bench(described)) as bench:
        modulator, camera = bench.modulator, bench.camera
        rng = np.random.default_rng(0)
        patterns = bench.layout(n_inputs).render(rng.integers(0, 2, (batch, n_inputs), np.uint8))
        bench.expose(patterns)  # turns the light on, too

        def run() -> None:
            modulator.load(patterns)
            camera.arm(batch)
            modulator.start(bench.rate_hz)
            left = batch
            while left:
                left -= len(camera.read(left, 10.0))
            camera.disarm()

        seconds_a_frame = best_of(run, seconds) / batch
        optics = camera._scene.optics()
        modes, sources = optics.medium.n_modes, optics.medium.n_sources
        summed = optics.mirrors.weights(patterns) is not None
    pixels, grid = math.prod(sensor), math.prod(optics.medium.grid)
    if summed:
        lit = n_inputs / 2 + 1
        flop = 4 * lit * pixels + 40 * pixels
        read = 8 * lit * pixels
    else:
        flop = 2 * 4 * sources * modes + 5 * grid * math.log2(grid) + 40 * pixels
        read = 2 * 8 * sources * modes / batch + 16 * grid
    return {
        "grows": grows,
        "sensor": list(sensor),
        "inputs": n_inputs,
        "modes": modes,
        "way": "groups" if summed else "cells",
        "frames_s": 1 / seconds_a_frame,
        "ns_pixel": 1e9 * seconds_a_frame / pixels,
        "gflop_s": 1e-9 * flop / seconds_a_frame,
        "field_gb_s": 1e-9 * read / seconds_a_frame,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too")
    parser.add_argument("--seconds", type=float, default=1.0, help="time for each figure")
    parser.add_argument("--quick", action="store_true", help="small sensors only")
    options = parser.parse_args()

    limits = machine(options.seconds)
    plain = plain_numpy(options.seconds)
    print(
        f"{limits['processors']} processors; matrix product {limits['sgemm_gflop_s']:.0f} GFLOP/s, "
        f"copy {limits['copy_gb_s']:.1f} GB/s; plain numpy {plain:.0f} frames/s of 128 x 128\n"
    )
    print(
        f"{'grows':8}{'sensor':>12}{'inputs':>8}{'modes':>8}{'way':>8}{'frames/s':>10}"
        f"{'ns/pixel':>10}{'of sgemm':>10}{'of copy':>9}{'of numpy':>10}"
    )
    rows = []
    for grows, sensor, n_inputs, batch, radius in [(*case, 0.12) for case in CASES] + RADII:
        if options.quick and math.prod(sensor) > 256**2:
            continue
        row = measure(grows, sensor, n_inputs, batch, options.seconds, radius)
        row["of_sgemm"] = row["gflop_s"] / limits["sgemm_gflop_s"]
        row["of_copy"] = row["field_gb_s"] / limits["copy_gb_s"]
        row["of_plain_numpy"] = row["frames_s"] * math.prod(sensor) / plain / math.prod(SMALL)
        rows.append(row)
        print(
            f"{grows:8}{sensor[0]:>6} x{sensor[1]:>4}{n_inputs:>8}{row['modes']:>8}{row['way']:>8}"
            f"{row['frames_s']:>10.0f}{row['ns_pixel']:>10.2f}{row['of_sgemm']:>10.2f}"
            f"{row['of_copy']:>9.2f}{row['of_plain_numpy']:>10.1f}",
            flush=True,
        )
    print(
        "\nof sgemm: additions and products done, relative to the matrix product's; of copy: bytes "
        "of fields read,\nrelative to a copy's (above 1 they come from cache); of numpy: pixels a "
        "second, relative to plain numpy."
    )
    if options.json:
        figures = {"machine": limits, "plain_numpy_frames_s": plain, "cases": rows}
        options.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
