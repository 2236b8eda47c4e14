"""What `opu inspect` makes of frames: numbers, verdicts, and pages."""

import json
import os
import warnings
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from opu_driver import simulated_bench
from opu_driver.recording import record
from tools.frame_files import FrameFileError, open_frames
from tools.frame_findings import findings, remarks
from tools.frame_view import FrameView


@pytest.fixture(scope="module")
def holograms():
    if "OPU_DATA" not in os.environ:
        pytest.skip("OPU_DATA does not name the folder of measured data")
    return Path(os.environ["OPU_DATA"]) / "holograms"


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """Recordings of a simulated bench: Hadamard patterns, and one pattern at three exposures."""
    folder = tmp_path_factory.mktemp("recorded")
    hadamard = np.array([[bin(i & j).count("1") % 2 for i in range(16)] for j in range(16)])
    with simulated_bench("realistic", 1, camera={"exposure_us": 60.0}) as bench:
        layout = bench.layout(16)
        record(bench, layout.render(1 - hadamard.astype(np.uint8)), 32, folder / "hadamard.h5")
        one = layout.render(np.eye(16, dtype=np.uint8)[:1] | 1)
        record(bench, one, 6, folder / "brackets.h5", exposures_us=(20.0, 40.0, 80.0))
    return folder


def viewed(path, **levels):
    with open_frames(path) as stack:
        view = FrameView.of(stack, **levels)
        return view, {finding.name: finding for finding in findings(view)}


def saved(path, frames):
    np.save(path, frames)
    return path


@pytest.mark.parametrize(
    ("name", "carrier", "off"),
    [
        ("Neuron_1.tif", (0.068213, 0.068221), 2e-6),
        ("hologram_cell.npz", (0.1960, 0.1200), 4e-4),
    ],
)
def test_a_measured_hologram_gets_its_fringes_and_its_field(
    opu, holograms, tmp_path, name, carrier, off
):
    page = ["--html=page.html"] if name == "Neuron_1.tif" else []
    ending = opu("inspect", holograms / name, "--json=a.json", *page)
    assert ending.code == 0, ending.err
    told = json.loads((tmp_path / "a.json").read_text())["view"]
    tone = told["plain_fringes"]
    assert (tone["row"], tone["column"]) == pytest.approx(carrier, abs=off)
    assert 0.3 < told["visibility"] < 0.8
    verdicts = {name: verdict for name, _, _, verdict in told["findings"]}
    assert verdicts["carrier of speckle"] == verdicts["speckle grain"] == ""
    assert verdicts["fringe visibility"] == "good"
    if not page:
        return
    text = (tmp_path / "page.html").read_text()
    for picture in ("Spectrum", "The demodulated field", "The frame", "Grey values"):
        assert f'alt="{picture}"' in text
    for wrong in ("1 frames", "deviation over", "How steady"):
        assert wrong not in text


def test_the_phase_of_a_measured_hologram_is_that_of_its_object(holograms):
    view, _ = viewed(holograms / "Neuron_1.tif")
    field = view.first_field
    border = np.angle(field[10:30].mean() / field[-30:-10].mean())  # no cell there
    assert abs(border) < 0.6
    cell = np.angle(field / field[10:30].mean())
    assert np.abs(cell).max() > 2
    assert np.median(np.abs(cell)) < 0.3


@pytest.mark.parametrize("bits", [10, 12, 14])
@pytest.mark.parametrize("shift", [0, None])
def test_full_scale_is_guessed_and_said(tmp_path, bits, shift):
    shift = 16 - bits if shift is None else 0
    rng = np.random.default_rng(bits)
    frames = rng.integers(0, 0.9 * 2**bits, (2, 64, 64)).astype(np.uint16) << shift
    view, found = viewed(saved(tmp_path / "a.npy", frames))
    assert view.levels.full == (2**bits - 1) << shift
    assert f"{bits} bits" in " ".join(remarks(view))
    share = float(found["mean above black"].value.split(", ")[1].split("%")[0])
    assert share == pytest.approx(45.0, abs=0.5)
    black = 20 << shift
    given, found = viewed(tmp_path / "a.npy", black=black, full=2.0**16)
    assert given.levels.full == 2**16
    assert given.light.power.mean() == pytest.approx(frames.mean() - black)
    assert "--full" not in " ".join(remarks(given))


@pytest.mark.parametrize("place", ["a.tif", "a/", "a.zarr"])
def test_what_opu_export_says_of_grey_values_is_believed(opu, recorded, tmp_path, place):
    if place == "a.zarr":
        pytest.importorskip("zarr", reason="zarr is not installed")
    assert opu("export", recorded / "brackets.h5", f"--to={place}").code == 0
    view, _ = viewed(tmp_path / place)
    assert view.levels.black == pytest.approx(5.0, abs=0.01)
    assert (view.levels.full, view.levels.guess) == (255, "")


def test_levels_that_differ_from_page_to_page_are_taken_together(tmp_path):
    says = json.dumps({"black_level": [100, 104], "saturation_level": [4095, 4000]})
    Image.fromarray(np.full((64, 64), 400, np.uint16)).save(
        tmp_path / "a.tif", tiffinfo={270: says}
    )
    view, _ = viewed(tmp_path / "a.tif")
    assert (view.levels.black, view.levels.full, view.levels.guess) == (102, 4000, "")


def test_a_recording_says_its_levels_itself(opu, recorded):
    ending = opu("inspect", recorded / "brackets.h5", "--full=4095")
    assert ending.code == 2
    assert "Leave them out" in ending.err


def test_power_is_measured_within_one_setting(recorded):
    view, found = viewed(recorded / "brackets.h5")
    assert view.light.power.std() > 0.2 * view.light.power.mean()
    assert found["power over time"].good
    assert "6 frames of one pattern at 20 µs" in found["power over time"].value
    assert found["phase, frame to frame"].good


def test_different_patterns_are_judged_by_markers_and_in_seconds(recorded):
    view, found = viewed(recorded / "hadamard.h5")
    assert view.alike.words == "lit markers"
    assert found["likeness, last to first"].good
    with open_frames(recorded / "hadamard.h5") as stack:
        times_us = stack.recording.exposures().timestamps_us
        np.testing.assert_allclose(
            view.series.times_s, (times_us[view.series.numbers] - times_us[0]) / 1e6
        )
    assert view.walk.apart == np.diff(view.series.numbers).min() > 1
    assert f"{view.walk.apart} exposures" in " ".join(found)
    assert found["light, all inputs off"].good


def test_frames_of_unknown_patterns_get_no_verdict_on_steadiness(recorded, tmp_path):
    with open_frames(recorded / "hadamard.h5") as stack:
        path = saved(tmp_path / "a.npy", np.asarray(stack.frames))
    _, found = viewed(path)
    for name in ("power over time", "likeness, last to first", "decorrelation of field"):
        assert found[name].good is None
        assert "if all show one pattern" in found[name].wanted
    assert found["contrast"].good is None  # a reference lowers it


def test_the_walk_is_that_of_neighbours(recorded):
    view, _ = viewed(recorded / "brackets.h5")
    with open_frames(recorded / "brackets.h5") as stack:
        numbers = view.alike.numbers
        frames = np.stack([stack.recording.exposures(n, n + 1).frames[0] for n in numbers])
    fields = view.demodulate(frames)
    steps = np.array([np.angle(np.vdot(a, b)) for a, b in pairwise(fields)])
    steps = steps[np.diff(numbers) == 1]
    assert len(steps) > 3
    assert view.walk.apart == 1
    assert view.walk.rms_rad == pytest.approx(np.sqrt(np.mean(np.square(steps))), rel=1e-4)


def test_a_recording_has_one_contrast_and_one_mean(opu, recorded, tmp_path):
    assert opu("inspect", recorded / "brackets.h5", "--json=a.json").code == 0
    told = json.loads((tmp_path / "a.json").read_text())
    assert told["contrast"] == told["view"]["contrast"]
    assert told["mean_grey"] == told["view"]["mean_grey"]


@pytest.mark.parametrize("what", ["dark", "flat", "nan", "all nan"])
def test_frames_without_structure_are_told_without_warnings(tmp_path, what):
    frames = np.random.default_rng(0).random((3, 64, 64)).astype(np.float32)
    if what in ("dark", "flat"):
        frames = np.full((3, 64, 64), 100 * (what == "flat"), np.uint8)
    else:
        frames[:, : 2 if what == "nan" else None] = np.nan
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        view, found = viewed(saved(tmp_path / "a.npy", frames))
    assert view.grain is None
    assert found["speckle grain"].value == "none"
    if frames.dtype == np.uint8:
        assert found["likeness, last to first"].value == "no structure"
        assert found["likeness, last to first"].good is None
    else:
        assert found["no numbers"].good is False


def test_frames_too_small_to_measure_are_refused(tmp_path):
    path = saved(tmp_path / "a.npy", np.zeros((2, 16, 16), np.uint8))
    with pytest.raises(FrameFileError, match="32 x 32"):
        viewed(path)


def test_the_table_fits_eighty_columns(opu, recorded, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    lines = opu("inspect", recorded / "hadamard.h5").out.splitlines()
    assert max(map(len, lines)) <= 80
    for name in ("carrier row, cycles/px", "carrier column", "sideband radius"):
        (line,) = (k for k, line in enumerate(lines) if name in line)
        assert lines[line + 1].split("│")[1].strip(), "a figure takes one line"


def test_a_recording_becomes_a_page(opu, recorded, tmp_path):
    ending = opu("inspect", recorded / "hadamard.h5", "--html=page.html")
    assert ending.code == 0, ending.err
    assert "saturated pixels" in ending.out
    assert "lost frames" in ending.out
    page = (tmp_path / "page.html").read_text()
    assert page.count("data:image/png") == 6
    conditions = page[page.index("Conditions") :]
    for what in ("60 µs", "10 mW", "0 dB", "patterns/s", "128 × 128 pixels"):
        assert what in conditions
