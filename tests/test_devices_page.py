"""docs/devices.md is true of the drivers as they are."""

import re
import tomllib
from pathlib import Path

import pytest

from opu_driver.bench_file import CameraSection, LaserSection
from opu_driver.driver_options import build_device
from opu_driver.registry import OWN, Kind

PAGE = (Path(__file__).parents[1] / "docs" / "devices.md").read_text(encoding="utf-8")
REAL = {
    name: driver
    for drivers in OWN.values()
    for name, driver in drivers.items()
    if driver.path.startswith(tuple(f"opu_driver.{kind}s." for kind in Kind))
}


def examples():
    for text in re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL):
        for kind, section in tomllib.loads(text).items():
            yield pytest.param(Kind(kind), section, id=section["driver"])


@pytest.mark.parametrize(("kind", "section"), list(examples()))
def test_the_drivers_take_the_sections_of_bench_files(kind, section):
    if kind is Kind.MODULATOR:
        options = {key: value for key, value in section.items() if key != "driver"}
    else:
        reader = {Kind.CAMERA: CameraSection, Kind.LASER: LaserSection}[kind]
        options = reader.model_validate(section).model_extra
    assert isinstance(build_device(kind, section["driver"], options), kind.contract)


@pytest.mark.parametrize("name", REAL)
def test_every_driver_has_its_row_its_section_and_an_example(name):
    (row,) = re.findall(rf"^\| \[`{name}`\]\(#{name}\) \|.*$", PAGE, re.MULTILINE)
    extra = REAL[name].extra
    assert f"`opu[{extra}]`" in row if extra else "`opu`" in row
    (section,) = re.findall(rf"^### {name}\n(.*?)(?=^##)", PAGE, re.MULTILINE | re.DOTALL)
    assert f'driver = "{name}"' in section
    for part in ("*Emulated*", "*Only a", "*Traps*"):
        assert part in section
