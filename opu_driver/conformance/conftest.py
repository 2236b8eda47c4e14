"""The devices under test, made anew from the bench file for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from opu_driver.bench import Bench
from opu_driver.bench_file import BenchFile, build_bench, read_bench_file
from opu_driver.camera import Camera
from opu_driver.errors import BenchFileError
from opu_driver.laser import Laser
from opu_driver.layout import Layout
from opu_driver.modulator import Modulator, Patterns


def pytest_collection_finish(session: pytest.Session) -> None:
    """A bench file that cannot be read is told once, not as an error of each test."""
    suite = Path(__file__).parent
    ours = any(suite in item.path.parents for item in session.items)
    if not ours or session.config.getoption("collectonly"):
        return
    if session.config.getoption("--bench") is None:
        raise pytest.UsageError("Name the devices under test: --bench my_bench.toml")
    try:
        read_bench_file(Path(session.config.getoption("--bench")))
    except BenchFileError as error:
        raise pytest.UsageError(str(error)) from error


@pytest.fixture(scope="session")
def bench_path(pytestconfig: pytest.Config) -> Path:
    """The bench file."""
    return Path(pytestconfig.getoption("--bench")).absolute()


@pytest.fixture(scope="session")
def bench_file(bench_path: Path) -> BenchFile:
    """What it says."""
    return read_bench_file(bench_path)


@pytest.fixture
def closed_bench(bench_file: BenchFile) -> Bench:
    """The bench, not open."""
    return build_bench(bench_file)


@pytest.fixture
def bench(closed_bench: Bench) -> Iterator[Bench]:
    """The bench, open."""
    with closed_bench:
        yield closed_bench


@pytest.fixture
def modulator(closed_bench: Bench) -> Iterator[Modulator]:
    """The modulator alone, open."""
    with closed_bench.modulator as device:
        yield device


@pytest.fixture
def camera(closed_bench: Bench) -> Iterator[Camera]:
    """The camera alone, open and configured."""
    with closed_bench.camera as device:
        device.configure(closed_bench.start.of_camera(device, settling_us=0.0))
        yield device


@pytest.fixture
def laser(closed_bench: Bench) -> Iterator[Laser]:
    """The laser alone, open."""
    with closed_bench.laser as device:
        yield device


@pytest.fixture
def patterns(modulator: Modulator) -> Patterns:
    """Five random patterns."""
    return random_patterns(modulator, 5)


def weakest_mw(laser: Laser, full_mw: float) -> float:
    """The power to begin with: a hundredth of `full_mw`, or the least that the laser has.

    Args:
        laser: An open laser.
        full_mw: The power of the bench file, milliwatts.
    """
    low, high = laser.power_limits_mw
    return min(max(low, 0.01 * full_mw), high)


def random_patterns(modulator: Modulator, count: int, seed: int = 0) -> Patterns:
    """Random patterns of an open modulator, of macropixels as a bench shows them.

    Patterns of single mirrors would do as well but for boards that compress what they are sent.
    """
    layout = Layout.fit(24, modulator.shape, modulator.levels)
    bits = np.random.default_rng(seed).integers(0, 2, (count, layout.n_inputs), np.uint8)
    return layout.render(bits)
