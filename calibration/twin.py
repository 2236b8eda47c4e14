"""The digital twin of a calibrated bench: the same matrix, without light."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

HELD_BYTES = 1 << 30
"""Matrix up to which B is held in memory."""

_BLOCK_BYTES = 1 << 26


class DigitalTwin:
    """Projects by arithmetic through the matrix that a calibration has measured.

    It has the interface of the optical projector and takes any finite codes. A matrix that is too
    large to be held is read anew, block by block, for each projection.

    Args:
        T: complex64 `[mode, input]`; may be mapped from a file.
        output_modes: `[mode]`, the modes in the order of the outputs.
        scale: Factor from fields to outputs.
        fingerprint: Identity of B; that of the calibration.
    """

    def __init__(
        self,
        T: NDArray[np.complex64],
        output_modes: NDArray[np.intp],
        scale: float,
        fingerprint: str,
    ) -> None:
        n_modes, self.n_inputs = T.shape
        self.n_outputs = 2 * n_modes
        self._T, self._modes, self._scale = T, output_modes, np.float32(scale)
        self._fingerprint = fingerprint
        self._rows = 0
        step = max(_BLOCK_BYTES // T[:1].nbytes, 1)
        self._blocks = [slice(first, first + step) for first in range(0, n_modes, step)]
        held = T.nbytes <= HELD_BYTES
        self._held = [self._matrix(block) for block in self._blocks] if held else None

    def project(self, codes: Tensor) -> Tensor:
        """Codes @ B.T, float32 `[row, output]`, of codes `[row, input]`."""
        import torch

        self._rows += len(codes)
        blocks = self._held or (self._matrix(block) for block in self._blocks)
        return torch.cat([codes.to(B) @ B.T for B in blocks], dim=1)

    def fingerprint(self) -> str:
        """Identity of B."""
        return self._fingerprint

    def totals(self) -> Mapping[str, float]:
        """The account since construction: rows."""
        return {"rows": float(self._rows)}

    def _matrix(self, block: slice) -> Tensor:
        """Rows of B: real and imaginary part of each of some modes."""
        import torch

        T = self._T[self._modes[block]] * self._scale
        parts = np.stack([T.real, T.imag], axis=1)
        return torch.from_numpy(parts.reshape(-1, self.n_inputs))
