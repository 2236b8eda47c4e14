"""Any SLM or DMD that the computer takes for a monitor.

The patterns are shown in a window that covers the monitor pixel for pixel (`display_window`), in
a process of its own. A monitor has no trigger line and tells nobody when it has scanned out a
frame, so what can be promised is this: `step` returns when the window system has taken the pattern,
and after that `latency_frames` refreshes and the settling time have passed. How many refreshes
a pattern needs to come out depends on the graphics card, the desktop (one more where it composes
windows) and the modulator's own electronics (one more where it stores frames); measure it once with
the camera.

What a monitor is and says: Qt documentation, classes QScreen (`name`, `manufacturer`, `model`,
`serialNumber`, `refreshRate`) and QGuiApplication (`screens`, `primaryScreen`).
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Literal

import numpy as np

from opu_driver.device import Found, Identity
from opu_driver.errors import (
    CaptureTimeoutError,
    DeviceError,
    DeviceLostError,
    DeviceNotFoundError,
    DeviceStateError,
    SettingError,
)
from opu_driver.modulator import Modulator, Patterns
from opu_driver.modulators.display_process import DisplayProcess
from opu_driver.modulators.grey_levels import WHITE, phase_greys, read_greys

_POLL_S = 2e-3


class Display(Modulator):
    """A modulator that is a second monitor; it is stepped by software.

    `start` shows the batch on the clock of the window's process, and gives no trigger edges: use it
    with cameras that need none, and `trigger = "software"` on a bench. No pattern is ever left
    out: on a busy machine patterns are late instead, see `late_us`.

    Args:
        screen: Name or index of the monitor; `discover` tells which there are.
        pitch_um: Distance between neighbouring mirrors or pixels, micrometres.
        levels: 2 for mirrors that are on or off; up to 256 for phases.
        shape: Rows and columns that the monitor must have; None for those it has.
        levels_per_2pi: The grey value whose phase is 2 pi at the laser's wavelength.
        gamma: The phase follows the grey value to this power.
        lookup_table: Text file with the grey value of each level, instead of `levels_per_2pi` and
            `gamma`; see `grey_levels.read_greys`.
        settling_us: From the scan-out of a pattern until the mirrors or the liquid crystal rest,
            microseconds.
        latency_frames: Refreshes after which a pattern has surely been scanned out.
        refresh_hz: Refresh rate of the monitor; None for what the window system says (60 where it
            does not know).
        capacity: Patterns that a batch may hold; they are kept in memory.
        compare: When to compare what is scanned out with what was asked for: once on opening, or
            for every pattern, which takes tens of milliseconds each on a large monitor.

    Raises:
        SettingError: A number out of range, or a lookup table that does not fit.
    """

    has_trigger_line = False

    def __init__(
        self,
        screen: str | int,
        pitch_um: float,
        levels: int = 256,
        shape: tuple[int, int] | None = None,
        levels_per_2pi: float = 256.0,
        gamma: float = 1.0,
        lookup_table: str | None = None,
        settling_us: float = 0.0,
        latency_frames: int = 3,
        refresh_hz: float | None = None,
        capacity: int = 256,
        compare: Literal["opening", "every"] = "opening",
    ) -> None:
        if not 2 <= levels <= 256:
            raise SettingError(f"levels = {levels}; a monitor shows 2 to 256.")
        if not (pitch_um > 0 and settling_us >= 0 and latency_frames >= 1 and capacity >= 1):
            raise SettingError(
                f"pitch_um = {pitch_um:g}, settling_us = {settling_us:g}, latency_frames = "
                f"{latency_frames}, capacity = {capacity}: the settling time is 0 or more, the "
                "pitch above 0, the others at least 1."
            )
        if refresh_hz is not None and not refresh_hz > 0:
            raise SettingError(f"refresh_hz = {refresh_hz:g}; it must be above 0.")
        if lookup_table is not None:
            if (levels_per_2pi, gamma) != (256.0, 1.0):
                raise SettingError(
                    "lookup_table and levels_per_2pi or gamma: the table holds them already. Give "
                    "one or the other."
                )
            self._greys = read_greys(Path(lookup_table), levels)
        elif levels == 2:
            self._greys = [0, WHITE]
        else:
            self._greys = phase_greys(levels, levels_per_2pi, gamma)
        self._screen = screen
        self._pitch_um = pitch_um
        self._levels = levels
        self._wanted_shape = shape
        self._settling_us = settling_us
        self._latency_frames = latency_frames
        self._wanted_refresh_hz = refresh_hz
        self._capacity = capacity
        self._compare_each = compare == "every"
        self._process: DisplayProcess | None = None
        self._found: dict[str, Any] = {}
        self._stepped = 0
        self._late_s = 0.0
        self._playing = False

    @classmethod
    def discover(cls) -> list[Found]:
        """The monitors; nothing is shown on any of them.

        Raises:
            DriverMissingError: PySide6 is not installed.
        """
        process = DisplayProcess()
        try:
            screens = process.ask("screens")["screens"]
        except DeviceLostError:
            return []  # there is no desktop
        finally:
            process.close()
        return [
            Found(
                _identity(screen),
                {"screen": screen["name"]},
                reservation="the desktop's own monitor" if screen["primary"] else "",
            )
            for screen in screens
        ]

    @property
    def address(self) -> str:
        """The monitor, as the bench file names it."""
        return f"screen {self._screen}"

    @property
    def identity(self) -> Identity:
        """What the monitor says in its EDID; its name where it has no serial number."""
        return _identity(self._screen_found)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the monitor; known once it is open."""
        rows, columns = self._screen_found["shape"]
        return rows, columns

    @property
    def levels(self) -> int:
        """2 for mirrors, up to 256 for phases."""
        return self._levels

    @property
    def pitch_um(self) -> float:
        """Distance between neighbouring mirrors or pixels, micrometres."""
        return self._pitch_um

    @property
    def refresh_hz(self) -> float:
        """Refreshes of the monitor a second."""
        return self._wanted_refresh_hz or float(self._screen_found["refresh_hz"])

    @property
    def max_rate_hz(self) -> float:
        """Each pattern stays until it has surely been scanned out and has settled.

        Painting comes on top, some milliseconds on a large monitor: at this rate, patterns of
        a started batch are late.
        """
        return 1.0 / self._hold_s

    @property
    def settling_us(self) -> float:
        """From the scan-out of a pattern until it rests, microseconds."""
        return self._settling_us

    @property
    def capacity(self) -> int:
        """Patterns that a batch may hold."""
        return self._capacity

    @property
    def late_us(self) -> float:
        """How far the worst pattern of the last started batch was behind the clock, microseconds.

        As far as `wait` has seen it.
        """
        return 1e6 * self._late_s

    def _open(self) -> None:
        self._process = DisplayProcess()
        try:
            self._process.ask("screens")
        except DeviceLostError as error:
            raise DeviceNotFoundError(
                f"There is no desktop to show a window on. {error}"
            ) from error
        found = self._process.ask(
            "open", screen=self._screen, shape=self._wanted_shape, greys=self._greys
        )
        self._found = found
        self._prove_scan_out()

    def _prove_scan_out(self) -> None:
        """Every grey value at random places, as its own proof that nothing is scaled or changed."""
        bytes_each = self._pattern_bytes
        random = np.random.default_rng(0).integers(0, 256, bytes_each, np.uint8)
        if self._levels > 2:
            random %= np.uint8(min(self._levels, 255))
            random[0] = self._levels - 1
        self._ask("load", payload=random.data, patterns=1)
        for index in (0, -1):
            self._ask("show", index=index)
            time.sleep(self._hold_s)
            self._ask("compare")

    def _close(self) -> None:
        self._loaded = 0
        self._playing = False
        self._found = {}
        if self._process is not None:
            self._process.close()
            self._process = None

    def _load(self, patterns: Patterns) -> None:
        if self._playing and self._progress()["running"]:
            raise DeviceStateError(
                "A batch is being shown; wait(timeout_s) for its end, or stop() it, then load."
            )
        self._playing = False
        self._stepped = 0
        payload = np.ascontiguousarray(patterns).reshape(-1).data
        self._ask("load", payload=payload, patterns=len(patterns))

    def _start(self, rate_hz: float) -> None:
        self._late_s = 0.0
        self._ask("play", period_s=1.0 / rate_hz, hold_s=self._hold_s, compare=self._compare_each)
        self._playing = True

    def _step(self, index: int) -> None:
        self._playing = False
        self._ask("show", index=index)
        time.sleep(self._hold_s)
        if self._compare_each:
            self._ask("compare")
        self._stepped = index + 1

    def _wait(self, timeout_s: float) -> int:
        if not self._playing:
            return self._stepped
        deadline_s = time.monotonic() + timeout_s
        while (progress := self._progress())["running"]:
            if time.monotonic() > deadline_s:
                raise CaptureTimeoutError(
                    f"After {timeout_s:g} s {progress['shown']} of {self._loaded} patterns have "
                    "been shown. Wait longer, or stop() the batch."
                )
            time.sleep(_POLL_S)
        shown: int = progress["shown"]
        return shown

    def _stop(self) -> None:
        self._ask("show", index=-1)

    def _progress(self) -> dict[str, Any]:
        try:
            progress = self._ask("progress")
        except DeviceError:
            self._playing = False
            raise
        self._late_s = progress["late_s"]
        return progress

    def _ask(self, do: str, **arguments: Any) -> dict[str, Any]:
        if self._process is None:
            raise DeviceStateError("The display is not open.")
        return self._process.ask(do, **arguments)

    @property
    def _screen_found(self) -> dict[str, Any]:
        if not self._found:
            raise DeviceStateError(
                "The display is not open; which monitor it is shows when it is opened."
            )
        return self._found

    @property
    def _pattern_bytes(self) -> int:
        rows, columns = self.pattern_shape
        return rows * columns

    @property
    def _hold_s(self) -> float:
        return self._latency_frames / self.refresh_hz + 1e-6 * self._settling_us


def _identity(screen: dict[str, Any]) -> Identity:
    return Identity(
        screen["vendor"] or "unknown",
        screen["model"] or "monitor",
        screen["serial"] or screen["name"],
    )
