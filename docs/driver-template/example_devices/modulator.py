"""A DMD whose library takes packed patterns and shows them on its own clock."""

from __future__ import annotations

import math
import time
from contextlib import suppress

from opu_driver.device import Found, Identity
from opu_driver.errors import CaptureTimeoutError, DeviceError, DeviceStateError, SettingError
from opu_driver.modulator import Modulator, Patterns

from example_devices import vendor
from example_devices.told import told


class ExampleDMD(Modulator):
    """A DMD.

    The constructor's keywords are the keys of the bench file, its annotations what is allowed.

    Args:
        serial: Serial number.
        settling_us: From the trigger edge until the mirrors rest, microseconds.

    Raises:
        SettingError: The settling time is negative.
    """

    def __init__(self, serial: str = "D1", settling_us: float = 20.0) -> None:
        if not settling_us >= 0:
            raise SettingError(f"settling_us = {settling_us:g}; it has to be 0 or more.")
        self._serial = serial
        self._settling_us = settling_us
        self._device: vendor.Mirrors | None = None
        self._shown = 0

    @classmethod
    def discover(cls) -> list[Found]:
        """The DMDs that are connected; none is opened."""
        serial = vendor.SERIALS["modulator"]
        return [Found(Identity("Example", "DMD", serial), {"serial": serial})]

    @property
    def address(self) -> str:
        """What two processes would fight over."""
        return f"example-dmd {self._serial}"

    @property
    def identity(self) -> Identity:
        """Maker, model and serial number."""
        return Identity("Example", "DMD", self._serial, "1.0")

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of mirrors."""
        return vendor.Mirrors.ROWS, vendor.Mirrors.COLUMNS

    @property
    def levels(self) -> int:
        """2."""
        return 2

    @property
    def pitch_um(self) -> float:
        """Distance between neighbouring mirrors, micrometres; from the data sheet."""
        return 13.68

    @property
    def max_rate_hz(self) -> float:
        """Highest rate at which patterns can follow each other."""
        return 1e6 / vendor.Mirrors.SHORTEST_US

    @property
    def settling_us(self) -> float:
        """Time after a pattern's trigger edge until the mirrors rest, microseconds."""
        return self._settling_us

    @property
    def capacity(self) -> int:
        """How many patterns one batch may hold."""
        return vendor.Mirrors.MEMORY

    def _open(self) -> None:
        with told("modulator"):
            self._device = vendor.Mirrors(self._serial)

    def _close(self) -> None:
        """Called after a partial `_open`, too, and when the device is gone: it never complains."""
        device, self._device = self._device, None
        self._loaded = self._shown = 0
        if device is not None:
            with suppress(vendor.VendorError):
                device.halt()
            device.close()

    def _load(self, patterns: Patterns) -> None:
        self._require_rest()
        with told("modulator"):
            self._opened.upload([pattern.tobytes() for pattern in patterns])
        self._shown = 0

    def _start(self, rate_hz: float) -> None:
        """Starts on the device's clock of whole microseconds: at `rate_hz`, or the next below."""
        self._require_rest()
        with told("modulator"):
            self._opened.run(math.ceil(1e6 / rate_hz - 1e-3))
        self._shown = self._loaded

    def _step(self, index: int) -> None:
        self._require_rest()
        with told("modulator"):
            self._opened.hold(index)
        time.sleep(1e-6 * self._settling_us)
        self._shown = index + 1

    def _wait(self, timeout_s: float) -> int:
        with told("modulator"):
            left_s = self._opened.left_s()
        time.sleep(min(left_s, timeout_s))
        if left_s > timeout_s:
            raise CaptureTimeoutError(
                f"The DMD was still showing its batch of {self._loaded} patterns after "
                f"{timeout_s:g} s. Wait longer, or stop it."
            )
        return self._shown

    def _stop(self) -> None:
        with told("modulator"):
            self._opened.halt()

    def _require_rest(self) -> None:
        with told("modulator"):
            left_s = self._opened.left_s()
        if left_s:
            raise DeviceStateError(
                f"The DMD is still showing a batch for {left_s:.3g} s; wait for its end, or stop "
                "it."
            )

    @property
    def _opened(self) -> vendor.Mirrors:
        if self._device is None:
            raise DeviceError("The DMD is not open.")
        return self._device
