"""The sideband of a speckle hologram: the likeliest disc in a spectrum.

There is no peak to look for. A sideband is a disc of exponentially distributed power; beside it
are the twin, the speckle's own spectrum |S|^2 within 2 r of zero frequency, and a background of
noise. Both steps maximise the likelihood of such a spectrum (Whittle's approximation: the ordinates
P of a periodogram are independent and exponential with mean m, ln L = -sum[ln m + P / m]): `search`
over every disc there can be, on a coarse spectrum, and `fit` for centre, radius, edge and
brightness of the one that was found, on the full spectrum.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import scipy.fft
import scipy.special
from numpy.typing import NDArray
from scipy.ndimage import convolve1d

from calibration.errors import (
    AliasedCarrierError,
    CarrierError,
    NoCarrierError,
    NoSpeckleError,
)
from calibration.spectrum import HANN_ALIKE, HANN_WIDTH, Spectrum

_RADII = np.geomspace(0.0234, 0.26, 26)  # from three bins of the coarse spectrum on
_GLARE = 0.01  # of the brightest: hides from the search what leaks past the taper
_HAZE = 0.001  # of the sideband: the same for the fit, and a background for frames without noise
_REACH = 4  # bins over which a sharp edge makes its neighbours alike
_EDGE_BIAS = 0.05  # bins by which a radius may be off: the taper's edge is not quite Gaussian
_CONTRAST = 0.05  # sideband above background; a field buried deeper is of no use
_EVIDENCE = 20.0  # ln L gained by a sideband; noise and bare speckle gain up to 15


@dataclass(frozen=True)
class Sideband:
    """A sideband's parameters; powers are spectral densities in squared grey values."""

    row: float
    column: float
    radius: float
    bright: float
    background: float

    def in_half_plane(self) -> Sideband:
        """This one or its twin: whichever has a positive column (if 0, row) frequency."""
        if (self.column, self.row) < (0.0, 0.0):
            return replace(self, row=-self.row, column=-self.column)
        return self


def search(spectrum: Spectrum) -> Sideband:
    """The disc, of all centres and radii, that makes the coarse spectrum most likely.

    The model: the disc and its twin at one level, the rest at another, and within 2 r of zero
    frequency whatever radial profile |S|^2 has. Sums over all discs are convolutions.
    """
    glare = _GLARE * float(np.quantile(spectrum.power[spectrum.trusted], 0.995))
    hazy = replace(spectrum, power=spectrum.power + glare)
    profile = _radial_profile(hazy)
    best, gain, null = None, -math.inf, -math.inf
    for radius in _RADII:
        likelihood, bare, inside, outside = _disc_likelihoods(hazy, profile, float(radius))
        null = max(null, bare)
        at = np.unravel_index(int(np.argmax(likelihood)), likelihood.shape)
        if likelihood[at] > gain:
            gain = float(likelihood[at])
            best = Sideband(
                float(spectrum.row[at[0], 0]),
                float(spectrum.column[at[1]]),
                float(radius),
                float(inside[at] - outside[at]),
                float(outside[at]),
            )
    evidence = (gain - null) / float(np.sum(HANN_ALIKE)) ** 2
    look = (
        "Check that the reference arm is open, that the two arms are coherent, and that inputs are "
        "lit."
    )
    if best is None or evidence < _EVIDENCE:
        raise NoCarrierError(
            f"No sideband: the likeliest one explains the spectrum by {max(evidence, 0.0):.1f} "
            f"more (log likelihood) than noise and bare speckle, and {_EVIDENCE:g} are needed. "
            f"{look}"
        )
    if best.bright < _CONTRAST * best.background:
        raise NoCarrierError(
            f"No sideband: the likeliest one rises above the spectrum's background by "
            f"{best.bright / best.background:.1%} of it, and {_CONTRAST:.0%} is needed: what light "
            f"there is in it drowns in noise, or single pixels stick out (hot ones). {look}"
        )
    return best.in_half_plane()


def _disc_likelihoods(
    spectrum: Spectrum, profile: NDArray[np.float64], radius: float
) -> tuple[NDArray[np.float64], float, NDArray[np.float64], NDArray[np.float64]]:
    """Log likelihood of a disc of this radius around each bin, and of no disc at all.

    Args:
        spectrum: The coarse spectrum.
        profile: What `_radial_profile` makes of it.
        radius: The disc's, cycles/pixel.

    Returns:
        ln L for each centre, -inf where none can be; ln L without a disc; the mean power inside
        each disc; the mean power of the rest.
    """
    trusted, power = spectrum.trusted, spectrum.power
    speckle = trusted & (spectrum.modulus < 2 * radius)
    rest = trusted & ~speckle
    unlikely = np.zeros_like(power)  # -ln L of the bins that |S|^2 explains
    unlikely[speckle] = np.log(profile[speckle]) + power[speckle] / profile[speckle]
    disc = scipy.fft.rfft2(spectrum.disc(0.0, 0.0, radius).astype(float))

    def within(values: NDArray[np.float64] | NDArray[np.bool_]) -> NDArray[np.float64]:
        """Sum over the disc and its twin around each bin."""
        sums: NDArray[np.float64] = scipy.fft.irfft2(
            scipy.fft.rfft2(values.astype(float)) * disc, s=spectrum.shape
        )
        return 2 * sums

    bins = np.maximum(within(trusted), 0.5)
    inside = np.maximum(within(np.where(trusted, power, 0)) / bins, float(power[trusted].min()))
    rest_bins = np.maximum(rest.sum() - within(rest), 0.5)
    rest_power = power[rest].sum() - within(np.where(rest, power, 0))
    outside = np.maximum(rest_power / rest_bins, float(power[trusted].min()))
    likelihood = -bins * (np.log(inside) + 1) - rest_bins * (np.log(outside) + 1)
    likelihood -= unlikely.sum() - within(unlikely)
    twin_distance = np.hypot(*spectrum.offsets(-spectrum.row, -spectrum.column))
    impossible = (
        (spectrum.modulus < 1.25 * radius)
        | (twin_distance < 1.8 * radius)
        | (inside <= outside)
        | (bins < bins.max() / 2)
        | (rest_bins < 0.05 * power.size)
    )
    likelihood[impossible] = -np.inf
    count = int(rest.sum())
    bare = -count * (np.log(power[rest].sum() / count) + 1) - unlikely.sum()
    return spectrum.looks * likelihood, spectrum.looks * float(bare), inside, outside


def _radial_profile(spectrum: Spectrum) -> NDArray[np.float64]:
    """The power expected at each bin if it depended on |f| alone: medians over rings.

    A median overlooks a sideband that crosses a ring.
    """
    ring = (spectrum.modulus * max(spectrum.shape)).astype(int)
    trusted = spectrum.trusted
    median_of_gamma = scipy.special.gammaincinv(spectrum.looks, 0.5) / spectrum.looks
    levels = np.ones(ring.max() + 1)
    for k in range(len(levels)):
        values = spectrum.power[trusted & (ring == k)]
        if values.size:
            levels[k] = np.median(values) / median_of_gamma
    return np.asarray(levels[ring], dtype=np.float64)


def fit(spectrum: Spectrum, start: Sideband) -> tuple[Sideband, tuple[float, float, float]]:
    """The sideband's centre and radius by Fisher scoring on the bins around it.

    Returns:
        The sideband, and the standard deviations of its row, its column and its radius.

    Raises:
        NoSpeckleError: The likelihood has no maximum near the start.
        AliasedCarrierError: The same, of a start that reaches beyond the Nyquist frequency.
    """
    for _ in range(2):  # the second time with the bins that belong to the first time's disc
        near = _Neighbourhood.of(spectrum, start)
        values, deviations = _most_likely(near, start)
        row, column, radius = start.row + values[0], start.column + values[1], values[2]
        if not 0.5 < radius / start.radius < 2 or np.hypot(*values[:2]) > start.radius:
            raise _not_a_disc(start, row, column, radius)
        start = Sideband(
            float(row), float(column), float(radius), math.exp(values[4]), math.exp(values[7])
        )
    row_sigma, column_sigma, radius_sigma = deviations.tolist()
    coarseness = _EDGE_BIAS / math.sqrt(math.prod(spectrum.shape))
    radius_sigma = math.hypot(radius_sigma, coarseness)
    return start.in_half_plane(), (row_sigma, column_sigma, radius_sigma)


def _not_a_disc(start: Sideband, row: float, column: float, radius: float) -> CarrierError:
    reach = max(abs(start.row), abs(start.column)) + start.radius
    seen = f"near ({start.row:+.3f}, {start.column:+.3f}) cycles/pixel, radius {start.radius:.3f},"
    if reach > 0.5:
        return AliasedCarrierError(
            f"The sideband seen {seen} reaches {reach:.3f}; the pixels resolve 0.5. Tilt the "
            "reference less, or make the speckle coarser."
        )
    return NoSpeckleError(
        f"The sideband seen {seen} is not a disc of speckle: its fit ends at ({row:+.3f}, "
        f"{column:+.3f}), radius {radius:.3f}. Give more frames, each of other speckle; plain "
        "fringes have no radius, and `find_tone` measures them."
    )


@dataclass(frozen=True)
class _Neighbourhood:
    """The bins around a sideband, without the brightest part of |S|^2.

    Attributes:
        power: `[bin]`.
        row: Row distance from where the sideband is expected, cycles/pixel, `[bin]`.
        column: Column distance.
        sharpest: Edge width of a sharp disc behind the taper, cycles/pixel.
        used: The bins of the spectrum that these are.
    """

    power: NDArray[np.float64]
    row: NDArray[np.float64]
    column: NDArray[np.float64]
    sharpest: float
    used: NDArray[np.bool_]

    @classmethod
    def of(cls, spectrum: Spectrum, start: Sideband) -> _Neighbourhood:
        row, column = np.broadcast_arrays(*spectrum.offsets(start.row, start.column))
        modulus = math.hypot(start.row, start.column)
        speckle = max(min(2 * start.radius, modulus - start.radius), 0.0)
        used = spectrum.trusted & (spectrum.modulus > speckle)
        used &= np.hypot(row, column) < 1.5 * start.radius
        used &= ~spectrum.disc(-start.row, -start.column, 1.2 * start.radius)  # the twin
        return cls(
            spectrum.power[used] + _HAZE * start.bright,
            row[used],
            column[used],
            sharpest=HANN_WIDTH / math.sqrt(math.prod(spectrum.shape)),
            used=used,
        )

    def with_neighbours(
        self, values: NDArray[np.float64], weights: NDArray[np.floating[Any]]
    ) -> NDArray[np.float64]:
        """Sums `[bin, value]` over each bin's neighbours, weighted along rows and columns."""
        sums = np.empty_like(values)
        for own, neighbours in zip(values.T, sums.T, strict=True):
            grid = np.zeros(self.used.shape)
            grid[self.used] = own
            for axis in (0, 1):
                grid = convolve1d(grid, weights, axis=axis, mode="wrap")
            neighbours[:] = grid[self.used]
        return sums


def _most_likely(
    near: _Neighbourhood, start: Sideband
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The parameters of `_log_model` that maximise the likelihood, and what `_deviations` tells."""
    softness = max(near.sharpest, 0.1 * start.radius)
    values = np.array(
        [0, 0, start.radius, math.log(softness), math.log(start.bright), 0, 0,
         math.log(start.background)]
    )  # fmt: skip
    log_m, slopes = _log_model(values, near)
    likelihood = -float(np.sum(log_m + near.power * np.exp(-log_m)))
    damping = 1e-3
    longest = np.array([0.2 * start.radius] * 3 + [0.5, 1, 0.5, 0.5, 1])
    for _ in range(60):
        surprise = near.power * np.exp(-log_m) - 1
        information = slopes.T @ slopes
        damped = information + damping * np.diag(np.diag(information))
        step = np.linalg.solve(damped, slopes.T @ surprise)
        trial = values + np.clip(step, -longest, longest)
        trial[3] = max(trial[3], math.log(near.sharpest / 2))
        trial_log_m, trial_slopes = _log_model(trial, near)
        gained = -float(np.sum(trial_log_m + near.power * np.exp(-trial_log_m))) - likelihood
        if not gained > 0:
            damping *= 10
            if damping > 1e6:
                break
            continue
        values, log_m, slopes = trial, trial_log_m, trial_slopes
        likelihood += gained
        damping /= 10
        if gained < 1e-6:
            break
    return values, _deviations(near, slopes, near.power * np.exp(-log_m) - 1)


def _deviations(
    near: _Neighbourhood, slopes: NDArray[np.float64], surprise: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Standard deviations of centre and radius: row, column, radius.

    A bin's influence on the parameters is its surprise P / m - 1 times F^-1 slope, F the Fisher
    information of independent bins. Their covariance is the sum over all pairs of bins of the
    product of their influences, and there are two ways to it. If the model were exact, a pair would
    be correlated as the taper makes neighbours (`HANN_ALIKE`). But the bins just beyond a sharp
    edge, which weigh most where there is little noise, all show the tails of the same few bright
    ones; the products themselves, summed over pairs up to `_REACH` bins apart (Newey and West,
    Econometrica 55, 703 (1987)), know of that, and scatter more themselves. The larger is told.
    """
    solved = np.linalg.solve(slopes.T @ slopes, slopes.T)
    influence: NDArray[np.float64] = solved[:3].T.astype(np.float64)
    expected = float(np.mean(surprise**2)) * np.sum(
        influence * near.with_neighbours(influence, HANN_ALIKE), axis=0
    )
    own = influence * surprise[:, None]
    fading = 1 - np.abs(np.arange(-_REACH, _REACH + 1)) / (_REACH + 1)
    measured = np.sum(own * near.with_neighbours(own, fading), axis=0)
    deviations: NDArray[np.float64] = np.sqrt(np.maximum(expected, measured))
    return deviations


def _log_model(
    values: NDArray[np.float64], near: _Neighbourhood
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Logarithm of m = b + a exp(g.u) edge((r - |f - c|) / s), and its slopes `[bin, parameter]`.

    The parameters, in this order: c (row, column), r, ln s, ln a, g (row, column), ln b. The edge
    is soft (the taper widens a sharp one) and the disc's brightness tilts (the pixels' transfer
    function falls across it); u is the distance from the start in units of 0.1 cycles/pixel.
    """
    row, column = near.row - values[0], near.column - values[1]
    radius, softness = values[2], math.exp(values[3])
    distance = np.maximum(np.hypot(row, column), 1e-9)
    depth = (radius - distance) / softness
    tilt = values[4] + 10 * (values[5] * near.row + values[6] * near.column)
    bright = np.exp(np.clip(tilt, -700, 700))
    disc = bright * scipy.special.ndtr(depth)
    edge = bright * np.exp(-0.5 * depth**2) / math.sqrt(2 * math.pi)
    m = disc + math.exp(values[7])
    slopes = np.stack(
        [
            edge * row / (distance * softness),
            edge * column / (distance * softness),
            edge / softness,
            -edge * depth,
            disc,
            10 * disc * near.row,
            10 * disc * near.column,
            np.full_like(m, math.exp(values[7])),
        ],
        axis=1,
    )
    return np.log(m), slopes / m[:, None]
