"""`opu init`: write a commented bench file, made from the models that will read it."""

from __future__ import annotations

import inspect
import json
import re
import textwrap
import tomllib
from collections.abc import Iterator, Mapping
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tools.terminal import results

if TYPE_CHECKING:
    from pydantic import BaseModel

    from opu_driver.device import Found
    from opu_driver.registry import Kind

_VIRTUAL = {"modulator": "virtual-dmd", "camera": "virtual", "laser": "virtual"}
_START: dict[str, dict[str, Any]] = {
    "modulator": {},
    "camera": {"exposure_us": 100.0},
    "laser": {"power_mw": 10.0},
}
_REAL_POWER_MW = 1.0  # to begin with, on a bench that nobody has looked at yet


def init(
    out: Annotated[
        Path, typer.Option("--out", metavar="FILE.toml", help="Where the bench file goes.")
    ] = Path("bench.toml"),
    preset: Annotated[
        str | None,
        typer.Option(
            "--preset",
            help="The simulated bench, `ideal`, `quiet`, `realistic` or `rough`, whatever is "
            "connected.",
        ),
    ] = None,
) -> None:
    """Write a bench file for the devices that are connected, every setting in it explained.

    Where a modulator, a camera or a laser is missing it is the simulated bench. Settings that keep
    their defaults are commented out.
    """
    from opu_driver.bench_file import build_bench, parse_bench
    from tools.json_file import write_text
    from tools.output_path import require_free, require_writable

    require_writable(out)
    require_free(out)
    found = {} if preset is not None else _connected()
    missing = [kind for kind in _VIRTUAL if kind not in found]
    text = bench_template(preset or "realistic") if missing else found_template(found)
    build_bench(parse_bench(tomllib.loads(text)))
    write_text(out, text)
    if preset is None and missing:
        results().print(
            f"No {' and no '.join(missing)} was found (opu devices tells more), so this is the "
            "simulated bench."
        )
    results().print(f"Written to {out}. Try: opu doctor --bench {out}")


def _connected() -> dict[str, list[tuple[str, Found]]]:
    """The devices that are connected, with their drivers' names, by kind."""
    from tools.devices import driver_states

    connected: dict[str, list[tuple[str, Found]]] = {}
    for state in driver_states():
        for device in state.found:
            connected.setdefault(state.kind.value, []).append((state.name, device))
    return connected


def bench_template(preset: str, seed: int = 0) -> str:
    """A bench file for the simulated bench, as text.

    Raises:
        BenchFileError: There is no such preset.
    """
    from opu_driver.registry import Kind

    scene = _scene(preset, seed)
    devices = [
        line for kind in Kind for line in _device(kind, _VIRTUAL[kind.value], _START[kind.value])
    ]
    return _file(f"simulated, {preset}", [*devices, *scene])


def found_template(connected: Mapping[str, list[tuple[str, Found]]]) -> str:
    """A bench file for devices that were found, as text.

    Args:
        connected: Driver names and devices by kind; the first of a kind is taken, the others stand
            beside it as comments.
    """
    from opu_driver.registry import Kind
    from tools.devices import described

    lines: list[str] = []
    for kind in Kind:
        (driver, device), *others = connected[kind.value]
        start = _START[kind.value] | device.options
        if kind is Kind.LASER:
            start |= {"power_mw": _REAL_POWER_MW}
        section = list(_device(kind, driver, start))
        beside = [f"# Found too: {name}, {described(other)}" for name, other in others]
        lines += [*section[:2], f"# {device.identity}", *beside, *section[2:]]
    return _file("bench", lines)


def _file(name: str, lines: list[str]) -> str:
    return "\n".join(
        [
            "# Which devices there are, and what they are set to when the bench opens.",
            "# Settings that are commented out stand at their defaults.",
            "",
            f"name = {_toml(name)}",
            *lines,
            "",
        ]
    )


def _device(kind: Kind, driver_name: str, start: Mapping[str, Any]) -> Iterator[str]:
    """A device's section: the bench's own settings, then those of the driver."""
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
            yield f"# {name} = ?  # it has to be set"
        elif default is None:
            yield f"# {name} is not set"
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
