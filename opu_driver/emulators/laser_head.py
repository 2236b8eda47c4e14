"""The laser behind an emulated protocol: key, interlock, faults, warm-up, and the light itself.

The light depends on nobody listening: it goes on when whoever turned it on has vanished, as that
of a real laser does.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from opu_driver.emulators.logbook import Logbook


class LaserHead:
    """What emits; the emulated protocols are ways to talk to it.

    The power rises linearly to what is set while the head warms up, each time that it is turned on.

    Args:
        max_power_mw: Highest power, milliwatts.
        wavelength_nm: Vacuum wavelength, nanometres.
        warm_up_s: From the beginning of emission to full power, seconds.
        delay_s: From the command to the beginning of emission, seconds (21 CFR 1040.10 wants one).
        logbook: Where light and commands are noted.
        clock: Seconds that pass, as `time.monotonic`.
    """

    def __init__(
        self,
        max_power_mw: float = 100.0,
        wavelength_nm: float = 532.0,
        warm_up_s: float = 0.0,
        delay_s: float = 0.0,
        logbook: Logbook | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.max_power_mw = max_power_mw
        self.wavelength_nm = wavelength_nm
        self.warm_up_s = warm_up_s
        self.delay_s = delay_s
        self.logbook = logbook or Logbook()
        self.clock = clock
        self._lock = threading.RLock()
        self._power_mw = 0.0
        self._begin_s: float | None = None
        self._shining = False
        self._key_on = True
        self._interlock_closed = True
        self._fault = 0

    @property
    def power_mw(self) -> float:
        """The power that is set, milliwatts."""
        return self._power_mw

    @power_mw.setter
    def power_mw(self, power_mw: float) -> None:
        with self._lock:
            self.settle()
            self._power_mw = power_mw
            if self._shining:
                self.logbook.shone(self.clock(), power_mw)

    @property
    def output_mw(self) -> float:
        """The power that leaves the laser at this moment, milliwatts."""
        with self._lock:
            self.settle()
            if not self._shining or self._begin_s is None:
                return 0.0
            if self.warm_up_s <= 0:
                return self._power_mw
            return self._power_mw * min((self.clock() - self._begin_s) / self.warm_up_s, 1.0)

    @property
    def shining(self) -> bool:
        """Whether it emits."""
        with self._lock:
            self.settle()
            return self._shining

    @property
    def starting(self) -> bool:
        """Whether it was turned on and does not emit yet."""
        with self._lock:
            self.settle()
            return self._begin_s is not None and not self._shining

    @property
    def warming_up(self) -> bool:
        """Whether it was turned on and does not give its full power yet."""
        with self._lock:
            return self._begin_s is not None and self.clock() < self._begin_s + self.warm_up_s

    @property
    def key_on(self) -> bool:
        """Whether the key switch is on."""
        return self._key_on

    @property
    def interlock_closed(self) -> bool:
        """Whether the interlock is closed."""
        return self._interlock_closed

    @property
    def fault(self) -> int:
        """The fault, a code of the protocol's; 0 for none."""
        return self._fault

    def turn_on(self) -> bool:
        """Begin to emit; returns whether key, interlock and faults let it."""
        with self._lock:
            self.settle()
            if not (self._key_on and self._interlock_closed and self._fault == 0):
                return False
            if self._begin_s is None:
                self._begin_s = self.clock() + self.delay_s
            self.settle()
            return True

    def turn_off(self) -> None:
        """Be dark."""
        with self._lock:
            self.settle()
            self._begin_s = None
            if self._shining:
                self._shining = False
                self.logbook.shone(self.clock(), 0.0)

    def settle(self) -> None:
        """Let what was due by now have happened at its time."""
        with self._lock:
            if self._begin_s is not None and not self._shining and self.clock() >= self._begin_s:
                self._shining = True
                self.logbook.shone(self._begin_s, self._power_mw)

    def turn_key(self, on: bool) -> None:
        """Turn the key switch; turning it off ends emission and clears the fault."""
        with self._lock:
            self._key_on = on
            if not on:
                self.turn_off()
                self._fault = 0

    def open_interlock(self, fault: int = 0) -> None:
        """Open the interlock, which ends emission.

        Args:
            fault: Code that a protocol keeps until it is cleared; 0 for none.
        """
        with self._lock:
            self._interlock_closed = False
            self.turn_off()
            self._fault = self._fault or fault

    def close_interlock(self) -> None:
        """Close the interlock; emission does not come back by itself."""
        with self._lock:
            self._interlock_closed = True

    def fail(self, fault: int) -> None:
        """Have a fault, which ends emission.

        Args:
            fault: A code of the protocol's, above 0.
        """
        with self._lock:
            self._fault = fault
            self.turn_off()

    def clear_fault(self) -> None:
        """Have no fault."""
        with self._lock:
            self._fault = 0
