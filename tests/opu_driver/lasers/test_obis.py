"""What is OBIS's own: how it agrees on answers, and what its words of bits mean."""

import pytest

from opu_driver.emulators.laser_head import LaserHead
from opu_driver.emulators.obis import ObisEmulator
from opu_driver.emulators.text_server import TextServer
from opu_driver.errors import DeviceBusyError, DeviceError, DeviceNotFoundError, SettingError
from opu_driver.laser import LaserStatus
from opu_driver.lasers.obis import Obis

pytest.importorskip("serial", reason="pyserial is not installed: pip install 'opu[serial]'")


@pytest.mark.parametrize("handshaking", [True, False])
@pytest.mark.parametrize("prompt", [True, False])
def test_it_agrees_on_answers_whatever_was_agreed_before(handshaking, prompt):
    emulator = ObisEmulator(LaserHead(), handshaking=handshaking, prompt=prompt)
    with TextServer(emulator, "tcp") as server, Obis(server.port) as laser:
        assert laser.identity.model == "OBIS 532nm LX 100mW"
        assert laser.power_limits_mw == (0.0, 100.0)


@pytest.mark.parametrize(
    ("word", "status"),
    [
        # Words that were seen on real lasers with a remote.
        ("C8001100", LaserStatus(False, warm=False)),
        ("C8001002", LaserStatus(True)),
        ("C8000008", LaserStatus(False, warm=False)),
        ("CC000008", LaserStatus(False, interlock_closed=False, warm=False)),
        ("CE000008", LaserStatus(False, key_on=False, warm=False)),
        ("C8001001", LaserStatus(False, warm=False, fault="a fault without a code")),
        # A laser without a remote has no such bits.
        ("00000002", LaserStatus(True)),
    ],
)
def test_status_words_are_understood(lab_of, mocker, word, status):
    lab = lab_of("obis")
    with lab.laser() as laser:
        mocker.patch.object(lab.emulator, "_status", return_value=int(word, 16))
        assert laser.status == status
        mocker.stopall()


def test_a_refusal_is_told_in_words(lab_of, mocker):
    lab = lab_of("obis")
    with lab.laser() as laser:
        mocker.patch.object(lab.emulator, "_set_power", return_value="ERR-221")
        lab.emulator._orders["SOURce:POWer:LEVel:IMMediate:AMPLitude"] = lambda _: "ERR-221"
        with pytest.raises(DeviceError, match="ERR-221: the settings conflict"):
            laser.set_power_mw(5.0)


def test_its_delay_autostart_and_faults_are_left_alone(lab_of):
    lab = lab_of("obis")
    with lab.laser() as laser, laser.emission("test", 10.0):
        pass
    said = " ".join(lab.head.logbook.texts)
    assert not any(word in said for word in ("CDRH", "AUT", "CLE", "RST"))


def test_a_port_in_use_is_busy_and_another_device_is_no_obis(lab_of):
    lab = lab_of("obis")
    with lab.laser(), pytest.raises(DeviceBusyError, match="in use"):
        lab.laser().open()
    with pytest.raises(DeviceNotFoundError, match="no OBIS laser"):
        Obis(lab_of("cobolt").server.port, timeout_ms=100.0).open()


def test_it_is_found_on_a_port_that_is_named(lab_of):
    lab = lab_of("obis")
    (found,) = Obis.discover(lab.server.port)
    assert found.identity.serial == "VL38P00A001"
    assert found.options == {"port": lab.server.port}


@pytest.mark.parametrize("wrong", [{"baud_rate": 0}, {"timeout_ms": -1.0}, {"max_power_mw": 0.0}])
def test_wrong_options_are_refused_by_name(wrong):
    with pytest.raises(SettingError, match=next(iter(wrong))):
        Obis("COM3", **wrong)
