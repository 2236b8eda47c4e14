"""What training sees of a projector, and the projectors that are arithmetic.

A projector multiplies codes by one fixed random matrix `B [n_outputs, n_inputs]` whose entries have
unit mean square. On a bench light does it; the projectors here do it with numbers.
"""

from __future__ import annotations

import hashlib
import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from training.errors import CodeError, SettingsError

COUNTED = ("rows", "exposures", "pixels")
_LOWEST = ("fidelity",)
_HIGHEST = ("drift_rad", "fraction")


@runtime_checkable
class Projector(Protocol):
    """One fixed linear map, the only thing that training knows of optics."""

    @property
    def n_inputs(self) -> int:
        """Length of a code vector."""
        ...

    @property
    def n_outputs(self) -> int:
        """Length of a projection."""
        ...

    def project(self, codes: Tensor) -> Tensor:
        """`codes @ B.T`: `[rows, n_inputs]` -> float32 `[rows, n_outputs]`.

        Optical projectors take integer codes only and answer on the CPU. The projection is the
        caller's, who writes into it: no projector keeps it, or answers with the codes.
        """
        ...

    def fingerprint(self) -> str:
        """The identity of `B`: equal for equal matrices, and only for those.

        Another one than before tells of a bench that was calibrated anew; `totals` then counts more
        `calibration_exposures`.
        """
        ...

    def totals(self) -> Mapping[str, float]:
        """The running account since construction.

        Over the parts of a run, what ends in `rows`, `exposures` or `pixels` is counted and adds up
        (see `counts`); of what ends in `fidelity` the lowest is kept, in `drift_rad` or `fraction`
        the highest; `snr` is a mean over exposures; of others the last part tells (see `joined`).
        """
        ...


class MatrixProjector:
    """A projector around an explicit matrix.

    Args:
        matrix: `B`, floating, `[n_outputs, n_inputs]`. Projections have its dtype, which is float32
            except where a test wants more digits.

    Raises:
        SettingsError: The matrix is not a floating, finite matrix.
    """

    def __init__(self, matrix: Tensor) -> None:
        if matrix.ndim != 2 or not matrix.is_floating_point() or not matrix.isfinite().all():
            raise SettingsError(
                f"B of shape {tuple(matrix.shape)} and {matrix.dtype}: a projector needs a finite, "
                "floating matrix [n_outputs, n_inputs]."
            )
        self._matrix = matrix.detach().clone()
        self._rows = 0

    @property
    def n_inputs(self) -> int:
        """Length of a code vector."""
        return self._matrix.shape[1]

    @property
    def n_outputs(self) -> int:
        """Length of a projection."""
        return self._matrix.shape[0]

    def project(self, codes: Tensor) -> Tensor:
        """`codes @ B.T`.

        Raises:
            CodeError: Codes are not `[rows, n_inputs]`.
        """
        check_codes(codes, self.n_inputs)
        self._rows += codes.shape[0]
        return codes.to(self._matrix) @ self._matrix.T

    def fingerprint(self) -> str:
        """SHA-256 over shape, dtype and entries of `B`."""
        digest = hashlib.sha256(f"{tuple(self._matrix.shape)} {self._matrix.dtype}".encode())
        digest.update(self._matrix.cpu().contiguous().numpy().tobytes())
        return f"matrix-{digest.hexdigest()[:32]}"

    def totals(self) -> Mapping[str, float]:
        """Rows projected since construction."""
        return {"rows": self._rows}


class DenseProjector(MatrixProjector):
    """A stored matrix of independent standard normal entries.

    Args:
        n_inputs: Length of a code vector.
        n_outputs: Length of a projection.
        seed: Decides `B`.

    Raises:
        SettingsError: A size below one.
    """

    def __init__(self, n_inputs: int, n_outputs: int, seed: int) -> None:
        _check_sizes(n_inputs, n_outputs)
        generator = torch.Generator().manual_seed(seed)
        super().__init__(torch.randn(n_outputs, n_inputs, generator=generator))


class GeneratedProjector:
    """A matrix of independent standard normal entries that is never stored.

    It is cut into tiles; each call draws tile `(i, j)` again from a counter-based generator
    (Philox) keyed by the seed and set to `(i, j)`. Memory is that of one tile, whatever the matrix,
    and time that of drawing the tiles whose inputs are not all dark.

    Args:
        n_inputs: Length of a code vector.
        n_outputs: Length of a projection.
        seed: Decides `B`, together with the size of the tiles.
        tile: Outputs and inputs of a tile.

    Raises:
        SettingsError: A size below one.
    """

    def __init__(
        self, n_inputs: int, n_outputs: int, seed: int, tile: tuple[int, int] = (1024, 1024)
    ) -> None:
        _check_sizes(n_inputs, n_outputs)
        _check_sizes(*tile)
        self._n_inputs, self._n_outputs = n_inputs, n_outputs
        self._seed = seed
        self._tile = tile
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
        """`codes @ B.T`, tile by tile.

        Raises:
            CodeError: Codes are not `[rows, n_inputs]`.
        """
        check_codes(codes, self.n_inputs)
        self._rows += codes.shape[0]
        projection = torch.zeros(codes.shape[0], self.n_outputs)
        for j, inputs in enumerate(_stretches(self._n_inputs, self._tile[1])):
            shown = codes[:, inputs].to("cpu", torch.float32)
            if not shown.any():
                continue
            for i, outputs in enumerate(_stretches(self._n_outputs, self._tile[0])):
                projection[:, outputs].addmm_(shown, self._drawn(i, j).T)
        return projection

    def fingerprint(self) -> str:
        """What decides `B`: seed, sizes, tile, and SHA-256 over its first tile."""
        digest = hashlib.sha256(
            f"{self._seed} {self._n_outputs} {self._n_inputs} {self._tile}".encode()
        )
        digest.update(self._drawn(0, 0).numpy().tobytes())
        return f"generated-{digest.hexdigest()[:32]}"

    def totals(self) -> Mapping[str, float]:
        """Rows projected since construction."""
        return {"rows": self._rows}

    def _drawn(self, i: int, j: int) -> Tensor:
        """Tile `(i, j)`, float32; those at the far edges are smaller."""
        high, wide = self._tile
        size = min(high, self._n_outputs - i * high), min(wide, self._n_inputs - j * wide)
        philox = np.random.Philox(key=self._seed, counter=[0, 0, i, j])
        return torch.from_numpy(np.random.Generator(philox).standard_normal(size, np.float32))


def _stretches(length: int, step: int) -> list[slice]:
    return [slice(start, min(start + step, length)) for start in range(0, length, step)]


def counts(totals: Mapping[str, float]) -> dict[str, int]:
    """What adds up in a projector's account."""
    return {key: int(n) for key, n in totals.items() if key.endswith(COUNTED)}


def joined(
    earlier: Mapping[str, float | None], later: Mapping[str, float | None]
) -> dict[str, float | None]:
    """The account of two parts of a run; None where neither knows a finite figure."""
    parts = [
        {key: x for key, x in part.items() if x is not None and math.isfinite(x)}
        for part in (earlier, later)
    ]
    return {
        key: _joined(key, [part for part in parts if key in part]) for key in {**earlier, **later}
    }


def _joined(key: str, parts: Sequence[Mapping[str, float]]) -> float | None:
    """One figure of the parts that know it, the later one last."""
    known = [part[key] for part in parts]
    if len(known) < 2:
        return next(iter(known), None)
    if key.endswith(COUNTED):
        return sum(known)
    if key.endswith(_LOWEST):
        return min(known)
    if key.endswith(_HIGHEST):
        return max(known)
    weights = [part.get("exposures", 0) for part in parts]
    if key == "snr" and any(weights):
        return statistics.fmean(known, weights)
    return known[-1]


def check_codes(codes: Tensor, n_inputs: int) -> None:
    """Refuse codes that are not `[rows, n_inputs]`.

    Raises:
        CodeError: They are not.
    """
    if codes.ndim != 2 or codes.shape[1] != n_inputs:
        raise CodeError(
            f"Codes of shape {tuple(codes.shape)}: this projector takes [rows, {n_inputs}]. "
            f"Use a projector whose n_inputs is the length of the error vector."
        )


def _check_sizes(*sizes: int) -> None:
    if min(sizes) < 1:
        raise SettingsError(f"Sizes {sizes} of a projector: each is at least 1.")
