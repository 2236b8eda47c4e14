"""Monitors without hardware: an X server whose scanned-out pixels lie in a mapped file.

`Xvfb -fbdir` keeps its frame buffer in a file, in the format of `xwd` (X11/XWDFile.h: a header of
32-bit numbers, most significant byte first). What is in it is what a monitor would be sent, the
mouse cursor included. One wide screen is split into monitors with `xrandr --setmonitor`. X servers
run on Linux only.
"""

from __future__ import annotations

import mmap
import os
import shutil
import subprocess
import tempfile
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from opu_driver.errors import DeviceError, DriverMissingError

_HEADER_SIZE, _BYTES_PER_LINE, _COLOURS = 0, 12, 19
"""Places of numbers in the header."""


class EmulatedScreens:
    """An X server with monitors side by side, from left to right.

    Args:
        monitors: Names and shapes (rows, columns) of the monitors; the first is the primary one.

    Raises:
        DriverMissingError: Xvfb or xrandr is not installed.
    """

    def __init__(self, monitors: dict[str, tuple[int, int]]) -> None:
        for program, package in (("Xvfb", "xvfb"), ("xrandr", "x11-xserver-utils")):
            if shutil.which(program) is None:
                raise DriverMissingError(
                    f"The program {program} is not installed; `apt install {package}` brings it."
                )
        self.monitors = monitors
        self.display = ""
        self._resources = ExitStack()
        self._buffer: mmap.mmap | None = None

    def __enter__(self) -> Self:
        with ExitStack() as resources:
            folder = Path(resources.enter_context(tempfile.TemporaryDirectory()))
            server, self.display = self._start(folder)
            resources.callback(_end, server)
            with (folder / "Xvfb_screen0").open("rb") as file:
                self._buffer = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            resources.callback(self._buffer.close)
            left = 0
            for name, (rows, columns) in self.monitors.items():
                self.place(name, left, rows, columns)
                left += columns
            self._resources = resources.pop_all()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._resources.close()

    def place(self, name: str, left: int, rows: int, columns: int) -> None:
        """Plug a monitor in."""
        first = name == next(iter(self.monitors))
        place = f"{columns}/{columns}x{rows}/{rows}+{left}+0"
        self.xrandr("--setmonitor", name, place, "screen" if first else "none")

    def unplug(self, name: str) -> None:
        """Pull a monitor's cable."""
        self.xrandr("--delmonitor", name)

    def xrandr(self, *arguments: str) -> None:
        """Change the screens otherwise; see the manual page of xrandr."""
        subprocess.run(
            ["xrandr", "--display", self.display, *arguments], check=True, capture_output=True
        )

    def scanned_out(self, name: str) -> NDArray[np.uint8]:
        """What a monitor is sent now: uint8 `[row, column, (blue, green, red)]`."""
        if self._buffer is None:
            raise DeviceError("The emulated screens do not run; use them in a `with` block.")
        header = np.frombuffer(self._buffer, ">u4", 25)
        stride = int(header[_BYTES_PER_LINE])
        start = int(header[_HEADER_SIZE]) + 12 * int(header[_COLOURS])
        rows, columns = self.monitors[name]
        before = list(self.monitors)[: list(self.monitors).index(name)]
        left = sum(self.monitors[other][1] for other in before)
        whole = np.frombuffer(self._buffer[start : start + stride * rows], np.uint8)
        return whole.reshape(rows, stride // 4, 4)[:, left : left + columns, :3]

    def _start(self, folder: Path) -> tuple[subprocess.Popen[bytes], str]:
        rows = max(shape[0] for shape in self.monitors.values())
        columns = sum(shape[1] for shape in self.monitors.values())
        told, tell = os.pipe()
        screen = ["-screen", "0", f"{columns}x{rows}x24", "-fbdir", str(folder)]
        server = subprocess.Popen(
            ["Xvfb", "-displayfd", str(tell), *screen, "-noreset", "-nolisten", "tcp"],
            pass_fds=(tell,),
            stderr=subprocess.DEVNULL,
        )
        os.close(tell)
        with os.fdopen(told) as answer:
            number = answer.readline().strip()
        if not number:
            _end(server)
            raise DeviceError("Xvfb did not start; is /tmp/.X11-unix writable?")
        return server, f":{number}"


def _end(server: subprocess.Popen[bytes]) -> None:
    server.terminate()
    try:
        server.wait(5.0)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()
