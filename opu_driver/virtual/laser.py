"""The virtual laser."""

from __future__ import annotations

from opu_driver.device import Identity
from opu_driver.errors import SettingError
from opu_driver.laser import Laser, LaserStatus
from opu_driver.virtual.scene import Scene


class VirtualLaser(Laser):
    """A laser that lights a scene.

    Args:
        scene: Where its light goes.
        max_power_mw: Highest power, milliwatts.
        wavelength_nm: Vacuum wavelength, nanometres.

    Raises:
        SettingError: A number that is not positive.
    """

    simulated = True

    def __init__(
        self, scene: Scene, max_power_mw: float = 100.0, wavelength_nm: float = 532.0
    ) -> None:
        if not (max_power_mw > 0 and wavelength_nm > 0):
            raise SettingError(
                f"max_power_mw = {max_power_mw:g}, wavelength_nm = {wavelength_nm:g}: both must be "
                "above 0."
            )
        self._scene = scene
        self._max_power_mw = max_power_mw
        self._wavelength_nm = wavelength_nm
        self._power_mw = 0.0
        self._on = False
        self._enclosure_closed = True
        scene.install(self, "laser")

    @property
    def identity(self) -> Identity:
        """The serial number is the scene's seed."""
        return Identity("opu", "virtual laser", f"{self._scene.seed}")

    @property
    def wavelength_nm(self) -> float:
        """Vacuum wavelength, nanometres."""
        return self._wavelength_nm

    @property
    def power_limits_mw(self) -> tuple[float, float]:
        """From 0 to `max_power_mw`."""
        return 0.0, self._max_power_mw

    @property
    def output_mw(self) -> float:
        """The power that leaves the laser now; an open interlock cuts it, whoever armed it."""
        return self._power_mw if self._status().emitting else 0.0

    def open_enclosure(self) -> None:
        """Open the interlock by hand; emission ends."""
        self._enclosure_closed = False
        self._on = False

    def close_enclosure(self) -> None:
        """Close the interlock by hand; emission does not come back by itself."""
        self._enclosure_closed = True

    def _open(self) -> None:
        self._on = False

    def _close(self) -> None:
        self._on = False

    def _get_power_mw(self) -> float:
        return self._power_mw

    def _set_power_mw(self, power_mw: float) -> None:
        self._power_mw = power_mw

    def _status(self) -> LaserStatus:
        closed = self._enclosure_closed and self._scene.interlock_closed
        if not closed:
            self._on = False
        return LaserStatus(self._on, interlock_closed=closed)

    def _set_emission(self, on: bool) -> None:
        self._on = on
