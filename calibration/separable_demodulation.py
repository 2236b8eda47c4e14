"""From frames to fields at the speed of the optics: one separable pass over the raw pixels.

    z[j, i] = sum_y a(y) sum_x b(x) I[d j + y, d i + x],

with Wiener's taps (`wiener`), computed for the grid points alone (`separable_kernel`). It passes
a square of the spectrum where the reference path passes a disc, so more noise, and where the orders
are close some of |S|^2, get through; both are known beforehand.
"""

from __future__ import annotations

import math
import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration.carrier import Carrier
from calibration.demodulation import (
    checked_decimation,
    checked_output,
    checked_threads,
    middle,
)
from calibration.demodulation_path import MOST_REACH, DemodulationPath
from calibration.threads import share
from calibration.wiener import AxisTaps, Levels, SeparableTaps, separable_taps
from opu_driver.camera import Frames
from opu_driver.errors import SettingError

LARGEST_LEAK = 0.015
"""Error without noise, relative to the field, for which the fewest taps are chosen."""

_STEP = 4  # the reach is a multiple of it and of the decimation,
_LEAST_REACH = 0.625  # from so many inverse sideband radii on
_BAND_PIXELS = 64  # rows of pixels that are taken at a time, so that they stay in the cache
_LARGEST_DOWN, _LARGEST_ACROSS = 16, 8  # what a compiler unrolls


class SeparableDemodulator:
    """Turns frames into the complex field R* S, in grey values, by a separable filter.

    Its fields are those of `demodulation.Demodulator`, on the same grid. Borders: a window never
    leaves the frame's middle. Grid points nearer to the border than `reach` take one that is not
    centred on them, by taps that are the best estimate from there; nothing is wrapped, mirrored or
    padded.

    Results do not depend on the number of threads, nor on how frames are batched. No memory is
    allocated for a frame but for its fields, and none at all where `out` is given. Frames of uint8,
    uint16 or float32 whose rows lie in one piece, also those of a region or of every other frame,
    are read where they are; of others each is converted into memory that a thread keeps for it,
    which takes longer. Calls from several threads do not disturb each other.

    Args:
        frame_shape: Rows and columns of a frame.
        carrier: Where the sideband is.
        decimation: Pixels between grid points, as for `Demodulator`.
        levels: How bright the parts of the holograms are, for which the filter is the best.
        reach: Pixels on either side of a grid point that are used; a multiple of the decimation.
            None for as few as let no more than `LARGEST_LEAK` through, if there are.
        threads: How many work at a time; None for `NUMBA_NUM_THREADS`, or one a processor.

    Attributes:
        path: Which way this is: the filter's reach and levels.
        engine: What computes it, in words for a record.
        frame_shape: Rows and columns of a frame.
        carrier: Where the sideband is.
        decimation: Pixels between grid points.
        grid_shape: Rows and columns of a field.
        n_modes: Points of the grid.
        noise_gain: Variance of a demodulated mode, for pixels with white noise of variance 1.
        reach: Pixels on either side of a grid point that are used.
        taps: The filter, and the errors to expect of it.

    Raises:
        SettingError: A decimation, a reach or a number of threads that cannot be.
    """

    def __init__(
        self,
        frame_shape: tuple[int, int],
        carrier: Carrier,
        *,
        decimation: int | None = None,
        levels: Levels | None = None,
        reach: int | None = None,
        threads: int | None = None,
    ) -> None:
        decimation = checked_decimation(frame_shape, carrier, decimation)
        threads = checked_threads(threads)
        rows, columns = (n - n % decimation for n in frame_shape)
        shape = rows, columns
        levels = levels or Levels()
        if reach is None:
            taps = sufficient_taps(shape, carrier, decimation, levels)
        elif reach < 1 or reach % decimation or reach * carrier.radius > MOST_REACH:
            raise SettingError(
                f"reach = {reach}; a positive multiple of the decimation, {decimation}, and at "
                f"most {MOST_REACH / carrier.radius:.0f} pixels."
            )
        else:
            taps = separable_taps(carrier, shape, decimation, reach, levels)
        self.path = DemodulationPath("separable", taps.reach, levels)
        self.engine = f"numba, {threads} thread{'s' if threads > 1 else ''}"
        self.frame_shape = frame_shape
        self.carrier = carrier
        self.decimation = decimation
        self.grid_shape = rows // decimation, columns // decimation
        self.n_modes = self.grid_shape[0] * self.grid_shape[1]
        self.taps = taps
        self.reach = taps.reach
        self.noise_gain = taps.down.noise_gain * taps.across.noise_gain
        self._threads = threads
        self._middle = middle(frame_shape, decimation)
        self._kept = threading.local()
        self._band = max(_BAND_PIXELS // decimation, 1)
        self._plan = _plan(taps, carrier, decimation, self._band)
        self._lengths = (
            (0,) * decimation,
            (0,) * _chunk(self.reach, decimation, _LARGEST_DOWN),
            (0,) * _chunk(self.reach, decimation, _LARGEST_ACROSS),
        )

    def __call__(
        self, frames: Frames, out: NDArray[np.complex64] | None = None
    ) -> NDArray[np.complex64]:
        """The fields of frames, see `demodulation.Demodulation`."""
        from calibration import separable_kernel  # numba takes a while to import

        fields = checked_output(frames, self, out)
        kernel: Any = separable_kernel.demodulate
        pairs, pixels = fields.view(np.float32), frames[:, *self._middle]
        fixed = *self._plan, *self._lengths
        bands = -(-self.grid_shape[0] // self._band)
        if _readable(pixels):
            share(kernel, len(frames) * bands, self._threads, pairs, *_flat(pixels), *fixed)
            return fields

        def convert(begin: int, end: int) -> None:
            for k in range(begin // bands, -(-end // bands)):
                here = max(begin - k * bands, 0), min(end - k * bands, bands)
                converted = self._converted(pixels[k], *here)
                kernel(pairs[k : k + 1], *_flat(converted[None]), *fixed, *here)

        share(convert, len(frames) * bands, self._threads)
        return fields

    def _converted(self, frame: NDArray[Any], begin: int, end: int) -> NDArray[np.float32]:
        """A frame with the rows of some bands as float32, in memory that this thread keeps."""
        if not hasattr(self._kept, "frame"):
            self._kept.frame = np.empty(frame.shape, np.float32)
        kept: NDArray[np.float32] = self._kept.frame
        starts, window = self.taps.down.starts, self.taps.down.window
        last = min(end * self._band, len(starts)) - 1
        rows = slice(starts[begin * self._band], starts[last] + window)
        np.copyto(kept[rows], frame[rows], casting="unsafe")
        return kept


def _readable(pixels: NDArray[Any]) -> bool:
    """Whether the kernel can read pixels where they are."""
    size = pixels.itemsize
    return (
        pixels.dtype in (np.uint8, np.uint16, np.float32)
        and pixels.flags.aligned
        and pixels.strides[2] == size
        and all(step >= 0 and step % size == 0 for step in pixels.strides)
    )


def _flat(pixels: NDArray[Any]) -> tuple[NDArray[Any], int, int]:
    """All memory from the first pixel to the last, and the steps from frame to frame and row."""
    to_frame, to_row = (step // pixels.itemsize for step in pixels.strides[:2])
    frames, rows, columns = pixels.shape
    size = (max(frames, 1) - 1) * to_frame + (rows - 1) * to_row + columns
    flat = np.lib.stride_tricks.as_strided(
        pixels, (size if frames else 0,), (pixels.itemsize,), writeable=False
    )
    return flat, to_frame, to_row


def sufficient_taps(
    frame_shape: tuple[int, int], carrier: Carrier, decimation: int, levels: Levels
) -> SeparableTaps:
    """The shortest filter that lets no more than `LARGEST_LEAK` through, else the longest."""
    step = decimation * -(-_STEP // decimation)
    reach = step * math.ceil(_LEAST_REACH / carrier.radius / step)
    taps = separable_taps(carrier, frame_shape, decimation, reach, levels)
    while taps.leak > LARGEST_LEAK and (reach + step) * carrier.radius <= MOST_REACH:
        reach += step
        taps = separable_taps(carrier, frame_shape, decimation, reach, levels)
    return taps


def _plan(taps: SeparableTaps, carrier: Carrier, decimation: int, band: int) -> tuple[Any, ...]:
    """The arguments of the kernel that are the same for all frames."""
    down, across = taps.down, taps.across
    edges = np.flatnonzero(across.borders >= 0)
    return (
        _half(down),
        down.starts,
        down.borders,
        _parts(down.skewed),
        _wave(carrier.row, decimation, len(down.starts)),
        _half(across),
        edges,
        across.starts[edges],
        _parts(across.skewed),
        _wave(carrier.column, decimation, len(across.starts)),
        band,
    )


def _half(taps: AxisTaps) -> NDArray[np.float32]:
    """Real and imaginary parts of the centred taps from the middle on, `[2, 1 + reach]`."""
    half = taps.centred[len(taps.centred) // 2 :]
    return np.stack([half.real, half.imag]).astype(np.float32)


def _parts(skewed: NDArray[np.complex128]) -> NDArray[np.float32]:
    """Real and imaginary parts of taps, `[row, 2, window]`."""
    return np.stack([skewed.real, skewed.imag], axis=1).astype(np.float32)


def _wave(frequency: float, decimation: int, points: int) -> NDArray[np.complex64]:
    """What brings the carrier to zero on the grid."""
    turns = frequency * decimation * np.arange(points)
    return np.asarray(np.exp(-2j * np.pi * turns), np.complex64)


def _chunk(reach: int, decimation: int, most: int) -> int:
    """The largest part of the reach, in whole decimations, that is not above `most`."""
    points = reach // decimation
    fitting = [n for n in range(1, points + 1) if points % n == 0 and n * decimation <= most]
    return decimation * max(fitting, default=1)
