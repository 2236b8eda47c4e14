from pathlib import Path

import pytest

from opu_driver import open_bench, simulated_bench
from opu_driver.bench_file import build_bench, parse_bench, read_bench_file
from opu_driver.errors import BenchFileError, DriverMissingError, InputError
from opu_driver.registry import Kind, find, names

GOOD = """
name = "test"
[modulator]
driver = "virtual-dmd"
[camera]
driver = "virtual"
exposure_us = 80.0
pixel_format = "mono10"
[laser]
driver = "virtual"
power_mw = 5.0
[scene]
preset = "quiet"
seed = 3
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "bench.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_bench_file_becomes_a_bench_with_its_settings(tmp_path):
    with open_bench(write(tmp_path, GOOD)) as bench:
        assert bench.name == "test"
        assert bench.settings.exposure_us == 80.0
        assert bench.settings.pixel_format.value == "mono10"
        assert bench.settings.region.shape == bench.camera.sensor_shape
        assert bench.settings.trigger_delay_us == bench.modulator.settling_us
        assert bench.power_mw == pytest.approx(5.0)
        assert not bench.laser.emitting


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ('name = "test"', "nam = 1", "nam = 1: there is no such setting"),
        ("exposure_us = 80.0", "exposure_us = -1", "camera.exposure_us = -1"),
        ("exposure_us = 80.0", 'exposure_us = "long"', "camera.exposure_us = 'long'"),
        ("exposure_us = 80.0", "", "camera.exposure_us is missing"),
        ('"mono10"', '"mono9"', "camera.pixel_format = 'mono9'"),
        (
            "power_mw = 5.0",
            "power_mw = 5.0\ncolour = 3",
            "laser.colour = 3: there is no such setting",
        ),
        ('driver = "virtual-dmd"', 'driver = "virtual-dnd"', "virtual-dmd"),
        ("seed = 3", 'seed = "three"', "seed"),
        ('preset = "quiet"', 'preset = "silent"', "realistic"),
        ("seed = 3", "seed = 3\nread_noise = 1", "scene.read_noise = 1: there is no such setting"),
        ("seed = 3", "seed = 3\nread_noise = 1", "there are: preset, seed, "),
        ("[laser]", "[laser", "no valid TOML"),
    ],
)
def test_what_is_wrong_is_named_with_key_and_value(tmp_path, old, new, told):
    path = write(tmp_path, GOOD.replace(old, new))
    with pytest.raises(BenchFileError) as caught:
        build_bench(read_bench_file(path), origin=str(path))
    assert told in str(caught.value)
    assert str(path) in str(caught.value) or "driver" in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("power_mw = 5.0", "power_mw = true"),
        ("power_mw = 5.0", 'power_mw = "5"'),
        ("power_mw = 5.0", "power_mw = 5.0\nceiling_mw = true"),
        ("exposure_us = 80.0", 'exposure_us = "100"'),
        ("exposure_us = 80.0", "exposure_us = 80.0\ngain_db = false"),
        ("exposure_us = 80.0", "exposure_us = 80.0\npitch_um = true"),  # the driver's own
        ('"virtual-dmd"', '"virtual-dmd"\ncapacity = "1"'),
        ("seed = 3", "seed = 3\nread_noise_electrons = true"),
        ("seed = 3", "seed = 3\ncells = [true, 8]"),
        ("seed = 3", "seed = 3\nperiodic = 1"),
    ],
)
def test_neither_true_nor_a_string_is_a_number(tmp_path, old, new):
    path = write(tmp_path, GOOD.replace(old, new))
    with pytest.raises(BenchFileError, match=new.split("\n")[-1].split(" =")[0]):
        build_bench(read_bench_file(path))


def test_whole_numbers_are_numbers(tmp_path):
    text = GOOD.replace("5.0", "5").replace("80.0", "80\npitch_um = 5")
    bench = build_bench(read_bench_file(write(tmp_path, text)))
    assert (bench.start.power_mw, bench.start.exposure_us, bench.camera.pitch_um) == (5, 80, 5)


def test_a_region_that_is_no_table_is_shown_one(tmp_path):
    path = write(tmp_path, GOOD.replace("80.0", "80.0\nregion = [0, 0, 64, 64]"))
    told = (
        r"camera\.region = \[0, 0, 64, 64\]: .*{ row = 0, column = 0, height = 128, width = 128 }\."
    )
    with pytest.raises(BenchFileError, match=told):
        read_bench_file(path)


def test_a_missing_section_is_named(tmp_path):
    path = write(tmp_path, GOOD[: GOOD.index("[laser]")])
    with pytest.raises(BenchFileError, match="laser is missing"):
        read_bench_file(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(BenchFileError, match="nowhere.toml cannot be read"):
        open_bench(tmp_path / "nowhere.toml")


def test_a_virtual_device_without_a_scene_says_what_to_add(tmp_path):
    path = write(tmp_path, GOOD[: GOOD.index("[scene]")])
    with pytest.raises(BenchFileError, match=r"\[scene\]"):
        open_bench(path)


def test_wrong_bench_files_are_wrong_input():
    assert issubclass(BenchFileError, InputError)


def test_every_driver_of_our_own_can_be_found():
    for kind in Kind:
        for name in names(kind):
            assert issubclass(find(kind, name), kind.contract)


class _Point:
    def __init__(self, loaded: object) -> None:
        self.loaded = loaded

    def load(self) -> object:
        if isinstance(self.loaded, Exception):
            raise self.loaded
        return self.loaded


@pytest.mark.parametrize(
    ("loaded", "told"),
    [(ImportError("no module named vendor"), "vendor"), (dict, "no Camera")],
)
def test_a_broken_driver_of_somebody_else_is_told(monkeypatch, loaded, told):
    monkeypatch.setattr("opu_driver.registry._others", lambda kind: {"theirs": _Point(loaded)})
    with pytest.raises(DriverMissingError, match=told):
        find(Kind.CAMERA, "theirs")


def test_an_unknown_preset_of_the_simulated_bench_is_refused():
    with pytest.raises(BenchFileError, match="ideal"):
        simulated_bench("perfect")


def test_parse_names_where_the_settings_came_from():
    with pytest.raises(BenchFileError, match=r"^somewhere: "):
        parse_bench({}, origin="somewhere")
