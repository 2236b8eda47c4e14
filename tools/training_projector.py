"""The bench's projector, whose owner keeps every calibration that it goes over to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from calibration.calibration_file import Calibration
    from calibration.projector import OpticalProjector


class KeepingProjector:
    """A projector whose new calibrations are kept as it uses them.

    A recalibration is turned into the phase of the one before it. What was measured would be
    another B; what a run has to go on with is the one that was used.

    Args:
        projector: The bench's.
        keep: Is given every calibration that it goes over to, before its first projections are.
    """

    def __init__(self, projector: OpticalProjector, keep: Callable[[Calibration], None]) -> None:
        self._projector, self._keep = projector, keep
        self._kept = projector.calibration

    @property
    def n_inputs(self) -> int:
        """Length of a code vector."""
        return self._projector.n_inputs

    @property
    def n_outputs(self) -> int:
        """Length of a projection."""
        return self._projector.n_outputs

    def project(self, codes: Tensor) -> Tensor:
        """As `OpticalProjector.project`."""
        projection = self._projector.project(codes)
        if self._projector.calibration is not self._kept:
            self._kept = self._projector.calibration
            self._keep(self._kept)
        return projection

    def fingerprint(self) -> str:
        """Identity of B."""
        return self._projector.fingerprint()

    def totals(self) -> Mapping[str, float]:
        """The account of the bench's projector."""
        return self._projector.totals()
