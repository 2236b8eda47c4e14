"""The rows of a Hadamard matrix as vectors: T is the Walsh-Hadamard transform of its signed fields.

With a matrix of order K, shown R times, an entry of T has 1 / (K R) of the variance of a signed
field.

The first column of a Hadamard matrix is constant: its input would always be lit, and every error
that all signed fields have in common would fall on it alone. So the rows are shown with the signs
of the Rudin-Shapiro sequence, whose own transform is flat (Rudin, Proc. Amer. Math. Soc. 10, 855,
1959): each input is lit about half of the time, and a common error spreads evenly over all. Every
other repeat has the opposite signs, so that in an even number of repeats common errors cancel.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calibration.vectors import Bits, Solve
from calibration.walsh_hadamard import walsh_hadamard
from opu_driver.errors import SettingError


def hadamard_order(n_inputs: int) -> int:
    """The order of the Hadamard matrix that measures `n_inputs`: the next power of two.

    Columns beyond `n_inputs` belong to no macropixel and stay dark. They cost exposures, but each
    of these adds its share to the signal to noise of T.

    Raises:
        SettingError: `n_inputs` is not positive.
    """
    if n_inputs < 1:
        raise SettingError(f"n_inputs = {n_inputs}; a matrix has at least 1 input.")
    return 1 << (n_inputs - 1).bit_length()


@dataclass(frozen=True)
class HadamardVectors:
    """The rows h of Sylvester's Hadamard matrix, signed, as v = (1 + h) / 2; repeat after repeat.

    Attributes:
        n_inputs: Length of a vector; the matrix's further columns are left out.
        repeats: How often each row is shown; the results are averaged.
    """

    n_inputs: int
    repeats: int = 1

    @property
    def order(self) -> int:
        """Of the Hadamard matrix."""
        return hadamard_order(self.n_inputs)

    @property
    def count(self) -> int:
        """How many vectors there are."""
        return self.repeats * self.order

    @property
    def rows(self) -> int:
        """Rows of the sums: one for each row of the Hadamard matrix."""
        return self.order

    def bits(self, some: range) -> Bits:
        """Some of the vectors, uint8 `[vector, input]`; vector 0 has every input on."""
        number = np.arange(some.start, some.stop, dtype=np.int64)
        row = number % self.order
        parities = np.bitwise_count(row[:, None] & np.arange(self.n_inputs)) % 2
        bits: Bits = (parities == self._flipped(number)[:, None]).astype(np.uint8)
        return bits

    def add(self, sums: NDArray[np.complex64], first: int, signed: NDArray[np.complex64]) -> None:
        """Add signed fields to the sums; see `Vectors.add`."""
        upright = np.float32(1) - 2 * self._flipped(np.arange(first, first + len(signed)))
        done = 0
        while done < len(signed):
            row = (first + done) % self.order
            some = slice(done, done + self.order - row)
            part = signed[some] * upright[some, None].astype(np.float32)
            sums[row : row + len(part)] += part
            done += len(part)

    def solver(self, noise_to_signal: float) -> Solve:
        """The transform, in place; see `Vectors.solver`."""
        del noise_to_signal  # an orthogonal set has nothing to weigh
        unit = np.float32(1 / self.count)

        def solve(sums: NDArray[np.complex64]) -> NDArray[np.complex64]:
            walsh_hadamard(sums)
            matrix = sums[: self.n_inputs]
            matrix *= unit
            return matrix

        return solve

    def variance(self, noise_to_signal: float) -> float:
        """Mean square error of an entry of T over its mean square, by theory."""
        return noise_to_signal / self.count

    def working_bytes(self) -> int:
        """Memory that the solver takes beside the sums."""
        return 2 << 20

    def _flipped(self, number: NDArray[np.int64]) -> NDArray[np.int64]:
        """1 for vectors whose row is shown with the other sign, `[vector]`."""
        repeat, row = np.divmod(number, self.order)
        flipped: NDArray[np.int64] = (np.bitwise_count(row & (row >> 1)) + repeat) % 2
        return flipped
