"""Basler cameras through pylon, the maker's own library (`pip install 'opu[pylon]'`).

pylon API documentation, C++ (docs.baslerweb.com/pylonapi/cpp): classes Pylon::CTlFactory
(EnumerateDevices), Pylon::CInstantCamera (StartGrabbing with GrabStrategy_OneByOne, RetrieveResult,
WaitForFrameTriggerReady) and Pylon::CGrabResultData (GrabSucceeded, GetBlockID, GetTimeStamp).
Basler Product Documentation: topics "Acquisition Mode", "Exposure Time", "Gain", "Black Level",
"Resulting Frame Rate", "Trigger Activation" and "User Sets".
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
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
    SettingError,
)
from opu_driver.extras import vendor_library

_NO_COUNTER = 2**64 - 1
"""The BlockID of a camera that keeps no count."""

_NOTICED_S = 1.0
"""How long pylon may take, after the first error, to notice that a camera is gone."""


class PylonCamera(GenicamCamera):
    """A Basler camera: GigE, USB3 Vision, CoaXPress, or the emulation in pylon.

    Args:
        serial: Serial number; may be left out where only one camera is connected.
        trigger_source: The input of the trigger edge.
        trigger_edge: Which edge starts an exposure.
        black_level: What BlackLevel is set to; None leaves it.
        pitch_um: Distance between neighbouring pixels, micrometres; None where the camera tells.
        features: Other features by their names in the pylon Viewer, set when the camera opens.
    """

    def __init__(
        self,
        serial: str | None = None,
        trigger_source: str = "Line1",
        trigger_edge: Literal["rising", "falling"] = "rising",
        black_level: float | None = None,
        pitch_um: float | None = None,
        features: dict[str, Value] | None = None,
    ) -> None:
        super().__init__(trigger_source, trigger_edge, black_level, pitch_um, features)
        self._serial = serial
        self._handle: Any = None
        self._identity: Identity | None = None
        self._tick_us = 1e-3

    @classmethod
    def discover(cls) -> list[Found]:
        """The Basler cameras that are connected now.

        Raises:
            DriverMissingError: pypylon is not installed.
        """
        pylon = vendor_library("pypylon.pylon", "pylon")
        return [
            Found(_identity(info), {"serial": str(info.GetSerialNumber())})
            for info in pylon.TlFactory.GetInstance().EnumerateDevices()
        ]

    @property
    def address(self) -> str:
        """`pylon`, and the serial number."""
        return f"pylon {self._serial or '(the only camera)'}"

    @property
    def identity(self) -> Identity:
        """Who the camera says it is."""
        self._require_open()
        if self._identity is None:
            raise DeviceError("The camera has no identity; close and open it.")
        return self._identity

    @property
    def handle(self) -> Any:
        """The object that pylon has of the open camera, for what this driver has no word for."""
        self._require_open()
        return self._handle

    def _open(self) -> None:
        pylon = vendor_library("pypylon.pylon", "pylon")
        genicam = vendor_library("pypylon.genicam", "pylon")
        factory = pylon.TlFactory.GetInstance()
        found = list(factory.EnumerateDevices())
        info = found[pick(self._serial, [_identity(each) for each in found])]
        try:
            self._handle = pylon.InstantCamera(factory.CreateDevice(info))
            self._handle.Open()
        except genicam.GenericException as error:
            if "another" in str(error):
                raise DeviceBusyError(
                    f"The camera {info.GetFriendlyName()} is in use by another program ({error}). "
                    "Close that one, such as the pylon Viewer."
                ) from error
            raise DeviceError(
                f"The camera {info.GetFriendlyName()} cannot be opened: {error}. Unplug it, plug "
                "it in again, and check its power."
            ) from error
        features = _PylonFeatures(self._handle)
        clock = features.first("GevTimestampTickFrequency")
        self._tick_us = 1e6 / features.number(clock) if clock else 1e-3  # USB3 Vision: 1 ns
        version = features.first("DeviceFirmwareVersion", "DeviceVersion")
        self._identity = _identity(info, features.text(version) if version else "")
        self._prepare(features)

    def _close(self) -> None:
        handle, self._handle = self._handle, None
        self._let_go()
        if handle is not None:
            genicam = vendor_library("pypylon.genicam", "pylon")
            for end in (handle.StopGrabbing, handle.Close, handle.DestroyDevice):
                with suppress(genicam.GenericException):  # a camera that is gone complains
                    end()

    def _start(self, buffers: int) -> FrameCount:
        pylon = vendor_library("pypylon.pylon", "pylon")
        with _told(self._handle):
            self._handle.MaxNumBuffer.SetValue(buffers)
            self._handle.StartGrabbingMax(self._wanted, pylon.GrabStrategy_OneByOne)
        # pylon API reference, GrabResultData.GetBlockID: where cameras begin to count.
        interface = self._handle.GetDeviceInfo().GetDeviceClass()
        if interface == "BaslerGigE":
            return FrameCount(first=1, period=65535)
        return FrameCount(first=0 if interface in ("BaslerUsb", "BaslerCamEmu") else None)

    def _trigger(self) -> None:
        pylon = vendor_library("pypylon.pylon", "pylon")
        wait_ms = 1000 + math.ceil(4e-3 * self.settings.exposure_us)
        with _told(self._handle):
            if self._handle.CanWaitForFrameTriggerReady() and not (
                self._handle.WaitForFrameTriggerReady(wait_ms, pylon.TimeoutHandling_Return)
            ):
                raise DeviceError(
                    f"The camera was not ready for a trigger within {wait_ms} ms: it exposes, or "
                    "its frames are not read. Read the frame of each trigger before the next."
                )
        super()._trigger()

    @contextmanager
    def _next(self, wait_s: float) -> Iterator[Filled | None]:
        pylon = vendor_library("pypylon.pylon", "pylon")
        with _told(self._handle):
            result = self._handle.RetrieveResult(
                math.ceil(1e3 * wait_s), pylon.TimeoutHandling_Return
            )
        try:
            yield self._filled(result) if result.IsValid() else None
        finally:
            result.Release()

    def _filled(self, result: Any) -> Filled:
        counter = result.GetBlockID()
        if counter == _NO_COUNTER:
            counter = None
        if not result.GrabSucceeded():
            return Filled(None, counter=counter)
        ticks = result.GetTimeStamp()
        return Filled(
            np.frombuffer(result.GetMemoryView(), np.uint8),
            (result.GetHeight(), result.GetWidth()),
            counter,
            ticks * self._tick_us if ticks else math.nan,
        )

    def _require_connected(self) -> None:
        # RetrieveResult does not fail on a camera that is gone: one has to ask.
        if self._handle.IsCameraDeviceRemoved():
            raise self._lost()

    def _stop(self) -> None:
        genicam = vendor_library("pypylon.genicam", "pylon")
        with suppress(genicam.GenericException):
            self._handle.StopGrabbing()


class _PylonFeatures(Features):
    """Features through pylon's node map."""

    def __init__(self, camera: Any) -> None:
        self._camera = camera
        self._genicam = vendor_library("pypylon.genicam", "pylon")

    def has(self, name: str) -> bool:
        return bool(self._genicam.IsAvailable(self._node(name)))

    def number(self, name: str) -> float:
        with _told(self._camera):
            return float(self._node(name).GetValue())

    def text(self, name: str) -> str:
        with _told(self._camera):
            return str(self._node(name).GetValue())

    def set(self, name: str, value: Value) -> None:
        with _told(self._camera, f"{name} = {value!r}"):
            try:
                self._node(name).SetValue(value)
            except TypeError as error:
                raise SettingError(f"{name} = {value!r} is of the wrong type.") from error

    def execute(self, name: str) -> None:
        with _told(self._camera, name):
            self._node(name).Execute()

    def limits(self, name: str) -> tuple[float, float]:
        with _told(self._camera):
            node = self._node(name)
            return float(node.GetMin()), float(node.GetMax())

    def step(self, name: str) -> int:
        with _told(self._camera):
            return int(self._node(name).GetInc())

    def choices(self, name: str) -> tuple[str, ...]:
        if not self.has(name):
            return ()
        with _told(self._camera):
            return tuple(self._node(name).GetSettableValues())

    def _node(self, name: str) -> Any:
        with _told(self._camera):
            return self._camera.GetNodeMap().GetNode(name)


@contextmanager
def _told(camera: Any, setting: str = "") -> Iterator[None]:
    """Errors of pylon as errors of ours; what refuses a setting is a SettingError."""
    genicam = vendor_library("pypylon.genicam", "pylon")
    try:
        yield
    except genicam.GenericException as error:
        if _is_gone(camera, wait_s=0.0 if setting else _NOTICED_S):
            raise DeviceLostError(
                "The camera does not answer any more. Check its cable and power, then close and "
                "open it."
            ) from error
        if setting:
            raise SettingError(f"{setting}: {error}") from error
        raise DeviceError(f"pylon failed: {error}. Close and open the camera.") from error


def _is_gone(camera: Any, wait_s: float) -> bool:
    deadline_s = time.monotonic() + wait_s
    while not camera.IsCameraDeviceRemoved():
        if time.monotonic() >= deadline_s:
            return False
        time.sleep(0.01)
    return True


def _identity(info: Any, firmware: str = "") -> Identity:
    return Identity(
        str(info.GetVendorName()), str(info.GetModelName()), str(info.GetSerialNumber()), firmware
    )
