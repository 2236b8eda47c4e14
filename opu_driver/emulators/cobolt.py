"""An emulated Cobolt laser of the 06 or 08 series: the protocol of `opu_driver.lasers.cobolt`.

    python -m opu_driver.emulators.cobolt --port pty --log laser.jsonl

prints the port to open, and serves until it is ended; see `opu_driver.emulators.laser_program`.
In a process of one's own:

    head = LaserHead(max_power_mw=100.0)
    with TextServer(CoboltEmulator(head), "pty") as server:
        Cobolt(server.port)

and `head.output_mw` is the light.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable

from opu_driver.emulators.laser_head import LaserHead
from opu_driver.emulators.laser_program import serve

INTERLOCK_FAULT = 3
"""What `f?` says once the interlock has been open, until key or `cf` clear it."""

_ILLEGAL = "Syntax error: illegal command"
_OUT_OF_RANGE = "Syntax error: Value is out of range."


class CoboltEmulator:
    """Answers as a Cobolt laser does.

    Args:
        head: What emits.
        model: Model number; one whose last group is from 1000 on speaks the newer commands.
        serial: Serial number.
        autostart: Whether it is a laser that starts through autostart (CDRH) rather than by `l1`.
        has_key: Whether it has a key switch and knows the question for it.
    """

    ending = b"\r"

    def __init__(
        self,
        head: LaserHead,
        model: str = "0532-06-91-0100-700",
        serial: str = "17706",
        autostart: bool = True,
        has_key: bool = True,
    ) -> None:
        self.head = head
        self._model = model
        self._serial = serial
        self._autostart = autostart
        self._has_key = has_key
        self._mode = "0"
        self._newer = re.search(r"-1\d{3}(-C)?$", model) is not None

    def tick(self) -> None:
        """Let what is due by now happen."""
        self.head.settle()

    def open_interlock(self) -> None:
        """Open the interlock; the fault of it stays when it is closed again."""
        self.head.open_interlock(INTERLOCK_FAULT)

    def answer(self, command: str) -> list[str]:
        """The line that comes back."""
        self.head.logbook.heard(self.head.clock(), command)
        words = command.lower().removeprefix("\n").split()
        if not words:
            return [_ILLEGAL]
        question, *argument = words
        if question.endswith("?"):
            ask = self._questions().get(" ".join(words))
            return [_ILLEGAL if ask is None else ask()]
        return [self._obey(question, argument)]

    def _questions(self) -> dict[str, Callable[[], str]]:
        head = self.head
        known: dict[str, Callable[[], str]] = {
            "?": lambda: "OK",
            "l?": lambda: _flag(head.shining),
            "ilk?": lambda: _flag(not head.interlock_closed),
            "f?": lambda: str(head.fault),
            "@cobas?": lambda: _flag(self._autostart),
            "gsn?": lambda: self._serial,
            "sn?": lambda: self._serial,
            "glm?": lambda: self._model,
            "gfv?": lambda: "1.2.1.0" if self._newer else "2.1.0",
            "hrs?": lambda: "12.34",
        }
        if self._has_key:
            known["@cobasks?"] = lambda: _flag(head.key_on)
        if self._newer:
            return known | {
                "laser:runmode?": lambda: "ConstantPower" if self._mode == "1" else "Standby",
                "laser:cp:power:setpoint?": lambda: f"{head.power_mw:.1f}",
                "laser:cp:power:setpoint? max": lambda: f"{head.max_power_mw:.1f}",
                "laser:power?": lambda: f"{head.output_mw:.1f}",
            }
        return known | {
            "gam?": lambda: self._mode,
            "p?": lambda: f"{head.power_mw / 1e3:.4f}",
            "pa?": lambda: f"{head.output_mw / 1e3:.4f}",
            "gmlp?": lambda: f"{head.max_power_mw:.1f}",
        }

    def _obey(self, order: str, argument: list[str]) -> str:
        match (order, argument):
            case ("l0" | "@cob0", []):
                self.head.turn_off()
            case ("l1", []):
                if self._autostart:
                    return "Syntax error: not allowed in autostart mode."
                self.head.turn_on()
            case ("@cob1", []):
                self.head.turn_on()
            case ("cf", []):
                self.head.clear_fault()
            case ("cp", []) | ("laser:runmode", ["constantpower"]):
                if self._newer is (order == "cp"):
                    return _ILLEGAL
                self._mode = "1"
            case ("p" | "laser:cp:power:setpoint", [value]):
                if self._newer is (order == "p"):
                    return _ILLEGAL
                return self._set_power(value, 1.0 if self._newer else 1e3)
            case _:
                return _ILLEGAL
        return "OK"

    def _set_power(self, value: str, unit_mw: float) -> str:
        try:
            power_mw = float(value) * unit_mw
        except ValueError:
            return _ILLEGAL
        if not 0 <= power_mw <= self.head.max_power_mw * (1 + 1e-9):
            return _OUT_OF_RANGE
        self.head.power_mw = power_mw
        return "OK"


def _flag(value: bool) -> str:
    return "1" if value else "0"


if __name__ == "__main__":
    sys.exit(serve(CoboltEmulator))
