"""The text of a bench file with every setting explained, made from the models that will read it."""

from __future__ import annotations

import inspect
import json
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydantic import BaseModel

    from opu_driver.device import Found
    from opu_driver.registry import Kind
    from tools.devices import DriverState

VIRTUAL = {"modulator": "virtual-dmd", "camera": "virtual", "laser": "virtual"}
START: dict[str, dict[str, Any]] = {
    "modulator": {},
    "camera": {"exposure_us": 100.0},
    "laser": {"power_mw": 10.0},
}
_REAL_POWER_MW = 1.0  # to begin with, on a bench that nobody has looked at yet
_FILL_IN = "FILL IN"


@dataclass(frozen=True)
class BenchTemplate:
    """A bench file for devices that were found.

    Attributes:
        text: The file.
        taken: Driver and device by kind, those that it names.
        left: What has to be filled in before it can be opened: the keys of the bench file, and what
            each is. Lines marked `FILL IN`.
    """

    text: str
    taken: dict[Kind, tuple[str, Found]]
    left: dict[str, str]


def simulated_template(preset: str, seed: int = 0) -> str:
    """A bench file for the simulated bench, as text.

    Raises:
        BenchFileError: There is no such preset.
    """
    from opu_driver.registry import Kind

    scene = _scene(preset, seed)
    devices = [
        line for kind in Kind for line in device_section(kind, VIRTUAL[kind], START[kind.value])
    ]
    return _file(f"simulated, {preset}", [*devices, *scene])


def found_template(states: Sequence[DriverState]) -> BenchTemplate:
    """A bench file for devices that were found; nothing in it is simulated.

    The first device of a kind that nothing speaks against is taken, the others stand beside it as
    comments. A kind without a device is a section to fill in.
    """
    from opu_driver.registry import Kind, find

    by_kind = {kind: [state for state in states if state.kind is kind] for kind in Kind}
    found = {kind: [(s.name, device) for s in by_kind[kind] for device in s.found] for kind in Kind}
    taken: dict[Kind, tuple[str, Found]] = {}
    for kind in Kind:
        unreserved = [one for one in found[kind] if not one[1].reservation]
        if unreserved:
            taken[kind] = unreserved[0]
    stepped = not all(
        getattr(find(kind, name), "has_trigger_line", True) for kind, (name, _) in taken.items()
    )
    lines: list[str] = []
    left: dict[str, str] = {}
    for kind in Kind:
        start = dict(START[kind.value])
        if kind is Kind.LASER:
            start["power_mw"] = _REAL_POWER_MW
        if kind is Kind.CAMERA and stepped:
            start["trigger"] = "software"
        others = [one for one in found[kind] if one != taken.get(kind)]
        beside = [_beside(*one) for one in others]
        if kind in taken:
            driver, device = taken[kind]
            section = list(device_section(kind, driver, start | device.options))
            lines += [*section[:3], f"# {device.identity}", *beside, *section[3:]]
            left |= _unknown(kind, driver, device)
        else:
            lines += _missing(kind, by_kind[kind], start, beside)
            left[f"[{kind.value}]"] = f"no {kind.value} was found; which driver, and its keys"
    return BenchTemplate(_file("bench", lines, unfinished=bool(left)), taken, left)


def _beside(driver: str, device: Found) -> str:
    from tools.devices import described

    word = "Found, but not taken" if device.reservation else "Found too"
    return f"# {word}: {driver}, {described(device)}"


def _unknown(kind: Kind, driver_name: str, device: Found) -> dict[str, str]:
    """The settings that a driver has to be given and that nobody but the user knows."""
    from opu_driver.registry import find
    from tools.devices import required_keys

    driver = find(kind, driver_name)
    explained = _explanations(driver, "Args")
    unknown = (name for name in required_keys(driver) if name not in device.options)
    return {f"{kind.value}.{name}": explained[name] for name in unknown}


def _missing(
    kind: Kind, drivers: Sequence[DriverState], start: Mapping[str, Any], beside: Sequence[str]
) -> Iterator[str]:
    """A section that nobody could write, as comments: the drivers that there are, and its start."""
    from opu_driver.registry import find

    yield ""
    yield f"# {_FILL_IN}: no {kind.value} was found. Take the # away from the lines of the section,"
    yield "# name a driver, and give it its keys; docs/devices.md has an example for each."
    for state in drivers:
        words = []
        if not state.ready:
            words.append("not installed yet, see `opu devices`")
        elif not state.searched:
            words.append(f"not searched for; needs {', '.join(state.required)}")
        if state.ready and not getattr(find(kind, state.name), "has_trigger_line", True):
            words.append('has no trigger line: set trigger = "software" in [camera]')
        yield f"#   {state.name}" + (f" ({'; '.join(words)})" if words else "")
    yield from beside
    yield f"# [{kind.value}]"
    yield f"# driver = ?  # {_FILL_IN}"
    yield from (f"# {name} = {_toml(value)}" for name, value in start.items())


def _file(name: str, lines: Sequence[str], *, unfinished: bool = False) -> str:
    marked = f"# It is not finished: look for the lines that say {_FILL_IN}."
    return "\n".join(
        [
            "# Which devices there are, and what they are set to when the bench opens.",
            "# Settings that are commented out stand at their defaults.",
            *([marked] if unfinished else []),
            "",
            f"name = {_toml(name)}",
            *lines,
            "",
        ]
    )


def device_section(kind: Kind, driver_name: str, start: Mapping[str, Any]) -> Iterator[str]:
    """A device's section: the bench's own settings, then those of the driver.

    Args:
        kind: Modulator, camera or laser.
        driver_name: The driver.
        start: The keys that are set; the others are commented out.
    """
    from opu_driver.bench import StartSettings
    from opu_driver.bench_file import CameraSection, LaserSection
    from opu_driver.registry import find

    yield from ("", f"[{kind.value}]", f"driver = {_toml(driver_name)}")
    sections: dict[str, type[BaseModel]] = {"camera": CameraSection, "laser": LaserSection}
    if kind.value in sections:
        fields = sections[kind.value].model_fields
        defaults = {name: field.default for name, field in fields.items() if name != "driver"}
        yield from _settings(defaults, _explanations(StartSettings, "Attributes"), start)
    driver = find(kind, driver_name)
    options = {
        name: parameter.default
        for name, parameter in inspect.signature(driver).parameters.items()
        if name != "scene"
    }
    yield from _settings(options, _explanations(driver, "Args"), start)


def _scene(preset: str, seed: int) -> Iterator[str]:
    """The section of the simulated optics, with the preset's own numbers as defaults."""
    from pydantic import ValidationError

    from opu_driver.errors import BenchFileError
    from opu_driver.virtual.settings import Faults, SceneSettings
    from opu_driver.virtual.settings import preset as settings_of

    try:
        numbers = dict(settings_of(preset))
    except ValidationError as error:
        raise BenchFileError(
            f"--preset {preset!r} is not known; {error.errors()[0]['msg']}."
        ) from error
    numbers.pop("faults")
    yield from (
        "",
        "# The optics between virtual devices; a bench of real ones has no such section.",
    )
    yield from ("[scene]", f"preset = {_toml(preset)}", f"seed = {seed}")
    yield from _settings(numbers, _explanations(SceneSettings, "Attributes"), {})
    yield from ("", "# What goes wrong, and when; by default nothing does.", "# [scene.faults]")
    yield from _settings(dict(Faults.model_validate({})), _explanations(Faults, "Attributes"), {})


def _settings(
    defaults: Mapping[str, Any], explanations: Mapping[str, str], given: Mapping[str, Any]
) -> Iterator[str]:
    """Each setting under its explanation; those not given are commented out."""
    from opu_driver.bench_file import REGION_EXAMPLE

    for name, default in defaults.items():
        yield ""
        yield from textwrap.wrap(
            explanations[name], 96, initial_indent="# ", subsequent_indent="# "
        )
        if isinstance(default, Enum):
            yield f"# One of: {', '.join(str(choice.value) for choice in type(default))}."
        if name in given:
            yield f"{name} = {_toml(given[name])}"
        elif default is inspect.Parameter.empty:
            yield f"# {name} = ?  # {_FILL_IN}, and take the # in front of it away"
        elif default is None:
            example = f"; for example, {name} = {REGION_EXAMPLE}" if name == "region" else ""
            yield f"# {name} is not set{example}"
        else:
            yield f"# {name} = {_toml(default)}"


def _explanations(described: type, section: str) -> dict[str, str]:
    """What the docstring of a class says about each of its settings."""
    text = inspect.cleandoc(described.__doc__ or "")
    found = re.search(rf"^{section}:\n((?:    .*\n?|\n)+)", text, re.MULTILINE)
    entries = re.split(r"^    (?=\w+: )", found.group(1), flags=re.MULTILINE) if found else []
    named = (entry.split(":", 1) for entry in entries if entry.strip())
    return {name: " ".join(explanation.split()) for name, explanation in named}


def _toml(value: Any) -> str:
    if isinstance(value, Enum):
        value = value.value
    if isinstance(value, float):
        return repr(value)  # also inf, which JSON does not know
    return json.dumps(value)
