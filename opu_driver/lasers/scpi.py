"""Any laser that is spoken to in lines of text over VISA, described by a table in the bench file.

    [laser]
    driver = "scpi"
    power_mw = 20.0
    resource = "TCPIP::192.168.0.7::5025::SOCKET"
    wavelength_nm = 633.0
    max_power_mw = 50.0

    power_unit = "W"
    set_power = "SOURce:POWer {:.5f}"
    ask_power = "SOURce:POWer?"
    emission_on = "OUTPut:STATe ON"
    emission_off = "OUTPut:STATe OFF"
    ask_emission = "OUTPut:STATe?"
    emitting_if = "1|ON"

    ask_interlock = "STATus:OPERation:CONDition?"
    interlock_closed_if = "not bit 2"
    ask_key = "STATus:OPERation:CONDition?"
    key_on_if = "bit 1"
    ask_warm = "STATus:OPERation:CONDition?"
    warm_if = "bit 4"
    ask_fault = "SYSTem:FAULt?"
    no_fault_if = "0"
    ask_error = "SYSTem:ERRor?"

`opu_driver.lasers.condition` says what conditions there are. `*IDN?` and the numbers are those of
SCPI-99 (volume 1) and IEEE 488.2 (10.14); everything else is the laser's manual's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from opu_driver.device import Identity
from opu_driver.errors import (
    DeviceError,
    DeviceNotFoundError,
    DeviceStateError,
    SettingError,
)
from opu_driver.laser import Laser, LaserStatus
from opu_driver.lasers.condition import Condition
from opu_driver.lasers.line import dark_unless_done, insist_on_darkness, number
from opu_driver.lasers.visa_line import VisaLine

_UNITS_MW = {"uW": 1e-3, "mW": 1.0, "W": 1e3}
_ENDINGS = {"LF": "\n", "CR": "\r", "CRLF": "\r\n"}


class Scpi(Laser):
    """A laser described by its commands.

    Of each question and its condition, both or neither are given. A laser without a question for
    its interlock, key, warmth or faults is taken to have it closed, on, to be warm at once and
    well: leave none out that the laser has.

    Args:
        resource: VISA address.
        wavelength_nm: Vacuum wavelength, nanometres.
        max_power_mw: Highest power that may be set, milliwatts.
        set_power: Command with one `{}` for the power, which may have a format as `{:.4f}`.
        ask_power: Question for the power that is set.
        emission_on: Command that turns emission on.
        emission_off: Command that turns emission off.
        ask_emission: Question for whether it emits.
        emitting_if: Condition on its answer.
        min_power_mw: Lowest power that may be set, milliwatts.
        power_unit: Unit of the powers on the line.
        power_step_mw: To what the laser rounds its power, milliwatts.
        ask_interlock: Question for the interlock.
        interlock_closed_if: Condition on its answer.
        ask_key: Question for the key switch.
        key_on_if: Condition on its answer.
        ask_warm: Question for whether it has warmed up.
        warm_if: Condition on its answer.
        ask_fault: Question for its fault; an answer that is one goes into the message.
        no_fault_if: Condition on its answer.
        ask_error: Question for an error of the last command, asked after each.
        no_error_if: Condition on its answer.
        acknowledgement: What the laser answers to a command that is no question; empty if nothing.
        prepare: Commands to send on opening, once it is dark.
        ask_identity: Question whose answer has four fields with commas: vendor, model, serial
            number, firmware. It is also asked at the end of each status, to see that answers
            belong to their questions.
        backend: PyVISA's name of the VISA library: `@py` for pyvisa-py, `@ivi` for a vendor's.
        baud_rate: Bits a second of a serial port; 0 for what it is set to, or where it has none.
        ending: What ends a command; answers end in LF, perhaps after CR.
        timeout_ms: How long the laser may take to answer, milliseconds.

    Raises:
        SettingError: A key that does not fit, by name.
    """

    def __init__(
        self,
        resource: str,
        wavelength_nm: float,
        max_power_mw: float,
        set_power: str,
        ask_power: str,
        emission_on: str,
        emission_off: str,
        ask_emission: str,
        emitting_if: str,
        min_power_mw: float = 0.0,
        power_unit: Literal["uW", "mW", "W"] = "mW",
        power_step_mw: float = 0.1,
        ask_interlock: str = "",
        interlock_closed_if: str = "",
        ask_key: str = "",
        key_on_if: str = "",
        ask_warm: str = "",
        warm_if: str = "",
        ask_fault: str = "",
        no_fault_if: str = "",
        ask_error: str = "",
        no_error_if: str = "0",
        acknowledgement: str = "",
        prepare: tuple[str, ...] = (),
        ask_identity: str = "*IDN?",
        backend: str = "@py",
        baud_rate: int = 0,
        ending: Literal["LF", "CR", "CRLF"] = "LF",
        timeout_ms: float = 500.0,
    ) -> None:
        for key, value in (
            ("wavelength_nm", wavelength_nm),
            ("power_step_mw", power_step_mw),
            ("timeout_ms", timeout_ms),
        ):
            if not value > 0:
                raise SettingError(f"{key} = {value:g}; it has to be above 0.")
        if not 0 <= min_power_mw < max_power_mw < float("inf"):
            raise SettingError(
                f"min_power_mw = {min_power_mw:g}, max_power_mw = {max_power_mw:g}; the first has "
                "to be from 0 to below the second."
            )
        _require_place_for_power(set_power)
        for key, text in (
            ("ask_power", ask_power),
            ("emission_on", emission_on),
            ("emission_off", emission_off),
            ("ask_identity", ask_identity),
        ):
            if not text.strip():
                raise SettingError(f"{key} is empty; it has to be a command of the laser's manual.")
        self._line = VisaLine(resource, backend, baud_rate, _ENDINGS[ending], timeout_ms / 1e3)
        self._wavelength_nm = wavelength_nm
        self._limits_mw = (min_power_mw, max_power_mw)
        self._set_power_command = set_power
        self._ask_power = ask_power
        self._unit_mw = _UNITS_MW[power_unit]
        self._step_mw = power_step_mw
        self._on, self._off = emission_on, emission_off
        emitting = _check("ask_emission", ask_emission, "emitting_if", emitting_if)
        if emitting is None:
            raise SettingError("ask_emission is empty; without it nothing tells that it is dark.")
        self._emitting = emitting
        self._closed = _check(
            "ask_interlock", ask_interlock, "interlock_closed_if", interlock_closed_if
        )
        self._key = _check("ask_key", ask_key, "key_on_if", key_on_if)
        self._warm = _check("ask_warm", ask_warm, "warm_if", warm_if)
        self._well = _check("ask_fault", ask_fault, "no_fault_if", no_fault_if)
        no_error_if = no_error_if if ask_error else ""
        self._obeyed = _check("ask_error", ask_error, "no_error_if", no_error_if)
        self._acknowledgement = acknowledgement
        self._prepare = prepare
        self._ask_identity = ask_identity
        self._introduction = ""

    @property
    def address(self) -> str:
        """The VISA address."""
        return self._line.address

    @property
    def identity(self) -> Identity:
        """The four fields of the answer to `ask_identity`; what is missing stays empty."""
        if not self._introduction:
            raise DeviceStateError("The laser has not been opened yet; open it first.")
        fields = [field.strip() for field in self._introduction.split(",", 3)]
        vendor, model, serial, firmware = fields + [""] * (4 - len(fields))
        return Identity(vendor, model, serial, firmware)

    @property
    def wavelength_nm(self) -> float:
        """Vacuum wavelength, nanometres, as given."""
        return self._wavelength_nm

    @property
    def power_limits_mw(self) -> tuple[float, float]:
        """From `min_power_mw` to `max_power_mw`."""
        return self._limits_mw

    def _open(self) -> None:
        self._line.open()
        try:
            self._darken()
            self._introduction = self._ask(self._ask_identity)
        except DeviceError as error:
            raise DeviceNotFoundError(
                f"On the {self._line.name} is no laser that takes these commands, or none that "
                f"goes dark: {error}"
            ) from error
        for command in self._prepare:
            self._do(command)

    def _close(self) -> None:
        self._line.close()

    def _get_power_mw(self) -> float:
        return self._unit_mw * number(self._line, self._ask_power, self._ask(self._ask_power))

    def _set_power_mw(self, power_mw: float) -> None:
        with dark_unless_done(self._darken):
            self._do(self._set_power_command.format(power_mw / self._unit_mw))
            in_force_mw = self._get_power_mw()
            if abs(in_force_mw - power_mw) > 0.51 * self._step_mw:
                raise DeviceError(
                    f"power_mw = {power_mw:g} was asked for, and the laser was set to "
                    f"{in_force_mw:g} mW. If it rounds like that, say so in power_step_mw; check "
                    "power_unit, too."
                )

    def _status(self) -> LaserStatus:
        emitting = self._holds(self._emitting)
        closed = self._closed is None or self._holds(self._closed)
        key_on = self._key is None or self._holds(self._key)
        warm = emitting and (self._warm is None or self._holds(self._warm))
        fault = None if self._well is None else self._complaint(self._well)
        introduction = self._ask(self._ask_identity)
        if introduction != self._introduction:
            raise self._line.misunderstood(introduction, self._ask_identity, self._introduction)
        return LaserStatus(emitting, closed, key_on, warm, fault or "")

    def _set_emission(self, on: bool) -> None:
        if on:
            with dark_unless_done(self._darken):
                self._do(self._on)
        else:
            self._darken()

    def _darken(self) -> None:
        def dark() -> bool:
            self._do(self._off)
            return not self._holds(self._emitting)

        insist_on_darkness(self._line, self._off, dark)

    def _holds(self, check: tuple[str, Condition]) -> bool:
        return self._complaint(check) is None

    def _complaint(self, check: tuple[str, Condition]) -> str | None:
        """The answer, if it does not fulfil the condition."""
        question, condition = check
        answer = self._ask(question)
        try:
            return None if condition.holds(answer) else answer or "unnamed"
        except ValueError as error:
            raise self._line.misunderstood(answer, question, "an integer") from error

    def _ask(self, question: str) -> str:
        return self._line.ask(question)[0]

    def _do(self, command: str) -> None:
        if self._acknowledgement:
            answer = self._ask(command)
            if answer != self._acknowledgement:
                raise DeviceError(
                    f"The laser answered {answer!r} to {command!r} instead of "
                    f"{self._acknowledgement!r}."
                )
        else:
            self._line.say(command)
        if self._obeyed is not None:
            complaint = self._complaint(self._obeyed)
            if complaint is not None:
                raise DeviceError(f"The laser refused {command!r}: {complaint}")


def _check(
    ask_key: str, question: str, if_key: str, condition: str
) -> tuple[str, Condition] | None:
    """A question with the condition on its answer; None if neither is given."""
    if bool(question.strip()) is not bool(condition.strip()):
        there, missing = (ask_key, if_key) if question.strip() else (if_key, ask_key)
        raise SettingError(f"{there} is given without {missing}; give both or neither.")
    if not question.strip():
        return None
    return question, Condition.parse(condition, if_key)


def _require_place_for_power(template: str) -> None:
    try:
        said: Callable[[float], str] = template.format
        fits = said(1.0) != said(2.0)
    except (IndexError, KeyError, ValueError):
        fits = False
    if not fits:
        raise SettingError(
            f"set_power = {template!r}; it has to be a command with one place for the power, such "
            "as 'SOURce:POWer {:.4f}'."
        )
