"""Work that is shared by this machine's processors, in stretches of numbered pieces."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise
from typing import Any


def processors() -> int:
    """How many may work at a time: `NUMBA_NUM_THREADS`, or one a processor."""
    import numba  # takes a while

    config: Any = numba.config
    return int(config.NUMBA_NUM_THREADS)


def share(work: Callable[..., None], pieces: int, threads: int, *arguments: Any) -> None:
    """Do `work(*arguments, begin, end)` for stretches that cover all pieces, a thread for each.

    Args:
        work: What may run in several threads at a time: a kernel that holds no lock.
        pieces: How many there are.
        threads: How many stretches, at most.
        arguments: What each is given first.
    """
    edges = [pieces * k // threads for k in range(threads + 1)]
    stretches = [edge for edge in pairwise(edges) if edge[1] > edge[0]]
    if len(stretches) == 1:
        work(*arguments, *stretches[0])
        return
    for run in [_pool(threads).submit(work, *arguments, *edge) for edge in stretches]:
        run.result()


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="fields")
