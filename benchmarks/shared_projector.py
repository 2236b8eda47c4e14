"""What it costs to share one bench: the way of codes and projections between processes.

    python -m benchmarks.shared_projector [--json FILE]

Two processes of one thread each, batches of 128 vectors of ten ternary codes, half of them in each
process; the first one owns a projector that costs nothing. Columns, medians over calls:

- shared: time of a call, ms, of the process that owns nothing.
- over copy: that, over copying the batch's projections once in memory.
- of light: that, over the time of the exposures, two a vector at 1.5 kHz.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing as mp
import os
import socket
import statistics
import time
from collections.abc import Callable
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path

import torch
from torch import Tensor

from training.projector import DenseProjector
from training.shared_projector import SharedProjector
from training.team import team_of_environment

BATCH, N_INPUTS, CALLS = 128, 10, 21
OUTPUTS = (2_048, 16_384, 100_000)
FRAME_RATE_HZ = 1500.0
DEADLINE_S = 300.0


class FreeProjector(DenseProjector):
    """Always the same projection, at no cost."""

    def __init__(self, n_outputs: int) -> None:
        super().__init__(N_INPUTS, n_outputs, seed=0)
        self._projection = torch.randn(BATCH, n_outputs)

    def project(self, codes: Tensor) -> Tensor:
        """Not that of the codes."""
        return self._projection[: len(codes)]


def process(rank: int, port: int, told: Connection) -> None:
    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": "2"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    with team_of_environment(timeout_s=DEADLINE_S) as team:
        assert team is not None
        for n_outputs in OUTPUTS:
            own = FreeProjector(n_outputs) if team.leads else None
            shared = SharedProjector(own, team)
            codes = torch.randint(-1, 2, (BATCH // 2, N_INPUTS), dtype=torch.int8)
            told.send(median_s(partial(shared.project, codes)))


def median_s(work: Callable[[], object]) -> float:
    times = []
    for _ in range(CALLS):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def measured() -> list[float]:
    """Times of a call at each number of outputs, s."""
    context = mp.get_context("spawn")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    pipes = [context.Pipe(duplex=False) for _ in range(2)]
    processes = [
        context.Process(target=process, args=(rank, port, pipes[rank][1])) for rank in range(2)
    ]
    try:
        for each in processes:
            each.start()
        for each in processes:
            each.join(DEADLINE_S)
        receiving = pipes[1][0]
        return [receiving.recv() for _ in OUTPUTS if receiving.poll()]
    finally:
        for each in processes:
            each.kill()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args()
    torch.set_num_threads(1)
    light_s = 2 * BATCH / FRAME_RATE_HZ
    rows = []
    print(f"{'outputs':>8} {'shared ms':>10} {'over copy':>10} {'of light':>9}")
    for n_outputs, shared_s in zip(OUTPUTS, measured(), strict=True):
        copy_s = median_s(torch.randn(BATCH, n_outputs).clone)
        row = {
            "outputs": n_outputs,
            "shared_ms": 1000 * shared_s,
            "over_copy": shared_s / copy_s,
            "of_light": shared_s / light_s,
        }
        rows.append(row)
        print(
            f"{n_outputs:8d} {row['shared_ms']:10.2f} {row['over_copy']:10.1f} "
            f"{row['of_light']:9.1%}",
            flush=True,
        )
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2))


if __name__ == "__main__":
    main()
