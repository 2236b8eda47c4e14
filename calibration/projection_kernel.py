"""From fields to outputs in one pass: phase, gain and tilt undone, e- taken from e+, and in order.

Complex arrays come as float32 pairs, real and imaginary part side by side.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

_BLOCK = 4096  # outputs that are taken through all planes together, so that their order stays near


@njit(nogil=True, error_model="numpy", fastmath={"contract", "reassoc"}, cache=True)
def _subtract(
    out: NDArray[np.float32],
    lit: NDArray[np.float32],
    unlit: NDArray[np.float32],
    modes: NDArray[np.int64],
    turns: NDArray[np.float32],
    plus: complex,
    minus: complex,
    weight: np.float32,
    first: bool,
) -> np.float32:
    """One plane, for some outputs; returns the sum of the differences' squared moduli."""
    a, b = np.float32(plus.real), np.float32(plus.imag)
    c, d = np.float32(minus.real), np.float32(minus.imag)
    power = np.float32(0)
    for k in range(len(modes)):
        m = 2 * modes[k]
        re = a * lit[m] - b * lit[m + 1] - c * unlit[m] + d * unlit[m + 1]
        im = a * lit[m + 1] + b * lit[m] - c * unlit[m + 1] - d * unlit[m]
        power += re * re + im * im
        turned = weight * (re * turns[2 * k] - im * turns[2 * k + 1])
        turned_im = weight * (re * turns[2 * k + 1] + im * turns[2 * k])
        if first:
            out[2 * k] = turned
            out[2 * k + 1] = turned_im
        else:
            out[2 * k] += turned
            out[2 * k + 1] += turned_im
    return power


@njit(nogil=True, error_model="numpy", cache=True)
def project(
    outputs: NDArray[np.float32],
    fields: NDArray[np.float32],
    modes: NDArray[np.int64],
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

    Args:
        outputs: `[row, 2 mode]`, in the order of the outputs; written.
        fields: `[2 plane, 2 mode]`, e+ and e- in turn, in the order of the grid.
        modes: `[mode]`, which mode each output is.
        turns: `[2 mode]`, what undoes the carrier's drift, in the order of the outputs.
        corrections: `[2 plane]`, what undoes phase and gain.
        rows: `[plane]`, the row that each belongs to.
        weights: `[plane]`.
        firsts: `[plane]`, whether its row has got nothing yet, and holds what it may.
        powers: `[block]`, to which the squared moduli of the differences are added.
        begin: First block of modes.
        end: One beyond the last.
    """
    for block in range(begin, end):
        low, high = block * _BLOCK, min((block + 1) * _BLOCK, len(modes))
        for p in range(len(rows)):
            powers[block] += _subtract(
                outputs[rows[p], 2 * low : 2 * high],
                fields[2 * p],
                fields[2 * p + 1],
                modes[low:high],
                turns[2 * low : 2 * high],
                corrections[2 * p],
                corrections[2 * p + 1],
                weights[p],
                firsts[p],
            )


def blocks(modes: int) -> int:
    """How many blocks so many modes come in."""
    return -(-modes // _BLOCK)
