import os
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

from calibration.speckle import Light, grain_size, likeness
from opu_driver import simulated_bench
from tools.frame_files import FrameFileError, open_frames
from tools.frame_view import FrameView


@pytest.fixture(scope="module")
def frames():
    with simulated_bench("quiet", seed=2) as bench:
        one = bench.layout(16).render(np.eye(16, dtype=np.uint8)[:1] | 1)
        return bench.expose(np.repeat(one, 6, axis=0))


def written(kind, frames, folder):
    path = folder / f"frames.{kind}"
    pages = [Image.fromarray(frame) for frame in frames]
    if kind == "tif":
        pages[0].save(path, save_all=True, append_images=pages[1:])
    elif kind == "npy":
        np.save(path, frames)
    elif kind == "npz":
        np.savez(path, frames=frames, other=np.zeros(3))
    elif kind == "h5":
        with h5py.File(path, "w") as file:
            file["entry/data/frames"] = frames
            file["entry/gain"] = np.ones((2, 2))
    else:
        path.mkdir()
        for k, page in enumerate(pages):
            page.save(path / f"{k:03d}.png")
    return path


@pytest.mark.parametrize("kind", ["tif", "npy", "npz", "h5", "folder"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_every_kind_of_file_gives_the_same_frames(frames, tmp_path, kind, dtype):
    path = written(kind, frames.astype(dtype), tmp_path)
    with open_frames(path) as stack:
        np.testing.assert_array_equal(stack.frames, frames)
        assert stack.saturation_level == np.iinfo(dtype).max


def test_what_holds_no_frames_is_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.tif").write_text("no image")
    (tmp_path / "text.txt").write_text("no image")
    np.save(tmp_path / "flat.npy", np.ones(4))
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "colour.png")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["x"] = 1
    (tmp_path / "broken.h5").write_text("no HDF5")
    for name in ("empty", "text.tif", "text.txt", "flat.npy", "colour.png", "other.h5",
                 "broken.h5", "missing.tif"):  # fmt: skip
        with pytest.raises(FrameFileError, match=name), open_frames(tmp_path / name):
            pass


def test_steady_frames_are_found_steady(frames, tmp_path):
    with open_frames(written("npy", frames, tmp_path)) as stack:
        view = FrameView.of(stack)
    assert view.alike[-1] > 0.9
    assert view.steady is not None
    assert np.abs(view.steady.carrier).max() < 1e-4
    assert view.grain is not None
    assert view.grain[0] == pytest.approx(view.carrier.grain, rel=0.1)
    assert 0 < view.grain[1] < 0.5


def test_a_shift_of_phase_and_carrier_is_seen(frames):
    from calibration.carrier import find_carrier
    from calibration.demodulation import Demodulator
    from calibration.speckle import Steadiness

    carrier = find_carrier(frames, saturation_level=255)
    demodulate = Demodulator(frames.shape[1:], carrier)
    fields = np.repeat(demodulate(frames[:1]), 3, axis=0)
    row = demodulate.decimation * np.arange(fields.shape[1])[:, None]
    fields[1] *= np.exp(0.7j)
    fields[2] *= np.exp(2j * np.pi * 2e-4 * row)

    class Known:
        decimation = demodulate.decimation

        def __call__(self, _):
            return fields

    steady = Steadiness.of(frames[:3], Known(), black_level=0.0)
    assert steady.phase_rad[1] == pytest.approx(0.7, abs=1e-5)
    np.testing.assert_allclose(steady.carrier, [[0, 0], [0, 0], [2e-4, 0]], atol=1e-7)
    assert steady.fidelity[1] == pytest.approx(1.0, abs=1e-5)


def test_contrast_of_known_speckle_is_one():
    rng = np.random.default_rng(3)
    frames = rng.exponential(100.0, (4, 256, 256))
    light = Light.of(frames + 10, black_level=10.0, saturation_level=None)
    assert light.contrast == pytest.approx(1.0, abs=0.01)
    assert light.power == pytest.approx(100.0, rel=0.02)
    assert grain_size(frames) is None
    np.testing.assert_allclose(likeness(frames)[1:], 0.0, atol=0.02)


@pytest.fixture(scope="module")
def holograms():
    if "OPU_DATA" not in os.environ:
        pytest.skip("OPU_DATA does not name the folder of measured data")
    return Path(os.environ["OPU_DATA"]) / "holograms"


def test_a_measured_hologram_of_another_program_is_inspected(opu, holograms, tmp_path):
    ending = opu("inspect", holograms / "Neuron_1.tif", "--html=page.html", "--json=a.json")
    assert ending.code == 0, ending.err
    assert "1 frames of 1024 × 1024 pixels" in ending.out
    assert "(+0.0682" in ending.out  # its plain fringes, at (0.068213, 0.068221) cycles/pixel
    assert (tmp_path / "page.html").read_text().count("data:image/png") >= 3
    assert opu("inspect", holograms / "hologram_cell.npz").code == 0


def test_a_recording_becomes_a_page(opu, tmp_path):
    opu("acquire", "--preset=quiet", "--patterns=random", "--frames=12", "--inputs=16",
        "--out=a.h5")  # fmt: skip
    ending = opu("inspect", "a.h5", "--html=page.html")
    assert ending.code == 0, ending.err
    assert "saturated pixels" in ending.out
    assert "lost frames" in ending.out
    page = (tmp_path / "page.html").read_text()
    assert page.count("data:image/png") == 6
    assert "Conditions" in page
