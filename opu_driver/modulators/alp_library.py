"""The ALP-4 library of ViALUX: finding it, calling it, and what its error codes mean.

Names and numbers are those of ViALUX's header `alp.h` (ALP-4.1 to 4.3, versions 7 to 28) and of the
"ALP-4 controller suite, API description", which comes with that suite and is described there by
function: AlpDevAlloc, AlpDevControl, AlpDevInquire; AlpSeqAlloc, AlpSeqControl, AlpSeqTiming,
AlpSeqPut; AlpProjStart, AlpProjControl, AlpProjInquire; and their return codes.

It is called through ctypes, not through ALP4lib: the types are exactly the header's, every
returned code becomes a typed error with its name, and nothing blocks inside the library. `ALP_ID`
is an `unsigned long` and all numbers are `long`: 4 bytes on Windows, 8 on 64-bit Linux, which is
what ctypes' `c_ulong` and `c_long` are. Variables that the library writes to begin as 0, so that
one built with 4-byte numbers is read right as well (on little-endian machines).
"""

from __future__ import annotations

import ctypes
import os
import sys
from dataclasses import dataclass

from opu_driver.errors import (
    DeviceBusyError,
    DeviceError,
    DeviceLostError,
    DeviceNotFoundError,
    DeviceStateError,
    DriverMissingError,
)

DEFAULT = 0
"""ALP_DEFAULT: the library's own choice."""

# AlpDevInquire, AlpDevControl
DEVICE_NUMBER = 2000  # serial number
VERSION = 2001  # of the device
AVAIL_MEMORY = 2003  # free on-board memory, in binary pictures
SYNCH_POLARITY = 2004  # of the trigger output: LEVEL_HIGH, LEVEL_LOW
TRIGGER_EDGE = 2005  # of the trigger input that counts: EDGE_FALLING, EDGE_RISING
LEVEL_HIGH, LEVEL_LOW = 2006, 2007
EDGE_FALLING, EDGE_RISING = 2008, 2009
DEV_DMDTYPE = 2021
DEV_DISPLAY_HEIGHT, DEV_DISPLAY_WIDTH = 2057, 2058  # rows and columns of mirrors

# AlpSeqControl
FIRSTFRAME, LASTFRAME = 2101, 2102  # pictures of a sequence that are shown, both included
BITNUM = 2103  # bits of each picture that are shown
BIN_MODE, BIN_UNINTERRUPTED = 2104, 2106  # no dark phase between pictures
DATA_FORMAT = 2110  # of the data given to AlpSeqPut
DATA_BINARY_TOPDOWN = 2  # eight mirrors a byte, top row first, bit 7 is the leftmost

# AlpSeqInquire, microseconds
PICTURE_TIME, MIN_PICTURE_TIME, MAX_PICTURE_TIME = 2203, 2211, 2213

# AlpProjControl, AlpProjInquire
PROJ_MODE, MASTER, SLAVE = 2300, 2301, 2302  # own clock; a picture for each trigger edge
PROJ_STATE, PROJ_IDLE = 2400, 1201

OK = 0
PARM_INVALID = 1005


@dataclass(frozen=True)
class _Answer:
    name: str
    error: type[DeviceError]
    meaning: str


_ANSWERS = {
    1001: _Answer("ALP_NOT_ONLINE", DeviceNotFoundError, "no such device is connected and ready"),
    1002: _Answer("ALP_NOT_IDLE", DeviceStateError, "it is showing a sequence"),
    1003: _Answer("ALP_NOT_AVAILABLE", DeviceError, "it does not know this device or sequence"),
    1004: _Answer("ALP_NOT_READY", DeviceBusyError, "another program uses it; close that program"),
    1005: _Answer("ALP_PARM_INVALID", DeviceError, "it refuses a parameter"),
    1006: _Answer("ALP_ADDR_INVALID", DeviceError, "it cannot read the data"),
    1007: _Answer(
        "ALP_MEMORY_FULL", DeviceError, "its memory is full; load fewer patterns at once"
    ),
    1008: _Answer("ALP_SEQ_IN_USE", DeviceStateError, "the sequence is being shown"),
    1009: _Answer("ALP_HALTED", DeviceStateError, "it was stopped during an upload"),
    1010: _Answer("ALP_ERROR_INIT", DeviceError, "it did not start up; power-cycle it"),
    1011: _Answer("ALP_ERROR_COMM", DeviceLostError, "it does not answer; check the USB cable"),
    1012: _Answer("ALP_DEVICE_REMOVED", DeviceLostError, "it was unplugged or switched off"),
    1013: _Answer("ALP_NOT_CONFIGURED", DeviceError, "its FPGA is not configured; power-cycle it"),
    1014: _Answer("ALP_LOADER_VERSION", DeviceError, "its driver is too old; update it"),
    1018: _Answer("ALP_ERROR_POWER_DOWN", DeviceError, "its mirrors do not wake up; restart it"),
    1019: _Answer("ALP_DRIVER_VERSION", DeviceError, "its driver is too old; update it"),
    1020: _Answer("ALP_SDRAM_INIT", DeviceError, "its memory did not start up; power-cycle it"),
    1021: _Answer("ALP_CONFIG_MISMATCH", DeviceError, "it is not configured for this call"),
}

_NAMES = (
    [
        "alp4395.dll",
        r"C:\Program Files\ALP-4.3\ALP-4.3 API\x64\alp4395.dll",
        "alpV42.dll",
        "alpD41.dll",
    ]
    if sys.platform == "win32"
    else ["libalp43.so", "libalp42.so", "libalp41.so"]
)
"""What the library is called and where ViALUX installs it, ALP-4.3 first."""

_LONG, _ID = ctypes.c_long, ctypes.c_ulong
_OUT_LONG, _OUT_ID = ctypes.POINTER(ctypes.c_long), ctypes.POINTER(ctypes.c_ulong)

_CALLS: dict[str, list[type]] = {
    "AlpDevAlloc": [_LONG, _LONG, _OUT_ID],
    "AlpDevHalt": [_ID],
    "AlpDevFree": [_ID],
    "AlpDevControl": [_ID, _LONG, _LONG],
    "AlpDevInquire": [_ID, _LONG, _OUT_LONG],
    "AlpSeqAlloc": [_ID, _LONG, _LONG, _OUT_ID],
    "AlpSeqFree": [_ID, _ID],
    "AlpSeqControl": [_ID, _ID, _LONG, _LONG],
    "AlpSeqTiming": [_ID, _ID, _LONG, _LONG, _LONG, _LONG, _LONG],
    "AlpSeqInquire": [_ID, _ID, _LONG, _OUT_LONG],
    "AlpSeqPut": [_ID, _ID, _LONG, _LONG, ctypes.c_void_p],
    "AlpProjStart": [_ID, _ID],
    "AlpProjStartCont": [_ID, _ID],
    "AlpProjHalt": [_ID],
    "AlpProjControl": [_ID, _LONG, _LONG],
    "AlpProjInquire": [_ID, _LONG, _OUT_LONG],
}


class AlpLibrary:
    """The loaded library.

    Args:
        path: File name or path; empty for the names that ViALUX gives it.

    Raises:
        DriverMissingError: It cannot be loaded, or is not an ALP-4 library.
    """

    def __init__(self, path: str = "") -> None:
        self._library = _load([path] if path else _NAMES)
        for name, types in _CALLS.items():
            try:
                function = getattr(self._library, name)
            except AttributeError as error:
                raise DriverMissingError(
                    f"{self._library._name} is no ALP-4 library: it has no {name}. Set `library` "
                    "to the one of ViALUX's ALP-4 controller suite."
                ) from error
            function.argtypes = types
            function.restype = ctypes.c_long

    def code(self, name: str, *arguments: object) -> int:
        """Call a function and return its code, 0 where it succeeded."""
        return int(getattr(self._library, name)(*arguments)) & 0xFFFFFFFF

    def call(self, name: str, *arguments: object) -> None:
        """Call a function.

        Raises:
            DeviceError: What the library's error code means, as the type that fits.
        """
        self.check(name, self.code(name, *arguments))

    @staticmethod
    def check(name: str, code: int) -> None:
        """Refuse the code that a function returned, unless it succeeded.

        Raises:
            DeviceError: As `call`.
        """
        if code == OK:
            return
        answer = _ANSWERS.get(code, _Answer(f"code {code}", DeviceError, "it does not say why"))
        raise answer.error(f"{name} of the ALP device: {answer.meaning} ({answer.name}).")

    def number(self, name: str, *arguments: object) -> int:
        """What one of the inquiring functions says.

        Raises:
            DeviceError: As `call`.
        """
        value = ctypes.c_long(0)
        self.call(name, *arguments, ctypes.byref(value))
        return value.value

    def new_id(self, name: str, *arguments: object) -> int:
        """The handle that one of the allocating functions gives.

        Raises:
            DeviceError: As `call`.
        """
        value = ctypes.c_ulong(0)
        self.call(name, *arguments, ctypes.byref(value))
        return value.value


def _load(names: list[str]) -> ctypes.CDLL:
    failures = []
    for name in names:
        try:
            return ctypes.CDLL(os.fspath(name))
        except OSError as error:
            failures.append(str(error))
    raise DriverMissingError(
        f"The ALP-4 library of ViALUX cannot be loaded ({'; '.join(failures)}). Install ViALUX's "
        "ALP-4 controller suite, and set `library` to the path of its "
        f"{_NAMES[0]} (of a 64-bit Python, the one in the folder x64)."
    )
