"""The template of other people's drivers works as docs/writing-a-driver.md says it does.

It is not installed here, which would take pip and the network: what an installation would leave is
laid out by hand, a folder of metadata with the entry points that its pyproject.toml declares.
"""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

TEMPLATE = Path(__file__).parents[1] / "docs" / "driver-template"


@pytest.fixture
def installed(tmp_path):
    """The environment of a process that has the template installed."""
    project = tomllib.loads((TEMPLATE / "pyproject.toml").read_text())["project"]
    site = tmp_path / "site"
    lay_out(site, project["name"], project["entry-points"])
    paths = [str(TEMPLATE), str(site), os.environ.get("PYTHONPATH", "")]
    return {
        # Another test may have plugged an emulated camera into this process.
        **{name: value for name, value in os.environ.items() if name != "PYLON_CAMEMU"},
        "PYTEST_ADDOPTS": "",
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        "PYTHONDONTWRITEBYTECODE": "1",
        "XDG_STATE_HOME": str(tmp_path),  # audit logs
    }


def lay_out(site, name, entry_points):
    """What the installation of a package leaves beside its modules."""
    metadata = site / f"{name.replace('-', '_')}-1.0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    lines = []
    for group, points in entry_points.items():
        lines += [f"[{group}]", *(f"{point} = {where}" for point, where in points.items())]
    (metadata / "entry_points.txt").write_text("\n".join(lines))


def pytest_of(environment, folder, *arguments):
    command = [sys.executable, "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", "-W", "error"]
    result = subprocess.run(
        [*command, *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert result.returncode == 0, result.stdout[-20_000:] + result.stderr[-4000:]
    return result.stdout


LIES = """
from example_devices import camera, laser, modulator


class Forgetful(modulator.ExampleDMD):
    def _wait(self, timeout_s):
        return super()._wait(timeout_s) - (self._shown > 4)


class Stale(camera.ExampleCamera):
    def _arm(self, frames):
        self._wanted = frames
        self._delivered = self._lost = 0


class Wrapping(camera.ExampleCamera):
    def _read(self, max_frames, timeout_s):
        block = super()._read(max_frames, timeout_s)
        block.ids[:] %= 4
        return block


class Glowing(laser.ExampleLaser):
    def _darken(self, device):
        pass


class Clipping(laser.ExampleLaser):
    def _set_power_mw(self, power_mw):
        super()._set_power_mw(min(power_mw, 4.0))


class Deaf(laser.ExampleLaser):
    def _status(self):
        return laser.LaserStatus(True)
"""
"""Drivers that do what drivers do wrong."""


def test_its_drivers_pass_the_suite_of_all_devices(installed, tmp_path):
    modules = [f"opu_driver.conformance.test_{kind}" for kind in ("modulator", "camera", "laser")]
    told = pytest_of(
        installed,
        tmp_path,
        "--pyargs",
        *modules,
        "opu_driver.conformance.test_device",
        "--bench",
        str(TEMPLATE / "bench.toml"),
        "--disturb",
        "3",
    )
    skipped = [line for line in told.splitlines() if line.startswith("SKIPPED")]
    assert len(skipped) == 1  # no second buffer
    assert "one buffer" in skipped[0]


@pytest.mark.parametrize(
    ("kind", "lie", "found_by"),
    [
        ("modulator", "Forgetful", "test_it_counts_what_it_showed"),
        ("camera", "Stale", "test_arming_forgets_frames_of_before"),
        ("camera", "Wrapping", "test_frames_are_counted_in_order"),
        ("laser", "Glowing", "test_it_emits_and_is_dark_after_an_exception"),
        ("laser", "Clipping", "test_it_takes_the_powers_that_the_bench_file_allows"),
        ("laser", "Deaf", "test_it_is_dark_after_opening"),
    ],
)
def test_the_suite_finds_a_driver_that_lies(installed, tmp_path, kind, lie, found_by):
    (tmp_path / "site" / "lies.py").write_text(LIES)
    lay_out(tmp_path / "site", "lies", {f"opu.{kind}s": {"lie": f"lies:{lie}"}})
    names = {"modulator": "example-dmd", "camera": "example-camera", "laser": "example-laser"}
    bench = (TEMPLATE / "bench.toml").read_text().replace(names[kind], "lie")
    (tmp_path / "bench.toml").write_text(bench)
    suite = ["--pyargs", f"opu_driver.conformance.test_{kind}", "--bench", "bench.toml"]
    with pytest.raises(AssertionError, match=f"FAILED.*{found_by}"):
        pytest_of(installed, tmp_path, *suite, "--disturb", "2", "-rf", "-k", found_by)


def test_its_own_tests_pass(installed, tmp_path):
    assert " passed" in pytest_of(installed, tmp_path, str(TEMPLATE / "tests"))


def test_its_drivers_are_listed_with_what_is_connected(installed, tmp_path):
    told = subprocess.run(
        [
            sys.executable,
            "-c",
            "from opu_driver.registry import Kind, find, names\n"
            "for kind in Kind:\n"
            "    (name,) = [name for name in names(kind) if name.startswith('example')]\n"
            "    print(name, find(kind, name).discover()[0].options)",
        ],
        cwd=tmp_path,
        env=installed,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    ).stdout
    assert told.splitlines() == [
        "example-dmd {'serial': 'D1'}",
        "example-camera {'serial': 'C1'}",
        "example-laser {'serial': 'L1'}",
    ]


INIT_AND_OPEN = """
from opu_driver import open_bench
from tools.main import main

assert main(["init", "--out", "example.toml"]) == 0
with open_bench("example.toml") as bench:
    print(bench.settings.trigger.value)
"""


def test_the_bench_that_init_writes_for_its_devices_opens(installed, tmp_path):
    told = subprocess.run(
        [sys.executable, "-c", INIT_AND_OPEN],
        cwd=tmp_path,
        env=installed,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert told.returncode == 0, told.stderr
    assert told.stdout.splitlines()[-1] == "software"
