"""DMDs on a TI DLPC900 (LightCrafter 6500, 9000 and others), over USB, patterns sent on the fly.

"DLPC900 Programmer's Guide" (TI, DLPU018, revisions F to J), section 5.3, is the procedure: stop,
pattern on-the-fly mode, a look-up table with an entry for each pattern, the images with 24 patterns
each, start. USB moves about 64 kB/s, so that large patterns with fine detail load slowly; those of
macropixels are short once encoded.

The trigger line is TRIG_OUT_2, which pulses at the start of each pattern. TRIG_OUT_1 frames the
exposures, and stays high between patterns without dark time (section 2.4.4.1).
"""

from __future__ import annotations

import math
import struct
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

from opu_driver.device import Found, Identity
from opu_driver.errors import (
    CaptureTimeoutError,
    DeviceBusyError,
    DeviceError,
    DeviceNotFoundError,
    DeviceStateError,
    SettingError,
)
from opu_driver.extras import vendor_library
from opu_driver.modulator import Modulator, Patterns
from opu_driver.modulators import dlpc900_link as board
from opu_driver.modulators.dlpc900_images import PLANES, encode, merge, with_header
from opu_driver.modulators.dlpc900_link import Dlpc900Link

_CAPACITY = 400
"""Entries of the look-up table (section 2.4.4.3.3)."""

_LONGEST_US = (1 << 24) - 1
_SECONDARY, _ABORTED, _FAILED = 0x10, 0x40, 0x80  # bits of HARDWARE_STATUS
_RUNNING = 0x02  # bit of MAIN_STATUS
_WAIT_FOR_EDGE = 0x80  # bit of a pattern's flags
_PULSE_US = 20  # shortest pulse of the trigger outputs
_LOOK_S = 0.05
_NO_SERIAL = "unnumbered"
_STEP_S = 0.01
"""From the start command until the board shows the pattern; the guide does not say how long."""


@dataclass(frozen=True)
class _Dmd:
    name: str
    shape: tuple[int, int]
    pitch_um: float
    shortest_us: int


_DMDS = {
    1: _Dmd("DLP6500", (1080, 1920), 7.56, 105),
    2: _Dmd("DLP9000", (1600, 2560), 7.56, 105),
    3: _Dmd("DLP670S", (1600, 2716), 5.4, 100),
    4: _Dmd("DLP500YX", (1200, 2048), 5.4, 62),
}
"""Sections 2.1.5 (numbers) and 2.4.1.4 (shortest exposures), and the DMDs' data sheets."""


@dataclass(frozen=True)
class _Pace:
    """How the patterns of the look-up table follow each other."""

    exposure_us: int
    on_edges: bool


class Dlpc900DMD(Modulator):
    """A DMD on a DLPC900.

    DMDs with two controllers (DLP9000, DLP670S) get the left half of each pattern through the
    primary one and the right half through the secondary one. Periods are whole microseconds: a rate
    in between becomes the next one below.

    Args:
        serial: USB serial number; empty for the only board there is.
        trigger_out: Level of TRIG_OUT_2 at the start of a pattern.
        trigger_in: Edge of TRIG_IN_1 that counts.
        settling_us: From the trigger edge until the mirrors rest.

    Raises:
        SettingError: `settling_us` is out of range.
    """

    def __init__(
        self,
        serial: str = "",
        trigger_out: Literal["high", "low"] = "high",
        trigger_in: Literal["rising", "falling"] = "rising",
        settling_us: float = 22.0,
    ) -> None:
        if not 0 <= settling_us <= 1e4:
            raise SettingError(f"settling_us = {settling_us:g}; mirrors settle in 0 to 10,000 us.")
        self._serial = serial
        self._inverted = trigger_out == "low"
        self._falling = trigger_in == "falling"
        self._settling_us = settling_us
        self._link: Dlpc900Link | None = None
        self._identity: Identity | None = None
        self._dmd = _Dmd("", (0, 0), 0.0, 0)
        self._controllers = 1
        self._pace = _Pace(0, on_edges=False)  # that the patterns were defined with
        self._in_order = False  # whether the look-up table shows the whole batch
        self._holds = False
        self._count = 0
        self._ends_at_s = 0.0

    @classmethod
    def discover(cls) -> list[Found]:
        """The boards on the USB; they are not opened, so the kind of DMD is not told.

        Raises:
            DriverMissingError: The HID library is not installed.
        """
        return [
            Found(
                Identity("Texas Instruments", "DLPC900", info["serial_number"] or ""),
                {"serial": info["serial_number"] or ""},
            )
            for info in _connected(_hid())
        ]

    @property
    def address(self) -> str:
        """`dlpc900` and the serial number, if one was asked for."""
        return f"dlpc900 {self._serial}" if self._serial else "dlpc900"

    @property
    def identity(self) -> Identity:
        """The serial number is the USB's, the firmware the application's version."""
        if self._identity is None:
            raise DeviceStateError("The board's identity is known once it has been opened.")
        return self._identity

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of mirrors; (0, 0) before the board was opened."""
        return self._dmd.shape

    @property
    def levels(self) -> int:
        """2."""
        return 2

    @property
    def pitch_um(self) -> float:
        """Distance between neighbouring mirrors, micrometres; from the DMD's data sheet."""
        return self._dmd.pitch_um

    @property
    def max_rate_hz(self) -> float:
        """One over the shortest exposure of a 1-bit pattern (section 2.4.1.4)."""
        return 1e6 / self._dmd.shortest_us if self._dmd.shortest_us else 0.0

    @property
    def settling_us(self) -> float:
        """Time after a pattern's trigger edge until the mirrors rest, microseconds."""
        return self._settling_us

    @property
    def capacity(self) -> int:
        """400, the entries of the look-up table."""
        return _CAPACITY

    @property
    def takes_edges(self) -> bool:
        """True: on TRIG_IN_1, edge `trigger_in`."""
        return True

    def _open(self) -> None:
        self._link, serial = _connect(self._serial)
        link = self._link
        kind = link.read(board.HARDWARE)[0]
        if kind not in _DMDS:
            raise DeviceError(
                f"The DLPC900 drives a DMD of type {kind}, which this driver does not know; it "
                f"knows {', '.join(f'{n} ({dmd.name})' for n, dmd in _DMDS.items())}."
            )
        self._dmd = _DMDS[kind]
        patch, minor, major = struct.unpack_from("<HBB", link.read(board.FIRMWARE_VERSION, 4))
        firmware = f"{major}.{minor}.{patch}"
        self._identity = Identity(
            "Texas Instruments", f"DLPC900 {self._dmd.name}", serial, firmware
        )
        self._controllers = 2 if self._hardware_status() & _SECONDARY else 1
        link.write(board.START_STOP, bytes([board.STOP]))
        link.write(board.DISPLAY_MODE, bytes([board.ON_THE_FLY]))
        if (4, 1, 0) <= (major, minor, patch) <= (5, 0, 0):
            # Changing modes may lock mirrors: TI's technical advisory DLPT028, section 2.1.
            link.write(board.START_STOP, bytes([board.STOP]))
            link.write(board.PARK, b"\x01")
            link.write(board.PARK, b"\x00")
        edges = (_PULSE_US, 0) if self._inverted else (0, _PULSE_US)
        link.write(board.TRIGGER_OUT_2, struct.pack("<Bhh", self._inverted, *edges))
        delay_us = self._dmd.shortest_us  # section 2.4.4.1.3: the time to load the DMD
        link.write(board.TRIGGER_IN_1, struct.pack("<HB", delay_us, self._falling))
        self._pace = _Pace(self._dmd.shortest_us, on_edges=False)

    def _close(self) -> None:
        link, self._link = self._link, None
        self._in_order = self._holds = False
        self._count = self._loaded = 0
        if link is not None:
            with suppress(DeviceError):
                link.write(board.START_STOP, bytes([board.STOP]))
            link.close()

    def _load(self, patterns: Patterns) -> None:
        self._refuse_while_showing()
        self._halt()
        self._loaded = 0
        self._define(len(patterns), self._pace)
        images = range(0, len(patterns), PLANES)
        for image in reversed(range(len(images))):  # section 2.4.4.4.1: the last one first
            first = images[image]
            self._send(image, patterns[first : first + PLANES])

    def _start(self, rate_hz: float) -> None:
        """Starts on the board's clock of whole microseconds: at `rate_hz`, or the next below."""
        exposure_us = max(self._dmd.shortest_us, math.ceil(1e6 / rate_hz - 1e-3))
        if exposure_us > _LONGEST_US:
            raise SettingError(
                f"A pattern rate of {rate_hz:g} Hz; this board shows a pattern for at most "
                f"{_LONGEST_US / 1e6:g} s. Raise the rate to {1e6 / _LONGEST_US:.3g} Hz."
            )
        self._show(_Pace(exposure_us, on_edges=False))

    def _start_on_edges(self) -> None:
        self._show(_Pace(self._dmd.shortest_us, on_edges=True))

    def _show(self, pace: _Pace) -> None:
        self._refuse_while_showing()
        self._halt()
        if pace != self._pace:
            self._define(self._loaded, pace)
        elif not self._in_order:
            self._configure(self._loaded)
        self._opened().write(board.START_STOP, bytes([board.START]))
        self._count = self._loaded
        paced_us = 0 if pace.on_edges else self._loaded * pace.exposure_us
        self._ends_at_s = time.monotonic() + 1e-6 * paced_us

    def _step(self, index: int) -> None:
        self._refuse_while_showing()
        self._halt()
        if self._pace.on_edges:
            self._define(self._loaded, _Pace(self._dmd.shortest_us, on_edges=False))
        self._in_order = False
        # One entry, for ever (section 2.4.4.3.4).
        self._opened().write(board.LUT_REORDER, struct.pack("<HIH", 1, 0, index))
        self._opened().write(board.START_STOP, bytes([board.START]))
        self._holds = True
        self._count = index + 1
        time.sleep(_STEP_S + 1e-6 * (self._pace.exposure_us + self._settling_us))

    def _wait(self, timeout_s: float) -> int:
        if self._holds:
            return self._count
        ends_at_s = time.monotonic() + timeout_s
        while self._is_running():
            now = time.monotonic()
            if now >= ends_at_s:
                raise CaptureTimeoutError(
                    f"The DMD was still showing its batch of {self._count} patterns after "
                    f"{timeout_s:g} s. Wait longer; where patterns follow trigger edges, check the "
                    "trigger line."
                )
            rest_s = min(ends_at_s, self._ends_at_s) - now
            time.sleep(min(max(1e-3, rest_s), _LOOK_S))
        return self._count

    def _stop(self) -> None:
        self._opened().write(board.START_STOP, bytes([board.STOP]))
        self._holds = False
        self._count = 0

    def _refuse_while_showing(self) -> None:
        if not self._holds and self._is_running():
            raise DeviceStateError(
                f"The DMD is still showing a batch of {self._count} patterns; wait for its end, or "
                "stop it."
            )

    def _halt(self) -> None:
        """Ends whatever is shown: the look-up table is changed in rest only."""
        self._opened().write(board.START_STOP, bytes([board.STOP]))
        self._holds = False

    def _define(self, n: int, pace: _Pace) -> None:
        """The look-up table: an entry for each pattern."""
        self._in_order = False
        flags = _WAIT_FOR_EDGE if pace.on_edges else 0  # 1 bit, no LED
        for index in range(n):
            self._opened().write(board.LUT_DEFINITION, definition(index, pace.exposure_us, flags))
        self._pace = pace
        self._configure(n)

    def _configure(self, n: int) -> None:
        """All entries, once: as many patterns are shown as there are.

        So says revision J of section 2.4.4.3.3; revision F calls the second number repetitions. On
        a board that repeats, `wait` runs out of time.
        """
        self._opened().write(board.LUT_CONFIGURATION, struct.pack("<HI", n, n))
        self._in_order = True

    def _send(self, image: int, patterns: Patterns) -> None:
        rows, columns = self.shape
        merged = merge(patterns, columns)
        width = columns // self._controllers
        for controller in range(self._controllers):
            half = merged[:, controller * width : (controller + 1) * width]
            data = with_header(encode(half), (rows, width))
            self._opened().write(board.INIT_LOAD[controller], struct.pack("<HI", image, len(data)))
            self._opened().load(board.LOAD[controller], data)

    def _hardware_status(self) -> int:
        return self._opened().read(board.HARDWARE_STATUS)[0]

    def _is_running(self) -> bool:
        running = bool(self._opened().read(board.MAIN_STATUS)[0] & _RUNNING)
        status = self._hardware_status()
        if status & (_ABORTED | _FAILED):
            raise DeviceError(
                f"The DLPC900's sequencer stopped with an error (hardware status {status:#04x}). "
                "Power-cycle the board."
            )
        return running

    def _opened(self) -> Dlpc900Link:
        if self._link is None:
            raise DeviceStateError("The board is not open.")
        return self._link


def definition(index: int, exposure_us: int, flags: int) -> bytes:
    """One entry of the look-up table (section 2.4.4.3.5, table 2-137).

    Args:
        index: Place in the table; its pattern is bit position `index % 24` of image `index // 24`.
        exposure_us: How long the pattern is shown, microseconds; no dark time follows.
        flags: Byte 5: clear, bit depth, LEDs, wait for an edge.
    """
    image, position = divmod(index, PLANES)
    exposure = exposure_us.to_bytes(3, "little")
    return struct.pack("<H3sB3sBH", index, exposure, flags, b"", 0, image | position << 11)


def _hid() -> Any:
    return vendor_library("hid", "hid")


def _connected(hid: Any) -> list[dict[str, Any]]:
    """The boards on the USB. A board has two HID interfaces; the first takes commands."""
    found = hid.enumerate(board.VENDOR_ID, board.PRODUCT_ID)
    return [info for info in found if info["interface_number"] in (0, -1)]


def _connect(serial: str) -> tuple[Dlpc900Link, str]:
    hid = _hid()
    boards = _connected(hid)
    wanted = [info for info in boards if serial in ("", info["serial_number"])]
    if len(wanted) != 1:
        serials = ", ".join(repr(info["serial_number"] or "") for info in boards)
        named = f" with serial number {serial!r}" if serial else ""
        raise DeviceNotFoundError(
            f"{len(wanted) or 'No'} DLPC900 boards{named}; on the USB are: {serials or 'none'}. "
            "Check power and cable, or set `serial` to one of them."
        )
    try:
        device = hid.Device(path=wanted[0]["path"])
    except (hid.HIDException, TypeError) as error:  # hid 1.0.9: TypeError where there is no reason
        raise DeviceBusyError(
            f"The DLPC900 {wanted[0]['serial_number'] or ''} cannot be opened ({error}): another "
            "program uses it, or you may not (on Linux, a udev rule for USB ID 0451:c900 gives "
            "you leave)."
        ) from error
    return Dlpc900Link(device, hid.HIDException), wanted[0]["serial_number"] or _NO_SERIAL
