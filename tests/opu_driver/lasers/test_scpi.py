"""The laser that a table in the bench file describes."""

import pytest

from opu_driver.driver_options import build_device
from opu_driver.emulators.scpi import BENCH_KEYS
from opu_driver.errors import (
    BenchFileError,
    DeviceError,
    DeviceNotFoundError,
    DriverMissingError,
    SettingError,
)
from opu_driver.lasers.scpi import Scpi
from opu_driver.registry import OWN, Kind, OwnDriver

_TABLE = {"wavelength_nm": 532.0, "max_power_mw": 100.0, **BENCH_KEYS}
_NOWHERE = "TCPIP::127.0.0.1::9::SOCKET"

_SIMULATED = """
spec: "1.1"
devices:
  laser:
    eom:
      ASRL INSTR:
        q: "\\n"
        r: "\\n"
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


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"set_power": "SOUR:POW"}, "set_power"),
        ({"set_power": "SOUR:POW {} {}"}, "set_power"),
        ({"set_power": "SOUR:POW {power}"}, "set_power"),
        ({"set_power": "SOUR:POW {:d}"}, "set_power"),
        ({"ask_power": " "}, "ask_power"),
        ({"emission_off": ""}, "emission_off"),
        ({"ask_emission": "", "emitting_if": ""}, "ask_emission"),
        ({"emitting_if": ""}, "emitting_if"),
        ({"ask_interlock": ""}, "interlock_closed_if is given without ask_interlock"),
        ({"key_on_if": ""}, "ask_key is given without key_on_if"),
        ({"warm_if": "bit warm"}, "warm_if"),
        ({"max_power_mw": 0.0}, "max_power_mw"),
        ({"min_power_mw": 100.0}, "min_power_mw"),
        ({"power_step_mw": 0.0}, "power_step_mw"),
        ({"wavelength_nm": float("nan")}, "wavelength_nm"),
        ({"timeout_ms": 0.0}, "timeout_ms"),
    ],
    ids=str,
)
def test_a_table_that_does_not_fit_is_refused_by_key(change, told):
    with pytest.raises(SettingError, match=told):
        Scpi(_NOWHERE, **_TABLE | change)


def test_a_bench_file_holds_the_table(monkeypatch):
    driver = OwnDriver("opu_driver.lasers.scpi:Scpi", "visa")
    monkeypatch.setitem(OWN[Kind.LASER], "scpi", driver)
    options = _TABLE | {"resource": _NOWHERE, "prepare": ["MODE CW"]}
    laser = build_device(Kind.LASER, "scpi", options)
    assert laser.address == f"visa {_NOWHERE}"
    with pytest.raises(BenchFileError, match="power_unit = 'kW'"):
        build_device(Kind.LASER, "scpi", options | {"power_unit": "kW"})
    with pytest.raises(BenchFileError, match="ask_colour"):
        build_device(Kind.LASER, "scpi", options | {"ask_colour": "COL?"})


def test_a_command_that_the_laser_refuses_is_told_in_its_words(lab_of):
    lab = lab_of("scpi", "tcp")
    with lab.laser() as laser:
        lab.emulator._orders["SOURce:POWer"] = lambda _: '-221,"Settings conflict"'
        with pytest.raises(DeviceError, match="Settings conflict"):
            laser.set_power_mw(5.0)


def test_a_power_in_the_wrong_unit_is_noticed(lab_of):
    lab = lab_of("scpi", "tcp")
    host, port = lab.server.port.removeprefix("socket://").split(":")
    resource = f"TCPIP::{host}::{port}::SOCKET"
    with (
        Scpi(resource, **_TABLE | {"set_power": "SOUR:POW {:.0f}"}) as laser,
        pytest.raises(DeviceError, match="power_step_mw"),
    ):
        laser.set_power_mw(20.0)


def test_a_resource_that_is_not_there_or_cannot_be_is_told():
    pytest.importorskip("pyvisa_py", reason="not installed: pip install 'opu[visa]'")
    for resource in ("ASRL/dev/no-such-port::INSTR", _NOWHERE, "nonsense"):
        with pytest.raises(DeviceNotFoundError, match=resource):
            Scpi(resource, **_TABLE, timeout_ms=100.0).open()
    with pytest.raises(DeviceError, match="backend = '@nothing'"):
        Scpi(_NOWHERE, **_TABLE, backend="@nothing").open()


def test_a_missing_library_is_named_with_its_install_line(monkeypatch):
    def missing(module, extra):
        raise DriverMissingError(f"{module}: pip install 'opu[{extra}]'")

    monkeypatch.setattr("opu_driver.lasers.visa_line.vendor_library", missing)
    with pytest.raises(DriverMissingError, match=r"opu\[visa\]"):
        Scpi(_NOWHERE, **_TABLE).open()


def test_a_laser_of_pyvisa_sim_that_acknowledges_its_commands(tmp_path):
    pytest.importorskip("pyvisa_sim", reason="pyvisa-sim is not installed")
    (tmp_path / "laser.yaml").write_text(_SIMULATED)
    laser = Scpi(
        "ASRL1::INSTR",
        wavelength_nm=633.0,
        max_power_mw=50.0,
        set_power="P {:.1f}",
        ask_power="P?",
        emission_on="L 1",
        emission_off="L 0",
        ask_emission="L?",
        emitting_if="1",
        acknowledgement="OK",
        backend=f"{tmp_path / 'laser.yaml'}@sim",
    )
    with laser:
        assert laser.identity.serial == "12"
        assert laser.set_power_mw(20.0) == 20.0
        with laser.emission("test", 20.0):
            assert laser.status.emitting
        assert not laser.emitting
