"""What a calibration is measured with, and whether a bench still is that."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from importlib.metadata import version
from typing import Any, Self

from pydantic import TypeAdapter, ValidationError

from calibration.carrier import Carrier
from calibration.demodulation import Demodulation
from calibration.demodulation_path import MOST_REACH, REFERENCE, DemodulationPath
from opu_driver.bench import Bench
from opu_driver.camera import CameraSettings
from opu_driver.damage import first_damage
from opu_driver.device import Identity
from opu_driver.errors import PatternError, SettingError
from opu_driver.layout import Layout

_LARGEST_GAIN_DB = 200.0  # a factor of 10^10: no amplifier
_DEVICES = {"modulator", "camera", "laser"}


@dataclass(frozen=True, kw_only=True)
class Setup:
    """A bench at the time of a measurement, and how its frames become fields.

    Attributes:
        identities: Who the devices are: keys `modulator`, `camera`, `laser`.
        settings: The camera's settings.
        power_mw: Laser power, milliwatts.
        relative_exposure: `Bench.relative_exposure`, us mW; fields are proportional to it.
        layout: Where the inputs lie on the modulator.
        carrier: Where the sideband lies in the spectrum of a frame.
        decimation: Pixels between two points of the field's grid.
        path: Which way frames become fields; that of T, so that of all projections.
        seed: Seed of the patterns that are drawn at random.
        software: Version of this software.
    """

    identities: dict[str, Identity]
    settings: CameraSettings
    power_mw: float
    relative_exposure: float
    layout: Layout
    carrier: Carrier
    decimation: int
    path: DemodulationPath = REFERENCE
    seed: int
    software: str

    @classmethod
    def of(cls, bench: Bench, layout: Layout, demodulator: Demodulation, seed: int) -> Self:
        """The setup that is in force on a bench."""
        return cls(
            identities=bench.identities,
            settings=bench.settings,
            power_mw=bench.power_mw,
            relative_exposure=bench.relative_exposure,
            layout=layout,
            carrier=demodulator.carrier,
            decimation=demodulator.decimation,
            path=demodulator.path,
            seed=seed,
            software=version("opu"),
        )

    @property
    def n_inputs(self) -> int:
        """Length of the vectors."""
        return self.layout.n_inputs

    @property
    def n_modes(self) -> int:
        """Complex modes, points of the field's grid."""
        rows, columns = self.settings.region.shape
        return (rows // self.decimation) * (columns // self.decimation)

    def demodulator(self) -> Demodulation:
        """What turns the frames of this setup into its fields, the way it was measured."""
        shape = self.settings.region.shape
        return self.path.demodulator(shape, self.carrier, decimation=self.decimation)

    def mismatches(self, bench: Bench) -> list[str]:
        """What of this setup does not hold on a bench, each told with both values.

        Exposure time, laser power and trigger may differ: they only scale the fields.
        """
        found = device_mismatches(self.identities, self.settings, bench)
        return found + layout_mismatches(self.layout, lambda: bench.layout(self.n_inputs))


def device_mismatches(
    identities: Mapping[str, Identity], settings: CameraSettings, bench: Bench
) -> list[str]:
    """Which devices of a bench, and which settings of its camera, are others than they were."""
    found = [
        f"the {kind} is {bench.identities[kind]}, it was {identity}"
        for kind, identity in identities.items()
        if not identity.same_device(bench.identities[kind])
    ]
    for name in ("region", "pixel_format", "gain_db"):
        now, then = getattr(bench.settings, name), getattr(settings, name)
        if now != then:
            found.append(f"{name} is {now}, it was {then}")
    return found


def layout_mismatches(then: Layout, now: Callable[[], Layout]) -> list[str]:
    """What of a layout is another than it was."""
    try:
        layout = now()
    except PatternError as error:
        return [f"the layout is impossible: {error}"]
    return [
        f"the layout's {name} is {getattr(layout, name)}, it was {getattr(then, name)}"
        for name in ("shape", "levels", "grid", "macropixel")
        if getattr(layout, name) != getattr(then, name)
    ]


def to_json(setup: Setup, **more: Any) -> str:
    """A setup, and whatever else belongs to it, as text; of a subclass only the setup."""
    content = {f.name: getattr(setup, f.name) for f in fields(Setup)}
    content["identities"] = {kind: asdict(who) for kind, who in setup.identities.items()}
    for name in ("settings", "layout", "carrier", "path"):
        content[name] = asdict(content[name])
    return json.dumps({"setup": content, **more})


def from_json(text: str) -> tuple[Setup, dict[str, Any]]:
    """What `to_json` has written.

    Raises:
        ValueError: It has not.
    """
    content = json.loads(text)
    if not isinstance(content, dict):
        raise ValueError("no setup")
    try:
        setup = TypeAdapter(Setup).validate_python(content.pop("setup", None))
    except ValidationError as error:
        raise ValueError(f"setup, {first_damage(error)}") from error
    except SettingError as error:
        raise ValueError(f"setup, {error}") from error
    _refuse_impossible(setup)
    return setup, content


def _refuse_impossible(setup: Setup) -> None:
    """Raise for numbers that no measurement has, whatever their type.

    Raises:
        ValueError: Names the number.
    """
    refuse_impossible_bench(
        setup.identities, setup.settings, setup.power_mw, setup.relative_exposure
    )
    if setup.decimation < 1 or setup.n_inputs < 1:
        raise ValueError(f"setup, decimation = {setup.decimation}, n_inputs = {setup.n_inputs}")
    reach, at = setup.path.reach, setup.carrier
    if reach % setup.decimation or reach * at.radius > MOST_REACH:
        raise ValueError(
            f"setup, a filter that reaches {reach} pixels, with decimation = {setup.decimation}"
        )
    if not (0 < at.radius <= 0.5 and abs(at.row) <= 0.5 and abs(at.column) <= 0.5):
        raise ValueError(
            f"setup, a carrier at ({at.row:g}, {at.column:g}) of radius {at.radius:g} cycles/pixel"
        )
    for name in ("row_sigma", "column_sigma", "radius_sigma"):
        value = getattr(at, name)
        if not 0 <= value < math.inf:
            raise ValueError(f"setup, carrier, {name} = {value:g}, which is no deviation")
    if (at.column, at.row) <= (0.0, 0.0):
        raise ValueError(
            f"setup, a carrier at ({at.row:+g}, {at.column:+g}) cycles/pixel: in the wrong "
            "half-plane, where every field is the complex conjugate of ours"
        )


def refuse_impossible_bench(
    identities: Mapping[str, Identity],
    settings: CameraSettings,
    power_mw: float,
    relative_exposure: float,
) -> None:
    """Raise for devices, settings and light that no bench has.

    Raises:
        ValueError: Names what.
    """
    if set(identities) != _DEVICES:
        raise ValueError(f"setup, identities of {', '.join(identities) or 'no devices'}")
    for name, value in (("power_mw", power_mw), ("relative_exposure", relative_exposure)):
        if not 0 < value < math.inf:
            raise ValueError(f"setup, {name} = {value:g}, which is not positive")
    if not 0 < settings.exposure_us < math.inf or not 0 <= settings.trigger_delay_us < math.inf:
        raise ValueError(
            f"setup, settings, exposure_us = {settings.exposure_us:g}, trigger_delay_us = "
            f"{settings.trigger_delay_us:g}"
        )
    if not abs(settings.gain_db) <= _LARGEST_GAIN_DB:
        raise ValueError(f"setup, settings, gain_db = {settings.gain_db:g}")
    region = settings.region
    if min(region.row, region.column) < 0 or min(region.shape) < 1:
        raise ValueError(f"setup, settings, {region}")
