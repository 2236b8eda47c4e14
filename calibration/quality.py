"""How good a calibration is, in figures that do not flatter, each beside what theory expects of it.

Noise alone makes a known part of every error: that part is computed from the measured signal to
noise. What is left is unexplained by noise, and it is what is judged: a dim bench is honest, a
bright one that is off by the same error is not.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

Fields = NDArray[np.inexact[Any]]
"""Fields or matrix entries of any shape; complex, or the real outputs of a bench without phase."""

_COMPARABLE_RANGE = 4.0  # grey values that a typical pixel has to move by to tell dead ones apart
_DARK = 0.01  # of the mean power of a mode


@dataclass(frozen=True, kw_only=True)
class Quality:
    """The figures of one calibration. What has not been measured is NaN, or an empty array.

    Attributes:
        held_out_correlation: Correlation of measured and predicted fields of vectors that were
            not used for the matrix.
        held_out_error: Their relative error (a saturated bench still correlates well).
        held_out_noise: The part of it that noise makes, by theory.
        split_half: Correlation of the whole matrix with the truth, from two halves of the data.
        matrix_noise: Relative error of the matrix that noise makes, by theory.
        linearity: Relative size of y(a) + y(b) - y(a or b) - y(0) for disjoint a and b.
        linearity_noise: The part of it that noise makes.
        distance_scatter: Relative scatter of the distances between projections over those of the
            vectors: a random matrix keeps distances to 1 / sqrt(effective modes).
        conjugate_correlation: Correlation of the measured fields with the complex conjugate of the
            predicted ones: near 1 if the carrier has changed to the other half-plane.
        stability: Fidelity (squared correlation, noise taken out) of the field of all inputs on at
            the end of the measurement to that at its beginning.
        snr: Signal to noise (powers) of one binary exposure's field.
        effective_modes: Independent modes in a frame, pi r^2 pixels.
        visibility: Fringe visibility of a half-lit modulator.
        saturated_fraction: Fraction of pixels at full scale over all frames.
        dead_fraction: Fraction of pixels that never change.
        dark_modes: Fraction of modes that see next to nothing of the modulator.
        singular_values: float32 `[k]`, of the matrix, as `normalised_singular_values` gives them.
        gains: complex64 `[exposure]`, of the interferometer over the measurement; mean modulus 1.
        fidelities: float32 `[sequence]`, of the field of all inputs on to that at the beginning.
    """

    held_out_correlation: float
    held_out_error: float
    held_out_noise: float = math.nan
    split_half: float
    matrix_noise: float = math.nan
    linearity: float
    linearity_noise: float = math.nan
    distance_scatter: float = math.nan
    conjugate_correlation: float = math.nan
    stability: float = math.nan
    snr: float
    effective_modes: float
    visibility: float
    saturated_fraction: float
    dead_fraction: float = math.nan
    dark_modes: float = math.nan
    singular_values: NDArray[np.float32] = field(repr=False, compare=False)
    gains: NDArray[np.complex64] = field(
        repr=False, compare=False, default_factory=lambda: np.zeros(0, np.complex64)
    )
    fidelities: NDArray[np.float32] = field(
        repr=False, compare=False, default_factory=lambda: np.zeros(0, np.float32)
    )

    def numbers(self) -> dict[str, float]:
        """The figures that are numbers, by name."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.type == "float"}

    @property
    def law_deviation(self) -> float:
        """Largest distance of a singular value from the law of Marchenko and Pastur's quantile."""
        expected = marchenko_pastur_quantiles(len(self.singular_values), self.effective_modes)
        return float(np.max(np.abs(np.sort(self.singular_values)[::-1] - expected), initial=0.0))


@dataclass(frozen=True, kw_only=True, eq=False)
class Evidence:
    """What a measurement tells of itself: fields in one unit, phase and gain.

    Signed fields are T (2v - 1) of binary vectors v, however they were exposed.

    Attributes:
        once: complex64 `[vector, mode]`, signed fields of held-out vectors.
        again: The same vectors, shown a second time.
        signs: float32 `[vector, input]`, those vectors as 2v - 1.
        predicted: complex64 `[vector, mode]`, the matrix times `signs`.
        triples: Signed fields `[triple, mode]` of disjoint vectors a, of b, and of a or b.
        all_on: complex64 `[mode]`, the matrix times ones.
        mode_powers: float `[mode]`, mean square entry of each row of the matrix.
        singular_values: As `normalised_singular_values` gives them.
        split_half: See `split_half`.
        signed_noise: Variance of a signed field, in variances of the field of one exposure.
        expected_error: From the signal to noise of one binary exposure to the relative error of
            the matrix, by theory.
        gains: complex `[exposure]`, of the interferometer.
        markers: complex64 `[sequence, mode]`, the field of all inputs on, noise included.
        marker_noise: Variance of `markers` per mode.
    """

    once: Fields
    again: Fields
    signs: NDArray[np.float32]
    predicted: Fields
    triples: tuple[Fields, Fields, Fields]
    all_on: Fields
    mode_powers: NDArray[np.floating[Any]]
    singular_values: NDArray[np.float32]
    split_half: float
    signed_noise: float
    expected_error: Callable[[float], float]
    gains: NDArray[np.complexfloating[Any, Any]]
    markers: Fields
    marker_noise: float


def assess(
    evidence: Evidence,
    *,
    effective_modes: float,
    mean_grey: float,
    saturated_fraction: float,
    dead_fraction: float,
) -> Quality:
    """The figures of a measurement.

    Args:
        evidence: What it tells of itself.
        effective_modes: See the function of this name.
        mean_grey: Mean grey value above black of a half-lit modulator.
        saturated_fraction: Fraction of pixels at full scale.
        dead_fraction: See the function of this name.
    """
    e = evidence
    signed_snr = signal_to_noise(e.once, e.again)
    snr = signed_snr * e.signed_noise / 2
    matrix_noise = e.expected_error(snr) if snr > 0 else math.inf
    a, b, both = e.triples
    none = -e.all_on
    noise = float(np.mean(np.abs(e.once - e.again) ** 2)) / 2
    on_noise = len(e.signs.T) * matrix_noise**2 * float(np.mean(e.mode_powers))
    seen = float(np.mean(np.abs(both - none) ** 2))
    fidelities = marker_fidelities(e.markers, e.marker_noise)
    last = fidelities[-max(len(fidelities) // 4, 1) :]
    return Quality(
        held_out_correlation=correlation(e.once, e.predicted),
        held_out_error=relative_error(e.once, e.predicted),
        held_out_noise=expected_held_out_error(signed_snr, matrix_noise),
        split_half=e.split_half,
        matrix_noise=matrix_noise,
        linearity=linearity(a, b, both, none),
        linearity_noise=math.sqrt((3 * noise + on_noise) / seen) if seen else math.inf,
        distance_scatter=distance_scatter(e.once, e.signs, noise),
        conjugate_correlation=correlation(e.once, np.conj(e.predicted)),
        stability=float(np.mean(last)),
        snr=snr,
        effective_modes=effective_modes,
        visibility=visibility((e.once + e.all_on) / 2, mean_grey),
        saturated_fraction=saturated_fraction,
        dead_fraction=dead_fraction,
        dark_modes=float(np.mean(e.mode_powers < _DARK * np.mean(e.mode_powers))),
        singular_values=e.singular_values,
        gains=e.gains.astype(np.complex64),
        fidelities=fidelities,
    )


def expected_held_out_error(signed_snr: float, matrix_noise: float) -> float:
    """Relative error of measured against predicted fields, if there is nothing but noise.

    Both are noisy: sqrt((1/SNR + eps^2) / (1 + eps^2)), eps that of the matrix.

    Args:
        signed_snr: Signal to noise (powers) of a measured signed field.
        matrix_noise: Relative error of the matrix.
    """
    if not signed_snr or math.isinf(matrix_noise):
        return math.inf
    return math.sqrt((1 / signed_snr + matrix_noise**2) / (1 + matrix_noise**2))


def correlation(measured: Fields, predicted: Fields) -> float:
    """|<measured, predicted>| over the product of their norms: 1 is perfect, 0 is nothing."""
    norms = float(np.linalg.norm(measured) * np.linalg.norm(predicted))
    return float(abs(np.vdot(measured, predicted))) / norms if norms else 0.0


def is_conjugate(field: Fields, reference: Fields) -> bool:
    """Whether a field is more alike the complex conjugate of another than anything else."""
    return correlation(field, reference.conj()) ** 2 > 0.5


def relative_error(measured: Fields, predicted: Fields) -> float:
    """|measured - predicted| / |predicted|: what the correlation forgives, scale and phase."""
    return float(np.linalg.norm(measured - predicted) / np.linalg.norm(predicted))


def split_half(half: Fields, other: Fields) -> float:
    """Correlation with the truth of the mean of two independent estimates of one matrix.

    Two halves that correlate by rho have a mean that correlates with the truth by
    sqrt(2 rho / (1 + rho)).
    """
    rho = correlation(half, other)
    return float(np.sqrt(2 * rho / (1 + rho)))


def linearity(a: Fields, b: Fields, both: Fields, zero: Fields) -> float:
    """Relative size of y(a) + y(b) - y(a or b) - y(0) for disjoint patterns a and b.

    Args:
        a: Fields of patterns a, bias not subtracted; or signed fields.
        b: Fields of patterns b.
        both: Fields of the patterns a or b.
        zero: Field of the all-off pattern, broadcast against the others.
    """
    return float(np.linalg.norm(a + b - both - zero) / np.linalg.norm(both - zero))


def distance_scatter(fields: Fields, vectors: NDArray[np.floating[Any]], noise: float) -> float:
    """Relative scatter of the squared distances of fields over those of their vectors.

    Args:
        fields: `[vector, mode]`.
        vectors: `[vector, input]`.
        noise: Variance of a field per mode; its share is subtracted.

    Returns:
        Standard deviation over mean, over all pairs of different vectors; 0 without any.
    """
    one, other = np.triu_indices(len(vectors), 1)
    apart = np.sum((vectors[one] - vectors[other]) ** 2, axis=1)
    powers = np.sum(np.abs(fields) ** 2, axis=1)
    overlaps = (fields @ fields.conj().T).real[one, other]
    seen = powers[one] + powers[other] - 2 * overlaps - 2 * noise * fields.shape[1]
    ratios = seen[apart > 0] / apart[apart > 0]
    return float(np.std(ratios) / np.mean(ratios)) if ratios.size else 0.0


def marker_fidelities(fields: Fields, noise: float) -> NDArray[np.float32]:
    """Fidelity of each field of one pattern to those of the first quarter.

    It is the squared correlation of the light alone: the noise's part of the powers is taken out.

    Args:
        fields: `[sequence, mode]`, in order of time, at least two.
        noise: Their variance per mode.

    Returns:
        float32 `[sequence]`; NaN where the light is lost in the noise.
    """
    first = max(len(fields) // 4, 2)
    start = fields[:first].sum(axis=0)
    fidelities = np.full(len(fields), np.nan, np.float32)
    for k, seen in enumerate(fields):
        among = k < first  # then it is compared with the others, or its noise would agree
        count = first - among
        others = (start - seen if among else start) / count
        own = float(np.mean(np.abs(others) ** 2)) - noise / count
        power = float(np.mean(np.abs(seen) ** 2)) - noise
        if own > 0 and power > 0:
            fidelities[k] = abs(np.vdot(others, seen) / seen.size) ** 2 / (own * power)
    return fidelities


def signal_to_noise(first: Fields, second: Fields) -> float:
    """Signal to noise (powers) of one measurement, from two of the same fields, bias subtracted."""
    noise = float(np.mean(np.abs(first - second) ** 2)) / 2
    power = float(np.mean(np.abs(first) ** 2 + np.abs(second) ** 2)) / 2
    return max(power - noise, 0.0) / noise if noise else float("inf")


def visibility(interference: Fields, mean_grey: float) -> float:
    """Fringe visibility: twice the rms of the field R* S over the mean grey value above black."""
    return float(2 * np.sqrt(np.mean(np.abs(interference) ** 2)) / mean_grey)


def dead_fraction(frames: NDArray[Any]) -> float:
    """Fraction of pixels that do not change where others do.

    Args:
        frames: Grey values `[frame, row, column]` of several patterns.

    Returns:
        The fraction; 0 where a typical pixel moves by so few whole grey values that a live one
        may stand still, too.
    """
    moved = np.ptp(frames, axis=0)
    typical = float(np.median(moved))
    if frames.dtype.kind != "f" and typical < _COMPARABLE_RANGE:
        return 0.0
    return float(np.mean(moved <= 1e-3 * typical))


def normalised_singular_values(T: Fields) -> NDArray[np.float32]:
    """Singular values of a matrix `[mode, input]`, falling, normalised by its size and strength.

    They are divided by the square root of (modes x mean square entry): if no mode is without
    signal, and there are at least as many modes as inputs, the mean of their squares is 1.
    """
    values = np.linalg.svd(T, compute_uv=False)
    scale = np.sqrt(T.shape[0] * np.mean(np.abs(T) ** 2))
    normalised: NDArray[np.float32] = (values / scale).astype(np.float32)
    return normalised


def marchenko_pastur(values: NDArray[np.floating[Any]], ratio: float) -> NDArray[np.float64]:
    """Density of the singular values of a random complex Gaussian matrix, mean square 1.

    With s the singular value and c = inputs / effective modes <= 1, the law of Marchenko and
    Pastur is p(s) = sqrt((b^2 - s^2)(s^2 - a^2)) / (pi c s) between a = 1 - sqrt(c) and
    b = 1 + sqrt(c). Pure noise follows it as well as a good matrix: it shows what is wrong with a
    matrix (a static bias, inputs that do not reach the camera), never that one is right.

    Args:
        values: Normalised singular values, of any shape.
        ratio: c, from 0 to 1.

    Returns:
        The density there, the same shape.
    """
    low, high = (1 - np.sqrt(ratio)) ** 2, (1 + np.sqrt(ratio)) ** 2
    squares = np.asarray(values, np.float64) ** 2
    inside = np.sqrt(np.maximum((high - squares) * (squares - low), 0))
    return np.asarray(inside / (np.pi * ratio * np.maximum(np.sqrt(squares), 1e-12)))


def marchenko_pastur_quantiles(count: int, effective_modes: float) -> NDArray[np.float64]:
    """The singular values that the law expects, falling: its quantiles, one for each rank.

    Args:
        count: How many singular values there are, the number of inputs.
        effective_modes: Independent modes in a frame.

    Returns:
        float64 `[count]`.
    """
    if not count:
        return np.zeros(0)
    ratio = min(count / effective_modes, 1.0)
    values = np.linspace(1 - math.sqrt(ratio), 1 + math.sqrt(ratio), 4000)
    below = np.cumsum(marchenko_pastur(values, ratio))
    ranks = 1 - (np.arange(count) + 0.5) / count
    return np.asarray(np.interp(ranks, below / below[-1], values))


def effective_modes(radius: float, frame_shape: tuple[int, int]) -> float:
    """Independent modes in a frame: pi r^2 pixels, the area of the sideband in bins.

    Args:
        radius: Sideband radius, cycles/pixel.
        frame_shape: Rows and columns of a frame.
    """
    return float(np.pi * radius**2 * frame_shape[0] * frame_shape[1])
