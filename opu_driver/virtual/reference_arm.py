"""What light goes into the reference arm: always the same, or what the modulator sends there.

On a bench without phase shifter, the last rows of the modulator can be picked off and sent around
the medium. What they show sets amplitude and phase of the reference, exposure by exposure:

- Mirrors show a binary grating with vertical lines (Lee, Progress in Optics 16, 119, 1978). A slit
  passes its first order only, whose amplitude is the pattern's Fourier component at one line a
  period: moved by a part of a period, the grating shifts the phase by the same part of a turn.
  Rows that are all on or all off have no first order: the reference is off.
- A phase modulator's rows act by their mean: an even phase turns the reference by that phase, a
  checkerboard of 0 and pi darkens it.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from opu_driver.modulator import Patterns


class ReferenceArm:
    """From patterns to the reference's complex amplitude, 1 at its full strength.

    Args:
        shape: Rows and columns of the modulator.
        levels: Of the modulator.
        rows: Its last rows that are in the reference arm; 0 for a reference that is always there.
        period: Columns of the grating whose first order passes the slit (two levels only).
        leakage: Intensity of a mirror that is off, relative to one that is on (two levels only).
    """

    def __init__(
        self, shape: tuple[int, int], levels: int, rows: int, period: int, leakage: float
    ) -> None:
        self._rows = rows
        self._columns = shape[1]
        if levels == 2:
            column = np.arange(shape[1])
            off = math.sqrt(leakage)
            self._light = np.array([off, 1], np.complex64)
            # An even period with its first half on has a first order of 1 / (period sin(pi/period))
            full = 1 / (period * math.sin(math.pi / period))
            self._slit = np.exp(2j * np.pi * column / period) / (shape[1] * full)
        else:
            self._light = np.exp(2j * np.pi * np.arange(levels) / levels).astype(np.complex64)
            self._slit = np.full(shape[1], 1 / shape[1], np.complex128)
        self._packed = levels == 2

    def signal(self, patterns: Patterns) -> Patterns:
        """What of patterns is in the signal arm."""
        return patterns[:, : patterns.shape[1] - self._rows]

    def amplitudes(self, patterns: Patterns, which: NDArray[np.intp]) -> NDArray[np.complex64]:
        """Of the reference when those of the patterns are shown, `[which]`."""
        if not self._rows:
            return np.ones(len(which), np.complex64)
        shown = patterns[:, -self._rows :][which]
        levels = np.unpackbits(shown, axis=2, count=self._columns) if self._packed else shown
        lines = self._light[levels].mean(axis=1)
        amplitudes: NDArray[np.complex64] = (lines @ self._slit).astype(np.complex64)
        return amplitudes
