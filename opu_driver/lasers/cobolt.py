"""Cobolt lasers of the 06 and 08 series (Hübner Photonics), over USB or RS-232.

The commands are those of the Owner's Manual of the Cobolt 06-01 series (D0136, section "Serial
communication", table of commands), read there through the maker's own public packages, pycobolt and
the Micro-Manager adapter CoboltOfficial, which agree with it and with each other on all that is
used here. The manual itself could not be seen; what the two packages tell differently, the codes of
`gom?`, is not used.

A command is a line of lower-case text that ends with a carriage return, its argument after a space;
the answer is one line ending in carriage return and line feed: a value, `OK`, or
`Syntax error: ...`. 115200 baud, 8 data bits, no parity, 1 stop bit.

    l0, l1          emission off, on; l1 is refused while autostart is enabled
    @cob1           start as autostart would: temperatures, warm-up, light
    l?              1 if the laser is on
    @cobas?         1 if autostart is enabled (CDRH lasers)
    @cobasks?       1 if the key switch is on; some lasers without one refuse the question
    ilk?            0 if the interlock is closed, 1 if it is open
    f?              fault: 0 none, 1 temperature, 3 interlock, 4 constant power not reached in time
    cp, gam?        enter constant power, which leaves modulation; mode, 1 is constant power
    p W, p?, pa?    set power, ask for it, measured power, in watts
    gmlp?           highest power that can be set, in milliwatts
    glm?, gsn?, gfv?   model such as 0532-06-91-0100-700, serial number, firmware

06-01 lasers of the newer kind, whose model ends in a number from 1000 on, have the commands
`laser:runmode`, `laser:cp:power:setpoint` and `laser:power?` instead of `cp`, `p` and `pa?`, in
milliwatts (pycobolt, class Cobolt06).

The laser's own fault is never cleared from here, and its key and interlock are never passed by.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

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

USB_VENDOR_ID = 0x25DC

_FAULTS = {
    "1": "temperature error",
    "3": "interlock error (closing the interlock does not clear it: turn the key off and on)",
    "4": "constant power time-out",
}
_STEP_MW = 0.1  # p? tells watts with four decimals
_SETTLED = 0.1  # the light is what was set once it is within this of it


@dataclass(frozen=True)
class _Words:
    """The commands in which the two generations of firmware differ."""

    constant_power: str
    ask_mode: str
    mode: str
    set_power: str
    ask_power: str
    ask_measured: str
    ask_limit: str
    unit_mw: float


_CLASSIC = _Words("cp", "gam?", "1", "p {:.4f}", "p?", "pa?", "gmlp?", 1e3)
_NEWER = _Words(
    "laser:runmode ConstantPower",
    "laser:runmode?",
    "ConstantPower",
    "laser:cp:power:setpoint {:.1f}",
    "laser:cp:power:setpoint?",
    "laser:power?",
    "laser:cp:power:setpoint? max",
    1.0,
)


class Cobolt(Laser):
    """A Cobolt laser of the 06 or 08 series, MLD or DPL, in constant power.

    Args:
        port: Serial port, such as `COM3`, `/dev/ttyACM0` or `socket://host:port`.
        baud_rate: 115200 unless the laser was set otherwise; USB ignores it.
        timeout_ms: How long the laser may take to answer, milliseconds.
        spacing_ms: Pause after each answer, milliseconds. None is documented; the maker's package
            keeps 100 ms, which makes a status take most of a second. Set it if answers get lost.
        wavelength_nm: Vacuum wavelength, nanometres; without it, what the model number says.
        max_power_mw: Highest power that may be set, milliwatts; without it, what the laser takes.

    Raises:
        SettingError: A number that is out of range.
    """

    def __init__(
        self,
        port: str,
        baud_rate: int = 115200,
        timeout_ms: float = 500.0,
        spacing_ms: float = 0.0,
        wavelength_nm: float | None = None,
        max_power_mw: float | None = None,
    ) -> None:
        if not (baud_rate > 0 and timeout_ms > 0 and 0 <= spacing_ms <= timeout_ms):
            raise SettingError(
                f"baud_rate = {baud_rate}, timeout_ms = {timeout_ms:g}, spacing_ms = "
                f"{spacing_ms:g}: the first two have to be above 0, the last from 0 to timeout_ms."
            )
        for name, value in (("wavelength_nm", wavelength_nm), ("max_power_mw", max_power_mw)):
            if value is not None and not value > 0:
                raise SettingError(f"{name} = {value:g}; it has to be above 0.")
        self._line = SerialLine(port, baud_rate, "\r", timeout_ms / 1e3, spacing_ms / 1e3)
        self._given_wavelength_nm = wavelength_nm
        self._given_max_power_mw = max_power_mw
        self._who: Identity | None = None
        self._words = _CLASSIC
        self._autostart = True
        self._has_key = True
        self._max_power_mw = 0.0
        self._set_mw = 0.0

    @classmethod
    def discover(cls, *ports: str) -> list[Found]:
        """Cobolt lasers on ports that are theirs by USB vendor or name, and on `ports`.

        Each is asked who it is and nothing else; no byte goes to any other port.

        Raises:
            DriverMissingError: pyserial is not installed.
        """
        found = []
        for port in [*ports_of(USB_VENDOR_ID, "cobolt"), *map(Port, ports)]:
            laser = cls(port.name)
            try:
                with laser._line:
                    identity = laser._ask_identity()
            except DeviceBusyError:
                identity = Identity("Cobolt", port.product or "in use", port.serial)
            except DeviceError:
                continue  # whatever it is, it does not answer as a Cobolt does
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
        """Vacuum wavelength, nanometres: as given, or the first group of the model number."""
        if self._given_wavelength_nm is not None:
            return self._given_wavelength_nm
        match = re.match(r"(\d{3,4})-", self.identity.model)
        if match is None:
            raise SettingError(
                f"The model {self.identity.model!r} does not tell the wavelength; give "
                "wavelength_nm."
            )
        return float(match[1])

    @property
    def power_limits_mw(self) -> tuple[float, float]:
        """From 0 to what the laser takes, or to `max_power_mw`; known once it is open."""
        self._require_open()
        return 0.0, self._max_power_mw

    def _open(self) -> None:
        self._line.open()
        try:
            self._darken()
            self._who = self._ask_identity()
        except DeviceError as error:
            raise DeviceNotFoundError(
                f"On the {self._line.name} is no Cobolt laser, or none that goes dark: {error}"
            ) from error
        newer = re.search(r"-06-.*-1\d{3}(-C)?$", self._who.model)
        self._words = _NEWER if newer else _CLASSIC
        self._autostart = self._flag_if_known("@cobas?") is not False
        self._has_key = self._flag_if_known("@cobasks?") is not None
        self._do(self._words.constant_power)
        mode = self._ask(self._words.ask_mode)
        if mode.casefold() != self._words.mode.casefold():
            raise DeviceError(
                f"The laser stays in mode {mode!r} and does not go to constant power."
            )
        self._max_power_mw = self._find_max_power_mw()
        self._set_mw = self._get_power_mw()
        _ = self.wavelength_nm  # refuse now if it cannot be known

    def _close(self) -> None:
        self._line.close()

    def _ask_identity(self) -> Identity:
        model, serial, firmware = (self._ask(what) for what in ("glm?", "gsn?", "gfv?"))
        if not re.match(r"\d+-\d\d-", model) or not serial.isdigit():
            raise self._line.misunderstood((model, serial), "glm?, gsn?", "a model and a number")
        return Identity("Cobolt", model, serial, firmware)

    def _find_max_power_mw(self) -> float:
        limit_mw = self._number(self._words.ask_limit)
        given = self._given_max_power_mw
        if given is None:
            return limit_mw
        if given > limit_mw:
            raise SettingError(
                f"max_power_mw = {given:g}; this laser takes at most {limit_mw:g} mW."
            )
        return given

    def _get_power_mw(self) -> float:
        return self._words.unit_mw * self._number(self._words.ask_power)

    def _set_power_mw(self, power_mw: float) -> None:
        with dark_unless_done(self._darken):
            self._do(self._words.set_power.format(power_mw / self._words.unit_mw))
            self._set_mw = self._get_power_mw()
            if abs(self._set_mw - power_mw) > 0.51 * _STEP_MW:
                raise DeviceError(
                    f"power_mw = {power_mw:g} was asked for, and the laser was set to "
                    f"{self._set_mw:g} mW."
                )

    def _status(self) -> LaserStatus:
        emitting = self._flag("l?")
        interlock_open = self._flag("ilk?")
        fault = self._ask("f?")
        key_on = self._flag("@cobasks?") if self._has_key else True
        measured_mw = self._words.unit_mw * self._number(self._words.ask_measured)
        self._require_in_step()
        if not fault.isdigit():
            raise self._line.misunderstood(fault, "f?", "the code of a fault")
        return LaserStatus(
            emitting,
            interlock_closed=not interlock_open,
            key_on=key_on,
            warm=emitting
            and abs(measured_mw - self._set_mw)
            <= max(_SETTLED * self._set_mw, _SETTLED * _SETTLED * self._max_power_mw),
            fault="" if int(fault) == 0 else _FAULTS.get(fault, f"fault {fault}"),
        )

    def _require_in_step(self) -> None:
        """The answers belong to their questions if this one does, and the laser is the same one."""
        serial = self._ask("gsn?")
        if serial != self.identity.serial:
            raise self._line.misunderstood(serial, "gsn?", self.identity.serial)

    def _set_emission(self, on: bool) -> None:
        if on:
            with dark_unless_done(self._darken):
                self._do("@cob1" if self._autostart else "l1")
        else:
            self._darken()

    def _darken(self) -> None:
        def dark() -> bool:
            self._do("l0")
            return not self._flag("l?")

        insist_on_darkness(self._line, "l0", dark)

    def _ask(self, command: str) -> str:
        (answer,) = self._line.ask(command)
        if "error" in answer.casefold():
            raise DeviceError(f"The laser refused {command!r}: {answer}")
        return answer

    def _do(self, command: str) -> None:
        answer = self._ask(command)
        if answer != "OK":
            raise self._line.misunderstood(answer, command, "OK")

    def _number(self, question: str) -> float:
        return number(self._line, question, self._ask(question))

    def _flag(self, question: str) -> bool:
        return self._as_flag(self._ask(question), question)

    def _flag_if_known(self, question: str) -> bool | None:
        """A flag; None if the laser does not know the question."""
        (answer,) = self._line.ask(question)
        return None if answer.startswith("Syntax error") else self._as_flag(answer, question)

    def _as_flag(self, answer: str, question: str) -> bool:
        if answer not in ("0", "1"):
            raise self._line.misunderstood(answer, question, "0 or 1")
        return answer == "1"
