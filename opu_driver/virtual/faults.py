"""What goes wrong on the trigger line and in the optics, as functions of seed and count."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from opu_driver.virtual.drift import random_bits
from opu_driver.virtual.settings import Faults

_DROP, _DOUBLE = 10, 11


def seen(faults: Faults, seed: int, edges: NDArray[np.int64]) -> NDArray[np.int64]:
    """How often a camera sees each trigger edge: 0 (dropped), 1 or 2 (doubled)."""
    times = np.ones(len(edges), np.int64)
    times[_drawn(faults.doubled_trigger_rate, seed, _DOUBLE, edges)] = 2
    times[np.isin(edges, faults.doubled_triggers)] = 2
    times[_drawn(faults.dropped_trigger_rate, seed, _DROP, edges)] = 0
    times[np.isin(edges, faults.dropped_triggers)] = 0
    return times


def carrier_offset(faults: Faults, exposure: int) -> tuple[float, float]:
    """How far the carrier has jumped by an exposure, cycles/pixel."""
    past = [jump for jump in faults.carrier_jumps if jump[0] <= exposure]
    return sum(jump[1] for jump in past), sum(jump[2] for jump in past)


def next_carrier_jump(faults: Faults, exposure: int) -> int | None:
    """The first exposure after `exposure` at which the carrier jumps."""
    return min((jump[0] for jump in faults.carrier_jumps if jump[0] > exposure), default=None)


def _drawn(rate: float, seed: int, stream: int, edges: NDArray[np.int64]) -> NDArray[np.bool_]:
    chances = (random_bits(seed, stream, edges) >> np.uint64(11)).astype(np.float64) / 2.0**53
    drawn: NDArray[np.bool_] = chances < rate
    return drawn
