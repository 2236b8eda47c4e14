"""From the keys of a bench file to a driver: its constructor's signature says which there are."""

from __future__ import annotations

import inspect
import operator
from collections.abc import Mapping
from functools import reduce
from types import UnionType
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    Literal,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

from pydantic import ConfigDict, Strict, ValidationError, create_model

from opu_driver import registry
from opu_driver.device import Device
from opu_driver.errors import BenchFileError
from opu_driver.laser import Laser
from opu_driver.registry import Kind

if TYPE_CHECKING:
    from opu_driver.virtual.scene import Scene

_EMPTY = inspect.Parameter.empty


def build_device(
    kind: Kind,
    name: str,
    options: Mapping[str, Any],
    origin: str = "bench settings",
    scene: Scene | None = None,
) -> Device:
    """A device of a driver; nothing is opened.

    Args:
        kind: Modulator, camera or laser.
        name: The driver's name.
        options: The keys of its section of the bench file, settings of the bench left out.
        origin: Where they come from; it begins the errors.
        scene: The optics between virtual devices.

    Raises:
        BenchFileError: An unknown driver, or an option that it does not take.
        DriverMissingError: The driver's library is not installed.
        SettingError: A value that the driver's constructor refuses.
    """
    driver = registry.find(kind, name)
    parameters = inspect.signature(driver).parameters
    fields: dict[str, Any] = {
        name: (
            _exact(annotation),
            ... if parameters[name].default is _EMPTY else parameters[name].default,
        )
        for name, annotation in get_type_hints(driver.__init__).items()
        if name in parameters and name != "scene"
    }
    accepted = create_model(driver.__name__, __config__=ConfigDict(extra="forbid"), **fields)
    try:
        checked = accepted.model_validate(options)
    except ValidationError as error:
        raise explained(kind.value, error, origin, allowed=list(fields)) from error
    arguments = {name: getattr(checked, name) for name in fields}
    if "scene" in parameters:
        if scene is None:
            raise BenchFileError(
                f"{origin}: the {kind.value} {name!r} is a virtual device and needs the "
                'optics between the devices: add a section [scene], with preset = "realistic".'
            )
        arguments["scene"] = scene
    return driver(**arguments)


def build_laser(name: str, options: Mapping[str, Any]) -> Laser:
    """A laser of a driver, see `build_device`; it lights no scene."""
    laser = build_device(Kind.LASER, name, options)
    if not isinstance(laser, Laser):
        raise TypeError("registry.find returned a class of another kind")
    return laser


def _exact(annotation: Any) -> Any:
    """The same type, but `true` and `"100"` are no numbers, and 1 is not `true`."""
    if annotation in (bool, int, float):
        return Annotated[annotation, Strict()]
    origin = get_origin(annotation)
    if origin in (None, Literal):
        return annotation
    parts = [part if part is ... else _exact(part) for part in get_args(annotation)]
    return reduce(operator.or_, parts) if origin in (Union, UnionType) else origin[*parts]


def explained(
    section: str, error: ValidationError, origin: str, allowed: list[str] | None = None
) -> BenchFileError:
    """An error that tells each wrong key with its value and what would have been right."""
    lines = []
    for problem in error.errors():
        key = ".".join(str(part) for part in (section, *problem["loc"]) if part != "")
        if problem["type"] == "missing":
            lines.append(f"{key} is missing")
            continue
        reason = problem["msg"][0].lower() + problem["msg"][1:]
        if problem["type"] == "extra_forbidden":
            known = f"; there are: {', '.join(allowed)}" if allowed else ""
            reason = f"there is no such setting{known}"
        lines.append(f"{key} = {problem['input']!r}: {reason}")
    return BenchFileError(f"{origin}: " + "; ".join(lines) + ".")
