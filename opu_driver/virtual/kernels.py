"""From fields to grey values in one pass: interference, photons, read-out, digits.

A frame is, in electrons,

    I = E p [ |a R|^2 + |S|^2 + 2 c Re(exp(i phi) (a R)* S) ] + dark

with the signal field S = sum_k w_k S_k, the reference R of amplitude a, the energy E, the pixels'
sensitivities p and the contrast c that the pixel's aperture leaves to the fringes. Grey values are
the photons counted, plus read noise, times the gain, plus the black level, rounded and cut at full
scale.

Complex arrays come as float32 pairs, real and imaginary part side by side.

Noise is a function of (key of the frame, pixel) alone: a counter through the finaliser of
SplitMix64 (Steele, Lea and Flood 2014), so it depends on no order of evaluation. A normal deviate
is the number of ones in 64 random bits (binomial, excess kurtosis -0.03) with a uniform dither.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numba.extending import intrinsic
from numpy.typing import NDArray
from scipy.special import pdtr

BLOCK = 1024
"""Pixels that are taken through a batch of frames together, so that their fields stay in cache."""

POISSON_BELOW = 50.0
"""Electrons from which on a normal deviate stands for the Poisson count."""

_STEP = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)
_DITHER = np.uint64(0xD1342543DE82EF95)
_OTHER = np.uint64(0x2545F4914F6CDD1D)
_TO_UNIT = np.float32(2.0**-24)
_TO_DOUBLE = 2.0**-32
_TO_NORMAL = np.float32(1 / np.sqrt(16 + 1 / 12))


_LARGEST = 127
_COUNTS = pdtr(np.arange(_LARGEST + 1.0), np.arange(POISSON_BELOW)[:, None])
"""Probability of at most n counts, `[whole mean, n]`."""
_GUIDE = np.array([np.searchsorted(row, np.arange(256) / 256) for row in _COUNTS], np.uint8)
"""Where in a row of `_COUNTS` to begin, for each 256th of the probability."""


def _ones_in(_typing: Any, bits: Any) -> tuple[Any, Any]:
    """The number of ones in an unsigned integer, one machine instruction."""

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.ctpop(arguments[0])

    return bits(bits), generate


_ones: Any = intrinsic(_ones_in)


@njit(nogil=True, error_model="numpy", inline="always")
def _random_bits(counter: np.uint64) -> np.uint64:
    mixed = (counter ^ (counter >> np.uint64(30))) * _MIX_1
    mixed = (mixed ^ (mixed >> np.uint64(27))) * _MIX_2
    return mixed ^ (mixed >> np.uint64(31))


@njit(nogil=True, error_model="numpy", inline="always")
def _normal(bits: np.uint64) -> np.float32:
    dither = np.float32(np.int32((bits * _DITHER) >> np.uint64(40))) * _TO_UNIT
    ones = np.float32(np.int32(_ones(bits)))
    return (ones + dither - np.float32(32.5)) * _TO_NORMAL


@njit(nogil=True, error_model="numpy")
def _poisson(mean: float, bits: np.uint64) -> int:
    """Counts of a mean below `POISSON_BELOW`: those of its whole part and those of the rest."""
    whole = int(mean)
    chance = np.float64(bits >> np.uint64(32)) * _TO_DOUBLE
    counts = int(_GUIDE[whole, int(chance * 256)])
    while counts < _LARGEST and _COUNTS[whole, counts] <= chance:
        counts += 1
    rest = mean - whole
    chance = np.float64(bits & np.uint64(0xFFFFFFFF)) * _TO_DOUBLE
    term = np.exp(-rest)
    more = 0
    while chance >= term and more < 16:
        chance -= term
        more += 1
        term *= rest / more
    return counts + more


@njit(nogil=True, error_model="numpy", fastmath={"contract"})
def _superpose(
    field: NDArray[np.float32],
    fields: NDArray[np.float32],
    which: NDArray[np.int32],
    weights: NDArray[np.complex64],
    begin: int,
    end: int,
) -> None:
    """Sum of weighted fields over the pixels from `begin` to `end`, into `field`."""
    size = 2 * (end - begin)
    field[:size] = 0
    k = 0
    while k < which.size:
        if k + 4 <= which.size and not weights[k : k + 4].imag.any():
            # Four at a time: the sum is stored once for four fields that are loaded.
            w = weights[k : k + 4].real
            s_0 = fields[which[k], 2 * begin : 2 * end]
            s_1 = fields[which[k + 1], 2 * begin : 2 * end]
            s_2 = fields[which[k + 2], 2 * begin : 2 * end]
            s_3 = fields[which[k + 3], 2 * begin : 2 * end]
            w_0, w_1, w_2, w_3 = w[0], w[1], w[2], w[3]
            for i in range(size):
                field[i] += w_0 * s_0[i] + w_1 * s_1[i] + w_2 * s_2[i] + w_3 * s_3[i]
            k += 4
            continue
        source = fields[which[k], 2 * begin : 2 * end]
        real, imaginary = weights[k].real, weights[k].imag
        if imaginary == 0:
            for i in range(size):
                field[i] += real * source[i]
        else:
            for i in range(size // 2):
                a, b = source[2 * i], source[2 * i + 1]
                field[2 * i] += real * a - imaginary * b
                field[2 * i + 1] += real * b + imaginary * a
        k += 1


@njit(nogil=True, error_model="numpy", fastmath={"contract"})
def _interfere(
    light: NDArray[np.float32],
    field: NDArray[np.float32],
    reference: NDArray[np.float32],
    response: NDArray[np.float32],
    energy: np.float32,
    strength: np.float32,
    cosine: np.float32,
    sine: np.float32,
) -> None:
    """Add the electrons of reference and signal field to `light`; the fringes carry `cosine`."""
    for i in range(light.size):
        s_re, s_im = field[2 * i], field[2 * i + 1]
        r_re, r_im = reference[2 * i], reference[2 * i + 1]
        cross_re = r_re * s_re + r_im * s_im
        cross_im = r_re * s_im - r_im * s_re
        bright = strength * (r_re * r_re + r_im * r_im) + s_re * s_re + s_im * s_im
        fringes = np.float32(2) * (cosine * cross_re - sine * cross_im)
        light[i] += energy * response[i] * (bright + fringes)


@njit(nogil=True, error_model="numpy", fastmath={"contract"})
def _detect(
    grey: NDArray[np.float32],
    light: NDArray[np.float32],
    key: np.uint64,
    begin: int,
    shot: np.float32,
    read: np.float32,
    gain: np.float32,
    black: np.float32,
) -> None:
    """Grey values, not yet rounded, of expected electrons: counted, read and amplified."""
    for i in range(light.size):
        mean = max(light[i], np.float32(0))
        deviation = np.sqrt(shot * mean + read * read)
        normal = _normal(_random_bits(key + np.uint64(begin + i) * _STEP))
        grey[i] = black + gain * (mean + deviation * normal)
    if shot == 0:
        return
    for i in range(light.size):
        if light[i] < POISSON_BELOW:
            bits = _random_bits(key + np.uint64(begin + i) * _STEP)
            counts = _poisson(max(light[i], np.float32(0)), _random_bits(bits + _OTHER))
            grey[i] = black + gain * (np.float32(counts) + read * _normal(bits))


@njit(nogil=True, error_model="numpy", cache=True)
def expose(
    frames: NDArray[Any],
    fields: NDArray[np.float32],
    starts: NDArray[np.int64],
    which: NDArray[np.int32],
    weights: NDArray[np.complex64],
    mixing: NDArray[np.float32],
    reference: NDArray[np.float32],
    response: NDArray[np.float32],
    energies: NDArray[np.float32],
    phasors: NDArray[np.complex64],
    contrast: np.float32,
    keys: NDArray[np.uint64],
    dark: np.float32,
    shot: np.float32,
    read: np.float32,
    gain: np.float32,
    black: np.float32,
    top: np.float32,
    rounded: bool,
    first_pixel: int,
    end_pixel: int,
) -> None:
    """Grey values of a batch of exposures, for the pixels from `first_pixel` to `end_pixel`.

    Args:
        frames: `[frame, pixel]`, uint8, uint16 or float32; written.
        fields: Signal fields `[field, 2 pixel]`, in units where a half-lit modulator has mean
            intensity 1; rows may be longer.
        starts: `[2 frame + 1]`: entries `starts[2 f]` to `starts[2 f + 1]` of `which` and
            `weights` are the superposition that frame f shows first, those up to
            `starts[2 f + 2]` the one that follows during the exposure.
        which: Rows of `fields`.
        weights: Their complex amplitudes.
        mixing: `[frame]`, part of the exposure that sees the pattern that follows.
        reference: Reference field `[2 pixel]`, in the units of `fields`.
        response: `[pixel]`, relative sensitivities.
        energies: `[frame]`, electrons per unit of intensity.
        phasors: `[2 frame]`, `a* exp(i phi)` of the superposition that a frame shows first and of
            the one that follows: the reference's amplitude, and the signal's phase against it.
        contrast: c, of the fringes.
        keys: `[frame]`, random and distinct: noise is a function of key and pixel.
        dark: Electrons of dark current.
        shot: 1 with shot noise, 0 without.
        read: Read noise, electrons.
        gain: Grey values per electron.
        black: Grey value without light.
        top: Grey value at full scale.
        rounded: Whether grey values are whole numbers.
        first_pixel: First pixel to compute.
        end_pixel: One beyond the last.
    """
    field = np.empty(2 * BLOCK, np.float32)
    lights = np.empty(BLOCK, np.float32)
    greys = np.empty(BLOCK, np.float32)
    for begin in range(first_pixel, end_pixel, BLOCK):
        end = min(begin + BLOCK, end_pixel)
        light, grey = lights[: end - begin], greys[: end - begin]
        shade = reference[2 * begin : 2 * end]
        sensitivity = response[begin:end]
        for f in range(len(frames)):
            light[:] = dark
            for side in range(2):
                share = mixing[f] if side else 1 - mixing[f]
                if share == 0:
                    continue
                entries = slice(starts[2 * f + side], starts[2 * f + side + 1])
                _superpose(field, fields, which[entries], weights[entries], begin, end)
                phasor = phasors[2 * f + side]
                _interfere(
                    light,
                    field,
                    shade,
                    sensitivity,
                    energies[f] * share,
                    phasor.real * phasor.real + phasor.imag * phasor.imag,
                    contrast * phasor.real,
                    contrast * phasor.imag,
                )
            _detect(grey, light, keys[f], begin, shot, read, gain, black)
            out = frames[f, begin:end]
            for i in range(end - begin):
                value = min(max(grey[i], np.float32(0)), top)
                out[i] = np.rint(value) if rounded else value
