"""The fast Walsh-Hadamard transform, in place."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from opu_driver.errors import SettingError

_PANEL_BYTES = 1 << 20  # columns that are transformed at a time, so that they stay in the cache


def walsh_hadamard(values: NDArray[np.complex64]) -> None:
    """Replace values by their unnormalised transform along the first axis, in natural order.

    Column panels are transformed one after another: beside the values themselves this takes no
    more than 2 MB, and for each panel the memory is read and written once.

    Args:
        values: complex64 `[order, column]`, the order a power of two.

    Raises:
        SettingError: The order is not a power of two.
    """
    order, columns = values.shape
    if order < 1 or order & (order - 1):
        raise SettingError(f"A transform of {order} values; the number has to be a power of two.")
    width = max(_PANEL_BYTES // (order * values.itemsize), 1)
    for first in range(0, columns, width):
        panel = np.ascontiguousarray(values[:, first : first + width])
        half = 1
        while half < order:
            blocks = panel.reshape(order // (2 * half), 2, half, -1)
            upper, lower = blocks[:, 0], blocks[:, 1]
            difference = upper - lower
            upper += lower
            lower[...] = difference
            half *= 2
        values[:, first : first + width] = panel
