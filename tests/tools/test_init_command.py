import itertools
import re
import tomllib

import pytest

from opu_driver import open_bench, simulated_bench
from opu_driver.bench_file import build_bench, parse_bench
from opu_driver.device import Found, Identity
from opu_driver.registry import OWN, Kind
from opu_driver.virtual.settings import Faults, SceneSettings
from tools.init import _START, _device, bench_template, found_template


@pytest.mark.parametrize("preset", ["ideal", "quiet", "realistic", "rough"])
def test_the_file_is_the_preset(opu, tmp_path, preset):
    assert opu("init", f"--preset={preset}", "--out=b.toml").code == 0
    with open_bench(tmp_path / "b.toml") as bench, simulated_bench(preset) as expected:
        assert bench.settings == expected.settings
        assert bench.identities == expected.identities


@pytest.mark.parametrize("preset", ["ideal", "quiet", "realistic", "rough"])
def test_the_defaults_in_its_comments_are_the_defaults(preset):
    setting = re.compile(r"(?:# )?(\[[\w.]+\]|\w+ = \S.*)")
    lines = (setting.fullmatch(line) for line in bench_template(preset).splitlines())
    everything = tomllib.loads("\n".join(line.group(1) for line in lines if line))
    build_bench(parse_bench(everything))
    named = set(everything["scene"]) - {"preset", "seed"}
    assert named == set(SceneSettings.model_fields)
    assert set(everything["scene"]["faults"]) | {"interlock_opens_at", "camera_lost_at"} == set(
        Faults.model_fields
    )


def test_every_setting_is_explained():
    lines = bench_template("realistic").splitlines()
    for above, line in itertools.pairwise(lines):
        if " = " in line and not line.startswith(("driver", "name", "preset", "seed")):
            assert above.startswith("# "), line


def test_nothing_is_overwritten_and_unknown_presets_are_refused(opu, tmp_path):
    (tmp_path / "bench.toml").write_text("mine")
    assert opu("init").code == 2
    assert (tmp_path / "bench.toml").read_text() == "mine"
    ending = opu("init", "--preset=silent", "--out=b.toml")
    assert ending.code == 2
    assert "realistic" in ending.err
    assert not (tmp_path / "b.toml").exists()


FOUND = {
    "modulator": [("alp", Found(Identity("ViALUX", "ALP DLP7000", "4711"), {"serial": 4711}))],
    "camera": [
        ("pylon", Found(Identity("Basler", "acA2040", "21"), {"serial": "21"})),
        ("pylon", Found(Identity("Basler", "acA1300", "22"), {"serial": "22"})),
    ],
    "laser": [("cobolt", Found(Identity("Cobolt", "0532-06", "7"), {"port": "COM3"}))],
}


def test_connected_devices_become_a_bench_file():
    text = found_template(FOUND)
    content = tomllib.loads(text)
    assert content["modulator"] == {"driver": "alp", "serial": 4711}
    assert content["camera"]["serial"] == "21"
    assert content["laser"]["port"] == "COM3"
    assert content["laser"]["power_mw"] == 1.0
    assert "# Found too: pylon, Basler acA1300 #22" in text
    bench = build_bench(parse_bench(content))
    assert bench.camera.address == "pylon 21"
    assert bench.laser.address.endswith("COM3")


@pytest.mark.parametrize(("missing", "told"), [("laser", "No laser"), ("camera", "No camera")])
def test_without_a_whole_bench_it_is_the_simulated_one_and_says_so(
    opu, tmp_path, monkeypatch, missing, told
):
    found = {kind: devices for kind, devices in FOUND.items() if kind != missing}
    monkeypatch.setattr("tools.init._connected", lambda: found)
    ending = opu("init")
    assert ending.code == 0
    assert told in ending.out
    assert "virtual-dmd" in (tmp_path / "bench.toml").read_text()


def test_a_whole_bench_that_is_connected_is_written(opu, tmp_path, monkeypatch):
    monkeypatch.setattr("tools.init._connected", lambda: FOUND)
    assert opu("init").code == 0
    assert tomllib.loads((tmp_path / "bench.toml").read_text())["camera"]["driver"] == "pylon"


@pytest.mark.parametrize(
    ("kind", "name"), [(kind, name) for kind in Kind for name in OWN[kind]], ids=str
)
def test_every_setting_of_every_driver_is_explained(kind, name):
    lines = list(_device(kind, name, _START[kind.value]))
    setting = re.compile(r"(# )?\w+ = ")
    for above, line in itertools.pairwise(lines):
        if setting.match(line) and not line.startswith("driver"):
            assert above.startswith("# "), line
