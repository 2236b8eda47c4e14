"""What is Cobolt's own: its commands, its generations, its ports."""

from itertools import pairwise
from types import SimpleNamespace

import pytest

from opu_driver.emulators.obis import ObisEmulator
from opu_driver.errors import (
    DeviceBusyError,
    DeviceError,
    DeviceNotFoundError,
    DeviceStateError,
    SettingError,
)
from opu_driver.lasers import ports
from opu_driver.lasers.cobolt import Cobolt

pytest.importorskip("serial", reason="pyserial is not installed: pip install 'opu[serial]'")


def test_the_words_on_the_line_are_those_of_the_manual(lab_of):
    lab = lab_of("cobolt")
    with lab.laser() as laser:
        lab.head.logbook.commands.clear()
        laser.set_power_mw(50.0)
        laser.emit(laser.arm("test", 50.0))
        laser.disarm()
        assert lab.head.logbook.texts == [
            *["p 0.0500", "p?", "p?"],
            *["p?", "l?", "ilk?", "f?", "@cobasks?", "pa?", "gsn?", "@cob1"],
            *["l0", "l?"],
        ]


def test_lasers_without_autostart_are_switched_by_l1_and_ones_of_the_newer_kind_in_milliwatts(
    lab_of,
):
    lab = lab_of("cobolt without autostart")
    with lab.laser() as laser, laser.emission("test", 50.0):
        assert "l1" in lab.head.logbook.texts
        assert "@cob1" not in lab.head.logbook.texts
        assert laser.status.key_on
    lab = lab_of("cobolt of the newer kind")
    with lab.laser() as laser:
        laser.set_power_mw(12.3)
        assert "laser:cp:power:setpoint 12.3" in lab.head.logbook.texts
        assert laser.wavelength_nm == 488.0


def test_a_power_between_its_steps_is_returned_as_it_is_in_force(lab_of):
    with lab_of("cobolt").laser() as laser:
        assert laser.set_power_mw(12.34) == pytest.approx(12.3)


def test_a_laser_that_sets_another_power_is_an_error(lab_of, mocker):
    lab = lab_of("cobolt")
    with lab.laser() as laser:
        mocker.patch.object(lab.emulator, "_set_power", return_value="OK")
        with pytest.raises(DeviceError, match="was set to 0 mW"):
            laser.set_power_mw(20.0)


def test_the_highest_power_may_be_lowered_and_not_raised(lab_of):
    lab = lab_of("cobolt")
    with Cobolt(lab.server.port, max_power_mw=30.0) as laser:
        assert laser.power_limits_mw == (0.0, 30.0)
    with pytest.raises(SettingError, match=r"max_power_mw = 130.*100 mW"):
        Cobolt(lab.server.port, max_power_mw=130.0).open()


@pytest.mark.parametrize(
    "wrong",
    [
        {"baud_rate": 0},
        {"timeout_ms": 0.0},
        {"timeout_ms": float("nan")},
        {"spacing_ms": -1.0},
        {"wavelength_nm": 0.0},
        {"max_power_mw": -5.0},
    ],
)
def test_wrong_options_are_refused_by_name(wrong):
    with pytest.raises(SettingError, match=next(iter(wrong))):
        Cobolt("COM3", **wrong)


def test_a_missing_port_is_told_with_those_that_are_there():
    with pytest.raises(DeviceNotFoundError, match=r"/dev/no-such-port.*Ports that are there"):
        Cobolt("/dev/no-such-port").open()


def test_a_port_in_use_is_busy_by_name(lab_of):
    lab = lab_of("cobolt")
    with lab.laser(), pytest.raises(DeviceBusyError, match="laser is in use"):
        lab.laser().open()
    with lab.laser():
        pass


def test_another_laser_is_not_a_cobolt_and_is_told_only_to_be_dark(lab_of):
    lab = lab_of("obis")
    assert isinstance(lab.emulator, ObisEmulator)
    with pytest.raises(DeviceNotFoundError, match="no Cobolt laser"):
        Cobolt(lab.server.port, timeout_ms=100.0).open()
    assert not lab.head.shining


def test_before_it_was_open_nothing_is_known_of_it():
    with pytest.raises(DeviceStateError, match="open it first"):
        _ = Cobolt("COM3").identity
    assert Cobolt("socket://127.0.0.1:5000").address == "serial socket://127.0.0.1:5000"


def test_an_exchanged_laser_is_noticed(lab_of):
    lab = lab_of("cobolt")
    with lab.laser() as laser:
        lab.emulator._serial = "4711"
        with pytest.raises(DeviceError, match="4711.*instead of 17706"):
            _ = laser.status


def test_answers_may_be_spaced_out(lab_of):
    lab = lab_of("cobolt")
    with Cobolt(lab.server.port, spacing_ms=20.0) as laser:
        lab.head.logbook.commands.clear()
        _ = laser.status
    times = [command.at_s for command in lab.head.logbook.commands][:6]
    assert all(later - earlier >= 0.019 for earlier, later in pairwise(times))


def _port(device, vid=None, product=None, serial_number=None):
    return SimpleNamespace(
        device=device,
        vid=vid,
        product=product,
        serial_number=serial_number,
        description=product,
        manufacturer=None,
    )


def test_only_ports_that_are_theirs_or_named_hear_a_word(lab_of, monkeypatch):
    free, taken, stranger, named = (lab_of("cobolt") for _ in range(4))
    found = [
        _port(free.server.port, vid=0x25DC, product="Cobolt Laser", serial_number="000017706"),
        _port(taken.server.port, vid=0x25DC, product="Cobolt Laser", serial_number="000012345"),
        _port(stranger.server.port, vid=0x0403, product="FT232R USB UART"),
        _port("/dev/no-such-port", product="cobolt that is gone"),
    ]
    library = SimpleNamespace(comports=lambda: found)
    monkeypatch.setattr(ports, "vendor_library", lambda *_: library)
    with taken.laser():
        lasers = Cobolt.discover(named.server.port)
    assert [laser.options["port"] for laser in lasers] == [
        free.server.port,
        taken.server.port,
        named.server.port,
    ]
    assert [laser.identity.serial for laser in lasers] == ["17706", "000012345", "17706"]
    assert stranger.head.logbook.commands == []
    assert free.head.logbook.texts == ["glm?", "gsn?", "gfv?"]


def test_looking_for_lasers_leaves_their_light_alone(lab_of):
    lab = lab_of("cobolt")
    lab.head.power_mw = 5.0
    lab.head.turn_on()
    assert Cobolt.discover(lab.server.port)
    assert lab.head.output_mw == 5.0
