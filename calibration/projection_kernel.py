"""From fields to outputs in one pass: phase, gain and tilt undone, e- taken from e+, and in order.

Complex arrays come as float32 pairs, real and imaginary part side by side.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

_BLOCK = 2048  # modes that are taken through all planes together


@njit(nogil=True, error_model="numpy", fastmath={"contract", "reassoc"}, cache=True)
def _subtract(
    difference: NDArray[np.float32],
    lit: NDArray[np.float32],
    unlit: NDArray[np.float32],
    turns: NDArray[np.float32],
    plus: complex,
    minus: complex,
) -> np.float32:
    """Differences of one plane, turned; returns the sum of their squared moduli."""
    a, b = np.float32(plus.real), np.float32(plus.imag)
    c, d = np.float32(minus.real), np.float32(minus.imag)
    power = np.float32(0)
    for k in range(len(difference) // 2):
        re = a * lit[2 * k] - b * lit[2 * k + 1] - c * unlit[2 * k] + d * unlit[2 * k + 1]
        im = a * lit[2 * k + 1] + b * lit[2 * k] - c * unlit[2 * k + 1] - d * unlit[2 * k]
        power += re * re + im * im
        difference[2 * k] = re * turns[2 * k] - im * turns[2 * k + 1]
        difference[2 * k + 1] = re * turns[2 * k + 1] + im * turns[2 * k]
    return power


@njit(nogil=True, error_model="numpy", cache=True)
def _put(
    out: NDArray[np.float32],
    values: NDArray[np.float32],
    places: NDArray[np.int64],
    first: bool,
) -> None:
    """Write or add modes to their places among the outputs."""
    for k in range(len(places)):
        at = 2 * places[k]
        if first:
            out[at] = values[2 * k]
            out[at + 1] = values[2 * k + 1]
        else:
            out[at] += values[2 * k]
            out[at + 1] += values[2 * k + 1]


@njit(nogil=True, error_model="numpy", cache=True)
def project(
    outputs: NDArray[np.float32],
    fields: NDArray[np.float32],
    places: NDArray[np.int64],
    turns: NDArray[np.float32],
    corrections: NDArray[np.complex64],
    rows: NDArray[np.int64],
    weights: NDArray[np.float32],
    firsts: NDArray[np.bool_],
    powers: NDArray[np.float64],
    begin: int,
    end: int,
) -> None:
    """Weighted differences of pairs of exposures, added to their rows, for a stretch of modes.

    Modes are taken in the order of the grid. Outputs are rings around its middle, so that those of
    a few grid rows that follow each other lie in few places.

    Args:
        outputs: `[row, 2 mode]`, in the order of the outputs; written.
        fields: `[2 plane, 2 mode]`, e+ and e- in turn, in the order of the grid.
        places: `[mode]`, its place among the outputs.
        turns: `[2 mode]`, what undoes the carrier's drift.
        corrections: `[2 plane]`, what undoes phase and gain.
        rows: `[plane]`, the row that each belongs to.
        weights: `[plane]`.
        firsts: `[plane]`, whether its row has got nothing yet, and holds what it may.
        powers: `[block]`, to which the squared moduli of the differences are added.
        begin: First block of modes.
        end: One beyond the last.
    """
    values = np.empty(2 * _BLOCK, np.float32)
    for block in range(begin, end):
        low, high = block * _BLOCK, min((block + 1) * _BLOCK, len(places))
        here = slice(2 * low, 2 * high)
        some = values[: 2 * (high - low)]
        for p in range(len(rows)):
            plus, minus = corrections[2 * p], corrections[2 * p + 1]
            lit, unlit = fields[2 * p, here], fields[2 * p + 1, here]
            powers[block] += _subtract(some, lit, unlit, turns[here], plus, minus)
            if weights[p] != 1:
                some *= weights[p]
            _put(outputs[rows[p]], some, places[low:high], firsts[p])


def blocks(modes: int) -> int:
    """How many blocks so many modes come in."""
    return -(-modes // _BLOCK)
