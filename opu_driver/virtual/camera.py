"""The virtual camera."""

from __future__ import annotations

from collections import deque

import numpy as np
from numpy.typing import NDArray

from opu_driver.camera import Camera, CameraSettings, FrameBlock, PixelFormat, Trigger
from opu_driver.device import Identity
from opu_driver.errors import CaptureTimeoutError, DeviceLostError, SettingError
from opu_driver.virtual.optics import Shown
from opu_driver.virtual.scene import Converter, Exposures, Scene

_DIGITAL = (PixelFormat.MONO8, PixelFormat.MONO10, PixelFormat.MONO12, PixelFormat.MONO16)


MAX_PIXELS = 1 << 24
"""Largest sensor."""


class VirtualCamera(Camera):
    """A camera with a global shutter that looks at a scene.

    It takes an edge as soon as it is ready for the next exposure, and does not notice earlier ones,
    as real cameras do. Exposures are made when they are triggered and developed when they are read.

    Args:
        scene: What it looks at.
        sensor_shape: Rows and columns of pixels.
        pitch_um: Distance between neighbouring pixels, micrometres.
        row_time_us: Time to read a row, microseconds; it limits the frame rate.

    Raises:
        SettingError: A sensor of fewer than 16 pixels a side or more than `MAX_PIXELS`, or a number
            that is not positive.
    """

    simulated = True

    def __init__(
        self,
        scene: Scene,
        sensor_shape: tuple[int, int] = (128, 128),
        pitch_um: float = 5.5,
        row_time_us: float = 2.7,
    ) -> None:
        if not (min(sensor_shape) >= 16 and sensor_shape[0] * sensor_shape[1] <= MAX_PIXELS):
            raise SettingError(
                f"A sensor_shape of {sensor_shape[0]} x {sensor_shape[1]}; at least 16 x 16, and "
                f"at most {MAX_PIXELS} pixels."
            )
        if not (pitch_um > 0 and row_time_us > 0):
            raise SettingError(
                f"pitch_um = {pitch_um:g}, row_time_us = {row_time_us:g}: both must be above 0."
            )
        self._scene = scene
        self._sensor_shape = (int(sensor_shape[0]), int(sensor_shape[1]))
        self._pitch_um = pitch_um
        self._row_time_us = row_time_us
        self._plugged_back = False
        self._wanted = 0
        self._taken = 0
        self._delivered = 0
        self._ready_us = 0.0
        self._unread: deque[Exposures] = deque()
        scene.install(self, "camera")

    @property
    def identity(self) -> Identity:
        """The serial number is the scene's seed."""
        return Identity("opu", "virtual camera", f"{self._scene.seed}")

    @property
    def sensor_shape(self) -> tuple[int, int]:
        """Rows and columns of pixels."""
        return self._sensor_shape

    @property
    def pitch_um(self) -> float:
        """Distance between neighbouring pixels, micrometres."""
        return self._pitch_um

    @property
    def pixel_formats(self) -> tuple[PixelFormat, ...]:
        """8 to 16 bits; before them grey values that are not rounded, if the scene has them."""
        analogue = (PixelFormat.FLOAT32,) if self._scene.settings.analogue_frames else ()
        return analogue + _DIGITAL

    @property
    def exposure_limits_us(self) -> tuple[float, float]:
        """1 microsecond to 1 second."""
        return 1.0, 1e6

    @property
    def gain_limits_db(self) -> tuple[float, float]:
        """0 to 24 decibels."""
        return 0.0, 24.0

    @property
    def saturation_level(self) -> float:
        """Full scale of the converter, which is full before the pixel's well is."""
        return self._converter.top

    @property
    def black_level(self) -> float:
        """Mean grey value without light, dark current included."""
        dark = 1e-6 * self.settings.exposure_us * self._scene.settings.dark_electrons_per_s
        return self._converter.black + self._converter.gain * dark

    @property
    def max_rate_hz(self) -> float:
        """Exposures and read-out overlap; the longer of the two limits the rate."""
        return 1e6 / self._period_us

    def see_edges(self, edges_us: NDArray[np.float64], again: NDArray[np.bool_]) -> None:
        """Trigger edges of the modulator, as the scene passes them on.

        Args:
            edges_us: `[edge]`, when.
            again: `[edge]`, whether it is the second of a doubled one.
        """
        if not self._armed or self.settings.trigger is not Trigger.HARDWARE:
            return
        starts_us = edges_us[self._taken_edges(edges_us, again)] + self.settings.trigger_delay_us
        shown = self._scene.shown(starts_us, self.settings.exposure_us)
        for stale in self._scene.settings.faults.stale_frames:
            at = stale - self._scene.exposures
            if 0 <= at < len(shown):
                shown = shown.late_from(at)
        self._expose(shown, starts_us)

    @property
    def _converter(self) -> Converter:
        s = self._scene.settings
        pixel_format = self.settings.pixel_format
        top = float(2**pixel_format.bits - 1) if pixel_format.bits else s.full_well_electrons
        black = s.black_level * top
        if pixel_format.bits:
            black = float(round(black))
        amplified = 10 ** (self.settings.gain_db / 20)
        return Converter(
            amplified * (top - black) / s.full_well_electrons, black, top, pixel_format.dtype
        )

    @property
    def _period_us(self) -> float:
        settings = self.settings
        return max(settings.exposure_us, settings.region.height * self._row_time_us) + 5.0

    def _open(self) -> None:
        self._plugged_back = self._scene.camera_lost
        self._scene.optics()

    def _close(self) -> None:
        self._unread.clear()

    def _configure(self, settings: CameraSettings) -> CameraSettings:
        self._require_plugged()
        return settings

    def _arm(self, frames: int) -> None:
        self._require_plugged()
        self._unread.clear()
        self._wanted = frames
        self._taken = 0
        self._delivered = 0
        self._ready_us = self._scene.clock_us

    def _trigger(self) -> None:
        self._require_plugged()
        self._ready_us = max(self._ready_us, self._scene.clock_us)
        self._expose_held(min(1, self._wanted - self._taken))

    def _read(self, max_frames: int, timeout_s: float) -> FrameBlock:
        self._require_plugged()
        if self.settings.trigger is Trigger.FREE and not self._unread:
            self._expose_held(min(max_frames, self._wanted - self._taken))
        if not self._unread or self._punctual(self._unread[0]) == 0:
            raise CaptureTimeoutError(
                f"No frame within {timeout_s:g} s: {self._delivered} of {self._wanted} came. Check "
                "that the modulator runs and that its trigger edges reach the camera."
            )
        exposures = self._unread.popleft()
        count = min(max_frames, self._punctual(exposures))
        if len(exposures) > count:
            self._unread.appendleft(exposures[count:])
            exposures = exposures[:count]
        frames = self._scene.develop(exposures, self.settings.region, self._converter)
        ids = self._delivered + np.arange(len(exposures), dtype=np.int64)
        self._delivered += len(exposures)
        return FrameBlock(frames, ids, exposures.start_us, 0)

    def _punctual(self, exposures: Exposures) -> int:
        """How many of them are there when they are read."""
        late = np.isin(exposures.numbers, self._scene.settings.faults.late_frames)
        return int(np.argmax(late)) if late.any() else len(exposures)

    def _disarm(self) -> None:
        self._unread.clear()

    def _taken_edges(self, edges_us: NDArray[np.float64], again: NDArray[np.bool_]) -> list[int]:
        """Edges that find the camera ready; the second of a doubled one always exposes."""
        room = self._wanted - self._taken
        period_us = self._period_us * (1 - 1e-6)
        taken: list[int] = []
        for i, edge_us in enumerate(edges_us.tolist()):
            if len(taken) == room:
                break
            if again[i] or edge_us >= self._ready_us:
                taken.append(i)
                self._ready_us = edge_us + period_us
        return taken

    def _expose_held(self, count: int) -> None:
        """Exposures one after the other of what the modulator shows by itself."""
        if count < 1:
            return
        starts_us = np.array([self._ready_us + k * self._period_us for k in range(count)])
        self._ready_us = float(starts_us[-1]) + self._period_us
        self._expose(self._scene.shown(starts_us, self.settings.exposure_us), starts_us)
        self._scene.clock_us = max(self._scene.clock_us, self._ready_us)

    def _expose(self, shown: Shown, starts_us: NDArray[np.float64]) -> None:
        if len(shown):
            self._taken += len(shown)
            self._unread.append(self._scene.expose(shown, starts_us, self.settings.exposure_us))

    def _require_plugged(self) -> None:
        if self._scene.camera_lost and not self._plugged_back:
            raise DeviceLostError(
                "The camera does not answer any more. Check its cable and power, then close and "
                "open the bench."
            )
