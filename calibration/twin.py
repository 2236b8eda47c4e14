"""The digital twin of a calibrated bench: the same matrix, without light."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor


class DigitalTwin:
    """Projects by arithmetic through the matrix that a calibration has measured.

    It has the interface of the optical projector and takes any finite codes.

    Args:
        matrix: B, float32 `[output, input]`.
        fingerprint: Identity of B; that of the calibration.
    """

    def __init__(self, matrix: NDArray[np.float32], fingerprint: str) -> None:
        import torch

        self.n_outputs, self.n_inputs = matrix.shape
        self._matrix = torch.from_numpy(matrix)
        self._fingerprint = fingerprint
        self._rows = 0

    def project(self, codes: Tensor) -> Tensor:
        """Codes @ B.T, float32 `[row, output]`, of codes `[row, input]`."""
        self._rows += len(codes)
        return codes.to(self._matrix) @ self._matrix.T

    def fingerprint(self) -> str:
        """Identity of B."""
        return self._fingerprint

    def totals(self) -> Mapping[str, float]:
        """The account since construction: rows."""
        return {"rows": float(self._rows)}
