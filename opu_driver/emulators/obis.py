"""An emulated OBIS laser with its remote: the protocol of `opu_driver.lasers.obis`.

    python -m opu_driver.emulators.obis --port pty --log laser.jsonl

prints the port to open, and serves until it is ended; see `opu_driver.emulators.laser_program`.
The codes of its faults are bits of the fault word.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

from opu_driver.emulators.laser_head import LaserHead
from opu_driver.emulators.laser_program import serve
from opu_driver.emulators.scpi_words import find_header
from opu_driver.lasers.obis import StatusBit


class ObisEmulator:
    """Answers as an OBIS laser does.

    Args:
        head: What emits; its `delay_s` is the delay of CDRH.
        model: Model name.
        serial: Serial number.
        handshaking: Whether it says OK before it has been told to.
        prompt: Whether it prompts until it is told not to.
    """

    ending = b"\n"

    def __init__(
        self,
        head: LaserHead,
        model: str = "OBIS 532nm LX 100mW",
        serial: str = "VL38P00A001",
        handshaking: bool = True,
        prompt: bool = False,
    ) -> None:
        self.head = head
        self._handshaking = handshaking
        self._prompt = prompt
        self._mode = "DIGITAL"
        self._questions: dict[str, Callable[[], str]] = {
            "*IDN?": lambda: f"Coherent, Inc - {model} - V1.0.1 - {serial}",
            "SYSTem:COMMunicate:HANDshaking?": lambda: _on(self._handshaking),
            "SYSTem:COMMunicate:PROMpt?": lambda: _on(self._prompt),
            "SYSTem:INFormation:MODel?": lambda: model,
            "SYSTem:INFormation:SNUMber?": lambda: serial,
            "SYSTem:INFormation:FVERsion?": lambda: "V1.0.1",
            "SYSTem:INFormation:WAVelength?": lambda: f"{head.wavelength_nm:.1f}nm",
            "SYSTem:STATus?": lambda: f"{self._status():08X}",
            "SYSTem:FAULt?": lambda: f"{head.fault:08X}",
            "SYSTem:LOCK?": lambda: _on(head.interlock_closed),
            "SOURce:AM:STATe?": lambda: _on(head.shining or head.starting),
            "SOURce:AM:SOURce?": lambda: self._mode,
            "SOURce:POWer:LEVel?": lambda: f"{head.output_mw / 1e3:.5f}",
            "SOURce:POWer:LEVel:IMMediate:AMPLitude?": lambda: f"{head.power_mw / 1e3:.5f}",
            "SOURce:POWer:LIMit:LOW?": lambda: "0.00000",
            "SOURce:POWer:LIMit:HIGH?": lambda: f"{head.max_power_mw / 1e3:.5f}",
        }
        self._orders: dict[str, Callable[[str], str]] = {
            "SYSTem:COMMunicate:HANDshaking": self._shake_hands,
            "SYSTem:COMMunicate:PROMpt": self._set_prompt,
            "SOURce:AM:STATe": self._set_state,
            "SOURce:AM:INTernal": self._set_mode,
            "SOURce:POWer:LEVel:IMMediate:AMPLitude": self._set_power,
        }

    def tick(self) -> None:
        """Let what is due by now happen."""
        self.head.settle()

    def open_interlock(self) -> None:
        """Open the interlock."""
        self.head.open_interlock()

    def answer(self, command: str) -> list[str]:
        """The value and `OK`, or `ERR-nnn`."""
        self.head.logbook.heard(self.head.clock(), command)
        header, _, argument = command.strip().partition(" ")
        if header.endswith("?"):
            ask = find_header(header, self._questions)
            lines = ["ERR-100"] if ask is None else [ask(), "OK"]
        else:
            obey = find_header(header, self._orders)
            lines = ["ERR-100" if obey is None else obey(argument.strip().upper())]
        if not self._handshaking:
            lines = [line for line in lines if line != "OK"]
        return ["OBIS> " + line for line in lines] if self._prompt else lines

    def _status(self) -> StatusBit:
        head = self.head
        word = StatusBit.REMOTE | StatusBit.POWERED
        word |= StatusBit.EMISSION if head.shining else StatusBit.STANDBY
        for is_so, bit in (
            (head.fault != 0, StatusBit.FAULT),
            (head.starting, StatusBit.DELAY),
            (head.warming_up, StatusBit.WARM_UP),
            (not head.key_on, StatusBit.KEY_OFF),
            (not head.interlock_closed, StatusBit.INTERLOCK_OPEN),
        ):
            if is_so:
                word |= bit
        return word

    def _shake_hands(self, argument: str) -> str:
        self._handshaking = argument == "ON"
        return "OK"

    def _set_prompt(self, argument: str) -> str:
        self._prompt = argument == "ON"
        return "OK"

    def _set_state(self, argument: str) -> str:
        if argument == "OFF":
            self.head.turn_off()
            return "OK"
        if argument != "ON":
            return "ERR-220"
        return "OK" if self.head.turn_on() else "ERR-221"

    def _set_mode(self, argument: str) -> str:
        if argument not in ("CWP", "CWC"):
            return "ERR-220"
        self._mode = argument
        return "OK"

    def _set_power(self, argument: str) -> str:
        try:
            power_mw = float(argument) * 1e3
        except ValueError:
            return "ERR-102"
        if not 0 <= power_mw <= self.head.max_power_mw * (1 + 1e-9):
            return "ERR-220"
        self.head.power_mw = power_mw
        return "OK"


def _on(value: bool) -> str:
    return "ON" if value else "OFF"


if __name__ == "__main__":
    sys.exit(serve(ObisEmulator))
