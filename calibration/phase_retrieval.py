"""Rows of T from intensities alone: |T x|^2 of random binary patterns, no reference at all.

Each output has K measured moduli a_k = |x_k t|, t its row of T. The fields z_k that belong to it
lie in the range of the patterns X, and have these moduli; what lies in both is found by projecting
onto the one and the other in turn:

- RAAR, relaxed averaged alternating reflections (Luke, Inverse Problems 21, 37, 2005), with
  R = 2 P - 1 and beta = 0.9,

      z <- beta/2 (R_X R_a + 1) z + (1 - beta) P_a z,

  finds the neighbourhood of the solution where plain projections get stuck;
- Gerchberg-Saxton, z <- P_X P_a z, then ends in the least squares of that neighbourhood.

*What intensities cannot tell.* A phase a row; and, since the patterns are real, whether it is t or
its complex conjugate: |x t| = |x t*|. So what comes out is no matrix yet, and is not used as one.
A few fields, measured once with a reference, tell both for every row (`resolve`).

*Noise.* Relative noise d of the intensities leaves, of a row's power,

    eps^2 = 2 d^2 N / (K - 2 N)

from K patterns with half of their N inputs lit: linearised about the solution, each modulus is one
real equation for the 2 N parts of t, with the variance d^2 <|x t|^2> / 4, and an input's variance
over the patterns is 1/4.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from calibration.errors import AmbiguityError
from opu_driver.errors import LowSignalError, PatternError, SaturationError, SettingError

BETA = 0.9
"""Relaxation of RAAR."""

RAAR_ROUNDS, FINAL_ROUNDS = 300, 50
"""Rounds of RAAR, and of Gerchberg-Saxton after them."""

FEWEST_PER_INPUT = 4
"""Patterns an input below which rows are not found, noise or not."""

_ROWS = 256  # taken at a time
_LIKE = 1e-4  # smallest singular value of the patterns, relative to the largest


@dataclass(frozen=True, eq=False)
class AmbiguousRows:
    """Rows of T, each known up to a phase of its own and up to complex conjugation.

    It is no matrix: turned into an array, multiplied or sliced, it raises. What does not depend on
    what is not known, it tells; `resolve` makes a matrix of it.

    Attributes:
        representatives: complex64 `[output, input]`, of each row one of all that it may be.
        background: complex64 `[output]`, the field of the all-off pattern, in the phase and
            conjugation of its row; zeros where it was taken to be dark.
        residuals: float32 `[output]`, what the measured moduli miss, relative to them, rms; about
            d / 2 sqrt(1 - 2 N / K) for a row that is found, and clearly more for one that is not.
    """

    representatives: NDArray[np.complex64]
    background: NDArray[np.complex64]
    residuals: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.representatives)

    @property
    def n_inputs(self) -> int:
        """Length of a row."""
        return int(self.representatives.shape[1])

    def intensities(self, bits: NDArray[np.uint8]) -> NDArray[np.float32]:
        """What these rows say of the intensities of patterns, `[pattern, output]`.

        Against patterns that they were not made from, that is their test.

        Raises:
            PatternError: Bits that are not 0 and 1, or of another length.
        """
        return np.abs(self._fields(bits)) ** 2

    def correlations(
        self, bits: NDArray[np.uint8], intensities: NDArray[Any]
    ) -> NDArray[np.float64]:
        """Of predicted and measured intensities over patterns, their means taken out, `[output]`.

        Raises:
            PatternError: Bits that are not 0 and 1, or of another length, or fewer than three.
        """
        if len(bits) < 3:
            raise PatternError(f"{len(bits)} patterns; a correlation over them takes 3 or more.")
        told = self.intensities(bits).astype(np.float64)
        seen = _checked_intensities(bits, intensities, None)
        told -= told.mean(axis=0)
        seen = seen - seen.mean(axis=0)
        powers = np.sum(told**2, axis=0) * np.sum(seen**2, axis=0)
        overlap: NDArray[np.float64] = np.sum(told * seen, axis=0) / np.sqrt(
            np.maximum(powers, 1e-300)
        )
        return overlap

    def resolve(
        self,
        bits: NDArray[np.uint8],
        fields: NDArray[np.complex64],
        *,
        min_correlation: float = 0.95,
        min_odds: float = 1000.0,
    ) -> ResolvedRows:
        """The rows that a few referenced frames decide, in the phase and unit of their fields.

        A row's fields are compared with those measured, as they are and conjugated. For noise of
        unknown strength the odds of the two are (r' / r)^(L - 1), with L fields and the shares r
        and r' of their power that either does not explain.

        Args:
            bits: uint8 `[pattern, input]`, two patterns or more; eight are plenty.
            fields: complex64 `[pattern, output]`, measured with a reference at the same outputs.
            min_correlation: Smallest allowed correlation of a row with its fields.
            min_odds: Smallest allowed odds of the likelier conjugation.

        Raises:
            PatternError: Bits that do not fit, or fewer than two patterns.
            SettingError: Fields that do not fit, or a number out of its limits.
            AmbiguityError: Not one row is decided.
        """
        if len(bits) < 2:
            raise PatternError(f"{len(bits)} referenced patterns; two at least, eight are plenty.")
        if not (0 <= min_correlation < 1 and min_odds >= 1):
            raise SettingError(
                f"min_correlation = {min_correlation:g}, min_odds = {min_odds:g}; from 0 to 1, and "
                "1 or more."
            )
        if fields.shape != (len(bits), len(self)) or not np.isfinite(fields).all():
            raise SettingError(
                f"Fields of shape {list(fields.shape)}; finite ones of [{len(bits)}, {len(self)}] "
                "are needed, one for each pattern and output."
            )
        own = self._fields(bits)
        upright, mirrored = _factors(own, fields), _factors(own.conj(), fields)
        conjugate = mirrored.correlation > upright.correlation
        correlations = np.where(conjugate, mirrored.correlation, upright.correlation)
        worse = np.where(conjugate, upright.correlation, mirrored.correlation)
        unexplained = np.maximum(1 - np.stack([worse, correlations]) ** 2, 1e-12)
        log_odds = (len(bits) - 1) * np.log(unexplained[0] / unexplained[1])
        kept = np.flatnonzero((correlations >= min_correlation) & (log_odds >= math.log(min_odds)))
        if not len(kept):
            raise AmbiguityError(
                f"None of {len(self)} rows is decided by {len(bits)} referenced patterns: the best "
                f"has a correlation of {correlations.max():.3f} with its fields (at least "
                f"{min_correlation:g} is needed) and the clearest odds of "
                f"{math.exp(min(log_odds.max(), 700.0)):.3g} (at least {min_odds:g}). Measure more "
                "patterns with the reference, at the same outputs."
            )
        factors = np.where(conjugate, mirrored.factor, upright.factor)[kept].astype(np.complex64)
        turned = conjugate[kept]
        rows, background = self.representatives[kept], self.background[kept]
        return ResolvedRows(
            outputs=kept,
            T=factors[:, None] * np.where(turned[:, None], rows.conj(), rows),
            background=factors * np.where(turned, background.conj(), background),
            correlations=correlations[kept],
        )

    def _fields(self, bits: NDArray[np.uint8]) -> NDArray[np.complex64]:
        signs = _checked_bits(bits, self.n_inputs).astype(np.float32)
        fields: NDArray[np.complex64] = signs @ self.representatives.T + self.background
        return fields

    def _refuse(self) -> NoReturn:
        raise AmbiguityError(
            f"{len(self)} rows that are known up to a phase and a conjugation each are no matrix. "
            "Resolve them with a few referenced frames (resolve), or ask for what does not depend "
            "on it (intensities)."
        )

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NoReturn:
        self._refuse()

    def __getitem__(self, index: object) -> NoReturn:
        self._refuse()

    def __matmul__(self, other: object) -> NoReturn:
        self._refuse()

    def __rmatmul__(self, other: object) -> NoReturn:
        self._refuse()


@dataclass(frozen=True, eq=False)
class ResolvedRows:
    """Rows of T that are known, in the phase and unit of the reference.

    Attributes:
        outputs: `[row]`, which outputs they are of.
        T: complex64 `[row, input]`.
        background: complex64 `[row]`, the field of the all-off pattern.
        correlations: float64 `[row]`, with the referenced fields.
    """

    outputs: NDArray[np.intp]
    T: NDArray[np.complex64]
    background: NDArray[np.complex64]
    correlations: NDArray[np.float64]


def retrieve_rows(
    bits: NDArray[np.uint8],
    intensities: NDArray[Any],
    *,
    seed: int,
    background: bool = False,
    starts: int = 1,
    full_scale: float | None = None,
) -> AmbiguousRows:
    """Rows of T from the intensities of random binary patterns.

    Args:
        bits: uint8 `[pattern, input]`, 0 and 1; five patterns an input are enough.
        intensities: Real, `[pattern, output]`, black subtracted. What noise has made negative
            counts as dark.
        seed: Of the random phases to start from.
        background: Whether the all-off pattern may have a field: one more unknown a row.
        starts: How often to start; of each row the best is kept.
        full_scale: Intensity at which a pixel is full; None if none can be.

    Raises:
        PatternError: Bits that are not 0 and 1, too few of them, or such that they do not tell the
            inputs apart.
        SettingError: Intensities of another shape or not finite; `starts` below 1.
        LowSignalError: Outputs that are dark.
        SaturationError: Outputs that are full.
    """
    if starts < 1 or seed < 0:
        raise SettingError(f"starts = {starts}, seed = {seed}; at least 1, and not negative.")
    patterns = _checked_bits(bits, bits.shape[-1]).astype(np.float32)
    n_inputs = patterns.shape[1]
    if background:
        patterns = np.concatenate([patterns, np.ones((len(bits), 1), np.float32)], axis=1)
    if len(bits) < FEWEST_PER_INPUT * patterns.shape[1]:
        raise PatternError(
            f"{len(bits)} patterns for {patterns.shape[1]} unknowns a row; intensities tell them "
            f"from {FEWEST_PER_INPUT * patterns.shape[1]} on, and well from five times as many."
        )
    moduli = np.sqrt(np.maximum(_checked_intensities(bits, intensities, full_scale), 0))
    basis = _Range(patterns)
    rows = np.empty((moduli.shape[1], patterns.shape[1]), np.complex64)
    residuals = np.full(len(rows), np.inf, np.float32)
    for first in range(0, len(rows), _ROWS):
        some = slice(first, first + _ROWS)
        for start in range(starts):
            rng = np.random.default_rng([seed, first, start])
            found, missed = _retrieve(basis, moduli[:, some].astype(np.float32), rng)
            better = missed < residuals[some]
            rows[some][better] = found[better]
            residuals[some][better] = missed[better]
    static = rows[:, -1].copy() if background else np.zeros(len(rows), np.complex64)
    return AmbiguousRows(np.ascontiguousarray(rows[:, :n_inputs]), static, residuals)


def expected_error(intensity_noise: float, patterns: int, n_inputs: int) -> float:
    """Relative error of a row that is found, its phase and conjugation given.

    Args:
        intensity_noise: Relative noise of an intensity.
        patterns: How many.
        n_inputs: Unknowns of a row, a background among them.

    Raises:
        SettingError: No more patterns than twice the unknowns.
    """
    if patterns <= 2 * n_inputs:
        raise SettingError(
            f"{patterns} patterns do not determine {n_inputs} complex unknowns; more than "
            f"{2 * n_inputs} are needed."
        )
    return intensity_noise * math.sqrt(2 * n_inputs / (patterns - 2 * n_inputs))


class _Range:
    """The fields that patterns can have: an orthonormal basis, and the way back to rows.

    Args:
        patterns: float32 `[pattern, input]`.
    """

    def __init__(self, patterns: NDArray[np.float32]) -> None:
        basis, self._triangle = np.linalg.qr(patterns.astype(np.float64))
        values = np.linalg.svd(self._triangle, compute_uv=False)
        if values[-1] <= _LIKE * values[0]:
            raise PatternError(
                f"The {len(patterns)} patterns do not tell their {patterns.shape[1]} inputs apart "
                "(some are never lit, always lit, or always lit together). Draw random ones."
            )
        self._basis = np.ascontiguousarray(basis, np.float32)
        self._adjoint = np.ascontiguousarray(basis.T, np.float32)

    def project(self, fields: NDArray[np.complex64]) -> NDArray[np.complex64]:
        """The nearest fields that patterns can have, `[pattern, output]`."""
        parts = self._basis @ (self._adjoint @ fields.view(np.float32))
        return parts.view(np.complex64)

    def rows(self, fields: NDArray[np.complex64]) -> NDArray[np.complex64]:
        """The rows that make them, `[output, input]`."""
        parts = (self._adjoint @ fields.view(np.float32)).astype(np.float64)
        inputs = scipy.linalg.solve_triangular(self._triangle, parts)
        return np.ascontiguousarray(inputs, np.float32).view(np.complex64).T


def _retrieve(
    basis: _Range, moduli: NDArray[np.float32], rng: np.random.Generator
) -> tuple[NDArray[np.complex64], NDArray[np.float32]]:
    """Rows `[output, input]` from moduli `[pattern, output]`, and what they miss `[output]`."""
    turns = rng.random(moduli.shape, dtype=np.float32)
    fields = (moduli * np.exp(np.complex64(2j * np.pi) * turns)).astype(np.complex64)
    half, rest = np.float32(BETA / 2), np.float32(1 - BETA)
    for _ in range(RAAR_ROUNDS):
        nearest = _with_moduli(fields, moduli)
        reflected = 2 * nearest - fields
        fields = half * (2 * basis.project(reflected) - reflected + fields) + rest * nearest
    for _ in range(FINAL_ROUNDS):
        fields = basis.project(_with_moduli(fields, moduli))
    missed = np.linalg.norm(np.abs(fields) - moduli, axis=0) / np.linalg.norm(moduli, axis=0)
    return basis.rows(fields), missed


def _with_moduli(
    fields: NDArray[np.complex64], moduli: NDArray[np.float32]
) -> NDArray[np.complex64]:
    """The nearest fields that have the moduli."""
    return fields * (moduli / np.maximum(np.abs(fields), np.float32(1e-30)))


@dataclass(frozen=True)
class _Fit:
    """Factors `[output]` from told to seen fields, and the correlation of the two."""

    factor: NDArray[np.complex128]
    correlation: NDArray[np.float64]


def _factors(told: NDArray[np.complex64], seen: NDArray[np.complex64]) -> _Fit:
    overlap: NDArray[np.complex128] = np.sum(told.conj() * seen, axis=0, dtype=np.complex128)
    powers = [np.sum(np.abs(f) ** 2, axis=0, dtype=np.float64) + 1e-300 for f in (told, seen)]
    correlation = np.abs(overlap) / np.sqrt(powers[0] * powers[1])
    return _Fit(np.asarray(overlap / powers[0]), np.asarray(correlation))


def _checked_bits(bits: NDArray[np.uint8], n_inputs: int) -> NDArray[np.uint8]:
    if bits.ndim != 2 or bits.shape[1] != n_inputs or not bits.size:
        raise PatternError(f"Patterns of shape {list(bits.shape)}; give [pattern, {n_inputs}].")
    if bits.dtype not in (np.uint8, np.bool_) or bits.max() > 1:
        raise PatternError(
            f"Patterns of {bits.dtype} with values up to {bits.max()}; intensities are retrieved "
            "from bool or uint8 0 and 1."
        )
    return bits


def _checked_intensities(
    bits: NDArray[np.uint8], intensities: NDArray[Any], full_scale: float | None
) -> NDArray[np.float64]:
    if intensities.ndim != 2 or len(intensities) != len(bits) or not intensities.shape[1]:
        raise SettingError(
            f"Intensities of shape {list(intensities.shape)} for {len(bits)} patterns; give "
            f"[{len(bits)}, output], one output at least."
        )
    if intensities.dtype.kind not in "uif" or not np.isfinite(intensities).all():
        raise SettingError(f"Intensities of {intensities.dtype}; give real, finite ones.")
    seen = intensities.astype(np.float64)
    dark = np.flatnonzero(seen.mean(axis=0) <= 0)
    if len(dark):
        raise LowSignalError(
            f"{len(dark)} of {seen.shape[1]} outputs are dark in the mean over all patterns, the "
            f"first is {dark[0]}. Leave them out, or raise the exposure."
        )
    if full_scale is not None:
        full = np.flatnonzero((seen >= full_scale).any(axis=0))
        if len(full):
            raise SaturationError(
                f"{len(full)} of {seen.shape[1]} outputs reach full scale ({full_scale:g}) in some "
                f"pattern, the first is {full[0]}. Leave them out, or shorten the exposure."
            )
    return seen
