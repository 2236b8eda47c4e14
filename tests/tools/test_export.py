import json
import os
import signal
import sys

import h5py
import numpy as np
import pytest

from opu_driver.recording import Recording
from tools.frame_files import open_frames


@pytest.fixture
def recorded(opu, tmp_path):
    ending = opu("acquire", "--preset=quiet", "--patterns=macropixels", "--inputs=4", "--frames=12",
                 "--repeats=3", "--out=a.h5")  # fmt: skip
    assert ending.code == 0, ending.err
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
    np.testing.assert_array_equal(zarr.open_array(tmp_path / "a.zarr", mode="r")[:], recorded)


def test_frames_of_one_pattern_are_averaged(opu, recorded, tmp_path):
    assert opu("export", "a.h5", "--to=a.npy", "--average").code == 0
    means = np.load(tmp_path / "a.npy")
    np.testing.assert_allclose(means, recorded.reshape(4, 3, 128, 128).mean(axis=1), rtol=1e-6)
    assert opu("export", "a.npy", "--to=b.npy", "--average").code == 2
    assert opu("export", "a.npy", "--to=b/").code == 2
    assert opu("export", "a.npy", "--to=b.bmp").code == 2
    assert not list(tmp_path.glob("b*"))


def test_patterns_of_a_function_are_shown(opu, tmp_path, monkeypatch):
    (tmp_path / "stripes_of_mine.py").write_text(
        "import numpy as np\n\ndef stripes(n):\n    return np.eye(n, dtype=int)[:3]\n"
    )
    monkeypatch.setattr(sys, "path", ["", *sys.path])
    ending = opu("acquire", "--patterns=stripes_of_mine:stripes", "--inputs=9", "--frames=6",
                 "--out=a.h5", "--region=0,0,64,96", "--trigger=software")  # fmt: skip
    assert ending.code == 0, ending.err
    with Recording(tmp_path / "a.h5") as recording:
        assert len(np.unique(recording.shown)) == 3
        assert recording.frames().shape == (6, 64, 96)
        assert recording.conditions.settings.trigger == "software"
    for wrong in ("--patterns=stripes_of_mine:none", "--patterns=nowhere:f", "--region=1,2",
                  "--trigger=free", "--repeats=0"):  # fmt: skip
        ending = opu("acquire", "--patterns=on", "--frames=1", "--out=b.h5", wrong)
        assert ending.code == 2, ending.err
    assert not list(tmp_path.glob("b*"))


def test_bracketed_exposures_are_told_apart(opu, tmp_path):
    ending = opu("acquire", "--preset=quiet", "--patterns=on", "--frames=2", "--out=a.h5",
                 "--exposure-us=50", "--exposure-us=100", "--json=a.json")  # fmt: skip
    assert ending.code == 0, ending.err
    assert json.loads((tmp_path / "a.json").read_text())["frames"] == 4
    assert opu("export", "a.h5", "--to=a.npy", "--average").code == 0
    dim, bright = np.load(tmp_path / "a.npy").mean(axis=(1, 2))
    assert bright > 1.5 * dim


@pytest.mark.skipif(not hasattr(os, "fork"), reason="signals are sent as POSIX has them")
def test_a_recording_until_stopped_is_complete(started, tmp_path):
    process = started("acquire", "--preset=quiet", "--patterns=on", "--out=a.h5")
    partial = tmp_path / "a.partial.h5"
    frames = 0
    while frames == 0:
        assert process.poll() is None, process.stderr.read()
        if partial.exists():
            try:
                with Recording(partial) as recording:
                    frames = len(recording)
            except Exception:  # it is being made
                continue
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 0, told
    with Recording(tmp_path / "a.h5") as recording:
        assert len(recording) >= frames
        assert recording.n_asked is None
    assert not partial.exists()
    with h5py.File(tmp_path / "a.h5") as file:
        assert "markers" not in file
