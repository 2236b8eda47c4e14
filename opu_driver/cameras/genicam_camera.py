"""What all GenICam cameras have in common: settings by standard names, and frames accounted for.

Names and meanings: GenICam Standard Features Naming Convention (EMVA), chapters "Image Format
Control" (region, pixel format), "Acquisition Control" (acquisition, trigger, exposure), "Analog
Control" (gain, black level) and "User Set Control". `...Abs` and the like are Basler's older names.
"""

from __future__ import annotations

import math
import time
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from opu_driver.camera import (
    Camera,
    CameraSettings,
    FrameBlock,
    Frames,
    PixelFormat,
    Region,
    Trigger,
)
from opu_driver.cameras.features import Features, Value
from opu_driver.cameras.frame_count import FrameCount
from opu_driver.cameras.pixel_packing import WIRE_FORMATS, unpacked
from opu_driver.device import Identity
from opu_driver.errors import (
    CaptureTimeoutError,
    DeviceError,
    DeviceLostError,
    DeviceNotFoundError,
    DeviceStateError,
    SettingError,
)

_LOOK_S = 0.1
"""How often a waiting `read` looks whether the camera is still there."""

_BUFFER_BYTES = 1 << 27
"""Memory for frames that wait to be read."""

_BLOCK_BYTES = 1 << 26
"""Memory for the frames of one block."""


@dataclass(frozen=True)
class Filled:
    """A buffer that the camera has filled, or should have.

    Attributes:
        data: uint8 `[byte]`, the library's memory; None if the frame did not come whole.
        shape: Rows and columns that the camera says it sent.
        counter: The camera's own frame count; None if it keeps none.
        timestamp_us: Start of exposure on the camera's clock, microseconds; NaN if it keeps none.
    """

    data: NDArray[np.uint8] | None
    shape: tuple[int, int] = (0, 0)
    counter: int | None = None
    timestamp_us: float = math.nan


class GenicamCamera(Camera):
    """A camera whose features follow the GenICam Standard Features Naming Convention (SFNC).

    A driver opens the camera, sets `_features`, calls `_prepare`, and hands over filled buffers one
    by one. Exposures are met to 0.1 %, gains to 0.01 dB (0.1 % of the grey values), trigger delays
    are rounded up to whole microseconds where the camera counts in these; what the camera would
    change by more is refused with the value that it would take.

    Args:
        trigger_source: The input of the trigger edge, an entry of TriggerSource.
        trigger_edge: Which edge starts an exposure.
        black_level: What BlackLevel is set to, in the camera's units; None leaves it.
        pitch_um: Distance between neighbouring pixels, micrometres; None where the camera tells.
        features: Other features by their names, set when the camera opens.
    """

    def __init__(
        self,
        trigger_source: str,
        trigger_edge: Literal["rising", "falling"],
        black_level: float | None,
        pitch_um: float | None,
        features: Mapping[str, Value] | None,
    ) -> None:
        if pitch_um is not None and not pitch_um > 0:
            raise SettingError(f"pitch_um = {pitch_um:g}; it must be above 0.")
        self._trigger_source = trigger_source
        self._trigger_edge = trigger_edge
        self._given_black_level = black_level
        self._given_pitch_um = pitch_um
        self._given_features = dict(features or {})
        self._opened_features: Features | None = None
        self._sensor_shape = (0, 0)
        self._count = FrameCount()
        self._wanted = 0

    @property
    def sensor_shape(self) -> tuple[int, int]:
        """Rows and columns of the whole sensor."""
        self._require_open()
        return self._sensor_shape

    @property
    def pitch_um(self) -> float:
        """Distance between neighbouring pixels, micrometres; NaN if nobody told."""
        if self._given_pitch_um is not None:
            return self._given_pitch_um
        name = self._features.first("SensorPixelWidth")
        return self._features.number(name) if name else math.nan

    @property
    def pixel_formats(self) -> tuple[PixelFormat, ...]:
        """The grey formats that the camera has, fewest bits first."""
        offered = self._features.choices("PixelFormat")
        return tuple(
            pixel_format
            for pixel_format, names in WIRE_FORMATS.items()
            if any(name in offered for name in names)
        )

    @property
    def exposure_limits_us(self) -> tuple[float, float]:
        """Shortest and longest exposure; of a camera that cannot be told, that of a frame."""
        if self._exposure_feature:
            return self._features.limits(self._exposure_feature)
        slowest_hz, fastest_hz = self._features.limits("AcquisitionFrameRate")
        return 1e6 / fastest_hz, 1e6 / slowest_hz

    @property
    def gain_limits_db(self) -> tuple[float, float]:
        """Lowest and highest gain; 0 dB alone where the camera has no gain in decibels."""
        return self._features.limits("Gain") if self._features.has("Gain") else (0.0, 0.0)

    @property
    def saturation_level(self) -> float:
        """Full scale of the pixel format."""
        return float(2**self.settings.pixel_format.bits - 1)

    @property
    def black_level(self) -> float:
        """BlackLevel, which most cameras count in grey values of the present pixel format.

        That is how Basler defines it (ace USB 3.0 user's manual, section 8.2); some cameras count
        otherwise, and none adds what dark current does. Zero for a camera without it.
        """
        return self._features.number("BlackLevel") if self._features.has("BlackLevel") else 0.0

    @property
    def max_rate_hz(self) -> float:
        """What the camera says, and not faster than one exposure after the other."""
        name = self._features.first(
            "ResultingFrameRateAbs",
            "ResultingFrameRate",
            "AcquisitionResultingFrameRate",
        )
        rates_hz = [1e6 / self.settings.exposure_us]
        if name:
            rates_hz.append(self._features.number(name))
        elif self._features.has("AcquisitionFrameRate"):
            rates_hz.append(self._features.limits("AcquisitionFrameRate")[1])
        return min(rates_hz)

    def nearest_exposure_us(self, exposure_us: float) -> float:
        """The exposure time that the camera makes of another one; it is not left in force.

        Raises:
            SettingError: Out of range.
            DeviceStateError: Armed, not open, or not configured.
        """
        self._require_open()
        if self._armed:
            raise DeviceStateError("The camera is armed; disarm it before trying exposure times.")
        settings = self.settings
        try:
            return self._set_exposure(exposure_us)
        finally:
            self._set_exposure(settings.exposure_us)

    @property
    def _features(self) -> Features:
        if self._opened_features is None:
            self._require_open()
            raise DeviceStateError("The camera has let go of its features; close and open it.")
        return self._opened_features

    @property
    def _exposure_feature(self) -> str | None:
        # Cameras have one of them; Basler's emulation has both and obeys the first.
        return self._features.first("ExposureTimeAbs", "ExposureTime")

    def _prepare(self, features: Features) -> None:
        """Bring a camera that has just been opened into a known state."""
        self._opened_features = features
        if features.has("UserSetLoad"):
            features.set_if_there("UserSetSelector", "Default")
            features.execute("UserSetLoad")
        for name, entry in {
            "AcquisitionMode": "Continuous",
            "ExposureMode": "Timed",
            "ExposureAuto": "Off",
            "GainAuto": "Off",
            "TriggerOverlap": "ReadOut",
        }.items():
            features.set_if_there(name, entry)
        for selector in features.choices("TriggerSelector"):
            features.set("TriggerSelector", selector)
            features.set_if_there("TriggerMode", "Off")
        features.set_if_there("TriggerSelector", "FrameStart")
        self._unlimit_rate(features)
        for name, value in self._given_features.items():
            features.set(name, value)
        for name in ("OffsetX", "OffsetY"):
            if features.has(name):
                features.set(name, int(features.limits(name)[0]))
        self._sensor_shape = (
            _extent(features, "HeightMax", "SensorHeight", "Height"),
            _extent(features, "WidthMax", "SensorWidth", "Width"),
        )

    @staticmethod
    def _unlimit_rate(features: Features) -> None:
        """Let exposures follow the trigger, not the camera's own rate."""
        switch = features.first("AcquisitionFrameRateEnable", "AcquisitionFrameRateEnabled")
        if switch:
            features.set(switch, False)
        elif features.has("AcquisitionFrameRate"):
            features.set("AcquisitionFrameRate", features.limits("AcquisitionFrameRate")[1])

    def _configure(self, settings: CameraSettings) -> CameraSettings:
        try:
            self._apply(settings)
        except SettingError:
            if self._settings is not None:
                with suppress(SettingError):
                    self._apply(self._settings)
            raise
        return settings

    def _apply(self, settings: CameraSettings) -> None:
        self._features.set_if_there("TriggerMode", "Off")
        self._set_region(settings.region)
        self._features.set("PixelFormat", self._wire_format(settings.pixel_format))
        if self._given_black_level is not None:
            self._features.set("BlackLevel", self._given_black_level)
        made_us = self._set_exposure(settings.exposure_us)
        if abs(made_us - settings.exposure_us) > 1e-3 * settings.exposure_us:
            raise SettingError(
                f"exposure_us = {settings.exposure_us:g}; the camera would make it {made_us:g}. "
                f"Use {made_us!r}."
            )
        self._set_gain(settings.gain_db)
        self._set_trigger(settings.trigger)
        if settings.trigger is Trigger.HARDWARE:
            self._set_trigger_delay(settings.trigger_delay_us)

    def _set_region(self, region: Region) -> None:
        features = self._features
        has_offsets = features.has("OffsetX") and features.has("OffsetY")
        if has_offsets:
            for name in ("OffsetX", "OffsetY"):
                features.set(name, int(features.limits(name)[0]))
        self._set_pixels("Height", "height", region.height)
        self._set_pixels("Width", "width", region.width)
        if has_offsets:
            self._set_pixels("OffsetY", "row", region.row)
            self._set_pixels("OffsetX", "column", region.column)
        elif region.row or region.column:
            raise SettingError(
                f"region.row = {region.row}, region.column = {region.column}; the regions of this "
                "camera begin at 0, 0."
            )

    def _set_pixels(self, name: str, key: str, value: int) -> None:
        low, high = (int(limit) for limit in self._features.limits(name))
        step = self._features.step(name)
        nearest = min(max(low + round((value - low) / step) * step, low), high)
        if value != nearest:
            raise SettingError(
                f"region.{key} = {value}; this camera takes {low} to {high} in steps of {step}. "
                f"The nearest is {nearest}."
            )
        self._features.set(name, value)

    def _wire_format(self, pixel_format: PixelFormat) -> str:
        offered = self._features.choices("PixelFormat")
        return next(name for name in WIRE_FORMATS[pixel_format] if name in offered)

    def _set_exposure(self, exposure_us: float) -> float:
        """Set the exposure time, and return what the camera made of it."""
        if self._exposure_feature:
            self._features.set(self._exposure_feature, exposure_us)
            return self._features.number(self._exposure_feature)
        self._features.set("AcquisitionFrameRate", 1e6 / exposure_us)
        return 1e6 / self._features.number("AcquisitionFrameRate")

    def _set_gain(self, gain_db: float) -> None:
        if not self._features.has("Gain"):
            return
        self._features.set("Gain", gain_db)
        made_db = self._features.number("Gain")
        if abs(made_db - gain_db) > 0.01:
            raise SettingError(
                f"gain_db = {gain_db:g}; the camera would make it {made_db:g}. Use {made_db!r}."
            )

    def _set_trigger(self, trigger: Trigger) -> None:
        if trigger is Trigger.FREE:
            return
        sources = self._features.choices("TriggerSource")
        source = "Software" if trigger is Trigger.SOFTWARE else self._trigger_source
        if source not in sources or not self._features.has("TriggerMode"):
            raise SettingError(
                f"trigger = {trigger.value}; this camera has no trigger source {source!r}, it has: "
                f"{', '.join(sources) or 'none'}. Choose one with trigger_source in the bench file."
            )
        self._features.set("TriggerSource", source)
        if trigger is Trigger.HARDWARE:
            edge = "RisingEdge" if self._trigger_edge == "rising" else "FallingEdge"
            edges = self._features.choices("TriggerActivation")
            if edge not in edges and (edges or self._trigger_edge == "falling"):
                raise SettingError(
                    f"trigger_edge = {self._trigger_edge}; this camera has no {edge}, it has: "
                    f"{', '.join(edges) or 'none to choose'}."
                )
            self._features.set_if_there("TriggerActivation", edge)
        self._features.set("TriggerMode", "On")

    def _set_trigger_delay(self, delay_us: float) -> None:
        name = self._features.first("TriggerDelayAbs", "TriggerDelay")
        if name is None:
            if delay_us > 0:
                raise SettingError(
                    f"trigger_delay_us = {delay_us:g}; this camera cannot delay its exposures. "
                    "Use 0, and delay the modulator's edge instead."
                )
            return
        self._features.set(name, delay_us)
        if self._features.number(name) < delay_us:
            self._features.set(name, float(math.ceil(delay_us)))
        made_us = self._features.number(name)
        if not 0 <= made_us - delay_us < 1.0:
            raise SettingError(
                f"trigger_delay_us = {delay_us:g}; the camera would make it {made_us:g}. "
                f"Use {made_us!r}."
            )

    def _arm(self, frames: int) -> None:
        buffer_bytes = self._features.number("PayloadSize")
        buffers = min(frames, max(int(_BUFFER_BYTES / buffer_bytes), 16))
        self._wanted = frames
        self._count = self._start(buffers)

    def _trigger(self) -> None:
        self._features.execute("TriggerSoftware")

    def _disarm(self) -> None:
        self._stop()

    def _read(self, max_frames: int, timeout_s: float) -> FrameBlock:
        deadline_s = time.monotonic() + timeout_s
        frames = self._room(max_frames)
        ids: list[int] = []
        timestamps_us: list[float] = []
        while len(ids) < len(frames) and self._count.accounted < self._wanted:
            left_s = max(deadline_s - time.monotonic(), 0.0)
            with self._next(0.0 if ids else min(left_s, _LOOK_S)) as filled:
                if filled is None:
                    if ids:
                        break
                    self._require_connected()
                    if left_s == 0:
                        break
                elif filled.data is None:
                    self._count.spoilt(filled.counter)
                else:
                    frames[len(ids)] = self._frame(filled, filled.data)
                    ids.append(self._count.whole(filled.counter))
                    timestamps_us.append(filled.timestamp_us)
        if not ids:
            raise CaptureTimeoutError(self._nothing_came(timeout_s))
        return FrameBlock(
            frames[: len(ids)],
            np.array(ids, np.int64),
            np.array(timestamps_us, np.float64),
            self._count.lost,
        )

    def _room(self, max_frames: int) -> Frames:
        """Memory for a block of frames; what is not written to is not used."""
        settings = self.settings
        shape, kind = settings.region.shape, settings.pixel_format.dtype
        fitting = _BLOCK_BYTES // (shape[0] * shape[1] * kind.itemsize)
        return np.empty((min(max_frames, self._wanted, max(fitting, 1)), *shape), kind)

    def _frame(self, filled: Filled, data: NDArray[np.uint8]) -> Frames:
        settings = self.settings
        if filled.shape != settings.region.shape:
            raise DeviceError(
                f"The camera sent a frame of {filled.shape[0]} x {filled.shape[1]} pixels where "
                f"{settings.region.height} x {settings.region.width} were set. Close and open it."
            )
        try:
            return unpacked(data, self._wire_format(settings.pixel_format), filled.shape)
        except ValueError as error:
            raise DeviceError(f"The camera sent {error}. Close and open it.") from error

    def _nothing_came(self, timeout_s: float) -> str:
        lost = self._count.lost
        came = self._count.accounted - lost
        if came + lost >= self._wanted:
            return (
                f"All {self._wanted} frames that the camera was armed for are over, {lost} of "
                "them lost on the way; arm it anew for more."
            )
        advice = {
            Trigger.HARDWARE: "Check that the modulator runs and that its trigger edges reach "
            f"{self._trigger_source} of the camera.",
            Trigger.SOFTWARE: "Call trigger() once for each frame.",
            Trigger.FREE: "Check the camera's connection.",
        }[self.settings.trigger]
        return (
            f"No frame within {timeout_s:g} s: {came} of {self._wanted} came, {lost} are "
            f"lost. {advice}"
        )

    def _let_go(self) -> None:
        self._opened_features = None
        self._settings = None

    def _lost(self) -> DeviceLostError:
        return DeviceLostError(
            f"The camera {self.address} does not answer any more. Check its cable and power, then "
            "close and open it."
        )

    @abstractmethod
    def _start(self, buffers: int) -> FrameCount:
        """Forget frames of before and take `_wanted` new ones; say how the camera counts them."""

    @abstractmethod
    def _next(self, wait_s: float) -> AbstractContextManager[Filled | None]:
        """The next buffer, None if there is none within the time; it goes back at the end."""

    @abstractmethod
    def _require_connected(self) -> None:
        """Raise DeviceLostError if the camera is gone; called while nothing comes."""

    @abstractmethod
    def _stop(self) -> None:
        """Take no more frames; must be safe when the camera is gone."""


def pick(serial: str | None, connected: Sequence[Identity]) -> int:
    """Which of the connected cameras is meant.

    Args:
        serial: Its serial number; None for the only one.
        connected: Who they say they are.

    Returns:
        Its index.

    Raises:
        DeviceNotFoundError: There is none, or not exactly one; the message says what there is.
    """
    named = ", ".join(map(str, connected)) or "none"
    meant = [at for at, who in enumerate(connected) if serial in (None, who.serial)]
    if len(meant) == 1:
        return meant[0]
    if serial is None and connected:
        raise DeviceNotFoundError(
            f"serial was left out, which is for a single camera; connected: {named}. Name one by "
            "its serial in the bench file."
        )
    wanted = "" if serial is None else f" with serial = {serial!r}"
    raise DeviceNotFoundError(
        f"There is no camera{wanted}; connected: {named}. Check its cable and power, whether "
        "another program uses it, and serial in the bench file."
    )


def _extent(features: Features, *names: str) -> int:
    name = features.first(*names[:-1])
    return int(features.number(name)) if name else int(features.limits(names[-1])[1])
