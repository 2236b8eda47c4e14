"""Vectors through the bench: codes in, real outputs of the calibrated map out.

A code e is shown as two exposures, e+ and e-; the difference of their fields is T e, free of every
static bias. Larger integers are shown in bit planes, two exposures each.

What the interferometer does meanwhile is undone. Its phase and gain, and the tilt that a drift of
the carrier puts on the modes, are followed by all-on exposures: the markers around each sequence,
and one more in every so many exposures, as often as the measured walk of the phase asks for.

A medium that has changed cannot be undone. It is measured: the fidelity of the references, and that
of the projections themselves to what the calibrated matrix says of their codes
(`map_fidelity`). Below `min_fidelity` the calibration is stale, and so it is when it has expired: a
new one is asked for, or made.

Fields are demodulated some at a time, so that they are still in the cache when they are subtracted
and put into the order of the outputs (`projection_kernel`).

With N_R electrons a pixel of reference and N_S(e) = sum of the lit inputs' signal, the relative
error of a ternary code's projection is (docs/architecture.md, Physics)

    rel^2 = g (I+ + I- + 2 read^2 + q^2 / 6) / (c^2 N_R N_S(e)),

where I+ and I- are the mean electrons a pixel of its two exposures, q the electrons of one grey
value, c what the pixels' aperture leaves of the fringes, and g = `Demodulator.noise_gain`, about
pi r^2. The error of T itself, and phase and gain between references, come on top.

The exposure of the calibration serves the projections too. Sparse codes would bear one that is
1.25 times as long, for an error smaller by a tenth; beyond that the references saturate first, and
the gain that they tell is wrong.
"""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from calibration import drift
from calibration.bit_planes import BitPlanes
from calibration.calibration_file import Calibration
from calibration.errors import (
    DecorrelationError,
    HalfPlaneError,
    StaleCalibrationError,
)
from calibration.map_fidelity import AMPLITUDES, MapCheck, MapFidelity
from calibration.movement import Movement, Reference
from calibration.phase_walk import PhaseWalk
from calibration.quality import is_conjugate
from calibration.saturation import checked_saturation
from calibration.threads import processors, share
from opu_driver.bench import MARKERS, Bench, Sequence
from opu_driver.errors import SettingError
from opu_driver.modulator import Patterns

if TYPE_CHECKING:
    from torch import Tensor

log = logging.getLogger("opu.projector")

_SEQUENCE = 512  # exposures in one sequence, at most,
_SEQUENCE_BYTES = 1 << 28  # and what their frames may take
_DOUBTED = 64  # exposures of codes from which on a sequence looks for vibration
_SHORTEST_SEQUENCE = 3  # the two exposures of a bit plane, and a reference between them

_FIELD_BYTES = 1 << 24  # of fields that are held at a time, so that they stay in the cache
_COMPARED = 1 << 14  # modes that tell the fidelity of references, at most

MIN_FIDELITY = 0.98
"""Below this fidelity a calibration is stale: a correlation of 0.99 with its map."""

_DOUBT = 3.0  # standard deviations by which a fidelity of the map has to be too small


@dataclass(frozen=True)
class ProjectionRecord:
    """What one call of `project` cost, and how good it was.

    The figures of the light are NaN for a call that needed none.

    Attributes:
        rows: Rows of codes.
        shown_rows: Rows that were not zero everywhere.
        exposures: Exposures of codes.
        reference_exposures: Exposures of references and markers.
        calibration_exposures: Exposures of a recalibration, and of what had to be shown again.
        snr: Signal to noise (powers) of a projected field, averaged over the bit planes shown.
        phase_drift_rad: Largest change of phase between two neighbouring references.
        carrier_drift: Largest drift of the carrier from the calibration's, cycles/pixel.
        gain: Mean gain against the calibration's reference.
        fidelity: Lowest fidelity of a sequence's references to the calibration's reference, the
            carrier's drift undone.
        map_fidelity: Lowest fidelity of a sequence's projections to the calibrated map: their
            |correlation|^2, camera noise left out; NaN where there is too little light to tell.
        saturated_fraction: Fraction of pixels at full scale.
    """

    rows: int
    shown_rows: int
    exposures: int
    reference_exposures: int
    calibration_exposures: int
    snr: float
    phase_drift_rad: float
    carrier_drift: float
    gain: float
    fidelity: float
    map_fidelity: float
    saturated_fraction: float


@dataclass(frozen=True)
class _Shown:
    """What one sequence of bit planes has cost and shown."""

    exposures: int
    references: int
    power: float
    noise: float
    phase_drift_rad: float
    carrier_drift: float
    gain: float
    fidelity: float
    map_fidelity: float
    saturated_fraction: float


class OpticalProjector:
    """The calibrated bench as a linear map.

    Args:
        bench: An open bench.
        calibration: What was measured on it.
        reference_interval: Exposures of codes between two references; 0 for the markers alone;
            None for as many as the measured walk of the phase allows, see `phase_walk`.
        max_saturated_fraction: Largest allowed fraction of pixels at full scale, of the frames
            and of the markers.
        min_fidelity: Smallest allowed fidelity of the references to the calibration's, and of the
            projections to the calibrated map (less what the noise of T takes from it); below it
            the medium or the alignment is another. The default, `MIN_FIDELITY`, is a correlation
            of 0.99.
        track_drift: Whether to follow phase, gain and carrier. Otherwise those of the very first
            reference are kept, to show what tracking is worth; references are still shown and
            reported, and the projections may be of any fidelity and amplitude.
        exposure_us: Exposure time; None for that of the calibration.
        recalibrate: Makes a new calibration of the bench, for instance
            `lambda bench: calibrate(bench, n_inputs)`; it is called where the fidelity is too
            small or the calibration has expired, and by that its owner is told. The call that has
            noticed is shown again, whole. The new B is turned into the phase of the old one; it is
            another all the same, and so is `fingerprint()`. None raises instead.

    Attributes:
        last: The record of the last call; None before the first.
        calibration: The calibration in use.

    Raises:
        StaleCalibrationError: The calibration does not fit the bench.
        SettingError: A number out of its limits, or a modulator that holds too few patterns.
    """

    def __init__(
        self,
        bench: Bench,
        calibration: Calibration,
        *,
        reference_interval: int | None = None,
        max_saturated_fraction: float = 1e-3,
        min_fidelity: float = MIN_FIDELITY,
        track_drift: bool = True,
        exposure_us: float | None = None,
        recalibrate: Callable[[Bench], Calibration] | None = None,
    ) -> None:
        if reference_interval is not None and reference_interval < 0:
            raise SettingError(
                f"reference_interval = {reference_interval}; at least 1, 0 for markers alone, or "
                "None to follow the phase."
            )
        for name, value in (
            ("max_saturated_fraction", max_saturated_fraction),
            ("min_fidelity", min_fidelity),
        ):
            if not 0 <= value <= 1:
                raise SettingError(f"{name} = {value:g}; it is a fraction, from 0 to 1.")
        if bench.longest_sequence < _SHORTEST_SEQUENCE:
            raise SettingError(
                f"A modulator that holds {bench.modulator.capacity} patterns has room for "
                f"sequences of {bench.longest_sequence}; a projection takes {_SHORTEST_SEQUENCE}. "
                "Raise its capacity."
            )
        self.n_inputs = calibration.n_inputs
        self.n_outputs = calibration.n_outputs
        self.last: ProjectionRecord | None = None
        self._bench = bench
        self._interval = reference_interval
        self._max_saturated_fraction = max_saturated_fraction
        self._min_fidelity = min_fidelity
        self._track_drift = track_drift
        self._exposure_us = exposure_us
        self._recalibrate = recalibrate
        self._phase_walk = PhaseWalk()
        self._all_on = bench.layout(1).all_on()
        self._totals = _Totals()
        self._use(calibration)

    def _use(self, calibration: Calibration) -> None:
        """Set the bench and everything here for a calibration."""
        bench, exposure_us = self._bench, self._exposure_us
        calibration.check(bench)
        exposure_us = calibration.settings.exposure_us if exposure_us is None else exposure_us
        bench.configure(replace(bench.settings, exposure_us=exposure_us))
        self.calibration = calibration
        self._demodulate = calibration.demodulator()
        self._expires_at = datetime.fromisoformat(calibration.expires_at)
        self._reference = _reference(calibration)
        step = -(-calibration.n_modes // _COMPARED)
        self._some = slice(None, None, step)  # of the modes
        self._map = MapCheck(calibration)
        self._places = np.argsort(calibration.output_modes)  # of modes among the outputs
        held = max(_FIELD_BYTES // (8 * calibration.n_modes), 2) // 2 * 2
        self._held = np.empty((held, *self._demodulate.grid_shape), np.complex64)
        self._first_gain: complex | None = None
        self._compile()

    def _compile(self) -> None:
        """Compile in the dark what is compiled on its first use.

        Importing and compiling hold Python for so long that a laser's guardian would take this
        process for hung.
        """
        import torch

        from calibration import projection_kernel

        settings = self.calibration.settings
        frame = np.zeros((1, *settings.region.shape), settings.pixel_format.dtype)
        self._demodulate(frame, self._held[:1])
        self._reference.movement(self.calibration.reference[None])
        none = BitPlanes.of(torch.zeros(1, self.n_inputs), self.n_inputs)
        kernel: Any = projection_kernel.project
        kernel(
            np.zeros((1, self.n_outputs), np.float32),
            self._held[:0].reshape(0, self.calibration.n_modes).view(np.float32),
            self._places,
            self._reference.ramp(0.0, 0.0).conj().view(np.float32),
            np.zeros(0, np.complex64),
            none.rows,
            none.weights,
            _first_of_row(none.rows, np.zeros(1, np.bool_)),
            np.zeros(1),
            0,
            1,
        )

    def fingerprint(self) -> str:
        """Identity of B."""
        return self.calibration.fingerprint()

    def totals(self) -> Mapping[str, float]:
        """The account since construction.

        Rows and exposures are sums; `snr` is their mean over exposures; `phase_drift_rad` and
        `saturated_fraction` are the largest of any call, `fidelity` and `map_fidelity` the
        smallest.
        """
        return self._totals.as_mapping()

    def project(self, codes: Tensor) -> Tensor:
        """B times each row of codes, through the light.

        Args:
            codes: Integers of any numeric dtype, `[row, input]`, from -255 to 255. Ternary rows
                take two exposures, others two a bit plane, rows of zeros none.

        Returns:
            float32 `[row, output]` on the CPU: codes @ B.T.

        Raises:
            CodesError: Codes that cannot be shown; nothing was exposed.
            SaturationError: Too many pixels at full scale.
            DecorrelationError: The light no longer is the calibration's.
            StaleCalibrationError: The calibration has expired.
            DriftError: The phase moved too far between references.
            FrameMismatchError, CaptureTimeoutError, LaserSafetyError: As `Bench.stream`.
        """
        import torch

        planes = BitPlanes.of(codes, self.n_inputs)
        before = self._bench.exposures
        try:
            self._refuse_expired()
            outputs, shown = self._outputs(len(codes), planes)
            spent = 0
        except StaleCalibrationError as error:
            if self._recalibrate is None:
                raise
            self._renew(self._recalibrate, error)
            spent = self._bench.exposures - before
            outputs, shown = self._again(len(codes), planes)
        self.last = _record(len(codes), planes, shown, spent)
        self._totals.add(self.last)
        return torch.from_numpy(outputs)

    def _outputs(self, rows: int, planes: BitPlanes) -> tuple[NDArray[np.float32], list[_Shown]]:
        """The outputs `[row, output]` of codes, and what each of their sequences has cost."""
        outputs = np.zeros((rows, self.n_outputs), np.float32)
        begun = np.zeros(rows, bool)
        return outputs, [self._gather(*part, outputs, begun) for part in self._show(planes)]

    def _again(self, rows: int, planes: BitPlanes) -> tuple[NDArray[np.float32], list[_Shown]]:
        """As `_outputs`, with a calibration that was made for that."""
        try:
            return self._outputs(rows, planes)
        except DecorrelationError as error:
            error.add_note(
                "It was calibrated anew just before: calm the bench, for its medium changes faster "
                "than a calibration takes, or raise the exposure."
            )
            raise

    def _refuse_expired(self) -> None:
        if datetime.now(UTC) > self._expires_at:
            raise StaleCalibrationError(
                f"The calibration of {self.calibration.made_at} expired at "
                f"{self.calibration.expires_at}. Calibrate again."
            )

    def _renew(
        self, recalibrate: Callable[[Bench], Calibration], reason: StaleCalibrationError
    ) -> None:
        """Make a new calibration and go on with it."""
        log.warning("Recalibrating: %s", reason)
        new = recalibrate(self._bench)
        if (new.n_inputs, new.n_modes) != (self.n_inputs, self.calibration.n_modes):
            raise StaleCalibrationError(
                f"The recalibration has {new.n_inputs} inputs and {new.n_modes} modes; the "
                f"projector goes on with {self.n_inputs} and {self.calibration.n_modes} only. "
                "Calibrate with the same arguments; or, where the sideband's radius was measured "
                f"otherwise (grids of {new.decimation} instead of {self.calibration.decimation} "
                "pixels), make a new projector."
            ) from reason
        self._use(_turned_into(new, self._reference))
        log.warning("Recalibrated: B is now %s", self.fingerprint())

    def _show(self, planes: BitPlanes) -> Iterator[tuple[BitPlanes, NDArray[np.int64], Sequence]]:
        """Bit planes with the places of their references, and the sequence that shows them."""
        if not len(planes):
            return
        shown: deque[tuple[BitPlanes, NDArray[np.int64]]] = deque()
        for sequence in self._bench.stream(self._batches(planes, shown)):
            yield *shown.popleft(), sequence

    def _batches(
        self, planes: BitPlanes, shown: deque[tuple[BitPlanes, NDArray[np.int64]]]
    ) -> Iterator[Patterns]:
        """Patterns for one sequence after the other; what they are is noted in `shown`."""
        settings = self._bench.settings
        frame_bytes = math.prod(settings.region.shape) * settings.pixel_format.dtype.itemsize
        most = min(
            _SEQUENCE,
            max(_SEQUENCE_BYTES // frame_bytes, 2),
            self._bench.longest_sequence,
        )
        first = 0
        while first < len(planes):
            interval = self._phase_walk.interval if self._interval is None else self._interval
            room = most - most // (interval + 1) if interval else most
            doubt = self._interval is None and room >= _DOUBTED
            part = planes.part(slice(first, first + max((room - 2 * doubt) // 2, 1)))
            every = interval or 2 * len(part)
            places = np.arange(every, 2 * len(part), every)
            if doubt and 2 * len(part) >= _DOUBTED:  # beside the markers, see `phase_walk`
                places = np.concatenate([[0], places, [2 * len(part)]])
            shown.append((part, places))
            yield self._patterns(part, places)
            first += len(part)

    def _patterns(self, planes: BitPlanes, places: NDArray[np.int64]) -> Patterns:
        bits = planes.bits.reshape(-1, self.n_inputs)
        patterns = self.calibration.layout.render(bits)
        return np.insert(patterns, places, self._all_on, axis=0) if len(places) else patterns

    def _gather(
        self,
        planes: BitPlanes,
        places: NDArray[np.int64],
        sequence: Sequence,
        outputs: NDArray[np.float32],
        begun: NDArray[np.bool_],
    ) -> _Shown:
        """Add a sequence's outputs to their rows, in the calibration's phase and unit.

        `begun` tells which rows have got something already.
        """
        saturated = checked_saturation(
            sequence, self._bench.camera.saturation_level, self._max_saturated_fraction
        )
        inserted = places + np.arange(len(places))
        references = self._references(sequence, inserted)
        positions = np.concatenate([[-1], inserted, [len(sequence)]])
        self._refuse_conjugates(references[[0, -1]])
        moved = self._reference.movement(references)
        ramp = self._reference.ramp(moved.row, moved.column)
        noise, fidelity = self._compare(references, ramp, moved)

        own = np.delete(np.arange(len(sequence)), inserted)
        gains = self._gains_at(own, moved.gains, positions)
        corrections = (self.calibration.scale / gains).astype(np.complex64)
        gain = float(np.mean(np.abs(moved.gains)))
        noise *= 2 * (self.calibration.scale / gain) ** 2
        turn = ramp.conj() if self._track_drift else np.ones_like(ramp)
        power, seen = self._subtract(
            planes, sequence, own, corrections, turn, noise, outputs, begun
        )
        self._refuse_another_map(seen)
        return _Shown(
            exposures=len(own),
            references=MARKERS + len(places),
            power=power,
            noise=noise,
            phase_drift_rad=drift.largest_step_rad(moved.gains),
            carrier_drift=math.hypot(moved.row, moved.column),
            gain=gain / self._bench.relative_exposure,
            fidelity=fidelity,
            map_fidelity=seen.fidelity,
            saturated_fraction=saturated,
        )

    def _references(self, sequence: Sequence, inserted: NDArray[np.int64]) -> NDArray[np.complex64]:
        """Fields `[reference, mode]` of everything on: first marker, those inserted, second."""
        fields = np.empty((2 + len(inserted), *self._demodulate.grid_shape), np.complex64)
        self._demodulate(sequence.markers[:1], fields[:1])
        for k, at in enumerate(inserted):
            self._demodulate(sequence.frames[at : at + 1], fields[1 + k : 2 + k])
        self._demodulate(sequence.markers[1:2], fields[-1:])
        return fields.reshape(len(fields), -1)

    def _gains_at(
        self,
        exposures: NDArray[np.int64],
        gains: NDArray[np.complex128],
        positions: NDArray[np.int64],
    ) -> NDArray[np.complex128]:
        """Complex gains at the exposures of codes, from those of the references."""
        if not self._track_drift:
            if self._first_gain is None:
                self._first_gain = complex(gains[0])
            return np.full(len(exposures), self._first_gain)
        phases = np.unwrap(np.angle(gains))
        if self._interval is None:
            self._phase_walk.see(phases, positions)
            phases = self._phase_walk.smoothed(phases, positions)
        return drift.interpolate(np.abs(gains) * np.exp(1j * phases), positions, exposures)

    def _subtract(
        self,
        planes: BitPlanes,
        sequence: Sequence,
        own: NDArray[np.int64],
        corrections: NDArray[np.complex64],
        turn: NDArray[np.complex64],
        noise: float,
        outputs: NDArray[np.float32],
        begun: NDArray[np.bool_],
    ) -> tuple[float, MapFidelity]:
        """Add the weighted differences of e+ and e- to their rows.

        Args:
            planes: The bit planes.
            sequence: Their exposures, and others.
            own: Which exposures are those of the planes.
            corrections: What undoes phase and gain, `[2 x plane]`.
            turn: What undoes the carrier's drift, `[mode]`.
            noise: Variance of a difference, per mode.
            outputs: Where to add, `[row, output]`.
            begun: Which rows have got something already; those of the planes then have.

        Returns:
            Mean power of the differences, and their fidelity to the calibrated map.
        """
        from calibration import projection_kernel  # numba takes a while to import

        kernel: Any = projection_kernel.project
        compared, some = self._map.compared(len(planes)), self._map.modes
        seen = np.empty((len(compared), len(some)), np.complex64)
        powers = np.zeros(projection_kernel.blocks(self.calibration.n_modes))
        step = len(self._held)
        for first in range(0, len(own), step):
            exposures = slice(first, first + step)
            fields = self._fields(sequence, own[exposures])
            factors = corrections[exposures]
            part = planes.part(slice(first // 2, (first + step) // 2))
            arguments = (
                outputs,
                fields.view(np.float32),
                self._places,
                turn.view(np.float32),
                factors,
            )
            of_planes = part.rows, part.weights, _first_of_row(part.rows, begun)
            share(kernel, len(powers), processors(), *arguments, *of_planes, powers)
            here = np.flatnonzero((compared >= first // 2) & (compared < (first + step) // 2))
            lit = 2 * compared[here] - first
            corrected = (fields[at[:, None], some] * factors[at, None] for at in (lit, lit + 1))
            seen[here] = np.subtract(*corrected)
        told = planes.part(compared)
        return (
            float(powers.sum()) / (len(planes) * self.calibration.n_modes),
            self._map.judge(told, seen * turn[some], noise),
        )

    def _fields(self, sequence: Sequence, exposures: NDArray[np.int64]) -> NDArray[np.complex64]:
        """Fields `[exposure, mode]`; valid until the next ones."""
        ends = np.flatnonzero(np.diff(exposures) != 1) + 1
        for run in np.split(np.arange(len(exposures)), ends):
            first, beyond = int(run[0]), int(run[-1]) + 1
            frames = sequence.frames[exposures[first] : exposures[beyond - 1] + 1]
            self._demodulate(frames, self._held[first:beyond])
        return self._held[: len(exposures)].reshape(len(exposures), -1)

    def _compare(
        self, references: NDArray[np.complex64], ramp: NDArray[np.complex64], moved: Movement
    ) -> tuple[float, float]:
        """Noise of the references, the carrier's drift undone, and their lowest fidelity."""
        straight = references[:, self._some] * ramp[self._some].conj()
        noise = drift.noise(straight, moved.gains)
        own = self._reference.field[self._some]
        fidelity = float(drift.fidelity(straight, own, noise).min())
        if not fidelity >= self._min_fidelity:
            raise self._stale(fidelity, "The field of all inputs on has", "to that")
        return noise, fidelity

    def _refuse_conjugates(self, references: NDArray[np.complex64]) -> None:
        own = self._reference.field[self._some]
        if any(is_conjugate(field[self._some], own) for field in references):
            raise HalfPlaneError(
                "The field of all inputs on is the complex conjugate of that of the calibration "
                f"of {self.calibration.made_at}: the fringes tilt the other way, or the camera's "
                "image was turned over. Set the bench as it was, or calibrate again."
            )

    def _refuse_another_map(self, seen: MapFidelity) -> None:
        if not self._track_drift or not seen.told:
            return
        least = self._min_fidelity * self._map.purity
        if seen.fidelity + _DOUBT * seen.sigma < least:
            raise self._stale(seen.fidelity, "The projections have", "to the calibrated map")
        low, high = AMPLITUDES
        # A medium that has changed as much as is allowed predicts a smaller part.
        if not math.sqrt(least) * low <= seen.amplitude <= high:
            raise DecorrelationError(
                f"The projections have {seen.amplitude:.3g} of the amplitude that the calibration "
                f"of {self.calibration.made_at} predicts, phase and gain corrected; from {low:g} "
                f"to {high:g} is allowed. Codes and references are not lit alike: look whether the "
                "modulator shows all inputs and the laser is as bright for codes as for "
                "references, then calibrate again."
            )

    def _stale(self, fidelity: float, what: str, to: str) -> DecorrelationError:
        return DecorrelationError(
            f"{what} a fidelity of {fidelity:.4f} {to} of the calibration of "
            f"{self.calibration.made_at}; at least {self._min_fidelity:g} is needed. The medium, "
            "the carrier or the alignment has changed (calibrate again), or there is too little "
            "light to tell (raise the exposure)."
        )


def _first_of_row(rows: NDArray[np.int64], begun: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which of some planes are the first of their row; their rows then have begun."""
    firsts = ~begun[rows]
    _, earliest = np.unique(rows, return_index=True)
    again = np.ones(len(rows), bool)
    again[earliest] = False
    firsts[again] = False
    begun[rows] = True
    return firsts


def _reference(calibration: Calibration) -> Reference:
    demodulate = calibration.demodulator()
    return Reference(
        calibration.reference,
        demodulate.grid_shape,
        demodulate.decimation,
        demodulate.noise_gain,
    )


def _turned_into(calibration: Calibration, earlier: Reference) -> Calibration:
    """A new calibration in the phase of an earlier one, and at its carrier.

    Phase and carrier of a calibration are those of the moment: what has changed of the medium since
    is little, but without this the two would have nothing in common.
    """
    moved = earlier.movement(calibration.reference[None])
    turn = earlier.ramp(moved.row, moved.column).conj()
    turn *= np.complex64(np.exp(-1j * np.angle(moved.gains[0])))
    return replace(
        calibration,
        T=calibration.T * turn[:, None],
        reference=calibration.reference * turn,
        bias=calibration.bias * turn,
    )


class _Totals:
    """The account of all calls."""

    def __init__(self) -> None:
        self._rows = self._shown_rows = self._exposures = self._references = 0
        self._calibrations = 0
        self._snr = self._drift = self._saturated = 0.0
        self._fidelity = self._map_fidelity = 1.0

    def add(self, record: ProjectionRecord) -> None:
        self._rows += record.rows
        self._shown_rows += record.shown_rows
        if not record.exposures:
            return
        self._exposures += record.exposures
        self._references += record.reference_exposures
        self._calibrations += record.calibration_exposures
        self._snr += record.snr * record.exposures
        self._drift = max(self._drift, record.phase_drift_rad)
        self._saturated = max(self._saturated, record.saturated_fraction)
        self._fidelity = min(self._fidelity, record.fidelity)
        self._map_fidelity = min(self._map_fidelity, record.map_fidelity)

    def as_mapping(self) -> dict[str, float]:
        return {
            "rows": float(self._rows),
            "shown_rows": float(self._shown_rows),
            "exposures": float(self._exposures),
            "reference_exposures": float(self._references),
            "calibration_exposures": float(self._calibrations),
            "snr": self._snr / self._exposures if self._exposures else math.nan,
            "phase_drift_rad": self._drift,
            "fidelity": self._fidelity,
            "map_fidelity": self._map_fidelity,
            "saturated_fraction": self._saturated,
        }


def _record(rows: int, planes: BitPlanes, shown: list[_Shown], spent: int) -> ProjectionRecord:
    exposures = sum(part.exposures for part in shown)
    power = sum(part.power * part.exposures for part in shown)
    noise = sum(part.noise * part.exposures for part in shown)
    told = [part.map_fidelity for part in shown if not math.isnan(part.map_fidelity)]
    return ProjectionRecord(
        rows=rows,
        shown_rows=len(np.unique(planes.rows)),
        exposures=exposures,
        reference_exposures=sum(part.references for part in shown),
        calibration_exposures=spent,
        snr=(max(power - noise, 0.0) / noise if noise else math.inf) if shown else math.nan,
        phase_drift_rad=max((part.phase_drift_rad for part in shown), default=math.nan),
        carrier_drift=max((part.carrier_drift for part in shown), default=math.nan),
        gain=sum(part.gain for part in shown) / len(shown) if shown else math.nan,
        fidelity=min((part.fidelity for part in shown), default=math.nan),
        map_fidelity=min(told, default=math.nan),
        saturated_fraction=max((part.saturated_fraction for part in shown), default=math.nan),
    )
