"""A laser whose library tells its state as bits."""

from __future__ import annotations

from opu_driver.device import Found, Identity
from opu_driver.errors import DeviceError, DeviceLostError
from opu_driver.laser import Laser, LaserStatus

from example_devices import vendor
from example_devices.told import told

_EMITS, _CLOSED = 1, 2


class ExampleLaser(Laser):
    """A laser.

    On a bench it runs in a guardian process, which makes it anew from the bench file's keys: it
    must need nothing else, and it knows nothing of its guardian.

    Args:
        serial: Serial number.
    """

    def __init__(self, serial: str = "L1") -> None:
        self._serial = serial
        self._device: vendor.Diode | None = None

    @classmethod
    def discover(cls) -> list[Found]:
        """The lasers that are connected; asking does not touch the light."""
        serial = vendor.SERIALS["laser"]
        return [Found(Identity("Example", "laser", serial), {"serial": serial})]

    @property
    def address(self) -> str:
        """What two processes would fight over."""
        return f"example-laser {self._serial}"

    @property
    def identity(self) -> Identity:
        """Maker, model and serial number."""
        return Identity("Example", "laser", self._serial, "1.0")

    @property
    def wavelength_nm(self) -> float:
        """Vacuum wavelength, nanometres."""
        return 520.0

    @property
    def power_limits_mw(self) -> tuple[float, float]:
        """Lowest and highest power that can be set, milliwatts."""
        return 0.0, vendor.Diode.MAX_MW

    def _open(self) -> None:
        """Dark after this, whatever state it was found in."""
        with told("laser"):
            self._device = vendor.Diode(self._serial)
            self._darken(self._device)

    def _close(self) -> None:
        """The base class has darkened; unlike other devices, a lost laser does complain."""
        device, self._device = self._device, None
        if device is not None:
            device.close()

    def _get_power_mw(self) -> float:
        with told("laser"):
            self._opened.answer()
            return self._opened.power_mw

    def _set_power_mw(self, power_mw: float) -> None:
        with told("laser"):
            self._opened.set_power(power_mw)

    def _status(self) -> LaserStatus:
        """Asked of the device each time, never remembered."""
        with told("laser"):
            state = self._opened.state()
        return LaserStatus(bool(state & _EMITS), interlock_closed=bool(state & _CLOSED))

    def _set_emission(self, on: bool) -> None:
        with told("laser"):
            if on:
                self._opened.switch(True)
            else:
                self._darken(self._opened)

    def _darken(self, device: vendor.Diode) -> None:
        device.switch(False)
        if device.state() & _EMITS:
            raise DeviceLostError("The laser was told to be dark and is not: turn its key.")

    @property
    def _opened(self) -> vendor.Diode:
        if self._device is None:
            raise DeviceError("The laser is not open.")
        return self._device
