"""The transmission matrix from the fields of a log, some modes at a time.

Three passes, none of which holds more than a few fields of all modes, or all fields of some modes:

1. A sample of the exposures gives the field that all have in common (see `scheme`).
2. Inner products with it, added up over the modes, give the complex gain of each exposure.
3. Divided by their gains, the fields of a block of modes are solved for those modes of T.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from calibration.field_log import FieldLog
from calibration.plan import SAMPLED_EXPOSURES, SAMPLED_RUNS, Plan, Run
from calibration.scheme import Fields, Gains, products

Blocks = Sequence[slice]
"""The modes, piece by piece."""


@dataclass(frozen=True, eq=False)
class Alignment:
    """What undoes the drift of a measurement.

    Attributes:
        common: complex64 `[mode]`, the field that the exposures of the method have in common.
        gains: Of each run, complex128 `[exposure]`; their mean modulus is 1.
        on: complex64 `[mode]`, the field of the all-on markers.
        off: complex64 `[mode]`, the field of the all-off markers.
    """

    common: Fields
    gains: Sequence[Gains]
    on: Fields
    off: Fields


@dataclass(frozen=True, eq=False)
class SolvedBlock:
    """Some modes of the matrix.

    Attributes:
        modes: Which.
        T: complex64 `[input, mode]`.
        half_difference: Half the difference of two independent estimates whose mean is T,
            complex64 `[input, mode]`; None if each vector has one exposure only.
    """

    modes: slice
    T: Fields
    half_difference: Fields | None


def align(log: FieldLog, plan: Plan, blocks: Blocks) -> Alignment:
    """Gains of all exposures, and the fields of the markers in their phase and gain.

    Raises:
        DriftError: The phase changes too fast to be followed.
    """
    scheme = plan.method.scheme
    common = scheme.common(_sample(log, plan))
    gains = _gains(log, plan.of_matrix, common, blocks)
    mean = float(np.mean(np.abs(np.concatenate(gains))))
    gains = [own / mean for own in gains]
    common = common * np.float32(mean)
    # The dark field is that of the markers alone, in the phase of the matrix: light in the sideband
    # that does not turn with the interferometer (the reference's own, |R|^2, times the unequal
    # sensitivities of the pixels) makes the pair sums of the tests differ from those of the matrix
    # once the phase has walked in between.
    _, off = _marker_fields(log, gains)
    gains += _gains(log, plan.of_tests, scheme.pair_sum(common, off), blocks)
    return Alignment(common, gains, *_marker_fields(log, gains))


def _sample(log: FieldLog, plan: Plan) -> Fields:
    """Fields that tell the common field, from exposures spread over the whole measurement."""
    scheme = plan.method.scheme
    groups = [run.rows.start + scheme.telling(len(run)) for run in plan.of_matrix]
    rows = np.concatenate(groups)
    most = min(max(SAMPLED_EXPOSURES // rows.shape[1], 1), len(rows))
    chosen = rows[np.linspace(0, len(rows) - 1, most).astype(np.intp)]
    return np.concatenate([log.fields(slice(own[0], own[-1] + 1)) for own in chosen])


def _gains(log: FieldLog, runs: Sequence[Run], common: Fields, blocks: Blocks) -> list[Gains]:
    totals = []
    for run in runs:
        steps = run.scheme.steps
        total = np.zeros((len(run) // steps, 1 + steps, 1 + steps), np.complex128)
        for modes in blocks:
            total += products(log.fields(run.rows, modes), common[modes], steps)
        totals.append(total)
    return [run.scheme.gains(total, log.modes) for run, total in zip(runs, totals, strict=True)]


def _marker_fields(log: FieldLog, gains: Sequence[Gains]) -> tuple[Fields, Fields]:
    """The fields of all on and all off.

    A marker has the gain of the exposure next to it, but for what happens in between; over all
    runs that averages out.
    """
    total = np.zeros((3, log.modes), np.complex64)
    for run, own in enumerate(gains):
        neighbours = np.array([own[0], own[-1], own[-1]])
        total += (log.markers(run) / neighbours[:, None]).astype(np.complex64)
    before, after, off = total / np.float32(len(gains))
    return (before + after) / 2, off


def markers(log: FieldLog, plan: Plan, alignment: Alignment) -> Fields:
    """Fields of the all-on markers `[run, mode]`, in order of time.

    Each is the mean of those before and after a run, in the phase and gain of the alignment; of at
    most `SAMPLED_RUNS` runs.
    """
    chosen = np.linspace(0, len(plan.runs) - 1, min(SAMPLED_RUNS, len(plan.runs))).astype(np.intp)
    fields = np.empty((len(chosen), log.modes), np.complex64)
    for field, run in zip(fields, chosen, strict=True):
        own = alignment.gains[run]
        before, after, _ = log.markers(int(run))
        field[...] = (before / own[0] + after / own[-1]) / 2
    return fields


def solved_blocks(
    log: FieldLog, plan: Plan, alignment: Alignment, noise_to_signal: float, blocks: Blocks
) -> Iterator[SolvedBlock]:
    """The matrix, block by block.

    Args:
        log: All fields.
        plan: What they are the fields of.
        alignment: Their gains.
        noise_to_signal: Variance of a signed field's noise over the mean square of an entry.
        blocks: The modes, piece by piece.
    """
    vectors, scheme = plan.method.vectors, plan.method.scheme
    solve = vectors.solver(noise_to_signal)
    for modes in blocks:
        width = modes.stop - modes.start
        sums = np.zeros((vectors.rows, width), np.complex64)
        differences: Fields | None = None
        for run, fields in corrected(log, plan.of_matrix, alignment, modes):
            known = alignment.common[modes], alignment.off[modes]
            vectors.add(sums, run.vectors.start, scheme.signed(fields, *known))
            halves = scheme.halves(fields, *known)
            if halves is not None:
                if differences is None:
                    differences = np.zeros_like(sums)
                vectors.add(differences, run.vectors.start, (halves[0] - halves[1]) / 2)
        T = solve(sums)
        yield SolvedBlock(modes, T, None if differences is None else solve(differences))


def fields_of_tests(log: FieldLog, plan: Plan, alignment: Alignment) -> Fields:
    """Corrected fields of the test runs: each vector and its complement, `[2 x vector, mode]`."""
    runs = corrected(log, plan.of_tests, alignment, slice(0, log.modes))
    return np.concatenate([fields for _, fields in runs])


def corrected(
    log: FieldLog, runs: Sequence[Run], alignment: Alignment, modes: slice
) -> Iterator[tuple[Run, Fields]]:
    """The fields of runs, divided by their gains."""
    for run in runs:
        fields = log.fields(run.rows, modes)
        fields *= (1 / alignment.gains[run.number]).astype(np.complex64)[:, None]
        yield run, fields
