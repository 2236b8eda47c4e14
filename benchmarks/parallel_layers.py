"""Whether it pays that layers learn at once, as feedback alignment allows.

    python -m benchmarks.parallel_layers [--json FILE]

Backward pass and Adam step of a fully connected tanh network, batch 128, its feedback given: layer
after layer with one thread, layer after layer with all threads inside each product, and all layers
at once, a thread each. Medians over rounds in which all take turns, over the first one's.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor, nn

BATCH, N_INPUTS = 128, 784
ROUNDS = 15
WAYS = ("one after the other", "all threads in each", "all at once")


class Layer:
    """A layer that learns from its own input and its own feedback alone."""

    def __init__(self, n_in: int, n_out: int) -> None:
        self.module = nn.Sequential(nn.Linear(n_in, n_out), nn.Tanh())
        self.optimizer = torch.optim.Adam(self.module.parameters(), lr=1e-4, fused=True)
        self.feedback = torch.randn(BATCH, n_out)
        self.output = torch.empty(0)

    def forward(self, x: Tensor) -> Tensor:
        """What the next layer sees; nothing flows back through it."""
        self.output = self.module(x)
        return self.output.detach()

    def learn(self) -> None:
        """One step."""
        self.optimizer.zero_grad()
        self.output.backward(self.feedback)
        self.optimizer.step()


def seconds(layers: Sequence[Layer], learn: Callable[[], object]) -> float:
    """Of learning alone; the forward pass is not timed."""
    x = torch.randn(BATCH, N_INPUTS)
    for layer in layers:
        x = layer.forward(x)
    start = time.perf_counter()
    learn()
    return time.perf_counter() - start


def measure(width: int, depth: int, threads: int) -> dict[str, float]:
    """Times over that of one thread."""
    widths = [N_INPUTS, *[width] * depth]
    layers = [Layer(a, b) for a, b in pairwise(widths)]
    times: dict[str, list[float]] = {way: [] for way in WAYS}

    def in_turn() -> None:
        for layer in layers:
            layer.learn()

    with ThreadPoolExecutor(threads) as pool:
        for turn in range(ROUNDS + 2):
            for way in WAYS:
                torch.set_num_threads(threads if way == WAYS[1] else 1)
                at_once = way == WAYS[2]
                learn = (lambda: list(pool.map(Layer.learn, layers))) if at_once else in_turn
                took = seconds(layers, learn)
                if turn >= 2:
                    times[way].append(took)
    torch.set_num_threads(1)
    first = statistics.median(times[WAYS[0]])
    ratios = {way: statistics.median(times[way]) / first for way in WAYS[1:]}
    return {"width": width, "depth": depth, "first_ms": 1000 * first, **ratios}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args()
    threads = os.cpu_count() or 1
    print(f"{threads} processors, batch {BATCH}; times over those of one thread")
    print(f"{'width':>6} {'depth':>6} {WAYS[0]:>20} " + " ".join(f"{way:>20}" for way in WAYS[1:]))
    rows = []
    for width, depth in ((128, 16), (512, 8), (1024, 2), (1024, 8), (2048, 4)):
        row = measure(width, depth, threads)
        rows.append(row)
        print(
            f"{width:6d} {depth:6d} {row['first_ms']:17.1f} ms "
            + " ".join(f"{row[way]:20.2f}" for way in WAYS[1:]),
            flush=True,
        )
    if options.json:
        options.json.write_text(json.dumps({"threads": threads, "rows": rows}, indent=2))


if __name__ == "__main__":
    main()
