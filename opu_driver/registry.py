"""Driver names -> classes: our own drivers, and other people's through entry points.

A package brings a driver of its own by declaring an entry point in the group `opu.modulators`,
`opu.cameras` or `opu.lasers`; its name is what a bench file calls the driver:

    [project.entry-points."opu.cameras"]
    my-camera = "my_package.camera:MyCamera"
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from opu_driver.camera import Camera
from opu_driver.device import Device
from opu_driver.errors import BenchFileError, DriverMissingError
from opu_driver.laser import Laser
from opu_driver.modulator import Modulator


class Kind(StrEnum):
    """The three kinds of device on a bench."""

    MODULATOR = "modulator"
    CAMERA = "camera"
    LASER = "laser"

    @property
    def contract(self) -> type[Device]:
        """The class that a driver of this kind implements."""
        return {"modulator": Modulator, "camera": Camera, "laser": Laser}[self.value]


@dataclass(frozen=True)
class OwnDriver:
    """A driver of ours.

    Attributes:
        path: Where its class is, `module:class`.
        extra: The extra of this package that brings the libraries it needs; empty for none.
    """

    path: str
    extra: str = ""

    def load(self) -> Any:
        """The driver class."""
        module, name = self.path.split(":")
        return getattr(import_module(module), name)


OWN = {
    Kind.MODULATOR: {
        "virtual-dmd": OwnDriver("opu_driver.virtual.modulators:VirtualDMD"),
        "virtual-slm": OwnDriver("opu_driver.virtual.modulators:VirtualSLM"),
        "alp": OwnDriver("opu_driver.modulators.alp:AlpDMD"),
        "dlpc900": OwnDriver("opu_driver.modulators.dlpc900:Dlpc900DMD", "hid"),
        "display": OwnDriver("opu_driver.modulators.display:Display", "gui"),
        "recording": OwnDriver("opu_driver.replay:ReplayedModulator"),
    },
    Kind.CAMERA: {
        "virtual": OwnDriver("opu_driver.virtual.camera:VirtualCamera"),
        "pylon": OwnDriver("opu_driver.cameras.pylon:PylonCamera", "pylon"),
        "genicam": OwnDriver("opu_driver.cameras.genicam:GentlCamera", "genicam"),
        "aravis": OwnDriver("opu_driver.cameras.aravis:AravisCamera", "aravis"),
        "opencv": OwnDriver("opu_driver.cameras.opencv:OpenCVCamera", "opencv"),
        "micromanager": OwnDriver(
            "opu_driver.cameras.micromanager:MicroManagerCamera", "micromanager"
        ),
        "recording": OwnDriver("opu_driver.replay:ReplayedCamera"),
    },
    Kind.LASER: {
        "virtual": OwnDriver("opu_driver.virtual.laser:VirtualLaser"),
        "cobolt": OwnDriver("opu_driver.lasers.cobolt:Cobolt", "serial"),
        "obis": OwnDriver("opu_driver.lasers.obis:Obis", "serial"),
        "scpi": OwnDriver("opu_driver.lasers.scpi:Scpi", "visa"),
        "recording": OwnDriver("opu_driver.replay:ReplayedLaser"),
    },
}
"""Our own drivers."""


def _others(kind: Kind) -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=f"opu.{kind.value}s")}


def names(kind: Kind) -> list[str]:
    """The names of all drivers of a kind, our own first."""
    own = list(OWN[kind])
    return own + sorted(set(_others(kind)) - set(own))


def find(kind: Kind, name: str) -> type[Device]:
    """The driver class behind a name.

    Raises:
        BenchFileError: There is no such driver.
        DriverMissingError: Its library is not installed, or it is not a driver of this kind.
    """
    others = _others(kind)
    try:
        if name in OWN[kind]:
            driver = OWN[kind][name].load()
        elif name in others:
            driver = others[name].load()
        else:
            raise BenchFileError(
                f"[{kind.value}] driver = {name!r} is not known; there are: "
                f"{', '.join(names(kind))}. Other drivers come in as packages with an entry "
                f"point in the group opu.{kind.value}s."
            )
    except ImportError as error:
        raise DriverMissingError(
            f"The driver {name!r} of the {kind.value} needs a library that is not installed "
            f"({error}). Install it and try again."
        ) from error
    if not (isinstance(driver, type) and issubclass(driver, kind.contract)):
        raise DriverMissingError(
            f"The entry point {name!r} in opu.{kind.value}s is {driver!r}, which is no "
            f"{kind.contract.__name__}. Its package has to be mended."
        )
    return driver
