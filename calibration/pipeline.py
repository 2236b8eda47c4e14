"""From a bench to a calibration: exposure, carrier, Hadamard pairs, matrix, quality."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration import drift, quality
from calibration.calibration_file import Calibration
from calibration.carrier import find_carrier
from calibration.demodulation import Demodulator
from calibration.errors import CalibrationFileError, DriftError, StaleCalibrationError
from calibration.field_log import FieldLog
from calibration.quality import Quality, QualityLimits
from calibration.saturation import checked_saturation
from calibration.setup import Setup, from_json, to_json
from calibration.transmission_matrix import (
    AlignedPairs,
    Bits,
    align_pairs,
    hadamard_order,
    hadamard_vectors,
    transmission_matrix,
    with_complements,
)
from opu_driver.bench import MARKERS, Bench
from opu_driver.errors import SettingError
from opu_driver.layout import Layout
from opu_driver.modulator import Patterns

Progress = Callable[[str, int, int], None]
"""Told (stage, done, total); the stages are exposure, carrier, fields, matrix, quality."""

ENOUGH_PAIRS = 256
"""Hadamard pairs after which the error of a small matrix no longer counts in its projections."""

HELD_OUT = 16
"""Random vectors, each shown twice, that the matrix has to predict."""

TRIPLES = 8
"""Pairs of disjoint vectors a and b, shown with their union."""

SMALLEST_FIDELITY = 0.8
"""Below this the all-on field of a sequence is another than that of the first."""

_CARRIER_FRAMES = 8

_ROOM_BYTES = 2 * 2**30  # for the vectors of a plan


@dataclass(frozen=True)
class Plan:
    """All vectors that a calibration shows, each followed by its complement.

    Attributes:
        n_inputs: Length of the vectors.
        repeats: How often the Hadamard vectors are shown.
        seed: Seed of the random vectors.
    """

    n_inputs: int
    repeats: int
    seed: int

    @property
    def exposures(self) -> int:
        """How many vectors there are, complements included."""
        return 2 * (self.repeats * hadamard_order(self.n_inputs) + 2 * HELD_OUT + 3 * TRIPLES)

    def require_room(self) -> None:
        """Refuse more vectors than memory is meant for, before they are drawn.

        Raises:
            SettingError: There are.
        """
        # Hadamard vectors are counted in int64 before they are bits.
        needed = (self.exposures + 8 * hadamard_order(self.n_inputs)) * self.n_inputs
        if needed > _ROOM_BYTES:
            raise SettingError(
                f"n_inputs = {self.n_inputs}, repeats = {self.repeats}: {self.exposures} vectors "
                f"take {needed / 1e9:.3g} GB of memory; {_ROOM_BYTES / 1e9:.3g} GB are allowed. "
                "Take fewer repeats or inputs."
            )

    @cached_property
    def _parts(self) -> tuple[Bits, Bits, Bits]:
        rng = np.random.default_rng([self.seed, 1])
        hadamard = np.tile(hadamard_vectors(self.n_inputs), (self.repeats, 1))
        held_out = rng.integers(0, 2, (HELD_OUT, self.n_inputs), np.uint8)
        owner = rng.integers(0, 3, (TRIPLES, self.n_inputs))
        triples = np.concatenate([owner == 1, owner == 2, owner > 0]).astype(np.uint8)
        return hadamard, held_out, triples

    @cached_property
    def bits(self) -> Bits:
        """uint8 `[exposure, input]`."""
        hadamard, held_out, triples = self._parts
        return with_complements(np.concatenate([hadamard, held_out, held_out, triples]))

    @property
    def hadamard(self) -> slice:
        """The pairs of the Hadamard vectors."""
        return slice(0, len(self._parts[0]))

    @property
    def held_out(self) -> tuple[slice, slice]:
        """The pairs of the held-out vectors, first and second showing."""
        first = self.hadamard.stop
        return slice(first, first + HELD_OUT), slice(first + HELD_OUT, first + 2 * HELD_OUT)

    @property
    def held_out_signs(self) -> NDArray[np.float32]:
        """The held-out vectors as 2v - 1, float32 `[vector, input]`."""
        return 2 * self._parts[1].astype(np.float32) - 1

    @property
    def triples(self) -> slice:
        """The pairs of the vectors a, b, and a or b: each `TRIPLES` long."""
        return slice(self.held_out[1].stop, None)

    @property
    def sequence(self) -> int:
        """Exposures between two markers: few enough that there are many markers."""
        return int(np.clip(len(self.bits) // 16, 16, 256)) // 2 * 2


def calibrate(
    bench: Bench,
    n_inputs: int,
    *,
    seed: int = 0,
    repeats: int | None = None,
    fit_exposure: bool = True,
    valid_for_h: float = 24.0,
    limits: QualityLimits | None = None,
    resume: Path | None = None,
    progress: Progress | None = None,
) -> Calibration:
    """Measure the transmission matrix of an open bench, and how good it is.

    Args:
        bench: An open bench.
        n_inputs: Length of the vectors that will be projected.
        seed: Seed of the random vectors of the quality figures.
        repeats: How often the Hadamard vectors are shown; the results are averaged. None for as
            often as brings a small matrix to `ENOUGH_PAIRS`: it costs next to nothing there.
        fit_exposure: Whether to measure the exposure time; otherwise that of the bench is kept.
        valid_for_h: Hours after which the calibration expires.
        limits: What its quality must reach.
        resume: Where the fields are kept until the calibration is done. If the file exists, its
            measurement is gone on with. It is left in place: delete it once the result is saved.
        progress: Is told how far the work is.

    Raises:
        CarrierError, SaturationError, LowSignalError: The frames cannot be calibrated on.
        DriftError: The light's path changed while it was being measured.
        QualityError: A quality figure misses its limit.
        StaleCalibrationError: What is to be resumed was measured on another bench.
        CalibrationFileError: The file to resume from is damaged, or was made with other arguments.
        FrameMismatchError, CaptureTimeoutError, LaserSafetyError: As `Bench.stream`.
    """
    if repeats is None:
        repeats = max(1, ENOUGH_PAIRS // hadamard_order(n_inputs))
    if repeats < 1 or seed < 0 or not valid_for_h > 0:
        raise SettingError(
            f"repeats = {repeats}, seed = {seed}, valid_for_h = {valid_for_h:g}; at least 1 "
            "repeat, a seed that is not negative, and some time to be valid for."
        )
    tell = progress or _silent
    limits = limits or QualityLimits()
    plan = Plan(n_inputs, repeats, seed)
    bench.layout(n_inputs)
    plan.require_room()
    if resume is not None and resume.exists():
        log, setup, mean_grey = _go_on(bench, plan, resume)
    else:
        log, setup, mean_grey = _begin(bench, plan, fit_exposure, resume, tell)
    with log:
        _measure(bench, setup, plan, log, limits.saturated_fraction, tell)
        calibration = _evaluate(setup, plan, log, mean_grey, timedelta(hours=valid_for_h), tell)
    quality.check(calibration.quality, limits)
    return calibration


def _silent(stage: str, done: int, total: int) -> None: ...


def _begin(
    bench: Bench, plan: Plan, fit_exposure: bool, path: Path | None, tell: Progress
) -> tuple[FieldLog, Setup, float]:
    """Set the exposure, find the carrier blind, and open an empty log."""
    layout = bench.layout(plan.n_inputs)
    half_lit = _half_lit(layout, plan.seed)
    if fit_exposure:
        tell("exposure", 0, 1)
        # The brightest pattern of all is in it, or the markers would saturate.
        bench.fit_exposure(np.concatenate([half_lit, bench.layout(1).all_on()]))
        tell("exposure", 1, 1)
    tell("carrier", 0, 1)
    frames = bench.expose(half_lit)
    black_level = bench.camera.black_level
    carrier = find_carrier(
        frames, saturation_level=bench.camera.saturation_level, black_level=black_level
    )
    demodulator = Demodulator(bench.settings.region.shape, carrier)
    tell("carrier", 1, 1)
    setup = Setup.of(bench, layout, demodulator, plan.seed)
    mean_grey = float(frames.mean(dtype=np.float64)) - black_level
    header = to_json(setup, repeats=plan.repeats, mean_grey=mean_grey)
    room = (bench.modulator.capacity - MARKERS) // 2 * 2
    sequence = min(plan.sequence, room)
    log = FieldLog.create(path, header, len(plan.bits), sequence, demodulator.n_modes)
    return log, setup, mean_grey


def _half_lit(layout: Layout, seed: int) -> Patterns:
    rng = np.random.default_rng([seed, 0])
    return layout.render(rng.integers(0, 2, (_CARRIER_FRAMES, layout.n_inputs), np.uint8))


def _go_on(bench: Bench, plan: Plan, path: Path) -> tuple[FieldLog, Setup, float]:
    """Open the log of an interrupted measurement, and set the bench as it was."""
    with ExitStack() as opening:
        log = opening.enter_context(FieldLog.resume(path))
        setup, more = _header(log, path)
        then = {"n_inputs": setup.n_inputs, "seed": setup.seed, "repeats": more["repeats"]}
        now = {"n_inputs": plan.n_inputs, "seed": plan.seed, "repeats": plan.repeats}
        if then != now:
            raise CalibrationFileError(
                f"{path} belongs to a measurement with {then}; this one has {now}. Use the same "
                "arguments to go on with it, or delete it to start anew."
            )
        reasons = setup.mismatches(bench)
        if reasons:
            raise StaleCalibrationError(
                f"{path} was measured on another bench: {'; '.join(reasons)}. Set the bench as it "
                "was, or delete the file to start anew."
            )
        bench.configure(setup.settings)
        bench.laser.set_power_mw(setup.power_mw)
        opening.pop_all()
    return log, setup, more["mean_grey"]


def _header(log: FieldLog, path: Path) -> tuple[Setup, dict[str, Any]]:
    try:
        setup, more = from_json(log.header)
        for name, kind in {"repeats": int, "mean_grey": float}.items():
            if type(more.get(name)) is not kind:
                raise ValueError(f"it has no {name}")
    except ValueError as error:
        raise CalibrationFileError(
            f"The header of {path} is damaged: {error}. Delete the file to start anew."
        ) from error
    return setup, more


def _measure(
    bench: Bench, setup: Setup, plan: Plan, log: FieldLog, largest_saturated: float, tell: Progress
) -> None:
    """Show what of the plan has not been shown, and log its fields."""
    demodulate = setup.demodulator()
    total = len(plan.bits)
    starts = range(log.done * log.sequence, total, log.sequence)
    batches = (setup.layout.render(plan.bits[start : start + log.sequence]) for start in starts)
    tell("fields", log.done * log.sequence, total)
    first = log.markers[0, 0] if log.done else None
    for start, sequence in zip(starts, bench.stream(batches), strict=True):
        saturated = checked_saturation(sequence, bench.camera.saturation_level, largest_saturated)
        markers = demodulate(sequence.markers).reshape(3, -1)
        first = markers[0] if first is None else first
        _refuse_another_field(markers[:2], first)
        log.append(demodulate(sequence.frames).reshape(len(sequence), -1), markers, saturated)
        tell("fields", min(start + log.sequence, total), total)


def _refuse_another_field(markers: NDArray[np.complex64], first: NDArray[np.complex64]) -> None:
    noise = drift.noise(markers, drift.factors(markers, first))
    fidelity = float(drift.fidelity(markers, first, noise).min())
    if fidelity < SMALLEST_FIDELITY:
        raise DriftError(
            f"The field of all inputs on has a fidelity of {fidelity:.3f} to that at the start of "
            f"the measurement; at least {SMALLEST_FIDELITY:g} is needed. The medium, the carrier "
            "or the alignment changes faster than it can be measured, or has changed since the "
            "measurement was interrupted: calm the bench and start anew."
        )


def _evaluate(
    setup: Setup,
    plan: Plan,
    log: FieldLog,
    mean_grey: float,
    valid_for: timedelta,
    tell: Progress,
) -> Calibration:
    """The matrix and its quality, from all fields."""
    tell("matrix", 0, 1)
    pairs = align_pairs(log.fields)
    T = transmission_matrix(pairs.differences[plan.hadamard], plan.n_inputs)
    reference, bias = _marker_fields(log, pairs)
    tell("matrix", 1, 1)
    tell("quality", 0, 1)
    figures = _quality(setup, plan, pairs, T, bias, mean_grey, log.saturated_fraction)
    tell("quality", 1, 1)
    unit = np.float32(1 / setup.relative_exposure)
    now = datetime.now(UTC)
    return Calibration(
        **{name: getattr(setup, name) for name in Setup.__dataclass_fields__},
        T=T * unit,
        reference=reference * unit,
        bias=bias * unit,
        quality=figures,
        made_at=now.isoformat(timespec="seconds"),
        expires_at=(now + valid_for).isoformat(timespec="seconds"),
    )


def _marker_fields(
    log: FieldLog, pairs: AlignedPairs
) -> tuple[NDArray[np.complex64], NDArray[np.complex64]]:
    """The fields of all on and all off, in the phase and gain of the aligned pairs.

    A marker has the phase of the exposure next to it, but for what happens in between; over all
    sequences that averages out.
    """
    factors = pairs.factors.ravel()
    starts = np.arange(0, len(factors), log.sequence)
    before = factors[starts]
    after = factors[np.append(starts[1:], len(factors)) - 1]
    markers = log.markers
    neighbours = np.stack([before, after, after], axis=1)[:, :, None]
    first, last, off = (markers / neighbours).astype(np.complex64).mean(axis=0)
    return (first + last) / 2, off


def _quality(
    setup: Setup,
    plan: Plan,
    pairs: AlignedPairs,
    T: NDArray[np.complex64],
    bias: NDArray[np.complex64],
    mean_grey: float,
    saturated_fraction: float,
) -> Quality:
    differences = pairs.differences
    once, again = (differences[shown] for shown in plan.held_out)
    predicted = plan.held_out_signs @ T.T
    a, b, both = np.split(pairs.lit[plan.triples], 3)
    # Each exposure of a pair gives T (2v - 1) by itself, with the common sum: two halves.
    total = pairs.total
    halves = (2 * pairs.lit - total, total - 2 * pairs.complement)
    half, other = (transmission_matrix(h[plan.hadamard], plan.n_inputs) for h in halves)
    rows, columns = setup.settings.region.shape
    return Quality(
        held_out_correlation=quality.correlation(once, predicted),
        held_out_error=quality.relative_error(once, predicted),
        split_half=quality.split_half(half, other),
        linearity=quality.linearity(a, b, both, pairs.complement[0]),
        snr=quality.signal_to_noise(once, again),
        singular_values=quality.normalised_singular_values(T),
        effective_modes=np.pi * setup.carrier.radius**2 * rows * columns,
        visibility=quality.visibility(pairs.lit[plan.held_out[0]] - bias, mean_grey),
        saturated_fraction=saturated_fraction,
    )
