import json

import pytest

from opu_driver.device import Found, Identity
from opu_driver.errors import DriverMissingError
from opu_driver.lasers.cobolt import Cobolt
from opu_driver.modulators.display import Display
from opu_driver.registry import Kind, names


@pytest.fixture(autouse=True)
def connected(monkeypatch):
    """One laser; and a driver whose library is missing."""

    def a_laser(cls):
        return [Found(Identity("Cobolt", "0532-06-91-0100-700", "17706"), {"port": "COM3"})]

    def missing(cls):
        raise DriverMissingError("Install it with `pip install 'opu[gui]'`.")

    monkeypatch.setattr(Cobolt, "discover", classmethod(a_laser))
    monkeypatch.setattr(Display, "discover", classmethod(missing))


def test_it_lists_what_is_connected_and_what_to_install(opu, tmp_path):
    ending = opu("devices", "--json=devices.json")
    assert ending.code == 0
    states = {state["name"]: state for state in json.loads((tmp_path / "devices.json").read_text())}
    assert states["cobolt"]["found"][0]["options"] == {"port": "COM3"}
    assert not states["display"]["ready"]
    assert "opu[gui]" in states["display"]["remedy"]
    told = "".join(ending.out.split())
    assert "17706" in told
    assert "opu[gui]" in told


@pytest.mark.parametrize(
    ("name", "where"),
    [("scpi", "resource in [laser]"), ("micromanager", "configuration in [camera]")],
)
def test_drivers_that_are_not_searched_for_say_so_and_where_to_write(opu, tmp_path, name, where):
    ending = opu("devices", "--json=devices.json")
    states = {state["name"]: state for state in json.loads((tmp_path / "devices.json").read_text())}
    assert not states[name]["searched"]
    assert states["cobolt"]["searched"]
    (row,) = [line for line in ending.out.splitlines() if f" {name} " in line]
    assert f"not searched for: write its {where}" in row


def test_it_knows_every_driver_of_a_device(opu, tmp_path):
    opu("devices", "--json=devices.json")
    listed = {
        (state["kind"], state["name"])
        for state in json.loads((tmp_path / "devices.json").read_text())
    }
    assert listed == {
        (kind.value, name)
        for kind in Kind
        for name in names(kind)
        if not name.startswith(("virtual", "recording"))
    }
