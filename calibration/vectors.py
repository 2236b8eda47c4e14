"""The binary vectors that a matrix is measured with, and how it follows from them.

Whatever way a vector v is exposed, what comes out of it is one signed field T s, s = 2v - 1. From
the signed fields of all vectors, noisy by the same variance each, follows T. The fields of a large
bench do not fit into memory, so the fields of some modes come run by run: each run is added to
`sums`, and the sums are solved for those modes of T.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Bits = NDArray[np.uint8]
"""Binary vectors, 0 and 1, `[vector, input]`."""

Solve = Callable[[NDArray[np.complex64]], NDArray[np.complex64]]
"""From sums `[row, mode]`, which it may destroy, to T `[input, mode]`."""


class Vectors(Protocol):
    """A set of binary vectors."""

    @property
    def n_inputs(self) -> int:
        """Length of a vector."""

    @property
    def count(self) -> int:
        """How many vectors there are."""

    @property
    def rows(self) -> int:
        """Rows of the sums."""

    def bits(self, some: range) -> Bits:
        """Some of the vectors, uint8 `[vector, input]`."""

    def add(self, sums: NDArray[np.complex64], first: int, signed: NDArray[np.complex64]) -> None:
        """Add signed fields to the sums.

        Args:
            sums: complex64 `[row, mode]`, zeros at the beginning; changed.
            first: Which vector the first of the fields belongs to.
            signed: complex64 `[vector, mode]`, T s of vectors in their order.
        """

    def solver(self, noise_to_signal: float) -> Solve:
        """What turns sums into the matrix.

        Args:
            noise_to_signal: Variance of a signed field's noise over the mean square of an entry
                of T.
        """

    def variance(self, noise_to_signal: float) -> float:
        """Mean square error of an entry of T over the mean square of an entry, by theory."""

    def working_bytes(self) -> int:
        """Memory that the solver takes beside the sums."""
