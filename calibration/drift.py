"""How an interferometer has moved: a field against a reference field of the same pattern."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from calibration.errors import DriftError

LARGEST_STEP_RAD = 1.5
"""Beyond half a turn between references nobody can tell which way the phase went; half of that,
and the interpolation between them means nothing any more."""


def factors(
    fields: NDArray[np.complex64], reference: NDArray[np.complex64]
) -> NDArray[np.complex128]:
    """Complex gain of each field against a reference field, by least squares over the modes.

    Its modulus is the gain, its argument the phase in rad.

    Args:
        fields: complex64 `[field, mode]`.
        reference: complex64 `[mode]`.
    """
    power = float(np.vdot(reference, reference).real)
    gains: NDArray[np.complex128] = (fields @ reference.conj()).astype(np.complex128) / power
    return gains


def noise(fields: NDArray[np.complex64], gains: NDArray[np.complex128]) -> float:
    """Noise variance per mode of one field, from the differences of neighbours.

    Args:
        fields: complex64 `[field, mode]`, at least two of one pattern, in order of time.
        gains: Their gains, see `factors`.
    """
    aligned = fields / gains[:, None]
    scatter = np.mean(np.abs(np.diff(aligned, axis=0)) ** 2, axis=1)
    weights = np.abs(gains[1:]) ** -2 + np.abs(gains[:-1]) ** -2
    return float(scatter.sum() / weights.sum())


def fidelity(
    fields: NDArray[np.complex64], reference: NDArray[np.complex64], noise: float
) -> NDArray[np.float64]:
    """|correlation|^2 of each field with the reference, of the light alone: 1 - decorrelation.

    The measured power contains the noise, which lowers the correlation of a faint field and is no
    sign of a medium that has moved; it is subtracted.

    Args:
        fields: complex64 `[field, mode]`.
        reference: complex64 `[mode]`, with little noise.
        noise: Noise variance of the fields per mode.

    Returns:
        float64 `[field]`; 0 for a field that is lost in its noise.
    """
    gains = factors(fields, reference)
    power = np.mean(np.abs(fields) ** 2, axis=1, dtype=np.float64) - noise
    own = float(np.mean(np.abs(reference) ** 2, dtype=np.float64))
    seen = power > 3 * noise / np.sqrt(reference.size)
    faithful = np.zeros(len(fields))
    np.divide(np.abs(gains) ** 2 * own, power, out=faithful, where=seen)
    return faithful


def largest_step_rad(gains: NDArray[np.complex128]) -> float:
    """The largest change of phase between neighbouring references, rad."""
    return float(np.max(np.abs(np.angle(gains[1:] / gains[:-1])), initial=0.0))


def interpolate(
    gains: NDArray[np.complex128], positions: NDArray[np.int64], at: NDArray[np.int64]
) -> NDArray[np.complex128]:
    """Complex gains between references: phase and modulus linear in the exposure's number.

    Args:
        gains: complex128 `[reference]`, see `factors`.
        positions: Their exposures' numbers, rising.
        at: The exposures' numbers to interpolate at.

    Raises:
        DriftError: The phase changed so much between two references that it cannot be followed.
    """
    steps = np.angle(gains[1:] / gains[:-1])
    if steps.size and np.abs(steps).max() > LARGEST_STEP_RAD:
        worst = int(np.argmax(np.abs(steps)))
        apart = int(positions[worst + 1] - positions[worst])
        # A phase that walks at random moves by the square root of the time between references.
        better = max(1, int(apart * (LARGEST_STEP_RAD / 3 / abs(steps[worst])) ** 2))
        every = "every exposure" if better == 1 else f"every {better} exposures"
        raise DriftError(
            f"The interferometer's phase moved by {steps[worst]:+.2f} rad between two references "
            f"{apart} exposures apart; up to {LARGEST_STEP_RAD:g} rad can be followed. Calm the "
            f"bench, or let a projector show a reference {every} (reference_interval); a "
            "calibration that does not need references is that by the method hadamard-pairs."
        )
    phase = np.angle(gains[0]) + np.concatenate([[0.0], np.cumsum(steps)])
    modulus = np.interp(at, positions, np.abs(gains))
    between: NDArray[np.complex128] = modulus * np.exp(1j * np.interp(at, positions, phase))
    return between
