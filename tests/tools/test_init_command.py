import itertools
import re
import tomllib
from dataclasses import replace

import pytest

from opu_driver import open_bench, simulated_bench
from opu_driver.bench_file import build_bench, parse_bench, read_bench_file
from opu_driver.camera import Trigger
from opu_driver.device import Found, Identity
from opu_driver.errors import BenchFileError
from opu_driver.registry import OWN, Kind
from opu_driver.virtual.settings import Faults, SceneSettings
from tools.bench_template import START, device_section, found_template, simulated_template
from tools.devices import DriverState


@pytest.mark.parametrize("preset", ["ideal", "quiet", "realistic", "rough"])
def test_the_file_is_the_preset(opu, tmp_path, preset):
    assert opu("init", f"--preset={preset}", "--out=b.toml").code == 0
    with open_bench(tmp_path / "b.toml") as bench, simulated_bench(preset) as expected:
        assert bench.settings == expected.settings
        assert bench.identities == expected.identities


@pytest.mark.parametrize("preset", ["ideal", "quiet", "realistic", "rough"])
def test_the_defaults_in_its_comments_are_the_defaults(preset):
    setting = re.compile(r"(?:# )?(\[[\w.]+\]|\w+ = \S.*)")
    lines = (setting.fullmatch(line) for line in simulated_template(preset).splitlines())
    everything = tomllib.loads("\n".join(line.group(1) for line in lines if line))
    build_bench(parse_bench(everything))
    named = set(everything["scene"]) - {"preset", "seed"}
    assert named == set(SceneSettings.model_fields)
    assert set(everything["scene"]["faults"]) | {"interlock_opens_at", "camera_lost_at"} == set(
        Faults.model_fields
    )


def test_it_shows_how_to_write_a_region():
    text = simulated_template("realistic").replace("# region is not set; for example, ", "")
    assert parse_bench(tomllib.loads(text)).camera.region.width == 128


def test_every_setting_is_explained():
    lines = simulated_template("realistic").splitlines()
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


@pytest.mark.parametrize(
    ("kind", "name"), [(kind, name) for kind in Kind for name in OWN[kind]], ids=str
)
def test_every_setting_of_every_driver_is_explained(kind, name):
    lines = list(device_section(kind, name, START[kind.value]))
    setting = re.compile(r"(# )?\w+ = ")
    for above, line in itertools.pairwise(lines):
        if setting.match(line) and not line.startswith("driver"):
            assert above.startswith("# "), line


ALP = DriverState(
    Kind.MODULATOR,
    "alp",
    ready=True,
    searched=True,
    found=(Found(Identity("ViALUX", "ALP DLP7000", "4711"), {"serial": 4711}),),
)
DESKTOP = Found(Identity("Dell", "U2720", "1"), {"screen": "eDP-1"}, "the desktop's own monitor")
SLM = Found(Identity("Holoeye", "Pluto", "2"), {"screen": "HDMI-2"})
DISPLAY = DriverState(
    Kind.MODULATOR,
    "display",
    ready=True,
    searched=True,
    found=(DESKTOP, SLM),
    required=("screen", "pitch_um"),
)
PYLON = DriverState(
    Kind.CAMERA,
    "pylon",
    ready=True,
    searched=True,
    found=(
        Found(Identity("Basler", "acA2040", "21"), {"serial": "21"}),
        Found(Identity("Basler", "acA1300", "22"), {"serial": "22"}),
    ),
)
WEBCAM = DriverState(
    Kind.CAMERA,
    "opencv",
    ready=True,
    searched=True,
    found=(Found(Identity("V4L2", "webcam", "0"), {"source": 0}),),
    required=("source", "pitch_um"),
)
COBOLT = DriverState(
    Kind.LASER,
    "cobolt",
    ready=True,
    searched=True,
    found=(Found(Identity("Cobolt", "0532-06", "7"), {"port": "COM3"}),),
)
OBIS = DriverState(Kind.LASER, "obis", ready=False, remedy="Install it.")
SCPI = DriverState(Kind.LASER, "scpi", ready=True, required=("resource", "wavelength_nm"))


@pytest.fixture
def init(opu, tmp_path, monkeypatch):
    """Run `opu init` beside devices; how it ended, and the file."""

    def run(*states):
        monkeypatch.setattr("tools.devices.driver_states", lambda: list(states))
        ending = opu("init")
        assert ending.code == 0
        return " ".join(ending.out.split()), tmp_path / "bench.toml"

    return run


def filled_in(path, **values):
    """The bench of a file in which somebody has done what its marks say."""
    text = path.read_text()
    for name, value in values.items():
        text, changed = re.subn(
            rf"^# {name} = \?.*FILL IN.*$", f"{name} = {value}", text, flags=re.M
        )
        assert changed
    return build_bench(parse_bench(tomllib.loads(text)))


def test_connected_devices_become_a_bench_file(init):
    told, path = init(ALP, PYLON, COBOLT)
    content = tomllib.loads(path.read_text())
    assert content["modulator"] == {"driver": "alp", "serial": 4711}
    assert content["camera"] == {"driver": "pylon", "exposure_us": 100.0, "serial": "21"}
    assert content["laser"] == {"driver": "cobolt", "power_mw": 1.0, "port": "COM3"}
    assert "# Found too: pylon, Basler acA1300 #22" in path.read_text()
    bench = build_bench(read_bench_file(path))
    assert bench.camera.address == "pylon 21"
    assert bench.laser.address.endswith("COM3")
    assert "FILL IN" not in told + path.read_text()


def test_what_nobody_can_know_is_left_to_fill_in_and_named(init):
    told, path = init(replace(DISPLAY, found=(SLM,)), WEBCAM, COBOLT)
    assert "modulator.pitch_um: Distance between neighbouring mirrors or pixels" in told
    assert "camera.pitch_um: Distance between neighbouring pixels" in told
    assert "modulator.screen" not in told
    with pytest.raises(BenchFileError, match=r"modulator\.pitch_um is missing"):
        build_bench(read_bench_file(path))
    assert path.read_text().count("# pitch_um = ?  # FILL IN") == 2
    bench = filled_in(path, pitch_um=8.0)
    assert bench.modulator.pitch_um == bench.camera.pitch_um == 8.0


@pytest.mark.parametrize(
    ("modulator", "camera", "trigger"),
    [
        (replace(DISPLAY, found=(SLM,)), PYLON, Trigger.SOFTWARE),
        (ALP, WEBCAM, Trigger.SOFTWARE),
        (ALP, PYLON, Trigger.HARDWARE),
    ],
    ids=["monitor", "webcam", "line"],
)
def test_devices_without_a_trigger_line_are_stepped(init, modulator, camera, trigger):
    _, path = init(modulator, camera, COBOLT)
    assert read_bench_file(path).camera.trigger is trigger


def test_the_desktops_own_monitor_is_not_taken_and_told(init):
    told, path = init(DISPLAY, PYLON, COBOLT)
    assert tomllib.loads(path.read_text())["modulator"]["screen"] == "HDMI-2"
    assert "modulator: display, Holoeye Pluto #2 (screen = 'HDMI-2')" in told
    assert "Not taken: display, Dell U2720 #1 (screen = 'eDP-1'), the desktop's own" in told
    assert "# Found, but not taken: display, Dell U2720 #1" in path.read_text()


def test_a_desktop_alone_is_no_modulator(init):
    told, path = init(replace(DISPLAY, found=(DESKTOP,)), PYLON, COBOLT)
    assert "modulator" not in tomllib.loads(path.read_text())
    assert "[modulator]: no modulator was found" in told


@pytest.mark.parametrize("missing", list(Kind))
def test_a_kind_that_is_missing_is_a_section_to_fill_in_and_nothing_is_simulated(init, missing):
    states = [ALP, DISPLAY, PYLON, WEBCAM, COBOLT, OBIS, SCPI]
    states = [replace(state, found=()) if state.kind is missing else state for state in states]
    told, path = init(*states)
    text = path.read_text()
    assert set(tomllib.loads(text)) == {"name", *Kind} - {missing}
    assert "virtual" not in text
    assert "[scene]" not in text
    assert f"[{missing}]: no {missing} was found" in told
    assert "docs/devices.md" in told
    with pytest.raises(BenchFileError, match=f"{missing.value} is missing"):
        read_bench_file(path)
    for state in states:
        assert (f"#   {state.name}" in text) == (state.kind is missing)


def test_a_laser_that_is_never_searched_for_is_filled_in(init):
    _, path = init(ALP, PYLON, replace(COBOLT, found=()), OBIS, SCPI)
    text = path.read_text()
    assert "#   scpi (not searched for; needs resource, wavelength_nm)" in text
    assert "#   obis (not installed yet" in text
    start = text.index("# [laser]")
    section = re.sub("(?m)^# ", "", text[start:])
    section = section.replace("driver = ?", 'driver = "cobolt"\nport = "COM4"')
    bench = build_bench(parse_bench(tomllib.loads(text[:start] + section)))
    assert bench.laser.address.endswith("COM4")


@pytest.mark.parametrize("found", [(), (DESKTOP,)], ids=["nothing", "a desktop"])
def test_without_any_device_it_is_the_simulated_bench_and_says_so(init, found):
    told, path = init(replace(DISPLAY, found=found), replace(PYLON, found=()), SCPI)
    assert "No device was found" in told
    assert path.read_text() == simulated_template("realistic")


def test_the_first_driver_that_finds_a_device_has_it():
    template = found_template([ALP, PYLON, WEBCAM, COBOLT])
    assert [name for name, _ in template.taken.values()] == ["alp", "pylon", "cobolt"]
    assert not template.left
