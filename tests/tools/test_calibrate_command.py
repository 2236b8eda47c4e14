import json
import os
import signal
import time
import weakref
from pathlib import Path

import numpy as np
import pytest

from calibration import pipeline
from calibration.calibration_file import Calibration
from opu_driver.recording import Recording

GOOD = """
[modulator]
driver = "virtual-dmd"
[camera]
driver = "virtual"
exposure_us = 80.0
[laser]
driver = "virtual"
power_mw = 5.0
[scene]
preset = "quiet"
"""


def test_a_bench_is_calibrated_reported_and_inspected(opu, tmp_path):
    ending = opu(
        "calibrate", "--preset=quiet", "--inputs=10", "--out=c.h5", "--json=c.json",
        "--report=c.html",
    )  # fmt: skip
    assert ending.code == 0, ending.err
    assert "pass" in ending.out
    assert "FAIL" not in ending.out
    calibration = Calibration.load(tmp_path / "c.h5")
    assert calibration.n_inputs == 10
    figures = json.loads((tmp_path / "c.json").read_text())
    assert figures["quality"]["held_out_correlation"] > 0.99
    assert figures["fingerprint"] == calibration.fingerprint()
    page = (tmp_path / "c.html").read_text()
    assert page.count("data:image/png;base64,") == 8
    assert "http" not in page.replace("http-equiv", "")
    assert {p.name for p in tmp_path.iterdir()} == {"c.h5", "c.json", "c.html"}

    told = opu("inspect", "c.h5", "--json=i.json", "--html=i.html")
    assert told.code == 0
    kept = (tmp_path / "i.html").read_text()
    assert kept.count("data:image/png;base64,") == 2  # no frames of the bench
    assert calibration.fingerprint() in kept
    assert calibration.fingerprint() in told.out
    assert json.loads((tmp_path / "i.json").read_text()) == figures


def test_a_bench_file_and_its_overrides(opu, tmp_path):
    (tmp_path / "bench.toml").write_text(GOOD)
    ending = opu("calibrate", "--bench=bench.toml", "--scene=seed=7", "--inputs=4", "--out=c.h5")
    assert ending.code == 2
    assert "--scene-seed" in ending.err
    ending = opu("calibrate", "--bench=bench.toml", "--inputs=4", "--out=c.h5")
    assert ending.code == 0, ending.err
    ending = opu(
        "calibrate", "--bench=bench.toml", "--scene=reference_ratio=0.0", "--inputs=4",
        "--out=d.h5",
    )  # fmt: skip
    assert ending.code == 1
    assert not (tmp_path / "d.h5").exists()


REPLAY = """
[modulator]
driver = "recording"
path = "exposures.h5"
[camera]
driver = "recording"
path = "exposures.h5"
exposure_us = 80.0
[laser]
driver = "recording"
path = "exposures.h5"
power_mw = 5.0
"""


def test_a_recorded_calibration_replays_to_the_same_bits(opu, tmp_path):
    (tmp_path / "bench.toml").write_text(GOOD)
    (tmp_path / "replay.toml").write_text(REPLAY)
    command = ("calibrate", "--inputs=4")
    ending = opu(*command, "--bench=bench.toml", "--out=c.h5", "--record=exposures.h5")
    assert ending.code == 0, ending.err
    with Recording(tmp_path / "exposures.h5") as recording:
        assert recording.complete
        assert recording.conditions.subject == "calibration, 4 inputs, hadamard-pairs"
    ending = opu(*command, "--bench=replay.toml", "--out=again.h5")
    assert ending.code == 0, ending.err
    then, again = (Calibration.load(tmp_path / name) for name in ("c.h5", "again.h5"))
    assert again.fingerprint() == then.fingerprint()
    np.testing.assert_array_equal(again.matrix, then.matrix)
    assert again.quality.numbers() == then.quality.numbers()


def test_a_recording_is_of_a_whole_calibration(opu, tmp_path):
    (tmp_path / "taken.h5").write_text("precious")
    for arguments, told in {
        ("--record=a.h5", "--resume"): "would be missing",
        ("--record=taken.h5",): "exists already",
        ("--record=nowhere/a.h5",): "no folder",
    }.items():
        ending = opu("calibrate", "--preset=quiet", "--inputs=4", "--out=c.h5", *arguments)
        assert ending.code == 2
        assert told in ending.err
    assert [path.name for path in tmp_path.iterdir()] == ["taken.h5"]


def test_a_bad_calibration_is_told_and_not_kept(opu, tmp_path):
    ending = opu(
        "calibrate", "--scene=faults={carrier_jumps=[[300,0.0013,0.0]]}", "--inputs=4",
        "--out=c.h5", "--report=c.html",
    )  # fmt: skip
    assert ending.code == 1, ending.out
    assert "FAIL" in ending.out
    assert "medium or alignment move" in ending.out.replace("\n", " ")
    assert "not good enough" in ending.err
    page = (tmp_path / "c.html").read_text()  # what is wrong is best seen in pictures
    assert "figures fail" in page
    assert page.count("data:image/png;base64,") >= 7
    assert [path.name for path in tmp_path.iterdir()] == ["c.html"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--method=phase-steps"], "does not shift phases"),
        (["--method=fourier"], "hadamard-pairs"),
        (["--memory-gb=0.0001"], "memory"),
        (["--memory-gb=nan"], "memory_gb = nan"),
        (["--memory-gb=inf"], "memory_gb = inf"),
        (["--memory-gb=0"], "memory_gb = 0"),
        (["--bench=missing.toml"], "missing.toml cannot be read"),
        (["--bench=broken.toml"], "no valid TOML"),
        (["--bench=binary.toml"], "no valid TOML"),
        (["--bench=unknown.toml"], "laser.colour"),
        (["--bench=typed.toml"], "camera.exposure_us = 'long'"),
        (["--bench=good.toml", "--preset=ideal"], "two benches"),
        (["--preset=silent"], "realistic"),
        (["--scene=read_noise=3"], "no such setting"),
        (["--scene=phase_walk_rad"], "no assignment"),
        (["--scene=phase_walk_rad=-1"], "phase_walk_rad"),
        (["--repeats=0"], "repeats = 0"),
        (["--repeats=100000000"], "repeats = 100000000"),
        (["--inputs=0"], "n_inputs = 0"),
        (["--inputs=1000000"], "1000000 inputs"),
        (["--out=nowhere/c.h5"], "no folder"),
        (["--json=nowhere/c.json"], "no folder"),
        (["--report=."], "is a folder"),
        (["--out=good.toml"], "exists already"),
    ],
)
def test_wrong_input_is_refused_by_name(opu, tmp_path, arguments, told):
    (tmp_path / "good.toml").write_text(GOOD)
    (tmp_path / "broken.toml").write_text("[camera\n")
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "unknown.toml").write_text(GOOD.replace("power_mw", "colour = 1\npower_mw"))
    (tmp_path / "typed.toml").write_text(GOOD.replace("80.0", '"long"'))
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    ending = opu("calibrate", "--inputs=4", "--out=c.h5", *arguments)
    assert ending.code == 2
    assert told in ending.err
    assert "Traceback" not in ending.err
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_folder_that_is_not_writable_is_named(opu, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write anywhere
    ending = opu("calibrate", "--inputs=4", "--out=c.h5")
    assert ending.code == 2
    assert f"may not write to {tmp_path}" in ending.err


def test_nothing_measured_is_lost_when_the_result_cannot_be_written(opu, tmp_path, monkeypatch):
    def full(self, path):
        raise OSError(28, "No space left on device", str(path))

    with monkeypatch.context() as disk:
        disk.setattr(Calibration, "save", full)
        ending = opu("calibrate", "--preset=quiet", "--inputs=4", "--out=c.h5")
    assert ending.code == 1
    assert "No space left" in ending.err
    assert "--resume goes on" in ending.err
    assert [path.name for path in tmp_path.iterdir()] == ["c.partial.h5"]
    assert opu("calibrate", "--preset=quiet", "--inputs=4", "--out=c.h5", "--resume").code == 0
    assert [path.name for path in tmp_path.iterdir()] == ["c.h5"]


@pytest.mark.parametrize(
    "scene", ["phase_walk_rad=0.02", "faults={carrier_jumps=[[300,0.0013,0.0]]}"]
)
def test_nothing_holds_the_matrix_when_its_file_is_deleted(opu, tmp_path, monkeypatch, scene):
    measure, unlink = pipeline.calibrate, Path.unlink
    made, held = [], []

    def watched(*args, **kwargs):
        calibration = measure(*args, **kwargs)
        made.append(weakref.ref(calibration.T))
        return calibration

    def unlinked(self, missing_ok=False):
        if self.name == "c.partial.h5":
            held.append(made[0]() is not None)
        unlink(self, missing_ok)

    monkeypatch.setattr(pipeline, "calibrate", watched)
    monkeypatch.setattr(Path, "unlink", unlinked)
    ending = opu("calibrate", f"--scene={scene}", "--inputs=4", "--out=c.h5", "--report=c.html")
    assert held == [False], ending.err


def test_what_cannot_be_gone_on_with_is_to_be_deleted(opu, tmp_path):
    asked = ["calibrate", "--inputs=4", "--out=c.h5", "--scene=decorrelation=1e-3"]
    for resumed in ([], ["--resume"]):
        ending = opu(*asked, *resumed)
        assert ending.code == 1
        assert "start anew. Delete c.partial.h5 first" in ending.err
        assert "--resume goes on" not in ending.err
    ending = opu(*asked)
    assert ending.code == 2
    assert "to start anew, delete it" in ending.err


def test_a_calibration_is_not_gone_on_with_on_another_bench(opu, tmp_path, monkeypatch):
    def full(self, path):
        raise OSError(28, "No space left on device", str(path))

    asked = ["calibrate", "--preset=quiet", "--inputs=4", "--out=c.h5"]
    with monkeypatch.context() as disk:
        disk.setattr(Calibration, "save", full)
        opu(*asked)
    ending = opu(*asked, "--scene-seed=5", "--resume")
    assert ending.code == 1
    assert "measured on another bench" in ending.err
    assert "--resume goes on" not in ending.err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_calibration_is_gone_on_with(opu, started, tmp_path, number):
    asked = ["calibrate", "--preset=quiet", "--inputs=64", "--repeats=100", "--out=c.h5"]
    partial = tmp_path / "c.partial.h5"
    process = started("--verbose", *asked)
    while not partial.exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.005)
    time.sleep(0.1)
    process.send_signal(number)
    _, told = process.communicate()
    assert not (tmp_path / "c.h5").exists()
    assert partial.exists()
    if number != signal.SIGKILL:
        assert process.returncode == 130
        assert told.rindex("emission off") > told.rindex("emission on")
        assert "Interrupted" in told
        assert "--resume goes on" in told
        assert "Traceback" not in told

    ending = opu(*asked)
    assert ending.code == 2
    assert "--resume goes on" in ending.err
    ending = opu(*asked, "--resume")
    assert ending.code == 0, ending.err
    assert Calibration.load(tmp_path / "c.h5").quality.held_out_correlation > 0.99
    assert [path.name for path in tmp_path.iterdir()] == ["c.h5"]
