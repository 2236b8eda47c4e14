"""An emulated TI DLPC900 board behind a stand-in for the `hid` library.

It takes what a driver sends as HID reports, and nothing else: reports become commands, commands a
look-up table and run-length encoded images, these become mirrors. It keeps time, refuses what the
"DLPC900 Programmer's Guide" (TI, DLPU018) refuses, and publishes every pattern that it shows.

There is no thread: patterns follow a schedule, and everything first catches up with the clock.
"""

from __future__ import annotations

import struct
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from opu_driver.emulators.shown_pattern import Fault, ShownPattern
from opu_driver.errors import DeviceError, PatternError
from opu_driver.modulators import dlpc900_link as board
from opu_driver.modulators.dlpc900_images import PLANES, decode, plane, without_header

_REMEMBERED = 1 << 16
_ENTRIES = 400
_SHAPES = {1: (1080, 1920), 2: (1600, 2560), 3: (1600, 2716), 4: (1200, 2048)}
_SHORTEST_US = {1: 105, 2: 105, 3: 100, 4: 62}
_TWO_CONTROLLERS = {2, 3}


class HIDException(Exception):  # noqa: N818
    """What the `hid` library raises when a device is gone."""


class _RefusedError(Exception):
    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


@dataclass(frozen=True)
class _Entry:
    exposure_us: int
    waits: bool
    image: int
    position: int


class EmulatedDLPC900:
    """One emulated board.

    Args:
        dmd: Its DMD, as command 0x0206 tells it: 1 for a DLP6500, 2 for a DLP9000, ...
        serial: USB serial number.
        firmware: Major, minor and patch version.

    Attributes:
        parked: How often the mirrors have been parked.
    """

    def __init__(
        self,
        dmd: int = 1,
        serial: str = "LCR-1",
        firmware: tuple[int, int, int] = (6, 0, 0),
    ) -> None:
        self.serial = serial
        self.parked = 0
        self._dmd = dmd
        self._firmware = firmware
        self._shape = _SHAPES.get(dmd, (16, 16))
        self._controllers = 2 if dmd in _TWO_CONTROLLERS else 1
        self._lock = threading.RLock()
        self._plugged = True
        self._claimed = False
        self._life = 0
        self._message = b""
        self._expected = 0
        self._replies: deque[bytes] = deque()
        self._error = 0
        self._fails: dict[int, int] = {}
        self._spoilt: str | None = None
        self._mode = 1
        self._defined: dict[int, _Entry] = {}
        self._table: list[_Entry] = []
        self._order: list[int] = []
        self._to_show = 0
        self._loading: dict[int, tuple[int, int, bytearray]] = {}
        self._images: dict[tuple[int, int], NDArray[np.uint8]] = {}
        self._planes: dict[tuple[int, int], NDArray[np.uint8]] = {}
        self._running = False
        self._place = 0
        self._due_s = 0.0
        self._trigger_delay_us = 105
        self._mirrors = np.zeros((self._shape[0], -(-self._shape[1] // 8)), np.uint8)
        self._shown: deque[ShownPattern] = deque(maxlen=_REMEMBERED)
        self._count = 0
        self._edges_lost = 0
        self._fault: tuple[Fault, int] | None = None
        self._reading: dict[int, Callable[[], bytes]] = {
            board.READ_ERROR_CODE: lambda: bytes([self._error]),
            board.FIRMWARE_VERSION: self._say_version,
            board.HARDWARE: lambda: bytes([self._dmd]) + b"emulated".ljust(31, b"\0"),
            board.HARDWARE_STATUS: lambda: bytes([0x11 if self._controllers == 2 else 0x01]),
            board.MAIN_STATUS: lambda: bytes([0x02 if self._running else 0x00]),
            board.DISPLAY_MODE: lambda: bytes([self._mode]),
        }
        self._writing: dict[int, Callable[[bytes], None]] = {
            board.PARK: self._park,
            board.DISPLAY_MODE: self._set_mode,
            board.TRIGGER_OUT_1: self._set_trigger_out,
            board.TRIGGER_OUT_2: self._set_trigger_out,
            board.TRIGGER_IN_1: self._set_trigger_in,
            board.START_STOP: self._start_or_stop,
            board.LUT_DEFINITION: self._define,
            board.LUT_CONFIGURATION: self._configure,
            board.LUT_REORDER: self._reorder,
        }
        for controller in range(self._controllers):
            self._writing[board.INIT_LOAD[controller]] = self._init_load(controller)
            self._writing[board.LOAD[controller]] = self._load(controller)

    # What a laboratory sees and does

    @property
    def count(self) -> int:
        """Patterns shown since the emulator was made."""
        with self._lock:
            self._advance()
            return self._count

    def shown(self, index: int, timeout_s: float = 0.0) -> ShownPattern | None:
        """Pattern number `index`; None if it is not shown within `timeout_s`.

        Raises:
            DeviceError: It was shown so long ago that it is forgotten.
        """
        ends_at_s = time.monotonic() + timeout_s
        while True:
            with self._lock:
                self._advance()
                back = self._count - index
                if back > len(self._shown):
                    raise DeviceError(
                        f"Pattern {index} of the emulated DMD is forgotten; {self._count} have "
                        "been shown. Read them sooner, or show them more slowly."
                    )
                if back > 0:
                    return self._shown[-back]
            now = time.monotonic()
            if now >= ends_at_s:
                return None
            time.sleep(min(5e-4, ends_at_s - now))

    @property
    def mirrors(self) -> NDArray[np.uint8]:
        """The mirrors as they are now, uint8 `[row, byte]`."""
        with self._lock:
            self._advance()
            return self._mirrors.copy()

    def edge(self) -> int:
        """One edge on TRIG_IN_1; returns how many have come too early or for nothing."""
        with self._lock:
            self._advance()
            now = time.monotonic()
            if self._running and self._next().waits and now >= self._due_s:
                self._show(now + 1e-6 * self._trigger_delay_us)
            else:
                self._edges_lost += 1
            return self._edges_lost

    def fault(self, kind: Fault, later: int = 0) -> None:
        """Let something go wrong with the pattern that is shown `later` patterns from now."""
        with self._lock:
            self._advance()
            self._fault = kind, self._count + later

    def fail(self, command: int, code: int) -> None:
        """Let the next such command do nothing, and be refused with an error code."""
        self._fails[command] = code

    def spoil(self, how: str) -> None:
        """Spoil the next reply: `silence` leaves it out, `garbage` sends other reports first."""
        self._spoilt = how

    def unplug(self) -> None:
        """Take the board away; it has forgotten everything when it comes back."""
        with self._lock:
            self._plugged = self._claimed = False
            self._life += 1
            self._running = False
            self._mode = 1
            self._table.clear()
            self._images.clear()
            self._planes.clear()
            self._replies.clear()

    def plug(self) -> None:
        """Bring the board back."""
        self._plugged = True

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Stand in for the `hid` library, with this one board on the USB."""
        with stand_in([self]):
            yield

    # HID reports

    @property
    def plugged(self) -> bool:
        """Whether the board is on the USB."""
        return self._plugged

    def claim(self) -> int:
        """Open the board, for one program at a time; returns which of its lives this is."""
        with self._lock:
            if not self._plugged or self._claimed:
                raise HIDException("unable to open device")
            self._claimed = True
            return self._life

    def release(self, life: int) -> None:
        """Let go of the board."""
        with self._lock:
            if life == self._life:
                self._claimed = False

    def check(self, life: int) -> None:
        """Raise as the HID library does if the board has been unplugged in this life."""
        if not self._plugged or life != self._life:
            raise HIDException("the device is gone")

    def write(self, report: bytes) -> int:
        """One report from the host: its ID, 0, and 64 bytes."""
        with self._lock:
            if len(report) != board.REPORT_BYTES + 1 or report[0]:
                raise HIDException("a report of another length or ID")
            if not self._message:
                self._expected = board.HEADER.size + board.HEADER.unpack_from(report, 1)[2]
            self._message += report[1:]
            if len(self._message) >= self._expected:
                message, self._message = self._message[: self._expected], b""
                self._take(message)
            return len(report)

    def read(self, timeout_ms: int) -> bytes:
        """One report to the host; empty if there is none within the time."""
        ends_at_s = time.monotonic() + 1e-3 * timeout_ms
        while True:
            with self._lock:
                if self._replies:
                    return self._replies.popleft()
            if not self._plugged or time.monotonic() >= ends_at_s:
                return b""
            time.sleep(5e-4)

    def _take(self, message: bytes) -> None:
        flags, sequence, length = board.HEADER.unpack_from(message)
        (command,) = struct.unpack_from("<H", message, board.HEADER.size)
        data = message[board.HEADER.size + 2 :]
        answer = b""
        self._advance()
        try:
            if command in self._fails:
                raise _RefusedError(self._fails.pop(command))
            if length > 512:
                raise _RefusedError(6)
            if flags & board.READ:
                if command not in self._reading:
                    raise _RefusedError(3)
                answer = self._reading[command]()
            else:
                if command not in self._writing:
                    raise _RefusedError(3)
                self._writing[command](data)
            self._error = 0
        except _RefusedError as refused:
            self._error = refused.code
            flags |= board.REFUSED
        except (struct.error, IndexError):
            self._error = 6
            flags |= board.REFUSED
        if flags & board.REPLY:
            self._answer(board.HEADER.pack(flags, sequence, len(answer)) + answer)

    def _answer(self, reply: bytes) -> None:
        how, self._spoilt = self._spoilt, None
        if how == "silence":
            return
        if how == "garbage":
            self._replies.extend([b"\x07", bytes(range(64)), b"\xff" * 64])
        self._replies.append(reply.ljust(board.REPORT_BYTES, b"\0"))

    # Commands

    def _say_version(self) -> bytes:
        major, minor, patch = self._firmware
        return struct.pack("<HBB", patch, minor, major) * 4

    def _at_rest(self) -> None:
        if self._running:
            raise _RefusedError(5)

    def _on_the_fly(self) -> None:
        self._at_rest()
        if self._mode != board.ON_THE_FLY:
            raise _RefusedError(5)

    def _park(self, data: bytes) -> None:
        self._at_rest()
        self.parked += data[0]

    def _set_mode(self, data: bytes) -> None:
        self._at_rest()
        self._mode = data[0] & 3

    def _set_trigger_out(self, data: bytes) -> None:
        self._at_rest()
        inverted, rising_us, falling_us = struct.unpack("<Bhh", data)
        width_us = rising_us - falling_us if inverted else falling_us - rising_us
        if width_us < 20 or not all(-20 <= us <= 20_000 for us in (rising_us, falling_us)):
            raise _RefusedError(13)

    def _set_trigger_in(self, data: bytes) -> None:
        self._at_rest()
        delay_us, _falling = struct.unpack("<HB", data)
        if delay_us < _SHORTEST_US[self._dmd] - 1:
            raise _RefusedError(13)
        self._trigger_delay_us = delay_us

    def _define(self, data: bytes) -> None:
        self._on_the_fly()
        if len(data) != 12:
            raise _RefusedError(6)
        index, exposure, flags, _dark, _, place = struct.unpack("<H3sB3sBH", data)
        exposure_us = int.from_bytes(exposure, "little")
        if index >= _ENTRIES:
            raise _RefusedError(15)
        if exposure_us < _SHORTEST_US[self._dmd]:
            raise _RefusedError(14)
        if flags & 0x0E or place >> 11 >= PLANES:  # deeper patterns are not emulated
            raise _RefusedError(10)
        self._defined[index] = _Entry(exposure_us, bool(flags & 0x80), place & 0x7FF, place >> 11)

    def _configure(self, data: bytes) -> None:
        self._on_the_fly()
        entries, self._to_show = struct.unpack("<HI", data)
        if not 1 <= entries <= _ENTRIES:
            raise _RefusedError(15)
        if not all(index in self._defined for index in range(entries)):
            raise _RefusedError(16)
        if entries != len(self._table):  # section 2.4.4.4.2: the images have to come anew
            self._images.clear()
            self._planes.clear()
        self._table = [self._defined[index] for index in range(entries)]
        self._order = list(range(entries))

    def _reorder(self, data: bytes) -> None:
        self._on_the_fly()
        entries, self._to_show = struct.unpack_from("<HI", data)
        order = list(struct.unpack_from(f"<{entries}H", data, 6))
        if not order or max(order) >= len(self._table):
            raise _RefusedError(15)
        self._order = order

    def _init_load(self, controller: int) -> Callable[[bytes], None]:
        def init_load(data: bytes) -> None:
            self._on_the_fly()
            image, size = struct.unpack("<HI", data)
            if image > 17:
                raise _RefusedError(17)
            self._loading[controller] = image, size, bytearray()

        return init_load

    def _load(self, controller: int) -> Callable[[bytes], None]:
        def load(data: bytes) -> None:
            self._on_the_fly()
            (length,) = struct.unpack_from("<H", data)
            if controller not in self._loading or length != len(data) - 2 or length > 504:
                raise _RefusedError(6)
            image, size, received = self._loading[controller]
            received += data[2:]
            if len(received) >= size:
                del self._loading[controller]
                self._store(controller, image, bytes(received))

        return load

    def _store(self, controller: int, image: int, received: bytes) -> None:
        later = {n for (of, n) in self._images if of == controller and n > image}
        last = max((entry.image for entry in self._table), default=0)
        if image < last and image + 1 not in later:  # section 2.4.4.4.1: in reverse order
            raise _RefusedError(16)
        try:
            encoded, shape = without_header(received)
            if shape != (self._shape[0], self._shape[1] // self._controllers):
                raise _RefusedError(6)
            self._images[controller, image] = decode(encoded, shape)
        except PatternError as error:
            raise _RefusedError(9) from error
        self._planes = {key: bits for key, bits in self._planes.items() if key[0] != image}

    def _start_or_stop(self, data: bytes) -> None:
        if data[0] == board.STOP:
            self._running = False
            self._mirrors = np.zeros_like(self._mirrors)
            return
        self._on_the_fly()
        if data[0] != board.START:
            raise _RefusedError(6)  # pausing is not emulated
        if not self._table:
            raise _RefusedError(16)
        for entry in self._table:
            if any((of, entry.image) not in self._images for of in range(self._controllers)):
                raise _RefusedError(11)
        self._running = True
        self._place = 0
        self._due_s = time.monotonic()

    # Time and mirrors

    def _next(self) -> _Entry:
        return self._table[self._order[self._place % len(self._order)]]

    def _advance(self) -> None:
        """Bring the mirrors up to now: show what is due, end what is over."""
        now = time.monotonic()
        while self._running and self._due_s <= now:
            if self._to_show and self._place >= self._to_show:
                self._running = False
            elif self._next().waits:
                return
            else:
                self._show(self._due_s)

    def _show(self, time_s: float) -> None:
        entry = self._next()
        kind = self._fault[0] if self._fault and self._fault[1] == self._count else None
        if kind:
            self._fault = None
        if kind != "dropped picture":
            self._mirrors = self._plane(entry)
        self._shown.append(ShownPattern(self._count, time_s, kind != "lost edge", self._mirrors))
        self._count += 1
        self._due_s = time_s + 1e-6 * entry.exposure_us
        if kind != "doubled picture":
            self._place += 1

    def _plane(self, entry: _Entry) -> NDArray[np.uint8]:
        key = entry.image, entry.position
        if key not in self._planes:
            halves = [self._images[of, entry.image] for of in range(self._controllers)]
            bits = plane(np.concatenate(halves, axis=1), entry.position)
            bits.flags.writeable = False
            self._planes[key] = bits
        return self._planes[key]


class _Device:
    """`hid.Device`, as far as drivers use it."""

    def __init__(self, emulated: EmulatedDLPC900) -> None:
        self._emulated = emulated
        self._life = emulated.claim()

    def write(self, report: bytes) -> int:
        self._emulated.check(self._life)
        return self._emulated.write(report)

    def read(self, size: int, timeout: int) -> bytes:
        self._emulated.check(self._life)
        report = self._emulated.read(timeout)
        self._emulated.check(self._life)
        return report[:size]

    def close(self) -> None:
        self._emulated.release(self._life)


@contextmanager
def stand_in(boards: list[EmulatedDLPC900]) -> Iterator[None]:
    """Stand in for the `hid` library, with these boards on the USB."""

    def enumerate_boards(vid: int = 0, pid: int = 0) -> list[dict[str, Any]]:
        wanted = vid in (0, board.VENDOR_ID) and pid in (0, board.PRODUCT_ID)
        return [
            {
                "path": f"emulated-{number}-{interface}".encode(),
                "serial_number": emulated.serial,
                "product_string": "DLPC900",
                "interface_number": interface,
            }
            for number, emulated in enumerate(boards)
            for interface in (0, 1)
            if wanted and emulated.plugged
        ]

    def open_board(path: bytes) -> _Device:
        return _Device(boards[int(path.split(b"-")[1])])

    module = ModuleType("hid")
    module.__dict__.update(enumerate=enumerate_boards, Device=open_board, HIDException=HIDException)
    before = sys.modules.get("hid")
    sys.modules["hid"] = module
    try:
        yield
    finally:
        if before is None:
            del sys.modules["hid"]
        else:
            sys.modules["hid"] = before
