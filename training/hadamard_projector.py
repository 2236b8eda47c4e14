"""Random matrices of a million inputs, never stored: signs between Hadamard matrices."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping

import torch
from torch import Tensor

from training.errors import SettingsError
from training.projector import check_codes

ROUNDS = 3
"""Of signs and Hadamard matrix: from three on, entries are close to independent normal ones."""


class HadamardProjector:
    """`B = sqrt(n) H D3 H D2 H D1`, cut to size and never stored.

    H is the orthogonal Hadamard matrix of the next power of two above both sizes, n, and each D a
    diagonal of random signs (Yu et al., Orthogonal Random Features, arXiv:1610.09072, section 4).
    Entries have unit mean square, rows are orthogonal before they are cut, and a vector costs
    `3 n log2(n)` additions instead of `n_inputs n_outputs` multiplications. Unlike light it is not
    a matrix of independent entries: n signs of three kinds decide all n^2 of them.

    Args:
        n_inputs: Length of a code vector.
        n_outputs: Length of a projection.
        seed: Decides `B`, together with n.

    Raises:
        SettingsError: A size below one.
    """

    def __init__(self, n_inputs: int, n_outputs: int, seed: int) -> None:
        if min(n_inputs, n_outputs) < 1:
            raise SettingsError(f"Sizes {n_inputs, n_outputs} of a projector: each is at least 1.")
        self._n_inputs, self._n_outputs, self._seed = n_inputs, n_outputs, seed
        size = 1 << (max(n_inputs, n_outputs) - 1).bit_length()
        generator = torch.Generator().manual_seed(seed)
        self._signs = 2 * torch.randint(2, (ROUNDS, size), generator=generator).to(torch.int8) - 1
        self._rows = 0

    @property
    def n_inputs(self) -> int:
        """Length of a code vector."""
        return self._n_inputs

    @property
    def n_outputs(self) -> int:
        """Length of a projection."""
        return self._n_outputs

    def project(self, codes: Tensor) -> Tensor:
        """`codes @ B.T`.

        Raises:
            CodeError: Codes are not `[rows, n_inputs]`.
        """
        check_codes(codes, self.n_inputs)
        self._rows += codes.shape[0]
        size = self._signs.shape[1]
        x = torch.zeros(codes.shape[0], size)
        x[:, : self.n_inputs] = codes.to("cpu", torch.float32)
        for signs in self._signs:
            x = walsh_hadamard(x * signs)
        return x[:, : self.n_outputs] * math.sqrt(size)

    def fingerprint(self) -> str:
        """SHA-256 over sizes and signs."""
        digest = hashlib.sha256(f"{self._n_outputs} {self._n_inputs}".encode())
        digest.update(self._signs.numpy().tobytes())
        return f"hadamard-{digest.hexdigest()[:32]}"

    def totals(self) -> Mapping[str, float]:
        """Rows projected since construction."""
        return {"rows": self._rows}


def walsh_hadamard(x: Tensor) -> Tensor:
    """The orthogonal Walsh-Hadamard transform of rows, `[rows, 2**k]`: its own inverse."""
    rows, size = x.shape
    half = 1
    while half < size:
        pairs = x.view(rows, size // (2 * half), 2, half)
        x = torch.stack([pairs[:, :, 0] + pairs[:, :, 1], pairs[:, :, 0] - pairs[:, :, 1]], 2)
        half *= 2
    return x.reshape(rows, size) / math.sqrt(size)
