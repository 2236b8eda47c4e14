"""Codes through a bench without a tilt: two or four exposures a field, a mode a grain.

A ternary code e is shown as e+ and e-, each at all phases of the reference; the difference of their
fields is T e, free of every static bias. Each sequence begins and ends with everything on and
everything off, whose fields add up to the sum that T is counted from (see `stepped_matrix`): that
tells phase and gain, between which they are interpolated.

Two steps tell real parts only: gain, but not phase. A phase that has moved by x shows as a fidelity
of cos(x)^2, and is refused where that is too small.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from calibration import drift
from calibration.anchors import checked_ternary
from calibration.errors import DecorrelationError
from calibration.phase_stepping import SteppedDemodulator
from calibration.sealed_file import blocks
from calibration.stepped_matrix import SteppedMatrix
from calibration.stepped_reference import SteppedReference, stepped_fields
from opu_driver.bench import MARKERS, Bench
from opu_driver.errors import SettingError
from opu_driver.modulator import Patterns

if TYPE_CHECKING:
    from torch import Tensor

_BRACKETS = 4  # fields of everything on or off around the codes of a sequence


class SteppedProjector:
    """A stepped reference's matrix as a linear map, with the interface of every projector.

    Args:
        bench: An open bench, its exposure that of the matrix.
        reference: What steps.
        demodulate: What turns the steps' frames into fields, the same as for the matrix.
        matrix: What was measured with them.
        rows_between: Rows of codes between two looks at the phase, at most.
        min_fidelity: Smallest allowed fidelity of what is looked at to the matrix's sum.
        max_saturated_fraction: Largest allowed fraction of pixels at full scale.

    Attributes:
        n_inputs: Length of a code.
        n_outputs: Two a mode; one with two steps.

    Raises:
        SettingError: A matrix of other modes, a number out of its limits, or a modulator that does
            not hold one row.
    """

    def __init__(
        self,
        bench: Bench,
        reference: SteppedReference,
        demodulate: SteppedDemodulator,
        matrix: SteppedMatrix,
        *,
        rows_between: int = 16,
        min_fidelity: float = 0.9,
        max_saturated_fraction: float = 1e-3,
    ) -> None:
        room = bench.longest_sequence // demodulate.exposures - _BRACKETS
        if rows_between < 1 or room < 2 or not 0 <= min_fidelity <= 1:
            raise SettingError(
                f"rows_between = {rows_between}, min_fidelity = {min_fidelity:g}, and room for "
                f"{room} fields beside {_BRACKETS} references; at least 1, from 0 to 1, and 2."
            )
        if len(matrix.T) != demodulate.n_modes:
            raise SettingError(
                f"A matrix of {len(matrix.T)} modes; the demodulator makes {demodulate.n_modes}. "
                "Use the one that it was measured with."
            )
        self.n_inputs = int(matrix.T.shape[1])
        self.n_outputs = demodulate.n_outputs
        self._bench = bench
        self._reference = reference
        self._demodulate = demodulate
        self._layout = reference.layout(self.n_inputs)
        self._matrix = matrix
        self._scale = np.float32(1 / matrix.rms)
        self._most = min(rows_between, room // 2)
        self._min_fidelity = min_fidelity
        self._max_saturated_fraction = max_saturated_fraction
        self._rows = self._exposures = self._references = 0
        self._largest_step_rad, self._least_fidelity = 0.0, 1.0

    def fingerprint(self) -> str:
        """Identity of B."""
        digest = hashlib.sha256(repr(self._matrix.T.shape).encode())
        for rows in blocks(self._matrix.T.T):
            digest.update(np.ascontiguousarray(rows).tobytes())
        return digest.hexdigest()[:32]

    def totals(self) -> Mapping[str, float]:
        """The account since construction: sums, the largest phase step, the least fidelity."""
        return {
            "rows": float(self._rows),
            "exposures": float(self._exposures),
            "reference_exposures": float(self._references),
            "phase_drift_rad": self._largest_step_rad,
            "fidelity": self._least_fidelity,
        }

    def project(self, codes: Tensor) -> Tensor:
        """B times each row of codes, through the light.

        Args:
            codes: -1, 0 and 1 of any real dtype, `[row, input]`. Rows of zeros take no exposures.

        Returns:
            float32 `[row, output]` on the CPU: codes @ B.T.

        Raises:
            CodesError: Codes that cannot be shown; nothing was exposed.
            SaturationError: Too many pixels at full scale.
            DecorrelationError: The light no longer is the matrix's.
            DriftError: The phase moved too far within one sequence.
            FrameMismatchError, CaptureTimeoutError, LaserSafetyError: As `Bench.stream`.
        """
        import torch

        ternary = checked_ternary(codes.detach().cpu().numpy(), self.n_inputs)
        shown = np.flatnonzero(ternary.any(axis=1))
        outputs = np.zeros((len(ternary), self.n_outputs), np.float32)
        done = 0
        for fields in stepped_fields(
            self._bench,
            self._reference,
            self._demodulate,
            self._signals(ternary[shown]),
            max_saturated_fraction=self._max_saturated_fraction,
        ):
            projected = self._projected(fields)
            outputs[shown[done : done + len(projected)]] = projected
            done += len(projected)
            self._exposures += (len(fields) - _BRACKETS) * self._demodulate.exposures
            self._references += MARKERS + _BRACKETS * self._demodulate.exposures
        self._rows += len(ternary)
        return torch.from_numpy(outputs)

    def _signals(self, codes: NDArray[np.int8]) -> Iterator[Patterns]:
        """Everything on and off, e+ and e- of some rows, everything on and off again."""
        ends = np.array([[1], [0]], np.uint8).repeat(self.n_inputs, axis=1)
        for first in range(0, len(codes), self._most):
            some = codes[first : first + self._most]
            pairs = np.stack([some > 0, some < 0], axis=1).reshape(-1, self.n_inputs)
            yield self._layout.render(np.concatenate([ends, pairs.astype(np.uint8), ends]))

    def _projected(self, fields: NDArray[Any]) -> NDArray[np.float32]:
        """Outputs `[row, output]` from the fields of one sequence."""
        common = self._matrix.pair_sum
        sums = np.stack([fields[0] + fields[1], fields[-2] + fields[-1]])
        gains = drift.factors(sums.astype(np.complex64), common.astype(np.complex64))
        noise = float(np.mean(np.abs(np.diff(sums / gains[:, None], axis=0)) ** 2)) / 2
        fidelity = float(drift.fidelity(sums, common, noise).min())
        self._least_fidelity = min(self._least_fidelity, fidelity)
        self._largest_step_rad = max(self._largest_step_rad, drift.largest_step_rad(gains))
        if fidelity < self._min_fidelity:
            raise DecorrelationError(
                f"The sum of everything on and off has a fidelity of {fidelity:.3f} to that of the "
                f"matrix; at least {self._min_fidelity:g} is needed. The medium or the alignment "
                "has changed, or, with two steps, the phase: measure the matrix again."
            )
        # The looks lie half a field after their first: in halves of fields, at 1 and at the end.
        own = np.arange(2, len(fields) - 2)
        positions = np.array([1, 2 * len(fields) - 3])
        at_own: NDArray[Any] = drift.interpolate(gains, positions, 2 * own)
        if fields.dtype.kind != "c":
            at_own = at_own.real
        corrected = fields[2:-2] / at_own[:, None].astype(fields.dtype)
        differences = (corrected[0::2] - corrected[1::2]) * self._scale
        return np.ascontiguousarray(differences, fields.dtype).view(np.float32)
