"""The carrier frequency: where in the spectrum of a frame the signal field lies.

The spectrum of a speckle hologram has no peak to look for. Its sideband is a disc of exponentially
distributed power; beside it are the twin, the speckle's own spectrum |S|^2 within 2 r of zero
frequency, and a background of noise. Both steps below maximise the likelihood of such a spectrum
(Whittle's approximation: the ordinates P of a periodogram are independent and exponential with
mean m, so that ln L = -sum[ln m + P / m]): the search over every disc there can be, on a coarse
spectrum, and the fit of the sideband's centre, radius, edge and brightness on the full one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import scipy.fft
import scipy.special
from numpy.typing import NDArray
from scipy.ndimage import convolve1d
from scipy.signal.windows import hann

from calibration.errors import (
    AliasedCarrierError,
    CarrierError,
    FramesError,
    NoCarrierError,
    OrdersOverlapError,
)
from opu_driver.camera import Frames
from opu_driver.errors import LowSignalError, SaturationError

MAX_SATURATED_FRACTION = 1e-3
"""Full pixels beyond which the spectrum's harmonics are no longer small."""

MAX_OVERLAP = 0.1
"""Largest part of the field that |S|^2 may add to the sideband: a nonlinear error."""

_HANN_WIDTH = 3**-0.5  # rms width of the window's power spectrum, bins
_HANN_ALIKE = np.array([1 / 36, 4 / 9, 1, 4 / 9, 1 / 36])  # correlation of neighbouring ordinates
_SMALLEST = 32  # pixels a side
_LEAST_LIGHT = 0.01  # of full scale: below it, darkness is why there is no carrier
_TILE = 128  # pixels a side of the coarse spectrum: a resolution of 1/128 cycles/pixel
_RADII = np.geomspace(3 / _TILE, 0.26, 26)
_GLARE = 0.01  # of the brightest: hides from the search what leaks past the taper
_HAZE = 0.001  # of the sideband: the same for the fit, and a background for frames without noise
_CONTRAST = 0.05  # sideband above background; a field buried deeper is of no use
_EVIDENCE = 20.0  # ln L gained by a sideband; noise and bare speckle gain up to 15


@dataclass(frozen=True)
class Carrier:
    """The sideband of off-axis holograms: its centre, and the radius of the speckle's band.

    A real frame holds two sidebands, twins of each other. This is the one whose column frequency
    is positive (whose row frequency is positive, if the column frequency is 0); the field
    demodulated there is R* S where the signal arm's wave vector points that way, else R S*.

    Attributes:
        row: Row frequency of the centre, cycles/pixel.
        column: Column frequency of the centre, cycles/pixel.
        row_sigma: Standard deviation of `row`.
        column_sigma: Standard deviation of `column`.
        radius: Radius r of the sideband, cycles/pixel.
        radius_sigma: Standard deviation of `radius`.
    """

    row: float
    column: float
    row_sigma: float
    column_sigma: float
    radius: float
    radius_sigma: float

    @property
    def modulus(self) -> float:
        """Distance of the sideband's centre from zero frequency, cycles/pixel."""
        return math.hypot(self.row, self.column)

    @property
    def grain(self) -> float:
        """Size of a speckle grain, pixels: 0.5 / r."""
        return 0.5 / self.radius


def find_carrier(
    frames: Frames, *, saturation_level: float | None, black_level: float = 0.0
) -> Carrier:
    """The carrier of speckle holograms, blind: from one frame on, with nothing known before.

    Frames of different speckle average the spectrum; several are better than one. Sidebands of
    radius 0.02 (a grain of 25 pixels) to 0.25 cycles/pixel are found.

    Args:
        frames: Grey values `[frame, row, column]`, at least 32 pixels a side, each showing
            speckle (a modulator partly lit).
        saturation_level: The grey value at which a pixel is full; None where there is none.
        black_level: Grey value without light.

    Returns:
        Centre and radius with their standard deviations, from the curvature of the likelihood and
        the measured scatter of the spectrum around its model.

    Raises:
        FramesError: Frames of the wrong shape, or with values that are not finite.
        SaturationError: More than `MAX_SATURATED_FRACTION` of the pixels are full.
        LowSignalError: No carrier, and hardly any light.
        NoCarrierError: Light, but no sideband.
        AliasedCarrierError: The sideband crosses the Nyquist frequency.
        OrdersOverlapError: |S|^2 adds more than `MAX_OVERLAP` of the field to the sideband.
    """
    _refuse_bad_frames(frames)
    if saturation_level is not None:
        _refuse_saturation(frames, saturation_level)
    if not np.ptp(frames):
        raise LowSignalError(
            f"All pixels have the grey value {frames.flat[0]:g}: no light reaches the camera. "
            "Check that the laser is on and both arms are open."
        )
    coarse = _Spectrum.of(_tiles(frames))
    try:
        found = _search(coarse)
        carrier = _fit(_Spectrum.of(frames), found)
    except NoCarrierError:
        _refuse_darkness(frames, saturation_level, black_level)
        raise
    _refuse_aliasing(carrier)
    _refuse_overlap(carrier, coarse)
    return carrier


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


def _refuse_bad_frames(frames: Frames) -> None:
    if frames.ndim != 3 or not len(frames) or min(frames.shape[1:]) < _SMALLEST:
        raise FramesError(
            f"Frames of shape {list(frames.shape)}; a carrier is found in [frame, row, column], at "
            f"least one frame of {_SMALLEST} x {_SMALLEST} pixels."
        )
    if frames.dtype.kind not in "uif" or not np.isfinite(frames).all():
        raise FramesError(
            f"Frames of {frames.dtype} that are not all finite real numbers; give grey values as "
            "the camera delivers them."
        )


def _refuse_saturation(frames: Frames, saturation_level: float) -> None:
    full = float(np.mean(frames >= saturation_level))
    if full > MAX_SATURATED_FRACTION:
        raise SaturationError(
            f"{full:.2%} of the pixels are full (grey value {saturation_level:g}); at most "
            f"{MAX_SATURATED_FRACTION:.2%} may be. Shorten the exposure or lower the laser power."
        )


def _refuse_darkness(frames: Frames, saturation_level: float | None, black_level: float) -> None:
    """Say that frames without a carrier are dark, if they are."""
    light = float(frames.mean(dtype=np.float64)) - black_level
    least = 0.0 if saturation_level is None else _LEAST_LIGHT * (saturation_level - black_level)
    if light <= least:
        raise LowSignalError(
            f"No sideband, and hardly any light: the mean is {light:.3g} grey values above black "
            f"({black_level:g}), and more than {least:.3g} is needed. Check that the laser is on "
            "and both arms are open; lengthen the exposure."
        )


def _refuse_aliasing(carrier: Carrier) -> None:
    reach = max(abs(carrier.row), abs(carrier.column)) + carrier.radius
    beyond = reach - 0.5
    if beyond > 0.02 * carrier.radius + 2 * carrier.radius_sigma:
        raise AliasedCarrierError(
            f"The sideband, centre ({carrier.row:+.4f}, {carrier.column:+.4f}) and radius "
            f"{carrier.radius:.4f} cycles/pixel, reaches {reach:.4f}; the pixels resolve 0.5. Tilt "
            "the reference less, or make the speckle coarser."
        )


def _refuse_overlap(carrier: Carrier, spectrum: _Spectrum) -> None:
    ratio = carrier.modulus / carrier.radius
    if ratio >= 3:
        return
    overlap = _speckle_in_sideband(carrier, spectrum) if ratio > 1.25 else 1.0
    if overlap > MAX_OVERLAP:
        raise OrdersOverlapError(
            f"The sideband, centre ({carrier.row:+.4f}, {carrier.column:+.4f}) and radius "
            f"{carrier.radius:.4f} cycles/pixel, lies {ratio:.2f} radii from zero frequency; "
            f"|S|^2 reaches 2 radii and adds {overlap:.0%} to the field. {MAX_OVERLAP:.0%} is "
            "allowed, and 3 radii are clean: tilt the reference more, make the speckle coarser, "
            "or give the reference more light."
        )


def _speckle_in_sideband(carrier: Carrier, spectrum: _Spectrum) -> float:
    """Amplitude of |S|^2 relative to the field, in the sideband.

    The spectrum of |S|^2 is round: it is seen undisturbed a quarter turn from the sideband.
    """
    row, column, radius = carrier.row, carrier.column, carrier.radius
    sidebands = spectrum.disc(row, column, 1.1 * radius)
    sidebands |= spectrum.disc(-row, -column, 1.1 * radius)
    empty = spectrum.trusted & ~sidebands
    turned = empty & spectrum.disc(-column, row, radius)
    background = float(np.mean(spectrum.power[empty & (spectrum.modulus > 2.2 * radius)]))
    bright = float(np.mean(spectrum.power[spectrum.disc(row, column, 0.9 * radius)]))
    scatter = float(np.sum(_HANN_ALIKE)) / math.sqrt(turned.sum() * spectrum.looks)
    excess = float(np.mean(spectrum.power[turned])) - background * (1 + 3 * scatter)
    return math.sqrt(max(excess, 0.0) / (bright - background))


def _taper(length: int) -> NDArray[np.float32]:
    """Hann's window: the spectrum's edges must not leak, and its neighbours become alike."""
    window: NDArray[np.float32] = hann(length + 2)[1:-1].astype(np.float32)
    return window


def _tiles(frames: Frames) -> Frames:
    """Frames cut into tiles of at most `_TILE` pixels a side; a remainder is left out."""
    height, width = (min(length, _TILE) for length in frames.shape[1:])
    down, across = frames.shape[1] // height, frames.shape[2] // width
    cut = frames[:, : down * height, : across * width]
    tiles = cut.reshape(-1, down, height, across, width).swapaxes(2, 3)
    return tiles.reshape(-1, height, width)


@dataclass(frozen=True)
class _Spectrum:
    """A power spectrum and its frequencies.

    `trusted` leaves out the two axes, where a sensor's fixed rows and columns and the reference's
    profile lie.
    """

    power: NDArray[np.float64]
    row: NDArray[np.float64]
    column: NDArray[np.float64]
    looks: int

    @classmethod
    def of(cls, frames: Frames) -> _Spectrum:
        count, rows, columns = frames.shape
        row = scipy.fft.fftfreq(rows)[:, None]
        return cls(power_spectrum(frames), row, scipy.fft.fftfreq(columns), count)

    @property
    def shape(self) -> tuple[int, int]:
        return self.row.size, self.column.size

    @property
    def trusted(self) -> NDArray[np.bool_]:
        rows, columns = self.shape
        off_axes: NDArray[np.bool_] = (np.abs(self.row) > 1.5 / rows) & (
            np.abs(self.column) > 1.5 / columns
        )
        return off_axes

    @property
    def modulus(self) -> NDArray[np.float64]:
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


@dataclass(frozen=True)
class _Sideband:
    """A sideband's parameters; powers are spectral densities in squared grey values."""

    row: float
    column: float
    radius: float
    bright: float
    background: float


def _search(spectrum: _Spectrum) -> _Sideband:
    """The disc, of all centres and radii, that makes the coarse spectrum most likely.

    The model: the disc and its twin at one level, the rest at another, and within 2 r of zero
    frequency whatever radial profile |S|^2 has. Sums over all discs are convolutions.
    """
    best, gain, null = None, -math.inf, -math.inf
    for radius in _RADII:
        likelihood, bare, inside, outside = _disc_likelihoods(spectrum, float(radius))
        null = max(null, bare)
        at = np.unravel_index(int(np.argmax(likelihood)), likelihood.shape)
        if likelihood[at] > gain:
            gain = float(likelihood[at])
            best = _Sideband(
                float(spectrum.row[at[0], 0]),
                float(spectrum.column[at[1]]),
                float(radius),
                float(inside[at] - outside[at]),
                float(outside[at]),
            )
    evidence = (gain - null) / float(np.sum(_HANN_ALIKE)) ** 2
    if best is None or evidence < _EVIDENCE or best.bright < _CONTRAST * best.background:
        raise NoCarrierError(
            f"No sideband: the likeliest one explains the spectrum by {max(evidence, 0.0):.1f} "
            f"more (log likelihood) than noise and bare speckle, and {_EVIDENCE:g} are needed. "
            "Check that the reference arm is open, that the two arms are coherent, and that "
            "inputs are lit."
        )
    if (best.column, best.row) < (0.0, 0.0):
        return _Sideband(-best.row, -best.column, best.radius, best.bright, best.background)
    return best


def _disc_likelihoods(
    spectrum: _Spectrum, radius: float
) -> tuple[NDArray[np.float64], float, NDArray[np.float64], NDArray[np.float64]]:
    """Log likelihood of a disc of this radius around each bin, and of no disc at all.

    Returns:
        ln L for each centre, -inf where none can be; ln L without a disc; the mean power inside
        each disc; the mean power of the rest.
    """
    trusted = spectrum.trusted
    power = spectrum.power + _GLARE * float(np.quantile(spectrum.power[trusted], 0.995))
    speckle = trusted & (spectrum.modulus < 2 * radius)
    rest = trusted & ~speckle
    unlikely = np.zeros_like(power)  # -ln L of the bins that |S|^2 explains
    profile = _radial_profile(power, spectrum)[speckle]
    unlikely[speckle] = np.log(profile) + power[speckle] / profile

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


def _radial_profile(power: NDArray[np.float64], spectrum: _Spectrum) -> NDArray[np.float64]:
    """The power expected at each bin if it depended on |f| alone: medians over rings.

    A median overlooks a sideband that crosses a ring.
    """
    ring = (spectrum.modulus * max(spectrum.shape)).astype(int)
    trusted = spectrum.trusted
    median_of_gamma = scipy.special.gammaincinv(spectrum.looks, 0.5) / spectrum.looks
    levels = np.ones(ring.max() + 1)
    for k in range(len(levels)):
        values = power[trusted & (ring == k)]
        if values.size:
            levels[k] = np.median(values) / median_of_gamma
    return np.asarray(levels[ring], dtype=np.float64)


def _fit(spectrum: _Spectrum, start: _Sideband) -> Carrier:
    """The sideband's centre and radius by Fisher scoring on the bins around it.

    Raises:
        CarrierError: The likelihood has no maximum near the start.
        AliasedCarrierError: The same, of a start that reaches beyond the Nyquist frequency.
    """
    for _ in range(2):  # the second time with the bins that belong to the first time's disc
        near = _Neighbourhood.of(spectrum, start)
        values, covariance = _most_likely(near, start)
        row, column, radius = near.row_origin + values[0], near.column_origin + values[1], values[2]
        if not 0.5 < radius / start.radius < 2 or np.hypot(*values[:2]) > start.radius:
            raise _not_a_disc(start, row, column, radius)
        start = _Sideband(row, column, radius, math.exp(values[4]), math.exp(values[7]))
    row_sigma, column_sigma, radius_sigma = np.sqrt(np.diag(covariance)[:3])
    sign = -1.0 if (column, row) < (0.0, 0.0) else 1.0
    return Carrier(
        row=float(sign * row),
        column=float(sign * column),
        row_sigma=float(row_sigma),
        column_sigma=float(column_sigma),
        radius=float(radius),
        radius_sigma=float(radius_sigma),
    )


def _not_a_disc(start: _Sideband, row: float, column: float, radius: float) -> CarrierError:
    reach = max(abs(start.row), abs(start.column)) + start.radius
    seen = f"near ({start.row:+.3f}, {start.column:+.3f}) cycles/pixel, radius {start.radius:.3f},"
    if reach > 0.5:
        return AliasedCarrierError(
            f"The sideband seen {seen} reaches {reach:.3f}; the pixels resolve 0.5. Tilt the "
            "reference less, or make the speckle coarser."
        )
    return CarrierError(
        f"The sideband seen {seen} is not a disc of speckle: its fit ends at ({row:+.3f}, "
        f"{column:+.3f}), radius {radius:.3f}. Give more frames, each of other speckle; plain "
        "fringes have no radius, and `find_tone` measures them."
    )


@dataclass(frozen=True)
class _Neighbourhood:
    """The bins around a sideband, without the brightest part of |S|^2.

    Attributes:
        power: `[bin]`.
        row: Row distance from the origin, cycles/pixel, `[bin]`.
        column: Column distance.
        row_origin: Where the sideband was expected.
        column_origin: The same.
        sharpest: Edge width of a sharp disc behind the taper, cycles/pixel.
        used: The bins of the spectrum that these are.
    """

    power: NDArray[np.float64]
    row: NDArray[np.float64]
    column: NDArray[np.float64]
    row_origin: float
    column_origin: float
    sharpest: float
    used: NDArray[np.bool_]

    @classmethod
    def of(cls, spectrum: _Spectrum, start: _Sideband) -> _Neighbourhood:
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
            start.row,
            start.column,
            sharpest=_HANN_WIDTH / math.sqrt(math.prod(spectrum.shape)),
            used=used,
        )

    def alike(self, slopes: NDArray[np.float64]) -> NDArray[np.float64]:
        """Sums over each bin's neighbours, weighted by how alike the taper has made them."""
        sums = np.empty_like(slopes)
        for values, neighbours in zip(slopes.T, sums.T, strict=True):
            grid = np.zeros(self.used.shape)
            grid[self.used] = values
            for axis in (0, 1):
                grid = convolve1d(grid, _HANN_ALIKE, axis=axis, mode="wrap")
            neighbours[:] = grid[self.used]
        return sums


def _most_likely(
    near: _Neighbourhood, start: _Sideband
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The parameters of `_log_model` that maximise the likelihood, and their covariance.

    The covariance is F^-1 V F^-1: F the Fisher information of independent bins, V the score's
    variance with the correlation of neighbouring bins, and with the measured variance of P / m (1
    for one frame, less for the mean of several different ones).
    """
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
    scatter = float(np.mean((near.power * np.exp(-log_m) - 1) ** 2))
    inverse = np.linalg.inv(slopes.T @ slopes)
    covariance = scatter * inverse @ (slopes.T @ near.alike(slopes)) @ inverse
    return values, covariance


def _log_model(
    values: NDArray[np.float64], near: _Neighbourhood
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Logarithm of m = b + a exp(g.u) edge((r - |f - c|) / s), and its slopes `[bin, parameter]`.

    The parameters, in this order: c (row, column), r, ln s, ln a, g (row, column), ln b. The edge
    is soft (the taper widens a sharp one) and the disc's brightness tilts (the pixels' transfer
    function falls across it); u is the distance from the origin in units of 0.1 cycles/pixel.
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
