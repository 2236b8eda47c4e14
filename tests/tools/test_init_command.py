import itertools
import re
import tomllib

import pytest

from opu_driver import open_bench, simulated_bench
from opu_driver.bench_file import build_bench, parse_bench
from opu_driver.virtual.settings import Faults, SceneSettings
from tools.init import bench_template


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
