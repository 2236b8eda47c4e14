import json
import signal
import time
from contextlib import suppress

import numpy as np
import pytest

from opu_driver.errors import RecordingError
from opu_driver.recording import Recording


@pytest.mark.parametrize(
    ("kind", "patterns"),
    [("off", 1), ("on", 1), ("checkerboard", 2), ("hadamard", 32), ("random", 6)],
)
def test_each_kind_of_pattern_is_recorded(opu, tmp_path, kind, patterns):
    ending = opu(
        "acquire", "--preset=quiet", f"--patterns={kind}", "--inputs=16", "--frames=6",
        "--out=a.h5", "--json=a.json",
    )  # fmt: skip
    assert ending.code == 0, ending.err
    with Recording(tmp_path / "a.h5") as recording:
        assert len(recording) == 6
        assert len(np.unique(recording.shown)) == min(patterns, 6)
        assert recording.conditions.subject == f"{kind}, 16 inputs, seed 0"
    figures = json.loads((tmp_path / "a.json").read_text())
    assert figures["frames"] == 6
    told = opu("inspect", "a.h5", "--json=i.json")
    assert told.code == 0
    inspected = json.loads((tmp_path / "i.json").read_text())
    assert inspected.pop("view")["frames"] == 6
    assert inspected == figures
    assert "6 of 128 × 128 pixels" in told.out


def test_patterns_from_a_file_are_those_shown(opu, tmp_path):
    vectors = np.random.default_rng(1).integers(0, 2, (3, 25)).astype(float)
    np.save(tmp_path / "mine.npy", vectors)
    assert opu("acquire", "--patterns=mine.npy", "--frames=3", "--out=a.h5").code == 0
    with Recording(tmp_path / "a.h5") as recording:
        mirrors = np.unpackbits(recording.patterns[recording.shown], axis=2)
    lit = mirrors.reshape(3, -1).mean(axis=1)
    np.testing.assert_allclose(lit / lit[0], vectors.mean(axis=1) / vectors[0].mean())


def test_the_carrier_of_a_recording_is_found(opu, tmp_path):
    opu("acquire", "--preset=quiet", "--patterns=random", "--frames=8", "--out=a.h5", "--json=a")
    carrier = json.loads((tmp_path / "a").read_text())["carrier"]
    assert carrier["row"] == pytest.approx(0.2713, abs=5 * carrier["row_sigma"])
    dark = ["--scene=electrons_per_nj=1e-6", "--scene=reference_ratio=0.0"]
    opu("acquire", *dark, "--patterns=on", "--frames=2", "--out=b.h5", "--json=b")


def test_an_incomplete_recording_says_so(opu, tmp_path):
    lost = "--scene=faults.camera_lost_at=700"
    ending = opu("acquire", "--patterns=on", "--frames=900", "--out=a.h5", lost)
    assert ending.code == 1
    assert "does not answer" in ending.err
    assert "a.partial.h5" in ending.err
    told = opu("inspect", "a.partial.h5")
    assert told.code == 0
    assert "not complete" in told.out


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--patterns=stripes"], "'stripes' is not known"),
        (["--patterns=missing.npy"], "missing.npy cannot be read"),
        (["--patterns=text.npy"], "text.npy cannot be read"),
        (["--patterns=pickled.npy"], "pickled.npy cannot be read"),
        (["--patterns=grey.npy"], "zeros and ones"),
        (["--patterns=nan.npy"], "zeros and ones"),
        (["--patterns=flat.npy"], "zeros and ones"),
        (["--patterns=empty.npy"], "zeros and ones"),
        (["--patterns=words.npy"], "zeros and ones"),
        (["--patterns=on", "--frames=0"], "0 frames"),
        (["--patterns=on", "--frames=1000000000000"], "GB free"),
        (["--patterns=random", "--seed=-5"], "--seed -5"),
        (["--patterns=random", "--frames=1000000000"], "1000000000 different patterns"),
        (["--patterns=hadamard", "--inputs=1000000000"], "1000000000 inputs"),
        (["--patterns=on", "--inputs=0"], "--inputs 0"),
        (["--patterns=on", "--inputs=100000"], "100000 inputs"),
        (["--patterns=on", "--out=taken.h5"], "exists already"),
        (["--patterns=on", "--out=nowhere/a.h5"], "no folder"),
    ],
)
def test_wrong_input_is_refused_and_leaves_nothing(opu, tmp_path, arguments, told):
    (tmp_path / "taken.h5").write_text("precious")
    (tmp_path / "text.npy").write_text("no array")
    np.save(tmp_path / "pickled.npy", np.array([{}], dtype=object), allow_pickle=True)
    np.save(tmp_path / "grey.npy", np.full((2, 4), 0.5))
    np.save(tmp_path / "nan.npy", np.full((2, 4), np.nan))
    np.save(tmp_path / "flat.npy", np.ones(4))
    np.save(tmp_path / "empty.npy", np.ones((0, 4)))
    np.save(tmp_path / "words.npy", np.array([["1", "0"]]))
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    ending = opu("acquire", "--frames=2", "--out=a.h5", *arguments)
    assert ending.code == 2, ending.err
    assert told in ending.err
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("content", [b"", b"text", b"opu-calibration schema 1 sha256 0\n", None])
def test_what_can_not_be_inspected_is_refused(opu, tmp_path, content):
    if content is not None:
        (tmp_path / "x.h5").write_bytes(content)
    ending = opu("inspect", "x.h5")
    assert ending.code == 2
    assert "x.h5" in ending.err


def test_sigterm_leaves_a_partial_recording_and_a_dark_laser(started, tmp_path):
    process = started(
        "--verbose", "acquire", "--patterns=random", "--frames=50000", "--out=a.h5", "--inputs=16"
    )
    partial = tmp_path / "a.partial.h5"
    frames = 0
    while frames == 0:
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.05)
        with suppress(RecordingError), Recording(partial) as recording:  # it is being made
            frames = len(recording)
    process.send_signal(signal.SIGTERM)
    told = process.communicate()[1]
    assert process.returncode == 130
    assert told.rindex("emission off") > told.rindex("emission on")
    assert "a.partial.h5" in told
    assert not (tmp_path / "a.h5").exists()
    with Recording(partial) as recording:
        assert len(recording) >= frames
        assert not recording.complete
