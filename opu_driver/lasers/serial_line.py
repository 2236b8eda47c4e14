"""Lines of text over a serial port, or over a TCP socket that stands for one.

Ports are named as pyserial names them: `COM3`, `/dev/ttyUSB0`, `/dev/serial/by-id/...`, or
`socket://host:port` for a serial device server. A serial port is opened exclusively: on Windows it
always is, elsewhere it is locked against everybody who asks.
"""

from __future__ import annotations

import errno
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from opu_driver.errors import DeviceBusyError, DeviceError, DeviceNotFoundError
from opu_driver.extras import vendor_library
from opu_driver.lasers.line import Line

if sys.platform == "win32":
    _FAILURES: tuple[type[BaseException], ...] = (OSError,)
else:
    import termios

    # serial.SerialException is an OSError; a port that is gone raises whatever its ioctl raises.
    _FAILURES = (OSError, termios.error)

_LONGEST = 4096


class SerialLine(Line):
    """A serial port that carries lines of text.

    Args:
        port: As pyserial names it.
        baud_rate: Bits a second; 8 data bits, no parity, 1 stop bit. A socket has none.
        ending: What ends a command.
        timeout_s: How long one line of an answer may take, seconds.
        spacing_s: Pause that the device needs after an answer, seconds.
    """

    def __init__(
        self, port: str, baud_rate: int, ending: str, timeout_s: float, spacing_s: float = 0.0
    ) -> None:
        super().__init__(f"serial port {port}", timeout_s, spacing_s)
        self._url = port
        self._baud_rate = baud_rate
        self._ending = ending
        self._port: Any = None

    @property
    def address(self) -> str:
        """One name for one port, whatever link it is opened by."""
        if "://" in self._url:
            return f"serial {self._url}"
        if os.name == "nt":
            return f"serial {self._url.upper()}"
        return f"serial {Path(self._url).resolve()}"

    @property
    def _failures(self) -> tuple[type[BaseException], ...]:
        return _FAILURES

    def _connect(self) -> None:
        serial = vendor_library("serial", "serial")
        try:
            self._port = serial.serial_for_url(
                self._url,
                baudrate=self._baud_rate,
                timeout=self._timeout_s,
                write_timeout=self._timeout_s,
                exclusive=True,
            )
        except _FAILURES as error:
            raise _why_not(self._url, error) from error
        except ValueError as error:  # a kind of URL that pyserial does not know
            raise _why_not(self._url, error) from error

    def _disconnect(self) -> None:
        port, self._port = self._port, None
        if port is None:
            return
        # pyserial leaves a socket open whose other end is gone already.
        socket = getattr(port, "_socket", None)
        with suppress(*_FAILURES):  # it is gone, and so is the need to close it
            if socket is not None:
                socket.close()
            port.close()

    def _send(self, command: str) -> None:
        self._require_port().write((command + self._ending).encode("ascii"))

    def _waiting(self) -> bool:
        return bool(self._require_port().in_waiting)

    def _receive(self, timeout_s: float) -> bytes:
        port = self._require_port()
        if port.timeout != timeout_s:
            port.timeout = timeout_s
        received = bytes(port.read_until(b"\n", _LONGEST))
        # The time is up also for a process that did not run meanwhile: what lies there has come.
        while not received.endswith(b"\n") and len(received) < _LONGEST and port.in_waiting:
            received += port.read_until(b"\n", _LONGEST - len(received))
        return received

    def _require_port(self) -> Any:
        if self._port is None:
            raise self._lost("it has been closed")
        return self._port


def _why_not(port: str, error: BaseException) -> DeviceError:
    number = getattr(error, "errno", None)
    denied = number == errno.EACCES or "PermissionError" in str(error)
    if number in (errno.EAGAIN, errno.EBUSY) or (denied and os.name == "nt"):
        return DeviceBusyError(
            f"The serial port {port} is in use by another program; close that one first."
        )
    if denied:
        return DeviceError(
            f"The serial port {port} may not be opened by this user ({error}). On Linux, add the "
            "user to the group that owns it, mostly dialout, and log in again."
        )
    ports = vendor_library("serial.tools.list_ports", "serial").comports()
    present = ", ".join(sorted(str(found.device) for found in ports)) or "none"
    return DeviceNotFoundError(
        f"There is no serial port {port} ({error}). Ports that are there: {present}."
    )
