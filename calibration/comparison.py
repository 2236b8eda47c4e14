"""What has changed between two calibrations: the matrices, the bench, the optics, the quality.

Two matrices of one medium differ by the phase of the interferometer, by a gain, and by a tilt if
the carrier was taken, or had moved, elsewhere. None of them is a change of the medium: they are
found by least squares and taken out before the fidelity is told.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from calibration.calibration_file import Calibration
from calibration.errors import IncomparableError
from calibration.movement import Reference
from opu_driver.card import card, picture

_BLOCK_MODES = 4096
_NOTEWORTHY = 1.25  # by which a figure has to change to be told of
_SAME, _KIN = 0.98, 0.5  # fidelities from which on a medium is the same, or has something of it


@dataclass(frozen=True)
class Comparison:
    """Calibration `later` beside calibration `earlier`.

    Attributes:
        fidelity: Squared correlation of the two matrices, phase, gain and tilt taken out.
        noiseless_fidelity: What it would be without the noise of both; NaN if that is not known.
        gain: Root mean square of `later` over that of `earlier`, per unit of exposure.
        phase_rad: Phase of `later` against `earlier`, at the middle of the frame.
        carrier_shift: How far the fringes have moved, cycles/pixel, as (row, column).
        carrier_shift_sigma: Standard deviations of it.
        grain_ratio: Speckle grain of `later` over that of `earlier`.
        mode_correlations: float32 `[grid row, grid column]`, of the rows of the two matrices.
        changes: What has changed, in words, most important first; empty if nothing has.
    """

    fidelity: float
    noiseless_fidelity: float
    gain: float
    phase_rad: float
    carrier_shift: tuple[float, float]
    carrier_shift_sigma: tuple[float, float]
    grain_ratio: float
    mode_correlations: NDArray[np.float32] = field(repr=False, compare=False)
    changes: tuple[str, ...]

    def _repr_html_(self) -> str:
        """A card for notebooks."""
        row, column = self.carrier_shift
        facts = {
            "fidelity": f"{self.fidelity:.4f}",
            "gain, phase": f"{self.gain:.4g}, {self.phase_rad:+.2f} rad" if self.related else "",
            "carrier moved by": f"({row:+.2g}, {column:+.2g}) cycles/pixel",
            "changes": "; ".join(self.changes) or "none: it is the same bench",
        }
        pictures = {"correlation, mode by mode": picture(self.mode_correlations)}
        return card("Two calibrations compared", facts, pictures)

    @property
    def related(self) -> bool:
        """Whether the matrices have enough in common for phase, gain and tilt to mean anything."""
        return self.fidelity > 1 - _SAME


def compare(earlier: Calibration, later: Calibration) -> Comparison:
    """Compare two calibrations mode by mode.

    Raises:
        IncomparableError: Their matrices do not have the same inputs or the same modes.
    """
    _refuse_other_matrices(earlier, later)
    overlaps, powers = _overlaps(earlier.T, later.T)
    weights = np.sqrt(powers[0])
    demodulator = earlier.demodulator()
    grid = demodulator.grid_shape
    reference = Reference(
        weights.astype(np.complex64), grid, earlier.decimation, demodulator.noise_gain
    )
    seen = np.divide(overlaps, weights, out=np.zeros_like(overlaps), where=weights > 0)
    moved = reference.movement(seen[None].astype(np.complex64))
    common = np.vdot(reference.ramp(moved.row, moved.column), overlaps)
    norms = np.sqrt(powers[0] * powers[1])
    fidelity = float(abs(common) ** 2 / (powers[0].sum() * powers[1].sum()))
    noises = (earlier.quality.matrix_noise, later.quality.matrix_noise)
    noiseless = fidelity * math.prod(1 + noise**2 for noise in noises)
    then, now = earlier.carrier, later.carrier
    found = Comparison(
        fidelity=fidelity,
        noiseless_fidelity=noiseless,
        gain=math.sqrt(powers[1].sum() / powers[0].sum()),
        phase_rad=float(np.angle(moved.gains[0])),
        carrier_shift=(now.row - then.row + moved.row, now.column - then.column + moved.column),
        carrier_shift_sigma=(moved.row_sigma, moved.column_sigma),
        grain_ratio=now.grain / then.grain,
        mode_correlations=np.divide(
            np.abs(overlaps), norms, out=np.zeros(len(norms)), where=norms > 0
        )
        .reshape(grid)
        .astype(np.float32),
        changes=(),
    )
    return _told(found, earlier, later)


def _refuse_other_matrices(earlier: Calibration, later: Calibration) -> None:
    pairs = {
        "number of inputs": (earlier.n_inputs, later.n_inputs),
        "macropixel grid": (earlier.layout.grid, later.layout.grid),
        "camera region": (earlier.settings.region, later.settings.region),
        "decimation": (earlier.decimation, later.decimation),
    }
    for name, (then, now) in pairs.items():
        if then != now:
            raise IncomparableError(
                f"The {name} is {then} in the earlier calibration and {now} in the later: their "
                "matrices do not describe the same inputs and modes. Compare calibrations that "
                f"were made with the same {name}."
            )


def _overlaps(
    then: NDArray[np.complex64], now: NDArray[np.complex64]
) -> tuple[NDArray[np.complex128], NDArray[np.float64]]:
    """Inner products of the rows of two matrices, and their own powers, `[2, mode]`."""
    overlaps = np.empty(len(then), np.complex128)
    powers = np.empty((2, len(then)))
    for first in range(0, len(then), _BLOCK_MODES):
        some = slice(first, first + _BLOCK_MODES)
        a, b = then[some], now[some]
        overlaps[some] = np.einsum("mi,mi->m", a.conj(), b)
        powers[0, some] = np.einsum("mi,mi->m", a.conj(), a).real
        powers[1, some] = np.einsum("mi,mi->m", b.conj(), b).real
    return overlaps, powers


def _told(found: Comparison, earlier: Calibration, later: Calibration) -> Comparison:
    changes = [_medium(found)]
    changes += _devices(earlier, later)
    changes += _optics(found, earlier, later)
    changes += _quality(earlier, later)
    return Comparison(**{**found.__dict__, "changes": tuple(filter(None, changes))})


def _medium(found: Comparison) -> str:
    known = not math.isnan(found.noiseless_fidelity)
    fidelity = min(found.noiseless_fidelity, 1.0) if known else found.fidelity
    told = f"a fidelity of {fidelity:.3f}" + (", noise taken out" if known else "")
    if fidelity >= _SAME:
        return ""
    if fidelity >= _KIN:
        return f"The medium has changed: the matrices have kept {told}."
    return f"This is another matrix ({told}): the medium or the alignment is another one."


def _devices(earlier: Calibration, later: Calibration) -> list[str]:
    changes = []
    for kind, then in earlier.identities.items():
        now = later.identities[kind]
        if not then.same_device(now):
            changes.append(f"Another {kind}: {now} instead of {then}.")
        elif then != now:
            changes.append(f"The {kind} has other firmware: {now} instead of {then}.")
    for name in ("gain_db", "pixel_format", "trigger", "trigger_delay_us"):
        then, now = getattr(earlier.settings, name), getattr(later.settings, name)
        if then != now:
            changes.append(f"The camera's {name} is {now}, it was {then}.")
    exposures_us = earlier.settings.exposure_us, later.settings.exposure_us
    if _ratio(*exposures_us) > _NOTEWORTHY:
        changes.append(
            f"The exposure is {exposures_us[1]:.4g} µs, it was {exposures_us[0]:.4g} µs."
        )
    if earlier.power_mw != later.power_mw:
        changes.append(f"The laser power is {later.power_mw:g} mW, it was {earlier.power_mw:g} mW.")
    if str(earlier.path) != str(later.path):
        changes.append(f"Fields come by the {later.path}, they came by the {earlier.path}.")
    if earlier.software != later.software:
        changes.append(f"Made by opu {later.software} instead of {earlier.software}.")
    return changes


def _optics(found: Comparison, earlier: Calibration, later: Calibration) -> list[str]:
    changes = []
    if found.related:
        shift = math.hypot(*found.carrier_shift)
        sigma = math.hypot(*found.carrier_shift_sigma)
        width = math.hypot(*earlier.settings.region.shape)
        if shift > 5 * sigma and shift * width > 0.05:
            row, column = found.carrier_shift
            changes.append(
                f"The carrier has moved by ({row:+.2g}, {column:+.2g}) cycles/pixel, "
                f"{shift * width:.2g} fringes over the frame."
            )
        if _ratio(1.0, found.gain) > _NOTEWORTHY:
            changes.append(f"The field a unit of exposure is {found.gain:.3g} times as strong.")
    then, now = earlier.carrier, later.carrier
    doubt = math.hypot(then.radius_sigma, now.radius_sigma)
    if abs(now.radius - then.radius) > 5 * doubt:
        changes.append(f"A speckle grain has {now.grain:.2f} pixels, it had {then.grain:.2f}.")
    return changes


def _quality(earlier: Calibration, later: Calibration) -> list[str]:
    changes = []
    for name, words in (
        ("snr", "signal to noise of an exposure"),
        ("held_out_error", "held-out error"),
        ("visibility", "fringe visibility"),
    ):
        then, now = (getattr(made.quality, name) for made in (earlier, later))
        if _ratio(then, now) > _NOTEWORTHY:
            changes.append(f"The {words} is {now:.3g}, it was {then:.3g}.")
    return changes


def _ratio(one: float, other: float) -> float:
    """The larger over the smaller; 1 for what cannot be compared."""
    if not (0 < one < math.inf and 0 < other < math.inf):
        return 1.0
    return max(one, other) / min(one, other)


def hours_between(earlier: Calibration, later: Calibration) -> float:
    """Hours from the one measurement to the other."""
    began, ended = (datetime.fromisoformat(made.made_at) for made in (earlier, later))
    return (ended - began).total_seconds() / 3600
