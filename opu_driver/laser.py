"""The laser's contract: dark unless somebody holds an armed token and the interlock is closed."""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from opu_driver.device import Device
from opu_driver.errors import LaserSafetyError, SettingError

log = logging.getLogger("opu.laser")


@dataclass(frozen=True)
class ArmedToken:
    """The right to emit, given by `Laser.arm` and void after `Laser.disarm`."""

    holder: str
    _proof: object = field(default_factory=object, repr=False)


class Laser(Device):
    """A laser whose emission is off after opening and ends on every way out.

    Every command that touches the light is logged to the logger `opu.laser`.
    """

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
    def interlock_closed(self) -> bool:
        """Whether the interlock allows emission."""
        self._require_open()
        return self._get_interlock_closed()

    @property
    def emitting(self) -> bool:
        """Whether light comes out; asked of the device, not remembered."""
        return self.is_open and self._get_emitting()

    def set_power_mw(self, power_mw: float) -> float:
        """Set the power and return what is in force.

        Raises:
            SettingError: Outside `power_limits_mw`; nothing was changed.
        """
        self._require_open()
        low, high = self.power_limits_mw
        if not low <= power_mw <= high:
            raise SettingError(f"power_mw = {power_mw:g}; this laser takes {low:g} to {high:g} mW.")
        log.info("%s: power %g mW", self.identity, power_mw)
        self._set_power_mw(power_mw)
        return self._get_power_mw()

    def arm(self, holder: str) -> ArmedToken:
        """Ask for the right to emit; no light yet.

        Args:
            holder: Who asks; it stands in the log and in the message to the next who asks.

        Raises:
            LaserSafetyError: Somebody else holds the token.
        """
        self._require_open()
        if self._token is not None:
            raise LaserSafetyError(
                f"The laser is armed by {self._token.holder!r}; disarm it there first."
            )
        self._token = ArmedToken(holder)
        log.info("%s: armed by %s", self.identity, holder)
        return self._token

    def emit(self, token: ArmedToken) -> None:
        """Turn the light on.

        Raises:
            LaserSafetyError: The token is not the armed one, or the interlock is open.
        """
        self._require_open()
        if self._token is None or token is not self._token:
            raise LaserSafetyError("Emission needs the token of arm(), and this one is not armed.")
        if not self._get_interlock_closed():
            raise LaserSafetyError(
                "The interlock is open: close the enclosure, reset the interlock, and try again."
            )
        log.info("%s: emission on at %g mW", self.identity, self._get_power_mw())
        self._set_emission(True)

    def check(self) -> None:
        """Poll the interlock while the light is on; darken and raise if it has opened.

        Raises:
            LaserSafetyError: The interlock is open; the light is off.
        """
        self._require_open()
        if not self._get_interlock_closed():
            self.darken()
            raise LaserSafetyError("The interlock opened: emission has been turned off.")

    def darken(self) -> None:
        """Turn the light off; allowed to anyone, at any time, and harmless when dark."""
        if self.is_open:
            log.info("%s: emission off", self.identity)
            self._set_emission(False)

    def disarm(self) -> None:
        """Darken, and void the token."""
        self.darken()
        self._token = None

    def close(self) -> None:
        """Darken, disarm, and let go of the laser."""
        if self.is_open:
            try:
                self.disarm()
            finally:
                super().close()

    @contextmanager
    def emission(self, holder: str) -> Iterator[None]:
        """Arm and emit inside a `with` block; dark and disarmed after it, however it ends."""
        token = self.arm(holder)
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
    def _get_interlock_closed(self) -> bool: ...

    @abstractmethod
    def _get_emitting(self) -> bool: ...

    @abstractmethod
    def _set_emission(self, on: bool) -> None: ...
