"""A matrix that follows a medium that moves: each new measurement corrects it a little.

While the medium renews the part q of its power between two measurements, T <- sqrt(1-q) T +
sqrt(q) N, what is known of T grows old. A signed field y = T s + noise of any vector s tells the
present T along s. Both together are a Kalman filter; and since all modes see the same vectors, one
covariance C `[input, input]`, in units of an entry's mean square p, serves them all:

    C <- (1 - q) C + q 1,  k = C s / (s' C s + v / p),  T <- sqrt(1-q) T + (y - sqrt(1-q) T s) k',
    C <- C - k s' C.

This is recursive least squares, the forgetting of which follows from the medium's decorrelation and
the noise, both of which are measured, and which knows its own error: the mean of C's diagonal
(Kalman, J. Basic Eng. 82, 35, 1960).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from opu_driver.errors import SettingError

_LONGEST = 64  # signed fields, at most, that are taken at once,
_STILL = 0.05  # and what the medium may change on the way, in parts of the present error's square


class MatrixUpdate:
    """The estimate of a matrix, kept up with signed fields.

    Args:
        T: complex64 `[mode, input]`, as it was measured; it is copied.
        error: Its relative error then.
        decorrelation: Part of the field's power, q, that the medium renews from one signed field
            to the next, from 0 to 1.
        noise_to_signal: Variance of a signed field's noise over the mean square of an entry of T,
            positive; `Method.noise_to_signal` gives it.

    Raises:
        SettingError: A number out of its limits.
    """

    def __init__(
        self,
        T: NDArray[np.complex64],
        *,
        error: float,
        decorrelation: float,
        noise_to_signal: float,
    ) -> None:
        if not (0 <= decorrelation <= 1 and noise_to_signal > 0 and error >= 0):
            raise SettingError(
                f"decorrelation = {decorrelation:g}, noise_to_signal = {noise_to_signal:g}, error "
                f"= {error:g}; they are from 0 to 1, positive, and not negative."
            )
        # A measured T has the truth's power and that of its noise; shrunk, it errs the least.
        variance = error**2 / (1 + error**2)
        self._T = T * np.float32(1 - variance)
        self._covariance = variance * np.eye(T.shape[1])
        self._q = decorrelation
        self._noise = noise_to_signal

    @property
    def matrix(self) -> NDArray[np.complex64]:
        """complex64 `[mode, input]`, the present estimate, of least mean square error."""
        return self._T

    @property
    def expected_error(self) -> float:
        """Relative error of `matrix`, as the filter knows it."""
        return math.sqrt(float(np.trace(self._covariance)) / len(self._covariance))

    def wait(self, fields: int) -> None:
        """Let time pass in which so many signed fields could have been measured."""
        self.forget((1 - self._q) ** fields)

    def forget(self, kept: float) -> None:
        """Let the medium keep this part of its power, from 0 to 1, and renew the rest.

        Raises:
            SettingError: No such part.
        """
        if not 0 <= kept <= 1:
            raise SettingError(f"kept = {kept:g}; it is a part of the power, from 0 to 1.")
        self._T *= np.float32(math.sqrt(kept))
        self._covariance *= kept
        self._covariance[np.diag_indices_from(self._covariance)] += 1 - kept

    def add(self, signs: NDArray[np.floating[Any]], fields: NDArray[np.complex64]) -> None:
        """Correct the estimate by signed fields, in the order in which they were measured.

        A few are taken at once; between these the medium is held to be still.

        Args:
            signs: float `[vector, input]`, vectors s of -1 and 1 (or any real numbers).
            fields: complex64 `[vector, mode]`, T s in the unit, phase and gain of T.

        Raises:
            SettingError: They do not fit together, or the matrix.
        """
        n_modes, n_inputs = self._T.shape
        if signs.shape != (len(signs), n_inputs) or fields.shape != (len(signs), n_modes):
            raise SettingError(
                f"Vectors {list(signs.shape)} and fields {list(fields.shape)}; a matrix of "
                f"{n_modes} modes and {n_inputs} inputs takes [n, {n_inputs}] and [n, {n_modes}]."
            )
        first = 0
        while first < len(signs):
            allowed = _STILL * self.expected_error**2
            together = max(int(min(allowed / self._q, _LONGEST) if self._q else _LONGEST), 1)
            some = slice(first, first + together)
            self._correct(signs[some].astype(np.float64), fields[some])
            first += together

    def _correct(self, signs: NDArray[np.float64], fields: NDArray[np.complex64]) -> None:
        self.wait(len(signs))
        C = self._covariance
        known = C @ signs.T
        seen = signs @ known
        seen[np.diag_indices_from(seen)] += self._noise
        gain = np.linalg.solve(seen, known.T)
        surprise = fields - signs.astype(np.float32) @ self._T.T
        self._T += surprise.T @ gain.astype(np.float32)
        C -= known @ gain
        C += C.T.copy()  # rounding would make it lopsided
        C /= 2
