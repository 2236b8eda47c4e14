"""The taps of a separable filter that takes the field out of a hologram: Wiener's, axis by axis.

A frame of fully developed speckle, in units of the mean of |S|^2, is a constant and

    I(x) = u(x) + u*(x) + |S(x)|^2 + n(x),      u = R* S exp(2 pi i f x),

whose covariance at a lag d (pixels) is known in closed form: with the speckle's degree of
coherence J(d) = 2 J_1(2 pi r |d|) / (2 pi r |d|) (the transform of the sideband's disc; Goodman,
Speckle Phenomena in Optics, 4.5), q the power of R and v the variance of the pixels' noise,

    C(d) = 2 q J(d) cos(2 pi f d) + J(d)^2 + v [d = 0]:

sideband and twin, |S|^2, noise. The estimate u(x) = sum t(n) I(x + n) with the least mean square
error has the taps t = C^-1 r, r(n) = q J(n) exp(-2 pi i f n). Separable taps t = a b have no closed
form; with a given, b is a Wiener filter again, so they are improved in turns. What is constant
is nulled exactly: the taps of the axis of the larger carrier sum to zero.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import scipy.linalg
from numpy.typing import NDArray
from scipy.special import j1

from calibration.carrier import Carrier
from calibration.spectrum import Spectrum
from opu_driver.camera import Frames
from opu_driver.errors import SettingError

LEAST_NOISE = 0.01
"""Noise that is always reckoned with: a filter for none would amplify what there is."""

_TURNS = 6  # each axis; the error changes by less than a thousandth of itself after four


@dataclass(frozen=True)
class Levels:
    """How bright the parts of a hologram are, in units of the mean of |S|^2.

    Attributes:
        reference: q, mean of |R|^2 (times what the pixels' aperture leaves of the fringes,
            squared).
        noise: v, variance of a pixel's noise.

    Raises:
        SettingError: One of them is not a positive, finite number.
    """

    reference: float = 4.0
    noise: float = 0.01

    def __post_init__(self) -> None:
        for name in ("reference", "noise"):
            value = getattr(self, name)
            if not 0 < value < math.inf:
                raise SettingError(f"{name} = {value:g}; a level is positive and finite.")


def measure_levels(frames: Frames, carrier: Carrier, *, black_level: float = 0.0) -> Levels:
    """The levels of holograms, from their mean and their spectrum.

    The sideband holds N_R N_S, the mean is N_R + N_S, and where no order lies is the noise; of that
    `LEAST_NOISE` at least.

    Args:
        frames: Grey values `[frame, row, column]` of speckle.
        carrier: Where their sideband is.
        black_level: Grey value without light.
    """
    spectrum = Spectrum.of(frames)
    radius = carrier.radius
    sidebands = spectrum.disc(carrier.row, carrier.column, 1.15 * radius)
    sidebands |= spectrum.disc(-carrier.row, -carrier.column, 1.15 * radius)
    empty = spectrum.trusted & ~sidebands & (spectrum.modulus > 2.2 * radius)
    powers = spectrum.power[empty if empty.any() else spectrum.trusted]
    noise = float(powers.mean() if empty.any() else np.quantile(powers, 0.05))
    within = spectrum.disc(carrier.row, carrier.column, radius)
    cross = float(np.sum(spectrum.power[within] - noise)) / spectrum.power.size
    mean = float(frames.mean(dtype=np.float64)) - black_level
    root = math.sqrt(max(mean**2 - 4 * cross, 0.0))
    signal = (mean - root) / 2
    return Levels(reference=cross / signal**2, noise=max(noise / signal**2, LEAST_NOISE))


@dataclass(frozen=True, eq=False)
class AxisTaps:
    """Taps along one axis: one set for all grid points but those near the border.

    A window near the border stays within the frame: its taps estimate a point off its centre.

    Attributes:
        centred: complex128 `[2 reach + 1]`, for pixels -reach to reach from the grid point;
            those at -n and n are conjugates.
        starts: int64 `[point]`, first pixel of each grid point's window.
        borders: int64 `[point]`, row of `skewed` where the window is not centred, else -1.
        skewed: complex128 `[row, window]`.
    """

    centred: NDArray[np.complex128]
    starts: NDArray[np.int64]
    borders: NDArray[np.int64]
    skewed: NDArray[np.complex128]

    @property
    def window(self) -> int:
        """Pixels that a grid point takes."""
        return int(self.skewed.shape[1])

    @property
    def noise_gain(self) -> float:
        """Sum of |tap|^2, averaged over the grid."""
        of_rows = np.sum(np.abs(self.skewed) ** 2, axis=1)
        of_centred = float(np.sum(np.abs(self.centred) ** 2))
        return float(np.mean(np.append(of_rows, of_centred)[self.borders]))


@dataclass(frozen=True, eq=False)
class SeparableTaps:
    """The taps along both axes, and how good they are away from the border.

    Attributes:
        down: Along a column of pixels.
        across: Along a row.
        leak: Error relative to the field that there is without noise: what of |S|^2 and the twin
            gets through, and what of the field does not.
        noise: Error by the pixels' noise, relative to the field.
    """

    down: AxisTaps
    across: AxisTaps
    leak: float
    noise: float

    @property
    def reach(self) -> int:
        """Pixels on either side of a grid point that are used."""
        return len(self.down.centred) // 2

    @property
    def error(self) -> float:
        """Expected error relative to the field, away from the border."""
        return math.hypot(self.leak, self.noise)


class _Model:
    """The covariances of a hologram within a window of `2 reach + 1` pixels on both axes."""

    def __init__(self, carrier: Carrier, levels: Levels, reach: int) -> None:
        self.levels = levels
        self.frequencies = carrier.row, carrier.column
        self._radius = carrier.radius
        lags = np.arange(-2 * reach, 2 * reach + 1)
        coherence = self._coherence(lags[:, None], lags)
        waves = np.exp(2j * np.pi * np.add.outer(carrier.row * lags, carrier.column * lags))
        self._covariance = 2 * levels.reference * coherence * waves.real + coherence**2
        self._covariance[2 * reach, 2 * reach] += levels.noise

    def _coherence(self, row: NDArray[np.int64], column: NDArray[np.int64]) -> NDArray[np.float64]:
        argument = np.maximum(2 * np.pi * self._radius * np.hypot(row, column), 1e-9)
        coherence: NDArray[np.float64] = 2 * j1(argument) / argument
        return coherence

    def towards(self, row: NDArray[np.int64], column: NDArray[np.int64]) -> NDArray[np.complex128]:
        """r: covariance of u at zero with the pixels at these places."""
        turns = np.add.outer(self.frequencies[0] * row, self.frequencies[1] * column)
        coherence = self._coherence(row[:, None], column)
        towards: NDArray[np.complex128] = (
            self.levels.reference * coherence * np.exp(-2j * np.pi * turns)
        )
        return towards

    def through(self, taps: NDArray[np.complex128], axis: int, size: int) -> NDArray[np.complex128]:
        """Covariance `[size, size]` along the other axis of pixels filtered along this one."""
        alike = np.correlate(taps, taps, "full")  # at lag d: sum of t*(n) t(n + d)
        middle = len(self._covariance) // 2
        near = slice(middle - len(taps) + 1, middle + len(taps))
        lags = slice(middle, middle + size)
        table = self._covariance if axis == 0 else self._covariance.T
        values = alike @ table[near, lags]
        return np.asarray(scipy.linalg.toeplitz(values.conj(), values), np.complex128)


def separable_taps(
    carrier: Carrier,
    frame_shape: tuple[int, int],
    decimation: int,
    reach: int,
    levels: Levels,
) -> SeparableTaps:
    """The separable taps with the least expected error.

    Args:
        carrier: Where the sideband is.
        frame_shape: Rows and columns of a frame.
        decimation: Pixels between grid points.
        reach: Pixels on either side of a grid point that are used.
        levels: How bright the parts of the holograms are.
    """
    model = _Model(carrier, levels, reach)
    pixels = np.arange(-reach, reach + 1)
    towards = model.towards(pixels, pixels)
    nulled = int(abs(carrier.column) > abs(carrier.row))  # the axis of the larger carrier
    down = np.exp(-2j * np.pi * carrier.row * pixels) * np.hanning(len(pixels) + 2)[1:-1]
    for _ in range(_TURNS):
        covariance = model.through(down, 0, len(pixels))
        across = _best(covariance, down.conj() @ towards, null=nulled == 1)
        covariance = model.through(across, 1, len(pixels))
        target = towards @ across.conj()
        down = _best(covariance, target, null=nulled == 0)
    power = levels.reference
    error = power - 2 * np.vdot(down, target).real + np.vdot(down, covariance @ down).real
    noise = levels.noise * float(np.sum(np.abs(down) ** 2) * np.sum(np.abs(across) ** 2))
    axes = []
    for axis, (taps, other) in enumerate(((down, across), (across, down))):
        size = min(len(pixels), frame_shape[axis])
        covariance = model.through(other, 1 - axis, size)
        axes.append(
            _along(model, axis, taps, other, covariance, frame_shape[axis], decimation, nulled)
        )
    return SeparableTaps(
        axes[0],
        axes[1],
        leak=math.sqrt(max(float(error) - noise, 0.0) / power),
        noise=math.sqrt(noise / power),
    )


def _along(
    model: _Model,
    axis: int,
    taps: NDArray[np.complex128],
    other: NDArray[np.complex128],
    covariance: NDArray[np.complex128],
    length: int,
    decimation: int,
    nulled: int,
) -> AxisTaps:
    """The taps along an axis with those of windows that the border holds back."""
    reach = len(taps) // 2
    size = len(covariance)
    points = np.arange(0, length, decimation)
    starts = np.clip(points - reach, 0, length - size)
    skewed = np.flatnonzero((starts != points - reach) | (size < len(taps)))
    borders = np.full(len(points), -1)
    borders[skewed] = np.arange(len(skewed))
    pixels = np.arange(-reach, reach + 1)
    rows = []
    for offset in starts[skewed] - points[skewed]:
        window = offset + np.arange(size)
        if axis == 0:
            target = model.towards(window, pixels) @ other.conj()
        else:
            target = other.conj() @ model.towards(pixels, window)
        rows.append(_best(covariance, target, null=axis == nulled))
    return AxisTaps(taps, starts, borders, np.array(rows, np.complex128).reshape(len(rows), size))


def _best(
    covariance: NDArray[np.complex128], target: NDArray[np.complex128], *, null: bool
) -> NDArray[np.complex128]:
    """The taps of least error; with `null`, of those whose sum is zero."""
    both = np.stack([target, np.ones_like(target)], axis=1)
    taps, flat = scipy.linalg.solve(covariance, both, assume_a="pos").T
    best: NDArray[np.complex128] = taps - flat * (taps.sum() / flat.sum()) if null else taps
    return best
