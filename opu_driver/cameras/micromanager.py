"""Any camera that a Micro-Manager configuration reaches, through pymmcore-plus.

Micro-Manager has device adapters for most scientific cameras, without a common idea of what
a trigger, a gain or a pixel format is: these are properties of the adapter, named in the bench
file. What is common is used as MMCore has it (MMCore API reference, class CMMCore: setExposure, in
milliseconds; setROI, as x, y, width, height; startSequenceAcquisition, popNextImageMD and
isBufferOverflowed, images through a circular buffer; hasPropertyLimits and its like).

Loading a configuration also loads and starts up whatever else is in it, stages included: make one
with the camera alone (Micro-Manager, Hardware Configuration Wizard).
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from opu_driver.camera import Camera, CameraSettings, FrameBlock, Frames, PixelFormat, Trigger
from opu_driver.device import Found, Identity
from opu_driver.errors import (
    CaptureTimeoutError,
    DeviceLostError,
    DeviceNotFoundError,
    DeviceStateError,
    DriverMissingError,
    FrameError,
    SettingError,
)
from opu_driver.extras import vendor_library

_FORMATS = (PixelFormat.MONO8, PixelFormat.MONO10, PixelFormat.MONO12, PixelFormat.MONO16)
_POLL_S = 5e-4
_ENDLESS = 2**31 - 1
"""Images in a sequence. One that ends by itself ends in the adapter's own thread, and some adapters
(Micro-Manager's demonstration camera is one) crash if they are unloaded meanwhile; one that is
stopped has ended when the call returns."""

Properties = dict[str, str | int | float]
"""Names of an adapter's properties, as its page on micro-manager.org lists them, and values."""


class MicroManagerCamera(Camera):
    """A camera behind MMCore.

    Its frames are counted as MMCore counts them, and have no timestamps: MMCore's are the
    computer's, when it was told of a frame, and prove nothing about the camera.

    Args:
        configuration: A configuration file, or the name of one beside the device adapters.
        pitch_um: Distance between neighbouring pixels, micrometres, on the sensor.
        camera: Label of the camera in the configuration; None for the one that it makes current.
        adapters: Folder of the device adapters; None for where pymmcore-plus finds them
            (`mmcore list`).
        properties: What to set when the camera opens: pixel type, bit depth, gain, cooling.
        hardware_trigger: What makes the camera wait for its trigger line, such as
            `{TriggerMode = "External"}`; None if it has none.
        internal_trigger: What makes it run on its own clock, or by software, again.
        trigger_delay_property: The property that delays exposures after the trigger line's edge.
        trigger_delay_unit_us: Microseconds in one unit of that property.
        black_level: Mean grey value of a pixel without light.
        buffer_mb: Room for frames that have not been read yet, megabytes.

    Raises:
        SettingError: A number out of range.
    """

    def __init__(
        self,
        configuration: str,
        pitch_um: float,
        camera: str | None = None,
        adapters: str | None = None,
        properties: Properties | None = None,
        hardware_trigger: Properties | None = None,
        internal_trigger: Properties | None = None,
        trigger_delay_property: str | None = None,
        trigger_delay_unit_us: float = 1.0,
        black_level: float = 0.0,
        buffer_mb: int = 256,
    ) -> None:
        if not (pitch_um > 0 and trigger_delay_unit_us > 0 and buffer_mb > 0):
            raise SettingError(
                f"pitch_um = {pitch_um:g}, trigger_delay_unit_us = {trigger_delay_unit_us:g}, "
                f"buffer_mb = {buffer_mb}: all must be above 0."
            )
        self._configuration = configuration
        self._pitch_um = pitch_um
        self._wanted_label = camera
        self._adapters = adapters
        self._properties = properties or {}
        self._hardware_trigger = hardware_trigger
        self._internal_trigger = internal_trigger or {}
        self._delay_property = trigger_delay_property
        self._delay_unit_us = trigger_delay_unit_us
        self._black_level = black_level
        self._buffer_mb = buffer_mb
        self._core: Any = None
        self._label = ""
        self._sensor_shape = (0, 0)
        self._bits = 0
        self._wanted = 0
        self._delivered = 0
        self._snapped = 0

    @classmethod
    def is_searched_for(cls) -> bool:
        """False: to know what a configuration reaches it would have to be started."""
        return False

    @classmethod
    def discover(cls) -> list[Found]:
        """None: what is connected shows only when a configuration is loaded, which starts it up.

        Raises:
            DriverMissingError: pymmcore-plus is not installed.
        """
        vendor_library("pymmcore_plus", "micromanager")
        return []

    @property
    def address(self) -> str:
        """The configuration, and the camera in it."""
        return f"micro-manager {self._configuration} {self._wanted_label or ''}".strip()

    @property
    def identity(self) -> Identity:
        """The adapter, and the camera's name and number as far as it tells them."""
        core = self._opened
        return Identity(
            core.getDeviceLibrary(self._label),
            self._told("CameraName") or core.getDeviceName(self._label),
            self._told("CameraID") or self._label,
            core.getVersionInfo(),
        )

    @property
    def sensor_shape(self) -> tuple[int, int]:
        """Rows and columns of the whole frame, at the binning in force."""
        return self._sensor_shape

    @property
    def pitch_um(self) -> float:
        """Distance between neighbouring pixels, micrometres."""
        return self._pitch_um

    @property
    def pixel_formats(self) -> tuple[PixelFormat, ...]:
        """The one that the properties have chosen; 14 bits are MONO16 with a lower full scale."""
        return (next(each for each in _FORMATS if each.bits >= self._bits),)

    @property
    def exposure_limits_us(self) -> tuple[float, float]:
        """The adapter's limits; where it tells none, 1 microsecond to 10 seconds."""
        core = self._opened
        if core.hasProperty(self._label, "Exposure") and core.hasPropertyLimits(
            self._label, "Exposure"
        ):
            low_ms = core.getPropertyLowerLimit(self._label, "Exposure")
            high_ms = core.getPropertyUpperLimit(self._label, "Exposure")
            return max(1e3 * low_ms, 1.0), 1e3 * high_ms
        return 1.0, 1e7

    @property
    def gain_limits_db(self) -> tuple[float, float]:
        """0 to 0: adapters' gains have no common unit; set theirs in `properties`."""
        return 0.0, 0.0

    @property
    def saturation_level(self) -> float:
        """All bits set."""
        return 2.0**self._bits - 1.0

    @property
    def black_level(self) -> float:
        """Mean grey value of a pixel without light, as given."""
        return self._black_level

    @property
    def max_rate_hz(self) -> float:
        """Exposure and read-out, one after the other: reached by every camera."""
        readout_us = 1e3 * float(self._told("ReadoutTime") or 0.0)
        return 1e6 / (self.settings.exposure_us + readout_us)

    def nearest_exposure_us(self, exposure_us: float) -> float:
        """What the adapter makes of it, microseconds: tried, and set back."""
        core = self._opened
        before_ms = core.getExposure(self._label)
        with _refused(f"exposure_us = {exposure_us:g}"):
            core.setExposure(self._label, 1e-3 * exposure_us)
        nearest_us = 1e3 * float(core.getExposure(self._label))
        core.setExposure(self._label, before_ms)
        return nearest_us

    def _open(self) -> None:
        folder = self._adapter_folder()
        configuration = self._configuration_file(folder)
        # Its signals go through Qt wherever a Qt program runs, which this driver has no use for.
        os.environ.setdefault("PYMM_SIGNALS_BACKEND", "psygnal")
        library = vendor_library("pymmcore_plus", "micromanager")
        self._core = library.CMMCorePlus(mm_path=str(folder))
        try:
            self._core.loadSystemConfiguration(str(configuration))
        except (RuntimeError, OSError) as error:
            raise DeviceNotFoundError(
                f"The configuration {str(configuration)!r} cannot be loaded: {error}. Check that "
                "its devices are connected and on, that no other program uses them, and that the "
                "device adapters are of the version that pymmcore wants."
            ) from error
        self._label = self._camera_label()
        self._core.setCameraDevice(self._label)
        self._core.setCircularBufferMemoryFootprint(self._buffer_mb)
        self._set_all(self._properties)
        self._set_all(self._internal_trigger)
        self._core.clearROI()
        self._sensor_shape = (self._core.getImageHeight(), self._core.getImageWidth())
        self._bits = self._bits_of_a_pixel()

    def _close(self) -> None:
        self._settings = None
        if self._core is not None:
            with suppress(RuntimeError):  # what is gone need not be unloaded
                self._core.unloadAllDevices()
            self._core = None

    def _configure(self, settings: CameraSettings) -> CameraSettings:
        """Apply settings; an exposure within 0.1 % of what was asked for is returned as asked."""
        before = self._settings
        try:
            self._apply(settings)
        except SettingError:
            if before is not None:
                self._apply(before)
            raise
        return settings

    def _apply(self, settings: CameraSettings) -> None:
        core = self._opened
        self._set_trigger(settings)
        region = settings.region
        core.clearROI()
        if region.shape != self._sensor_shape:
            wanted = [region.column, region.row, region.width, region.height]
            with _refused(f"{region}"):
                core.setROI(self._label, *wanted)
            if (found := list(core.getROI(self._label))) != wanted:
                raise SettingError(
                    f"{region}: the camera would read row {found[1]}, column {found[0]}, height "
                    f"{found[3]}, width {found[2]} instead. Ask for that."
                )
        with _refused(f"exposure_us = {settings.exposure_us:g}"):
            core.setExposure(self._label, 1e-3 * settings.exposure_us)
        found_us = 1e3 * core.getExposure(self._label)
        if not math.isclose(found_us, settings.exposure_us, rel_tol=1e-3):
            raise SettingError(
                f"exposure_us = {settings.exposure_us:g}; the nearest that this camera takes is "
                f"{found_us:g}."
            )

    def _set_trigger(self, settings: CameraSettings) -> None:
        if settings.trigger is not Trigger.HARDWARE:
            if settings.trigger is Trigger.FREE and settings.trigger_delay_us:
                raise SettingError("trigger = free has no trigger; trigger_delay_us has to be 0.")
            self._set_all(self._internal_trigger)
            return
        if self._hardware_trigger is None:
            raise SettingError(
                "trigger = hardware: the bench file does not say which properties make this camera "
                "wait for its trigger line. Set hardware_trigger, and internal_trigger for back."
            )
        if self._delay_property is not None:
            delay = settings.trigger_delay_us / self._delay_unit_us
            self._set_all({self._delay_property: delay})
        elif settings.trigger_delay_us:
            raise SettingError(
                f"trigger_delay_us = {settings.trigger_delay_us:g}: the bench file does not say "
                "which property delays the exposure. Set trigger_delay_property, or let the "
                "modulator delay its edge."
            )
        self._set_all(self._hardware_trigger)

    def _arm(self, frames: int) -> None:
        core = self._opened
        self._wanted = frames
        self._delivered = 0
        self._snapped = 0
        with _lost("arm"):
            core.clearCircularBuffer()
            if self.settings.trigger is not Trigger.SOFTWARE:
                core.prepareSequenceAcquisition(self._label)
                core.startSequenceAcquisition(self._label, _ENDLESS, 0.0, True)

    def _trigger(self) -> None:
        """Expose, and return when the camera has: MMCore waits for the end of the exposure."""
        if self._snapped > self._delivered:
            raise DeviceStateError("The last triggered frame has not been read; read(1) it first.")
        time.sleep(1e-6 * self.settings.trigger_delay_us)
        with _lost("expose"):
            self._opened.snapImage()
        self._snapped += 1

    def _read(self, max_frames: int, timeout_s: float) -> FrameBlock:
        if self.settings.trigger is Trigger.SOFTWARE:
            return self._read_snapped()
        core = self._opened
        deadline_s = time.monotonic() + timeout_s
        wanted = min(max_frames, self._wanted - self._delivered)
        with _lost("read"):
            while not (waiting := core.getRemainingImageCount()) or not wanted:
                self._require_coming(timeout_s, deadline_s)
                time.sleep(_POLL_S)
            taken = [core.popNextImageAndMD() for _ in range(min(waiting, wanted))]
        self._delivered += len(taken)
        ids = [int(metadata["ImageNumber"]) for _, metadata in taken]
        return self._block([image for image, _ in taken], ids)

    def _require_coming(self, timeout_s: float, deadline_s: float) -> None:
        """Raise if the next frame will not come, or has not in time."""
        core = self._opened
        told = f"{self._delivered} of {self._wanted} frames came"
        if core.isBufferOverflowed():
            raise CaptureTimeoutError(
                f"{told}, then the buffer of {self._buffer_mb} MB was full and the camera stopped. "
                "Raise buffer_mb, lower the rate, or read sooner."
            )
        running = core.isSequenceRunning(self._label)
        if not running and not core.getRemainingImageCount() and self._delivered < self._wanted:
            raise DeviceLostError(
                f"{told}, then the camera stopped by itself. Check its cable and power, then close "
                "and open it."
            )
        if time.monotonic() > deadline_s:
            raise CaptureTimeoutError(
                f"No frame within {timeout_s:g} s: {told}. Check that the modulator runs and that "
                "its trigger edges reach the camera."
            )

    def _read_snapped(self) -> FrameBlock:
        if self._snapped == self._delivered:
            raise CaptureTimeoutError(
                f"No frame: {self._delivered} came for {self._snapped} triggers. Call trigger() "
                "before each read."
            )
        with _lost("read"):
            image = self._opened.getImage()
        self._delivered += 1
        return self._block([image], [self._delivered - 1])

    def _block(self, images: list[Frames], ids: list[int]) -> FrameBlock:
        frames = np.stack(images)
        largest = int(frames.max())
        if frames.shape[1:] != self.settings.region.shape or largest > self.saturation_level:
            raise FrameError(
                f"Frames of {frames.dtype} {list(frames.shape[1:])} with grey values up to "
                f"{largest}, not {list(self.settings.region.shape)} of {self._bits} bits: "
                "the adapter does not tell its bit depth or fills words from the left: choose "
                "another pixel type in properties."
            )
        lost = ids[-1] + 1 - self._delivered
        return FrameBlock(frames, np.array(ids, np.int64), np.full(len(ids), np.nan), lost)

    def _disarm(self) -> None:
        with suppress(RuntimeError):  # a camera that is gone has stopped
            if self.settings.trigger is not Trigger.SOFTWARE:
                self._opened.stopSequenceAcquisition(self._label)

    @property
    def _opened(self) -> Any:
        if self._core is None:
            raise DeviceStateError("The camera is not open; open it with `with camera:`.")
        return self._core

    def _adapter_folder(self) -> Path:
        library = vendor_library("pymmcore_plus", "micromanager")
        folder = self._adapters or library.find_micromanager()
        if folder is None or not Path(folder).is_dir():
            raise DriverMissingError(
                f"There are no Micro-Manager device adapters in {folder or 'the usual folders'}. "
                "Install Micro-Manager, or run `mmcore install`, or set adapters to their folder."
            )
        return Path(folder)

    def _configuration_file(self, folder: Path) -> Path:
        for path in (Path(self._configuration), folder / self._configuration):
            if path.is_file():
                return path
        there = ", ".join(sorted(path.name for path in folder.glob("*.cfg")))
        raise SettingError(
            f"configuration = {self._configuration!r} is no file; beside the device adapters are: "
            f"{there or 'none'}. Make one with Micro-Manager's Hardware Configuration Wizard."
        )

    def _camera_label(self) -> str:
        device_type = vendor_library("pymmcore_plus", "micromanager").DeviceType
        there = list(self._core.getLoadedDevicesOfType(device_type.Camera))
        label = self._wanted_label or self._core.getCameraDevice()
        if label not in there:
            raise DeviceNotFoundError(
                f"The configuration has no camera {label!r}; it has: {', '.join(there) or 'none'}. "
                "Name one with camera."
            )
        return str(label)

    def _bits_of_a_pixel(self) -> int:
        bits, size = self._core.getImageBitDepth(), self._core.getBytesPerPixel()
        if self._core.getNumberOfComponents() != 1 or size not in (1, 2):
            raise SettingError(
                f"The camera sends {self._core.getNumberOfComponents()} colours in {size} bytes a "
                "pixel; grey values of 8 to 16 bits are wanted. Choose a pixel type in properties: "
                f"{self._choices('PixelType')}."
            )
        return int(bits)

    def _told(self, name: str) -> str:
        """A property's value; empty where the adapter has none."""
        core = self._opened
        return (
            str(core.getProperty(self._label, name)) if core.hasProperty(self._label, name) else ""
        )

    def _set_all(self, properties: Properties) -> None:
        """Set properties and read them back."""
        core = self._opened
        for name, value in properties.items():
            if not core.hasProperty(self._label, name):
                names = ", ".join(core.getDevicePropertyNames(self._label))
                raise SettingError(f"The camera has no property {name!r}; it has: {names}.")
            with _refused(f"{name} = {value!r} (allowed: {self._choices(name)})"):
                core.setProperty(self._label, name, value)
                found = core.getProperty(self._label, name)
            if not _equal(found, value):
                raise SettingError(
                    f"{name} = {value!r}: the camera stays at {found!r} (allowed: "
                    f"{self._choices(name)})."
                )

    def _choices(self, name: str) -> str:
        core = self._opened
        if not core.hasProperty(self._label, name):
            return "it has no such property"
        if core.hasPropertyLimits(self._label, name):
            low = core.getPropertyLowerLimit(self._label, name)
            return f"{low:g} to {core.getPropertyUpperLimit(self._label, name):g}"
        return ", ".join(core.getAllowedPropertyValues(self._label, name)) or "anything"


def _equal(found: str, wanted: str | float) -> bool:
    try:
        return math.isclose(float(found), float(wanted), rel_tol=1e-3, abs_tol=1e-9)
    except ValueError:
        return found == str(wanted)


@contextmanager
def _refused(what: str) -> Iterator[None]:
    try:
        yield
    except (RuntimeError, ValueError) as error:
        raise SettingError(f"{what}: the camera refuses it: {error}") from error


@contextmanager
def _lost(what: str) -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise DeviceLostError(
            f"The camera does not {what} any more: {error}. Check its cable and power, then close "
            "and open it."
        ) from error
