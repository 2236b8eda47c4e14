"""How an interferometer has moved between two frames of one pattern: phase, gain, and tilt.

Seen at the carrier of the calibration, a field that has not changed but for the interferometer is

    z_t(x) = a exp(2 pi i g.x) z_0(x),

with a the complex gain and g the drift of the carrier frequency. Their product p = z_t z_0* is a
tone, |z_0|^2 its weight, and the largest |X(g)|, X(g) = sum_x p(x) exp(-2 pi i g.x), is the
least-squares answer: the highest half bin of a transform starts Newton's steps on |X|^2. Positions
are counted from the middle of the frame, where phase and tilt do not mix.

Of large grids, p is summed over cells of neighbouring modes, with the tilt that is known by then
undone. What is left of it is found among the cells, and the next pass begins with both: when
nothing is left, the modes of a cell agree, and the answer is that of all modes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from calibration.threads import processors, share

_PASSES = 4
_STEPS = 10
_LONGEST_STEP = 0.2  # bins
_SETTLED = 1e-4  # bins that a pass has left: of those it misses a hundredth
_NEWTON_SETTLED = 1e-7  # bins
_CELLS = 64  # along an axis, at least: less would lose of the precision
_CELL_PIXELS = 16  # at most: tilts up to 0.03 cycles/pixel remain within a cell's reach
_SEARCHED = 4  # fields in which the highest bin is looked for


@dataclass(frozen=True, eq=False)
class Movement:
    """Where fields of one pattern have gone from their reference.

    Attributes:
        row: Drift of the carrier's row frequency, cycles/pixel.
        column: Drift of its column frequency.
        gains: Complex gains a, complex128 `[field]`: modulus, and phase at the middle of the frame.
        row_sigma: Standard deviation of `row`, from what is left over.
        column_sigma: Standard deviation of `column`.
        phase_sigma: Standard deviation of the phase of one gain, rad.
    """

    row: float
    column: float
    gains: NDArray[np.complex128]
    row_sigma: float
    column_sigma: float
    phase_sigma: float


class Reference:
    """The field of one pattern, to which later fields of it are compared.

    Args:
        field: complex64 `[mode]`.
        grid_shape: Rows and columns of the modes.
        decimation: Pixels between two modes.
        noise_gain: `Demodulator.noise_gain`; it says how many of the modes have noise of their own.
    """

    def __init__(
        self,
        field: NDArray[np.complex64],
        grid_shape: tuple[int, int],
        decimation: int,
        noise_gain: float,
    ) -> None:
        self.field = field
        self._grid_shape = grid_shape
        self._decimation = decimation
        self._own_noise = min(noise_gain * decimation**2, 1.0)
        self._axes = [decimation * (np.arange(n) - (n - 1) / 2) for n in grid_shape]
        self._cell = max(1, min(min(grid_shape) // _CELLS, _CELL_PIXELS // decimation))
        self._cell_axes = [
            np.array([axis[k : k + self._cell].mean() for k in range(0, len(axis), self._cell)])
            for axis in self._axes
        ]
        weight = np.abs(field.reshape(grid_shape)).astype(np.float64) ** 2
        self._power = float(weight.sum())
        self._spread = [  # sum of |z_0|^2 x^2 along rows and columns
            float(np.sum(weight.sum(axis=1 - axis) * self._axes[axis] ** 2)) for axis in (0, 1)
        ]

    def movement(self, fields: NDArray[np.complex64]) -> Movement:
        """One tilt, and a gain each, of fields `[field, mode]` of this pattern."""
        spread = np.linspace(0, len(fields) - 1, min(len(fields), _SEARCHED)).astype(int)
        tilt = self._highest_bin(self._cells(fields[spread], np.zeros(2))[0])
        for _ in range(_PASSES):
            cells, powers = self._cells(fields, tilt)
            left = self._left_over(cells)
            tilt = tilt + left
            if np.abs(left * self._lengths).max() < _SETTLED:
                break
        gains = self._moments(cells, left)[:, 0, 0] / self._power
        own = float(np.mean(np.abs(gains) ** 2))
        remainder = max(float(powers.mean()) - own * self._power, 0.0)
        # Half of the noise turns the phase; the rest of it is gain.
        noise = remainder / (fields.shape[1] * self._own_noise) / (2 * own) if own else math.inf
        row, column = (
            math.sqrt(noise / (len(fields) * spread)) / (2 * math.pi) for spread in self._spread
        )
        return Movement(
            float(tilt[0]), float(tilt[1]), gains, row, column, math.sqrt(noise / self._power)
        )

    def ramp(self, row: float, column: float) -> NDArray[np.complex64]:
        """What a drift of the carrier turns the modes by: exp(2 pi i g.x), complex64 `[mode]`."""
        down, across = (
            np.exp(2j * np.pi * g * x) for g, x in zip((row, column), self._axes, strict=True)
        )
        ramp: NDArray[np.complex64] = (down[:, None] * across).astype(np.complex64).ravel()
        return ramp

    @property
    def _lengths(self) -> NDArray[np.float64]:
        """Rows and columns of the frame, pixels."""
        return self._decimation * np.array(self._grid_shape, np.float64)

    def _cells(
        self, fields: NDArray[np.complex64], tilt: NDArray[np.float64]
    ) -> tuple[NDArray[np.complex128], NDArray[np.float64]]:
        """Sums of p exp(-2 pi i g.x) over cells `[field, row, column]`, and powers `[field]`."""
        from calibration import movement_kernel  # numba takes a while to import

        cell_sums: Any = movement_kernel.cell_sums
        cells = np.empty((len(fields), *map(len, self._cell_axes)), np.complex128)
        powers = np.empty(len(fields))
        grids = np.ascontiguousarray(fields).reshape(-1, *self._grid_shape).view(np.float32)
        waves = [
            np.exp(-2j * np.pi * g * x).astype(np.complex64)
            for g, x in zip(tilt, self._axes, strict=True)
        ]
        own = self.field.reshape(self._grid_shape).view(np.float32)
        arguments = cells, powers, grids, own, *waves, self._cell
        share(cell_sums, len(fields), processors(), *arguments)
        return cells, powers

    def _highest_bin(self, cells: NDArray[np.complex128]) -> NDArray[np.float64]:
        # Half bins: from halfway between two whole ones, no hill would be in sight.
        lengths = self._cell * self._decimation * np.array(cells.shape[1:], np.float64)
        rows, columns = (scipy.fft.fftfreq(2 * n, 1 / n) for n in cells.shape[1:])
        halves = len(rows), len(columns)
        spectra = scipy.fft.fft2(cells.astype(np.complex64), s=halves)
        power = np.sum(np.abs(spectra) ** 2, axis=0)
        i, j = np.unravel_index(int(np.argmax(power)), power.shape)
        return np.array([rows[i], columns[j]]) / lengths

    def _left_over(self, cells: NDArray[np.complex128]) -> NDArray[np.float64]:
        """The tilt that cells have among each other, near zero, by Newton's steps."""
        tilt = np.zeros(2)
        longest = _LONGEST_STEP / self._lengths
        for _ in range(_STEPS):
            step = _uphill(self._moments(cells, tilt))
            tilt = tilt + np.clip(step, -longest, longest)
            if np.abs(step * self._lengths).max() < _NEWTON_SETTLED:
                break
        return tilt

    def _moments(
        self, cells: NDArray[np.complex128], tilt: NDArray[np.float64]
    ) -> NDArray[np.complex128]:
        """Sums of cells exp(-2 pi i g.x) times powers of x: `[field, power of row, of column]`."""
        down, across = (
            np.exp(-2j * np.pi * g * x) * x ** np.arange(3)[:, None]
            for g, x in zip(tilt, self._cell_axes, strict=True)
        )
        moments: NDArray[np.complex128] = (down @ cells) @ across.T
        return moments


def _uphill(moments: NDArray[np.complex128]) -> NDArray[np.float64]:
    """Newton's step in (row, column) frequency to the maximum of sum |X|^2, uphill in any case.

    With X_k and X_kl the derivatives of X, those of |X|^2 are 2 Re(X* X_k) and
    2 Re(X_k* X_l + X* X_kl).
    """
    turn = -2j * np.pi
    X = moments[:, 0, 0]
    first = turn * np.stack([moments[:, 1, 0], moments[:, 0, 1]])
    second = turn**2 * np.stack(
        [
            np.stack([moments[:, 2, 0], moments[:, 1, 1]]),
            np.stack([moments[:, 1, 1], moments[:, 0, 2]]),
        ]
    )
    slope = np.real(first @ X.conj())
    bend = np.real(first.conj() @ first.T + second @ X.conj())
    curvature, axes = np.linalg.eigh(bend)
    uphill = axes.T @ slope
    return np.asarray(axes @ (uphill / np.maximum(np.abs(curvature), 1e-30)), np.float64)
