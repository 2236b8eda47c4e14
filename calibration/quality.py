"""How good a calibration is, in figures that do not flatter."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration.errors import QualityError

Fields = NDArray[np.complexfloating[Any, Any]]
"""Complex fields or matrix entries of any shape."""


@dataclass(frozen=True)
class Quality:
    """The figures of one calibration.

    Attributes:
        held_out_correlation: Correlation of measured and predicted fields of patterns that were
            not used for the matrix.
        held_out_error: Their relative error (a saturated bench still correlates well).
        split_half: Correlation of the whole matrix with the truth, from two halves of the data.
        linearity: Relative size of y(a) + y(b) - y(a or b) - y(0) for disjoint a and b.
        snr: Signal to noise (powers) of one binary exposure's field.
        singular_values: float32 `[k]`, of the matrix, as `normalised_singular_values` gives them.
        effective_modes: Independent modes in a frame, pi r^2 pixels.
        visibility: Fringe visibility of a half-lit modulator.
        saturated_fraction: Fraction of pixels at full scale over all frames.
    """

    held_out_correlation: float
    held_out_error: float
    split_half: float
    linearity: float
    snr: float
    singular_values: NDArray[np.float32] = field(repr=False, compare=False)
    effective_modes: float
    visibility: float
    saturated_fraction: float


@dataclass(frozen=True)
class QualityLimits:
    """What a calibration must reach to be used.

    Attributes:
        held_out_correlation: At least.
        held_out_error: At most.
        split_half: At least.
        linearity: At most.
        snr: At least.
        visibility: At least.
        saturated_fraction: At most.
    """

    held_out_correlation: float = 0.95
    held_out_error: float = 0.3
    split_half: float = 0.95
    linearity: float = 0.3
    snr: float = 1.0
    visibility: float = 0.05
    saturated_fraction: float = 1e-3


_AT_MOST = {"held_out_error", "linearity", "saturated_fraction"}


def check(quality: Quality, limits: QualityLimits | None = None) -> None:
    """Refuse a calibration whose figures lie outside their limits.

    Args:
        quality: The figures.
        limits: What they must reach; None for the defaults.

    Raises:
        QualityError: Names each figure that fails (NaN fails), its value and its limit.
    """
    limits = limits or QualityLimits()
    failures = []
    for limit in fields(limits):
        figure, bound = getattr(quality, limit.name), getattr(limits, limit.name)
        passed = figure <= bound if limit.name in _AT_MOST else figure >= bound
        if not passed:
            kind = "at most" if limit.name in _AT_MOST else "at least"
            failures.append(f"{limit.name} = {figure:.4g} ({kind} {bound:g})")
    if failures:
        raise QualityError(
            f"The calibration is not good enough: {', '.join(failures)}. Look at the exposure, at "
            "the stability of the interferometer and at the visibility of the fringes, then "
            "calibrate again."
        )


def correlation(measured: Fields, predicted: Fields) -> float:
    """|<measured, predicted>| over the product of their norms: 1 is perfect, 0 is nothing."""
    overlap = abs(np.vdot(measured, predicted))
    return float(overlap / (np.linalg.norm(measured) * np.linalg.norm(predicted)))


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
        a: Fields of patterns a, bias not subtracted.
        b: Fields of patterns b.
        both: Fields of the patterns a or b.
        zero: Field of the all-off pattern, broadcast against the others.
    """
    return float(np.linalg.norm(a + b - both - zero) / np.linalg.norm(both - zero))


def signal_to_noise(first: Fields, second: Fields) -> float:
    """Signal to noise (powers) of one measurement, from two of the same fields, bias subtracted."""
    noise = float(np.mean(np.abs(first - second) ** 2)) / 2
    power = float(np.mean(np.abs(first) ** 2 + np.abs(second) ** 2)) / 2
    return max(power - noise, 0.0) / noise if noise else float("inf")


def visibility(interference: Fields, mean_grey: float) -> float:
    """Fringe visibility: twice the rms of the field R* S over the mean grey value above black."""
    return float(2 * np.sqrt(np.mean(np.abs(interference) ** 2)) / mean_grey)


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


def effective_modes(radius: float, frame_shape: tuple[int, int]) -> float:
    """Independent modes in a frame: pi r^2 pixels, the area of the sideband in bins.

    Args:
        radius: Sideband radius, cycles/pixel.
        frame_shape: Rows and columns of a frame.
    """
    return float(np.pi * radius**2 * frame_shape[0] * frame_shape[1])
