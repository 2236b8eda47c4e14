"""The bench file: `bench.toml`, validated key by key, and the bench that it describes.

    name = "first light"

    [modulator]
    driver = "virtual-dmd"

    [camera]
    driver = "virtual"
    exposure_us = 100.0

    [laser]
    driver = "virtual"
    power_mw = 10.0

    [scene]                  # the optics between virtual devices; real benches have none
    preset = "realistic"
    seed = 1

Keys that are not settings of the bench go to the driver's constructor; its signature says which
there are, of what type, and what they are when left out.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StrictFloat,
    StrictInt,
    ValidationError,
    model_validator,
)
from pydantic_core import PydanticCustomError

from opu_driver.audit_log import default_path
from opu_driver.bench import Bench, StartSettings
from opu_driver.camera import Camera, PixelFormat, Region, Trigger
from opu_driver.device import Device
from opu_driver.driver_options import build_device, explained
from opu_driver.errors import BenchFileError
from opu_driver.guarded_laser import GuardedLaser
from opu_driver.laser import Laser
from opu_driver.modulator import Modulator
from opu_driver.registry import Kind

if TYPE_CHECKING:
    from opu_driver.emulators.bench import EmulatedBench
    from opu_driver.virtual.scene import Scene


REGION_EXAMPLE = "{ row = 0, column = 0, height = 128, width = 128 }"


class _Section(BaseModel):
    model_config = ConfigDict(extra="allow", frozen=True)
    driver: str


class _RegionSection(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    row: StrictInt = Field(ge=0)
    column: StrictInt = Field(ge=0)
    height: StrictInt = Field(gt=0)
    width: StrictInt = Field(gt=0)

    @model_validator(mode="before")
    @classmethod
    def _is_table(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            raise PydanticCustomError("region", f"write it as {REGION_EXAMPLE}")
        return given


class CameraSection(_Section):
    """`[camera]`: the driver, its options, and the settings to begin with.

    Without `region` the whole sensor is read; without `trigger_delay_us` the exposure starts when
    the modulator's mirrors have settled.
    """

    exposure_us: StrictFloat = Field(gt=0)
    pixel_format: PixelFormat | None = None
    gain_db: StrictFloat = 0.0
    trigger: Trigger = Trigger.HARDWARE
    trigger_delay_us: StrictFloat | None = Field(default=None, ge=0)
    region: _RegionSection | None = None


class LaserSection(_Section):
    """`[laser]`: the driver, its options, the power to begin with, and its limits.

    Without `ceiling_mw` no power above `power_mw` is ever emitted. `warm_up_s` is how long the
    laser may take to warm up.
    """

    power_mw: StrictFloat = Field(gt=0)
    ceiling_mw: StrictFloat | None = Field(default=None, gt=0)
    warm_up_s: StrictFloat = Field(default=600.0, gt=0)


class BenchFile(BaseModel):
    """What a bench file says."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    name: str = "bench"
    idle_after_s: StrictFloat = Field(default=10.0, gt=0)
    modulator: _Section
    camera: CameraSection
    laser: LaserSection
    scene: dict[str, Any] | None = None
    emulation: dict[str, Any] | None = None


def read_bench_file(path: Path) -> BenchFile:
    """Read and validate a bench file.

    Raises:
        BenchFileError: The file is missing, is no TOML, or a key is unknown, missing or wrong;
            the message names the key, the value and what is allowed.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BenchFileError(
            f"The bench file {path} cannot be read: {error.strerror}. Name another with --bench."
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BenchFileError(f"The bench file {path} is no valid TOML: {error}.") from error
    return parse_bench(content, origin=str(path))


def parse_bench(content: dict[str, Any], origin: str = "bench settings") -> BenchFile:
    """Validate the content of a bench file.

    Raises:
        BenchFileError: As `read_bench_file`.
    """
    try:
        return BenchFile.model_validate(content)
    except ValidationError as error:
        raise explained("", error, origin, list(BenchFile.model_fields)) from error


def build_bench(bench_file: BenchFile, origin: str = "bench settings") -> Bench:
    """The bench that a bench file describes; nothing is opened yet.

    Raises:
        BenchFileError: An unknown driver, or an option that a driver does not take.
        DriverMissingError: A driver's library is not installed.
    """
    scene = None if bench_file.scene is None else _scene("scene", bench_file.scene, origin)
    emulated = _emulated(bench_file, origin)
    if emulated is not None:
        bench_file = _with_options(bench_file, emulated)
    modulator = _device(Kind.MODULATOR, bench_file.modulator, scene, origin)
    camera = _device(Kind.CAMERA, bench_file.camera, scene, origin)
    laser = _device(Kind.LASER, bench_file.laser, scene, origin)
    if not (
        isinstance(modulator, Modulator) and isinstance(camera, Camera) and isinstance(laser, Laser)
    ):
        raise TypeError("registry.find returned a class of another kind")
    if not laser.simulated:
        options = bench_file.laser.model_extra or {}
        laser = GuardedLaser(bench_file.laser.driver, options, default_path())
    if emulated is not None:
        emulated.look_through(camera)
    section = bench_file.camera
    return Bench(
        modulator,
        camera,
        laser,
        StartSettings(
            power_mw=bench_file.laser.power_mw,
            ceiling_mw=bench_file.laser.ceiling_mw,
            warm_up_s=bench_file.laser.warm_up_s,
            exposure_us=section.exposure_us,
            pixel_format=section.pixel_format,
            gain_db=section.gain_db,
            trigger=section.trigger,
            trigger_delay_us=section.trigger_delay_us,
            region=Region(**section.region.model_dump()) if section.region else None,
        ),
        name=bench_file.name,
        idle_after_s=bench_file.idle_after_s,
        optics=emulated,
    )


def _scene(section: str, given: dict[str, Any], origin: str) -> Scene:
    """The optics that a section describes."""
    from opu_driver.virtual.scene import Scene
    from opu_driver.virtual.settings import SceneSettings, preset

    values = dict(given)
    seed = values.pop("seed", 0)
    try:
        chosen = preset(values.pop("preset", "realistic"))
        settings = SceneSettings.model_validate(chosen.model_dump() | values)
        return Scene(settings, seed=seed)
    except ValidationError as error:
        known = ["preset", "seed", *SceneSettings.model_fields]
        raise explained(section, error, origin, allowed=known) from error


def _emulated(bench_file: BenchFile, origin: str) -> EmulatedBench | None:
    """The emulated devices and the optics between them, if the bench has such."""
    if bench_file.emulation is None:
        return None
    from opu_driver.emulators.bench import EmulatedBench

    region = bench_file.camera.region
    values = dict(bench_file.emulation)
    laser_log = values.pop("laser_log", None)
    if not isinstance(laser_log, str) or region is None:
        raise BenchFileError(
            f"{origin}: an emulated bench needs emulation.laser_log, the logbook of the emulated "
            "laser, and camera.region, whose end is the end of the lit area. `opu emulate` writes "
            "such a file."
        )
    scene = _scene("emulation", values, origin)
    lit_area = (region.row + region.height, region.column + region.width)
    return EmulatedBench(scene, lit_area, Path(laser_log))


def _with_options(bench_file: BenchFile, emulated: EmulatedBench) -> BenchFile:
    """The same with the addresses of the emulated devices in place."""
    return BenchFile.model_validate(
        bench_file.model_dump()
        | {
            "modulator": emulated.modulator_options | bench_file.modulator.model_dump(),
            "camera": emulated.camera_options | bench_file.camera.model_dump(),
        }
    )


def _device(kind: Kind, section: _Section, scene: Scene | None, origin: str) -> Device:
    return build_device(kind, section.driver, section.model_extra or {}, origin, scene)
