"""What a step of direct feedback alignment costs, against backpropagation in plain PyTorch.

    python -m benchmarks.training [--json FILE] [--quick]

A step is forward, backward and Adam on a fully connected tanh network, batch 128, 10 classes. All
columns are times over that of the plain module in the same run, the median over rounds in which
all take turns:

- wrapped: the same backpropagation inside the wrapper, mode `bp`.
- free: feedback alignment with a projector that costs nothing: what the method itself costs.
- dense: with a stored matrix and ternary codes.
- shallow: no feedback at all.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.dfa import DFA, Mode
from training.encoding import Ternary
from training.models.mlp import mlp
from training.projector import DenseProjector, Projector

BATCH = 128
N_INPUTS, N_CLASSES = 784, 10
COLUMNS = ("wrapped", "free", "dense", "shallow")


class FreeProjector(DenseProjector):
    """Always the same projection, at no cost."""

    def __init__(self, n_outputs: int) -> None:
        super().__init__(N_CLASSES, n_outputs, seed=0)
        self._projection = torch.randn(BATCH, n_outputs)

    def project(self, codes: Tensor) -> Tensor:
        """Not that of the codes."""
        return self._projection[: len(codes)]


def step_of(model: nn.Module) -> Callable[[], None]:
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4, fused=True)
    x, y = torch.randn(BATCH, N_INPUTS), torch.randint(N_CLASSES, (BATCH,))

    def step() -> None:
        optimizer.zero_grad()
        functional.cross_entropy(model(x), y).backward()
        optimizer.step()

    return step


def wrapped(widths: tuple[int, ...], projector: Projector, mode: Mode) -> DFA:
    encoder = Ternary(0.3, relative=True)
    model = DFA(mlp(widths, seed=0), projector, taps=["blocks.*"], encoder=encoder)
    model.mode = mode
    return model


def measure(width: int, depth: int, rounds: int) -> dict[str, float]:
    """Times of a step, ms for the plain module and over it for the others."""
    widths = (N_INPUTS, *[width] * depth, N_CLASSES)
    free = FreeProjector(width * depth)
    steps = {
        "plain": step_of(mlp(widths, seed=0)),
        "wrapped": step_of(wrapped(widths, free, "bp")),
        "free": step_of(wrapped(widths, free, "dfa")),
        "dense": step_of(wrapped(widths, DenseProjector(N_CLASSES, width * depth, 0), "dfa")),
        "shallow": step_of(wrapped(widths, free, "shallow")),
    }
    times: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(rounds + 2):
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            if turn >= 2:
                times[name].append(time.perf_counter() - start)
    plain = statistics.median(times["plain"])
    ratios = {name: statistics.median(times[name]) / plain for name in COLUMNS}
    return {"width": width, "depth": depth, "plain_ms": 1000 * plain, **ratios}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    parser.add_argument("--quick", action="store_true", help="fewer rounds and sizes")
    options = parser.parse_args()
    sizes = (
        [(256, 2), (1024, 2)]
        if options.quick
        else [
            (256, 2),
            (1024, 2),
            (2048, 2),
            (256, 8),
            (256, 32),
            (1024, 8),
        ]
    )
    rows = []
    print(f"{torch.get_num_threads()} threads, batch {BATCH}; times over the plain module's")
    print(f"{'width':>6} {'depth':>6} {'plain ms':>9} " + " ".join(f"{c:>8}" for c in COLUMNS))
    for width, depth in sizes:
        row = measure(width, depth, rounds=7 if options.quick else 25)
        rows.append(row)
        print(
            f"{width:6d} {depth:6d} {row['plain_ms']:9.2f} "
            + " ".join(f"{row[column]:8.2f}" for column in COLUMNS),
            flush=True,
        )
    if options.json:
        options.json.write_text(
            json.dumps({"threads": torch.get_num_threads(), "batch": BATCH, "rows": rows}, indent=2)
        )


if __name__ == "__main__":
    main()
