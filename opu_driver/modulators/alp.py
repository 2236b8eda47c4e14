"""ViALUX DMDs with ALP-4 (4.1 to 4.3): DLP7000, DLP9500, DLP650LNIR and the other V-Modules.

Patterns are binary and uninterrupted (`ALP_BIN_UNINTERRUPTED`): each stays until the next one,
without a dark phase. A batch is one sequence in the device's memory; half of the memory is one
batch, so that the next one is uploaded while this one is shown.

"ALP-4 controller suite, API description", which comes with the suite, by function:
AlpSeqControl (ALP_BIN_MODE, ALP_DATA_FORMAT), AlpSeqTiming (picture time, synch pulse), AlpSeqPut;
AlpDevControl (ALP_SYNCH_POLARITY, ALP_TRIGGER_EDGE), AlpProjControl (ALP_PROJ_MODE: master, slave).
"""

from __future__ import annotations

import math
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from opu_driver.device import Found, Identity
from opu_driver.errors import (
    CaptureTimeoutError,
    DeviceError,
    DeviceNotFoundError,
    DeviceStateError,
    SettingError,
)
from opu_driver.modulator import Modulator, Patterns
from opu_driver.modulators import alp_library as alp
from opu_driver.modulators.alp_library import AlpLibrary

_POLL_S = 5e-4
_LOOK_S = 0.05
"""While a batch runs the device is asked at least this often: it may be unplugged."""

_HOLD_US = 1000
"""A held pattern is shown again this often, or as often as the device can."""

_CHUNK_BYTES = 1 << 26
"""Patterns are brought into the device's format and sent in parts of about this size."""


@dataclass(frozen=True)
class _Dmd:
    name: str
    shape: tuple[int, int]
    pitch_um: float


_DMDS = {
    1: _Dmd("0.7 XGA (D3000)", (768, 1024), 13.68),
    2: _Dmd("0.95 SXGA+ (D3000)", (1050, 1400), 13.68),
    3: _Dmd("DLP9500", (1080, 1920), 10.8),
    4: _Dmd("DLP7000", (768, 1024), 13.68),
    5: _Dmd("0.55 XGA type A", (768, 1024), 10.8),
    6: _Dmd("0.55 XGA type X", (768, 1024), 10.8),
    7: _Dmd("0.96 WUXGA", (1200, 1920), 10.8),
    8: _Dmd("DLP9000X", (1600, 2560), 7.56),
    9: _Dmd("DLP9000X (480 MHz)", (1600, 2560), 7.56),
    10: _Dmd("DLP6500FLQ", (1080, 1920), 7.56),
    11: _Dmd("DLP6500FYE", (1080, 1920), 7.56),
    12: _Dmd("DLP650LNIR", (800, 1280), 10.8),
}
"""`ALP_DEV_DMDTYPE` (alp.h) and the data sheets' mirror pitch."""

_PACKED_ROW = {1024: 128, 1920: 256}
"""Bytes of one packed row, by columns (alp.h before version 12 and API description, AlpSeqPut).

A row of 1920 mirrors has 240 bytes of data and 16 of padding. Of other DMDs the length of a row is
not documented publicly: they get a byte a mirror.
"""


@dataclass(frozen=True)
class _Sequence:
    handle: int
    length: int


class AlpDMD(Modulator):
    """A ViALUX DMD.

    Trigger edges come out of the frame synch output (`SYNCH`), one at the start of each pattern;
    patterns that follow edges take them from the trigger input (ALP's slave mode). Periods are
    whole microseconds: a rate in between becomes the next one below. A pattern that is held by
    `step` is shown again and again, each time with an edge.

    Args:
        serial: The device's serial number (`ALP_DEVICE_NUMBER`); 0 for the first that is free.
        library: Path of ViALUX's library; empty to look for it under its usual names.
        trigger_out: Level of the trigger output at the start of a pattern.
        trigger_in: Edge of the trigger input that counts.
        settling_us: From the trigger edge until the mirrors rest. 22 us is the longest switching
            time of a micromirror in the data sheets of DLP7000 and DLP9500.

    Raises:
        SettingError: A number is out of range.
    """

    def __init__(
        self,
        serial: int = 0,
        library: str = "",
        trigger_out: Literal["high", "low"] = "high",
        trigger_in: Literal["rising", "falling"] = "rising",
        settling_us: float = 22.0,
    ) -> None:
        if serial < 0 or not 0 <= settling_us <= 1e4:
            raise SettingError(
                f"serial = {serial}, settling_us = {settling_us:g}; a serial number is 0 (any) or "
                "above, and mirrors settle in 0 to 10,000 us."
            )
        self._serial = serial
        self._library_path = library
        self._trigger_out = alp.LEVEL_HIGH if trigger_out == "high" else alp.LEVEL_LOW
        self._trigger_in = alp.EDGE_RISING if trigger_in == "rising" else alp.EDGE_FALLING
        self._settling_us = settling_us
        self._library: AlpLibrary | None = None
        self._device = 0
        self._identity: Identity | None = None
        self._dmd = _Dmd("", (0, 0), 0.0)
        self._capacity = 0
        self._picture_time_limits_us = (0, 0)
        self._batch: _Sequence | None = None  # loaded last
        self._shown_batch: _Sequence | None = None  # shown last: the same one, or the one before
        self._holds = False  # whether one pattern of it is held
        self._count = 0  # how many patterns it shows
        self._ends_at_s = 0.0

    @classmethod
    def discover(cls) -> list[Found]:
        """The DMDs that no program uses; each is allocated, asked who it is, and freed.

        Raises:
            DriverMissingError: The library is not where it usually is.
        """
        return _discover(AlpLibrary())

    @property
    def address(self) -> str:
        """`alp` and the serial number, if one was asked for."""
        return f"alp {self._serial}" if self._serial else "alp"

    @property
    def identity(self) -> Identity:
        """The serial number is the device's, the firmware the version that it reports."""
        if self._identity is None:
            raise DeviceStateError("The DMD's identity is known once it has been opened.")
        return self._identity

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of mirrors; (0, 0) before the DMD was opened."""
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
        """The device's own limit for binary uninterrupted sequences, patterns a second."""
        return 1e6 / self._picture_time_limits_us[0] if self._picture_time_limits_us[0] else 0.0

    @property
    def settling_us(self) -> float:
        """Time after a pattern's trigger edge until the mirrors rest, microseconds."""
        return self._settling_us

    @property
    def capacity(self) -> int:
        """Half of the pictures that the device's memory holds: one batch is shown, one loaded."""
        return self._capacity

    @property
    def loads_while_showing(self) -> bool:
        """True: the next batch has the other half of the memory."""
        return True

    @property
    def takes_edges(self) -> bool:
        """True: on the trigger input, edge `trigger_in`."""
        return True

    def _open(self) -> None:
        self._library = AlpLibrary(self._library_path)
        try:
            self._device = self._library.new_id("AlpDevAlloc", self._serial, alp.DEFAULT)
        except DeviceNotFoundError as error:
            found = [str(device.identity) for device in _discover(self._library)]
            raise DeviceNotFoundError(
                f"No free ALP device{f' #{self._serial}' if self._serial else ''}; free ones: "
                f"{', '.join(found) or 'none'}. Check its power and USB cable, and that no other "
                "program uses it."
            ) from error
        self._identity, self._dmd = _ask(self._library, self._device)
        self._call("AlpDevControl", alp.SYNCH_POLARITY, self._trigger_out)
        self._call("AlpDevControl", alp.TRIGGER_EDGE, self._trigger_in)
        self._capacity = self._inquire(alp.AVAIL_MEMORY) // 2
        sequence = self._allocate(1)
        self._make_binary(sequence)
        self._picture_time_limits_us = (
            self._inquire_sequence(sequence, alp.MIN_PICTURE_TIME),
            self._inquire_sequence(sequence, alp.MAX_PICTURE_TIME),
        )
        self._call("AlpSeqFree", sequence.handle)

    def _close(self) -> None:
        library, device = self._library, self._device
        self._library, self._device = None, 0
        self._forget_batches()
        if library is not None and device:
            for name in ("AlpDevHalt", "AlpDevFree"):  # freeing the device frees its sequences
                with suppress(DeviceError):
                    library.call(name, device)

    def _load(self, patterns: Patterns) -> None:
        self._loaded = 0
        if self._batch is not None and self._batch is not self._shown_batch:
            self._free(self._batch)
        self._batch = None
        batch = self._allocate(len(patterns))
        try:
            self._make_binary(batch)
            self._put(batch, patterns)
        except BaseException:
            with suppress(DeviceError):
                self._free(batch)
            raise
        self._batch = batch

    def _start(self, rate_hz: float) -> None:
        """Starts on the device's clock of whole microseconds: at `rate_hz`, or the next below."""
        shortest, longest = self._picture_time_limits_us
        picture_time_us = max(shortest, math.ceil(1e6 / rate_hz - 1e-3))
        if picture_time_us > longest:
            raise SettingError(
                f"A pattern rate of {rate_hz:g} Hz; this device shows a pattern for at most "
                f"{longest / 1e6:g} s. Raise the rate to {1e6 / longest:g} Hz."
            )
        self._show(alp.MASTER, picture_time_us)

    def _start_on_edges(self) -> None:
        self._show(alp.SLAVE, self._picture_time_limits_us[0])

    def _show(self, mode: int, picture_time_us: int) -> None:
        batch = self._take_batch()
        self._select(batch, 0, batch.length - 1)
        self._time(batch, picture_time_us)
        self._call("AlpProjControl", alp.PROJ_MODE, mode)
        self._call("AlpProjStart", batch.handle)
        self._count = batch.length
        paced_us = batch.length * picture_time_us if mode == alp.MASTER else 0
        self._ends_at_s = time.monotonic() + 1e-6 * paced_us

    def _step(self, index: int) -> None:
        batch = self._take_batch()
        self._select(batch, index, index)
        hold_us = max(_HOLD_US, self._picture_time_limits_us[0])
        self._time(batch, hold_us)
        self._call("AlpProjControl", alp.PROJ_MODE, alp.MASTER)
        self._call("AlpProjStartCont", batch.handle)
        self._holds = True
        self._count = index + 1
        time.sleep(1e-6 * (hold_us + self._settling_us))

    def _wait(self, timeout_s: float) -> int:
        if self._holds:
            return self._count
        ends_at_s = time.monotonic() + timeout_s
        while not self._is_idle():
            now = time.monotonic()
            if now >= ends_at_s:
                raise CaptureTimeoutError(
                    f"The DMD was still showing its batch of {self._count} patterns after "
                    f"{timeout_s:g} s. Wait longer; where patterns follow trigger edges, check the "
                    "trigger line."
                )
            rest_s = min(ends_at_s, self._ends_at_s) - now
            time.sleep(min(max(_POLL_S, rest_s), _LOOK_S))
        return self._count

    def _stop(self) -> None:
        self._call("AlpDevHalt")
        self._holds = False
        self._count = 0

    def _take_batch(self) -> _Sequence:
        """The loaded batch, about to be shown; what was shown before it is ended and freed."""
        if self._batch is None:
            raise DeviceStateError("No patterns are loaded; call load(patterns) first.")
        if self._holds:
            self._call("AlpProjHalt")
            self._holds = False
            self._until_idle()
        elif not self._is_idle():
            raise DeviceStateError(
                f"The DMD is still showing a batch of {self._count} patterns; wait for its end, or "
                "stop it."
            )
        if self._shown_batch is not None and self._shown_batch is not self._batch:
            self._free(self._shown_batch)
        self._shown_batch = self._batch
        return self._batch

    def _until_idle(self) -> None:
        ends_at_s = time.monotonic() + 2.0
        while not self._is_idle():
            if time.monotonic() > ends_at_s:
                raise DeviceError("The DMD does not stop showing a pattern; power-cycle it.")
            time.sleep(_POLL_S)

    def _is_idle(self) -> bool:
        library = self._opened()
        state = library.number("AlpProjInquire", self._device, alp.PROJ_STATE)
        return state == alp.PROJ_IDLE

    def _forget_batches(self) -> None:
        self._batch = self._shown_batch = None
        self._holds = False
        self._count = self._loaded = 0

    def _allocate(self, length: int) -> _Sequence:
        handle = self._opened().new_id("AlpSeqAlloc", self._device, 1, length)
        return _Sequence(handle, length)

    def _make_binary(self, sequence: _Sequence) -> None:
        self._call("AlpSeqControl", sequence.handle, alp.BITNUM, 1)
        self._call("AlpSeqControl", sequence.handle, alp.BIN_MODE, alp.BIN_UNINTERRUPTED)

    def _free(self, sequence: _Sequence) -> None:
        self._call("AlpSeqFree", sequence.handle)

    def _select(self, batch: _Sequence, first: int, last: int) -> None:
        # The library refuses a last picture before the first: go through all of them.
        self._call("AlpSeqControl", batch.handle, alp.FIRSTFRAME, 0)
        self._call("AlpSeqControl", batch.handle, alp.LASTFRAME, last)
        self._call("AlpSeqControl", batch.handle, alp.FIRSTFRAME, first)

    def _time(self, batch: _Sequence, picture_time_us: int) -> None:
        """One picture time; the trigger output pulses for half of it, without a delay."""
        delay_us, pulse_us = 0, picture_time_us // 2
        self._call(
            "AlpSeqTiming",
            batch.handle,
            alp.DEFAULT,
            picture_time_us,
            delay_us,
            pulse_us,
            alp.DEFAULT,
        )
        set_us = self._inquire_sequence(batch, alp.PICTURE_TIME)
        if set_us != picture_time_us:
            raise SettingError(
                f"A picture time of {picture_time_us} us was asked for, and the device took "
                f"{set_us} us. Use a rate of {1e6 / set_us:g} Hz."
            )

    def _put(self, batch: _Sequence, patterns: Patterns) -> None:
        packed = self._takes_packed(batch)
        rows, columns = self.shape
        chunk = max(1, _CHUNK_BYTES // (rows * columns))
        for first in range(0, batch.length, chunk):
            part = patterns[first : first + chunk]
            data = _padded(part, packed) if packed else _unpacked(part, columns)
            self._call("AlpSeqPut", batch.handle, first, len(part), data.ctypes.data)

    def _takes_packed(self, batch: _Sequence) -> int:
        """Bytes of a packed row, an eighth of the data to move; 0 where it has to be unpacked."""
        row = _PACKED_ROW.get(self.shape[1], 0)
        if not row:
            return 0
        name = "AlpSeqControl"
        library = self._opened()
        code = library.code(
            name, self._device, batch.handle, alp.DATA_FORMAT, alp.DATA_BINARY_TOPDOWN
        )
        if code == alp.PARM_INVALID:  # an old library
            return 0
        library.check(name, code)
        return row

    def _call(self, name: str, *arguments: int) -> None:
        self._opened().call(name, self._device, *arguments)

    def _inquire(self, what: int) -> int:
        return self._opened().number("AlpDevInquire", self._device, what)

    def _inquire_sequence(self, sequence: _Sequence, what: int) -> int:
        return self._opened().number("AlpSeqInquire", self._device, sequence.handle, what)

    def _opened(self) -> AlpLibrary:
        if self._library is None:
            raise DeviceStateError("The DMD is not open.")
        return self._library


def _padded(patterns: Patterns, row_bytes: int) -> NDArray[np.uint8]:
    n, rows, used = patterns.shape
    if used == row_bytes:
        return np.ascontiguousarray(patterns)
    data = np.zeros((n, rows, row_bytes), np.uint8)
    data[:, :, :used] = patterns
    return data


def _unpacked(patterns: Patterns, columns: int) -> NDArray[np.uint8]:
    """A byte a mirror, 0 or 255: the device looks at the most significant bit."""
    data: NDArray[np.uint8] = np.unpackbits(patterns, axis=2, count=columns) * np.uint8(255)
    return data


def _ask(library: AlpLibrary, device: int) -> tuple[Identity, _Dmd]:
    """Who a device is, and what mirrors it has."""

    def inquire(what: int) -> int:
        return library.number("AlpDevInquire", device, what)

    kind = inquire(alp.DEV_DMDTYPE)
    dmd = _DMDS.get(kind)
    if dmd is None:
        raise DeviceError(
            f"The ALP device has a DMD of type {kind}, which this driver does not know; it knows "
            f"{', '.join(f'{number} ({known.name})' for number, known in _DMDS.items())}."
        )
    try:
        shape = (inquire(alp.DEV_DISPLAY_HEIGHT), inquire(alp.DEV_DISPLAY_WIDTH))
    except DeviceError:  # not in ALP-4.1
        shape = dmd.shape
    version = inquire(alp.VERSION)
    identity = Identity(
        "ViALUX", f"ALP {dmd.name}", f"{inquire(alp.DEVICE_NUMBER)}", f"{version:#x}"
    )
    return identity, _Dmd(dmd.name, shape, dmd.pitch_um)


def _discover(library: AlpLibrary) -> list[Found]:
    devices: list[int] = []
    found = []
    try:
        with suppress(DeviceError):  # no further device
            while True:
                devices.append(library.new_id("AlpDevAlloc", alp.DEFAULT, alp.DEFAULT))
                identity, _ = _ask(library, devices[-1])
                found.append(Found(identity, {"serial": int(identity.serial)}))
    finally:
        for device in devices:
            with suppress(DeviceError):
                library.call("AlpDevFree", device)
    return found
