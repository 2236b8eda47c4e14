"""A projector some of whose outputs are dead, as pixels of a camera can be."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from training.errors import SettingsError
from training.projector import Projector


class DeadOutputs:
    """Another projector, with a share of its outputs always zero.

    Args:
        projector: The other one.
        share: Of the outputs that are dead, 0 to 1.
        seed: Decides which.

    Raises:
        SettingsError: A share that is none.
    """

    def __init__(self, projector: Projector, share: float, seed: int) -> None:
        if not 0 <= share <= 1:
            raise SettingsError(f"A share of {share} dead outputs: it lies in [0, 1].")
        self._projector = projector
        self._share, self._seed = share, seed
        generator = torch.Generator().manual_seed(seed)
        order = torch.randperm(projector.n_outputs, generator=generator)
        self._dead = order[: round(share * projector.n_outputs)]

    @property
    def n_inputs(self) -> int:
        """Length of a code vector."""
        return self._projector.n_inputs

    @property
    def n_outputs(self) -> int:
        """Length of a projection, dead ones included."""
        return self._projector.n_outputs

    def project(self, codes: Tensor) -> Tensor:
        """`codes @ B.T`, with zeros at the dead outputs."""
        projection = self._projector.project(codes)
        projection[:, self._dead] = 0.0
        return projection

    def fingerprint(self) -> str:
        """That of the other one, and what is dead."""
        return f"{self._projector.fingerprint()}-dead-{self._share:g}-{self._seed}"

    def totals(self) -> Mapping[str, float]:
        """The account of the other one."""
        return self._projector.totals()
