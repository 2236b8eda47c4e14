"""The conformance suite as a user runs it, and an emulated laser in a process of its own."""

import os
import subprocess
import sys
import textwrap
import time

import pytest
from filelock import FileLock

from opu_driver.emulators.logbook import Logbook


@pytest.fixture(scope="module")
def gige_port(tmp_path_factory):
    """All cameras of that protocol share one port: one of the processes that test has it."""
    with FileLock(tmp_path_factory.getbasetemp().parent / "gige-port.lock", timeout=250):
        yield


@pytest.fixture
def conforms(tmp_path):
    """Run the suite on a bench file, fully: all of it, or the named module; no failure, no error.

    Modules are `test_modulator`, `test_camera`, `test_laser`, `test_bench`, `test_device`.
    """

    def run(bench, module=None, *, plugins=(), environment=None, also=()):
        path = tmp_path / "bench.toml"
        path.write_text(textwrap.dedent(bench), encoding="utf-8")
        suite = "opu_driver.conformance" + (f".{module}" if module else "")
        command = [sys.executable, "-m", "pytest", "--pyargs", suite, "--bench", str(path)]
        command += ["--disturb", "3", "-q", "-rs", "-p", "no:cacheprovider", "-W", "error", *also]
        command += [f"-p{plugin}" for plugin in plugins]
        result = subprocess.run(
            command,
            cwd=tmp_path,
            env={
                **os.environ,
                "PYTEST_ADDOPTS": "",
                "XDG_STATE_HOME": str(tmp_path / "state"),  # the audit log of tests alone
                **(environment or {}),
            },
            capture_output=True,
            text=True,
            timeout=280,
        )
        assert result.returncode == 0, result.stdout[-20_000:] + result.stderr[-4000:]
        return result.stdout

    return run


EMULATED_BENCH = """
name = "emulated"
idle_after_s = {idle_after_s}

[modulator]
driver = "alp"

[camera]
driver = "pylon"
pitch_um = 5.5
exposure_us = 150.0
region = {{ row = 0, column = 0, height = 128, width = 128 }}

[laser]
driver = "cobolt"
port = "{port}"
timeout_ms = {timeout_ms}
power_mw = 5.0

[emulation]
laser_log = "{log}"
preset = "quiet"
black_level = 0.0
seed = 1
"""


class Emulated:
    """A Cobolt laser in a process of its own, which nobody's death but its own ends."""

    def __init__(self, folder, *options):
        self.log = folder / "laser.jsonl"
        self.process = subprocess.Popen(
            [sys.executable, "-m", "opu_driver.emulators.cobolt", "--log", self.log, *options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.port = self.process.stdout.readline().strip()

    def bench_file(self, idle_after_s=10.0, timeout_ms=500.0):
        """The emulated bench that it lights, as `opu emulate` describes it.

        On a machine with more work than processors a process may have to wait for long: what is not
        about a laser that is silent gives it more time (`timeout_ms`).
        """
        return EMULATED_BENCH.format(
            port=self.port,
            log=self.log.as_posix(),
            idle_after_s=idle_after_s,
            timeout_ms=timeout_ms,
        )

    def by_hand(self, act):
        """Do to it what a hand would do; returns what it says."""
        self.process.stdin.write(act + "\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()

    @property
    def emissions(self):
        return Logbook.read(self.log).emissions

    def wait_until(self, lit, timeout_s=20.0):
        deadline = time.monotonic() + timeout_s
        while (self.by_hand("output") != "0") != lit:
            assert time.monotonic() < deadline, Logbook.read(self.log).lights
            time.sleep(0.01)

    def end(self):
        self.process.stdin.write("quit\n")
        self.process.stdin.close()
        self.process.wait(10)
        self.process.stdout.close()


@pytest.fixture(scope="session")
def start_cobolt():
    """Start emulated lasers, each with its logbook in a folder; they end with the session."""
    started = []

    def start(folder):
        started.append(Emulated(folder))
        return started[-1]

    yield start
    for laser in started:
        laser.end()


@pytest.fixture
def cobolt(tmp_path):
    laser = Emulated(tmp_path)
    yield laser
    laser.end()
