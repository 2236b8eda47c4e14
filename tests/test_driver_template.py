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
    metadata = tmp_path / "site" / f"example_devices-{project['version']}.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    )
    lines = []
    for group, points in project["entry-points"].items():
        lines += [f"[{group}]", *(f"{name} = {where}" for name, where in points.items())]
    (metadata / "entry_points.txt").write_text("\n".join(lines))
    paths = [str(TEMPLATE), str(metadata.parent), os.environ.get("PYTHONPATH", "")]
    return {
        **os.environ,
        "PYTEST_ADDOPTS": "",
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        "PYTHONDONTWRITEBYTECODE": "1",
        "XDG_STATE_HOME": str(tmp_path),  # audit logs
    }


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
