"""Aravis' own fake GigE Vision camera, a program that speaks the protocol on the network."""

from __future__ import annotations

import shutil
import subprocess
import time
from types import TracebackType
from typing import Self

from opu_driver.cameras.aravis import AravisCamera
from opu_driver.errors import DeviceError, DriverMissingError

_PROGRAM = "arv-fake-gv-camera-0.8"
_START_S = 20.0


class FakeGigECamera:
    """A GigE Vision camera on this machine, at 127.0.0.1; use it in a `with` block.

    There is room for one at a time: the protocol has one port. Its frames are a moving pattern,
    it knows software triggers and its own clock, and its frame ids begin at 65400, so that they
    soon wrap.

    Args:
        serial: Serial number.
        lost_packets_permille: How many of a thousand packets with pixels get lost.

    Raises:
        DriverMissingError: The program is not installed.
        DeviceError: It does not start.
    """

    def __init__(self, serial: str = "OPU1", lost_packets_permille: int = 0) -> None:
        program = shutil.which(_PROGRAM)
        if program is None:
            raise DriverMissingError(
                f"{_PROGRAM} is not installed; on Debian and Ubuntu install aravis-tools."
            )
        self.serial = serial
        self._command = [program, "-i", "127.0.0.1", "-s", serial]
        self._command += ["-r", str(lost_packets_permille)]
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.plug_in()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.unplug()

    def plug_in(self) -> None:
        """Start the camera, and wait until it answers.

        Raises:
            DeviceError: It does not start; most often another one has taken the port.
            DriverMissingError: PyGObject or Aravis is not installed.
        """
        self._process = subprocess.Popen(
            self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        deadline_s = time.monotonic() + _START_S
        while {"serial": self.serial} not in [found.options for found in AravisCamera.discover()]:
            if self._process.poll() is not None or time.monotonic() > deadline_s:
                self.unplug()
                raise DeviceError(
                    f"{_PROGRAM} does not answer at 127.0.0.1. Stop other GigE Vision cameras on "
                    "this machine: they share UDP port 3956."
                )

    def unplug(self) -> None:
        """Kill the camera in the middle of whatever it does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
