"""What ends or forbids emission, whatever the laser. What each laser must do: conformance."""

import pytest

from opu_driver import simulated_bench
from opu_driver.bench import Bench
from opu_driver.errors import LaserSafetyError, SettingError
from opu_driver.guarded_laser import GuardedLaser
from opu_driver.laser import LaserStatus
from opu_driver.lasers.cobolt import Cobolt


@pytest.fixture
def laser():
    with simulated_bench("ideal").laser as laser:
        yield laser


def test_no_power_above_the_ceiling_is_set_or_emitted(laser):
    laser.set_power_mw(20.0)
    token = laser.arm("test", 10.0)
    with pytest.raises(LaserSafetyError, match=r"20.*10 mW"):
        laser.emit(token)
    assert not laser.emitting
    laser.set_power_mw(9.0)
    laser.emit(token)
    with pytest.raises(LaserSafetyError, match="ceiling_mw"):
        laser.set_power_mw(11.0)
    assert laser.power_mw == 9.0


def test_a_bench_takes_no_real_laser_that_nothing_darkens_if_its_process_is_killed():
    simulated = simulated_bench("ideal")
    with pytest.raises(LaserSafetyError, match="GuardedLaser"):
        Bench(
            simulated.modulator, simulated.camera, Cobolt("/dev/ttyACM9"), simulated.start
        )  # fmt: skip
    guarded = GuardedLaser("cobolt", {"port": "/dev/ttyACM9"}, None)
    assert Bench(simulated.modulator, simulated.camera, guarded, simulated.start).laser is guarded


@pytest.mark.parametrize("ceiling_mw", [0.0, -1.0, float("nan")])
def test_a_ceiling_has_to_be_positive(laser, ceiling_mw):
    with pytest.raises(SettingError, match="ceiling_mw"):
        laser.arm("test", ceiling_mw)


@pytest.mark.parametrize(
    ("status", "obstacle"),
    [
        (LaserStatus(True, interlock_closed=False), "interlock"),
        (LaserStatus(True, key_on=False), "key"),
        (LaserStatus(True, fault="diode temperature"), "diode temperature"),
    ],
)
def test_what_forbids_emission_refuses_it_and_ends_it(laser, mocker, status, obstacle):
    token = laser.arm("test", 10.0)
    laser.emit(token)
    mocker.patch.object(laser, "_status", return_value=status)
    with pytest.raises(LaserSafetyError, match=obstacle):
        laser.check()
    with pytest.raises(LaserSafetyError, match=obstacle):
        laser.emit(token)
    mocker.stopall()
    assert not laser.emitting


def test_a_laser_that_stays_cold_is_turned_off(laser, mocker):
    laser.emit(laser.arm("test", 10.0))
    mocker.patch.object(laser, "_status", return_value=LaserStatus(True, warm=False))
    with pytest.raises(LaserSafetyError, match="warmed up"):
        laser.wait_until_warm(0.0)
    mocker.stopall()
    assert not laser.emitting
