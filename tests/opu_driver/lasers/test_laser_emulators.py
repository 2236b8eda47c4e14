"""The emulated lasers themselves: their light, their logbook, and the program."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager

import pytest

from opu_driver.emulators.laser_head import LaserHead
from opu_driver.emulators.logbook import Emission, Light, Logbook
from opu_driver.emulators.scpi_words import find_header
from opu_driver.emulators.text_server import TextServer
from opu_driver.errors import SettingError
from opu_driver.lasers.cobolt import Cobolt


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def test_light_warms_up_from_when_it_begins(clock):
    head = LaserHead(warm_up_s=10.0, delay_s=5.0, clock=clock)
    head.power_mw = 20.0
    assert head.turn_on()
    for now, output in ((100.0, 0.0), (104.9, 0.0), (110.0, 10.0), (115.0, 20.0), (200.0, 20.0)):
        clock.now = now
        assert head.output_mw == pytest.approx(output)
        assert head.warming_up is (now < 115.0)
    head.turn_off()
    assert head.output_mw == 0
    # The beginning is noted as it was, however late somebody looked.
    assert head.logbook.emissions == [Emission(105.0, 200.0, 20.0)]


@pytest.mark.parametrize("how", ["key", "interlock", "fault"])
def test_what_ends_emission_keeps_it_ended(clock, how):
    head = LaserHead(clock=clock)
    head.power_mw = 20.0
    end, mend = {
        "key": (lambda: head.turn_key(False), lambda: head.turn_key(True)),
        "interlock": (head.open_interlock, head.close_interlock),
        "fault": (lambda: head.fail(1), head.clear_fault),
    }[how]
    head.turn_on()
    end()
    assert head.output_mw == 0
    assert not head.turn_on()
    mend()
    assert head.output_mw == 0
    assert head.turn_on()
    assert head.output_mw == 20.0


def test_a_logbook_in_a_file_is_the_same_book(tmp_path):
    book = Logbook(tmp_path / "laser.jsonl")
    book.heard(1.0, "l1")
    book.shone(1.5, 10.0)
    book.shone(2.0, 30.0)
    book.shone(3.0, 0.0)
    book.shone(4.0, 5.0)
    read = Logbook.read(tmp_path / "laser.jsonl")
    assert read.commands == book.commands
    assert read.lights == book.lights
    assert read.texts == ["l1"]
    assert read.emissions == [Emission(1.5, 3.0, 30.0), Emission(4.0, None, 5.0)]


def test_a_line_that_is_still_being_written_is_not_read(tmp_path):
    path = tmp_path / "laser.jsonl"
    book = Logbook(path)
    book.shone(1.5, 10.0)
    with path.open("a") as file:
        file.write(json.dumps({"at_s": 2.0, "power_mw": 0.0})[:10])
    assert Logbook.read(path).lights == [Light(1.5, 10.0)]


def test_scpi_words_may_be_short_or_long():
    known = {"SOURce:POWer:LEVel?": 1, "SOURce:POWer": 2, "*IDN?": 3}
    for said, meant in (
        ("SOUR:POW:LEV?", 1),
        ("source:power:level?", 1),
        (":SOURce:POW", 2),
        ("*idn?", 3),
        ("SOURC:POW", None),
        ("SOUR:POW:LEV", None),
    ):
        assert find_header(said, known) == meant


@pytest.mark.parametrize("port", ["usb", "70000", ""])
def test_a_port_of_another_kind_is_refused(port):
    with pytest.raises(SettingError, match="port"):
        TextServer(object(), port)


@contextmanager
def program(*arguments):
    with subprocess.Popen(
        [sys.executable, "-m", "opu_driver.emulators.cobolt", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        port = process.stdout.readline().strip()

        def do(line):
            process.stdin.write(line + "\n")
            process.stdin.flush()
            return process.stdout.readline().strip()

        yield port, do
        process.stdin.write("quit\n")
        process.stdin.close()
        assert process.wait(10) == 0


@pytest.mark.parametrize("kind", ["pty", "tcp"])
def test_the_program_serves_until_it_is_told_to_quit(tmp_path, kind):
    if kind == "pty" and sys.platform == "win32":
        pytest.skip("this system has no pseudo-terminals")
    log = tmp_path / "laser.jsonl"
    with program("--port", kind, "--log", str(log), "--max-power-mw", "60") as (port, do):
        with Cobolt(port) as laser:
            assert laser.power_limits_mw == (0.0, 60.0)
            laser.set_power_mw(10.0)
            with laser.emission("test", 10.0):
                assert float(do("output")) == pytest.approx(10.0)
                assert do("interlock open") == "ok"
                assert laser.status.interlock_closed is False
            assert do("interlock closed") == "ok"
            assert do("key off") == do("key on") == "ok"
            assert do("disturb silent") == "ok"
            assert do("make tea").startswith("not understood")
        (emission,) = Logbook.read(log).emissions
        assert emission.highest_mw == pytest.approx(10.0)
        assert emission.end_s < time.monotonic()


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system does not kill like that")
def test_a_killed_client_leaves_the_light_on_as_a_real_laser_does(tmp_path):
    log = tmp_path / "laser.jsonl"
    client = (
        "import os, signal, sys\n"
        "from opu_driver.lasers.cobolt import Cobolt\n"
        "laser = Cobolt(sys.argv[1]).open()\n"
        "laser.set_power_mw(10.0)\n"
        "laser.emit(laser.arm('victim', 10.0))\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    with program("--port", "pty", "--log", str(log)) as (port, do):
        killed = subprocess.run([sys.executable, "-c", client, port], check=False, env=os.environ)
        assert killed.returncode == -signal.SIGKILL
        assert float(do("output")) == pytest.approx(10.0)
        assert Logbook.read(log).emissions[-1].end_s is None
        with Cobolt(port):
            assert do("output") == "0"
        assert Logbook.read(log).emissions[-1].end_s is not None
