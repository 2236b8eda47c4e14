"""What it costs to draw a matrix again for every projection, instead of storing it.

    python -m benchmarks.generated_projector [--json FILE] [--quick]

Columns, each the median over parts of the matrix, in which all take turns:

- drawn: processor time for each entry of `B`, ns, one thread, codes multiplied.
- over randn: that, over `torch.randn` filling a tile of the same size, entry by entry.
- whole: that of a projection of the whole matrix, from the part that was run.
- stored: what the matrix would take in memory as float32, GB.

Of a matrix too large to be waited for, a few stretches of inputs as wide as a tile are lit in turn:
all outputs, and every tile of those inputs. What is dark is not drawn, so that time goes by their
share.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path

import torch

from training.projector import GeneratedProjector

TILE = 1024
SIZES = ((10_000, 1_000), (100_000, 10_000), (1_000_000, 100_000))  # inputs, outputs
QUICK_SIZES = SIZES[:2]
ROWS = (1, 16, 128)
STRETCHES = 5


def drawn_ns(n_inputs: int, n_outputs: int, rows: int) -> tuple[float, float]:
    """Processor time of an entry of `B`, ns: by a projection, and by `torch.randn`."""
    projector = GeneratedProjector(n_inputs, n_outputs, seed=0, tile=(TILE, TILE))
    tiles = -(-n_outputs // TILE)
    n_lit = TILE * n_outputs
    projected, filled = [], []
    for turn in range(STRETCHES):
        left = turn * (n_inputs // TILE - 1) // STRETCHES * TILE
        codes = torch.zeros(rows, n_inputs, dtype=torch.int8)
        codes[:, left : left + TILE] = torch.randint(-1, 2, (rows, TILE), dtype=torch.int8)
        start = time.process_time()
        projector.project(codes)
        projected.append((time.process_time() - start) / n_lit)
        start = time.process_time()
        for _ in range(tiles):
            torch.randn(TILE, TILE)
        filled.append((time.process_time() - start) / (tiles * TILE**2))
    return 1e9 * statistics.median(projected), 1e9 * statistics.median(filled)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    parser.add_argument("--quick", action="store_true", help="without the largest matrix")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows_told = []
    head = ("inputs", "outputs", "rows", "lit", "drawn ns", "over randn", "whole s", "stored GB")
    print(" ".join(f"{name:>10}" for name in head))
    for n_inputs, n_outputs in QUICK_SIZES if options.quick else SIZES:
        for rows in ROWS:
            drawn, filled = drawn_ns(n_inputs, n_outputs, rows)
            entries = n_inputs * n_outputs
            row = {
                "inputs": n_inputs,
                "outputs": n_outputs,
                "rows": rows,
                "lit": TILE / n_inputs,
                "drawn_ns": drawn,
                "over_randn": drawn / filled,
                "whole_s": 1e-9 * drawn * entries,
                "stored_gb": 4e-9 * entries,
            }
            rows_told.append(row)
            print(
                f"{n_inputs:10d} {n_outputs:10d} {rows:10d} {row['lit']:10.2%} {drawn:10.1f} "
                f"{row['over_randn']:10.2f} {row['whole_s']:10.2f} {row['stored_gb']:10.2f}",
                flush=True,
            )
    if options.json:
        options.json.write_text(json.dumps(rows_told, indent=2))


if __name__ == "__main__":
    main()
