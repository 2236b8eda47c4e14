"""Commands to a DLPC900 in USB HID reports.

"DLPC900 Programmer's Guide" (TI, DLPU018), section 1.2: a command is a header of four bytes (flags,
sequence number, length of the rest), a 16-bit command number and its data, all least significant
byte first, in as many reports of 64 bytes as it takes. A reply has the same header, with an error
flag, and the data.
"""

from __future__ import annotations

import struct
import time
from typing import Any

from opu_driver.errors import DeviceError, DeviceLostError, DeviceStateError, SettingError

VENDOR_ID, PRODUCT_ID = 0x0451, 0xC900

READ_ERROR_CODE = 0x0100  # 2.1.6
FIRMWARE_VERSION = 0x0205  # 2.1.4
HARDWARE = 0x0206  # 2.1.5
PARK = 0x0609  # 2.3.1.2
HARDWARE_STATUS = 0x1A0A  # 2.1.1
MAIN_STATUS = 0x1A0C  # 2.1.3
DISPLAY_MODE = 0x1A1B  # 2.4.1
TRIGGER_OUT_1 = 0x1A1D  # 2.4.4.1.1
TRIGGER_OUT_2 = 0x1A1E  # 2.4.4.1.2
START_STOP = 0x1A24  # 2.4.4.3.1
INIT_LOAD = (0x1A2A, 0x1A2C)  # 2.4.4.4.1, primary and secondary controller
LOAD = (0x1A2B, 0x1A2D)  # 2.4.4.4.2
LUT_CONFIGURATION = 0x1A31  # 2.4.4.3.3
LUT_REORDER = 0x1A32  # 2.4.4.3.4
LUT_DEFINITION = 0x1A34  # 2.4.4.3.5
TRIGGER_IN_1 = 0x1A35  # 2.4.4.1.3

STOP, START = 0, 2  # of START_STOP
ON_THE_FLY = 3  # of DISPLAY_MODE

REPORT_BYTES = 64
HEADER = struct.Struct("<BBH")
READ, REPLY, REFUSED = 0x80, 0x40, 0x20
"""Flags: the host reads; it wants a reply; the command failed (section 1.2.2)."""

LOAD_BYTES = 504
"""Image data in one command: the controller's buffer holds 512 bytes of it (section 2.4.4.4.2)."""

ERRORS = {
    1: "batch file checksum error",
    2: "device failure",
    3: "invalid command number",
    4: "incompatible controller or DMD",
    5: "command not allowed in the current mode",
    6: "invalid command parameter",
    7: "item referred to by the parameter is not present",
    8: "out of memory",
    9: "invalid BMP compression type",
    10: "pattern bit number out of range",
    11: "pattern image not present",
    12: "pattern dark time out of range",
    13: "signal delay out of range",
    14: "pattern exposure time out of range",
    15: "pattern number out of range",
    16: "invalid pattern definition",
    17: "pattern image memory address out of range",
    255: "internal error",
}
"""Section 2.1.6, table 2-12."""

_OUT_OF_RANGE = {10, 12, 13, 14, 15}
_REPLY_S = 5.0


class Dlpc900Link:
    """A DLPC900 to talk to.

    Args:
        device: An open `hid.Device`.
        lost: What the HID library raises when the device is gone.
    """

    def __init__(self, device: Any, lost: type[Exception]) -> None:
        self._device = device
        self._lost = lost
        self._sequence = 0

    def close(self) -> None:
        """Let go of the device."""
        self._device.close()

    def read(self, command: int, length: int = 1) -> bytes:
        """What the device says to a reading command.

        Args:
            command: Its number.
            length: Bytes that the answer has at least.

        Raises:
            DeviceError: It refuses, or its answer is shorter.
            DeviceLostError: It is gone, or does not answer.
        """
        answer = self._reply_to(command, READ | REPLY, b"")
        if len(answer) < length:
            raise DeviceError(
                f"The DLPC900 answers command {command:#06x} with {len(answer)} bytes, where "
                f"{length} are expected. Power-cycle the board."
            )
        return answer

    def write(self, command: int, data: bytes) -> None:
        """Send a writing command and see it done.

        Raises:
            SettingError, DeviceStateError, DeviceError: It refuses; as its error code says.
            DeviceLostError: It is gone, or does not answer.
        """
        self._reply_to(command, REPLY, data)

    def load(self, command: int, data: bytes) -> None:
        """Send image data, in commands without replies; then see whether they were taken.

        Raises:
            DeviceError, DeviceLostError: As `write`.
        """
        for first in range(0, len(data), LOAD_BYTES):
            part = data[first : first + LOAD_BYTES]
            self._send(command, 0, struct.pack("<H", len(part)) + part)
        code = self.read(READ_ERROR_CODE)[0]
        if code:
            raise _refusal(command, code)

    def _reply_to(self, command: int, flags: int, data: bytes) -> bytes:
        sequence = self._send(command, flags, data)
        answer_flags, answer = self._receive(sequence, command)
        if answer_flags & REFUSED:
            code = 0
            if command != READ_ERROR_CODE:
                code = self.read(READ_ERROR_CODE)[0]
            raise _refusal(command, code)
        return answer

    def _send(self, command: int, flags: int, data: bytes) -> int:
        self._sequence = (self._sequence + 1) % 256
        payload = struct.pack("<H", command) + data
        message = HEADER.pack(flags, self._sequence, len(payload)) + payload
        try:
            for first in range(0, len(message), REPORT_BYTES):
                report = message[first : first + REPORT_BYTES].ljust(REPORT_BYTES, b"\0")
                self._device.write(b"\0" + report)  # report ID 0
        except self._lost as error:
            raise self._lost_error(command) from error
        return self._sequence

    def _receive(self, sequence: int, command: int) -> tuple[int, bytes]:
        """The reply with this sequence number; others are of commands that were given up."""
        ends_at_s = time.monotonic() + _REPLY_S
        others = 0
        while (rest_s := ends_at_s - time.monotonic()) > 0:
            try:
                report = bytes(self._device.read(REPORT_BYTES, int(1e3 * rest_s) + 1))
            except self._lost as error:
                raise self._lost_error(command) from error
            if len(report) < HEADER.size:
                continue
            flags, answered, length = HEADER.unpack_from(report)
            if answered == sequence and length <= REPORT_BYTES - HEADER.size:
                return flags, report[HEADER.size : HEADER.size + length]
            others += 1
        raise DeviceLostError(
            f"The DLPC900 has not answered command {command:#06x} for {_REPLY_S:g} s"
            f"{f', but sent {others} other reports' if others else ''}. Power-cycle the board, "
            "then close and open the modulator."
        )

    def _lost_error(self, command: int) -> DeviceLostError:
        return DeviceLostError(
            f"The DLPC900 went away at command {command:#06x}; check its USB cable and power, then "
            "close and open the modulator."
        )


def _refusal(command: int, code: int) -> DeviceError | SettingError:
    meaning = f"The DLPC900 refuses command {command:#06x}: {ERRORS.get(code, 'no reason given')}"
    if code in _OUT_OF_RANGE:
        return SettingError(f"{meaning} (error {code}).")
    if code == 5:
        return DeviceStateError(f"{meaning} (error {code}). Stop the modulator first.")
    return DeviceError(f"{meaning} (error {code}). If it goes on, power-cycle the board.")
