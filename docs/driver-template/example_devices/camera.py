"""A camera whose library hands over bytes, and rounds what it is asked for."""

from __future__ import annotations

import time

import numpy as np
from opu_driver.camera import Camera, CameraSettings, FrameBlock, Frames, PixelFormat, Trigger
from opu_driver.device import Found, Identity
from opu_driver.errors import CaptureTimeoutError, DeviceError, SettingError

from example_devices import vendor
from example_devices.told import told


class ExampleCamera(Camera):
    """A camera with a software trigger.

    Args:
        serial: Serial number.
    """

    has_trigger_line = False

    def __init__(self, serial: str = "C1") -> None:
        self._serial = serial
        self._device: vendor.Sensor | None = None
        self._wanted = 0
        self._delivered = 0
        self._lost = 0

    @classmethod
    def discover(cls) -> list[Found]:
        """The cameras that are connected; none is opened."""
        serial = vendor.SERIALS["camera"]
        return [Found(Identity("Example", "camera", serial), {"serial": serial})]

    @property
    def address(self) -> str:
        """What two processes would fight over."""
        return f"example-camera {self._serial}"

    @property
    def identity(self) -> Identity:
        """Maker, model and serial number."""
        return Identity("Example", "camera", self._serial, "1.0")

    @property
    def sensor_shape(self) -> tuple[int, int]:
        """Rows and columns of pixels."""
        return vendor.Sensor.ROWS, vendor.Sensor.COLUMNS

    @property
    def pitch_um(self) -> float:
        """Distance between neighbouring pixels, micrometres; from the data sheet."""
        return 5.5

    @property
    def pixel_formats(self) -> tuple[PixelFormat, ...]:
        """8 and 12 bits."""
        return PixelFormat.MONO8, PixelFormat.MONO12

    @property
    def exposure_limits_us(self) -> tuple[float, float]:
        """10 microseconds to 1 second, in steps of 10 microseconds."""
        return 10.0, 1e6

    @property
    def gain_limits_db(self) -> tuple[float, float]:
        """0 to 0: there is no gain to set."""
        return 0.0, 0.0

    @property
    def saturation_level(self) -> float:
        """All bits set."""
        return 2.0**self.settings.pixel_format.bits - 1.0

    @property
    def black_level(self) -> float:
        """Mean grey value of a pixel without light."""
        return 0.0

    @property
    def max_rate_hz(self) -> float:
        """Highest frame rate: exposure and read-out follow each other."""
        return 1e6 / (self.settings.exposure_us + 500.0)

    def nearest_exposure_us(self, exposure_us: float) -> float:
        """The nearest multiple of 10 microseconds."""
        low, high = self.exposure_limits_us
        return min(max(10.0 * round(exposure_us / 10.0), low), high)

    def _open(self) -> None:
        with told("camera"):
            self._device = vendor.Sensor(self._serial)

    def _close(self) -> None:
        device, self._device = self._device, None
        self._settings = None
        if device is not None:
            device.close()

    def _configure(self, settings: CameraSettings) -> CameraSettings:
        """What the base class cannot check is checked before anything is changed."""
        if settings.trigger is not Trigger.SOFTWARE:
            raise SettingError(
                f"trigger = {settings.trigger.value}; this camera knows software. Write "
                'trigger = "software" in [camera].'
            )
        if settings.trigger_delay_us:
            raise SettingError(
                f"trigger_delay_us = {settings.trigger_delay_us:g}; this camera has no delay: 0."
            )
        nearest_us = self.nearest_exposure_us(settings.exposure_us)
        if settings.exposure_us != nearest_us:
            raise SettingError(
                f"exposure_us = {settings.exposure_us:g}; this camera counts tens of microseconds. "
                f"The nearest is {nearest_us:g}."
            )
        region = settings.region
        with told("camera"):
            self._opened.set_exposure(settings.exposure_us)
        self._opened.window = (region.row, region.column, *region.shape)
        self._opened.bits = settings.pixel_format.bits
        return settings

    def _arm(self, frames: int) -> None:
        with told("camera"):
            self._opened.start()
        self._wanted = frames
        self._delivered = self._lost = 0

    def _trigger(self) -> None:
        with told("camera"):
            self._opened.trigger()

    def _read(self, max_frames: int, timeout_s: float) -> FrameBlock:
        """The first frame is waited for, the others are there already."""
        pixel_format, shape = self.settings.pixel_format, self.settings.region.shape
        frames: list[Frames] = []
        ids: list[int] = []
        times_us: list[float] = []
        end_s = time.monotonic() + timeout_s
        while len(frames) < max_frames:
            with told("camera"):
                wait_s = 0.0 if frames else max(end_s - time.monotonic(), 0.0)
                fetched = self._opened.fetch(wait_s)
            if fetched is None:
                break
            time_s, counter, content = fetched
            if len(content) != pixel_format.dtype.itemsize * shape[0] * shape[1]:
                self._lost += 1  # incomplete: counted, and never returned
                continue
            frames.append(np.frombuffer(content, pixel_format.dtype).reshape(shape))
            ids.append(counter)
            times_us.append(1e6 * time_s)
        if not frames:
            raise CaptureTimeoutError(
                f"No frame in {timeout_s:g} s; {self._delivered} of {self._wanted} came, and "
                f"{self._lost} were incomplete. Call trigger() before each read."
            )
        self._delivered += len(frames)
        return FrameBlock(np.stack(frames), np.array(ids, np.int64), np.array(times_us), self._lost)

    def _disarm(self) -> None:
        """`start` forgets what is left, so there is nothing to do."""

    @property
    def _opened(self) -> vendor.Sensor:
        if self._device is None:
            raise DeviceError("The camera is not open.")
        return self._device
