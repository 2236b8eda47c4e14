"""What every laser must do; run here on the virtual one."""

import logging

import pytest

from opu_driver import simulated_bench
from opu_driver.errors import DeviceStateError, LaserSafetyError, SettingError


@pytest.fixture
def laser():
    with simulated_bench("ideal").laser as laser:
        yield laser


def test_it_is_dark_after_opening(laser):
    assert not laser.emitting


def test_emission_needs_the_armed_token(laser):
    token = laser.arm("first")
    laser.disarm()
    with pytest.raises(LaserSafetyError, match="token"):
        laser.emit(token)
    assert not laser.emitting


def test_it_is_armed_by_one_at_a_time_and_says_by_whom(laser):
    laser.arm("alignment script")
    with pytest.raises(LaserSafetyError, match="alignment script"):
        laser.arm("second")


def test_it_is_dark_after_an_exception(laser):
    with pytest.raises(RuntimeError), laser.emission("test"):
        assert laser.emitting
        raise RuntimeError
    assert not laser.emitting
    assert laser.arm("next")


def test_closing_darkens(laser):
    laser.emit(laser.arm("test"))
    laser.close()
    assert not laser.emitting
    with laser:
        assert not laser.emitting


@pytest.mark.parametrize("beyond", [-1.0, 1e9, float("nan"), float("inf")])
def test_a_power_outside_the_limits_is_refused_and_changes_nothing(laser, beyond):
    before = laser.power_mw
    with pytest.raises(SettingError, match="power_mw"):
        laser.set_power_mw(beyond)
    assert laser.power_mw == before


def test_a_closed_laser_refuses(laser):
    laser.close()
    with pytest.raises(DeviceStateError, match="not open"):
        laser.arm("test")


def test_what_touches_the_light_is_logged(laser, caplog):
    with caplog.at_level(logging.INFO, "opu.laser"), laser.emission("test"):
        pass
    told = " ".join(record.message for record in caplog.records)
    assert "armed by test" in told
    assert "emission on" in told
    assert "emission off" in told
