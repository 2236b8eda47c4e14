"""What every device is: something that opens whole or not at all, and has an identity."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from types import TracebackType
from typing import ClassVar, Self

from opu_driver.errors import DeviceStateError


@dataclass(frozen=True)
class Identity:
    """Who a device says it is; calibrations are bound to it.

    Attributes:
        vendor: Maker.
        model: Model name.
        serial: Serial number, unique within the model.
        firmware: Firmware or library version; it may change without making a calibration stale.
    """

    vendor: str
    model: str
    serial: str
    firmware: str = ""

    def same_device(self, other: Identity) -> bool:
        """Whether both are one physical device, whatever firmware it runs."""
        return (self.vendor, self.model, self.serial) == (other.vendor, other.model, other.serial)

    def __str__(self) -> str:
        return f"{self.vendor} {self.model} #{self.serial}"


@dataclass(frozen=True)
class Found:
    """A device that is connected now.

    Attributes:
        identity: Who it says it is.
        options: The keys of the bench file, beside `driver`, that address it.
        reservation: Why nobody should take it unasked, such as "the desktop's own monitor"; empty
            if nothing speaks against it.
    """

    identity: Identity
    options: dict[str, str | int | float | bool]
    reservation: str = ""


class Device(ABC):
    """A context manager around one piece of hardware.

    Public methods check the state and the arguments, then call the driver's private half
    (`_open`, `_close`, ...). A driver implements only the private half.

    Attributes:
        simulated: Whether it exists in this process only, in simulated time.
    """

    simulated: ClassVar[bool] = False

    _is_open: bool = False

    @classmethod
    def discover(cls) -> list[Found]:
        """The devices of this driver that are connected now; none emits, shows or takes anything.

        Raises:
            DriverMissingError: The driver's library is not installed.
        """
        return []

    @classmethod
    def is_searched_for(cls) -> bool:
        """Whether `discover` looks for devices; some cannot be found without disturbing them."""
        own = getattr(cls.discover, "__func__", None)  # None: somebody's static method
        return own is not getattr(Device.discover, "__func__", None)

    @property
    def address(self) -> str | None:
        """What two processes would fight over, such as `serial COM3`; known before opening.

        None for one that nobody else can reach, such as a simulated one.
        """
        return None

    @property
    @abstractmethod
    def identity(self) -> Identity:
        """Who the device says it is; available once it is open."""

    @property
    def is_open(self) -> bool:
        """Whether the device is ready to be used."""
        return self._is_open

    def open(self) -> Self:
        """Open the device whole, or leave nothing open.

        Raises:
            DeviceStateError: It is open already.
            DeviceNotFoundError, DeviceBusyError, DriverMissingError: As their names say.
        """
        if self._is_open:
            raise DeviceStateError(f"{type(self).__name__} is open already; close it first.")
        try:
            self._open()
        except BaseException:
            self._close()
            raise
        self._is_open = True
        return self

    def close(self) -> None:
        """Bring the device to rest and let go of it; closing twice is harmless."""
        if self._is_open:
            self._is_open = False
            self._close()

    def __enter__(self) -> Self:
        return self if self._is_open else self.open()

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _require_open(self) -> None:
        if not self._is_open:
            raise DeviceStateError(
                f"{type(self).__name__} is not open; open it with `with device:` or device.open()."
            )

    @abstractmethod
    def _open(self) -> None:
        """Open the hardware; raise, and `_close` is called to undo what was done."""

    @abstractmethod
    def _close(self) -> None:
        """Let go of the hardware; must be safe after a partial `_open`."""
