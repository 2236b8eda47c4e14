"""Work that falls into independent pieces, on all processors that the process may use."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise


def in_parallel(work: Callable[[int, int], object], count: int, grain: int = 1) -> None:
    """Call `work(begin, end)` for one stretch of `range(count)` a processor.

    Args:
        work: Must release the interpreter's lock to gain by it.
        count: Length of the range.
        grain: Stretches begin at its multiples.
    """
    stretches = processors()
    grains = -(-count // grain)
    edges = [min(grain * (grains * k // stretches), count) for k in range(stretches + 1)]
    runs = [_pool().submit(work, begin, end) for begin, end in pairwise(edges) if end > begin]
    for run in runs:
        run.result()


@cache
def processors() -> int:
    """Processors that the process may use."""
    affinity = getattr(os, "sched_getaffinity", None)  # not on every system
    return len(affinity(0)) if affinity else os.cpu_count() or 1


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(processors(), thread_name_prefix="virtual-bench")
