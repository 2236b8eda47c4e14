"""The products of fields with a reference, a tilt undone, summed over cells of neighbouring modes.

Complex arrays come as float32 pairs, real and imaginary part side by side.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray


@njit(nogil=True, error_model="numpy", fastmath={"contract", "reassoc"}, cache=True)
def _add_row(
    sums: NDArray[np.float32],
    field: NDArray[np.float32],
    reference: NDArray[np.float32],
    turn: complex,
) -> np.float32:
    """Add a row's products, turned, to `sums`; returns the row's power."""
    a, b = np.float32(turn.real), np.float32(turn.imag)
    power = np.float32(0)
    for j in range(len(sums) // 2):
        re, im = field[2 * j], field[2 * j + 1]
        own_re, own_im = reference[2 * j], reference[2 * j + 1]
        power += re * re + im * im
        product = re * own_re + im * own_im
        product_im = im * own_re - re * own_im
        sums[2 * j] += a * product - b * product_im
        sums[2 * j + 1] += a * product_im + b * product
    return power


@njit(nogil=True, error_model="numpy", cache=True)
def cell_sums(
    cells: NDArray[np.complex128],
    powers: NDArray[np.float64],
    fields: NDArray[np.float32],
    reference: NDArray[np.float32],
    down: NDArray[np.complex64],
    across: NDArray[np.complex64],
    size: int,
    begin: int,
    end: int,
) -> None:
    """Sums of z z_0* exp(-2 pi i g.x) over cells, and the fields' powers.

    Args:
        cells: `[field, cell row, cell column]`; written.
        powers: `[field]`, sums of |z|^2; written.
        fields: `[field, row, 2 column]`.
        reference: `[row, 2 column]`.
        down: `[row]`, what undoes the tilt.
        across: `[column]`.
        size: Modes of a cell along rows and columns; those at the far borders may have fewer.
        begin: First field.
        end: One beyond the last.
    """
    rows, columns = len(down), len(across)
    sums = np.empty(2 * columns, np.float32)
    for f in range(begin, end):
        powers[f] = 0
        for cell_row in range(cells.shape[1]):
            sums[:] = 0
            for i in range(cell_row * size, min((cell_row + 1) * size, rows)):
                powers[f] += _add_row(sums, fields[f, i], reference[i], down[i])
            for cell in range(cells.shape[2]):
                total = 0j
                for j in range(cell * size, min((cell + 1) * size, columns)):
                    total += complex(sums[2 * j], sums[2 * j + 1]) * across[j]
                cells[f, cell_row, cell] = total
