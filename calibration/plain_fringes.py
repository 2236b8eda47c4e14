"""Plain fringes: a hologram of an object without speckle, demodulated around its one tone."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from calibration.carrier import Carrier
from calibration.demodulation import Demodulator
from calibration.errors import NoCarrierError
from calibration.spectrum import power_spectrum
from calibration.tone import Tone, find_tone

_LEAST_SHARE = 0.03  # of the frame's variance; a speckle's strongest tone has a tenth of it
_LEAST_PEAK = 0.3  # of the power in the disc; a speckle's has a tenth of it
_PEAK_BINS = 3.0


@dataclass(frozen=True)
class PlainFringes:
    """The tone of plain fringes and the disc around it that holds the object.

    Attributes:
        tone: The fringes.
        radius: Of the disc, cycles/pixel: a third of the tone's frequency, so that it keeps clear
            of what lies around zero, unless the edge of the spectrum is nearer.
        demodulate: Makes the field of frames.
    """

    tone: Tone
    radius: float
    demodulate: Demodulator

    @classmethod
    def of(cls, frame: NDArray[Any]) -> Self:
        """The plain fringes of a frame `[row, column]`.

        Raises:
            FramesError: Not such a frame, or not finite.
            NoCarrierError: No tone stands out as fringes do: none at all, or one of many, as in
                speckle.
        """
        tone = find_tone(frame, taper=1.0)
        reach = max(abs(tone.row), abs(tone.column))
        radius = min(math.hypot(tone.row, tone.column) / 3, 0.5 - reach)
        share = tone.amplitude**2 / 2 / float(np.var(frame, dtype=np.float64))
        peak = _peak(frame, tone, radius)
        if share < _LEAST_SHARE or peak < _LEAST_PEAK:
            raise NoCarrierError(
                f"The strongest tone, at ({tone.row:+.4f}, {tone.column:+.4f}) cycles/pixel, holds "
                f"{share:.1%} of the frame's variance and {peak:.0%} of the power around it; plain "
                f"fringes hold {_LEAST_SHARE:.0%} and {_LEAST_PEAK:.0%}. Check that there are any."
            )
        carrier = Carrier(
            tone.row, tone.column, tone.row_sigma, tone.column_sigma, radius, radius_sigma=0.0
        )
        return cls(tone, radius, Demodulator((frame.shape[0], frame.shape[1]), carrier))


def _peak(frame: NDArray[Any], tone: Tone, radius: float) -> float:
    """Share of the disc's power that lies within some bins of its middle; 0 for a small disc."""
    power = power_spectrum(frame[None])
    rows, columns = power.shape
    row, column = np.fft.fftfreq(rows)[:, None] - tone.row, np.fft.fftfreq(columns) - tone.column
    disc = np.hypot(row, column) < radius
    middle = np.hypot(row * rows, column * columns) < _PEAK_BINS
    if np.count_nonzero(disc) < 2 * np.count_nonzero(middle):
        return 0.0
    return float(power[middle].sum() / power[disc].sum())
