"""Patterns whose last rows step the phase of the reference.

No phase shifter is needed where a part of the modulator lights the reference arm instead of the
medium. Mirrors show a binary grating there, of which a slit passes the first order: moved by a part
of its period, it turns the phase by that part of a turn (Lee, Progress in Optics 16, 119, 1978). A
phase modulator shows an even phase. All on or all off is no reference at all: the bench's markers,
and frames of |S|^2 alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from calibration.phase_stepping import FOUR_STEPS, SteppedDemodulator
from calibration.saturation import checked_saturation
from opu_driver.bench import Bench
from opu_driver.errors import PatternError, SettingError
from opu_driver.layout import Layout
from opu_driver.modulator import Patterns

GRATING_PERIOD = 8
"""Columns of a grating's period: quarters of a turn are two columns."""


@dataclass(frozen=True)
class SteppedReference:
    """The rows of a modulator that make the reference, and the steps that they show.

    Attributes:
        shape: Rows and columns of the modulator.
        levels: The modulator's levels.
        rows: How many of its last rows light the reference arm.
        turns: The phases to show, in turns.
        period: Columns of the grating's period that the slit is set for (two levels only).

    Raises:
        SettingError: No rows, no signal arm left, or phases that the modulator cannot show exactly.
    """

    shape: tuple[int, int]
    levels: int
    rows: int
    turns: tuple[float, ...] = FOUR_STEPS
    period: int = GRATING_PERIOD

    def __post_init__(self) -> None:
        if not 0 < self.rows < self.shape[0]:
            raise SettingError(
                f"{self.rows} rows of a modulator of {self.shape[0]} for the reference; give at "
                "least one, and leave some for the inputs."
            )
        steps = self.period if self.levels == 2 else self.levels
        if steps < 2 or steps % 2:
            raise SettingError(
                f"A grating of {self.period} columns on {self.levels} levels; its period, or the "
                "levels of a phase modulator, have to be even."
            )
        for turn in self.turns:
            if abs(turn * steps - round(turn * steps)) > 1e-9:
                raise SettingError(
                    f"A phase of {turn:g} turns; this reference steps by 1/{steps} of a turn. Use "
                    "multiples of it, or another period."
                )

    @classmethod
    def on(cls, bench: Bench, rows: int, **more: Any) -> Self:
        """The last rows of a bench's modulator.

        Args:
            bench: An open bench.
            rows: How many.
            **more: `turns` and `period`, if they differ from the defaults.

        Raises:
            SettingError: As the class.
        """
        return cls(bench.modulator.shape, bench.modulator.levels, rows, **more)

    def layout(self, n_inputs: int) -> Layout:
        """Where vectors of length `n_inputs` lie on the rows that light the medium.

        Raises:
            PatternError: They do not fit.
        """
        return Layout.fit(n_inputs, (self.shape[0] - self.rows, self.shape[1]), self.levels)

    def patterns(self, signal: Patterns) -> Patterns:
        """Whole patterns: each of the signal's with the reference at all its phases.

        Args:
            signal: What a `layout` has rendered, `[pattern, row, ...]`.

        Returns:
            `[pattern x step, row, ...]`.

        Raises:
            PatternError: Patterns of another height or width.
        """
        steps = np.concatenate([self._step(turn) for turn in self.turns])
        return self._joined(
            np.repeat(signal, len(steps), axis=0), np.tile(steps, (len(signal), 1, 1))
        )

    def dark(self, signal: Patterns) -> Patterns:
        """Whole patterns without a reference: frames of |S|^2 alone.

        Raises:
            PatternError: Patterns of another height or width.
        """
        return self._joined(signal, np.repeat(self._off, len(signal), axis=0))

    @property
    def _off(self) -> Patterns:
        return Layout.fit(1, (self.rows, self.shape[1]), self.levels).all_off()

    def _step(self, turn: float) -> Patterns:
        """The rows of the reference at one phase, `[1, row, ...]`."""
        columns = self.shape[1]
        if self.levels == 2:
            shifted = np.arange(columns) - round(turn * self.period)
            line = np.packbits(shifted % self.period < self.period // 2)
        else:
            line = np.full(columns, round(turn * self.levels) % self.levels, np.uint8)
        return np.broadcast_to(line, (1, self.rows, len(line)))

    def _joined(self, signal: Patterns, reference: Patterns) -> Patterns:
        height, width = self.shape[0] - self.rows, reference.shape[2]
        if signal.ndim != 3 or signal.shape[1:] != (height, width):
            raise PatternError(
                f"Patterns of shape {list(signal.shape)}; beside {self.rows} rows of reference "
                f"there are [n, {height}, {width}]. Render them with this reference's layout."
            )
        return np.concatenate([signal, reference], axis=1)


def stepped_fields(
    bench: Bench,
    reference: SteppedReference,
    demodulate: SteppedDemodulator,
    signal: Iterable[Patterns],
    *,
    max_saturated_fraction: float = 1e-3,
) -> Iterator[NDArray[Any]]:
    """Show signals at all phases of the reference, and yield their fields, sequence by sequence.

    Args:
        bench: An open bench.
        reference: What steps.
        demodulate: What turns the steps' frames into fields; it may have been made for measured
            phases instead of nominal ones.
        signal: Batches of what the reference's `layout` has rendered.
        max_saturated_fraction: Largest allowed fraction of pixels at full scale.

    Yields:
        Fields `[pattern, mode]`, complex64, or float32 of two steps.

    Raises:
        SettingError: The demodulator is for another number of steps, or the modulator cannot hold
            one group of them.
        PatternError, FrameMismatchError, CaptureTimeoutError, LaserSafetyError, SaturationError: As
            `Bench.stream`.
    """
    steps = len(reference.turns)
    most = bench.longest_sequence // steps
    if demodulate.exposures != steps or not most:
        raise SettingError(
            f"A reference of {steps} steps, a demodulator for {demodulate.exposures}, a modulator "
            f"with room for sequences of {bench.longest_sequence} patterns: the steps have to "
            "be as many, and one group of them has to fit."
        )
    batches = (
        reference.patterns(batch[first : first + most])
        for batch in signal
        for first in range(0, len(batch), most)
    )
    for sequence in bench.stream(batches):
        checked_saturation(sequence, bench.camera.saturation_level, max_saturated_fraction)
        yield demodulate(sequence.frames).reshape(-1, demodulate.n_modes)
