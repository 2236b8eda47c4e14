"""An emulated laser that speaks SCPI as one of no maker in particular does, for the driver `scpi`.

    python -m opu_driver.emulators.scpi --port tcp --log laser.jsonl

prints the port to open, and serves until it is ended; see `opu_driver.emulators.laser_program`.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable

from opu_driver.emulators.laser_head import LaserHead
from opu_driver.emulators.laser_program import serve
from opu_driver.emulators.scpi_words import find_header

_NO_ERROR = '0,"No error"'
_UNKNOWN = '-113,"Undefined header"'
_OUT_OF_RANGE = '-222,"Data out of range"'
_CONFLICT = '-221,"Settings conflict"'

BENCH_KEYS: dict[str, str | float] = {
    "power_unit": "W",
    "set_power": "SOUR:POW {:.5f}",
    "ask_power": "SOUR:POW?",
    "emission_on": "OUTP ON",
    "emission_off": "OUTP OFF",
    "ask_emission": "OUTP?",
    "emitting_if": "1",
    "ask_interlock": "STAT:OPER:COND?",
    "interlock_closed_if": "not bit 2",
    "ask_key": "STAT:OPER:COND?",
    "key_on_if": "bit 1",
    "ask_warm": "STAT:OPER:COND?",
    "warm_if": "bit 4",
    "ask_fault": "SYST:FAUL?",
    "no_fault_if": "0",
    "ask_error": "SYST:ERR?",
}
"""The table that describes it in a bench file."""


class ScpiEmulator:
    """Answers as a laser with an SCPI interface does: questions only, errors in a queue.

    Args:
        head: What emits.
        serial: Serial number.
    """

    ending = b"\n"

    def __init__(self, head: LaserHead, serial: str = "4711") -> None:
        self.head = head
        self._errors: deque[str] = deque()
        self._questions: dict[str, Callable[[], str]] = {
            "*IDN?": lambda: f"opu,emulated SCPI laser,{serial},1.0",
            "SOURce:POWer?": lambda: f"{head.power_mw / 1e3:.5E}",
            "OUTPut?": lambda: "1" if head.shining else "0",
            "STATus:OPERation:CONDition?": lambda: str(self._condition()),
            "SYSTem:FAULt?": lambda: str(head.fault),
            "SYSTem:ERRor?": lambda: self._errors.popleft() if self._errors else _NO_ERROR,
        }
        self._orders: dict[str, Callable[[str], str]] = {
            "SOURce:POWer": self._set_power,
            "OUTPut": self._set_output,
        }

    def tick(self) -> None:
        """Let what is due by now happen."""
        self.head.settle()

    def open_interlock(self) -> None:
        """Open the interlock."""
        self.head.open_interlock()

    def answer(self, command: str) -> list[str]:
        """The value that was asked for; nothing to a command."""
        self.head.logbook.heard(self.head.clock(), command)
        header, _, argument = command.strip().partition(" ")
        if header.endswith("?"):
            ask = find_header(header, self._questions)
            if ask is not None:
                return [ask()]
            self._errors.append(_UNKNOWN)
            return []
        obey = find_header(header, self._orders)
        error = _UNKNOWN if obey is None else obey(argument.strip().upper())
        if error:
            self._errors.append(error)
        return []

    def _condition(self) -> int:
        """Bits: 1 the key is on, 2 the interlock is open, 4 the power is what was set."""
        head = self.head
        settled = head.shining and not head.warming_up
        return head.key_on << 1 | (not head.interlock_closed) << 2 | settled << 4

    def _set_power(self, argument: str) -> str:
        try:
            power_mw = float(argument) * 1e3
        except ValueError:
            return _UNKNOWN
        if not 0 <= power_mw <= self.head.max_power_mw * (1 + 1e-9):
            return _OUT_OF_RANGE
        self.head.power_mw = power_mw
        return ""

    def _set_output(self, argument: str) -> str:
        if argument in ("OFF", "0"):
            self.head.turn_off()
            return ""
        if argument not in ("ON", "1"):
            return _OUT_OF_RANGE
        return "" if self.head.turn_on() else _CONFLICT


if __name__ == "__main__":
    sys.exit(serve(ScpiEmulator))
