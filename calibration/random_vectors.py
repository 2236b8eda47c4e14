"""Random binary vectors: T by least squares, and with a ridge where they are few.

K vectors of N inputs leave an entry of T 1 / (K - N) of the variance of a signed field. That
diverges where K comes near to N, so below 2 N a ridge is added to the normal equations, as large as
the noise is against an entry's mean square: that is the estimate of least mean square error for
entries that are Gaussian and independent, and its error is known for large random matrices (Tulino
and Verdu, Random Matrix Theory and Wireless Communications, 2004, eqs. 1.16 and 2.42). Few vectors
have the error of the normal matrix that was drawn, which may be far from that of a large one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from calibration.vectors import Bits, Solve
from opu_driver.errors import SettingError

_PART = 256  # vectors whose products are taken at a time
_FEW = 256  # vectors up to which the normal matrix is diagonalised
_ZERO = 1e-9  # an eigenvalue that is not more is what rounding leaves of none


@dataclass(frozen=True)
class RandomVectors:
    """Vectors whose inputs are lit with a probability of one half.

    Attributes:
        n_inputs: Length of a vector.
        count: How many there are.
        seed: Of the draw; each vector has random numbers of its own.

    Raises:
        SettingError: `n_inputs` or `count` is not positive, or few vectors, though not fewer than
            inputs, do not determine them: two are equal, say.
    """

    n_inputs: int
    count: int
    seed: int

    def __post_init__(self) -> None:
        if self.n_inputs < 1 or self.count < 1:
            raise SettingError(
                f"n_inputs = {self.n_inputs}, count = {self.count}; at least 1 input, 1 vector."
            )
        few = self.n_inputs <= self.count <= _FEW
        if few and self._eigenvalues[0] <= _ZERO:
            raise self._undetermined()

    @property
    def rows(self) -> int:
        """Rows of the sums: one for each input."""
        return self.n_inputs

    @property
    def regularised(self) -> bool:
        """Whether there are so few vectors that a ridge is needed."""
        return self.count < 2 * self.n_inputs

    def bits(self, some: range) -> Bits:
        """Some of the vectors, uint8 `[vector, input]`."""
        size = -(-self.n_inputs // 8)
        drawn = [np.random.default_rng([self.seed, 2, k]).bytes(size) for k in some]
        packed = np.frombuffer(b"".join(drawn), np.uint8).reshape(len(some), size)
        return np.unpackbits(packed, axis=1, count=self.n_inputs)

    def add(self, sums: NDArray[np.complex64], first: int, signed: NDArray[np.complex64]) -> None:
        """Add signed fields to the sums; see `Vectors.add`."""
        signs = self._signs(range(first, first + len(signed)))
        sums.view(np.float32)[...] += signs.T @ signed.view(np.float32)

    def solver(self, noise_to_signal: float) -> Solve:
        """Least squares by a Cholesky factor of the normal matrix; see `Vectors.solver`."""
        normal = self._normal()
        if self.regularised:
            normal[np.diag_indices_from(normal)] += noise_to_signal
        try:
            factor = scipy.linalg.cho_factor(normal, overwrite_a=True, check_finite=False)
        except np.linalg.LinAlgError as error:
            raise self._undetermined() from error

        def solve(sums: NDArray[np.complex64]) -> NDArray[np.complex64]:
            parts = scipy.linalg.cho_solve(
                factor, sums.view(np.float32).astype(np.float64), overwrite_b=True
            )
            return np.ascontiguousarray(parts, np.float32).view(np.complex64)

        return solve

    def variance(self, noise_to_signal: float) -> float:
        """Mean square error of an entry of T over its mean square, by theory.

        Of few vectors it is that of those drawn: the mean of q / (e + q) over the eigenvalues e of
        the normal matrix with a ridge q, the noise to signal, and of q / e without.
        """
        if self.count <= _FEW:
            ridge = noise_to_signal if self.regularised else 0.0
            return float(np.mean(noise_to_signal / (self._eigenvalues + ridge)))
        if not self.regularised:
            return noise_to_signal / (self.count - self.n_inputs)
        load, gain = self.n_inputs / self.count, self.count / noise_to_signal
        edges = [math.sqrt(gain * (1 + sign * math.sqrt(load)) ** 2 + 1) for sign in (1, -1)]
        return 1 - (edges[0] - edges[1]) ** 2 / (4 * load * gain)

    def working_bytes(self) -> int:
        """Memory that the solver takes beside the sums: the normal matrix, twice."""
        return 12 * self.n_inputs**2

    def _normal(self) -> NDArray[np.float64]:
        """The normal matrix `[input, input]`, without a ridge."""
        normal = np.zeros((self.n_inputs, self.n_inputs), np.float32)
        for first in range(0, self.count, _PART):
            signs = self._signs(range(first, min(first + _PART, self.count)))
            normal += signs.T @ signs  # whole numbers below 2^24: exact
        return normal.astype(np.float64)

    @cached_property
    def _eigenvalues(self) -> NDArray[np.float64]:
        """Of the normal matrix, rising; none is below `_ZERO`."""
        values: NDArray[np.float64] = np.maximum(np.linalg.eigvalsh(self._normal()), _ZERO)
        return values

    def _undetermined(self) -> SettingError:
        return SettingError(
            f"{self.count} random vectors (seed {self.seed}) do not determine {self.n_inputs} "
            "inputs. Show more of them (repeats), or draw others (seed)."
        )

    def _signs(self, some: range) -> NDArray[np.float32]:
        return 2 * self.bits(some).astype(np.float32) - 1
