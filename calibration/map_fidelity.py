"""Whether projections are those of the calibrated map: in shape, and in how much light there is.

Some of the modes, spread over all of them, are compared with what the calibrated matrix says of
their codes: to read all of a large matrix for each sequence would take longer than the light. With
p the prediction and s = p' + n what was measured, camera noise n of variance v on each of K values,

    fidelity = |<p, s>|^2 / (<p, p> (<s, s> - K v)),    amplitude = |<p, s>| / <p, p>.

The first is blind to how much light there is, the second tells it. The light that is measured
scatters by v sqrt(K); where the prediction itself does not stand out from that, nothing is told.
Where it does and the measurement does not, the light of the codes is lost: the fidelity is zero.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calibration.bit_planes import BitPlanes
from calibration.calibration_file import Calibration

AMPLITUDES = (0.8, 1.25)
"""Allowed amplitude of the projections against the map. Phase and gain are corrected by references,
and what lasers drift between two of them is a few per cent; a lost half of the light is 0.71."""

_MODES = 4096  # compared, at most,
_FEWEST = 256  # and at least, if there are,
_ENTRIES = 1 << 24  # whatever the inputs: entries of T that are held, and products of a sequence
_SEEN, _TELLING = 3.0, 10.0  # deviations of noise that are light, and that would have been


@dataclass(frozen=True)
class MapFidelity:
    """How much a sequence's projections are those of the calibrated map.

    Attributes:
        fidelity: |correlation|^2, camera noise left out; NaN where too little light was to be
            expected for it, 0 where light was expected and none has come.
        sigma: Standard deviation of the fidelity by the camera's noise.
        amplitude: Modulus of the projections' part that the map predicts, over the prediction's.
    """

    fidelity: float
    sigma: float
    amplitude: float

    @property
    def told(self) -> bool:
        """Whether there was light enough to tell."""
        return not math.isnan(self.fidelity)


class MapCheck:
    """Compares projections with a calibration's matrix, on some of its modes.

    Args:
        calibration: Whose matrix it is; some of its rows are copied.

    Attributes:
        modes: int64 `[mode]`, those that are compared.
        purity: Part of the matrix's power that is no noise of its own measurement.
    """

    def __init__(self, calibration: Calibration) -> None:
        n_modes, n_inputs = calibration.T.shape
        wanted = min(max(_ENTRIES // n_inputs, _FEWEST), _MODES, n_modes)
        self.modes: NDArray[np.int64] = np.linspace(0, n_modes - 1, wanted).astype(np.int64)
        rows = calibration.T[self.modes] * np.float32(calibration.scale)
        self._rows = np.ascontiguousarray(rows.T)
        self._planes = max(1, _ENTRIES // rows.size)
        error = calibration.quality.matrix_noise
        self.purity = 1 / (1 + error**2) if math.isfinite(error) else 1.0

    def compared(self, planes: int) -> NDArray[np.int64]:
        """Which of so many bit planes are compared."""
        count = min(planes, self._planes)
        return np.linspace(0, planes - 1, count).astype(np.int64)

    def predicted(self, planes: BitPlanes) -> NDArray[np.complex64]:
        """What the matrix says of bit planes, complex64 `[plane, mode]`, at `modes`."""
        codes = planes.bits[:, 0].astype(np.float32) - planes.bits[:, 1]
        predicted: NDArray[np.complex64] = (codes @ self._rows.view(np.float32)).view(np.complex64)
        return predicted

    def judge(
        self, planes: BitPlanes, differences: NDArray[np.complex64], noise: float
    ) -> MapFidelity:
        """Compare the differences of e+ and e-, in the calibration's phase, gain and scale.

        Args:
            planes: Bit planes of codes, `compared` of a sequence.
            differences: complex64 `[plane, mode]`, at `modes`.
            noise: Variance of a difference, per mode.
        """
        predicted = self.predicted(planes)
        overlap = abs(complex(np.vdot(predicted, differences)))
        own = float(np.vdot(predicted, predicted).real)
        light = float(np.vdot(differences, differences).real) - noise * differences.size
        scatter = noise * math.sqrt(differences.size)
        if not own > _TELLING * scatter:
            return MapFidelity(math.nan, math.nan, math.nan)
        if not light > _SEEN * scatter:
            return MapFidelity(0.0, scatter / own, overlap / own)
        return MapFidelity(overlap**2 / (light * own), scatter / light, overlap / own)
