import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tifffile import TiffFile

from opu_driver import simulated_bench
from opu_driver.exposure_log import logged
from opu_driver.recording import Recording
from tests.tools.conftest import COMMAND
from tools import export
from tools.frame_files import RecordedFrames, open_frames
from tools.main import main


@pytest.fixture(scope="module")
def acquired(tmp_path_factory):
    """A folder with twelve frames, three of each pattern in a row, and their means."""
    folder = tmp_path_factory.mktemp("acquired")
    out, means = folder / "a.h5", folder / "means.tif"
    command = ["acquire", "--preset=quiet", "--patterns=macropixels", "--inputs=4", "--frames=12",
               "--repeats=3", f"--average={means}", f"--out={out}"]  # fmt: skip
    assert main(command) == 0
    return folder


@pytest.fixture
def recorded(acquired, tmp_path):
    """Its frames; copies of its files are in the folder of the test."""
    for path in acquired.iterdir():
        shutil.copy(path, tmp_path)
    with Recording(tmp_path / "a.h5") as recording:
        return recording.frames()


def test_frames_are_read_where_they_are_indexed(recorded, tmp_path):
    with open_frames(tmp_path / "a.h5") as stack:
        frames = stack.frames
        assert (frames.shape, frames.size) == (recorded.shape, recorded.size)
        np.testing.assert_array_equal(frames[2:5], recorded[2:5])
        np.testing.assert_array_equal(frames[-1], recorded[-1])
        np.testing.assert_array_equal(frames[np.array([7, 1])], recorded[[7, 1]])
        np.testing.assert_array_equal(frames[20:], recorded[20:])
        np.testing.assert_array_equal(list(frames), recorded)
        np.testing.assert_array_equal(np.asarray(frames), recorded)


@pytest.mark.parametrize("place", ["a.tif", "a.npy", "a/"])
def test_exported_frames_are_those_of_the_recording(opu, recorded, tmp_path, place):
    ending = opu("export", "a.h5", f"--to={place}")
    assert ending.code == 0, ending.err
    with open_frames(tmp_path / place) as stack:
        np.testing.assert_array_equal(stack.frames, recorded)
        assert stack.frames.dtype == recorded.dtype
    again = opu("export", "a.h5", f"--to={place}")
    assert again.code == 2
    assert "exists already" in again.err


def test_zarr_holds_the_frames_too(opu, recorded, tmp_path):
    zarr = pytest.importorskip("zarr", reason="zarr is not installed")
    assert opu("export", "a.h5", "--to=a.zarr").code == 0
    array = zarr.open_array(tmp_path / "a.zarr", mode="r")
    np.testing.assert_array_equal(array[:], recorded)
    assert array.attrs["saturation_level"] == 255.0


def test_what_grey_values_mean_goes_with_them(opu, recorded, tmp_path):
    told = {"black_level": pytest.approx(5.0, abs=0.01), "saturation_level": 255.0}
    assert opu("export", "a.h5", "--to=a.tif").code == 0
    with TiffFile(tmp_path / "a.tif") as file:
        says = json.loads(file.pages[0].description)
        assert says == told | {"exposure_us": 100.0, "shape": [12, 128, 128], "axes": "TYX"}
        assert file.series[0].shape == recorded.shape
        assert not file.is_bigtiff
    assert opu("export", "a.h5", "--to=a/").code == 0
    with Image.open(tmp_path / "a" / "000003.png") as image:
        assert json.loads(image.text["Description"]) == told | {"exposure_us": 100.0}


def test_a_large_stack_is_a_big_tiff(tmp_path, monkeypatch):
    monkeypatch.setattr(export, "_CLASSIC_BYTES", 1000)
    frames = np.arange(2000, dtype=np.uint16).reshape(5, 20, 20)
    np.save(tmp_path / "a.npy", frames)
    assert export.write_frames(tmp_path / "a.npy", str(tmp_path / "a.tif"), average=False) == 5
    with TiffFile(tmp_path / "a.tif") as file:
        assert file.is_bigtiff
        np.testing.assert_array_equal(file.asarray(), frames)


@pytest.mark.parametrize("place", ["b.tif", "b.npy", "b/", "b.zarr"])
def test_frames_that_do_not_exist_are_not_exported(opu, tmp_path, place):
    with simulated_bench("quiet") as bench, logged(bench, tmp_path / "a.h5"):
        bench.dark_frames(2)
    ending = opu("export", "a.h5", f"--to={place}")
    assert ending.code == 2
    assert "a.h5 holds no frames" in ending.err
    assert not list(tmp_path.glob("b*"))


def test_an_export_that_fails_leaves_nothing(opu, recorded, tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError("No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    ending = opu("export", "a.h5", "--to=b/")
    assert ending.code == 1
    assert "No space left" in ending.err
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize("place", ["b.npy", "b.tif", "b/", "b.zarr"])
def test_a_full_disk_is_told_and_nothing_is_left(recorded, tmp_path, place):
    """On a disk of 64 kB, as only a process with mounts of its own can have."""
    if place.endswith(".zarr"):
        pytest.importorskip("zarr", reason="zarr is not installed")
    small = ["unshare", "-rm", "sh", "-c", 'mount -t tmpfs -o size=64k none small && "$@"; '
             "code=$?; ls -A small >&2; exit $code", "sh"]  # fmt: skip
    (tmp_path / "small").mkdir()
    if not shutil.which("unshare") or subprocess.run([*small, "true"], cwd=tmp_path).returncode:
        pytest.skip("no disk can be mounted here")
    ending = subprocess.run(
        [*small, *COMMAND, "export", "a.h5", f"--to=small/{place}"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "COLUMNS": "400"},
        capture_output=True,
        text=True,
    )
    assert ending.returncode == 1
    told, *left = ending.stderr.splitlines()
    assert f"cannot be written to small/{place.rstrip('/')}" in told
    assert "Name a folder that has room" in told
    assert not left


@pytest.mark.parametrize("place", ["b.npy", "b.tif", "b/"])
def test_frames_have_their_name_when_all_are_written(recorded, tmp_path, monkeypatch, place):
    def watched(frames):
        for number in range(len(frames)):
            assert not (tmp_path / place).exists()
            yield frames[number]

    monkeypatch.setattr(RecordedFrames, "__iter__", watched)
    assert export.write_frames(tmp_path / "a.h5", f"{tmp_path}/{place}", average=False) == 12
    assert (tmp_path / place).exists()
    assert not list(tmp_path.glob(".b*"))


def test_frames_of_one_pattern_are_averaged(opu, recorded, tmp_path):
    assert opu("export", "a.h5", "--to=a.npy", "--average").code == 0
    means = np.load(tmp_path / "a.npy")
    np.testing.assert_allclose(means, recorded.reshape(4, 3, 128, 128).mean(axis=1), rtol=1e-6)
    with TiffFile(tmp_path / "means.tif") as file:  # made with the recording
        np.testing.assert_array_equal(file.asarray(), means)
        assert json.loads(file.pages[0].description)["averaged"] == 3
    assert opu("export", "a.npy", "--to=b.npy", "--average").code == 2
    assert opu("export", "a.npy", "--to=b/").code == 2
    assert opu("export", "a.npy", "--to=b.bmp").code == 2
    assert not list(tmp_path.glob("b*"))


def test_bracketed_exposures_are_told_apart(opu, tmp_path):
    ending = opu("acquire", "--preset=quiet", "--patterns=on", "--frames=2", "--out=a.h5",
                 "--exposure-us=50", "--exposure-us=100", "--json=a.json")  # fmt: skip
    assert ending.code == 0, ending.err
    assert json.loads((tmp_path / "a.json").read_text())["frames"] == 4
    assert "50, 100 µs" in ending.out
    assert opu("export", "a.h5", "--to=a.npy", "--average").code == 0
    dim, bright = np.load(tmp_path / "a.npy").mean(axis=(1, 2))
    assert bright > 1.5 * dim


@pytest.mark.skipif(not hasattr(os, "fork"), reason="signals are sent as POSIX has them")
def test_a_recording_until_stopped_is_complete(started, tmp_path):
    process = started(
        "acquire", "--preset=quiet", "--patterns=on", "--out=a.h5", "--region=0,0,32,32"
    )
    partial = tmp_path / "a.partial.h5"
    frames = 0
    while frames == 0:
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.05)
        if partial.exists():
            try:
                with Recording(partial) as recording:
                    frames = len(recording)
            except Exception:  # it is being made
                continue
    process.send_signal(signal.SIGINT)
    shown, told = process.communicate(timeout=60)
    assert process.returncode == 0, told
    with Recording(tmp_path / "a.h5") as recording:
        assert len(recording) >= frames
        assert recording.n_asked is None
        assert recording.complete
    assert "not complete" not in shown
    assert not partial.exists()
