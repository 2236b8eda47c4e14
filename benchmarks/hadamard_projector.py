"""What a projection costs by a Hadamard matrix, by a stored matrix, and by light's model.

    python -m benchmarks.hadamard_projector [--json FILE] [--quick]

Eight ternary vectors at once, the best of three. The reference is the time in which this machine
multiplies a vector by as many entries within one large matrix product. What drawing a matrix anew
costs is in `benchmarks.generated_projector`.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import torch

from training.hadamard_projector import HadamardProjector
from training.machine import Optics, this_processor
from training.projector import DenseProjector, Projector

ROWS = 8
SIZES = ((10_000, 10_000), (1_000_000, 100_000), (1_000_000, 1_000_000))
STORED_AT_MOST = 10**9


def seconds(projector: Projector) -> float:
    """Of a vector."""
    generator = torch.Generator().manual_seed(0)
    shape = ROWS, projector.n_inputs
    codes = torch.randint(-1, 2, shape, generator=generator, dtype=torch.int8)
    times = []
    for _ in range(3):
        start = time.perf_counter()
        projector.project(codes)
        times.append(time.perf_counter() - start)
    return min(times) / ROWS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    parser.add_argument("--quick", action="store_true", help="the smallest size only")
    options = parser.parse_args()
    processor, optics = this_processor(memory_bytes=0), Optics(n_outputs=1_000_000)
    print(f"{processor.name}: {processor.flop_per_s / 1e9:.0f} GFLOP/s")
    print(f"{'inputs':>9} {'outputs':>9}  {'way':10} {'s a vector':>11} {'of the product':>15}")
    rows = []
    for n_inputs, n_outputs in SIZES[: 1 if options.quick else None]:
        entries = n_inputs * n_outputs
        reference = processor.seconds(2 * entries)
        found: dict[str, float] = {}
        if entries <= STORED_AT_MOST:
            found["stored"] = seconds(DenseProjector(n_inputs, n_outputs, 0))
        found["hadamard"] = seconds(HadamardProjector(n_inputs, n_outputs, 0))
        found["light"] = optics.seconds(2, n_inputs, n_outputs)
        for way, each in found.items():
            note = "  2 exposures at 1.5 kHz, by the model" if way == "light" else ""
            print(
                f"{n_inputs:9d} {n_outputs:9d}  {way:10} {each:11.3g} {each / reference:15.3g}"
                + note,
                flush=True,
            )
            rows.append(
                {"inputs": n_inputs, "outputs": n_outputs, "way": way, "seconds": each}
                | {"of_the_product": each / reference}
            )
    if options.json:
        options.json.write_text(json.dumps({"rows": rows}, indent=2))


if __name__ == "__main__":
    main()
