"""A calibration that follows its medium: a recalibration by a few vectors, for `OpticalProjector`.

What the medium has changed since is measured first, by how well the matrix predicts the fields of
new vectors. Then these correct it (see `matrix_update`): with as many vectors as
a new measurement has it is better than that, with fewer it takes fewer exposures.
"""

from __future__ import annotations

import logging
import math
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from calibration import drift, quality
from calibration.calibration_file import Calibration
from calibration.errors import DecorrelationError
from calibration.hadamard import HadamardVectors
from calibration.matrix_update import MatrixUpdate
from calibration.method import DEFAULT_METHOD, Method
from calibration.saturation import checked_saturation
from calibration.signed_fields import signed_fields
from opu_driver.bench import Bench
from opu_driver.errors import SettingError

log = logging.getLogger("opu.follower")

_ALL_ON = 8  # pairs that tell the field of all inputs on
_SATURATED = 1e-3  # of the pixels, at most
_ENOUGH = 64  # vectors after which the error of a small matrix hardly counts
_HELD_OUT = 8  # random vectors that test the result


class MatrixFollower:
    """Called with a bench, it returns the calibration as the medium is now.

    Give it to `OpticalProjector(bench, calibration, recalibrate=MatrixFollower(calibration))`. It
    goes on from its own last result.

    Args:
        calibration: The first one.
        vectors: How many vectors are shown for an update; None for as many as it has inputs, and
            64 at least, which cost next to nothing.
        min_fidelity: Smallest fidelity of the present map to the known one that is worth an update;
            below it, calibrate anew.

    Attributes:
        calibration: The last one.
        fidelity: Of the medium to the one before, as the last update found it; NaN before.

    Raises:
        SettingError: A number out of its limits.
    """

    def __init__(
        self, calibration: Calibration, *, vectors: int | None = None, min_fidelity: float = 0.1
    ) -> None:
        if (vectors is not None and vectors < 1) or not 0 < min_fidelity <= 1:
            raise SettingError(
                f"vectors = {vectors}, min_fidelity = {min_fidelity:g}; at least 1, and above 0 to "
                "1."
            )
        self.calibration = calibration
        self.fidelity = math.nan
        self._first = calibration
        self._vectors = max(calibration.n_inputs, _ENOUGH) if vectors is None else vectors
        self._min_fidelity = min_fidelity
        self._shown = 0
        method = Method.of(DEFAULT_METHOD, calibration.n_inputs)
        self._noise_to_signal = method.noise_to_signal(calibration.quality.snr)
        self._noise = self._noise_to_signal * float(np.mean(np.abs(calibration.T) ** 2))
        self._update = MatrixUpdate(
            calibration.T,
            error=calibration.quality.matrix_noise,
            decorrelation=0.0,
            noise_to_signal=self._noise_to_signal,
        )

    def __call__(self, bench: Bench) -> Calibration:
        """Measure a few vectors, and correct the matrix by them.

        Raises:
            DecorrelationError: The medium is another: too little of it is known to go on from.
            StaleCalibrationError, LowSignalError, SaturationError: As `signed_fields`.
            FrameMismatchError, CaptureTimeoutError, LaserSafetyError: As `Bench.stream`.
        """
        n, update = self._first.n_inputs, self._update
        bench.configure(replace(bench.settings, exposure_us=self._first.settings.exposure_us))
        known_on = update.matrix.sum(axis=1)
        ones = np.ones((_ALL_ON, n), np.uint8)
        on = signed_fields(bench, self._first, ones, all_on=known_on).mean(axis=0)
        # Each update goes on with the rows where the last one ended, so that all get their turn.
        end = self._shown + self._vectors
        rows = HadamardVectors(n, -(-end // HadamardVectors(n).order))
        bits = rows.bits(range(self._shown, end))
        tests = np.random.default_rng(end).integers(0, 2, (_HELD_OUT, n), np.uint8)
        every = np.concatenate([bits, tests])
        fields = signed_fields(bench, self._first, every, all_on=on)
        signs = 2 * every.astype(np.float32) - 1
        self._shown = end % (2 * rows.order)

        self.fidelity = self._fidelity(fields, signs @ update.matrix.T)
        if not self.fidelity >= self._min_fidelity:
            raise DecorrelationError(
                f"The medium has a fidelity of {self.fidelity:.3f} to the matrix of "
                f"{self.calibration.made_at}; at least {self._min_fidelity:g} is worth an update. "
                "Calibrate the bench anew."
            )
        update.forget(self.fidelity)
        update.add(signs[: self._vectors], fields[: self._vectors])
        reference = self._reference(bench, update.matrix.sum(axis=1) + self._first.bias)
        self.calibration = self._corrected(
            fields[self._vectors :], signs[self._vectors :], reference
        )
        log.info(
            "The matrix was corrected by %d vectors: the medium had a fidelity of %.3f, the error "
            "of new fields is now %.3f.",
            self._vectors,
            self.fidelity,
            self.calibration.quality.held_out_error,
        )
        return self.calibration

    def _fidelity(self, fields: NDArray[np.complex64], predicted: NDArray[np.complex64]) -> float:
        """Part of the medium's power that is still as it was, noise and error taken out."""
        light = float(np.vdot(fields, fields).real) - self._noise * fields.size
        power = float(np.vdot(predicted, predicted).real)
        overlap = float(np.abs(np.vdot(predicted, fields)))
        alike = overlap**2 / (max(light, 1e-30) * max(power, 1e-30))
        return min(alike / (1 - self._update.expected_error**2), 1.0)

    def _reference(self, bench: Bench, inputs_on: NDArray[np.complex64]) -> NDArray[np.complex64]:
        """The field of the all-on marker, which also lights mirrors that belong to no input.

        It is shown by turns with all inputs on, whose field the matrix knows.
        """
        first = self._first
        inputs = first.layout.render(np.ones((1, first.n_inputs), np.uint8))
        both = np.concatenate([inputs, bench.layout(1).all_on()])
        pairs = min(_ALL_ON, bench.longest_sequence // 2)
        fields = []
        for sequence in bench.stream([np.tile(both, (pairs, *[1] * (both.ndim - 1)))]):
            checked_saturation(sequence, bench.camera.saturation_level, _SATURATED)
            seen = first.demodulator()(sequence.frames).reshape(-1, 2, first.n_modes)
            gains = drift.factors(seen[:, 0], inputs_on).astype(np.complex64)
            fields.append((seen[:, 1] / gains[:, None]).mean(axis=0))
        reference: NDArray[np.complex64] = np.mean(fields, axis=0)
        return reference

    def _corrected(
        self,
        fields: NDArray[np.complex64],
        signs: NDArray[np.float32],
        reference: NDArray[np.complex64],
    ) -> Calibration:
        """The calibration with the present matrix; fields and signs are held out."""
        T = self._update.matrix.copy()
        variance = self._update.expected_error**2
        error = math.sqrt(variance / (1 - variance))
        signed_snr = len(signs.T) / self._noise_to_signal if self._noise_to_signal else math.inf
        predicted = signs @ T.T
        return replace(
            self._first,
            T=T,
            reference=reference,
            quality=replace(
                self._first.quality,
                matrix_noise=error,
                split_half=1 / math.sqrt(1 + error**2),
                held_out_correlation=quality.correlation(fields, predicted),
                held_out_error=quality.relative_error(fields, predicted),
                held_out_noise=quality.expected_held_out_error(signed_snr, error),
            ),
            made_at=datetime.now(UTC).isoformat(),
        )
