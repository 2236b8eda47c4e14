"""What frames of speckle say about a bench: light, contrast, grain, and how steady they are.

Contrast is the deviation of the grey values over their mean above black: 1 for the intensity of
fully developed polarised speckle (Goodman, Speckle Phenomena in Optics, 2nd ed., ch. 3); a steady
reference lowers it, fringes raise it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration import drift, grain
from calibration.demodulation import Demodulation
from calibration.grey_values import GreyValues
from calibration.spectrum import Spectrum, tiles

GRAIN_FRAMES = 8
"""Frames that the size of a grain is measured on at most."""

_DARKEST = 1e-3  # share of the pixels
_SMALLEST_PART = 64  # pixels a side, below which a quarter of a frame tells no grain


@dataclass(frozen=True)
class Light:
    """The grey values of frames.

    Attributes:
        mean: float64 `[row, column]`, mean over the frames.
        deviation: float64 `[row, column]`, standard deviation over the frames.
        power: float64 `[frame]`, mean grey value of each, above black.
        contrast: Deviation over mean above black in a frame, averaged over the frames; NaN in the
            dark.
        contrast_sigma: Its standard error, from the frames' scatter; NaN for one frame.
        saturated_fraction: Fraction of full pixels; NaN where nobody knows the level.
        darkest: Grey value that one pixel in a thousand is not brighter than.
    """

    mean: NDArray[np.float64]
    deviation: NDArray[np.float64]
    power: NDArray[np.float64]
    contrast: float
    contrast_sigma: float
    saturated_fraction: float
    darkest: float

    @classmethod
    def of(cls, frames: Any, *, black_level: float, saturation_level: float | None) -> Light:
        """The light in frames `[frame, row, column]`, taken one by one."""
        return cls.from_grey(
            GreyValues.of(frames), black_level=black_level, saturation_level=saturation_level
        )

    @classmethod
    def from_grey(
        cls, grey: GreyValues, *, black_level: float, saturation_level: float | None
    ) -> Light:
        """The light that grey values stand for, once black and full are known."""
        power = grey.frame_mean - black_level
        lit = power > 0
        contrast = grey.frame_deviation[lit] / power[lit]
        sigma = np.std(contrast, ddof=1) / np.sqrt(len(contrast)) if len(contrast) > 1 else np.nan
        full = (
            np.nan if saturation_level is None else grey.histogram.fraction_from(saturation_level)
        )
        return cls(
            grey.mean,
            grey.deviation,
            power,
            float(np.mean(contrast)) if len(contrast) else np.nan,
            float(sigma),
            full,
            grey.histogram.quantile(_DARKEST),
        )


def grain_size(frames: NDArray[Any]) -> tuple[float, float] | None:
    """The size of a speckle grain by autocorrelation, pixels, with its standard error.

    The error is the scatter between the quarters of the frames; it is NaN where they are too small.

    Args:
        frames: Grey values `[frame, row, column]`.

    Returns:
        (size, error); None where neighbouring pixels have nothing in common, all pixels are alike,
        or some are no numbers.
    """
    some = np.asarray(frames[:GRAIN_FRAMES], np.float32)
    if not np.isfinite(some).all() or not np.ptp(some, axis=(1, 2)).any():
        return None
    radius = grain.sideband_radius(Spectrum.of(tiles(some)))
    if radius is None:
        return None
    rows, columns = some.shape[1] // 2, some.shape[2] // 2
    if min(rows, columns) < _SMALLEST_PART:
        return 0.5 / radius, np.nan
    quarters = [some[:, a : a + rows, b : b + columns] for a in (0, rows) for b in (0, columns)]
    radii = [grain.sideband_radius(Spectrum.of(tiles(part))) for part in quarters]
    sizes = [0.5 / one for one in radii if one is not None]
    error = float(np.std(sizes, ddof=1) / np.sqrt(len(sizes))) if len(sizes) > 1 else np.nan
    return 0.5 / radius, error


def likeness(frames: NDArray[Any]) -> NDArray[np.float64]:
    """Correlation of each frame's grey values with those of the first, float64 `[frame]`.

    It is NaN where one of the two has no structure, or values that are no numbers.
    """
    first: NDArray[np.float32] | None = None
    alike = []
    for frame in frames:
        flat = np.asarray(frame, np.float32).ravel()
        flat = flat - flat.mean(dtype=np.float64).astype(np.float32)
        first = flat if first is None else first
        bound = float(np.linalg.norm(flat)) * float(np.linalg.norm(first))
        alike.append(float(flat @ first) / bound if bound > 0 else np.nan)
    return np.array(alike)


@dataclass(frozen=True)
class Steadiness:
    """The field of one pattern, frame by frame against the first.

    Attributes:
        phase_rad: float64 `[frame]`, unwrapped.
        gain: float64 `[frame]`, modulus.
        fidelity: float64 `[frame]`, |correlation|^2; noise lowers it, too.
        carrier: float64 `[frame, 2]`, displacement of the carrier (row, column), cycles/pixel.
        visibility: Mean visibility of the fringes.
    """

    phase_rad: NDArray[np.float64]
    gain: NDArray[np.float64]
    fidelity: NDArray[np.float64]
    carrier: NDArray[np.float64]
    visibility: float

    @classmethod
    def of(
        cls, frames: NDArray[Any], demodulate: Demodulation, *, black_level: float
    ) -> Steadiness:
        """That of frames `[frame, row, column]` of one pattern."""
        fields = demodulate(frames)
        flat = fields.reshape(len(fields), -1)
        gains = drift.factors(flat, flat[0])
        turned = fields * fields[0].conj()
        steps = (
            np.sum(turned[:, 1:] * turned[:, :-1].conj(), axis=(1, 2)),
            np.sum(turned[:, :, 1:] * turned[:, :, :-1].conj(), axis=(1, 2)),
        )
        cycles = np.stack([np.angle(step) for step in steps], axis=1) / (2 * np.pi)
        light = float(np.asarray(frames).mean(dtype=np.float64)) - black_level
        fringes = float(np.sqrt(np.mean(np.abs(flat) ** 2, dtype=np.float64)))
        return cls(
            np.unwrap(np.angle(gains)),
            np.abs(gains),
            drift.fidelity(flat, flat[0], 0.0),
            cycles / demodulate.decimation,
            2 * fringes / light if light > 0 else np.nan,
        )
