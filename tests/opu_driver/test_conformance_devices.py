"""Every real driver passes the suite that every device must pass, each on its emulator.

Drivers are taken three at a time, a modulator, a camera and a laser, so that one run of the suite
is enough for all three. No light goes from one to the other: that is the emulated bench's business.
"""

import json
import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from opu_driver.emulators.aravis import FakeGigECamera
from opu_driver.emulators.scpi import BENCH_KEYS
from opu_driver.emulators.screens import EmulatedScreens
from opu_driver.errors import DriverMissingError

SUITE = ("test_modulator", "test_camera", "test_laser", "test_device")

ALP_LIBRARY = """
from pathlib import Path
from opu_driver.emulators.alp import EmulatedALP

emulated = EmulatedALP((16, 64))
Path("libalp43.so").symlink_to(emulated.library)
"""

DLPC900_BOARD = """
from opu_driver.emulators.dlpc900 import EmulatedDLPC900

installed = EmulatedDLPC900().installed()
installed.__enter__()
"""

SIMULATED_LASER = r"""
spec: "1.1"
devices:
  laser:
    eom:
      ASRL INSTR:
        q: "\n"
        r: "\n"
    error: "ERROR"
    dialogues:
      - q: "*IDN?"
        r: "simulated,laser,12,3.4"
    properties:
      power:
        default: 1.0
        getter:
          q: "P?"
          r: "{:.3f}"
        setter:
          q: "P {}"
          r: "OK"
          e: "NO"
        specs:
          min: 0.0
          max: 50.0
          type: float
      emission:
        default: 0
        getter:
          q: "L?"
          r: "{:d}"
        setter:
          q: "L {}"
          r: "OK"
        specs:
          type: int
resources:
  ASRL1::INSTR:
    device: laser
"""

ALP = """
[modulator]
driver = "alp"
"""


def needs(module, extra):
    return pytest.mark.skipif(
        find_spec(module) is None, reason=f"{module} is not installed: pip install 'opu[{extra}]'"
    )


needs_compiler = pytest.mark.skipif(
    not any(map(shutil.which, ("cc", "gcc", "clang"))),
    reason="the emulated ALP library is compiled here, and there is no C compiler",
)


@pytest.fixture
def passes(conforms, tmp_path):
    """Run the modules of single devices on a bench; returns what pytest told."""

    def run(*sections, plugins=None, environment=None, only=SUITE):
        for name, content in (plugins or {}).items():
            (tmp_path / f"{name}.py").write_text(content)
        first, *others = only
        return conforms(
            "\n".join(sections),
            first,
            plugins=tuple(plugins or ()),
            environment={"XDG_STATE_HOME": str(tmp_path), **(environment or {})},  # audit logs
            also=[f"opu_driver.conformance.{module}" for module in others],
        )

    return run


@pytest.fixture
def emulated_laser():
    """Start the emulator of a laser in a process of its own; returns the port to open."""
    started = []

    def start(kind, *options):
        process = subprocess.Popen(
            [sys.executable, "-m", f"opu_driver.emulators.{kind}", *options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process.stdout.readline().strip()

    yield start
    for process in started:
        process.communicate("quit\n", timeout=20)


@pytest.fixture
def alp_library(tmp_path):
    """The plugin and the environment with which ViALUX's library is found by its usual name."""
    return {
        "plugins": {"alp_library": ALP_LIBRARY},
        "environment": {"LD_LIBRARY_PATH": str(tmp_path)},
    }


def assert_skipped_no_more_than(told, *reasons):
    """The suite skips what a device does not have: nothing but that."""
    skipped = [line for line in told.splitlines() if line.startswith("SKIPPED")]
    assert [line for line in skipped if not any(reason in line for reason in reasons)] == []


@needs_compiler
@needs("pypylon", "pylon")
@needs("serial", "serial")
def test_alp_pylon_and_obis(passes, emulated_laser, alp_library):
    port = emulated_laser("obis", "--delay-s", "0.3", "--warm-up-s", "0.2")
    alp_library["environment"]["PYLON_CAMEMU"] = "1"
    told = passes(
        ALP,
        f"""
        [camera]
        driver = "pylon"
        pitch_um = 2.2
        exposure_us = 1000.0
        region = {{ row = 16, column = 16, height = 32, width = 48 }}

        [laser]
        driver = "obis"
        port = "{port}"
        power_mw = 20.0
        """,
        **alp_library,
    )
    assert_skipped_no_more_than(told, "this modulator has a trigger input")


@needs("harvesters", "genicam")
@needs("pyvisa_py", "visa")
def test_dlpc900_genicam_and_scpi(passes, emulated_laser):
    host, port = emulated_laser("scpi", "--port", "tcp").removeprefix("socket://").split(":")
    table = "\n".join(f"{key} = {json.dumps(value)}" for key, value in BENCH_KEYS.items())
    told = passes(
        f"""
        [modulator]
        driver = "dlpc900"

        [camera]
        driver = "genicam"
        serial = "1"
        pitch_um = 5.0
        trigger = "free"
        exposure_us = 5000.0
        region = {{ row = 0, column = 0, height = 100, width = 128 }}

        [laser]
        driver = "scpi"
        resource = "TCPIP::{host}::{port}::SOCKET"
        wavelength_nm = 532.0
        max_power_mw = 100.0
        power_mw = 20.0
        """,
        table,
        plugins={"dlpc900_board": DLPC900_BOARD},
        environment={"GENICAM_GENTL64_PATH": str(Path(find_spec("genicam").origin).parent)},
    )
    assert_skipped_no_more_than(told, "this modulator has", "this camera runs freely")


@needs("PySide6", "gui")
@needs("cv2", "opencv")
@needs("pyvisa_sim", "test")
def test_display_opencv_and_a_simulated_scpi_laser(passes, tmp_path):
    (tmp_path / "laser.yaml").write_text(SIMULATED_LASER)
    record(tmp_path / "film.mkv", 400)
    try:
        screens = EmulatedScreens({"desk": (64, 96), "slm": (48, 64)})
    except DriverMissingError as error:
        pytest.skip(str(error))
    with screens:
        told = passes(
            f"""
            [modulator]
            driver = "display"
            screen = "slm"
            pitch_um = 8.0
            latency_frames = 1
            capacity = 16

            [camera]
            driver = "opencv"
            source = "film.mkv"
            pitch_um = 3.0
            fixed_exposure_us = 1000.0
            trigger = "software"
            exposure_us = 1000.0

            [laser]
            driver = "scpi"
            backend = "{(tmp_path / "laser.yaml").as_posix()}@sim"
            resource = "ASRL1::INSTR"
            wavelength_nm = 633.0
            max_power_mw = 50.0
            set_power = "P {{:.3f}}"
            ask_power = "P?"
            emission_on = "L 1"
            emission_off = "L 0"
            ask_emission = "L?"
            emitting_if = "1"
            acknowledgement = "OK"
            power_mw = 20.0
            """,
            environment={"DISPLAY": screens.display, "QT_QPA_PLATFORM": "xcb"},
        )
    assert_skipped_no_more_than(told, "this modulator has one buffer")


@needs_compiler
@needs("gi", "aravis")
@needs("serial", "serial")
def test_alp_aravis_and_cobolt(passes, emulated_laser, alp_library, gige_port):
    port = emulated_laser("cobolt", "--warm-up-s", "0.2")
    serial = f"SUITE{os.getpid()}"
    try:
        camera = FakeGigECamera(serial)
    except DriverMissingError as error:
        pytest.skip(str(error))
    with camera:
        told = passes(
            ALP,
            f"""
            [camera]
            driver = "aravis"
            serial = "{serial}"
            trigger_source = "Line0"
            pitch_um = 5.5
            trigger = "software"
            exposure_us = 1000.0
            region = {{ row = 0, column = 0, height = 64, width = 64 }}

            [laser]
            driver = "cobolt"
            port = "{port}"
            power_mw = 20.0
            """,
            **alp_library,
        )
    assert_skipped_no_more_than(told, "this modulator has a trigger input")


@needs_compiler
@needs("pymmcore_plus", "micromanager")
@needs("mm_test_adapters", "test")
def test_alp_and_micromanager(passes, alp_library):
    adapters = Path(find_spec("mm_test_adapters").origin).parent / "libs"
    told = passes(
        ALP,
        f"""
        [camera]
        driver = "micromanager"
        configuration = "MMConfig_demo.cfg"
        adapters = "{adapters.as_posix()}"
        pitch_um = 6.5
        properties = {{ PixelType = "8bit" }}
        trigger = "software"
        exposure_us = 1000.0

        [laser]
        driver = "virtual"
        power_mw = 10.0

        [scene]
        """,
        only=("test_camera", "test_device"),
        **alp_library,
    )
    assert_skipped_no_more_than(told)


def record(path, frames):
    """A lossless video of random grey frames."""
    cv2 = pytest.importorskip("cv2")
    codec = cv2.VideoWriter_fourcc(*"FFV1")
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, codec, 30.0, (64, 48), isColor=False)
    for frame in np.random.default_rng(0).integers(0, 256, (frames, 48, 64), np.uint8):
        writer.write(frame)
    writer.release()
