"""Holography without a tilt: the reference steps through phases, and each pixel tells its field.

With the reference R at the phase d_k, a frame is

    I_k = A + 2 Re(exp(-i d_k) F),   F = R* S,   A = |R|^2 + |S|^2.

Three unknowns a pixel, so three steps or more give F by least squares; four quarters of a turn give

    F = (I_0 + i I_1 - I_2 - i I_3) / 4.

Two steps half a turn apart give Re F = (I_0 - I_1) / 4: half of the outputs for half of the
exposures, as little noise in each. Nothing else lies in the spectrum beside the field, so that
speckle may be as fine as the pixels: about a mode a grain, against one in 12 to 20 pixels with a
carrier. The price is that phase and light have to hold still for a few exposures, not for one.

*Noise.* K even steps of pixels with the noise variance v leave F the variance v / K, and half of it
on either part; a low pass to the speckle's radius r leaves pi r^2 of that. So the signal to noise
of a mode is N_R N_S / (v g), with g = `noise_gain`, about pi r^2 / K.

*Wrong steps.* Assumed at d_k and really at d'_k, they give c F + b F*, and no more, for the weights
add up to nothing: c is absorbed in T, the twin's share |b / c| is a bias (see `twin_share`). A
second step that is wrong by x, of two, costs a factor cos(x/2) and no bias at all. Deviations of
each exposure by itself, of s rad rms, add s^2 / 2 to the relative variance of a field from four
steps; half of that is a phase that the whole field has, which a common reference undoes.

*Measuring the steps.* The phase of speckle is even over the pixels, so that over them

    cov(I_k, I_l) = V + 2 <|F|^2> cos(d_k - d_l),

noise left out with k = l. Four steps have six such numbers for the five unknowns.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.fft
import scipy.optimize
from numpy.typing import NDArray

from calibration.errors import FramesError, LowVisibilityError
from opu_driver.camera import Frames
from opu_driver.errors import SettingError

FOUR_STEPS = (0.0, 0.25, 0.5, 0.75)
"""Quarters of a turn: the complex field."""

TWO_STEPS = (0.0, 0.5)
"""Half a turn: the real part of the field."""

EDGE = 0.15
"""Width of the speckle mask's soft edge, as a fraction of the speckle's radius."""

_DISTINCT = 0.05  # smallest singular value of the steps' equations, relative to the largest
_BLOCKS = 8  # in which the steps are measured, to see how they scatter


class SteppedDemodulator:
    """Turns groups of frames, one for each step of the reference, into fields R* S in grey values.

    It is called as `Demodulation` is, with `exposures` frames for each field. Its map is linear. A
    low pass takes a Fourier transform of the whole frame, which is periodic: towards the borders,
    fields mix with those of the opposite ones, as in `demodulation.Demodulator`.

    Args:
        frame_shape: Rows and columns of a frame.
        turns: The reference's phase at each step, in turns.
        radius: Radius r of the speckle's band, cycles/pixel: the field's noise outside of it is
            left out. None keeps the field of each pixel as it is.
        decimation: Pixels between grid points; None for the largest that divides the frame and has
            2 r <= 1/d.

    Attributes:
        frame_shape: Rows and columns of a frame.
        turns: As given.
        exposures: Frames that make a field.
        decimation: Pixels between grid points.
        grid_shape: Rows and columns of a field.
        n_modes: Points of the grid.
        n_outputs: Real numbers a field: two a mode, or one where there are two steps.
        noise_gain: Variance (mean of |noise|^2) of a mode, for pixels with white noise of
            variance 1 in each frame.

    Raises:
        SettingError: Fewer than two steps, or such that the field does not follow from them; a
            radius or decimation that does not fit.
    """

    def __init__(
        self,
        frame_shape: tuple[int, int],
        turns: Sequence[float] = FOUR_STEPS,
        *,
        radius: float | None = None,
        decimation: int | None = None,
    ) -> None:
        rows, columns = frame_shape
        self.frame_shape = frame_shape
        self.turns = tuple(turns)
        self.exposures = len(self.turns)
        weights = step_weights(self.turns)
        self._parts = weights.view(np.float32).reshape(self.exposures, -1)  # [step, real or both]
        self.decimation = _checked_decimation(frame_shape, radius, decimation)
        self.grid_shape = rows // self.decimation, columns // self.decimation
        self.n_modes = self.grid_shape[0] * self.grid_shape[1]
        real = self.exposures == 2
        self.n_outputs = self.n_modes * (1 if real else 2)
        self._dtype = np.dtype(np.float32 if real else np.complex64)
        self._mask = None if radius is None else _mask(frame_shape, radius)
        band = 1.0 if self._mask is None else float(np.mean(self._mask**2))
        self.noise_gain = band * float(np.sum(np.abs(weights) ** 2))

    def __call__(self, frames: Frames) -> NDArray[Any]:
        """The fields of frames.

        Args:
            frames: Grey values `[field x step, row, column]`, of any real type: the steps of the
                first field, then those of the second.

        Returns:
            complex64 `[field, grid row, grid column]`; float32, the real part, of two steps.

        Raises:
            FramesError: Frames of another shape, not finite, or no whole number of groups.
        """
        groups = _groups(frames, self.frame_shape, self.exposures)
        fields = np.empty((len(groups), *self.grid_shape), self._dtype)
        for field, group in zip(fields, groups, strict=True):
            field[:] = self._on_grid(self._hologram(group))
        return fields

    def _hologram(self, group: Frames) -> NDArray[Any]:
        """The weighted sum of a group's frames, `[row, column]`."""
        parts = np.zeros((*self.frame_shape, self._parts.shape[1]), np.float32)
        for frame, weights in zip(group, self._parts, strict=True):
            grey = frame.astype(np.float32)
            for part, weight in enumerate(weights):
                if weight:
                    parts[..., part] += weight * grey
        return parts.view(self._dtype)[..., 0]

    def _on_grid(self, hologram: NDArray[Any]) -> NDArray[Any]:
        """Low-passed to the speckle's band, every d-th pixel of it."""
        d = self.decimation
        if self._mask is None:
            return hologram[::d, ::d]
        spectrum = scipy.fft.fft2(hologram) * self._mask
        rows, columns = self.grid_shape
        # Every d-th pixel cannot tell d x d frequencies apart: they add up.
        folded = spectrum.reshape(d, rows, d, columns).sum(axis=(0, 2)) / np.float32(d**2)
        field: NDArray[Any] = scipy.fft.ifft2(folded, overwrite_x=True)
        return field if self._dtype.kind == "c" else field.real


def step_weights(turns: Sequence[float]) -> NDArray[np.complex64] | NDArray[np.float32]:
    """What each frame counts in the field: F is their weighted sum.

    Args:
        turns: The reference's phases, in turns.

    Returns:
        complex64 `[step]`, of least noise; float32 for two steps, of which the sum is the real part
        of F, turned by the mean of the two phases less a quarter of a turn: F itself for (0, 1/2).

    Raises:
        SettingError: The steps do not determine the field.
    """
    phases = 2 * np.pi * np.asarray(turns, np.float64)
    if phases.ndim != 1 or not np.isfinite(phases).all():
        raise SettingError(f"turns = {turns}; give the reference's phases as numbers, in turns.")
    if len(phases) == 2:
        contrast = abs(np.exp(1j * phases[0]) - np.exp(1j * phases[1]))
        if contrast < 2 * _DISTINCT:
            raise SettingError(
                f"turns = {turns}: the two steps of the reference are alike. Use 0 and 0.5."
            )
        return np.asarray([0.5 / contrast, -0.5 / contrast], np.float32)
    equations = np.stack([np.ones_like(phases), 2 * np.cos(phases), 2 * np.sin(phases)], axis=1)
    values = np.linalg.svd(equations, compute_uv=False)
    if len(phases) < 3 or values[-1] < _DISTINCT * values[0]:
        raise SettingError(
            f"turns = {turns}: a field needs three steps of the reference or more, well apart, or "
            "two half a turn apart for its real part. Use 0, 0.25, 0.5, 0.75."
        )
    solution = np.linalg.pinv(equations)
    weights: NDArray[np.complex64] = (solution[1] + 1j * solution[2]).astype(np.complex64)
    return weights


def twin_share(assumed: Sequence[float], true: Sequence[float]) -> float:
    """Share of F* in what is taken for F where the steps are others than assumed: |b / c|.

    Args:
        assumed: Phases that the demodulator was made for, in turns, three or more.
        true: Those that the reference has.

    Raises:
        SettingError: Another number of steps, fewer than three, or steps that determine no field.
    """
    if len(assumed) != len(true) or len(assumed) < 3:
        raise SettingError(
            f"{len(assumed)} assumed steps and {len(true)} true ones; give as many, three or more. "
            "Two steps have no twin."
        )
    weights = step_weights(assumed)
    phasors = np.exp(2j * np.pi * np.asarray(true))
    return float(abs(weights @ phasors) / abs(weights @ phasors.conj()))


@dataclass(frozen=True)
class MeasuredSteps:
    """The steps that a reference really makes.

    Attributes:
        turns: Its phases, in turns; the first is 0.
        uncertainty_turns: Standard error of a phase, in turns; NaN from fewer than two groups.
        visibility: Contrast of the fringes, 2 sqrt(<|F|^2>) over the mean grey value.
    """

    turns: tuple[float, ...]
    uncertainty_turns: float
    visibility: float


def measure_steps(
    frames: Frames, nominal: Sequence[float] = FOUR_STEPS, *, black_level: float = 0.0
) -> MeasuredSteps:
    """The steps of the reference, from frames of speckle.

    Their error falls with the root of the number of grains in all groups; it is about 1/400 of a
    turn from a thousand grains.

    Args:
        frames: Grey values `[group x step, row, column]`, each group of a pattern of its own.
        nominal: What the phases should be, in turns, four or more; within a tenth of a turn.
        black_level: Grey value without light.

    Raises:
        SettingError: Fewer than four steps, which do not tell.
        FramesError: Frames that are no whole number of groups, or not finite.
        LowVisibilityError: No fringes from which to tell.
    """
    if len(nominal) < 4:
        raise SettingError(f"{len(nominal)} steps do not tell their phases; four or more do.")
    step_weights(nominal)
    if frames.ndim != 3 or not len(frames):
        raise FramesError(
            f"Frames of shape {list(frames.shape)}; give [group x step, row, column], a group of "
            "all steps at least."
        )
    groups = _groups(frames, (frames.shape[1], frames.shape[2]), len(nominal))
    covariances = np.stack([np.cov(g.reshape(len(nominal), -1).astype(np.float64)) for g in groups])
    phases, field_power = _fitted(covariances.mean(axis=0), nominal)
    mean = float(frames.mean(dtype=np.float64)) - black_level
    visibility = 2 * math.sqrt(max(field_power, 0.0)) / max(mean, 1e-30)
    scatter = math.sqrt(float(np.trace(covariances.mean(axis=0))) / len(nominal))
    if field_power <= (0.05 * scatter) ** 2:
        raise LowVisibilityError(
            f"The frames change with the reference's phase by {max(field_power, 0.0):.3g} grey "
            f"values squared, and vary by {scatter**2:.3g}: the fringes' visibility is "
            f"{visibility:.3f}. Check that the reference reaches the camera and that it steps."
        )
    parts = np.array_split(covariances, min(_BLOCKS, len(covariances)))
    uncertainty = math.nan
    if len(parts) > 1:
        apart = np.array([_fitted(part.mean(axis=0), nominal)[0] for part in parts])
        uncertainty = float(np.sqrt(np.mean(apart[:, 1:].var(axis=0, ddof=1)) / len(parts)))
    return MeasuredSteps(
        tuple((phases / (2 * np.pi)).tolist()), uncertainty / (2 * math.pi), visibility
    )


def _fitted(
    covariance: NDArray[np.float64], nominal: Sequence[float]
) -> tuple[NDArray[np.float64], float]:
    """Phases (rad), the first 0, and <|F|^2>, by least squares of what lies off the diagonal."""
    first, second = np.triu_indices(len(nominal), 1)
    seen = covariance[first, second]
    unit = float(np.trace(covariance)) / len(nominal)
    start = 2 * np.pi * (np.asarray(nominal, np.float64) - nominal[0])
    cosines = np.cos(start[first] - start[second])
    model = np.stack([np.ones_like(cosines), 2 * cosines], axis=1)
    linear = np.linalg.lstsq(model, seen / unit)[0]

    def missing(unknown: NDArray[np.float64]) -> NDArray[np.float64]:
        phases = np.concatenate([[0.0], unknown[2:]])
        fringes = 2 * unknown[1] * np.cos(phases[first] - phases[second])
        return np.asarray(unknown[0] + fringes - seen / unit)

    found = scipy.optimize.least_squares(missing, np.concatenate([linear, start[1:]])).x
    return np.concatenate([[0.0], found[2:]]), float(found[1]) * unit


def _groups(frames: Frames, frame_shape: tuple[int, int], steps: int) -> Frames:
    """Frames `[group, step, row, column]`, checked."""
    rows, columns = frame_shape
    if frames.ndim != 3 or frames.shape[1:] != frame_shape or len(frames) % steps:
        raise FramesError(
            f"Frames of shape {list(frames.shape)}; {steps} steps of {rows} x {columns} pixels "
            f"take [{steps} x fields, {rows}, {columns}]."
        )
    if frames.dtype.kind not in "uif":
        raise FramesError(f"Frames of {frames.dtype}; give real grey values.")
    if frames.dtype.kind == "f" and not np.isfinite(frames).all():
        raise FramesError("Frames with values that are not finite; look at the camera.")
    return frames.reshape(-1, steps, rows, columns)


def _checked_decimation(
    frame_shape: tuple[int, int], radius: float | None, decimation: int | None
) -> int:
    """Pixels between grid points; see `SteppedDemodulator`."""
    if radius is not None and not 0 < radius <= math.sqrt(0.5):
        raise SettingError(
            f"radius = {radius:g} cycles/pixel; the speckle's band lies between 0 and 0.7."
        )
    rows, columns = frame_shape
    most = 1 if radius is None else max(int(0.5 / radius), 1)
    allowed = [d for d in range(1, most + 1) if rows % d == 0 and columns % d == 0]
    if decimation is None:
        return max(allowed)
    if decimation not in allowed:
        raise SettingError(
            f"decimation = {decimation}; frames of {rows} x {columns} with speckle of radius "
            f"{'unknown' if radius is None else f'{radius:.4f} cycles/pixel'} can be decimated by "
            f"{', '.join(map(str, allowed))}."
        )
    return decimation


def _mask(frame_shape: tuple[int, int], radius: float) -> NDArray[np.float32]:
    """Flat to r, a raised cosine to (1 + EDGE) r, `[row frequency, column frequency]`."""
    row, column = (scipy.fft.fftfreq(n) for n in frame_shape)
    beyond = np.clip((np.hypot(row[:, None], column) / radius - 1) / EDGE, 0, 1)
    return ((1 + np.cos(np.pi * beyond)) / 2).astype(np.float32)
