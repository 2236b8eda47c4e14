"""Stands in for the makers' libraries, so that this package runs anywhere.

A driver of yours has no such file: it imports the maker's library where it needs it. What matters
here is what real libraries do, too: they find devices, refuse to open one twice, round what they
are set to, know nothing of numpy, and raise errors of their own.
"""

from __future__ import annotations

import math
import time
from collections import deque

SERIALS = {"modulator": "D1", "camera": "C1", "laser": "L1"}
"""What is connected."""

_in_use: set[str] = set()


class VendorError(Exception):
    """What the library raises.

    Attributes:
        code: `absent`, `in use`, `gone` or `refused`.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Handle:
    """A device that is open."""

    def __init__(self, kind: str, serial: str) -> None:
        if SERIALS[kind] != serial:
            raise VendorError("absent", f"no {kind} {serial!r}")
        if serial in _in_use:
            raise VendorError("in use", f"{serial} is in use")
        _in_use.add(serial)
        self._serial = serial
        self.plugged = True

    def close(self) -> None:
        """Let go of the device."""
        _in_use.discard(self._serial)

    def answer(self) -> None:
        """What every call begins with."""
        if not self.plugged:
            raise VendorError("gone", f"{self._serial} does not answer")


class Mirrors(Handle):
    """64 x 128 mirrors with a memory for 200 patterns and a clock of whole microseconds."""

    ROWS, COLUMNS, MEMORY, SHORTEST_US = 64, 128, 200, 100

    def __init__(self, serial: str) -> None:
        super().__init__("modulator", serial)
        self.memory: list[bytes] = []
        self.mirrors = bytes(self.ROWS * self.COLUMNS // 8)
        self._ends_s = 0.0

    def upload(self, patterns: list[bytes]) -> None:
        """Replace what is in the memory."""
        self.answer()
        self.memory = patterns

    def run(self, period_us: int) -> None:
        """Show the memory once, a pattern and a trigger edge every period."""
        self.answer()
        self._ends_s = time.monotonic() + 1e-6 * period_us * len(self.memory)

    def hold(self, index: int) -> None:
        """Show one pattern until told otherwise."""
        self.answer()
        self.mirrors = self.memory[index]

    def halt(self) -> None:
        """Show nothing."""
        self.answer()
        self._ends_s = 0.0
        self.mirrors = bytes(len(self.mirrors))

    def left_s(self) -> float:
        """Seconds until a run is over; 0 if none goes on."""
        self.answer()
        return max(self._ends_s - time.monotonic(), 0.0)


class Sensor(Handle):
    """96 x 128 pixels of 12 bits, with exposures of whole multiples of 10 us."""

    ROWS, COLUMNS = 96, 128

    def __init__(self, serial: str) -> None:
        super().__init__("camera", serial)
        self.window = (0, 0, self.ROWS, self.COLUMNS)
        self.exposure_us = 1000
        self.bits = 8
        self.spoilt = 0
        self._counter = 0
        self._frames: deque[tuple[float, int, bytes]] = deque()

    def set_exposure(self, exposure_us: float) -> None:
        """Set it, rounded: this is what silently changes a measurement."""
        self.answer()
        self.exposure_us = round(exposure_us / 10) * 10

    def start(self) -> None:
        """Count from 0 again, without frames of before."""
        self.answer()
        self._counter = 0
        self._frames.clear()

    def trigger(self) -> None:
        """Expose once."""
        self.answer()
        _, _, height, width = self.window
        word = math.ceil(self.bits / 8)
        grey = self._counter % 2**self.bits
        frame = grey.to_bytes(word, "little") * (height * width)
        if self.spoilt:
            self.spoilt -= 1
            frame = frame[:-1]
        self._frames.append((time.monotonic() + 1e-6 * self.exposure_us, self._counter, frame))
        self._counter += 1

    def fetch(self, timeout_s: float) -> tuple[float, int, bytes] | None:
        """The next frame: seconds on the camera's clock, counter, bytes; None if none comes."""
        self.answer()
        if not self._frames:
            time.sleep(timeout_s)
            return None
        wait_s = self._frames[0][0] - time.monotonic()
        time.sleep(max(0.0, min(wait_s, timeout_s)))
        return self._frames.popleft() if wait_s <= timeout_s else None


class Diode(Handle):
    """A laser of up to 20 mW in steps of 0.01 mW."""

    MAX_MW = 20.0

    def __init__(self, serial: str) -> None:
        super().__init__("laser", serial)
        self.power_mw = 0.0
        self.on = False
        self.enclosure_closed = True

    def set_power(self, power_mw: float) -> None:
        """Set it, rounded."""
        self.answer()
        self.power_mw = round(power_mw, 2)

    def switch(self, on: bool) -> None:
        """Emit, or do not."""
        self.answer()
        if on and not self.enclosure_closed:
            raise VendorError("refused", "the interlock is open")
        self.on = on

    def state(self) -> int:
        """Bit 0: emits. Bit 1: the interlock is closed."""
        self.answer()
        return int(self.on and self.enclosure_closed) | int(self.enclosure_closed) << 1
