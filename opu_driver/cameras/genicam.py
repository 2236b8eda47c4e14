"""Cameras of any maker through their GenTL producer, by Harvesters (`pip install 'opu[genicam]'`).

A producer is the maker's library for this standard, a file that ends in `.cti`; it comes with the
maker's camera software. GenTL is described in the GenICam GenTL Standard of the EMVA: section
"Installation" (where producers are) and BUFFER_INFO_CMD (frame ids, timestamps, incomplete
buffers); features in `genicam_camera`. Of Harvesters, classes Harvester and ImageAcquirer are used.
"""

from __future__ import annotations

import math
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

import numpy as np

from opu_driver.cameras.features import Features, Value
from opu_driver.cameras.frame_count import FrameCount
from opu_driver.cameras.genicam_camera import Filled, GenicamCamera, pick
from opu_driver.device import Found, Identity
from opu_driver.errors import (
    DeviceBusyError,
    DeviceError,
    DeviceLostError,
    DriverMissingError,
    SettingError,
)
from opu_driver.extras import vendor_library

_SEARCH_PATH = "GENICAM_GENTL64_PATH"
"""Where producers install themselves (GenTL Standard, section 'Installation')."""

_SHORTEST_WAIT_S = 1e-3
"""Harvesters looks for a buffer for a millisecond at least."""


class GentlCamera(GenicamCamera):
    """A camera behind a GenTL producer.

    Args:
        producer: The `.cti` file of the maker; left out, all that are installed are searched.
        serial: Serial number, or the producer's own name of a device without one; may be left out
            where only one camera is connected.
        trigger_source: The input of the trigger edge, an entry of TriggerSource.
        trigger_edge: Which edge starts an exposure.
        black_level: What BlackLevel is set to; None leaves it.
        pitch_um: Distance between neighbouring pixels, micrometres; None where the camera tells.
        features: Other features by their names, set when the camera opens.
    """

    def __init__(
        self,
        producer: str | None = None,
        serial: str | None = None,
        trigger_source: str = "Line1",
        trigger_edge: Literal["rising", "falling"] = "rising",
        black_level: float | None = None,
        pitch_um: float | None = None,
        features: dict[str, Value] | None = None,
    ) -> None:
        super().__init__(trigger_source, trigger_edge, black_level, pitch_um, features)
        self._producer = producer
        self._serial = serial
        self._harvester: Any = None
        self._acquirer: Any = None
        self._identity: Identity | None = None
        self._incomplete = 0

    @classmethod
    def discover(cls) -> list[Found]:
        """The cameras behind all installed producers.

        Raises:
            DriverMissingError: Harvesters is not installed.
        """
        found = []
        for producer in installed_producers():
            with _searched(producer) as harvester:
                found += [
                    Found(_identity(info), {"producer": str(producer), "serial": _name(info)})
                    for info in harvester.device_info_list
                ]
        return found

    @property
    def address(self) -> str:
        """`gentl`, and the serial number."""
        return f"gentl {self._serial or '(the only camera)'}"

    @property
    def identity(self) -> Identity:
        """Who the camera says it is."""
        self._require_open()
        if self._identity is None:
            raise DeviceError("The camera has no identity; close and open it.")
        return self._identity

    def _open(self) -> None:
        producers = [Path(self._producer)] if self._producer else installed_producers()
        if not producers:
            raise DriverMissingError(
                f"No GenTL producer is installed: {_SEARCH_PATH} leads to no .cti file. Install "
                "the camera maker's software, or name its file with producer in the bench file."
            )
        self._harvester = _harvester(producers)
        found = self._harvester.device_info_list
        info = found[pick(self._serial, [_identity(each) for each in found])]
        self._acquirer = self._acquire(info)
        features = _NodeFeatures(self._acquirer)
        version = features.first("DeviceFirmwareVersion", "DeviceVersion")
        self._identity = _identity(info, features.text(version) if version else "")
        self._prepare(features)

    def _acquire(self, info: Any) -> Any:
        gentl = vendor_library("genicam.gentl", "genicam")
        core = vendor_library("harvesters.core", "genicam")
        at = self._harvester.device_info_list.index(info)
        try:
            with _interrupts_kept():
                acquirer = self._harvester.create(at)
        except (gentl.AccessDeniedException, gentl.ResourceInUseException) as error:
            raise DeviceBusyError(
                f"The camera {_identity(info)} is in use by another program ({error}). Close it."
            ) from error
        except gentl.GenericException as error:
            raise DeviceError(
                f"The camera {_identity(info)} cannot be opened: {error}. Unplug it, plug it in "
                "again, and check its power."
            ) from error
        acquirer.add_callback(
            acquirer.Events.INCOMPLETE_BUFFER, _callback(core, self._note_incomplete)
        )
        return acquirer

    def _note_incomplete(self, _acquirer: Any) -> None:
        self._incomplete += 1

    def _close(self) -> None:
        acquirer, self._acquirer = self._acquirer, None
        harvester, self._harvester = self._harvester, None
        self._let_go()
        if harvester is not None:
            errors = _vendor_errors()
            with suppress(*errors):  # a camera that is gone complains
                if acquirer is not None:
                    acquirer.destroy()
            with suppress(*errors):
                harvester.reset()

    def _start(self, buffers: int) -> FrameCount:
        with self._told():
            self._acquirer.num_buffers = max(buffers, self._acquirer.min_num_buffers)
            self._acquirer.start()
        self._incomplete = 0
        # Where frame_id begins is up to the producer (GenTL Standard, BUFFER_INFO_FRAMEID).
        return FrameCount(first=None)

    @contextmanager
    def _next(self, wait_s: float) -> Iterator[Filled | None]:
        if self._incomplete:
            self._incomplete -= 1
            yield Filled(None)
            return
        with self._told():
            buffer = self._acquirer.try_fetch(timeout=max(wait_s, _SHORTEST_WAIT_S), is_raw=True)
        if buffer is None:
            yield None
            return
        try:
            yield _filled(buffer)
        finally:
            buffer.parent.queue_buffer(buffer)

    def _require_connected(self) -> None:
        with self._told():
            self._features.number("Width")

    def _stop(self) -> None:
        with suppress(*_vendor_errors()):
            self._acquirer.stop()

    @contextmanager
    def _told(self) -> Iterator[None]:
        gentl = vendor_library("genicam.gentl", "genicam")
        try:
            yield
        except gentl.GenericException as error:
            raise self._lost() from error


def installed_producers() -> list[Path]:
    """The `.cti` files in the folders of the environment variable GENICAM_GENTL64_PATH."""
    folders = filter(None, os.environ.get(_SEARCH_PATH, "").split(os.pathsep))
    return [file for folder in folders for file in sorted(Path(folder).glob("*.cti"))]


def _harvester(producers: list[Path]) -> Any:
    core = vendor_library("harvesters.core", "genicam")
    for producer in producers:
        if not producer.is_file():
            raise DriverMissingError(
                f"The GenTL producer {producer} does not exist. Name the .cti file of the "
                "camera's maker with producer in the bench file."
            )
    errors: tuple[type[Exception], ...] = (OSError, *_vendor_errors())
    harvester = core.Harvester()
    try:
        for producer in producers:
            harvester.add_file(str(producer), check_validity=True)
        harvester.update()
    except errors as error:
        harvester.reset()
        raise DriverMissingError(
            f"The GenTL producer {', '.join(map(str, producers))} cannot be used: {error}. Name "
            "the .cti file of the camera's maker with producer in the bench file."
        ) from error
    return harvester


@contextmanager
def _searched(producer: Path) -> Iterator[Any]:
    harvester = _harvester([producer])
    try:
        yield harvester
    finally:
        harvester.reset()


def _vendor_errors() -> tuple[type[Exception], ...]:
    gentl = vendor_library("genicam.gentl", "genicam")
    genapi = vendor_library("genicam.genapi", "genicam")
    return gentl.GenericException, genapi.GenericException


@contextmanager
def _interrupts_kept() -> Iterator[None]:
    """Harvesters takes Ctrl-C for itself when it is used in the main thread; give it back."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handler = signal.getsignal(signal.SIGINT)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)


def _callback(core: Any, tell: Callable[[Any], None]) -> Any:
    """Harvesters tells of incomplete buffers to objects of a class of its own."""
    kind = type("Incomplete", (core.Callback,), {"emit": lambda _self, context: tell(context)})
    return kind()


def _filled(buffer: Any) -> Filled:
    data = np.frombuffer(buffer.raw_buffer, np.uint8, buffer.size_filled)
    return Filled(
        data[_info(buffer, "image_offset") or 0 :],
        (buffer.height, buffer.width),
        _info(buffer, "frame_id"),
        _timestamp_us(buffer),
    )


def _timestamp_us(buffer: Any) -> float:
    nanoseconds = _info(buffer, "timestamp_ns")
    return nanoseconds / 1e3 if nanoseconds else math.nan


def _info(buffer: Any, name: str) -> int | None:
    """What a producer says of a buffer; much of it is optional in the standard."""
    gentl = vendor_library("genicam.gentl", "genicam")
    try:
        return int(getattr(buffer, name))
    except gentl.GenericException:
        return None


def _identity(info: Any, firmware: str = "") -> Identity:
    return Identity(str(info.vendor), str(info.model), _name(info), firmware)


def _name(info: Any) -> str:
    return str(info.serial_number or info.id_)


class _NodeFeatures(Features):
    """Features through the node map of the GenICam reference implementation."""

    def __init__(self, acquirer: Any) -> None:
        self._nodes = acquirer.remote_device.node_map
        self._genapi = vendor_library("genicam.genapi", "genicam")

    def has(self, name: str) -> bool:
        with self._told(name):
            modes = self._genapi.EAccessMode
            return bool(
                self._nodes.has_node(name)
                and self._nodes.get_node(name).get_access_mode() not in (modes.NI, modes.NA)
            )

    def number(self, name: str) -> float:
        with self._told(name):
            return float(self._nodes.get_node(name).value)

    def text(self, name: str) -> str:
        with self._told(name):
            return str(self._nodes.get_node(name).value)

    def set(self, name: str, value: Value) -> None:
        with self._told(f"{name} = {value!r}"):
            self._nodes.get_node(name).value = value

    def execute(self, name: str) -> None:
        with self._told(name):
            self._nodes.get_node(name).execute()

    def limits(self, name: str) -> tuple[float, float]:
        with self._told(name):
            node = self._nodes.get_node(name)
            return float(node.min), float(node.max)

    def step(self, name: str) -> int:
        with self._told(name):
            return int(self._nodes.get_node(name).inc)

    def choices(self, name: str) -> tuple[str, ...]:
        if not self.has(name):
            return ()
        with self._told(name):
            return tuple(self._nodes.get_node(name).symbolics)

    @contextmanager
    def _told(self, what: str) -> Iterator[None]:
        gentl = vendor_library("genicam.gentl", "genicam")
        try:
            yield
        except gentl.GenericException as error:  # the way to the camera, not the feature
            raise DeviceLostError(
                f"The camera does not answer any more ({error}). Check its cable and power, then "
                "close and open it."
            ) from error
        except (self._genapi.GenericException, TypeError) as error:
            raise SettingError(f"{what}: {error}") from error
