"""The frequency of plain fringes: one tone in an image, to the limit that its noise allows."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.fft
from numpy.typing import NDArray
from scipy.signal.windows import hann, tukey

from calibration.errors import FramesError, NoCarrierError
from calibration.spectrum import power_spectrum
from opu_driver.errors import SettingError

_STEPS = 6
_MORE_STEPS = 3  # from a fit under another taper
_NEAR_BINS = 8.0
_SIGNIFICANT = 4.0  # standard deviations
_NOWHERE = (math.inf, math.inf)  # the deviations of a tone without amplitude
_MARGIN = 8.0  # peak power over the highest of the noise: exp(-8) is the chance of an error


@dataclass(frozen=True)
class Tone:
    """A cos(2 pi (row i + column j) + phase), over a constant.

    Attributes:
        row: Row frequency, cycles/pixel.
        column: Column frequency, cycles/pixel; positive (or 0, with `row` positive).
        row_sigma: Standard deviation of `row`, from the residual's; and where the image's middle
            has another frequency than the whole, because an object or a lens bends the fringes,
            from how far they are apart.
        column_sigma: Standard deviation of `column`.
        amplitude: A, grey values.
        phase: Phase at pixel (0, 0), radians, in (-pi, pi].
    """

    row: float
    column: float
    row_sigma: float
    column_sigma: float
    amplitude: float
    phase: float


def frequency_bound(amplitude: float, sigma: float, shape: tuple[int, int]) -> tuple[float, float]:
    """The smallest standard deviations of row and column frequency that any estimator has.

    Cramer-Rao bound of a tone A cos(...) of unknown phase in white noise of standard deviation
    sigma: sigma_f = sqrt(24 sigma^2 / (4 pi^2 A^2 n_rows n_columns (n^2 - 1))), n the pixels along
    that frequency (Rife and Boorstyn, IEEE Trans. Inf. Theory 20, 591 (1974), for a sideband of
    amplitude A / 2).

    Args:
        amplitude: A.
        sigma: Standard deviation of a pixel.
        shape: Rows and columns of the image.

    Returns:
        Bounds of the row and the column frequency, cycles/pixel.
    """
    rows, columns = shape
    share = 24 * sigma**2 / (4 * math.pi**2 * amplitude**2 * rows * columns)
    return math.sqrt(share / (rows**2 - 1)), math.sqrt(share / (columns**2 - 1))


def find_tone(image: NDArray[Any], *, taper: float = 0.1) -> Tone:
    """The strongest tone of an image.

    The highest bin of a Hann-windowed spectrum, interpolated by a parabola through logarithms,
    starts a least-squares fit of constant, amplitude, phase and frequency (Gauss-Newton), which
    near-axis tones and their twins do not disturb. The image is slightly tapered, so that what is
    not the tone leaks less into it, which costs a few per cent of precision.

    Args:
        image: `[row, column]`, real, at least 8 pixels a side.
        taper: Part of the image, both edges together, that counts less and less: 0 weighs all
            pixels alike; 1 is Hann's window, for fringes that an object or a lens bends: it tells
            their frequency in the middle, a third less precisely.

    Raises:
        FramesError: Not such an image, or not finite.
        SettingError: A taper that is not from 0 to 1.
        NoCarrierError: The image is constant, or no peak stands out of its noise.
    """
    if image.ndim != 2 or min(image.shape) < 8 or image.dtype.kind not in "uif":
        raise FramesError(
            f"An image of {image.dtype} {list(image.shape)}; a tone is found in real values "
            "[row, column], at least 8 pixels a side."
        )
    if not 0 <= taper <= 1:
        raise SettingError(f"taper = {taper:g}; it is a part of the image, from 0 to 1.")
    grey = image.astype(np.float64)
    if not np.isfinite(grey).all():
        raise FramesError("An image with values that are not finite.")
    if not np.ptp(grey):
        raise NoCarrierError(f"All pixels have the value {grey[0, 0]:g}: there are no fringes.")
    start = _peak(grey)
    fit = _fit(grey, taper, start, None)
    noisier = math.prod(_spread(tukey(n + 2, taper)[1:-1]) for n in grey.shape)
    evidence = math.inf
    if fit.sigma:
        evidence = abs(fit.wave / fit.sigma) ** 2 * grey.size / (4 * noisier)
    strayed = np.abs(fit.frequency - start) * grey.shape
    if evidence < math.log(grey.size) + _MARGIN or strayed.max() > 2:
        raise NoCarrierError(
            f"No tone: the highest peak, at ({start[0]:+.4f}, {start[1]:+.4f}) cycles/pixel, has "
            f"a power of {evidence:.1f}, and noise alone reaches {math.log(grey.size):.1f} "
            f"somewhere; {_MARGIN:g} more are needed. Check that the fringes are visible."
        )
    sigmas = fit.deviations
    if taper < 1:
        sigmas = np.hypot(sigmas, _bent(fit, _fit(grey, 1.0, fit.frequency, fit.wave)))
    return Tone(
        row=float(fit.frequency[0]),
        column=float(fit.frequency[1]),
        row_sigma=float(sigmas[0]),
        column_sigma=float(sigmas[1]),
        amplitude=abs(fit.wave),
        phase=fit.phase,
    )


@dataclass(frozen=True)
class _Fit:
    """A tone by least squares.

    Attributes:
        frequency: Row and column, cycles/pixel.
        wave: Complex amplitude in the middle of the image.
        sigma: Of the residual.
        deviations: Of the frequency, by noise.
        phase: At pixel (0, 0).
    """

    frequency: NDArray[np.float64]
    wave: complex
    sigma: float
    deviations: NDArray[np.float64]
    phase: float


def _fit(
    grey: NDArray[np.float64], taper: float, frequency: NDArray[np.float64], wave: complex | None
) -> _Fit:
    """The tone near a frequency, under a taper."""
    tapers = tuple(tukey(n + 2, taper)[1:-1] for n in grey.shape)
    constant, found = 0.0, wave
    for _ in range(_STEPS if wave is None else _MORE_STEPS):
        constant, found, frequency = _improve(grey, tapers, frequency, found)
    wave = found or 0j
    down, across = (_turns(f, n) for f, n in zip(frequency, grey.shape, strict=True))
    sigma = float(np.std(grey - constant - np.outer(wave * down, across).real))
    bounds = frequency_bound(abs(wave), sigma, (grey.shape[0], grey.shape[1])) if wave else _NOWHERE
    penalties = _penalty(*tapers), _penalty(*tapers[::-1])
    deviations = np.multiply(bounds, penalties)
    return _Fit(frequency, wave, sigma, deviations, float(np.angle(wave * down[0] * across[0])))


def _bent(fit: _Fit, middle: _Fit) -> NDArray[np.float64]:
    """By how much the frequency is that of another part of the image: 0 unless it is significant.

    Of two efficient fits of a plane tone, the variances' difference is that of the frequencies.
    """
    apart = np.abs(fit.frequency - middle.frequency)
    chance = np.sqrt(np.maximum(middle.deviations**2 - fit.deviations**2, 0))
    bent: NDArray[np.float64] = np.where(apart > _SIGNIFICANT * chance, apart, 0.0)
    return bent


def tone_share(image: NDArray[Any], tone: Tone) -> float:
    """How much of the power around a tone is the tone's: 1 for plane fringes.

    It is the part, of all power within a few bins of the tone and above the spectrum's background,
    that is gone when the tone is subtracted. The strongest tone of speckle has a tenth of it.

    Args:
        image: `[row, column]`, real.
        tone: What `find_tone` found in it, with taper 1.
    """
    grey = image.astype(np.float32)
    rows, columns = grey.shape
    i, j = np.ogrid[:rows, :columns]
    phase = 2 * np.pi * (tone.row * i + tone.column * j) + tone.phase
    whole = power_spectrum(grey[None])
    left = power_spectrum((grey - tone.amplitude * np.cos(phase)).astype(np.float32)[None])
    away = np.hypot(
        (scipy.fft.fftfreq(rows)[:, None] - tone.row) * rows,
        (scipy.fft.fftfreq(columns) - tone.column) * columns,
    )
    near = away < _NEAR_BINS
    background = float(np.median(whole)) / math.log(2)
    before, after = (float(np.sum(power[near] - background)) for power in (whole, left))
    return 1 - max(after, 0.0) / before if before > 0 else 0.0


def _peak(grey: NDArray[np.float64]) -> NDArray[np.float64]:
    """The highest bin of the half plane of positive columns, interpolated, cycles/pixel."""
    rows, columns = grey.shape
    window = hann(rows, sym=False)[:, None] * hann(columns, sym=False)
    spectrum = scipy.fft.rfft2((grey - grey.mean()) * window)
    power = spectrum.real**2 + spectrum.imag**2
    row, column = scipy.fft.fftfreq(rows)[:, None], scipy.fft.rfftfreq(columns)
    constant = np.hypot(row * rows, column * columns) < 2
    half = ((column > 0) & (column < 0.5)) | ((column == 0) & (row > 0))
    i, j = np.unravel_index(int(np.argmax(np.where(half & ~constant, power, -1))), power.shape)

    def log_power(i: int, j: int) -> float:
        """At any bin; beyond the half that is kept, that of its twin."""
        j %= columns
        if j > columns // 2:
            i, j = -i, columns - j
        return math.log(max(float(power[i % rows, j]), np.finfo(float).tiny))

    down = _vertex([log_power(int(i) + k, int(j)) for k in (-1, 0, 1)])
    across = _vertex([log_power(int(i), int(j) + k) for k in (-1, 0, 1)])
    return np.array([float(row[i, 0]) + down / rows, float(column[j]) + across / columns])


def _vertex(three: list[float]) -> float:
    """Where the parabola through three neighbours has its maximum, in bins from the middle."""
    below, middle, above = three
    bend = below - 2 * middle + above
    return float(np.clip(0.5 * (below - above) / bend, -0.5, 0.5)) if bend < 0 else 0.0


def _penalty(along: NDArray[np.float64], across: NDArray[np.float64]) -> float:
    """Standard deviation of a frequency under tapers, over that without."""
    x2 = _pixels(len(along)) ** 2
    slope = np.sum(along**2 * x2) * np.sum(x2) / np.sum(along * x2) ** 2
    return math.sqrt(slope * _spread(across))


def _spread(taper: NDArray[np.float64]) -> float:
    """Variance of a weighted mean of noise, over that of the mean without weights."""
    return float(np.mean(taper**2) / np.mean(taper) ** 2)


def _pixels(length: int) -> NDArray[np.float64]:
    """Pixels counted from the middle, where phase and frequency do not correlate."""
    return np.arange(length, dtype=np.float64) - (length - 1) / 2


def _turns(frequency: float, length: int) -> NDArray[np.complex128]:
    wave: NDArray[np.complex128] = np.exp(2j * np.pi * frequency * _pixels(length))
    return wave


def _improve(
    grey: NDArray[np.float64],
    tapers: tuple[NDArray[np.float64], ...],
    frequency: NDArray[np.float64],
    wave: complex | None,
) -> tuple[float, complex, NDArray[np.float64]]:
    """One Gauss-Newton step of the weighted least-squares fit of c + Re(w e), e = exp(2 pi i f.x).

    The functions that are fitted, 1, Re(e), Re(-i e) and the derivatives of Re(w e) by row and
    column frequency, are real parts of products of a function of the row and one of the column,
    so that their sums over the image are products of sums over its sides.

    Args:
        grey: `[row, column]`.
        tapers: Weights along rows and columns.
        frequency: f so far, `[2]`.
        wave: w so far; None fits c and w only.

    Returns:
        c, w, f.
    """
    rows, columns = grey.shape
    down, across = _turns(frequency[0], rows), _turns(frequency[1], columns)
    ones = np.ones(rows, complex), np.ones(columns, complex)
    turn = 2j * np.pi * (wave or 0j)
    factors = np.array([1, 1, -1j, turn, turn])[: 3 if wave is None else 5]
    of_row = np.stack([ones[0], down, down, _pixels(rows) * down, down])[: len(factors)]
    of_column = np.stack([ones[1], across, across, across, _pixels(columns) * across])
    of_column = of_column[: len(factors)] * factors[:, None]
    row_taper, column_taper = tapers
    weighted_row, weighted_column = of_row * row_taper, of_column * column_taper
    products = (weighted_row @ of_row.T) * (weighted_column @ of_column.T)
    products += (weighted_row @ of_row.T.conj()) * (weighted_column @ of_column.T.conj())
    seen = np.sum((weighted_row.real @ grey + 1j * (weighted_row.imag @ grey)) * weighted_column, 1)
    solution = np.linalg.solve(products.real / 2, seen.real)
    moved = frequency if wave is None else frequency + solution[3:]
    return float(solution[0]), complex(solution[1], -solution[2]), moved
