"""What every laser must do. Emission is as weak and short as the laser permits."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path

import pytest

from opu_driver.audit_log import default_path
from opu_driver.bench_file import BenchFile
from opu_driver.conformance.conftest import weakest_mw
from opu_driver.errors import DeviceStateError, LaserSafetyError, SettingError
from opu_driver.laser import Laser


@pytest.fixture
def ceiling_mw(bench_file: BenchFile) -> float:
    """The power that the bench file allows."""
    section = bench_file.laser
    return section.power_mw if section.ceiling_mw is None else section.ceiling_mw


@pytest.fixture
def dim(laser: Laser, bench_file: BenchFile) -> Laser:
    """The laser, at the lowest power that is more than nothing."""
    laser.set_power_mw(weakest_mw(laser, bench_file.laser.power_mw))
    return laser


def wait_for_light(laser: Laser, bench_file: BenchFile) -> None:
    """Wait as long as the bench file lets it warm up: some lasers emit seconds after the command.

    The delay is the law's (21 CFR 1040.10), and nothing here shortens it.
    """
    end = time.monotonic() + bench_file.laser.warm_up_s
    while not laser.check().emitting:
        assert time.monotonic() < end, laser.status
        time.sleep(0.02)


@pytest.mark.disturbs(0)
def test_it_is_dark_after_opening(laser: Laser) -> None:
    assert not laser.emitting
    assert not laser.status.emitting


@pytest.mark.disturbs(0)
def test_it_tells_what_it_can_do(laser: Laser) -> None:
    low, high = laser.power_limits_mw
    assert 0 <= low < high
    assert 100 < laser.wavelength_nm < 20_000
    assert 0 <= laser.power_mw <= high * 1.01


@pytest.mark.disturbs(0)
@pytest.mark.parametrize("beyond", [-1.0, 1e9, float("nan"), float("inf")])
def test_a_power_outside_the_limits_is_refused_and_changes_nothing(
    laser: Laser, beyond: float
) -> None:
    before = laser.power_mw
    with pytest.raises(SettingError, match="power_mw"):
        laser.set_power_mw(beyond)
    assert laser.power_mw == before


@pytest.mark.disturbs(0)
def test_emission_needs_the_armed_token(laser: Laser, ceiling_mw: float) -> None:
    token = laser.arm("first", ceiling_mw)
    laser.disarm()
    with pytest.raises(LaserSafetyError, match="token"):
        laser.emit(token)
    assert not laser.emitting


@pytest.mark.disturbs(0)
def test_it_is_armed_by_one_at_a_time_and_says_by_whom(laser: Laser, ceiling_mw: float) -> None:
    laser.arm("alignment script", ceiling_mw)
    with pytest.raises(LaserSafetyError, match="alignment script"):
        laser.arm("second", ceiling_mw)
    laser.disarm()
    laser.arm("third", ceiling_mw)


@pytest.mark.disturbs(1)
def test_a_power_above_the_ceiling_emits_nothing(dim: Laser) -> None:
    power_mw = dim.power_mw
    token = dim.arm("test", power_mw / 2)
    with pytest.raises(LaserSafetyError, match="armed up to"):
        dim.emit(token)
    assert not dim.emitting
    with pytest.raises(LaserSafetyError, match="ceiling_mw"):
        dim.set_power_mw(power_mw)


@pytest.mark.disturbs(0)
def test_a_closed_laser_refuses(laser: Laser, ceiling_mw: float) -> None:
    laser.close()
    with pytest.raises(DeviceStateError, match="not open"):
        laser.arm("test", ceiling_mw)
    assert not laser.emitting


@pytest.mark.disturbs(1)
def test_it_emits_and_is_dark_after_an_exception(
    dim: Laser, ceiling_mw: float, bench_file: BenchFile
) -> None:
    with pytest.raises(RuntimeError, match="on purpose"), dim.emission("test", ceiling_mw):
        wait_for_light(dim, bench_file)
        raise RuntimeError("on purpose")
    assert not dim.emitting
    assert dim.arm("next", ceiling_mw)


@pytest.mark.disturbs(1)
def test_it_is_dark_after_closing_and_opening(
    dim: Laser, ceiling_mw: float, bench_file: BenchFile
) -> None:
    dim.emit(dim.arm("test", ceiling_mw))
    wait_for_light(dim, bench_file)
    dim.close()
    assert not dim.emitting
    with dim:
        assert not dim.emitting


@pytest.mark.disturbs(1)
def test_anyone_may_darken_it(dim: Laser, ceiling_mw: float, bench_file: BenchFile) -> None:
    token = dim.arm("test", ceiling_mw)
    for _ in range(2):
        dim.emit(token)
        wait_for_light(dim, bench_file)
        dim.darken()
        assert not dim.emitting


@pytest.mark.disturbs(1)
def test_it_stays_dark_if_it_is_darkened_before_its_light_came(
    dim: Laser, ceiling_mw: float
) -> None:
    dim.emit(dim.arm("test", ceiling_mw))
    dim.darken()
    end = time.monotonic() + 1.0
    while time.monotonic() < end:
        assert not dim.emitting
        time.sleep(0.05)


@pytest.mark.disturbs(1)
def test_what_touches_the_light_is_logged(
    dim: Laser, ceiling_mw: float, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "opu.laser"), dim.emission("test", ceiling_mw):
        pass
    told = " ".join(record.message for record in caplog.records)
    for act in ("armed by test", "emission on", "emission off"):
        assert act in told


@pytest.mark.disturbs(2)
def test_it_takes_the_powers_that_the_bench_file_allows(
    laser: Laser, ceiling_mw: float, bench_file: BenchFile
) -> None:
    low, high = laser.power_limits_mw
    token = laser.arm("test", ceiling_mw)
    top = min(high, ceiling_mw)
    for part in (0.25, 0.5, 1.0):
        wanted = low + part * (top - low)
        in_force = laser.set_power_mw(wanted)
        assert in_force == pytest.approx(wanted, rel=0.02, abs=1e-3 * high)  # lasers have steps
        assert in_force == laser.power_mw
    laser.emit(token)
    laser.wait_until_warm(bench_file.laser.warm_up_s)
    assert laser.emitting


_OWNER = """
import ctypes, sys, time
from opu_driver.bench_file import build_bench, read_bench_file
from pathlib import Path

file = read_bench_file(Path(sys.argv[1]))
laser = build_bench(file).laser.open()
low, high = laser.power_limits_mw
laser.set_power_mw(min(max(low, 0.01 * file.laser.power_mw), high))
laser.emit(laser.arm("an owner that fails", file.laser.ceiling_mw or file.laser.power_mw))
while not laser.check().emitting:
    time.sleep(0.02)
print(laser.identity, time.time(), sep="\\n", flush=True)
if sys.argv[2] == "hangs":  # PyDLL keeps the interpreter to itself: no thread of this process runs
    ctypes.PyDLL("kernel32").Sleep(4000) if sys.platform == "win32" else ctypes.PyDLL(None).sleep(4)
else:
    time.sleep(60)
"""


@pytest.mark.disturbs(3)
@pytest.mark.parametrize(
    ("owner", "line"), [("dies", "closed, dark"), ("hangs", "emission off by the guardian")]
)
def test_it_is_dark_within_a_second_after_its_owner(
    bench_path: Path, closed_bench_is_guarded: bool, owner: str, line: str
) -> None:
    if not closed_bench_is_guarded:
        pytest.skip("a virtual laser ends with its process")
    before = _length(default_path())
    with subprocess.Popen(
        [sys.executable, "-c", _OWNER, str(bench_path), owner], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        identity = process.stdout.readline().strip()
        assert identity, "the owner has not come to emit"
        failed = float(process.stdout.readline())
        if owner == "dies":
            failed = time.time()
            process.kill()
        deadline = time.monotonic() + 20.0
        while not (dark := _logged(default_path(), before, identity, line)):
            assert time.monotonic() < deadline, "the guardian has not told that it darkened"
            time.sleep(0.05)
    assert datetime.fromisoformat(dark[0]["time"]).timestamp() - failed < 1.0


@pytest.fixture
def closed_bench_is_guarded(bench_file: BenchFile) -> bool:
    """Whether the bench file's laser has a guardian."""
    from opu_driver.bench_file import build_bench
    from opu_driver.guarded_laser import GuardedLaser

    return isinstance(build_bench(bench_file).laser, GuardedLaser)


def _length(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _logged(path: Path, start: int, identity: str, what: str) -> list[dict[str, str]]:
    """The lines of one kind about one laser; those of other benches stand in the log, too."""
    if not path.exists():
        return []
    *whole, _ = path.read_bytes()[start:].decode().split("\n")
    lines = [json.loads(line) for line in whole]
    return [line for line in lines if (line.get("laser"), line["what"]) == (identity, what)]
