"""The transmission matrix without a tilt: Hadamard pairs through a stepped reference.

A pair's two fields share the sum P of everything on, as ever (see `complementary_pairs`), so the
phase may walk from group to group. Within a group of four steps it must not: a deviation of s rad
in each exposure leaves s^2 / 4 of a field's power wrong. With the signal to noise SNR of a field
with half of the inputs lit,

    eps^2 = N / (K R) (1 / SNR + s^2 / 4).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration.complementary_pairs import ComplementaryPairs
from calibration.hadamard import HadamardVectors
from calibration.phase_stepping import SteppedDemodulator
from calibration.scheme import products
from calibration.stepped_reference import SteppedReference, stepped_fields
from opu_driver.bench import Bench
from opu_driver.errors import SettingError

_LONGEST = 128  # vectors in a sequence, at most


@dataclass(frozen=True, eq=False)
class SteppedMatrix:
    """A transmission matrix, and what it is counted from.

    Attributes:
        T: `[mode, input]`, in grey values: complex64, float32 of two steps.
        pair_sum: `[mode]`, the field of everything on, and the static field once more; as T.
        split_half: Correlation of T with the truth, from two halves of the data (each exposure of
            the pairs alone).
    """

    T: NDArray[Any]
    pair_sum: NDArray[Any]
    split_half: float

    def outputs(self) -> NDArray[np.float32]:
        """B `[output, input]`: T over its `rms`, real and imaginary parts as rows of their own."""
        parts = np.ascontiguousarray(self.T.T).view(np.float32).T / np.float32(self.rms)
        return np.ascontiguousarray(parts)

    @property
    def rms(self) -> float:
        """Root mean square of the real entries of T."""
        return math.sqrt(float(np.vdot(self.T, self.T).real) / self.T.view(np.float32).size)


def stepped_matrix(
    bench: Bench,
    reference: SteppedReference,
    demodulate: SteppedDemodulator,
    n_inputs: int,
    *,
    repeats: int = 1,
    max_saturated_fraction: float = 1e-3,
) -> SteppedMatrix:
    """Measure T; all fields are held in memory.

    Args:
        bench: An open bench, its exposure set.
        reference: What steps. Two steps need a phase that holds still all the time.
        demodulate: What turns the steps' frames into fields.
        n_inputs: Length of the vectors.
        repeats: How often the Hadamard vectors are shown.
        max_saturated_fraction: Largest allowed fraction of pixels at full scale.

    Raises:
        SettingError: No repeats.
        PatternError, FrameMismatchError, CaptureTimeoutError, LaserSafetyError, SaturationError: As
            `Bench.stream`.
    """
    if repeats < 1:
        raise SettingError(f"repeats = {repeats}; at least 1.")
    vectors, scheme = HadamardVectors(n_inputs, repeats), ComplementaryPairs()
    layout = reference.layout(n_inputs)
    room = bench.longest_sequence // (2 * len(reference.turns))
    step = min(_LONGEST, max(room, 1))
    batches = [
        scheme.patterns(layout, vectors.bits(range(k, min(k + step, vectors.count))))
        for k in range(0, vectors.count, step)
    ]
    shown = stepped_fields(
        bench, reference, demodulate, batches, max_saturated_fraction=max_saturated_fraction
    )
    fields = np.concatenate(list(shown)).astype(np.complex64, copy=False)
    common = scheme.common(fields)
    gains = scheme.gains(products(fields, common, scheme.steps), demodulate.n_modes)
    fields *= (np.abs(gains).mean() / gains).astype(np.complex64)[:, None]
    common = common * np.float32(np.abs(gains).mean())
    off = np.zeros_like(common)
    solve = vectors.solver(0.0)

    def solved(signed: NDArray[np.complex64]) -> NDArray[np.complex64]:
        sums = np.zeros((vectors.rows, demodulate.n_modes), np.complex64)
        vectors.add(sums, 0, signed)
        return solve(sums)

    one, other = (solved(half) for half in scheme.halves(fields, common, off))
    rho = abs(np.vdot(one, other)) / float(np.linalg.norm(one) * np.linalg.norm(other))
    T = np.ascontiguousarray(((one + other) / 2).T)
    split_half = math.sqrt(2 * rho / (1 + rho))
    if len(reference.turns) == 2:
        return SteppedMatrix(T.real.copy(), common.real.copy(), split_half)
    return SteppedMatrix(T, common, split_half)
