"""OBIS LS and LX lasers (Coherent), over USB or RS-232.

The commands are those of the OBIS LX/LS Operator's Manual, Part 3, "Interface commands" (tables of
session control, system information, system state and operational commands, of status and fault
bits, and of errors). The manual itself could not be seen: they were read in public drivers that
list these tables (navigate, the OBIS packages of the Allen Institute and of others, the emulator of
the ISIS control system), which agree on all that is used here but on the meaning of status bit 8;
status words that were seen on real lasers (`C8001100` while warming up, `C8001002` with light) say
that it is set during warm-up.

A command is an SCPI line, short form or long, ending in carriage return and line feed. With
handshaking on, a query is answered by its value and `OK`, a command by `OK`, and either by
`ERR-nnn` where it is refused. Powers are in watts. 115200 baud, 8 data bits, no parity, 1 stop bit.

    SYSTem:COMMunicate:HANDshaking ON, SYSTem:COMMunicate:PROMpt OFF   how it answers
    SOURce:AM:STATe ON|OFF                         emission; after 5 s where CDRH delay is on
    SOURce:AM:INTernal CWP, SOURce:AM:SOURce?      constant power without modulation
    SOURce:POWer:LEVel:IMMediate:AMPLitude         power
    SOURce:POWer:LIMit:LOW?, HIGH?                 its limits
    SYSTem:STATus?, SYSTem:FAULt?                  words of 32 bits, hexadecimal
    SYSTem:LOCK?                                   ON while the interlock is closed
    SYSTem:INFormation:MODel?, SNUMber?, FVERsion?, WAVelength?

Its delay before emission, its autostart and its faults are left as they are.
"""

from __future__ import annotations

import re
from enum import IntFlag

from opu_driver.device import Found, Identity
from opu_driver.errors import (
    DeviceBusyError,
    DeviceError,
    DeviceNotFoundError,
    DeviceStateError,
    SettingError,
)
from opu_driver.laser import Laser, LaserStatus
from opu_driver.lasers.line import dark_unless_done, insist_on_darkness, number
from opu_driver.lasers.ports import Port, ports_of
from opu_driver.lasers.serial_line import SerialLine

USB_VENDOR_ID = 0x0D4D

FAULTS = {
    0: "base plate temperature",
    1: "diode temperature",
    2: "internal temperature",
    3: "no power to the diode",
    4: "internal bus error",
    5: "diode current too high",
    6: "memory checksum",
    7: "memory restored to defaults",
    8: "message buffer overflow",
    9: "warm-up took too long",
    10: "temperature controller",
    11: "connection bus error",
    12: "diode temperature off its set point",
    13: "set power not reached",
    14: "photodiode",
    15: "irrecoverable failure",
    16: "failure at start-up",
    17: "restarted by its watchdog",
    18: "field calibration",
    20: "power above its limit",
}
"""Bits of the fault word."""

_ERRORS = {
    "ERR-100": "it does not know the command",
    "ERR-102": "syntax error",
    "ERR-109": "a parameter is missing",
    "ERR-200": "the command is out of order",
    "ERR-203": "the command is protected",
    "ERR-220": "the parameter is out of range",
    "ERR-221": "the settings conflict",
    "ERR-310": "system error",
    "ERR-350": "its error queue is full",
}
_STEP_MW = 0.1


class StatusBit(IntFlag):
    """Bits of the status word; those of the remote are seen only where there is one."""

    FAULT = 1 << 0
    EMISSION = 1 << 1
    READY = 1 << 2
    STANDBY = 1 << 3
    DELAY = 1 << 4
    WARM_UP = 1 << 8
    POWERED = 1 << 12
    KEY_OFF = 1 << 25
    INTERLOCK_OPEN = 1 << 26
    REMOTE = 1 << 31


class Obis(Laser):
    """A single OBIS LS or LX laser, by its own USB port or by that of its remote.

    Args:
        port: Serial port, such as `COM3`, `/dev/ttyACM0` or `socket://host:port`.
        baud_rate: 115200 unless the laser was set otherwise; USB ignores it.
        timeout_ms: How long the laser may take to answer, milliseconds.
        max_power_mw: Highest power that may be set, milliwatts; without it, what the laser takes.

    Raises:
        SettingError: A number that is out of range.
    """

    def __init__(
        self,
        port: str,
        baud_rate: int = 115200,
        timeout_ms: float = 500.0,
        max_power_mw: float | None = None,
    ) -> None:
        if not (baud_rate > 0 and timeout_ms > 0):
            raise SettingError(
                f"baud_rate = {baud_rate}, timeout_ms = {timeout_ms:g}: both have to be above 0."
            )
        if max_power_mw is not None and not max_power_mw > 0:
            raise SettingError(f"max_power_mw = {max_power_mw:g}; it has to be above 0.")
        self._line = SerialLine(port, baud_rate, "\r\n", timeout_ms / 1e3)
        self._given_max_power_mw = max_power_mw
        self._who: Identity | None = None
        self._wavelength_nm = 0.0
        self._limits_mw = (0.0, 0.0)

    @classmethod
    def discover(cls, *ports: str) -> list[Found]:
        """OBIS lasers on ports that are theirs by USB vendor or name, and on `ports`.

        Each is asked who it is; to be understood it is told to answer with handshaking and
        without a prompt. No byte goes to any other port.

        Raises:
            DriverMissingError: pyserial is not installed.
        """
        found = []
        for port in [*ports_of(USB_VENDOR_ID, "obis"), *map(Port, ports)]:
            laser = cls(port.name)
            try:
                with laser._line:
                    laser._greet()
                    identity = laser._ask_identity()
            except DeviceBusyError:
                identity = Identity("Coherent", port.product or "in use", port.serial)
            except DeviceError:
                continue  # whatever it is, it does not answer as an OBIS does
            found.append(Found(identity, {"port": port.name}))
        return found

    @property
    def address(self) -> str:
        """The serial port."""
        return self._line.address

    @property
    def identity(self) -> Identity:
        """Model, serial number and firmware, as the laser tells them."""
        if self._who is None:
            raise DeviceStateError("The laser has not been opened yet; open it first.")
        return self._who

    @property
    def wavelength_nm(self) -> float:
        """Vacuum wavelength, nanometres, as the laser tells it; known once it is open."""
        self._require_open()
        return self._wavelength_nm

    @property
    def power_limits_mw(self) -> tuple[float, float]:
        """What the laser takes, or up to `max_power_mw`; known once it is open."""
        self._require_open()
        return self._limits_mw

    def _open(self) -> None:
        self._line.open()
        try:
            self._greet()
            self._darken()
            self._who = self._ask_identity()
        except DeviceError as error:
            raise DeviceNotFoundError(
                f"On the {self._line.name} is no OBIS laser, or none that goes dark: {error}"
            ) from error
        self._do("SOUR:AM:INT CWP")
        mode = self._ask("SOUR:AM:SOUR?")
        if mode != "CWP":
            raise DeviceError(f"The laser stays in mode {mode!r} instead of constant power, CWP.")
        wavelength = self._ask("SYST:INF:WAV?").upper().removesuffix("NM")
        self._wavelength_nm = number(self._line, "SYST:INF:WAV?", wavelength)
        self._limits_mw = self._find_limits_mw()

    def _close(self) -> None:
        self._line.close()

    def _greet(self) -> None:
        """Agree on how it answers, whatever it was told before."""
        self._line.tell("SYST:COMM:HAND ON")
        self._do("SYST:COMM:PROM OFF")

    def _ask_identity(self) -> Identity:
        model, serial, firmware = (
            self._ask(f"SYST:INF:{what}?") for what in ("MOD", "SNUM", "FVER")
        )
        return Identity("Coherent", model, serial, firmware)

    def _find_limits_mw(self) -> tuple[float, float]:
        low_mw, high_mw = (
            1e3 * number(self._line, question, self._ask(question))
            for question in ("SOUR:POW:LIM:LOW?", "SOUR:POW:LIM:HIGH?")
        )
        given = self._given_max_power_mw
        if given is None:
            return low_mw, high_mw
        if not low_mw <= given <= high_mw:
            raise SettingError(
                f"max_power_mw = {given:g}; this laser takes {low_mw:g} to {high_mw:g} mW."
            )
        return low_mw, given

    def _get_power_mw(self) -> float:
        question = "SOUR:POW:LEV:IMM:AMPL?"
        return 1e3 * number(self._line, question, self._ask(question))

    def _set_power_mw(self, power_mw: float) -> None:
        with dark_unless_done(self._darken):
            self._do(f"SOUR:POW:LEV:IMM:AMPL {power_mw / 1e3:.6f}")
            in_force_mw = self._get_power_mw()
            if abs(in_force_mw - power_mw) > 0.51 * _STEP_MW:
                raise DeviceError(
                    f"power_mw = {power_mw:g} was asked for, and the laser was set to "
                    f"{in_force_mw:g} mW."
                )

    def _status(self) -> LaserStatus:
        word = self._word("SYST:STAT?")
        faults = self._word("SYST:FAUL?")
        lock = self._ask("SYST:LOCK?")
        serial = self._ask("SYST:INF:SNUM?")
        # The answers belong to their questions if this one does, and the laser is the same one.
        if serial != self.identity.serial:
            raise self._line.misunderstood(serial, "SYST:INF:SNUM?", self.identity.serial)
        if lock not in ("ON", "OFF"):
            raise self._line.misunderstood(lock, "SYST:LOCK?", "ON or OFF")
        bits = StatusBit(word & sum(StatusBit))
        remote = StatusBit.REMOTE in bits
        emitting = StatusBit.EMISSION in bits
        return LaserStatus(
            emitting,
            # Without its key, a remote tells an open interlock whatever it is.
            interlock_closed=lock == "ON"
            and not (remote and StatusBit.INTERLOCK_OPEN in bits and StatusBit.KEY_OFF not in bits),
            key_on=not (remote and StatusBit.KEY_OFF in bits),
            warm=emitting and StatusBit.WARM_UP not in bits,
            fault=_told(faults, StatusBit.FAULT in bits),
        )

    def _word(self, question: str) -> int:
        answer = self._ask(question)
        if not re.fullmatch(r"[0-9A-Fa-f]{1,8}", answer):
            raise self._line.misunderstood(answer, question, "a word of 32 bits")
        return int(answer, 16)

    def _set_emission(self, on: bool) -> None:
        if on:
            with dark_unless_done(self._darken):
                self._do("SOUR:AM:STAT ON")
        else:
            self._darken()

    def _darken(self) -> None:
        def dark() -> bool:
            self._do("SOUR:AM:STAT OFF")
            return (
                self._ask("SOUR:AM:STAT?") == "OFF"
                and not self._word("SYST:STAT?") & StatusBit.EMISSION
            )

        insist_on_darkness(self._line, "SOUR:AM:STAT OFF", dark)

    def _ask(self, question: str) -> str:
        answer = self._exchange(question)
        if len(answer) != 1:
            raise self._line.misunderstood(answer, question, "one value")
        return answer[0]

    def _do(self, command: str) -> None:
        answer = self._exchange(command)
        if answer:
            raise self._line.misunderstood(answer, command, "OK")

    def _exchange(self, command: str) -> list[str]:
        *answer, last = self._line.ask(command, _is_last)
        if last != "OK":
            reason = _ERRORS.get(last, "see the manual's table of errors")
            raise DeviceError(f"The laser refused {command!r} with {last}: {reason}.")
        return answer


def _is_last(line: str) -> bool:
    return line == "OK" or line.startswith("ERR")


def _told(faults: int, is_fault: bool) -> str:
    names = [FAULTS.get(bit, f"fault bit {bit}") for bit in range(32) if faults >> bit & 1]
    return ", ".join(names) or ("a fault without a code" if is_fault else "")
