"""Codes as what two levels can show: signed integers in bit planes, e+ and e- of each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from calibration.errors import CodesError

if TYPE_CHECKING:
    from torch import Tensor

LARGEST_CODE = 255
"""Codes are integers from -255 to 255: at most eight bit planes."""


@dataclass(frozen=True)
class BitPlanes:
    """Bit planes to show, of rows of codes.

    Attributes:
        bits: uint8 `[plane, e+ or e-, input]`.
        rows: int64 `[plane]`, the row of codes that each belongs to.
        weights: float32 `[plane]`, powers of two.
    """

    bits: NDArray[np.uint8]
    rows: NDArray[np.int64]
    weights: NDArray[np.float32]

    @classmethod
    def of(cls, codes: Tensor, n_inputs: int) -> BitPlanes:
        """All bit planes of codes that are not dark, lowest plane first.

        Args:
            codes: Integers of any numeric dtype, `[row, input]`, from -255 to 255.
            n_inputs: Inputs that there are.

        Raises:
            CodesError: Wrong shape, not finite, not integers, or too large.
        """
        values = _checked(codes, n_inputs)
        magnitude = np.abs(values)
        bits, rows, weights = [], [], []
        for plane in range(int(magnitude.max(initial=0)).bit_length()):
            lit = (magnitude >> plane) & 1 == 1
            shown = np.flatnonzero(lit.any(axis=1))
            signed = np.stack([lit & (values > 0), lit & (values < 0)], axis=1)
            bits.append(signed[shown].astype(np.uint8))
            rows.append(shown)
            weights.append(np.full(len(shown), 2.0**plane, np.float32))
        if not bits:
            nothing = np.zeros((0, 2, n_inputs), np.uint8)
            return cls(nothing, np.zeros(0, np.int64), np.zeros(0, np.float32))
        return cls(np.concatenate(bits), np.concatenate(rows), np.concatenate(weights))

    def __len__(self) -> int:
        return len(self.rows)

    def part(self, some: slice | NDArray[np.int64]) -> BitPlanes:
        """Some of them."""
        return BitPlanes(self.bits[some], self.rows[some], self.weights[some])


def _checked(codes: Tensor, n_inputs: int) -> NDArray[np.int16]:
    """The codes as integers; see `BitPlanes.of`."""
    if codes.ndim != 2 or codes.shape[1] != n_inputs:
        raise CodesError(
            f"Codes of shape {list(codes.shape)}; this projector takes [rows, {n_inputs}]."
        )
    held = codes.detach().cpu()
    # NumPy has no bfloat16; float32 holds all that the half formats hold.
    values = (
        held.float() if held.dtype.itemsize < 4 and held.is_floating_point() else held
    ).numpy()
    if values.dtype.kind not in "biuf":
        raise CodesError(f"Codes of {codes.dtype}; give integers of a real dtype.")
    if values.dtype.kind == "f":
        wrong = values[values != np.rint(values)]  # NaN is unequal to itself
        if wrong.size:
            raise CodesError(
                f"{wrong[0]:g} among the codes; a modulator shows integers only. Quantise them "
                "with an encoder (ternary, sign or bit planes)."
            )
    largest = float(np.abs(values.astype(np.float64)).max(initial=0))
    if largest > LARGEST_CODE:
        raise CodesError(
            f"A code of magnitude {largest:g}; up to {LARGEST_CODE} is shown, in eight bit planes. "
            "Scale the codes down and multiply the projection back."
        )
    return values.astype(np.int16)
