"""Light ends within a second of whatever happens to its owner, by the emulated laser's own log.

Times are `time.monotonic()`, which all processes of one machine share.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from opu_driver.errors import DeviceError, DeviceLostError, LaserSafetyError
from opu_driver.guarded_laser import GuardedLaser

pytest.importorskip("serial", reason="pyserial is not installed: pip install 'opu[serial]'")

LIMIT_S = 1.0
POSIX = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signal")


@pytest.fixture
def guarded(cobolt, tmp_path):
    return GuardedLaser("cobolt", {"port": cobolt.port}, tmp_path / "audit.jsonl")


OWNER = """
import asyncio, os, signal, sys, time
from pathlib import Path
from opu_driver.guarded_laser import GuardedLaser

laser = GuardedLaser("cobolt", {"port": sys.argv[1]}, Path(sys.argv[2]))
with laser:
    laser.set_power_mw(5.0)
    with laser.emission("owner", 10.0):
        print("emitting", flush=True)
        exec(sys.argv[3])
"""


@pytest.fixture
def owner(cobolt, tmp_path):
    """Start a process that emits and then does something; wait until there is light."""
    started = []

    # Short sleeps: a signal that comes just before a system call does not end it.
    def start(then="while True: time.sleep(0.05)"):
        process = subprocess.Popen(
            [sys.executable, "-c", OWNER, cobolt.port, tmp_path / "audit.jsonl", then],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **({} if sys.platform == "win32" else {"start_new_session": True}),
        )
        started.append(process)
        assert process.stdout.readline() == "emitting\n", process.stderr.read()
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def assert_dark_in_time(cobolt, begin_s):
    cobolt.wait_until(lit=False)
    (emission,) = cobolt.emissions
    assert emission.end_s - begin_s < LIMIT_S


@pytest.mark.parametrize("after_s", [0.0, 0.02, 0.1, 0.17, 0.5])
def test_it_is_dark_after_its_owner_was_killed(cobolt, owner, after_s):
    process = owner()
    time.sleep(after_s)
    process.kill()
    assert_dark_in_time(cobolt, time.monotonic())


@POSIX
@pytest.mark.parametrize("number", ["SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGSEGV"])
def test_it_is_dark_after_any_signal_that_ends_its_owner(cobolt, owner, number):
    process = owner()
    os.killpg(process.pid, getattr(signal, number))  # as a terminal does: to the whole group
    assert_dark_in_time(cobolt, time.monotonic())


@POSIX
def test_it_is_dark_while_its_owner_hangs_and_says_so_afterwards(cobolt, owner):
    process = owner(
        """
time.sleep(2.5)
try:
    laser.emit(laser._token)
except Exception as error:
    print(type(error).__name__, error, flush=True)
"""
    )
    process.send_signal(signal.SIGSTOP)
    assert_dark_in_time(cobolt, time.monotonic())
    process.send_signal(signal.SIGCONT)
    told = process.stdout.readline()
    assert told.startswith("LaserSafetyError")
    assert "silent" in told
    assert len(cobolt.emissions) == 1


@pytest.mark.parametrize(
    "end",
    [
        "sys.exit(3)",
        "os._exit(3)",
        "raise RuntimeError('on purpose')",
        "os.abort()",
    ],
)
def test_it_is_dark_however_its_owner_ends(cobolt, owner, end):
    process = owner(end)
    process.wait(timeout=20)
    assert_dark_in_time(cobolt, time.monotonic())


@POSIX
def test_it_is_dark_after_its_guardian_was_killed(cobolt, guarded):
    with pytest.raises(DeviceLostError, match="has been darkened"), guarded:
        guarded.set_power_mw(5.0)
        guarded.emit(guarded.arm("test", 10.0))
        cobolt.wait_until(lit=True)
        guarded._guardian.kill()
        began = time.monotonic()
        cobolt.wait_until(lit=False)
        assert cobolt.emissions[0].end_s - began < LIMIT_S
        guarded.set_power_mw(5.0)
    with guarded:
        assert guarded.set_power_mw(4.0) == 4.0


@pytest.mark.parametrize(
    ("act", "told"), [("interlock open", "interlock"), ("key off", "key"), ("fault 1", "temp")]
)
def test_what_a_hand_does_ends_the_emission_and_is_told(cobolt, guarded, act, told):
    with guarded:
        guarded.set_power_mw(5.0)
        token = guarded.arm("test", 10.0)
        guarded.emit(token)
        cobolt.wait_until(lit=True)
        assert cobolt.by_hand(act) == "ok"
        began = time.monotonic()
        cobolt.wait_until(lit=False)
        assert cobolt.emissions[0].end_s - began < LIMIT_S
        with pytest.raises(LaserSafetyError, match=told):
            guarded.emit(token)
    assert len(cobolt.emissions) == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no full device here")
def test_it_is_dark_after_its_owners_death_also_when_the_log_cannot_be_written(
    cobolt, owner, tmp_path
):
    process = owner()
    log = tmp_path / "audit.jsonl"
    log.unlink()
    log.symlink_to("/dev/full")
    process.kill()
    assert_dark_in_time(cobolt, time.monotonic())


def test_a_log_that_cannot_be_written_is_refused_before_any_light(cobolt, tmp_path):
    (tmp_path / "file").write_text("no folder")
    laser = GuardedLaser("cobolt", {"port": cobolt.port}, tmp_path / "file" / "audit.jsonl")
    with pytest.raises(DeviceError, match="audit log"), laser:
        pass


def test_it_goes_dark_when_it_is_plugged_in_again_after_its_owners_death(cobolt, owner):
    process = owner()
    cobolt.by_hand("unplug")
    process.kill()
    time.sleep(1.5)
    assert cobolt.by_hand("output") != "0"  # nobody can reach it
    cobolt.by_hand("plug in")
    cobolt.wait_until(lit=False, timeout_s=5.0)


def test_an_interrupt_while_it_waits_for_an_answer_leaves_the_next_ones_right(guarded, mocker):
    with guarded:
        guarded.set_power_mw(5.0)
        mocker.patch("opu_driver.guarded_laser.json.loads", side_effect=KeyboardInterrupt)
        with pytest.raises(KeyboardInterrupt):
            guarded._ask("get_power")
        mocker.stopall()
        guarded._send({"do": "get_power", "number": -1})  # an answer that nobody waits for
        assert not guarded.status.emitting
        assert guarded.power_mw == 5.0


def test_the_ceiling_holds_in_the_guardian_too(cobolt, guarded):
    with guarded:
        guarded.set_power_mw(20.0)
        guarded._ask("arm", ceiling_mw=10.0)
        with pytest.raises(LaserSafetyError, match="armed up to 10 mW"):
            guarded._ask("emit")
        guarded._ask("disarm")
    assert cobolt.emissions == []


def test_a_laser_that_is_unplugged_is_told_and_works_again(cobolt, guarded):
    with pytest.raises(DeviceLostError), guarded:
        guarded.emit(guarded.arm("test", 10.0))
        cobolt.by_hand("unplug")
        guarded.set_power_mw(1.0)
    assert cobolt.by_hand("plug in") == "ok"
    with guarded:
        assert guarded.set_power_mw(3.0) == 3.0
        assert not guarded.emitting


def test_every_command_to_the_light_is_kept_with_its_time(cobolt, guarded, tmp_path):
    with guarded:
        guarded.set_power_mw(5.0)
        with guarded.emission("test", 10.0):
            pass
    lines = [json.loads(line) for line in (tmp_path / "audit.jsonl").read_text().splitlines()]
    assert [line["what"] for line in lines] == [
        "opening",
        "opened, dark",
        "power",
        "armed",
        "emission on",
        "emission off",
        "disarmed, dark",
        "emission off",
        "disarmed, dark",
        "closed, dark",
    ]
    assert lines[2]["power_mw"] == 5.0
    times = [line["time"] for line in lines]
    assert times == sorted(times)
    assert {line["laser"] for line in lines[1:]} == {str(guarded.identity)}


def test_the_suite_of_all_lasers_passes_on_a_cobolt(cobolt, conforms):
    told = conforms(
        f"""
        [modulator]
        driver = "virtual-dmd"

        [camera]
        driver = "virtual"
        exposure_us = 100.0

        [laser]
        driver = "cobolt"
        port = "{cobolt.port}"
        power_mw = 10.0

        [scene]
        """,
        "test_laser",
    )
    assert "skipped" not in told
    assert all(emission.end_s is not None for emission in cobolt.emissions)
