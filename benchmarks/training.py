"""What a step of direct feedback alignment costs, against backpropagation in plain PyTorch.

    python -m benchmarks.training [--json FILE] [--quick]

A step is forward, backward and Adam on a fully connected tanh network, 10 classes. All columns are
times over that of the plain module in the same run, the median over rounds in which
all take turns:

- wrapped: the same backpropagation inside the wrapper, mode `bp`.
- free: feedback alignment with a projector that only copies: what the method itself costs.
- dense: with a stored matrix and ternary codes.
- shared: as dense, all layers fed by the first outputs of one projection (`shared_prefix`).
- replay: as shared, and no activations kept (`replay=True`).
- reentrant: the usual public pattern, a backward hook on the output that calls backward on every
  detached layer; the same matrix as dense, not quantised.
- shallow: no feedback at all.

Memory is the most that tensors made within a step take at once, gradients included, weights and
moments not, over that of the plain module.
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

from benchmarks.live_memory import LiveMemory
from training.dfa import DFA, Mode
from training.encoding import Ternary
from training.models.mlp import mlp
from training.projector import DenseProjector, Projector
from training.taps import Layout

N_INPUTS, N_CLASSES = 784, 10
SIZES = (  # batch, width, depth
    (128, 256, 2),
    (128, 512, 2),
    (128, 1024, 2),
    (128, 2048, 2),
    (128, 1024, 8),
    (128, 256, 32),
    (1024, 256, 32),
    (1024, 256, 100),
)
COLUMNS = ("wrapped", "free", "dense", "shared", "replay", "reentrant", "shallow")


class FreeProjector(DenseProjector):
    """Always the same projection, at the cost of copying it."""

    def __init__(self, batch: int, n_outputs: int) -> None:
        super().__init__(N_CLASSES, n_outputs, seed=0)
        self._projection = torch.randn(batch, n_outputs)

    def project(self, codes: Tensor) -> Tensor:
        """Not that of the codes; a copy, since who asks may write into it."""
        return self._projection[: len(codes)].clone()


class Reentrant(nn.Module):
    """Feedback alignment by a hook that runs a backward pass within the backward pass."""

    def __init__(self, widths: tuple[int, ...], matrix: Tensor) -> None:
        super().__init__()
        self.net = mlp(widths, seed=0)
        self._feedback = torch.split(matrix, widths[1:-1])
        self._taps: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        self._taps = []
        for block in self.net.blocks:
            x = block(x)
            self._taps.append(x)
            x = x.detach()
        logits: Tensor = self.net.head(x)
        logits.register_hook(self._feed_back)
        return logits

    def _feed_back(self, error: Tensor) -> None:
        for tap, matrix in zip(self._taps, self._feedback, strict=True):
            tap.backward(error @ matrix.T)


def step_of(model: nn.Module, batch: int) -> Callable[[], None]:
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4, fused=True)
    x, y = torch.randn(batch, N_INPUTS), torch.randint(N_CLASSES, (batch,))

    def step() -> None:
        optimizer.zero_grad()
        functional.cross_entropy(model(x), y).backward()
        optimizer.step()

    return step


def wrapped(
    widths: tuple[int, ...],
    projector: Projector,
    mode: Mode,
    layout: Layout = "concat",
    replay: bool = False,
) -> DFA:
    model = DFA(
        mlp(widths, seed=0),
        projector,
        taps=["blocks.*"],
        encoder=Ternary(0.3, relative=True),
        layout=layout,
        replay=replay,
    )
    model.mode = mode
    return model


def measure(batch: int, width: int, depth: int, rounds: int) -> dict[str, float]:
    """Times of a step, ms for the plain module and over it for the others."""
    widths = (N_INPUTS, *[width] * depth, N_CLASSES)
    free = FreeProjector(batch, width * depth)
    dense = DenseProjector(N_CLASSES, width * depth, 0)
    shared = DenseProjector(N_CLASSES, width, 0)
    models = {
        "plain": mlp(widths, seed=0),
        "wrapped": wrapped(widths, free, "bp"),
        "free": wrapped(widths, free, "dfa"),
        "dense": wrapped(widths, dense, "dfa"),
        "shared": wrapped(widths, shared, "dfa", "shared_prefix"),
        "replay": wrapped(widths, shared, "dfa", "shared_prefix", replay=True),
        "reentrant": Reentrant(widths, dense.project(torch.eye(N_CLASSES)).T),
        "shallow": wrapped(widths, free, "shallow"),
    }
    steps = {name: step_of(model, batch) for name, model in models.items()}
    times: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(rounds + 2):
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            if turn >= 2:
                times[name].append(time.perf_counter() - start)
    plain = statistics.median(times["plain"])
    memory = {name: _peak_bytes(step) for name, step in steps.items()}
    return {
        "batch": batch,
        "width": width,
        "depth": depth,
        "plain_ms": 1000 * plain,
        "plain_mb": memory["plain"] / 1e6,
        **{name: statistics.median(times[name]) / plain for name in COLUMNS},
        **{f"memory, {name}": memory[name] / memory["plain"] for name in COLUMNS},
    }


def _peak_bytes(step: Callable[[], None]) -> int:
    with LiveMemory() as memory:
        step()
    return memory.peak_bytes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    parser.add_argument("--quick", action="store_true", help="fewer rounds and sizes")
    options = parser.parse_args()
    sizes = [SIZES[0], SIZES[2]] if options.quick else SIZES
    rows = []
    print(f"{torch.get_num_threads()} threads; times and memory over the plain module's")
    names = " ".join(f"{column:>9}" for column in COLUMNS)
    print(f"{'batch':>6} {'width':>6} {'depth':>6} {'plain':>10} {names}")
    for batch, width, depth in sizes:
        row = measure(batch, width, depth, rounds=7 if options.quick else 25)
        rows.append(row)
        print(
            f"{batch:6d} {width:6d} {depth:6d} {row['plain_ms']:7.2f} ms "
            + " ".join(f"{row[column]:9.2f}" for column in COLUMNS)
            + f"\n{'memory':>20} {row['plain_mb']:7.2f} MB "
            + " ".join(f"{row[f'memory, {column}']:9.2f}" for column in COLUMNS),
            flush=True,
        )
    if options.json:
        options.json.write_text(
            json.dumps({"threads": torch.get_num_threads(), "rows": rows}, indent=2)
        )


if __name__ == "__main__":
    main()
