"""From frames to fields: the sideband at the carrier, brought to zero frequency and decimated."""

from __future__ import annotations

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from calibration.carrier import Carrier
from opu_driver.camera import Frames
from opu_driver.errors import SettingError

EDGE = 0.15
"""Width of the sideband mask's soft edge, as a fraction of the sideband's radius."""


class Demodulator:
    """Turns frames into the complex field R* S, in grey values, on a coarser grid.

    Args:
        frame_shape: Rows and columns of a frame.
        carrier: Where the sideband is.
        decimation: Pixels between grid points; None for the largest that divides the frame and
            samples the field without aliasing.
    """

    def __init__(
        self, frame_shape: tuple[int, int], carrier: Carrier, *, decimation: int | None = None
    ) -> None:
        rows, columns = frame_shape
        if decimation is None:
            decimation = max(
                d
                for d in range(1, min(frame_shape) + 1)
                if not rows % d and not columns % d and (d == 1 or 2 * carrier.radius * d <= 1)
            )
        if rows % decimation or columns % decimation:
            raise SettingError(f"decimation = {decimation} does not divide {rows} x {columns}.")
        self.carrier = carrier
        self.frame_shape = frame_shape
        self.decimation = decimation
        self.grid_shape = rows // decimation, columns // decimation
        self.n_modes = self.grid_shape[0] * self.grid_shape[1]
        row = (scipy.fft.fftfreq(rows)[:, None] - carrier.row + 0.5) % 1 - 0.5
        column = (scipy.fft.fftfreq(columns) - carrier.column + 0.5) % 1 - 0.5
        beyond = (np.hypot(row, column) / carrier.radius - 1) / EDGE
        self._mask = (0.5 + 0.5 * np.cos(np.pi * np.clip(beyond, 0, 1))).astype(np.float32)
        self.noise_gain = float(np.mean(self._mask**2))
        i, j = np.ogrid[0:rows:decimation, 0:columns:decimation]
        ramp = np.exp(-2j * np.pi * (carrier.row * i + carrier.column * j))
        self._ramp = ramp.astype(np.complex64)

    def __call__(self, frames: Frames) -> NDArray[np.complex64]:
        """Fields `[frame, grid row, grid column]` of frames `[frame, row, column]`."""
        d = self.decimation
        spectra = scipy.fft.fft2(frames.astype(np.float32)) * self._mask
        fields: NDArray[np.complex64] = scipy.fft.ifft2(spectra)[:, ::d, ::d] * self._ramp
        return fields
