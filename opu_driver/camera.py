"""The camera's contract: settings as one value, and frames that arrive in blocks, accounted for."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, ClassVar

import numpy as np
from numpy.typing import DTypeLike, NDArray

from opu_driver.device import Device
from opu_driver.errors import DeviceStateError, SettingError

Frames = NDArray[Any]
"""Frames `[frame, row, column]` in grey values, right-aligned, dtype of the pixel format."""


class PixelFormat(StrEnum):
    """How a pixel is digitised; grey values are always right-aligned."""

    MONO8 = "mono8"
    MONO10 = "mono10"
    MONO12 = "mono12"
    MONO16 = "mono16"
    FLOAT32 = "float32"
    """Grey values that are not rounded: only an ideal, simulated camera has it."""

    @property
    def bits(self) -> int:
        """Bits a pixel; 0 for grey values that are not rounded."""
        return {"mono8": 8, "mono10": 10, "mono12": 12, "mono16": 16, "float32": 0}[self.value]

    @property
    def dtype(self) -> np.dtype[Any]:
        """The numpy type of a frame."""
        kind: DTypeLike = {"mono8": np.uint8, "float32": np.float32}.get(self.value, np.uint16)
        return np.dtype(kind)


class Trigger(StrEnum):
    """What starts an exposure."""

    HARDWARE = "hardware"
    """An edge on the trigger line, as the modulator gives it."""
    SOFTWARE = "software"
    """A call of `Camera.trigger`."""
    FREE = "free"
    """The camera's own clock."""


@dataclass(frozen=True)
class Region:
    """A rectangle of the sensor: first row and column, height and width, in pixels."""

    row: int
    column: int
    height: int
    width: int

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of a frame."""
        return self.height, self.width

    def within(self, sensor_shape: tuple[int, int]) -> bool:
        """Whether the region is not empty and lies on the sensor."""
        return (
            self.row >= 0
            and self.column >= 0
            and self.height > 0
            and self.width > 0
            and self.row + self.height <= sensor_shape[0]
            and self.column + self.width <= sensor_shape[1]
        )


@dataclass(frozen=True)
class CameraSettings:
    """All settings of a camera as one value.

    Attributes:
        exposure_us: Exposure time, microseconds.
        region: The rectangle of the sensor that is read out.
        pixel_format: How a pixel is digitised.
        gain_db: Analogue gain, decibels.
        trigger: What starts an exposure.
        trigger_delay_us: From the trigger edge to the start of the exposure, microseconds; at
            least the modulator's settling time, or frames show two patterns mixed.
    """

    exposure_us: float
    region: Region
    pixel_format: PixelFormat = PixelFormat.MONO8
    gain_db: float = 0.0
    trigger: Trigger = Trigger.HARDWARE
    trigger_delay_us: float = 0.0


@dataclass(frozen=True)
class FrameBlock:
    """Frames in the order of their exposure.

    Attributes:
        frames: `[frame, row, column]`, grey values.
        ids: int64 `[frame]`, the camera's own counter since `arm`; a gap is a lost frame.
        timestamps_us: float64 `[frame]`, start of exposure on the camera's clock, microseconds;
            NaN where the camera keeps no time.
        lost: Frames that the camera knows it lost since `arm`.
    """

    frames: Frames
    ids: NDArray[np.int64]
    timestamps_us: NDArray[np.float64]
    lost: int

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, some: slice) -> FrameBlock:
        return FrameBlock(self.frames[some], self.ids[some], self.timestamps_us[some], self.lost)


class Camera(Device):
    """A camera with a global shutter.

    Attributes:
        has_trigger_line: Whether an edge can start exposures of such cameras at all.
    """

    has_trigger_line: ClassVar[bool] = True

    _settings: CameraSettings | None = None
    _armed: bool = False

    @property
    @abstractmethod
    def sensor_shape(self) -> tuple[int, int]:
        """Rows and columns of the whole sensor."""

    @property
    @abstractmethod
    def pitch_um(self) -> float:
        """Distance between neighbouring pixels, micrometres."""

    @property
    @abstractmethod
    def pixel_formats(self) -> tuple[PixelFormat, ...]:
        """The pixel formats that the camera has."""

    @property
    @abstractmethod
    def exposure_limits_us(self) -> tuple[float, float]:
        """Shortest and longest exposure, microseconds."""

    @property
    @abstractmethod
    def gain_limits_db(self) -> tuple[float, float]:
        """Lowest and highest analogue gain, decibels."""

    @property
    @abstractmethod
    def saturation_level(self) -> float:
        """The grey value at which a pixel is full, at the present settings."""

    @property
    @abstractmethod
    def black_level(self) -> float:
        """Mean grey value of a pixel without light, at the present settings."""

    @property
    @abstractmethod
    def max_rate_hz(self) -> float:
        """Highest frame rate at the present settings."""

    def nearest_exposure_us(self, exposure_us: float) -> float:
        """The exposure time that the camera can make nearest to this one, microseconds."""
        return exposure_us

    @property
    def settings(self) -> CameraSettings:
        """The settings in force.

        Raises:
            DeviceStateError: The camera has not been configured.
        """
        if self._settings is None:
            raise DeviceStateError("The camera has no settings yet; call configure(settings).")
        return self._settings

    def configure(self, settings: CameraSettings) -> CameraSettings:
        """Apply settings, all of them or none, and return what is in force.

        Raises:
            SettingError: A value out of range, or one that the camera would silently change.
            DeviceStateError: Not open, or armed.
        """
        self._require_open()
        if self._armed:
            raise DeviceStateError("The camera is armed; disarm it before changing its settings.")
        low, high = self.exposure_limits_us
        if not low <= settings.exposure_us <= high:
            raise SettingError(
                f"exposure_us = {settings.exposure_us:g}; this camera takes {low:g} to {high:g}."
            )
        low, high = self.gain_limits_db
        if not low <= settings.gain_db <= high:
            raise SettingError(
                f"gain_db = {settings.gain_db:g}; this camera takes {low:g} to {high:g}."
            )
        if not settings.region.within(self.sensor_shape):
            raise SettingError(
                f"{settings.region} does not lie on a sensor of {self.sensor_shape[0]} rows and "
                f"{self.sensor_shape[1]} columns."
            )
        if settings.pixel_format not in self.pixel_formats:
            raise SettingError(
                f"pixel_format = {settings.pixel_format.value}; this camera has "
                f"{', '.join(f.value for f in self.pixel_formats)}."
            )
        if not settings.trigger_delay_us >= 0:
            raise SettingError(
                f"trigger_delay_us = {settings.trigger_delay_us:g}; it cannot be negative."
            )
        accepted = self._configure(settings)
        if accepted != settings:
            raise SettingError(f"The camera would change the settings {settings} to {accepted}.")
        self._settings = accepted
        return accepted

    def arm(self, frames: int) -> None:
        """Forget frames of before, and make ready to take `frames` of them.

        Raises:
            DeviceStateError: Not open, not configured, or armed already.
            SettingError: `frames` is not positive.
        """
        self._require_open()
        _ = self.settings
        if self._armed:
            raise DeviceStateError("The camera is armed already; disarm it first.")
        if frames < 1:
            raise SettingError(f"Cannot arm for {frames} frames; at least 1.")
        self._arm(frames)
        self._armed = True

    def trigger(self) -> None:
        """Start one exposure by software.

        Raises:
            DeviceStateError: Not armed, or not in software trigger mode.
        """
        self._require_armed()
        if self.settings.trigger is not Trigger.SOFTWARE:
            raise DeviceStateError(
                f"The camera listens to its {self.settings.trigger.value} trigger; configure it "
                "with trigger = software to trigger it by call."
            )
        self._trigger()

    def read(self, max_frames: int, timeout_s: float) -> FrameBlock:
        """The next frames, at least one and at most `max_frames`, in order of exposure.

        Raises:
            DeviceStateError: Not armed.
            CaptureTimeoutError: No frame came within the time.
        """
        self._require_armed()
        return self._read(max_frames, timeout_s)

    def disarm(self) -> None:
        """Stop taking frames; unread ones are gone. Harmless when not armed."""
        if self._armed:
            self._armed = False
            self._disarm()

    def close(self) -> None:
        """Disarm, and let go of the camera."""
        if self.is_open:
            self.disarm()
        super().close()

    def _require_armed(self) -> None:
        self._require_open()
        if not self._armed:
            raise DeviceStateError("The camera is not armed; call arm(frames) first.")

    @abstractmethod
    def _configure(self, settings: CameraSettings) -> CameraSettings: ...

    @abstractmethod
    def _arm(self, frames: int) -> None: ...

    @abstractmethod
    def _trigger(self) -> None: ...

    @abstractmethod
    def _read(self, max_frames: int, timeout_s: float) -> FrameBlock: ...

    @abstractmethod
    def _disarm(self) -> None: ...
