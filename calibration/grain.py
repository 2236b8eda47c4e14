"""The size of a speckle grain, from how alike neighbouring pixels are.

The autocovariance of frames over a shift d, noise left out with d = 0, is

    C(d) = A cos(2 pi f.d) mu(d) + B mu(d)^2,   mu(d) = 2 J1(2 pi r |d|) / (2 pi r |d|),

fringes at the carrier f with the field's own correlation mu as their envelope, and |S|^2 (Goodman,
Speckle Phenomena in Optics, 2nd ed., ch. 4; mu is the transform of a disc of radius r). Aliasing
does not matter to it: where no sideband can be made out any more, r still can.
"""

from __future__ import annotations

import numpy as np
import scipy.fft
import scipy.special
from numpy.typing import NDArray

from calibration.spectrum import Spectrum

_FARTHEST = 4.0  # pixels; speckle that is too fine is alike no farther
_RADII = np.linspace(0.05, 0.5, 46)
_CARRIERS = 48  # along each axis
_SIGNIFICANT = 6.0  # times the scatter that white noise has


def sideband_radius(spectrum: Spectrum) -> float | None:
    """The radius r of the speckle's band, cycles/pixel, aliased or not; a grain has 0.5 / r pixels.

    It is sought between 0.05 and 0.5, and precise to a few per cent.

    Returns:
        The radius; None where neighbouring pixels have nothing in common, or all are alike.
    """
    shifts = np.array([(i, j) for i in range(-4, 5) for j in range(5) if (j, i) > (0, 0)])
    distance = np.hypot(*shifts.T)
    shifts, distance = shifts[distance <= _FARTHEST], distance[distance <= _FARTHEST]
    power = np.where(spectrum.modulus > 1.5 / min(spectrum.shape), spectrum.power, 0)
    covariance = scipy.fft.ifft2(power).real
    if not covariance[0, 0] > 0 or not np.isfinite(covariance[0, 0]):
        return None
    alike = covariance[shifts[:, 0], shifts[:, 1]] / covariance[0, 0]
    scatter = 1 / np.sqrt(power.size * spectrum.looks)
    if np.abs(alike).max() < _SIGNIFICANT * scatter:
        return None
    f = np.arange(_CARRIERS) / _CARRIERS - 0.5
    row, column = np.meshgrid(f, f[_CARRIERS // 2 :], indexing="ij")
    fringes = np.cos(2 * np.pi * (np.stack([row.ravel(), column.ravel()], axis=1) @ shifts.T))
    explained = [_explained(alike, fringes, _envelope(radius, distance)) for radius in _RADII]
    return float(_RADII[int(np.argmax(explained))])


def _envelope(radius: float, distance: NDArray[np.float64]) -> NDArray[np.float64]:
    x = 2 * np.pi * radius * distance
    return np.asarray(2 * scipy.special.j1(x) / x, np.float64)


def _explained(
    alike: NDArray[np.float64], fringes: NDArray[np.float64], envelope: NDArray[np.float64]
) -> float:
    """The most that A and B explain of the autocovariance, over all carriers: sum of squares.

    Args:
        alike: C / C(0), `[shift]`.
        fringes: cos(2 pi f.d), `[carrier, shift]`.
        envelope: mu, `[shift]`.
    """
    fringe, speckle = fringes * envelope, envelope**2
    aa, ab, bb = np.sum(fringe**2, axis=1), fringe @ speckle, float(speckle @ speckle)
    ya, yb = fringe @ alike, float(speckle @ alike)
    determinant = np.maximum(aa * bb - ab**2, 1e-9 * aa * bb)
    a, b = (bb * ya - ab * yb) / determinant, (aa * yb - ab * ya) / determinant
    possible = (a >= 0) & (b >= 0)
    both = np.where(possible, a * ya + b * yb, 0)
    alone = np.where(ya > 0, ya**2 / aa, 0)
    return float(max(both.max(), alone.max(), max(yb, 0.0) ** 2 / bb))
