"""From a bench to a calibration: exposure, carrier, vectors, matrix, quality."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration import drift, quality, verdict
from calibration.calibration_file import Calibration
from calibration.carrier import find_carrier
from calibration.demodulation import Demodulation
from calibration.demodulation_path import choose_path
from calibration.errors import (
    CalibrationFileError,
    DriftError,
    HalfPlaneError,
    StaleCalibrationError,
)
from calibration.field_log import FieldLog
from calibration.method import DEFAULT_METHOD, Method
from calibration.plan import MEMORY_GB, SAMPLES, Cost, Plan
from calibration.quality import Evidence
from calibration.saturation import checked_saturation
from calibration.setup import Setup, from_json, to_json
from calibration.transmission_matrix import (
    Alignment,
    SolvedBlock,
    align,
    fields_of_tests,
    markers,
    solved_blocks,
)
from calibration.verdict import QualityLimits
from opu_driver.bench import Bench
from opu_driver.errors import SettingError
from opu_driver.layout import Layout
from opu_driver.modulator import Patterns

Progress = Callable[[str, int, int], None]
"""Told (stage, done, total); the stages are exposure, carrier, fields, matrix, quality."""

SMALLEST_FIDELITY = 0.8
"""Below this the all-on field of a sequence is another than that of the first."""

LONGEST_VALID_H = 1e6
"""Hours; no calibration is true for a hundred years."""

_CARRIER_FRAMES = 8

_SEQUENCE_BYTES = 1 << 28  # what the frames of one sequence may take
_SHORTEST_ROOM = 4  # exposures of one vector, by any method


def calibrate(
    bench: Bench,
    n_inputs: int,
    *,
    method: str = DEFAULT_METHOD,
    seed: int = 0,
    repeats: int | None = None,
    fit_exposure: bool = True,
    valid_for_h: float = 24.0,
    limits: QualityLimits | None = None,
    judge: bool = True,
    memory_gb: float = MEMORY_GB,
    resume: Path | None = None,
    progress: Progress | None = None,
) -> Calibration:
    """Measure the transmission matrix of an open bench, and how good it is.

    Args:
        bench: An open bench.
        n_inputs: Length of the vectors that will be projected.
        method: One of `calibration.method.METHODS`.
        seed: Seed of all random vectors.
        repeats: How often the Hadamard vectors are shown, and the results averaged; of random
            vectors, how many there are for each input. None for as often as brings a small matrix
            to hundreds of vectors: it costs next to nothing there.
        fit_exposure: Whether to measure the exposure time; otherwise that of the bench is kept.
        valid_for_h: Hours after which the calibration expires, at most `LONGEST_VALID_H`.
        limits: What its quality must reach.
        judge: Whether to refuse a calibration that does not; otherwise its figures are for the
            caller to judge.
        memory_gb: What may be held in memory. A matrix that would take more than a quarter of it
            stays in the file named by `resume`, and is solved for some modes at a time.
        resume: Where the fields are kept until the calibration is done. If the file exists, its
            measurement is gone on with. It is left in place: delete it once the result is saved.
            None keeps them in memory.
        progress: Is told how far the work is.

    Raises:
        CarrierError, SaturationError, LowSignalError: The frames cannot be calibrated on.
        DriftError: The light's path changed while it was being measured, or changes too fast.
        QualityError: A quality figure misses its limit.
        StaleCalibrationError: What is to be resumed was measured on another bench.
        CalibrationFileError: The file to resume from is damaged, or was made with other arguments.
        PatternError: The modulator cannot show what the method asks for.
        SettingError: An argument out of its limits, or more fields than memory is allowed for.
        FrameMismatchError, CaptureTimeoutError, LaserSafetyError: As `Bench.stream`.
    """
    if not 0 < valid_for_h <= LONGEST_VALID_H:
        raise SettingError(
            f"valid_for_h = {valid_for_h:g}; more than 0, and at most {LONGEST_VALID_H:g} hours."
        )
    tell = progress or _silent
    limits = limits or QualityLimits()
    plan = plan_for(bench, n_inputs, method=method, seed=seed, repeats=repeats)
    if resume is not None and resume.exists():
        measurement = _go_on(bench, plan, memory_gb, resume)
    else:
        measurement = _begin(bench, plan, memory_gb, fit_exposure, resume, tell)
    with measurement.log:
        _measure(bench, measurement, limits.saturated_fraction, tell)
        calibration = _evaluate(measurement, timedelta(hours=valid_for_h), tell)
    if judge:
        verdict.check(calibration.quality, limits)
    return calibration


def plan_for(
    bench: Bench,
    n_inputs: int,
    *,
    method: str = DEFAULT_METHOD,
    seed: int = 0,
    repeats: int | None = None,
) -> Plan:
    """What `calibrate` would show on an open bench, with the same arguments.

    Raises:
        SettingError: An argument out of its limits, or a modulator that holds too few patterns.
        PatternError: The modulator cannot show what the method asks for.
    """
    chosen = Method.of(method, n_inputs, repeats=repeats, seed=seed)
    if bench.longest_sequence < _SHORTEST_ROOM:
        raise SettingError(
            f"A modulator that holds {bench.modulator.capacity} patterns has room for sequences of "
            f"{bench.longest_sequence}; a calibration takes {_SHORTEST_ROOM}. Raise its capacity."
        )
    settings = bench.settings
    frame_bytes = math.prod(settings.region.shape) * settings.pixel_format.dtype.itemsize
    room = min(bench.longest_sequence, max(_SEQUENCE_BYTES // frame_bytes, _SHORTEST_ROOM))
    plan = Plan(chosen, seed, room)
    layout = bench.layout(n_inputs)
    chosen.scheme.patterns(layout, np.ones((1, n_inputs), np.uint8))
    return plan


def cost_of(bench: Bench, plan: Plan, memory_gb: float = MEMORY_GB) -> Cost:
    """What a plan costs on an open bench; its carrier is measured for that, with a few frames.

    Raises:
        SettingError: The memory is not enough for it.
        CarrierError, SaturationError, LowSignalError: The frames cannot be calibrated on.
    """
    half_lit = _half_lit(bench.layout(plan.n_inputs), plan.seed)
    bench.fit_exposure(np.concatenate([half_lit, bench.layout(1).all_on()]))
    demodulator, _ = _demodulator(bench, half_lit)
    return Cost.of(plan, demodulator.n_modes, bench.rate_hz, memory_gb)


@dataclass(frozen=True)
class _Measurement:
    """A measurement on its way.

    Attributes:
        plan: What is shown.
        cost: What it costs.
        setup: What it is shown on.
        log: The fields so far.
        look: What the frames with half of the inputs lit look like.
    """

    plan: Plan
    cost: Cost
    setup: Setup
    log: FieldLog
    look: _Look


@dataclass(frozen=True)
class _Look:
    """What frames with half of the inputs lit look like.

    Attributes:
        mean_grey: Mean grey value above black.
        dead_fraction: Fraction of pixels that do not change from one to the next.
    """

    mean_grey: float
    dead_fraction: float


def _silent(stage: str, done: int, total: int) -> None: ...


def _begin(
    bench: Bench,
    plan: Plan,
    memory_gb: float,
    fit_exposure: bool,
    path: Path | None,
    tell: Progress,
) -> _Measurement:
    """Set the exposure, find the carrier blind, and open an empty log."""
    layout = bench.layout(plan.n_inputs)
    half_lit = _half_lit(layout, plan.seed)
    if fit_exposure:
        tell("exposure", 0, 1)
        # The brightest pattern of all is in it, or the markers would saturate.
        bench.fit_exposure(np.concatenate([half_lit, bench.layout(1).all_on()]))
        tell("exposure", 1, 1)
    tell("carrier", 0, 1)
    demodulator, look = _demodulator(bench, half_lit)
    tell("carrier", 1, 1)
    setup = Setup.of(bench, layout, demodulator, plan.seed)
    cost = Cost.of(plan, demodulator.n_modes, bench.rate_hz, memory_gb)
    held = cost.memory_bytes + cost.fields_bytes + cost.on_disk * cost.matrix_bytes
    if path is None and held > memory_gb * 1e9:
        raise SettingError(
            f"The {cost.exposures} fields and what is made of them take {held / 1e9:.3g} GB, and "
            f"{memory_gb:g} GB of memory are allowed. Name a file to keep them in (resume)."
        )
    header = to_json(setup, **asdict(look), **_arguments(plan))
    inputs = plan.n_inputs if cost.on_disk and path is not None else 0
    log = FieldLog.create(path, header, plan.ends, demodulator.n_modes, inputs)
    return _Measurement(plan, cost, setup, log, look)


def _demodulator(bench: Bench, half_lit: Patterns) -> tuple[Demodulation, _Look]:
    """The demodulator for the carrier that is found blind, and the look of its frames."""
    frames = bench.expose(half_lit)
    black_level = bench.camera.black_level
    carrier = find_carrier(
        frames, saturation_level=bench.camera.saturation_level, black_level=black_level
    )
    mean_grey = float(frames.mean(dtype=np.float64)) - black_level
    look = _Look(mean_grey, quality.dead_fraction(frames))
    path = choose_path(frames, carrier, rate_hz=bench.rate_hz, black_level=black_level)
    return path.demodulator(bench.settings.region.shape, carrier), look


def _half_lit(layout: Layout, seed: int) -> Patterns:
    rng = np.random.default_rng([seed, 0])
    return layout.render(rng.integers(0, 2, (_CARRIER_FRAMES, layout.n_inputs), np.uint8))


def _arguments(plan: Plan) -> dict[str, Any]:
    """What has to be the same for a measurement to be gone on with."""
    return {
        "n_inputs": plan.n_inputs,
        "seed": plan.seed,
        "method": plan.method.name,
        "vectors": plan.method.vectors.count,
    }


def _go_on(bench: Bench, plan: Plan, memory_gb: float, path: Path) -> _Measurement:
    """Open the log of an interrupted measurement, and set the bench as it was."""
    with ExitStack() as opening:
        log = opening.enter_context(FieldLog.resume(path))
        setup, look, then = _header(log, path, plan)
        now = _arguments(plan)
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
        if not np.array_equal(log.ends, plan.ends):
            raise CalibrationFileError(
                f"{path} holds runs of other lengths than the modulator's capacity of "
                f"{bench.modulator.capacity} gives. Set it as it was, or delete the file to start "
                "anew."
            )
        bench.configure(setup.settings)
        bench.laser.set_power_mw(setup.power_mw)
        cost = Cost.of(plan, log.modes, bench.rate_hz, memory_gb)
        if cost.on_disk and not log.has_room_for_matrix:
            raise CalibrationFileError(
                f"{path} has no room for the matrix, which takes {cost.matrix_bytes / 1e9:.3g} GB: "
                f"too much to be held within {memory_gb:g} GB of memory. Allow as much memory "
                "(memory_gb) as when it was begun, or delete it to start anew."
            )
        opening.pop_all()
    return _Measurement(plan, cost, setup, log, look)


def _header(log: FieldLog, path: Path, plan: Plan) -> tuple[Setup, _Look, dict[str, Any]]:
    """The setup, the look of its frames, and the arguments that a log was begun with."""
    arguments = {name: type(value) for name, value in _arguments(plan).items()}
    look = {f.name: float for f in fields(_Look)}
    try:
        setup, more = from_json(log.header)
        for name, kind in (look | arguments).items():
            if type(more.get(name)) is not kind:
                raise ValueError(f"it has no {name}")
    except ValueError as error:
        raise CalibrationFileError(
            f"The header of {path} is damaged: {error}. Delete the file to start anew."
        ) from error
    return setup, _Look(**{name: more[name] for name in look}), {n: more[n] for n in arguments}


def _measure(
    bench: Bench, measurement: _Measurement, largest_saturated: float, tell: Progress
) -> None:
    """Show what of the plan has not been shown, and log its fields."""
    plan, setup, log = measurement.plan, measurement.setup, measurement.log
    demodulate = setup.demodulator()
    runs = plan.runs[log.done :]
    batches = (plan.patterns(run, setup.layout) for run in runs)
    tell("fields", runs[0].rows.start if runs else plan.exposures, plan.exposures)
    first = log.markers(0)[0] if log.done else None
    for run, sequence in zip(runs, bench.stream(batches), strict=True):
        saturated = checked_saturation(sequence, bench.camera.saturation_level, largest_saturated)
        markers = demodulate(sequence.markers).reshape(3, -1)
        first = markers[0] if first is None else first
        _refuse_another_field(markers[:2], first)
        log.append(demodulate(sequence.frames).reshape(len(run), -1), markers, saturated)
        tell("fields", run.rows.stop, plan.exposures)


def _refuse_another_field(markers: NDArray[np.complex64], first: NDArray[np.complex64]) -> None:
    fidelity = _least_fidelity(markers, first)
    if fidelity >= SMALLEST_FIDELITY:
        return
    if any(quality.is_conjugate(marker, first) for marker in markers):
        raise HalfPlaneError(
            "The field of all inputs on is the complex conjugate of that at the start of the "
            f"measurement, and has a fidelity of {fidelity:.3f} to itself: "
            "the fringes tilt the other way, or the camera's image was turned over. Find out what "
            "has moved, and start anew."
        )
    raise DriftError(
        f"The field of all inputs on has a fidelity of {fidelity:.3f} to that at the start of "
        f"the measurement; at least {SMALLEST_FIDELITY:g} is needed. The medium, the carrier "
        "or the alignment changes faster than it can be measured, or has changed since the "
        "measurement was interrupted: calm the bench and start anew."
    )


def _least_fidelity(markers: NDArray[np.complex64], first: NDArray[np.complex64]) -> float:
    """The lowest fidelity of two fields to another that is as noisy as they are."""
    noise = drift.noise(markers, drift.factors(markers, first))
    light = 1 - noise / float(np.mean(np.abs(first) ** 2))
    return float(drift.fidelity(markers, first, noise).min()) / max(light, 0.1)


def _evaluate(measurement: _Measurement, valid_for: timedelta, tell: Progress) -> Calibration:
    """The matrix and its quality, from all fields, some modes at a time."""
    plan, setup, log = measurement.plan, measurement.setup, measurement.log
    blocks = measurement.cost.blocks()
    tell("matrix", 0, len(blocks))
    alignment = align(log, plan, blocks)
    gathered = _Gathered(log, plan, alignment)
    unit = np.float32(1 / setup.relative_exposure)
    streamed = measurement.cost.on_disk and log.has_room_for_matrix
    T = np.empty((0 if streamed else log.modes, plan.n_inputs), np.complex64)
    solved = solved_blocks(log, plan, alignment, gathered.noise_to_signal, blocks)
    for done, block in enumerate(solved):
        gathered.add(block)
        rows = np.ascontiguousarray(block.T.T)
        rows *= unit
        if streamed:
            log.write_matrix(block.modes, rows)
        else:
            T[block.modes] = rows
        tell("matrix", done + 1, len(blocks))
    tell("quality", 0, 1)
    figures = quality.assess(
        gathered.evidence(),
        effective_modes=quality.effective_modes(setup.carrier.radius, setup.settings.region.shape),
        saturated_fraction=log.saturated_fraction,
        **asdict(measurement.look),
    )
    tell("quality", 1, 1)
    now = datetime.now(UTC)
    return Calibration(
        **{name: getattr(setup, name) for name in Setup.__dataclass_fields__},
        T=log.matrix() if streamed else T,
        reference=alignment.on * unit,
        bias=alignment.off * unit,
        quality=figures,
        made_at=now.isoformat(timespec="seconds"),
        expires_at=(now + valid_for).isoformat(timespec="seconds"),
    )


class _Gathered:
    """What the quality figures need of the fields, and of the matrix block by block.

    Args:
        log: All fields.
        plan: What they are the fields of.
        alignment: Their gains.

    Attributes:
        noise_to_signal: Of the method's signed fields, see `Vectors.solver`.
    """

    def __init__(self, log: FieldLog, plan: Plan, alignment: Alignment) -> None:
        tests = fields_of_tests(log, plan, alignment)
        signed = tests[0::2] - tests[1::2]
        self._once, self._again = (signed[shown] for shown in plan.held_out)
        a, b, both = np.split(signed[plan.triples], 3)
        self._triples = (a, b, both)
        self._noise = float(np.mean(np.abs(self._once - self._again) ** 2)) / 4
        self._markers = markers(log, plan, alignment)
        self._plan, self._gains = plan, np.concatenate(alignment.gains)
        snr = quality.signal_to_noise(self._once, self._again)
        self.noise_to_signal = plan.method.noise_to_signal(snr) if snr else math.inf

        sampled = min(plan.n_inputs, SAMPLES)
        self._inputs = np.linspace(0, plan.n_inputs - 1, sampled).astype(np.intp)
        self._gram = np.zeros((sampled, sampled), np.complex128)
        self._predicted = np.zeros_like(self._once)
        self._all_on = np.zeros(log.modes, np.complex64)
        self._powers = np.zeros(log.modes)
        self._halves: tuple[float, float, complex] | None = None

    def add(self, block: SolvedBlock) -> None:
        """Count some modes in."""
        T, apart = block.T, block.half_difference
        self._predicted[:, block.modes] = self._plan.held_out_signs @ T
        self._all_on[block.modes] = T.sum(axis=0)
        self._powers[block.modes] = np.einsum("im,im->m", T, T.conj()).real / len(T)
        some = T[self._inputs].astype(np.complex128)
        self._gram += some @ some.conj().T
        if apart is not None:
            own, other, mixed = self._halves or (0.0, 0.0, 0j)
            own += float(np.vdot(T, T).real)
            other += float(np.vdot(apart, apart).real)
            self._halves = own, other, mixed + complex(np.vdot(T, apart))

    def evidence(self) -> Evidence:
        """All of it, once all modes are counted."""
        return Evidence(
            once=self._once,
            again=self._again,
            signs=self._plan.held_out_signs,
            predicted=self._predicted,
            triples=self._triples,
            all_on=self._all_on,
            mode_powers=self._powers,
            singular_values=self._singular_values(),
            split_half=self._split_half(),
            signed_noise=2.0,
            expected_error=self._plan.method.expected_error,
            gains=self._gains,
            markers=self._markers,
            marker_noise=self._noise / 2,
        )

    def _split_half(self) -> float:
        """Correlation of the matrix with the truth.

        From two halves of the data, T + D and T - D, where there are any. Otherwise it is the
        correlation of predicted with measured fields, freed from the noise of the latter, which
        their second showing tells.
        """
        if self._halves is None:
            seen = quality.correlation(self._predicted, self._once + self._again)
            return seen / quality.split_half(self._once, self._again)
        own, other, mixed = self._halves
        overlap = abs(own - other + 2j * mixed.imag)
        rho = overlap / math.sqrt((own + other) ** 2 - (2 * mixed.real) ** 2)
        return math.sqrt(2 * rho / (1 + rho))

    def _singular_values(self) -> NDArray[np.float32]:
        """Of up to `SAMPLES` inputs, normalised as `quality.normalised_singular_values` does."""
        squares = np.linalg.eigvalsh(self._gram)[::-1][: len(self._powers)]
        mean = float(np.trace(self._gram).real) / len(self._gram)
        values: NDArray[np.float32] = np.sqrt(np.maximum(squares, 0) / mean).astype(np.float32)
        return values
