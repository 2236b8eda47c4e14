"""An emulated ViALUX DMD: the ALP-4 library's entry points on mirrors that are only memory.

The library is `alp.c`, compiled with the machine's C compiler when an emulator is made. Drivers
load it as they load the vendor's; this class is the other side: it reads what the mirrors showed,
gives trigger edges, and makes things go wrong.
"""

from __future__ import annotations

import ctypes
import functools
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from opu_driver.emulators.shown_pattern import Fault, ShownPattern
from opu_driver.errors import DeviceError, DriverMissingError, SettingError

_FAULTS: dict[Fault, int] = {"lost edge": 1, "dropped picture": 2, "doubled picture": 3}

_REMEMBERED_BYTES = 1 << 28


@functools.cache
def compiled_library() -> bytes:
    """The emulated library, compiled once a process.

    Raises:
        DriverMissingError: There is no C compiler, or it fails.
    """
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise DriverMissingError(
            "The emulated ALP library is compiled on this machine, which has no C compiler (cc, "
            "gcc or clang). Install one, for instance Debian's gcc and libc6-dev."
        )
    source = Path(__file__).with_name("alp.c")
    with tempfile.TemporaryDirectory(prefix="emulated-alp-") as folder:
        target = Path(folder) / "libalp.so"
        done = subprocess.run(
            [compiler, "-shared", "-fPIC", "-O2", "-pthread", "-o", str(target), str(source)],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise DriverMissingError(f"{compiler} cannot compile {source}:\n{done.stderr.strip()}")
        return target.read_bytes()


class EmulatedALP:
    """One emulated ViALUX DMD, in a library of its own.

    Args:
        shape: Rows and columns of mirrors. With 1024 or 1920 columns it takes packed uploads.
        serial: Serial number.
        dmd_type: What it says it is (`ALP_DEV_DMDTYPE`); 4 is a DLP7000.
        memory: Binary pictures that its memory holds.
        min_picture_time_us: Shortest time from picture to picture, microseconds.
        keeps_packed: Whether the library knows packed data formats, as all but old ones do.

    Attributes:
        library: The file to load, as the driver's option `library`.

    Raises:
        SettingError: A number is not positive.
        DriverMissingError: No C compiler.
    """

    def __init__(
        self,
        shape: tuple[int, int] = (64, 64),
        serial: int = 4711,
        dmd_type: int = 4,
        memory: int = 2048,
        min_picture_time_us: int = 44,
        keeps_packed: bool = True,
    ) -> None:
        rows, columns = shape
        if min(rows, columns, serial, memory, min_picture_time_us) < 1:
            raise SettingError(
                f"An emulated DMD with shape = {shape}, serial = {serial}, memory = {memory}, "
                f"min_picture_time_us = {min_picture_time_us}; all must be above 0."
            )
        library = compiled_library()
        self._folder = tempfile.TemporaryDirectory(prefix="emulated-alp-")
        # Each emulator is a file of its own: loading one file twice gives one library.
        self.library = Path(self._folder.name) / "libalp_emulated.so"
        self.library.write_bytes(library)
        self._shape = (rows, -(-columns // 8))
        self._c = ctypes.CDLL(os.fspath(self.library))
        self._declare()
        remembered = max(64, min(1 << 16, _REMEMBERED_BYTES // (rows * self._shape[1])))
        made = self._c.emu_create(
            serial,
            dmd_type,
            rows,
            columns,
            memory,
            min_picture_time_us,
            int(keeps_packed),
            remembered,
        )
        if not made:
            raise DeviceError(
                f"No memory for an emulated DMD of {rows} x {columns} mirrors; make it smaller."
            )

    def _declare(self) -> None:
        c = self._c
        c.emu_create.argtypes = [ctypes.c_long] * 6 + [ctypes.c_int, ctypes.c_long]
        c.emu_plug.argtypes = [ctypes.c_int]
        c.emu_plug.restype = None
        c.emu_fail.argtypes = [ctypes.c_char_p, ctypes.c_long]
        c.emu_fail.restype = None
        c.emu_fault.argtypes = [ctypes.c_int, ctypes.c_long]
        c.emu_fault.restype = None
        c.emu_edge.restype = ctypes.c_longlong
        c.emu_count.restype = ctypes.c_longlong
        c.emu_shown.argtypes = [
            ctypes.c_longlong,
            ctypes.c_double,
            ctypes.POINTER(ctypes.c_double),
            ctypes.POINTER(ctypes.c_int),
            ctypes.c_void_p,
        ]
        c.emu_watch.argtypes = [ctypes.c_int]
        c.emu_watch.restype = None
        c.emu_saw.argtypes = [ctypes.c_longlong]
        c.emu_saw.restype = None
        c.emu_awaited.restype = ctypes.c_longlong
        c.emu_mirrors.argtypes = [ctypes.c_void_p]
        c.emu_mirrors.restype = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._folder.cleanup()

    @property
    def count(self) -> int:
        """Pictures shown since the emulator was made."""
        return int(self._c.emu_count())

    def shown(self, index: int, timeout_s: float = 0.0) -> ShownPattern | None:
        """Picture number `index`; None if it is not shown within `timeout_s`.

        Raises:
            DeviceError: It was shown so long ago that it is forgotten.
        """
        time_s, edge = ctypes.c_double(), ctypes.c_int()
        mirrors = np.empty(self._shape, np.uint8)
        found = self._c.emu_shown(
            index, timeout_s, ctypes.byref(time_s), ctypes.byref(edge), mirrors.ctypes.data
        )
        if found < 0:
            raise DeviceError(
                f"Picture {index} of the emulated DMD is forgotten; {self.count} have been shown. "
                "Read them sooner, or show them more slowly."
            )
        if not found:
            return None
        return ShownPattern(index, time_s.value, bool(edge.value), mirrors)

    @property
    def mirrors(self) -> NDArray[np.uint8]:
        """The mirrors as they are now, uint8 `[row, byte]`."""
        mirrors = np.empty(self._shape, np.uint8)
        self._c.emu_mirrors(mirrors.ctypes.data)
        return mirrors

    def watch(self, watched: bool) -> None:
        """Begin or end to look at all that is shown, and to tell with `saw` what has been seen.

        A driver that steps through pictures exposes a camera as soon as the mirrors rest. Where
        light is computed that is too soon; so such a step lasts until its picture has been seen.
        """
        self._c.emu_watch(int(watched))

    def saw(self, index: int) -> None:
        """Picture number `index`, and all before it, have been looked at."""
        self._c.emu_saw(index)

    @property
    def awaited(self) -> int | None:
        """The picture that a driver's step waits to be seen."""
        index = int(self._c.emu_awaited())
        return None if index < 0 else index

    def edge(self) -> int:
        """One edge on the trigger input; returns how many have come too early or for nothing."""
        return int(self._c.emu_edge())

    def fault(self, kind: Fault, later: int = 0) -> None:
        """Let something go wrong with the picture that is shown `later` pictures from now."""
        self._c.emu_fault(_FAULTS[kind], later)

    def fail(self, function: str, code: int) -> None:
        """Let the next call of a library function return an error code, and do nothing."""
        self._c.emu_fail(function.encode(), code)

    def unplug(self) -> None:
        """Take the device away; handles to it stay dead when it comes back."""
        self._c.emu_plug(0)

    def plug(self) -> None:
        """Bring the device back."""
        self._c.emu_plug(1)
