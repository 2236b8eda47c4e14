"""What every laser driver does, against its emulator: the laser's contract and a bad line."""

import threading
import time
from pathlib import Path

import pytest

from opu_driver.emulators.text_server import Disturbance
from opu_driver.errors import (
    DeviceError,
    DeviceLostError,
    DeviceNotFoundError,
    DeviceStateError,
    LaserSafetyError,
    SettingError,
)


def test_opening_leaves_it_dark_whatever_it_did(any_lab):
    any_lab.head.power_mw = 30.0
    any_lab.head.turn_on()
    with any_lab.laser() as laser:
        assert not laser.emitting
        assert any_lab.head.output_mw == 0
    (emission,) = any_lab.head.logbook.emissions
    assert emission.end_s is not None


def test_it_says_who_it_is_and_where(any_lab):
    laser = any_lab.laser()
    assert laser.address is not None
    with laser:
        assert laser.identity.vendor
        assert laser.identity.model
        assert laser.identity.serial
        assert laser.wavelength_nm in (488.0, 532.0)
        assert laser.power_limits_mw == (0.0, 100.0)


def test_it_opens_once_and_again_after_closing(any_lab):
    laser = any_lab.laser()
    with laser:
        identity = laser.identity
        with pytest.raises(DeviceStateError, match="open already"):
            laser.open()
    laser.close()
    with laser:
        assert laser.identity == identity


def test_it_emits_what_was_set_from_emit_to_disarm(any_lab):
    with any_lab.laser() as laser:
        assert laser.set_power_mw(12.3) == pytest.approx(12.3)
        assert laser.power_mw == pytest.approx(12.3)
        with laser.emission("test", 20.0):
            laser.wait_until_warm(2.0)
            assert laser.emitting
            assert any_lab.head.output_mw == pytest.approx(12.3)
            laser.set_power_mw(15.0)
            assert any_lab.head.output_mw == pytest.approx(15.0)
        assert any_lab.head.output_mw == 0
        assert not laser.emitting
    (emission,) = any_lab.head.logbook.emissions
    assert emission.end_s is not None
    assert emission.highest_mw == pytest.approx(15.0)


def test_closing_ends_emission(any_lab):
    laser = any_lab.laser().open()
    laser.set_power_mw(5.0)
    laser.emit(laser.arm("test", 10.0))
    laser.close()
    assert any_lab.head.output_mw == 0


def test_a_refused_power_never_reaches_the_laser(any_lab):
    with any_lab.laser() as laser:
        laser.set_power_mw(5.0)
        heard = len(any_lab.head.logbook.commands)
        for beyond in (-1.0, 100.2, float("nan")):
            with pytest.raises(SettingError, match="power_mw"):
                laser.set_power_mw(beyond)
        assert len(any_lab.head.logbook.commands) == heard
        assert any_lab.head.power_mw == pytest.approx(5.0)


def _prevent(lab, how):
    {
        "interlock": lab.emulator.open_interlock,
        "key": lambda: lab.head.turn_key(False),
        "fault": lambda: lab.head.fail(1),
    }[how]()


@pytest.mark.parametrize("how", ["interlock", "key", "fault"])
def test_what_forbids_emission_is_told_and_ends_it(lab_of, how):
    for kind in ("cobolt", "obis", "scpi"):
        lab = lab_of(kind)
        with lab.laser() as laser:
            laser.set_power_mw(5.0)
            token = laser.arm("test", 10.0)
            laser.emit(token)
            laser.check()
            _prevent(lab, how)
            assert lab.head.output_mw == 0
            with pytest.raises(LaserSafetyError, match=how):
                laser.check()
            with pytest.raises(LaserSafetyError, match=how):
                laser.emit(token)
            # By hand, on the laser; its driver clears nothing.
            lab.head.close_interlock()
            lab.head.turn_key(False)
            lab.head.turn_key(True)
            laser.emit(token)
            assert laser.check().emitting
        assert lab.head.output_mw == 0


def test_a_fault_goes_by_its_name(lab_of):
    for kind, code, name in (
        ("cobolt", 1, "temperature error"),
        ("obis", 1 << 5 | 1, "base plate temperature, diode current too high"),
        ("scpi", 42, "42"),
    ):
        lab = lab_of(kind)
        with lab.laser() as laser:
            lab.head.fail(code)
            assert laser.status.fault == name


@pytest.mark.parametrize("kind", ["cobolt", "obis", "scpi"])
def test_warming_up_is_told_and_waited_for(lab_of, kind):
    lab = lab_of(kind, warm_up_s=0.3)
    with lab.laser() as laser:
        laser.set_power_mw(20.0)
        with laser.emission("test", 20.0):
            assert not laser.status.warm
            laser.wait_until_warm(5.0)
            assert lab.head.output_mw >= 0.9 * 20.0


def test_an_obis_that_delays_its_light_does_not_say_it_emits(lab_of):
    lab = lab_of("obis", delay_s=0.3)
    with lab.laser() as laser:
        laser.set_power_mw(20.0)
        with laser.emission("test", 20.0):
            assert not laser.emitting
            laser.wait_until_warm(5.0)
            assert laser.emitting


_DISTURBED = [
    *(
        (kind, position)
        for kind in (Disturbance.DOUBLED, Disturbance.NOISY)
        for position in range(7)
    ),
    *((kind, position) for kind in Disturbance for position in (0, 3)),
]


@pytest.mark.parametrize(("kind", "position"), sorted(set(_DISTURBED)))
def test_no_status_is_ever_told_wrongly(lab_of, kind, position):
    """An answer that is late or doubled would answer the next question, perhaps of the next."""
    for lab in (lab_of("cobolt"), lab_of("obis"), lab_of("scpi", "tcp")):
        with lab.laser() as laser:
            laser.set_power_mw(5.0)
            token = laser.arm("test", 10.0)
            laser.emit(token)
            truth = laser.status
            lab.server.disturb(kind, after=position)
            told, lost = [], 0
            for _ in range(4):
                try:
                    told.append(laser.status)
                except DeviceLostError:
                    lost += 1
            assert lost >= 1
            assert all(status == truth for status in told)
            assert laser.status == truth
        assert lab.head.output_mw == 0


_ONE_OF_EACH = [("cobolt", "pty"), ("obis", "pty"), ("scpi", "tcp")]


@pytest.mark.parametrize("kind", list(Disturbance))
@pytest.mark.parametrize("cable", _ONE_OF_EACH, ids=", ".join)
def test_it_goes_dark_on_a_bad_line(lab_of, cable, kind):
    lab = lab_of(*cable)
    with lab.laser() as laser:
        laser.set_power_mw(5.0)
        laser.emit(laser.arm("test", 10.0))
        lab.server.disturb(kind, kind)
        begin = time.monotonic()
        laser.darken()
    (emission,) = lab.head.logbook.emissions
    assert emission.end_s - begin < 1.0


def test_a_laser_that_cannot_confirm_it_is_dark_is_an_error_that_says_what_to_do(lab_of):
    lab = lab_of("cobolt")
    laser = lab.laser().open()
    lab.server.disturb(*[Disturbance.SILENT] * 20)
    with pytest.raises(DeviceLostError, match="key off or open its interlock"):
        laser.close()
    assert not laser.is_open
    lab.server.settle()
    with laser:
        assert not laser.emitting


def test_an_unplugged_laser_is_lost_at_once_and_found_again(any_lab):
    laser = any_lab.laser().open()
    laser.set_power_mw(5.0)
    laser.emit(laser.arm("test", 10.0))
    any_lab.server.unplug()
    begin = time.monotonic()
    with pytest.raises(DeviceLostError):
        laser.check()
    assert time.monotonic() - begin < 2.0
    with pytest.raises(DeviceError, match="may still emit"):
        laser.close()
    assert any_lab.head.shining  # as a real one would
    with pytest.raises(DeviceNotFoundError):
        laser.open()
    any_lab.server.plug_in()
    with laser:
        assert not any_lab.head.shining
        assert laser.arm("again", 10.0)


def test_the_light_outlives_its_client(any_lab):
    laser = any_lab.laser().open()
    laser.set_power_mw(5.0)
    laser.emit(laser.arm("test", 10.0))
    laser._close()  # as the end of a process closes a port
    time.sleep(0.1)
    assert any_lab.head.shining
    with any_lab.laser():
        assert not any_lab.head.shining


def test_nothing_but_darkness_is_said_before_it_is_known_who_it_is(any_lab):
    with any_lab.laser():
        pass
    heard = any_lab.head.logbook.texts
    assert any_lab.off in heard[:3]
    assert not any(text == "cf" or "RST" in text or "CLE" in text.upper() for text in heard)


@pytest.mark.parametrize("noise", [b"\xff\xfe", b"1\r\n", b"OK\r\n0\r\nOK\r\n"])
@pytest.mark.parametrize("cable", _ONE_OF_EACH, ids=", ".join)
def test_noise_between_answers_is_noticed_and_got_rid_of(lab_of, cable, noise):
    lab = lab_of(*cable)
    with lab.laser() as laser:
        truth = laser.status
        lab.server.interject(noise)
        time.sleep(0.05)
        with pytest.raises(DeviceLostError):
            for _ in range(2):
                assert laser.status == truth
        assert laser.status == truth


@pytest.mark.parametrize("kind", list(Disturbance))
@pytest.mark.parametrize("act", ["emit", "power"])
def test_if_it_is_not_known_what_became_of_the_light_it_goes_off(lab_of, kind, act):
    lab = lab_of("cobolt")
    with lab.laser() as laser:
        laser.set_power_mw(5.0)
        token = laser.arm("test", 10.0)
        if act == "power":
            laser.emit(token)
        # emit() asks for power, five flags and numbers, and the serial number before `@cob1`.
        lab.server.disturb(kind, after=7 if act == "emit" else 0)
        with pytest.raises(DeviceLostError):
            laser.emit(token) if act == "emit" else laser.set_power_mw(6.0)
        assert not lab.head.shining
        assert ("@cob1" in lab.head.logbook.texts) or act == "power"


def test_half_a_command_of_a_killed_client_does_not_keep_it_alight(lab_of):
    for kind in ("cobolt", "obis", "scpi"):
        lab = lab_of(kind)
        lab.head.power_mw = 5.0
        lab.head.turn_on()
        with Path(lab.server.port).open("wb", buffering=0) as port:
            port.write(b"p 0.01")
        with lab.laser():
            assert not lab.head.shining


def test_threads_may_share_a_laser(any_lab):
    with any_lab.laser() as laser:
        laser.set_power_mw(5.0)
        failures = []

        def watch():
            try:
                for _ in range(20):
                    laser.check()
            except DeviceError as error:
                failures.append(error)

        watchers = [threading.Thread(target=watch) for _ in range(3)]
        for watcher in watchers:
            watcher.start()
        for _ in range(10):
            with laser.emission("test", 10.0):
                pass
        for watcher in watchers:
            watcher.join()
        assert failures == []
        assert not any_lab.head.shining
