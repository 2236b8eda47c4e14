"""The options of the conformance suite; a plugin that pytest loads by its entry point."""

from __future__ import annotations

import pytest

LEVELS = {0: "read only", 1: "short low-power emission", 2: "full range", 3: "faults"}


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--bench` and `--disturb`."""
    group = parser.getgroup("optical bench")
    group.addoption("--bench", metavar="FILE", help="the bench file of the devices under test")
    group.addoption(
        "--disturb",
        type=int,
        choices=sorted(LEVELS),
        default=1,
        help="how far they may be disturbed: "
        + ", ".join(f"{level} {meaning}" for level, meaning in LEVELS.items()),
    )


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    config.addinivalue_line(
        "markers", "disturbs(level): how far the test disturbs the devices, 0 to 3; see --disturb"
    )


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what disturbs more than is allowed."""
    marker = item.get_closest_marker("disturbs")
    if marker is None:
        return
    level, allowed = marker.args[0], item.config.getoption("--disturb")
    if level > allowed:
        pytest.skip(f"it disturbs the bench ({LEVELS[level]}); --disturb {level} runs it")
