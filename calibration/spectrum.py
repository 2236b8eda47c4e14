"""The power spectrum of frames, on which carrier and sideband are found."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.fft
from numpy.typing import NDArray
from scipy.signal.windows import hann

from opu_driver.camera import Frames

HANN_WIDTH = 3**-0.5
"""Root mean square width of the taper's power spectrum, bins."""

HANN_ALIKE = np.array([1 / 36, 4 / 9, 1, 4 / 9, 1 / 36])
"""Correlation of a spectrum's ordinates with those up to two bins away: the taper's doing."""

_TILE = 128  # pixels a side of the coarse spectrum


def power_spectrum(frames: Frames) -> NDArray[np.float64]:
    """Averaged periodogram of frames, tapered at their edges and without their mean.

    Args:
        frames: `[frame, row, column]`.

    Returns:
        `[row frequency, column frequency]` in the order of `numpy.fft.fftfreq`; white noise of
        variance v has the mean v, squared grey values.
    """
    taper = _taper(frames.shape[1])[:, None] * _taper(frames.shape[2])
    power = np.zeros(frames.shape[1:])
    for frame in frames:
        grey = frame.astype(np.float32)
        spectrum = scipy.fft.fft2((grey - grey.mean(dtype=np.float64)) * taper)
        power += spectrum.real**2 + spectrum.imag**2
    return power / (len(frames) * float(np.sum(taper**2)))


def tiles(frames: Frames) -> Frames:
    """Frames cut into tiles of at most `_TILE` pixels a side; a remainder is left out."""
    height, width = (min(length, _TILE) for length in frames.shape[1:])
    down, across = frames.shape[1] // height, frames.shape[2] // width
    cut = frames[:, : down * height, : across * width]
    tiles = cut.reshape(-1, down, height, across, width).swapaxes(2, 3)
    return tiles.reshape(-1, height, width)


@dataclass(frozen=True)
class Spectrum:
    """An averaged power spectrum and its frequencies.

    Attributes:
        power: float64 `[row frequency, column frequency]`, as `power_spectrum` gives it.
        row: Row frequencies `[n, 1]`, cycles/pixel.
        column: Column frequencies `[n]`, cycles/pixel.
        looks: Frames that were averaged.
    """

    power: NDArray[np.float64]
    row: NDArray[np.float64]
    column: NDArray[np.float64]
    looks: int

    @classmethod
    def of(cls, frames: Frames) -> Spectrum:
        """The spectrum of frames `[frame, row, column]`."""
        count, rows, columns = frames.shape
        row = scipy.fft.fftfreq(rows)[:, None]
        return cls(power_spectrum(frames), row, scipy.fft.fftfreq(columns), count)

    @property
    def shape(self) -> tuple[int, int]:
        """Bins along rows and columns."""
        return self.row.size, self.column.size

    @property
    def trusted(self) -> NDArray[np.bool_]:
        """All bins but those on the two axes.

        A sensor's fixed rows and columns and the reference's profile lie there.
        """
        rows, columns = self.shape
        off_axes: NDArray[np.bool_] = (np.abs(self.row) > 1.5 / rows) & (
            np.abs(self.column) > 1.5 / columns
        )
        return off_axes

    @property
    def modulus(self) -> NDArray[np.float64]:
        """Distance of each bin from zero frequency, cycles/pixel."""
        return np.asarray(np.hypot(self.row, self.column), dtype=np.float64)

    def offsets(
        self, row: float | NDArray[np.float64], column: float | NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Row and column distances of all bins from a frequency, around the Nyquist edge."""
        return (self.row - row + 0.5) % 1 - 0.5, (self.column - column + 0.5) % 1 - 0.5

    def disc(self, row: float, column: float, radius: float) -> NDArray[np.bool_]:
        """The bins within a radius of a frequency."""
        inside: NDArray[np.bool_] = np.hypot(*self.offsets(row, column)) <= radius
        return inside


def _taper(length: int) -> NDArray[np.float32]:
    """Hann's window: the spectrum's edges must not leak, and its neighbours become alike."""
    window: NDArray[np.float32] = hann(length + 2)[1:-1].astype(np.float32)
    return window
