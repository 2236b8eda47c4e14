"""The modulator's contract: patterns are loaded as a batch and shown one after another.

A DMD has two levels and takes bit-packed patterns; an SLM has many and takes one level a pixel.
They differ in `levels` and in what a layout can encode, not in interface.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from opu_driver.device import Device
from opu_driver.errors import DeviceStateError, PatternError, SettingError

Patterns = NDArray[np.uint8]
"""A batch of patterns, as the modulator stores them.

Two levels: uint8 `[pattern, row, ceil(columns / 8)]`, eight mirrors a byte, the leftmost mirror
in the most significant bit (the order of `numpy.packbits`). More levels: uint8
`[pattern, row, column]`, one level a pixel.
"""


class Modulator(Device):
    """A DMD or SLM.

    Attributes:
        has_trigger_line: Whether such devices can give edges at all.
    """

    has_trigger_line: ClassVar[bool] = True

    _loaded: int = 0
    _next: int = 0

    @property
    @abstractmethod
    def shape(self) -> tuple[int, int]:
        """Rows and columns of mirrors or pixels."""

    @property
    @abstractmethod
    def levels(self) -> int:
        """2 for a DMD; the number of phase levels, at most 256, for an SLM."""

    @property
    @abstractmethod
    def pitch_um(self) -> float:
        """Distance between neighbouring mirrors or pixels, micrometres."""

    @property
    @abstractmethod
    def max_rate_hz(self) -> float:
        """Highest rate at which patterns can follow each other."""

    @property
    @abstractmethod
    def settling_us(self) -> float:
        """Time after a pattern's trigger edge until the mirrors rest, microseconds."""

    @property
    @abstractmethod
    def capacity(self) -> int:
        """How many patterns one batch may hold."""

    @property
    def next_count(self) -> int | None:
        """How many patterns the next batch has to have; None for any number.

        A recording that is replayed knows only the batches of then.
        """
        return None

    @property
    def loads_while_showing(self) -> bool:
        """Whether `load` may store the next batch beside one that is being shown."""
        return False

    @property
    def gives_edges(self) -> bool:
        """Whether each pattern of a started batch comes with an edge on a trigger line."""
        return self.has_trigger_line

    @property
    def takes_edges(self) -> bool:
        """Whether patterns can follow an external trigger line (`start_on_edges`)."""
        return False

    @property
    def pattern_shape(self) -> tuple[int, int]:
        """Shape of one stored pattern: `[row, byte]` for two levels, `[row, column]` for more."""
        rows, columns = self.shape
        return (rows, -(-columns // 8)) if self.levels == 2 else (rows, columns)

    def check_patterns(self, patterns: Patterns) -> None:
        """Refuse patterns that this modulator cannot show, however many there are.

        Raises:
            PatternError: Wrong shape, type or level.
        """
        if (
            patterns.dtype != np.uint8
            or patterns.ndim != 3
            or patterns.shape[1:] != self.pattern_shape
        ):
            raise PatternError(
                f"Patterns are {patterns.dtype} {list(patterns.shape)}; this modulator takes uint8 "
                f"[n, {self.pattern_shape[0]}, {self.pattern_shape[1]}]. Make them with a Layout."
            )
        if 2 < self.levels < 256 and patterns.size and int(patterns.max()) >= self.levels:
            raise PatternError(
                f"Level {int(patterns.max())} in a pattern; this modulator knows 0 to "
                f"{self.levels - 1}. Make patterns with a Layout."
            )

    def load(self, patterns: Patterns) -> None:
        """Store a batch, replacing the one before; nothing is shown yet.

        A batch that is being shown goes on where the modulator `loads_while_showing`; others
        refuse until it is over.

        Args:
            patterns: See `Patterns`; 1 to `capacity` of them.

        Raises:
            PatternError: Wrong shape, type, level, or more than `capacity`.
            DeviceStateError: The device is not open, or busy showing and has no second buffer.
        """
        self._require_open()
        self.check_patterns(patterns)
        if not 1 <= len(patterns) <= self.capacity:
            raise PatternError(
                f"{len(patterns)} patterns in one batch; this modulator holds 1 to "
                f"{self.capacity}. Send them in several batches (Bench.stream does)."
            )
        self._load(patterns)
        self._loaded = len(patterns)
        self._next = 0

    def start(self, rate_hz: float) -> None:
        """Show the loaded batch once on the modulator's own clock, one trigger edge a pattern.

        Returns at once; `wait` tells when the batch has been shown.

        Args:
            rate_hz: Patterns a second, above 0 and at most `max_rate_hz`.

        Raises:
            SettingError: The rate is out of range.
            DeviceStateError: Not open, or nothing is loaded.
        """
        self._require_loaded()
        if not 0 < rate_hz <= self.max_rate_hz:
            raise SettingError(
                f"A pattern rate of {rate_hz:g} Hz; this modulator goes up to "
                f"{self.max_rate_hz:g} Hz. Lower the rate."
            )
        self._next = self._loaded
        self._start(rate_hz)

    def start_on_edges(self) -> None:
        """Show the loaded batch once, a pattern for each edge on the external trigger line.

        Raises:
            SettingError: This modulator takes no edges.
            DeviceStateError: Not open, or nothing is loaded.
        """
        self._require_loaded()
        if not self.takes_edges:
            raise SettingError(
                f"{type(self).__name__} has no trigger input; start(rate_hz) shows the batch on "
                "its own clock."
            )
        self._next = self._loaded
        self._start_on_edges()

    def step(self) -> int:
        """Show the next pattern of the loaded batch and hold it; returns its index.

        Returns only when the mirrors rest.

        Raises:
            DeviceStateError: Not open, nothing loaded, or the batch is at its end.
        """
        self._require_loaded()
        if self._next >= self._loaded:
            raise DeviceStateError(
                f"All {self._loaded} loaded patterns have been shown; load a new batch."
            )
        index = self._next
        self._step(index)
        self._next += 1
        return index

    def wait(self, timeout_s: float) -> int:
        """Wait until a started batch is over; returns how many patterns were shown since `load`.

        Raises:
            CaptureTimeoutError: The batch was still running when the time was up.
        """
        self._require_open()
        return self._wait(timeout_s)

    def stop(self) -> None:
        """End a running batch; the mirrors go to their resting state."""
        self._require_open()
        self._stop()

    def _require_loaded(self) -> None:
        self._require_open()
        if not self._loaded:
            raise DeviceStateError("No patterns are loaded; call load(patterns) first.")

    @abstractmethod
    def _load(self, patterns: Patterns) -> None: ...

    @abstractmethod
    def _start(self, rate_hz: float) -> None: ...

    def _start_on_edges(self) -> None:
        raise NotImplementedError  # implemented where `takes_edges` is true

    @abstractmethod
    def _step(self, index: int) -> None: ...

    @abstractmethod
    def _wait(self, timeout_s: float) -> int: ...

    @abstractmethod
    def _stop(self) -> None: ...
