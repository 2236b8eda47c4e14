"""The virtual DMD and the virtual SLM."""

from __future__ import annotations

import numpy as np

from opu_driver.device import Identity
from opu_driver.errors import DeviceError, SettingError
from opu_driver.modulator import Modulator, Patterns
from opu_driver.virtual.scene import Scene

MAX_MIRRORS = 1 << 24
"""Largest modulator."""


class VirtualModulator(Modulator):
    """What DMD and SLM have in common: patterns, played into a scene.

    Args:
        scene: Where its light goes.
        shape: Rows and columns of mirrors or pixels.
        pitch_um: Distance between neighbours, micrometres.
        max_rate_hz: Highest pattern rate.
        capacity: Patterns that a batch may hold.

    Raises:
        SettingError: The shape has fewer rows or columns than the scene has cells, the rows of the
            reference arm left out, or more than `MAX_MIRRORS` mirrors, or a number is not positive.
    """

    simulated = True

    _model: str

    def __init__(
        self,
        scene: Scene,
        shape: tuple[int, int],
        pitch_um: float,
        max_rate_hz: float,
        capacity: int,
    ) -> None:
        cells, reference_rows = scene.settings.cells, scene.settings.reference_rows
        if shape[0] - reference_rows < cells[0] or shape[1] < cells[1]:
            raise SettingError(
                f"A modulator of shape {shape[0]} x {shape[1]}, {reference_rows} rows of it in the "
                f"reference arm; the scene tells {cells[0]} x {cells[1]} cells apart on the "
                "others. Make the modulator larger, or set scene.cells or scene.reference_rows."
            )
        if shape[0] * shape[1] > MAX_MIRRORS:
            raise SettingError(
                f"A modulator of shape {shape[0]} x {shape[1]}; at most {MAX_MIRRORS} mirrors."
            )
        if not (pitch_um > 0 and max_rate_hz > 0 and capacity > 0):
            raise SettingError(
                f"pitch_um = {pitch_um:g}, max_rate_hz = {max_rate_hz:g}, capacity = {capacity}: "
                "all must be above 0."
            )
        self._scene = scene
        self._shape = (int(shape[0]), int(shape[1]))
        self._pitch_um = pitch_um
        self._max_rate_hz = max_rate_hz
        self._capacity = capacity
        self._patterns: Patterns | None = None
        self._shown = 0
        self._loads = 0
        scene.install(self, "modulator")

    @property
    def identity(self) -> Identity:
        """The serial number is the scene's seed."""
        return Identity("opu", self._model, f"{self._scene.seed}")

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of mirrors or pixels."""
        return self._shape

    @property
    def pitch_um(self) -> float:
        """Distance between neighbours, micrometres."""
        return self._pitch_um

    @property
    def max_rate_hz(self) -> float:
        """Highest pattern rate."""
        return self._max_rate_hz

    @property
    def settling_us(self) -> float:
        """The scene's settling time, microseconds."""
        return self._scene.settings.settling_us

    @property
    def capacity(self) -> int:
        """Patterns that a batch may hold."""
        return self._capacity

    def _open(self) -> None:
        self._scene.optics()
        self._stop()

    def _close(self) -> None:
        self._patterns = None
        self._loaded = 0
        self._stop()

    def _load(self, patterns: Patterns) -> None:
        self._loads += 1
        if self._loads - 1 in self._scene.settings.faults.refused_loads:
            raise DeviceError(
                f"The modulator's memory is full: {len(patterns)} patterns find no room. Load "
                "fewer at once."
            )
        self._patterns = patterns.copy()
        self._shown = 0

    def _start(self, rate_hz: float) -> None:
        self._shown = self._loaded
        self._scene.play(self._pattern(slice(None)), 1e6 / rate_hz)

    def _step(self, index: int) -> None:
        self._shown = index + 1
        self._scene.hold(self._pattern(slice(index, index + 1)))

    def _wait(self, timeout_s: float) -> int:  # a played batch is over at once
        del timeout_s
        return self._shown

    def _stop(self) -> None:
        self._scene.hold(self._at_rest())

    def _pattern(self, some: slice) -> Patterns:
        if self._patterns is None:
            return self._at_rest()
        return self._patterns[some]

    def _at_rest(self) -> Patterns:
        return np.zeros((1, *self.pattern_shape), np.uint8)


class VirtualDMD(VirtualModulator):
    """A digital micromirror device: mirrors on or off.

    Args:
        scene: Where its light goes.
        shape: Rows and columns of mirrors.
        pitch_um: Distance between neighbouring mirrors, micrometres.
        max_rate_hz: Highest pattern rate.
        capacity: Patterns that a batch may hold.

    Raises:
        SettingError: As `VirtualModulator`.
    """

    _model = "virtual DMD"

    def __init__(
        self,
        scene: Scene,
        shape: tuple[int, int] = (64, 64),
        pitch_um: float = 10.8,
        max_rate_hz: float = 22_000.0,
        capacity: int = 4096,
    ) -> None:
        super().__init__(scene, shape, pitch_um, max_rate_hz, capacity)

    @property
    def levels(self) -> int:
        """2."""
        return 2


class VirtualSLM(VirtualModulator):
    """A phase modulator: level k of n delays the light by `2 pi k / n`.

    Args:
        scene: Where its light goes.
        shape: Rows and columns of pixels.
        levels: Phase levels, 3 to 256.
        pitch_um: Distance between neighbouring pixels, micrometres.
        max_rate_hz: Highest pattern rate.
        capacity: Patterns that a batch may hold.

    Raises:
        SettingError: As `VirtualModulator`, `levels` out of range, or fewer than 2 x 2 pixels for
            each of the scene's cells: a checkerboard of phases would not look dark.
    """

    _model = "virtual SLM"

    def __init__(
        self,
        scene: Scene,
        shape: tuple[int, int] = (64, 64),
        levels: int = 256,
        pitch_um: float = 9.2,
        max_rate_hz: float = 700.0,
        capacity: int = 4096,
    ) -> None:
        if not 3 <= levels <= 256:
            raise SettingError(f"levels = {levels}; a virtual SLM has 3 to 256.")
        cells = scene.settings.cells
        signal_rows = shape[0] - scene.settings.reference_rows
        if signal_rows < 2 * cells[0] or shape[1] < 2 * cells[1]:
            raise SettingError(
                f"An SLM of shape {shape[0]} x {shape[1]}; {signal_rows} of its rows light the "
                f"medium, and the scene tells {cells[0]} x {cells[1]} "
                "cells apart, and off is a checkerboard, dark where a cell has 2 x 2 pixels or "
                "more. Make the SLM larger, or set scene.cells."
            )
        self._levels = levels
        super().__init__(scene, shape, pitch_um, max_rate_hz, capacity)

    @property
    def levels(self) -> int:
        """Phase levels."""
        return self._levels
