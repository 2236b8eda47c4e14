"""The transmission matrix without a tilt: Hadamard pairs through a stepped reference.

A pair's two fields share the sum P of everything on, as ever (see `complementary_pairs`), so the
phase may walk from group to group. Within a group of four steps it must not: a deviation of s rad
in each exposure leaves s^2 / 4 of a field's power wrong. With the signal to noise SNR of a field
with half of the inputs lit,

    eps^2 = N / (K R) (1 / SNR + s^2 / 4).

Fields are added up as they come: the first sequence tells P, and with it the gains of all others.
So the memory is that of K fields, K the order of the Hadamard matrix, and of one sequence: 4.9 GB
for 1024 inputs and half a million complex modes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration import quality
from calibration.complementary_pairs import ComplementaryPairs
from calibration.errors import LowVisibilityError, NoiseError, QualityError
from calibration.hadamard import HadamardVectors
from calibration.phase_stepping import (
    FOUR_STEPS,
    MeasuredSteps,
    SteppedDemodulator,
    measure_steps,
)
from calibration.scheme import products
from calibration.sealed_file import blocks
from calibration.stepped_reference import SteppedReference, stepped_fields
from calibration.verdict import QualityLimits
from opu_driver.bench import Bench
from opu_driver.errors import SettingError
from opu_driver.layout import Layout

MEMORY_GB = 6.0
"""What a measurement may take, if nothing is said."""

_LONGEST = 128  # vectors in a sequence, at most,
_SEQUENCE_BYTES = 1 << 28  # and what its frames may take
_WORKING = 4  # copies of a sequence's fields, as complex64, while they are added up
_HELD_OUT = 16  # random vectors that test the matrix
_HALVED_MODES = 4096  # that tell how alike two halves of the data are
_PROBES = 8  # signals that tell whether there are fringes
_DEVIATIONS = 5.0  # standard deviations of chance that no limit counts


@dataclass(frozen=True, eq=False)
class SteppedMatrix:
    """A transmission matrix, what it is counted from, and how good it is.

    Attributes:
        T: `[mode, input]`, in grey values: complex64, float32 of two steps.
        pair_sum: `[mode]`, the field of everything on, and the static field once more; as T.
        visibility: Of the fringes; NaN where the reference cannot show quarters of a turn.
        split_half: Correlation of T with the truth, from two halves of the data (each exposure of
            the pairs alone).
        held_out_correlation: Of measured and predicted fields of vectors not used for T.
        held_out_error: Their relative error.
        held_out_noise: The part of it that noise makes, by what the halves differ.
    """

    T: NDArray[Any]
    pair_sum: NDArray[Any]
    visibility: float
    split_half: float
    held_out_correlation: float
    held_out_error: float
    held_out_noise: float

    def outputs(self) -> NDArray[np.float32]:
        """B `[output, input]`: T over its `rms`, real and imaginary parts as rows of their own."""
        parts = np.ascontiguousarray(self.T.T).view(np.float32).T / np.float32(self.rms)
        return np.ascontiguousarray(parts)

    @property
    def rms(self) -> float:
        """Root mean square of the real entries of T."""
        power = sum(float(np.vdot(rows, rows).real) for rows in blocks(self.T.T))
        return math.sqrt(power / (self.T.size * self.T.itemsize // np.dtype(np.float32).itemsize))

    def check(self, limits: QualityLimits | None = None) -> None:
        """Refuse a matrix that is noise, or worse than its noise explains.

        Raises:
            NoiseError: The halves of the data hardly agree.
            QualityError: Vectors that were held out are predicted worse than noise would allow.
        """
        limits = limits or QualityLimits()
        if not self.split_half >= limits.split_half:
            raise NoiseError(
                f"The matrix correlates with the truth by split_half = {self.split_half:.3f}; at "
                f"least {limits.split_half:g} is needed. Show the vectors more often (repeats), "
                "lengthen the exposure or raise the power."
            )
        chance = _DEVIATIONS / math.sqrt(len(self.T) * _HELD_OUT)
        allowed = math.hypot(self.held_out_noise * math.sqrt(1 + chance), limits.unexplained)
        if not self.held_out_error <= allowed:
            raise QualityError(
                f"Held-out vectors have held_out_error = {self.held_out_error:.3f}; noise makes "
                f"{self.held_out_noise:.3f}, and at most {allowed:.3f} is allowed. The phase moves "
                "within its steps (or between two of them, with two), the steps are wrong, or the "
                "medium changes: calm the bench."
            )


def stepped_matrix(
    bench: Bench,
    reference: SteppedReference,
    demodulate: SteppedDemodulator,
    n_inputs: int,
    *,
    repeats: int = 1,
    seed: int = 0,
    max_saturated_fraction: float = 1e-3,
    memory_gb: float = MEMORY_GB,
    limits: QualityLimits | None = None,
) -> SteppedMatrix:
    """Measure T, and how good it is.

    Args:
        bench: An open bench, its exposure set.
        reference: What steps. Two steps need a phase that holds still all the time.
        demodulate: What turns the steps' frames into fields.
        n_inputs: Length of the vectors.
        repeats: How often the Hadamard vectors are shown.
        seed: Of the random vectors that test it.
        max_saturated_fraction: Largest allowed fraction of pixels at full scale.
        memory_gb: What may be taken; nothing is shown if it is too little.
        limits: What its quality must reach.

    Raises:
        SettingError: No repeats, or more memory than is allowed.
        LowVisibilityError: No fringes, or too faint ones.
        NoiseError, QualityError: As `SteppedMatrix.check`.
        PatternError, FrameMismatchError, CaptureTimeoutError, LaserSafetyError, SaturationError: As
            `Bench.stream`.
    """
    if repeats < 1:
        raise SettingError(f"repeats = {repeats}; at least 1.")
    limits = limits or QualityLimits()
    vectors = HadamardVectors(n_inputs, repeats)
    layout = reference.layout(n_inputs)
    pairs = _pairs_in_a_sequence(bench, reference)
    _refuse_too_large(bench, reference, demodulate, vectors, pairs, memory_gb)
    steps = probe_steps(bench, reference, layout, seed)
    if steps is not None and steps.visibility < limits.visibility:
        raise LowVisibilityError(
            f"The fringes have a visibility of {steps.visibility:.2%}; at least "
            f"{limits.visibility:.0%} is needed. Balance the two arms."
        )
    bits = [
        vectors.bits(range(k, min(k + pairs, vectors.count)))
        for k in range(0, vectors.count, pairs)
    ]
    held_out = np.random.default_rng([seed, 2]).integers(0, 2, (_HELD_OUT, n_inputs), np.uint8)
    tests = [held_out[k : k + pairs] for k in range(0, _HELD_OUT, pairs)]
    shown = stepped_fields(
        bench,
        reference,
        demodulate,
        (ComplementaryPairs().patterns(layout, some) for some in [*bits, *tests]),
        max_saturated_fraction=max_saturated_fraction,
    )
    sums = _Sums(vectors, demodulate)
    for _ in bits:
        sums.add(next(shown))
    matrix = sums.matrix(math.nan if steps is None else steps.visibility)
    seen = np.concatenate([sums.signed(fields)[0] for fields in shown])
    predicted = (2 * held_out.astype(np.float32) - 1) @ matrix.T.T
    matrix = replace(
        matrix,
        held_out_correlation=quality.correlation(seen, predicted),
        held_out_error=quality.relative_error(seen, predicted),
    )
    matrix.check(limits)
    return matrix


def probe_steps(
    bench: Bench, reference: SteppedReference, layout: Layout, seed: int
) -> MeasuredSteps | None:
    """The steps that a reference makes, and the fringes' visibility, from a few half-lit signals.

    All four quarters of a turn are shown, also for a reference of two steps; None where it cannot.
    Nothing is asked of the frames' saturation: without a reference, that is not what is wrong.

    Raises:
        LowVisibilityError: No fringes from which to tell.
    """
    try:
        quarters = replace(reference, turns=FOUR_STEPS)
    except SettingError:
        return None
    most = max(bench.longest_sequence // len(FOUR_STEPS), 1)
    bits = np.random.default_rng([seed, 1]).integers(0, 2, (_PROBES, layout.n_inputs), np.uint8)
    signal = layout.render(bits)
    batches = (quarters.patterns(signal[k : k + most]) for k in range(0, _PROBES, most))
    frames = np.concatenate([sequence.frames for sequence in bench.stream(batches)])
    return measure_steps(frames, black_level=bench.camera.black_level)


class _Sums:
    """Fields of pairs, added up to the transform of a matrix."""

    def __init__(self, vectors: HadamardVectors, demodulate: SteppedDemodulator) -> None:
        n_modes = demodulate.n_modes
        self._vectors = vectors
        self._scheme = ComplementaryPairs()
        self._n_modes = n_modes
        self._real = demodulate.n_outputs == n_modes
        self._sampled = slice(None, None, -(-n_modes // _HALVED_MODES))
        self._done = 0
        self._common: NDArray[np.complex64] | None = None
        self._pair_sum = np.zeros(n_modes, np.complex64)
        kind = np.float32 if self._real else np.complex64
        self._sums: NDArray[Any] = np.zeros((vectors.rows, n_modes), kind)
        self._halves: NDArray[Any] = np.zeros_like(self._sums[:, self._sampled])

    def signed(self, fields: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        """Differences and sums of pairs, in the phase and gain of the first sequence."""
        known = fields.astype(np.complex64)
        if self._common is None:
            common = self._scheme.common(known)
            gains = self._gains(known, common)
            self._common = common * np.float32(np.abs(gains).mean())
        known *= (1 / self._gains(known, self._common)).astype(np.complex64)[:, None]
        corrected = known.real if self._real else known
        return corrected[0::2] - corrected[1::2], corrected[0::2] + corrected[1::2]

    def add(self, fields: NDArray[Any]) -> None:
        """Add the fields of a sequence."""
        differences, sums = self.signed(fields)
        self._vectors.add(self._sums, self._done, differences)
        self._vectors.add(self._halves, self._done, (sums - self._known)[:, self._sampled])
        self._pair_sum += sums.sum(axis=0)
        self._done += len(differences)

    def matrix(self, visibility: float) -> SteppedMatrix:
        """The matrix; its sums are turned into it in place."""
        solve = self._vectors.solver(0.0)
        by_input, apart = solve(self._sums), solve(self._halves)
        some = by_input[:, self._sampled]
        split_half = quality.split_half(some + apart, some - apart)
        noise = math.sqrt(max(1 / split_half**2 - 1, 0.0)) if split_half else math.inf
        shown = self._vectors.count / self._vectors.n_inputs
        signed_snr = 1 / (noise**2 * shown) if noise else math.inf
        pair_sum = self._pair_sum / np.float32(self._done)
        return SteppedMatrix(
            by_input.T,
            pair_sum.real.copy() if self._real else pair_sum,
            visibility=visibility,
            split_half=split_half,
            held_out_correlation=math.nan,
            held_out_error=math.nan,
            held_out_noise=quality.expected_held_out_error(signed_snr, noise),
        )

    @property
    def _known(self) -> NDArray[Any]:
        """The common field of the first sequence, as the fields are."""
        common = np.zeros(0, np.complex64) if self._common is None else self._common
        return common.real if self._real else common

    def _gains(
        self, fields: NDArray[np.complex64], common: NDArray[np.complex64]
    ) -> NDArray[np.complex128]:
        known = products(fields, common, self._scheme.steps)
        return self._scheme.gains(known, self._n_modes)


def _pairs_in_a_sequence(bench: Bench, reference: SteppedReference) -> int:
    settings = bench.settings
    frame_bytes = math.prod(settings.region.shape) * settings.pixel_format.dtype.itemsize
    most = min(bench.longest_sequence, _SEQUENCE_BYTES // frame_bytes)
    return min(_LONGEST, max(most // (2 * len(reference.turns)), 1))


def _refuse_too_large(
    bench: Bench,
    reference: SteppedReference,
    demodulate: SteppedDemodulator,
    vectors: HadamardVectors,
    pairs: int,
    memory_gb: float,
) -> None:
    real = np.dtype(np.float32).itemsize
    kept = vectors.rows * demodulate.n_outputs * real
    fields = 2 * pairs * demodulate.n_modes * 2 * real
    frames = 2 * pairs * len(reference.turns) * math.prod(demodulate.frame_shape)
    frames *= bench.settings.pixel_format.dtype.itemsize
    needed = (kept + _WORKING * fields + frames) / 1e9
    if not needed <= memory_gb:  # so that NaN allows nothing
        raise SettingError(
            f"{vectors.n_inputs} inputs and {demodulate.n_outputs} outputs take {needed:.3g} GB; "
            f"memory_gb = {memory_gb:g}. Allow more, or take fewer inputs, a smaller region or "
            "two steps."
        )
