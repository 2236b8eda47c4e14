"""Lines of text over VISA: whatever PyVISA reaches, with or without a vendor's VISA library."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path
from typing import Any

from opu_driver.errors import DeviceBusyError, DeviceError, DeviceNotFoundError, SettingError
from opu_driver.extras import vendor_library
from opu_driver.lasers.line import Line


class VisaLine(Line):
    """A VISA resource that carries lines of text.

    Args:
        resource: VISA address, such as `TCPIP::192.168.0.7::5025::SOCKET` or `ASRL3::INSTR`.
        backend: PyVISA's name of the library: `@py` for pyvisa-py, `@ivi` for a vendor's.
        baud_rate: Bits a second of a serial port; 0 for what it is set to, or where it has none.
        ending: What ends a command.
        timeout_s: How long one line of an answer may take, seconds.
    """

    def __init__(
        self, resource: str, backend: str, baud_rate: int, ending: str, timeout_s: float
    ) -> None:
        super().__init__(f"VISA resource {resource}", timeout_s)
        self._resource_name = resource
        self._backend = backend
        self._baud_rate = baud_rate
        self._ending = ending
        self._manager: Any = None
        self._resource: Any = None

    @property
    def address(self) -> str:
        """The VISA address; a serial port's is that of the port."""
        port = re.fullmatch(r"ASRL(/.+?)(::INSTR)?", self._resource_name, re.IGNORECASE)
        if port:
            return f"serial {Path(port[1]).resolve()}"
        return f"visa {self._resource_name.upper()}"

    @property
    def _failures(self) -> tuple[type[BaseException], ...]:
        # pyvisa-py lets the errors of sockets and of pyserial, which are OSErrors, through.
        return (vendor_library("pyvisa", "visa").errors.Error, OSError)

    def _connect(self) -> None:
        pyvisa = vendor_library("pyvisa", "visa")
        try:
            self._manager = pyvisa.ResourceManager(self._backend)
        except (OSError, ValueError) as error:
            raise DeviceError(
                f"backend = {self._backend!r} is no VISA library that PyVISA finds ({error}). "
                "`pip install 'opu[visa]'` brings '@py'."
            ) from error
        try:
            self._resource = self._manager.open_resource(
                self._resource_name, open_timeout=round(self._timeout_s * 1e3)
            )
            self._resource.timeout = self._timeout_s * 1e3
            self._resource.read_termination = "\n"
            self._resource.write_termination = self._ending
            if self._baud_rate:
                self._resource.baud_rate = self._baud_rate
        except (AttributeError, ValueError) as error:
            raise SettingError(
                f"resource = {self._resource_name!r} cannot be used ({error}). It has to be a VISA "
                "address that carries lines of text, such as 'TCPIP::192.168.0.7::5025::SOCKET' or "
                "'ASRL3::INSTR'; baud_rate belongs to serial ports alone."
            ) from error
        except self._failures as error:
            raise self._why_not(error) from error

    def _why_not(self, error: BaseException) -> DeviceError:
        busy = getattr(error, "abbreviation", "") in (
            "VI_ERROR_RSRC_BUSY",
            "VI_ERROR_RSRC_LOCKED",
        )
        if busy:
            return DeviceBusyError(
                f"The {self.name} is in use by another program; close that one first."
            )
        return DeviceNotFoundError(
            f"There is no {self.name} ({error}). Check address, cable and power; `pyvisa-shell` "
            "lists what VISA reaches."
        )

    def _disconnect(self) -> None:
        resource, manager = self._resource, self._manager
        self._resource = self._manager = None
        for held in (resource, manager):
            if held is not None:
                with suppress(*self._failures):  # it is gone, and so is the need to close it
                    held.close()

    def _send(self, command: str) -> None:
        self._require_resource().write(command)

    def _waiting(self) -> bool:
        return bool(getattr(self._require_resource(), "bytes_in_buffer", 0))

    def _receive(self, timeout_s: float) -> bytes:
        resource = self._require_resource()
        resource.timeout = timeout_s * 1e3
        try:
            return bytes(resource.read_raw())
        except self._failures as error:
            if getattr(error, "abbreviation", "") == "VI_ERROR_TMO":
                return b""
            raise

    def _require_resource(self) -> Any:
        if self._resource is None:
            raise self._lost("it has been closed")
        return self._resource
