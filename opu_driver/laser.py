"""The laser's contract: dark unless somebody holds an armed token and the interlock is closed."""

from __future__ import annotations

import logging
import time
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import ClassVar

from opu_driver.device import Device
from opu_driver.errors import LaserSafetyError, SettingError

log = logging.getLogger("opu.laser")

_POLL_S = 0.1

_ROUNDING = 1e-6  # part of a power below which two are the same


@dataclass(frozen=True)
class ArmedToken:
    """The right to emit, given by `Laser.arm` and void after `Laser.disarm`.

    Attributes:
        holder: Who asked for it.
        ceiling_mw: The power, milliwatts, that the laser stays below as long as it is armed.
    """

    holder: str
    ceiling_mw: float
    _proof: object = field(default_factory=object, repr=False)


@dataclass(frozen=True)
class LaserStatus:
    """What a laser says of itself, asked at one moment.

    Attributes:
        emitting: Whether light comes out.
        interlock_closed: Whether the interlock allows emission.
        key_on: Whether the key switch is on; True where there is none.
        warm: Whether it has warmed up, so that its power is what was set.
        fault: What it reports to be wrong; empty if nothing.
    """

    emitting: bool
    interlock_closed: bool = True
    key_on: bool = True
    warm: bool = True
    fault: str = ""

    @property
    def obstacle(self) -> str:
        """What forbids emission and how to remove it; empty if nothing does."""
        if not self.interlock_closed:
            return "the interlock is open: close the enclosure, reset the interlock, and try again"
        if not self.key_on:
            return "the key switch is off: turn the key on, and try again"
        if self.fault:
            return f"the laser reports a fault, {self.fault}: find its cause, and try again"
        return ""


class Laser(Device):
    """A laser whose emission is off after opening and ends on every way out.

    Every command that touches the light is logged to the logger `opu.laser`.

    A bench file's laser, unless it is `simulated`, is driven by a process of its own that ends the
    emission if this one dies (`opu_driver.guardian`).

    Attributes:
        guarded: Whether it is driven so.
    """

    guarded: ClassVar[bool] = False

    _token: ArmedToken | None = None

    @property
    @abstractmethod
    def wavelength_nm(self) -> float:
        """Vacuum wavelength, nanometres."""

    @property
    @abstractmethod
    def power_limits_mw(self) -> tuple[float, float]:
        """Lowest and highest power that can be set, milliwatts."""

    @property
    def power_mw(self) -> float:
        """The power that is set, milliwatts, whether or not the laser emits."""
        self._require_open()
        return self._get_power_mw()

    @property
    def status(self) -> LaserStatus:
        """Emission, interlock, key, warmth and faults; asked of the device, not remembered."""
        self._require_open()
        return self._status()

    @property
    def interlock_closed(self) -> bool:
        """Whether the interlock allows emission."""
        return self.status.interlock_closed

    @property
    def emitting(self) -> bool:
        """Whether light comes out; asked of the device, not remembered."""
        return self.is_open and self._status().emitting

    def set_power_mw(self, power_mw: float) -> float:
        """Set the power and return what is in force.

        Raises:
            SettingError: Outside `power_limits_mw`; nothing was changed.
            LaserSafetyError: Above the ceiling that the laser is armed with; nothing was changed.
                Or the laser made more of it than the ceiling allows; it is dark.
        """
        self._require_open()
        low, high = self.power_limits_mw
        if not low <= power_mw <= high:
            raise SettingError(f"power_mw = {power_mw:g}; this laser takes {low:g} to {high:g} mW.")
        if self._token is not None:
            _require_below(power_mw, self._token)
        log.info("%s: power %g mW", self.identity, power_mw)
        self._set_power_mw(power_mw)
        in_force = self._get_power_mw()
        if self._token is not None and in_force > power_mw:  # a laser sets its power in steps
            try:
                _require_below(in_force, self._token)
            except LaserSafetyError:
                self.darken()
                raise
        return in_force

    def arm(self, holder: str, ceiling_mw: float) -> ArmedToken:
        """Ask for the right to emit; no light yet.

        Args:
            holder: Who asks; it stands in the log and in the message to the next who asks.
            ceiling_mw: No power above this, milliwatts, is set or emitted while armed.

        Raises:
            LaserSafetyError: Somebody else holds the token.
            SettingError: The ceiling is not positive.
        """
        self._require_open()
        if not ceiling_mw > 0:
            raise SettingError(f"ceiling_mw = {ceiling_mw:g}; it has to be above 0.")
        if self._token is not None:
            raise LaserSafetyError(
                f"The laser is armed by {self._token.holder!r}; disarm it there first."
            )
        token = ArmedToken(holder, ceiling_mw)
        self._arm(ceiling_mw)
        self._token = token
        log.info("%s: armed by %s, up to %g mW", self.identity, holder, ceiling_mw)
        return token

    def emit(self, token: ArmedToken) -> None:
        """Turn the light on.

        The device may still have to warm up; see `wait_until_warm`.

        Raises:
            LaserSafetyError: The token is not the armed one, the power that is set is above its
                ceiling, the interlock is open, the key is off, or the laser reports a fault.
        """
        self._require_open()
        if self._token is None or token is not self._token:
            raise LaserSafetyError("Emission needs the token of arm(), and this one is not armed.")
        power_mw = self._get_power_mw()
        _require_below(power_mw, token)
        obstacle = self._status().obstacle
        if obstacle:
            raise LaserSafetyError(f"Emission was refused: {obstacle}.")
        log.info("%s: emission on at %g mW", self.identity, power_mw)
        self._set_emission(True)

    def wait_until_warm(self, timeout_s: float) -> None:
        """Wait, while the laser emits, until its power is what was set.

        Raises:
            LaserSafetyError: Something forbids emission, or it is still cold when the time is up;
                the light is off.
        """
        end = time.monotonic() + timeout_s
        while not self.check().warm:
            if time.monotonic() > end:
                self.darken()
                raise LaserSafetyError(
                    f"The laser has not warmed up in {timeout_s:g} s, and was turned off. Look at "
                    "its temperature and its fault display."
                )
            time.sleep(_POLL_S)

    def check(self) -> LaserStatus:
        """Ask for the status while the light is on; darken and raise if something forbids it.

        Raises:
            LaserSafetyError: The interlock is open, the key is off or the laser reports a fault;
                the light is off.
        """
        status = self.status
        if status.obstacle:
            self.darken()
            raise LaserSafetyError(f"Emission has been turned off: {status.obstacle}.")
        return status

    def darken(self) -> None:
        """Turn the light off; allowed to anyone, at any time, and harmless when dark."""
        if self.is_open:
            log.info("%s: emission off", self.identity)
            self._set_emission(False)

    def disarm(self) -> None:
        """Darken, and void the token."""
        self._token = None
        if self.is_open:
            try:
                self.darken()
            finally:
                self._disarm()

    def close(self) -> None:
        """Darken, disarm, and let go of the laser."""
        if self.is_open:
            try:
                self.disarm()
            finally:
                super().close()

    @contextmanager
    def emission(self, holder: str, ceiling_mw: float) -> Iterator[None]:
        """Arm and emit inside a `with` block; dark and disarmed after it, however it ends."""
        token = self.arm(holder, ceiling_mw)
        try:
            self.emit(token)
            yield
        finally:
            self.disarm()

    @abstractmethod
    def _get_power_mw(self) -> float: ...

    @abstractmethod
    def _set_power_mw(self, power_mw: float) -> None: ...

    @abstractmethod
    def _status(self) -> LaserStatus: ...

    @abstractmethod
    def _set_emission(self, on: bool) -> None: ...

    def _arm(self, ceiling_mw: float) -> None:
        """Whoever drives the laser from another process arms it there."""

    def _disarm(self) -> None:
        """The same, undone."""


def _require_below(power_mw: float, token: ArmedToken) -> None:
    if not power_mw <= token.ceiling_mw * (1 + _ROUNDING):
        raise LaserSafetyError(
            f"power_mw = {power_mw:g}; the laser is armed up to {token.ceiling_mw:g} mW. Lower the "
            "power, or raise ceiling_mw in the bench file if the bench is safe with it."
        )
