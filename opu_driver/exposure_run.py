"""What a recording says of its frames: the bench they come from, and run after run of exposures."""

from __future__ import annotations

import math
import platform
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import IntEnum
from importlib.metadata import version
from typing import Self

from pydantic import TypeAdapter

from opu_driver.bench import Bench
from opu_driver.camera import CameraSettings, PixelFormat
from opu_driver.device import Identity

_MOST_TOLD = 8  # values, before only their range is told


class Role(IntEnum):
    """What an exposure was for."""

    OWN = 0
    """A pattern's own frame, in a sequence that the bench went on from: it was proven."""
    MARKER = 1
    """One of the markers around a sequence: on; on, off."""
    DARK = 2
    """An exposure without markers, as for dark frames."""
    REFUSED = 3
    """An exposure of a sequence after which something failed: no one may trust it."""


@dataclass(frozen=True)
class Devices:
    """What a bench's devices were able to do; a replay answers with it.

    Attributes:
        mirrors: Rows and columns of the modulator.
        levels: The modulator's levels.
        mirror_pitch_um: Distance between its mirrors or pixels, micrometres.
        pattern_rate_hz: Its highest rate.
        settling_us: Its settling time, microseconds.
        capacity: Patterns that it holds.
        sensor_shape: Rows and columns of the camera's sensor.
        pixel_pitch_um: Distance between its pixels, micrometres; None if it does not tell.
        pixel_formats: Its pixel formats.
        exposure_limits_us: Its shortest and longest exposure, microseconds.
        gain_limits_db: Its lowest and highest gain, decibels.
        wavelength_nm: The laser's vacuum wavelength, nanometres.
        power_limits_mw: Its lowest and highest power, milliwatts.
    """

    mirrors: tuple[int, int]
    levels: int
    mirror_pitch_um: float
    pattern_rate_hz: float
    settling_us: float
    capacity: int
    sensor_shape: tuple[int, int]
    pixel_pitch_um: float | None
    pixel_formats: tuple[PixelFormat, ...]
    exposure_limits_us: tuple[float, float]
    gain_limits_db: tuple[float, float]
    wavelength_nm: float
    power_limits_mw: tuple[float, float]

    @classmethod
    def of(cls, bench: Bench) -> Self:
        """Those of an open bench."""
        modulator, camera, laser = bench.modulator, bench.camera, bench.laser
        return cls(
            mirrors=modulator.shape,
            levels=modulator.levels,
            mirror_pitch_um=modulator.pitch_um,
            pattern_rate_hz=modulator.max_rate_hz,
            settling_us=modulator.settling_us,
            capacity=modulator.capacity,
            sensor_shape=camera.sensor_shape,
            pixel_pitch_um=None if math.isnan(camera.pitch_um) else camera.pitch_um,
            pixel_formats=camera.pixel_formats,
            exposure_limits_us=camera.exposure_limits_us,
            gain_limits_db=camera.gain_limits_db,
            wavelength_nm=laser.wavelength_nm,
            power_limits_mw=laser.power_limits_mw,
        )


@dataclass(frozen=True)
class Conditions:
    """What a bench was when a recording began.

    Attributes:
        bench: Name of the bench.
        identities: Who the devices are: keys `modulator`, `camera`, `laser`.
        settings: The camera's settings.
        power_mw: Laser power, milliwatts.
        rate_hz: Patterns a second.
        black_level: Mean grey value without light.
        saturation_level: Grey value of a full pixel.
        subject: What the patterns were, in words.
        began_at: When it began, UTC, ISO 8601.
        software: Version of this software.
        environment: The machine and what ran on it, by name; recordings of before have none.
        devices: What the devices were able to do; None in recordings of before.
        frame_offset: Frames by which the camera lagged behind the modulator; frames are recorded
            beside their own patterns all the same.
    """

    bench: str
    identities: dict[str, Identity]
    settings: CameraSettings
    power_mw: float
    rate_hz: float
    black_level: float
    saturation_level: float
    subject: str
    began_at: str
    software: str
    environment: dict[str, str] = field(default_factory=dict)
    devices: Devices | None = None
    frame_offset: int = 0

    @classmethod
    def of(cls, bench: Bench, subject: str) -> Self:
        """The conditions that are in force on an open bench."""
        return cls(
            bench=bench.name,
            identities=bench.identities,
            settings=bench.settings,
            power_mw=bench.power_mw,
            rate_hz=bench.rate_hz,
            black_level=bench.camera.black_level,
            saturation_level=bench.camera.saturation_level,
            subject=subject,
            began_at=_now(),
            software=version("opu"),
            environment=_environment(),
            devices=Devices.of(bench),
            frame_offset=bench.frame_offset or 0,
        )


@dataclass(frozen=True)
class Run:
    """Exposures that followed each other without a pause, between arming the camera and disarming.

    Attributes:
        first: Number of its first exposure in the recording.
        count: Exposures that there are frames of.
        shown: Patterns that were shown; more than `count` if frames are missing.
        lost: Frames that the camera said it lost.
        settings: The camera's settings.
        power_mw: Laser power, milliwatts.
        rate_hz: Patterns a second.
        frame_rate_hz: The camera's highest rate.
        black_level: Mean grey value without light.
        saturation_level: Grey value of a full pixel.
        ended_at: When it ended, UTC, ISO 8601.
        refused: Frames of its patterns, markers left out, that nobody may trust because something
            failed after it, also those that never came; recordings of before do not tell.
    """

    first: int
    count: int
    shown: int
    lost: int
    settings: CameraSettings
    power_mw: float
    rate_hz: float
    frame_rate_hz: float
    black_level: float
    saturation_level: float
    ended_at: str
    refused: int = 0

    @classmethod
    def of(cls, bench: Bench, first: int, count: int, shown: int, lost: int) -> Self:
        """A run that has just ended on a bench."""
        return cls(
            first=first,
            count=count,
            shown=shown,
            lost=lost,
            settings=bench.settings,
            power_mw=bench.power_mw,
            rate_hz=bench.rate_hz,
            frame_rate_hz=bench.camera.max_rate_hz,
            black_level=bench.camera.black_level,
            saturation_level=bench.camera.saturation_level,
            ended_at=_now(),
        )


def settings_told(conditions: Conditions, runs: Sequence[Run]) -> dict[str, str]:
    """Exposure and power of the runs, in words, by name; where they differ, each of them.

    Args:
        conditions: What is told where there are no runs.
        runs: Runs of a recording.
    """
    used: Sequence[Run | Conditions] = runs or [conditions]
    return {
        "exposure": f"{_each(one.settings.exposure_us for one in used)} µs at "
        f"{_each(one.rate_hz for one in used)} Hz, gain "
        f"{_each(one.settings.gain_db for one in used)} dB, "
        f"{', '.join(dict.fromkeys(one.settings.trigger.value for one in used))} trigger",
        "laser power": f"{_each(one.power_mw for one in used)} mW",
    }


def _each(values: Iterable[float]) -> str:
    """Each value once, in the order in which they came."""
    several = list(dict.fromkeys(f"{value:.4g}" for value in values))
    if len(several) > _MOST_TOLD:
        low, high = min(several, key=float), max(several, key=float)
        return f"{low} to {high} ({len(several)} values)"
    return ", ".join(several)


CONDITIONS = TypeAdapter(Conditions)
"""Conditions from and to JSON."""

RUN = TypeAdapter(Run)
"""A run from and to JSON."""


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _environment() -> dict[str, str]:
    return {
        "machine": f"{platform.node()}, {platform.platform()}, {platform.machine()}",
        "python": platform.python_version(),
        **{name: version(name) for name in ("numpy", "h5py", "scipy")},
    }
