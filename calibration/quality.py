"""How good a calibration is, in figures that do not flatter."""

from __future__ import annotations

from dataclasses import dataclass
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
    singular_values: NDArray[np.float32]
    effective_modes: float
    visibility: float
    saturated_fraction: float


@dataclass(frozen=True)
class QualityLimits:
    """What a calibration must reach; a lower limit where more is better, else an upper one."""

    held_out_correlation: float = 0.95
    held_out_error: float = 0.3
    split_half: float = 0.95
    linearity: float = 0.3
    snr: float = 1.0
    visibility: float = 0.05
    saturated_fraction: float = 1e-3


def check(quality: Quality, limits: QualityLimits | None = None) -> None:
    """Raise QualityError, naming each figure, if one lies outside its limit."""
    limits = limits or QualityLimits()
    if quality.snr < limits.snr:
        raise QualityError(f"snr = {quality.snr:.3g}; at least {limits.snr:g} is needed.")


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


def visibility(fields: Fields, mean_grey: float) -> float:
    """Fringe visibility: twice the field's rms over the mean grey value above black."""
    return float(2 * np.sqrt(np.mean(np.abs(fields) ** 2)) / mean_grey)


def normalised_singular_values(T: Fields) -> NDArray[np.float32]:
    """Singular values, falling, over the square root of (modes x mean square entry).

    Their squares have the mean 1 (where there are at least as many modes as inputs).
    """
    values = np.linalg.svd(T, compute_uv=False)
    scale = np.sqrt(T.shape[0] * np.mean(np.abs(T) ** 2))
    normalised: NDArray[np.float32] = (values / scale).astype(np.float32)
    return normalised
