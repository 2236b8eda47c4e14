"""From frames to fields: the sideband at the carrier, brought to zero frequency and decimated.

A frame |R + S|^2 holds R* S at the carrier, its twin R S* opposite, and |R|^2 + |S|^2 around zero
frequency. A mask in the Fourier plane keeps the sideband's disc; shifted to zero frequency, it
needs only every d-th pixel to be known. The mask is flat up to the sideband's radius r, where the
signal ends, and falls as a raised cosine to zero at 1.15 r (a sharp edge would ring across the
frame from its borders). The grid samples the signal without aliasing when 2 r <= 1/d; of the
mask's skirt, where there is only noise, the outermost part may fold back, and is in `noise_gain`.

The whole map is linear. It is done in single precision, for some frames at a time so that what
lies between the steps stays in the cache; several threads take some each.

Frames may have any size: of a length that is no multiple of d, the rest is left out, half of it on
either side.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from calibration.carrier import Carrier
from calibration.demodulation_path import REFERENCE, DemodulationPath
from calibration.errors import FramesError
from calibration.threads import processors, share
from opu_driver.camera import Frames
from opu_driver.errors import SettingError

EDGE = 0.15
"""Width of the sideband mask's soft edge, as a fraction of the sideband's radius."""

FEWEST_GRAINS = 8
"""Speckle grains along the shorter side of frames to calibrate on."""


class Demodulation(Protocol):
    """A linear map from frames to the complex field R* S, in grey values, on a coarser grid.

    Grid point (i, j) is the field at pixel (i d, j d) of the frame's middle part, d the decimation,
    whose rows and columns are the largest multiples of d that there are (see `middle`). All ways
    there give the same fields on the same grid, each with its own small errors; so a matrix that
    was measured through one has to be used with the same.

    Attributes:
        path: Which way this is, and what it depends on: goes into the calibration.
        engine: What computes it, in words for a record.
        frame_shape: Rows and columns of a frame.
        carrier: Where the sideband is.
        decimation: Pixels between grid points.
        grid_shape: Rows and columns of a field.
        n_modes: Points of the grid.
        noise_gain: Variance (mean of |noise|^2) of a demodulated mode, for pixels with white noise
            of variance 1; pi r^2 is the shot limit.
    """

    path: DemodulationPath
    engine: str
    frame_shape: tuple[int, int]
    carrier: Carrier
    decimation: int
    grid_shape: tuple[int, int]
    n_modes: int
    noise_gain: float

    def __call__(
        self, frames: Frames, out: NDArray[np.complex64] | None = None
    ) -> NDArray[np.complex64]:
        """The fields of frames.

        Args:
            frames: Grey values `[frame, row, column]`, of any real type.
            out: Where to write the fields; None for a new array.

        Returns:
            complex64 `[frame, grid row, grid column]`: `out`, if it was given.

        Raises:
            FramesError: Frames of another shape than the demodulator's, or not finite; or an
                `out` that does not fit them.
        """


class Demodulator:
    """Turns frames into the complex field R* S, in grey values, on a coarser grid.

    Grid point (i, j) is the field at pixel (i d, j d) of the frame's `middle`, d the decimation.
    Towards the borders it mixes with the field of the opposite ones: 10 % and more in the first
    grains, about 1 % 30 pixels in, below 0.1 % beyond 1 / (EDGE r) pixels. It stays linear in the
    light, so that a matrix measured through it is exact for it.

    A static bias (the field of an all-off exposure) is for the caller to subtract. Results do not
    depend on the number of threads.

    Args:
        frame_shape: Rows and columns of a frame.
        carrier: Where the sideband is.
        decimation: Pixels between grid points along rows and columns; None for the largest that
            has 2 r <= 1/d.
        threads: How many work at a time; None for `NUMBA_NUM_THREADS`, or one a processor.

    Attributes:
        path: `REFERENCE`.
        engine: What computes it, in words for a record.
        frame_shape: Rows and columns of a frame.
        carrier: Where the sideband is.
        decimation: Pixels between grid points.
        grid_shape: Rows and columns of a field.
        n_modes: Points of the grid.
        noise_gain: Variance (mean of |noise|^2) of a demodulated mode, for pixels with white noise
            of variance 1. It is about 1.12 pi r^2; pi r^2 is the shot limit.

    Raises:
        SettingError: A decimation that aliases the field or is more than the frame, or a number of
            threads that cannot be.
    """

    _chunk_pixels = 1 << 17  # taken at a time

    def __init__(
        self,
        frame_shape: tuple[int, int],
        carrier: Carrier,
        *,
        decimation: int | None = None,
        threads: int | None = None,
    ) -> None:
        decimation = checked_decimation(frame_shape, carrier, decimation)
        self._threads = checked_threads(threads)
        self._middle = middle(frame_shape, decimation)
        rows, columns = (n - n % decimation for n in frame_shape)
        self.path = REFERENCE
        self.engine = f"scipy, {self._threads} thread{'s' if self._threads > 1 else ''}"
        self.frame_shape = frame_shape
        self.carrier = carrier
        self.decimation = decimation
        self.grid_shape = rows // decimation, columns // decimation
        self.n_modes = self.grid_shape[0] * self.grid_shape[1]
        down = _Axis(rows, carrier.row, carrier.radius, decimation)
        across = _Axis(columns, carrier.column, carrier.radius, decimation)
        self._down, self._across, self._mask = down, across, _mask(down, across)
        self.noise_gain = float(np.sum(self._mask**2)) / (rows * columns)
        self._wave = down.carrier_wave()[:, None] * across.carrier_wave()
        self._wave /= np.float32(decimation**2)

    def __call__(
        self, frames: Frames, out: NDArray[np.complex64] | None = None
    ) -> NDArray[np.complex64]:
        """The fields of frames, see `Demodulation`."""
        fields = checked_output(frames, self, out)
        chunk = max(self._chunk_pixels // (self.frame_shape[0] * self.frame_shape[1]), 1)

        def work(begin: int, end: int) -> None:
            for first in range(chunk * begin, min(chunk * end, len(frames)), chunk):
                some = slice(first, first + chunk)
                fields[some] = self._demodulate(frames[some, *self._middle])

        share(work, -(-len(frames) // chunk), self._threads)
        return fields

    def _demodulate(self, block: Frames) -> NDArray[np.complex64]:
        frames = block.astype(np.float32)
        down, across = self._down, self._across
        rows_to_frequencies = scipy.fft.rfft if across.within_half else scipy.fft.fft
        lines = rows_to_frequencies(frames, axis=2)[:, :, across.bins % across.length]
        spectra = scipy.fft.fft(lines, axis=1, overwrite_x=True)
        sidebands = spectra[:, down.bins % down.length] * self._mask
        folded = across.fold(down.fold(sidebands, axis=1), axis=2)
        fields: NDArray[np.complex64] = scipy.fft.ifft2(folded, overwrite_x=True) * self._wave
        return fields


def middle(frame_shape: tuple[int, int], decimation: int) -> tuple[slice, slice]:
    """Rows and columns of a frame that are demodulated: whole grid cells, as many as there are."""
    top, left = (n % decimation // 2 for n in frame_shape)
    rows, columns = (n - n % decimation for n in frame_shape)
    return slice(top, top + rows), slice(left, left + columns)


def checked_decimation(
    frame_shape: tuple[int, int], carrier: Carrier, decimation: int | None
) -> int:
    """The pixels between grid points, as `Demodulator` takes them.

    Raises:
        SettingError: The decimation aliases the field or is more than the frame.
    """
    rows, columns = frame_shape
    allowed = [d for d in range(1, min(frame_shape) + 1) if d == 1 or 2 * carrier.radius * d <= 1]
    if decimation is None:
        return max(allowed)
    if decimation not in allowed:
        raise SettingError(
            f"decimation = {decimation}; frames of {rows} x {columns} with a sideband radius "
            f"of {carrier.radius:.4f} cycles/pixel can be decimated by 1 to {max(allowed)}."
        )
    return decimation


def checked_size(frame_shape: tuple[int, int], carrier: Carrier) -> None:
    """Refuse frames that are all border, where fields are a third wrong by the reference path.

    Raises:
        SettingError: A side of fewer than `FEWEST_GRAINS` speckle grains.
    """
    least = math.ceil(FEWEST_GRAINS * carrier.grain)
    if min(frame_shape) < least:
        raise SettingError(
            f"Frames of {frame_shape[0]} x {frame_shape[1]} pixels, where a speckle grain has "
            f"{carrier.grain:.1f}: at least {FEWEST_GRAINS} grains a side are needed, that is "
            f"{least} pixels. Choose a larger region."
        )


def checked_threads(threads: int | None) -> int:
    """How many threads work: one a processor, if nothing is said.

    Raises:
        SettingError: Less than one.
    """
    if threads is None:
        return processors()
    if threads < 1:
        raise SettingError(f"threads = {threads}; at least 1.")
    return threads


def checked_output(
    frames: Frames, demodulation: Demodulation, out: NDArray[np.complex64] | None
) -> NDArray[np.complex64]:
    """Where the fields of frames go: `out`, or a new array.

    Raises:
        FramesError: Frames of another shape than the demodulation's, or not finite; or an `out`
            that does not fit them.
    """
    rows, columns = demodulation.frame_shape
    if frames.ndim != 3 or frames.shape[1:] != (rows, columns):
        raise FramesError(
            f"Frames of shape {list(frames.shape)}; this demodulator takes [n, {rows}, {columns}]."
        )
    if frames.dtype.kind not in "uif":
        raise FramesError(f"Frames of {frames.dtype}; give real grey values.")
    # Of all values the least and the largest, which takes no memory; NaN is either.
    if (
        frames.dtype.kind == "f"
        and not np.isfinite([frames.min(initial=0), frames.max(initial=0)]).all()
    ):
        raise FramesError("Frames with values that are not finite; look at the camera.")
    shape = (len(frames), *demodulation.grid_shape)
    if out is None:
        return np.empty(shape, np.complex64)
    if out.shape != shape or out.dtype != np.complex64 or not out.flags.carray:
        raise FramesError(
            f"out is {out.dtype} {list(out.shape)}; the fields of {len(frames)} frames need a "
            f"contiguous, writable complex64 array {list(shape)}."
        )
    return out


@dataclass(frozen=True)
class _Axis:
    """One axis of a frame, and the frequency bins of the mask along it.

    Attributes:
        length: Pixels.
        carrier: Carrier frequency, cycles/pixel.
        radius: Sideband radius, cycles/pixel.
        decimation: Pixels between grid points.
    """

    length: int
    carrier: float
    radius: float
    decimation: int

    @property
    def bins(self) -> NDArray[np.int64]:
        """The bins within the mask, in steps of 1/length cycles/pixel; not wrapped."""
        reach = self.radius * (1 + EDGE)
        first = np.ceil((self.carrier - reach) * self.length)
        last = np.floor((self.carrier + reach) * self.length)
        return np.arange(int(first), int(last) + 1)

    @property
    def offsets(self) -> NDArray[np.float64]:
        """Distance of the bins from the carrier, cycles/pixel."""
        return self.bins / self.length - self.carrier

    @property
    def twin_offsets(self) -> NDArray[np.float64]:
        """Distance of the bins from the twin, around the Nyquist edge, cycles/pixel."""
        return (self.bins / self.length + self.carrier + 0.5) % 1 - 0.5

    @property
    def grid(self) -> int:
        """Grid points."""
        return self.length // self.decimation

    @property
    def within_half(self) -> bool:
        """Whether the bins are among the positive frequencies that a real transform gives."""
        return bool(self.bins[0] >= 0 and self.bins[-1] <= self.length // 2)

    def carrier_wave(self) -> NDArray[np.complex64]:
        """What brings the carrier to zero on the grid, `[grid point]`."""
        turns = self.carrier * np.arange(0, self.length, self.decimation)
        return np.asarray(np.exp(-2j * np.pi * turns), np.complex64)

    def fold(self, values: NDArray[np.complex64], axis: int) -> NDArray[np.complex64]:
        """Add up the bins that the grid cannot tell apart, in the order of `scipy.fft.ifft`."""
        values = np.moveaxis(values, axis, 0)
        folded = np.zeros((self.grid, *values.shape[1:]), np.complex64)
        for first in range(0, len(values), self.grid):
            some = slice(first, first + self.grid)
            folded[self.bins[some] % self.grid] += values[some]
        return np.moveaxis(folded, 0, axis)


def _mask(down: _Axis, across: _Axis) -> NDArray[np.float32]:
    """Flat to r, a raised cosine to (1 + EDGE) r; nothing of what is nearer to the twin."""
    distance = np.hypot(down.offsets[:, None], across.offsets)
    to_twin = np.hypot(down.twin_offsets[:, None], across.twin_offsets)
    beyond = np.clip((distance / down.radius - 1) / EDGE, 0, 1)
    return np.where(distance < to_twin, (1 + np.cos(np.pi * beyond)) / 2, 0).astype(np.float32)
